package alsa

import (
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestCards(t *testing.T) {
	file := func(s string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(s)} }
	link := func(to string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(to), Mode: fs.ModeSymlink} }
	sys := fstest.MapFS{
		"class/sound/card3": link("../../devices/pci0000:00/0000:00:14.0/usb1/1-1/1-1.2/1-1.2:1.0/sound/card3"),
		"class/sound/card4": link("../../devices/pci0000:00/0000:00:1f.3/sound/card4"),
		"class/sound/card5": link("../../devices/platform/soc/20980000.usb/usb2/2-3/2-3:1.1/sound/card5"),
		"class/sound/card6": link("nowhere"),
	}
	for name, c := range map[string]struct {
		tree fstest.MapFS
		want []Card
	}{
		"on USB or not": {fstest.MapFS{
			"pcm":      file("03-00: USB Audio : USB Audio : capture 1\n04-00: A : A : playback 1\n05-01: USB Audio : USB Audio : playback 1\n06-00: B : B : playback 1\n"),
			"card3/id": file("Device\n"), "card4/id": file("PCH\n"), "card5/id": file("Device_1\n"), "card6/id": file("B\n"),
		}, []Card{
			{ID: "Device", USB: "1-1.2", Name: "Device: USB Audio", Capture: true}, {ID: "PCH", Name: "PCH: A", Playback: true},
			{ID: "Device_1", USB: "2-3", Device: 1, Name: "Device_1: USB Audio", Playback: true}, {ID: "B", Name: "B: B", Playback: true},
		}},
		"no sound": {fstest.MapFS{}, nil},
		"a laptop": {fstest.MapFS{
			"pcm":      file("00-03: HDMI 0 : HDMI 0 : playback 1\n01-00: ALC269 : ALC269 Analog : playback 1 : capture 1\n"),
			"card0/id": file("HDMI\n"), "card1/id": file("PCH\n"),
		}, []Card{
			{ID: "HDMI", Device: 3, Name: "HDMI: HDMI 0", Playback: true},
			{ID: "PCH", Device: 0, Name: "PCH: ALC269 Analog", Playback: true, Capture: true},
		}},
		"a microphone": {fstest.MapFS{"pcm": file("02-00: USB Audio : USB Audio : capture 1\n"), "card2/id": file("Mic\n")},
			[]Card{{ID: "Mic", Name: "Mic: USB Audio", Capture: true}}},
		"identity missing": {fstest.MapFS{"pcm": file("02-00: USB Audio : USB Audio : capture 1\n")},
			[]Card{{ID: "2", Name: "2: USB Audio", Capture: true}}},
		"nonsense": {fstest.MapFS{"pcm": file("\nhello\nxx-yy: a : b : c\n")}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			if got := (System{Proc: c.tree, Sys: sys}).Cards(); !slices.Equal(got, c.want) {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}
}

func TestSameCard(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		same bool
	}{
		{"hw:CARD=Loopback,DEV=1,SUBDEV=0", "hw:CARD=Loopback,DEV=0", true}, {"hw:CARD=Device", "plughw:Device,0", true}, {"hw:0", "hw:0,1", true},
		{"hw:CARD=Device,DEV=0", "hw:CARD=Device_1,DEV=0", false}, {"default", "default", false}, {"", "", false}, {"hw:", "hw:", false},
	} {
		if SameCard(tt.a, tt.b) != tt.same {
			t.Errorf("%s and %s: want %t", tt.a, tt.b, tt.same)
		}
	}
}

func TestResolve(t *testing.T) {
	for device, want := range map[string]string{
		"hw:CARD=Loopback,DEV=1":           `card "Loopback" device 1 subdevice -1`,
		"plughw:CARD=PCH,DEV=0,SUBDEV=2":   `card "PCH" device 0 subdevice 2`,
		"hw:0,1":                           `card "0" device 1 subdevice -1`,
		"hw:PCH":                           `card "PCH" device 0 subdevice -1`,
		"null":                             "type null",
		"default":                          "",
		"pulse:x":                          "",
		`hw:CARD=x" } } pcm.y { type file`: "error",
		"hw:CARD=a,DEV=1 } file /etc/x {":  "error",
		"hw:CARD=a,DEV=1,COLOUR=red":       "error",
		"hw:":                              "error",
		"plughw:CARD=a,DEV=99999":          "error",
	} {
		_, conf, err := resolve(device)
		switch {
		case want == "error":
			if !errors.Is(err, unix.EINVAL) {
				t.Errorf("%s: %q, error %v, want EINVAL", device, conf, err)
			}
		case err != nil, want == "" && conf != "", !strings.Contains(conf, want):
			t.Errorf("%s: %q, error %v, want %q", device, conf, err, want)
		}
	}
}

func FuzzResolve(f *testing.F) {
	f.Add("hw:CARD=Loopback,DEV=1")
	f.Add("plughw:0,1,2")
	f.Add("null")
	f.Fuzz(func(t *testing.T, device string) {
		_, conf, err := resolve(device)
		if err == nil && conf != "" && (strings.Count(conf, "{") > 2 || strings.Count(conf, `"`) > 2) {
			t.Errorf("%q slipped configuration in: %q", device, conf)
		}
	})
}

func descriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// alsa-lib itself, with its null device: opening, the format, moving samples, giving back.
func TestNullDevice(t *testing.T) {
	before := descriptors(t)
	for name, d := range map[string]Direction{"capture": Capture, "playback": Playback} {
		t.Run(name, func(t *testing.T) {
			p, err := System{}.Open("null", d)
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(p.Prepare(), p.Start()); err != nil {
				t.Error(err)
			}
			frame := make([]int16, Period)
			move := p.Write
			if d == Capture {
				move = p.Read
			}
			if n, err := move(frame); n != Period || err != nil {
				t.Errorf("moved %d samples, error %v", n, err)
			}
			if n := testing.AllocsPerRun(20, func() { _, _ = move(frame) }); n != 0 {
				t.Errorf("%v allocations for each frame, want 0", n)
			}
			if err := p.Wait(time.Minute); err != nil {
				t.Errorf("Wait: %v", err)
			}
			p.Cancel()
			if err := p.Wait(time.Minute); !errors.Is(err, ErrCancelled) {
				t.Errorf("Wait after Cancel: %v, want ErrCancelled", err)
			}
			if err := p.Close(); err != nil {
				t.Error(err)
			}
			p.Cancel()
		})
	}
	if after := descriptors(t); after != before {
		t.Errorf("%d file descriptors are open, %d were before", after, before)
	}
}

func TestOpenErrors(t *testing.T) {
	before := descriptors(t)
	for device, want := range map[string][]error{
		"hw:CARD=nosuchcard,DEV=0": {unix.ENODEV, unix.ENOENT}, "hw:31,0": {unix.ENODEV, unix.ENOENT},
		"hw:a b": {unix.EINVAL}, "no-such-pcm": {unix.ENOENT},
	} {
		_, err := System{}.Open(device, Capture)
		if !slices.ContainsFunc(want, func(e error) bool { return errors.Is(err, e) }) {
			t.Errorf("%s: error %v, want one of %v", device, err, want)
		}
	}
	if after := descriptors(t); after != before {
		t.Errorf("%d file descriptors are open, %d were before", after, before)
	}
}
