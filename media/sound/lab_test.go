//go:build lab

package sound_test

import (
	"os"
	"testing"

	"vindu/media/sound"
	"vindu/media/sound/alsa"
	"vindu/media/sound/soundtest"
)

// TestRealContract needs a loopback: what is played on VINDU_LAB_PLAYBACK is heard on VINDU_LAB_CAPTURE, such
// as hw:CARD=Loopback,DEV=0 and hw:CARD=Loopback,DEV=1 of the kernel's snd-aloop with pcm_substreams=1.
func TestRealContract(t *testing.T) {
	cfg := sound.Config{Capture: os.Getenv("VINDU_LAB_CAPTURE"), Playback: os.Getenv("VINDU_LAB_PLAYBACK")}
	if cfg.Capture == "" || cfg.Playback == "" {
		t.Fatal("VINDU_LAB_CAPTURE and VINDU_LAB_PLAYBACK do not name devices")
	}
	soundtest.Contract(t, alsa.System{}, cfg, soundtest.Held, func(t *testing.T, f func(*testing.T)) { f(t) })
}
