package sound_test

import (
	"context"
	"errors"
	"io/fs"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"vindu/media/sound"
	"vindu/media/sound/alsa"
	"vindu/media/sound/soundtest"
)

func bubble(t *testing.T, f func(*testing.T)) { synctest.Test(t, f) }

func headset() *soundtest.Card {
	cable := &soundtest.Cable{}
	return &soundtest.Card{ID: "Headset", Playback: true, Capture: true, In: cable, Out: cable}
}

func TestContract(t *testing.T) {
	t.Run("one card", func(t *testing.T) {
		h := soundtest.New(headset())
		const name = "hw:CARD=Headset,DEV=0"
		soundtest.Contract(t, h, sound.Config{Capture: name, Playback: name}, h.Opened, bubble)
	})
	t.Run("two cards", func(t *testing.T) {
		cable := &soundtest.Cable{}
		h := soundtest.New(
			&soundtest.Card{ID: "HDMI", Playback: true, Out: cable},
			&soundtest.Card{ID: "Mic", Device: 2, Capture: true, In: cable})
		soundtest.Contract(t, h, sound.Config{Capture: "hw:CARD=Mic,DEV=2", Playback: "hw:CARD=HDMI,DEV=0"}, h.Opened, bubble)
	})
}

func TestSelection(t *testing.T) {
	hdmi := func() *soundtest.Card { return &soundtest.Card{ID: "HDMI", Playback: true} }
	mic := func() *soundtest.Card { return &soundtest.Card{ID: "Mic", Capture: true} }
	failing := func(c *soundtest.Card, err error) *soundtest.Card { c.OpenError = err; return c }
	onPort := func(port, id string) *soundtest.Card {
		return &soundtest.Card{ID: id, USB: port, Playback: true, Capture: true}
	}
	const headsetPath, hdmiPath, micPath = "hw:CARD=Headset,DEV=0", "hw:CARD=HDMI,DEV=0", "hw:CARD=Mic,DEV=0"
	for name, c := range map[string]struct {
		cards             []*soundtest.Card
		cfg               sound.Config
		capture, playback string
		linked            bool
		err               error
	}{
		"one card for both before the first": {[]*soundtest.Card{hdmi(), headset()}, sound.Config{}, headsetPath, headsetPath, true, nil},
		"one for each":                       {[]*soundtest.Card{hdmi(), mic()}, sound.Config{Capture: "auto", Playback: "auto"}, micPath, hdmiPath, false, nil},
		"only a microphone":                  {[]*soundtest.Card{mic()}, sound.Config{}, micPath, "", false, nil},
		"only a loudspeaker":                 {[]*soundtest.Card{hdmi()}, sound.Config{}, "", hdmiPath, false, nil},
		"by name":                            {[]*soundtest.Card{headset(), hdmi()}, sound.Config{Playback: hdmiPath}, headsetPath, hdmiPath, false, nil},
		"by USB port":                        {[]*soundtest.Card{onPort("1-1.1", "Device"), onPort("1-1.2", "Device_1")}, sound.Config{Capture: "usb:1-1.2", Playback: "usb:1-1.1"}, "hw:CARD=Device_1,DEV=0", "hw:CARD=Device,DEV=0", false, nil},
		"nothing on the USB port":            {[]*soundtest.Card{onPort("1-1.1", "Device")}, sound.Config{Capture: "usb:1-1"}, "", "", false, sound.ErrNotFound},
		"no microphone on the USB port":      {[]*soundtest.Card{{ID: "Device", USB: "1-1.1", Playback: true}}, sound.Config{Capture: "usb:1-1.1"}, "", "", false, sound.ErrNotFound},
		"none wanted":                        {[]*soundtest.Card{headset()}, sound.Config{Capture: "none"}, "", headsetPath, false, nil},
		"busy, so another":                   {[]*soundtest.Card{failing(headset(), unix.EBUSY), hdmi(), mic()}, sound.Config{}, micPath, hdmiPath, false, nil},
		"no card":                            {nil, sound.Config{}, "", "", false, sound.ErrNotFound},
		"nothing wanted":                     {[]*soundtest.Card{headset()}, sound.Config{Capture: "none", Playback: "none"}, "", "", false, sound.ErrNotFound},
		"no such card":                       {[]*soundtest.Card{headset()}, sound.Config{Capture: "hw:CARD=x,DEV=0"}, "", "", false, sound.ErrNotFound},
		"named, but no microphone":           {[]*soundtest.Card{hdmi()}, sound.Config{Capture: hdmiPath}, "", "", false, sound.ErrNotFound},
		"all busy":                           {[]*soundtest.Card{failing(headset(), unix.EBUSY)}, sound.Config{}, "", "", false, sound.ErrBusy},
		"format refused":                     {[]*soundtest.Card{failing(headset(), unix.EINVAL)}, sound.Config{}, "", "", false, sound.ErrUnsupported},
		"forbidden":                          {[]*soundtest.Card{failing(headset(), unix.EACCES)}, sound.Config{}, "", "", false, fs.ErrPermission},
		"playback fails, capture given back": {[]*soundtest.Card{mic(), failing(hdmi(), unix.EBUSY)}, sound.Config{}, "", "", false, sound.ErrBusy},
	} {
		t.Run(name, func(t *testing.T) {
			h := soundtest.New(c.cards...)
			d, err := sound.OpenOn(t.Context(), h, c.cfg)
			if !errors.Is(err, c.err) || err != nil && c.err == nil {
				t.Fatalf("error %v, want %v", err, c.err)
			}
			if err == nil {
				info := d.Info()
				if info.Capture != c.capture || info.Playback != c.playback || info.Linked != c.linked {
					t.Errorf("Info %+v", info)
				}
				if err := d.Close(); err != nil {
					t.Error(err)
				}
			}
			if n := h.Opened(); n != 0 {
				t.Errorf("%d directions are open afterwards", n)
			}
		})
	}
}

// Promise 1: a ringing tone, or a list, never opens a microphone.
func TestMicrophoneStaysClosed(t *testing.T) {
	h := soundtest.New(headset())
	sound.ListOn(h)
	p, err := sound.OpenPlaybackOn(t.Context(), h, sound.Config{Capture: "auto"})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if n := h.Opens(alsa.Capture); n != 0 {
		t.Errorf("the microphone was opened %d times", n)
	}
}

func TestCardThatCannotLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := headset()
		c.NoLink = true
		d, err := sound.OpenOn(t.Context(), soundtest.New(c), sound.Config{})
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		frame := make([]int16, sound.FrameSamples)
		if err := errors.Join(d.Write(frame), d.Read(frame)); err != nil || d.Info().Linked {
			t.Errorf("error %v, Info %+v", err, d.Info())
		}
	})
}

func TestFailures(t *testing.T) {
	for name, c := range map[string]struct {
		do     func(*soundtest.Card)
		within time.Duration
	}{
		"unplugged":    {(*soundtest.Card).Unplug, 100 * time.Millisecond},
		"stands still": {(*soundtest.Card).Stop, 1100 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				card := headset()
				h := soundtest.New(card)
				d, err := sound.OpenOn(t.Context(), h, sound.Config{})
				if err != nil {
					t.Fatal(err)
				}
				frame := make([]int16, sound.FrameSamples)
				for range 10 {
					if err := errors.Join(d.Read(frame), d.Write(frame)); err != nil {
						t.Fatal(err)
					}
				}
				c.do(card)
				start := time.Now()
				for _, call := range []func([]int16) error{d.Read, d.Write} {
					if err := call(frame); !errors.Is(err, sound.ErrGone) {
						t.Errorf("error %v, want ErrGone", err)
					}
				}
				if got := time.Since(start); got > 2*c.within {
					t.Errorf("noticed after %v", got)
				}
				if err := d.Close(); err != nil {
					t.Error(err)
				}
				if n := h.Opened(); n != 0 {
					t.Errorf("%d directions are open after Close", n)
				}
			})
		})
	}
}

func TestCloseWhileDriverHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		card := headset()
		h := soundtest.New(card)
		d, err := sound.OpenOn(t.Context(), h, sound.Config{Playback: "none"})
		if err != nil {
			t.Fatal(err)
		}
		frame := make([]int16, sound.FrameSamples)
		if err := d.Read(frame); err != nil {
			t.Fatal(err)
		}
		release := card.Hang()
		ended := make(chan error)
		go func() { ended <- d.Read(frame) }()
		synctest.Wait()
		if err := d.Close(); !errors.Is(err, sound.ErrGone) {
			t.Errorf("Close: %v, want ErrGone", err)
		}
		release()
		if err := <-ended; !errors.Is(err, sound.ErrClosed) {
			t.Errorf("Read: %v, want ErrClosed", err)
		}
		if n := h.Opened(); n != 0 {
			t.Errorf("%d directions are open after the driver came back", n)
		}
	})
}

func TestOpenWhileDriverHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &slowHost{soundtest.New(headset()), make(chan struct{})}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := sound.OpenOn(ctx, h, sound.Config{}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v, want the context's", err)
		}
		close(h.release)
		synctest.Wait()
		if n := h.Opened(); n != 0 {
			t.Errorf("%d directions are open", n)
		}
	})
}

type slowHost struct {
	*soundtest.Host
	release chan struct{}
}

func (h *slowHost) Open(device string, d alsa.Direction) (alsa.PCM, error) {
	<-h.release
	return h.Host.Open(device, d)
}

// alsa-lib's null device through the whole package: no card is needed.
func TestNullDevice(t *testing.T) {
	d, err := sound.Open(t.Context(), sound.Config{Capture: "null", Playback: "null"})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	frame := make([]int16, sound.FrameSamples)
	if err := errors.Join(d.Read(frame), d.Write(frame)); err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(50, func() {
		if d.Read(frame) != nil || d.Write(frame) != nil {
			t.Fatal("failed")
		}
	}); n != 0 {
		t.Errorf("%v allocations for each frame, want 0", n)
	}
}

func TestFind(t *testing.T) {
	cards := []sound.Card{{Device: "hw:CARD=PCH,DEV=0"}, {Device: "hw:CARD=Device,DEV=0", USB: "usb:1-1.2"}, {Device: "hw:CARD=PCH,DEV=3"}}
	for name, want := range map[string]string{
		"": "hw:CARD=PCH,DEV=0", "auto": "hw:CARD=PCH,DEV=0", "hw:CARD=PCH": "hw:CARD=PCH,DEV=0", "hw:CARD=PCH,DEV=3": "hw:CARD=PCH,DEV=3", "hw:CARD=PCH,DEV=3,SUBDEV=1": "hw:CARD=PCH,DEV=3", "hw:CARD=PCH,DEV=30,SUBDEV=1": "missing", "hw:CARD=PCH,SUBDEV=1": "unknown",
		"usb:1-1.2": "hw:CARD=Device,DEV=0", "usb:1-1": "missing", "hw:CARD=PC": "missing", "usb:": "missing", "default": "unknown", "hw:0": "unknown", "none": "unknown",
	} {
		card, known, found := sound.Find(cards, name)
		got := card.Device
		switch {
		case !known:
			got = "unknown"
		case !found:
			got = "missing"
		}
		if got != want {
			t.Errorf("%q: %s, want %s", name, got, want)
		}
	}
	if _, known, found := sound.Find(nil, "auto"); !known || found {
		t.Error("found a card where there is none")
	}
}
