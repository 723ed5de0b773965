package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"vindu/device/agent"
	"vindu/media/sound"
)

const (
	// lingers is for how many frames the loudspeaker is kept when nothing is to be played any more: between two sentences it is not opened anew, and what was written is played.
	lingers = 30
	// drains is how many frames of silence are played before it is closed, so that nothing is cut off: as much as a card holds.
	drains     = 9
	drainLimit = 300 * time.Millisecond
	// cutRing is how many frames a chime that is broken off takes to fade out.
	cutRing = 2
	// mute is how long a sentence waits for a loudspeaker in a call before it is given up.
	mute = 10 * time.Second
	// The first chime is this much softer than the last, and the level rises for as long as it rings, within these.
	chimeRise             = 18 // dB
	risesFirst, risesLast = 6 * time.Second, 20 * time.Second
)

var errNoLoudspeaker = errors.New("there is no loudspeaker to speak by")

// mouth has the loudspeaker: it rings by it and speaks. Outside of calls it opens it itself, and no microphone, for as long as it has something to play; in a call what is said
// is mixed into what the call plays, whose device it is. Where there is no loudspeaker it is silent.
type mouth struct {
	devices *devices
	far     *tap                        // hears what a made-up loudspeaker plays
	policy  atomic.Pointer[agent.Agent] // knows the volume of the home's policy
	log     *slog.Logger
	talk    sound.Talk

	mu    sync.Mutex
	rings *ringing // nil: it does not ring
	lent  int      // others who have the loudspeaker
	own   *playing // nil: it is not open
}

// ringing is a ring that runs.
type ringing struct {
	told  time.Duration // before it rises: people are told what this is
	rises time.Duration
	n     int // frames that were played of it
}

// playing is a goroutine that has the loudspeaker open.
type playing struct {
	stop context.CancelFunc
	done chan struct{}
}

// Start implements call.Bell: a calm chime of two tones every three seconds, rising in volume for as long as it rings. While people are told what this is it stays as soft
// as it began, and is softer still beneath the voice.
func (m *mouth) Start(ring, told time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.rings == nil {
		m.rings = &ringing{told: told, rises: min(max(ring-told, risesFirst), risesLast)}
		m.open()
	}
}

// Stop implements call.Bell. What is being said goes on.
func (m *mouth) Stop() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.rings = nil
}

// Say implements voice.Mouth.
func (m *mouth) Say(ctx context.Context, samples []int16) error {
	m.mu.Lock()
	said := m.talk.Say(samples, m.volume())
	m.open()
	here := m.own != nil || m.lent > 0
	m.mu.Unlock()
	if !here {
		m.talk.Cut(said)
		return errNoLoudspeaker
	}
	limit := time.NewTimer(mute + time.Duration(len(samples))*time.Second/sound.Rate)
	defer limit.Stop()
	select {
	case <-said.Done():
	case <-ctx.Done():
		m.talk.Cut(said)
		return ctx.Err()
	case <-limit.C:
		m.talk.Cut(said)
		return fmt.Errorf("not played within %v: %w", mute, errNoLoudspeaker)
	}
	if !said.Whole() {
		return fmt.Errorf("cut off: %w", errNoLoudspeaker)
	}
	return nil
}

// lend has the loudspeaker free for somebody else, until what it returns is called. What is being said meanwhile falls silent softly, within 100 ms.
func (m *mouth) lend() (back func()) {
	if m == nil {
		return func() {}
	}
	m.mu.Lock()
	m.lent++
	own := m.own
	m.mu.Unlock()
	if own != nil {
		own.stop()
		<-own.done
	}
	return sync.OnceFunc(func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.lent--
		if m.rings != nil || m.talk.Busy() {
			m.open()
		}
	})
}

// mix adds what is said to a frame that somebody plays who has borrowed the loudspeaker.
func (m *mouth) mix(frame []int16) {
	if m != nil {
		m.talk.Go()
		m.talk.Mix(frame)
	}
}

// gone says that the loudspeaker of a call was closed: what was to be said in it is not said after it.
func (m *mouth) gone() {
	if m != nil {
		m.talk.Drop()
	}
}

// volume is the home's, and the knob's: never so little that nobody hears that a call is over.
func (m *mouth) volume() int {
	v := 0
	if a := m.policy.Load(); a != nil {
		v = a.Volume()
	}
	if m.devices.hands != nil {
		return m.devices.hands.knob(v)
	}
	return v
}

// open opens the loudspeaker if there is one and nobody has it. m.mu is held.
func (m *mouth) open() {
	if m.own != nil || m.lent > 0 {
		return
	}
	_, speaker, _, _ := m.devices.sound()
	if speaker.Kind == "none" || (speaker.Kind == "alsa" && m.devices.drivers().openPlayer == nil) {
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	own := &playing{stop, make(chan struct{})}
	m.own = own
	go func() {
		err := m.play(ctx, own, speaker.Kind == "synthetic")
		stop()
		m.mu.Lock()
		defer m.mu.Unlock()
		m.own = nil
		close(own.done)
		switch {
		case err != nil:
			m.log.Warn("the loudspeaker cannot be used to ring and speak", "error", err)
			m.talk.Drop()
		case m.rings != nil || m.talk.Busy(): // there was something again while it closed
			m.open()
		}
	}()
}

// play plays until there is nothing to play any more or ctx ends, and closes the loudspeaker.
func (m *mouth) play(ctx context.Context, own *playing, synthetic bool) error {
	var player sound.Player
	if synthetic {
		player = sound.TestSound(m.far.hear)
	} else {
		var err error
		if player, err = m.devices.drivers().openPlayer(ctx, sound.Config{Capture: "none", Playback: m.devices.cfg.Speaker}); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
	}
	defer player.Close()
	defer context.AfterFunc(ctx, func() { // who borrows it does not wait for a card that hangs
		t := time.NewTimer(drainLimit)
		defer t.Stop()
		select {
		case <-t.C:
			_ = player.Close()
		case <-own.done:
		}
	})()
	m.talk.Go()
	var frame [sound.FrameSamples]int16
	var volume sound.Volume
	var ring ringing
	loud, idle, fades, left := -1, 0, 0, drains
	for {
		clear(frame[:])
		if now := m.volume(); now != loud {
			loud, volume = now, sound.NewVolume(now)
		}
		if r, rings := m.ring(); rings && ctx.Err() == nil {
			ring, fades, idle = r, cutRing, 0
			chime(frame[:], ring.n, ring.told, ring.rises)
		} else if fades > 0 { // no click where it ends
			ring.n++
			chime(frame[:], ring.n, ring.told, ring.rises)
			for i := range frame {
				frame[i] = int16(float64(frame[i]) * (float64(fades) - float64(i)/sound.FrameSamples) / cutRing)
			}
			fades--
		}
		volume.Apply(frame[:])
		if ctx.Err() != nil {
			m.talk.Hold()
			left--
		} else if m.talk.Busy() {
			idle = 0
		}
		m.talk.Mix(frame[:])
		if err := player.Write(frame[:]); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		if idle++; left == 0 || idle > lingers {
			return nil
		}
	}
}

// ring returns where the ring is, and counts on; false if it does not ring.
func (m *mouth) ring() (ringing, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.rings == nil {
		return ringing{}, false
	}
	r := *m.rings
	m.rings.n++
	return r, true
}

// chime fills the n-th frame (of 10 ms) of the ringing tone: e” and c” (equal temperament), each dying away within a second.
func chime(frame []int16, n int, told, rises time.Duration) {
	const every, softly = 3 * sound.Rate, 0.03
	for i := range frame {
		at := n*len(frame) + i
		begun := float64(at/every*every) / sound.Rate                                                       // a chime keeps its level
		volume := 0.3 * math.Pow(10, chimeRise*(min(max(begun-told.Seconds(), 0)/rises.Seconds(), 1)-1)/20) // of full scale; R40: never startling
		t := float64(at%every) / sound.Rate
		v := 0.0
		for _, tone := range [...]struct{ from, hz float64 }{{0, 659.26}, {0.4, 523.25}} {
			if d := t - tone.from; d >= 0 && d < 1.2 {
				v += math.Sin(2*math.Pi*tone.hz*d) * math.Exp(-4*d) * min(d/softly, 1)
			}
		}
		frame[i] = int16(v * volume * math.MaxInt16)
	}
}
