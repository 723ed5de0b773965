package main

import (
	"context"
	"log/slog"
	"math"
	"sync"

	"vindu/device/agent"
	"vindu/media/sound"
)

// bell rings by the loudspeaker alone: a calm chime of two tones every three seconds, rising in volume. Where there is no loudspeaker
// it is silent.
type bell struct {
	cfg agent.Devices
	log *slog.Logger

	mu   sync.Mutex
	stop context.CancelFunc
	done chan struct{}
}

// Start implements call.Bell.
func (b *bell) Start() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.stop != nil || b.cfg.Speaker == "none" {
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	b.stop, b.done = stop, done
	go func() {
		defer close(done)
		b.ring(ctx)
	}()
}

// Stop implements call.Bell. It returns when the loudspeaker is free.
func (b *bell) Stop() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.stop == nil {
		return
	}
	b.stop()
	<-b.done
	b.stop = nil
}

func (b *bell) ring(ctx context.Context) {
	if _, playback := sound.List(); b.cfg.Speaker == "auto" && len(playback) == 0 {
		return
	}
	player, err := sound.OpenPlayback(ctx, sound.Config{Capture: "none", Playback: b.cfg.Speaker})
	if err != nil {
		b.log.Warn("the bell cannot ring", "error", err)
		return
	}
	defer player.Close()
	defer context.AfterFunc(ctx, func() { player.Close() })()
	frame := make([]int16, sound.FrameSamples)
	for n := 0; ctx.Err() == nil; n++ {
		chime(frame, n)
		if err := player.Write(frame); err != nil {
			if ctx.Err() == nil {
				b.log.Warn("the bell stopped ringing", "error", err)
			}
			return
		}
	}
}

// chime fills the n-th frame (of 10 ms) of the ringing tone: e” and c” (equal temperament), each dying away within a second.
func chime(frame []int16, n int) {
	const every = 3 * sound.Rate
	for i := range frame {
		at := n*len(frame) + i
		volume := min(0.08+0.04*float64(at/every), 0.3) // of full scale; R40: never startling
		t := float64(at%every) / sound.Rate
		v := 0.0
		for _, tone := range [...]struct{ from, hz float64 }{{0, 659.26}, {0.4, 523.25}} {
			if d := t - tone.from; d >= 0 && d < 1.2 {
				v += math.Sin(2*math.Pi*tone.hz*d) * math.Exp(-4*d) * min(d/0.01, 1)
			}
		}
		frame[i] = int16(v * volume * math.MaxInt16)
	}
}
