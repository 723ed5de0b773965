package main

import (
	"context"
	"math"
	"math/cmplx"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"vindu/clinic/grants"
	"vindu/device/agent"
	"vindu/device/screen"
	"vindu/media/sound"
	"vindu/media/speech"
	"vindu/media/speech/speechtest"
	"vindu/protocol"
)

// loudspeaker records what a loudspeaker plays, with silence while nothing does.
type loudspeaker struct {
	listening func() bool // whether a microphone is open

	mu      sync.Mutex
	samples []int16
	heard   []bool // of each frame, whether a microphone was open when it was played
	last    time.Time
}

// opened is called when it is opened: since it was closed there was silence. A program that is late is not taken for that.
func (r *loudspeaker) opened() {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.last.IsZero() {
		return
	}
	frames := int(time.Since(r.last) / (10 * time.Millisecond))
	r.samples = append(r.samples, make([]int16, frames*sound.FrameSamples)...)
	r.heard = append(r.heard, make([]bool, frames)...)
}

func (r *loudspeaker) hear(frame []int16) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last = time.Now()
	r.samples = append(r.samples, frame...)
	r.heard = append(r.heard, r.listening())
}

// take returns what was recorded so far, and whether something was being played just now.
func (r *loudspeaker) take() (samples []int16, heard []bool, playing bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.samples[:len(r.samples):len(r.samples)], r.heard[:len(r.heard):len(r.heard)], time.Since(r.last) < time.Second
}

// synthesiserAt has espeak-ng speak at a socket.
func synthesiserAt(t *testing.T) string {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "voice")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- speechtest.Serve(ctx, l) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return socket
}

// TestVoiceInACall records what the loudspeaker of a real terminal plays while a real page calls it, and finds in it, by correlation, every sentence in its order: who
// calls, that it begins by itself, who is there and what is on, and that it is over, which is said when the microphone is closed. The ring rises, and nothing is played before and
// after, nor in quiet hours.
func TestVoiceInACall(t *testing.T) {
	x := newBenchOf(t, func(x *bench) {
		x.terminal.cfg.Voice.Socket = synthesiserAt(t)
		x.terminal.cfg.Devices.Speaker = "auto"
		x.terminal.cfg.Call.Ring = agent.Duration(12 * time.Second)
		x.terminal.cfg.Call.Notice = 0
		x.terminal.capture.played = &loudspeaker{listening: func() bool {
			m := &x.terminal.capture.microphone
			return m.opened.Load() != m.closed.Load()
		}}
	})
	played := x.terminal.capture.played
	if before, _, _ := played.take(); len(before) > 0 {
		t.Errorf("%d samples were played before the call", len(before))
	}
	call := x.talk()
	party := x.terminal.shows().Parties[0]
	rung, _, _ := played.take()
	x.c.await("some talk", func() bool {
		samples, _, _ := played.take()
		return len(samples) > len(rung)+8*sound.Rate
	})
	x.hangUp(call)
	x.c.await("silence", func() bool {
		_, _, playing := played.take()
		return !playing && x.terminal.shows().Kind == screen.Ready
	})
	samples, heard, _ := played.take()

	lang, err := screen.LoadLanguage("en")
	if err != nil {
		t.Fatal(err)
	}
	ring := screen.Scene{Kind: screen.Ringing, Parties: []protocol.Party{party}, AnswersAt: time.Now()}
	in := screen.Scene{Kind: screen.InCall, Parties: ring.Parties, Camera: true, Microphone: true}
	over := screen.Scene{Kind: screen.Ended, Parties: ring.Parties, HungUp: true}
	sentences := append(lang.Aloud(ring), lang.Aloud(in)...)
	sentences = append(sentences, lang.DevicesAloud(in))
	inCall := len(sentences)
	sentences = append(sentences, lang.Aloud(over)...)
	s := &speech.Synthesiser{Socket: x.terminal.cfg.Voice.Socket, Speed: x.terminal.cfg.Voice.Speed}
	recording := speechtest.NewRecording(samples, 0)
	before := 0
	for i, text := range sentences {
		phrase, err := s.Speak(t.Context(), "en", text)
		if err != nil {
			t.Fatal(err)
		}
		at, likeness := recording.Find(phrase, 0, len(samples))
		t.Logf("%6.2f s, likeness %.2f: %s", float64(at)/sound.Rate, likeness, text)
		if likeness < 0.5 {
			t.Errorf("%q is not heard", text)
			continue
		}
		if at < before {
			t.Errorf("%q is said %.2f s before the one before it is over", text, float64(before-at)/sound.Rate)
		}
		before = at + len(phrase)
		if i >= inCall {
			for f := at / sound.FrameSamples; f < min(before/sound.FrameSamples, len(heard)); f++ {
				if heard[f] {
					t.Fatalf("%q is said while the microphone is open", text)
				}
			}
		}
	}
	if rest := float64(len(samples)-before) / sound.Rate; rest > 1 {
		t.Errorf("%.1f s are played after the last sentence", rest)
	}
	// Chimes at 0 and 9 s are clear of speech.
	var levels []float64
	for _, at := range []int{0, 9} {
		levels = append(levels, toneIn(samples[at*sound.Rate+sound.Rate/20:at*sound.Rate+sound.Rate*35/100], 659.26))
	}
	if levels[0] <= 0 || levels[1] < 2*levels[0] {
		t.Errorf("the ring's levels are %.4f", levels)
	}

	x.policy(grants.Settings{Rules: map[string]grants.Rule{"staff": {Mode: protocol.ModeRing}}, Quiet: &[]grants.Quiet{{From: "00:00", To: "12:00"}, {From: "12:00", To: "00:00"}}})
	x.placed()
	x.page.phase("ended")
	x.idle()
	if after, _, _ := played.take(); len(after) != len(samples) {
		t.Errorf("%d samples were played in quiet hours", len(after)-len(samples))
	}
}

// toneIn is how much of a frequency is in some sound, of full scale.
func toneIn(samples []int16, hz float64) float64 {
	var sum complex128
	for i, v := range samples {
		sum += complex(float64(v), 0) * cmplx.Rect(1, -2*math.Pi*hz*float64(i)/sound.Rate)
	}
	return 2 * cmplx.Abs(sum) / float64(len(samples)) / math.MaxInt16
}
