package echo_test

import (
	"errors"
	"math"
	"testing"
	"testing/synctest"

	"vindu/media/echo"
	"vindu/media/echo/echotest"
	"vindu/media/sound"
	"vindu/media/sound/soundtest"
)

// What a card plays and hears again is taken out, though loudspeaker and microphone are two cards whose clocks differ.
func TestOverTwoCards(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cable := &soundtest.Cable{}
		h := soundtest.New(&soundtest.Card{ID: "HDMI", Playback: true, Out: cable}, &soundtest.Card{ID: "Mic", Capture: true, In: cable, Fast: 100e-6})
		opened, err := sound.OpenOn(t.Context(), h, sound.Config{})
		if err != nil {
			t.Fatal(err)
		}
		d := echo.Over(opened.(sound.Duplex), newCanceller(t, echo.Config{}))
		ended := make(chan error, 1)
		go func() {
			voice := sound.NewVoice()
			var frame [sound.FrameSamples]int16
			for {
				voice.Fill(frame[:])
				if err := d.Write(frame[:]); err != nil {
					ended <- err
					return
				}
			}
		}()
		var near [sound.FrameSamples]int16
		after := 0.0
		for i := range 1500 {
			if err := d.Read(near[:]); err != nil {
				t.Fatal(err)
			}
			if i >= 1000 {
				after += echotest.Power(near[:])
			}
		}
		s := d.Echo()
		t.Logf("%+v", s)
		if level := 10 * math.Log10(after/500/(1<<30)); level > -70 || s.ERLE < 25 || s.Learning {
			t.Errorf("%.1f dBFS are left: %+v", level, s)
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
		if err := <-ended; !errors.Is(err, sound.ErrClosed) {
			t.Error(err)
		}
		if err := d.Read(near[:]); !errors.Is(err, sound.ErrClosed) {
			t.Errorf("Read after Close: %v", err)
		}
		if n := h.Opened(); n != 0 {
			t.Errorf("%d directions are open", n)
		}
		if err := d.Close(); err != nil {
			t.Errorf("second Close: %v", err)
		}
	})
}
