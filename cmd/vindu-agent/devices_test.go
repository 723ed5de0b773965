package main

import (
	"slices"
	"testing"

	"vindu/device/agent"
	"vindu/media/sound"
	"vindu/protocol"
)

// TestDevices raises and clears what the inventory of devices finds: with names of devices that are not there, with none that are wanted, and
// with tests in their place.
func TestDevices(t *testing.T) {
	capture, playback := sound.List()
	for _, c := range []struct {
		name     string
		cfg      agent.Devices
		screen   string
		has, not []protocol.Code
	}{
		{"nothing is there", agent.Devices{Camera: "/dev/there-is-none", Microphone: "auto", Speaker: "auto"}, "none",
			[]protocol.Code{protocol.CaptureNoCamera, protocol.ScreenNone},
			[]protocol.Code{protocol.CaptureTestPicture, protocol.CaptureTestSound}},
		{"nothing is wanted", agent.Devices{Camera: "none", Microphone: "none", Speaker: "none"}, "drm",
			nil, []protocol.Code{protocol.CaptureNoCamera, protocol.CaptureNoMicrophone, protocol.CaptureNoSpeaker, protocol.ScreenNone}},
		{"tests in their place", agent.Devices{Camera: "/dev/there-is-none", Microphone: "none", Speaker: "none", TestPicture: true, TestSound: true}, "memory",
			[]protocol.Code{protocol.CaptureTestPicture, protocol.CaptureTestSound},
			[]protocol.Code{protocol.CaptureNoCamera, protocol.CaptureNoMicrophone, protocol.ScreenNone}},
		{"cards that are named", agent.Devices{Camera: "none", Microphone: "hw:0", Speaker: "hw:0"}, "drm",
			nil, []protocol.Code{protocol.CaptureNoMicrophone, protocol.CaptureNoSpeaker}},
	} {
		t.Run(c.name, func(t *testing.T) {
			found := (&devices{cfg: c.cfg, screen: protocol.DeviceState{Kind: c.screen}}).look().Conditions
			if c.cfg.Microphone == "auto" { // of which this machine may have some
				if slices.Contains(found, protocol.CaptureNoMicrophone) != (len(capture) == 0) || slices.Contains(found, protocol.CaptureNoSpeaker) != (len(playback) == 0) {
					t.Errorf("%v, with %d and %d cards", found, len(capture), len(playback))
				}
			}
			for _, code := range c.has {
				if !slices.Contains(found, code) {
					t.Errorf("%s is not raised: %v", code, found)
				}
			}
			for _, code := range c.not {
				if slices.Contains(found, code) {
					t.Errorf("%s is not cleared: %v", code, found)
				}
			}
		})
	}
}
