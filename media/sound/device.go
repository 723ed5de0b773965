package sound

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"vindu/media/sound/alsa"
)

const (
	// moveTimeout is how long a card may move nothing before it counts as gone.
	moveTimeout = time.Second
	// closeGrace is how long Close waits for a call that hangs in the driver.
	closeGrace = time.Second
	// ahead is how many frames of silence are put before what is played first, and after a
	// gap, so that a writer who is a little late causes no gap.
	ahead = 2
	// faults is how many recoveries in a row a card may need without moving anything.
	faults = 8
)

var silence [FrameSamples]int16

// device is a Device on alsa PCMs. in or out is nil if the direction is missing. Read owns in, Write owns out,
// but for start, which is done once, by whoever comes first.
type device struct {
	info    Info
	in, out *side

	starting sync.Mutex
	started  bool
	startErr error

	captured, written, overruns, underruns atomic.Int64

	played played // what out was given
	// Of the goroutine that reads: samples read since Open, what waited to be read after the last of them, and how far both sides are apart.
	read       int64
	waits      int
	readAt     time.Time
	waitsKnown bool
	follow     follower
	lost       int64 // overruns and underruns that follow knows of

	closing  sync.Once
	closeErr error
}

// side is one direction. What is below mu is guarded by it; the rest belongs to the goroutine
// that moves samples.
type side struct {
	pcm      alsa.PCM
	playback bool
	played   *played // of playback
	moved    bool    // something has been moved since Open
	bad      int     // recoveries since something was moved

	mu        sync.Mutex
	busy      bool // someone moves samples
	users     int  // who is busy, and the one who starts both directions: pcm must not be closed under them
	closed    bool
	abandoned bool          // Close did not wait any longer: the last user closes
	idle      chan struct{} // if closed: closed when the last user has left
}

func newSide(p alsa.PCM, playback bool) *side {
	return &side{pcm: p, playback: playback, idle: make(chan struct{})}
}

// ready links and prepares both directions. Nothing runs until the first Read or Write.
func (d *device) ready() error {
	if d.out != nil {
		d.out.played = &d.played
	}
	// Where ALSA cannot link, both start one after the other. It can link two cards, but their clocks remain two.
	if d.in != nil && d.out != nil && alsa.SameCard(d.info.Capture, d.info.Playback) {
		d.info.Linked = d.in.pcm.Link(d.out.pcm) == nil
		d.follow.oneClock = true
	}
	for _, s := range []*side{d.in, d.out} {
		if s == nil {
			continue
		}
		if err := s.pcm.Prepare(); err != nil {
			return fmt.Errorf("prepare: %w", err)
		}
	}
	return nil
}

// start starts both directions together, if that has not been done. The link is undone at once,
// since one that runs dry would stop the other; the clock stays common.
func (d *device) start() error {
	d.starting.Lock()
	defer d.starting.Unlock()
	if d.started {
		return d.startErr
	}
	d.started = true
	for _, s := range []*side{d.in, d.out} {
		if s == nil {
			continue
		}
		if d.startErr = s.hold(); d.startErr != nil {
			return d.startErr
		}
		defer s.release()
	}
	d.startErr = d.startBoth()
	return d.startErr
}

func (d *device) startBoth() error {
	if d.out != nil {
		if err := d.out.fill(); err != nil {
			return err
		}
	}
	if d.info.Linked {
		if err := d.in.pcm.Start(); err != nil {
			return fmt.Errorf("start both: %w", err)
		}
		if err := d.in.pcm.Unlink(); err != nil {
			return fmt.Errorf("unlink: %w", err)
		}
		return nil
	}
	for _, s := range []*side{d.in, d.out} {
		if s == nil {
			continue
		}
		if err := s.pcm.Start(); err != nil {
			return fmt.Errorf("start: %w", err)
		}
	}
	return nil
}

// fill puts silence before the first sound.
func (s *side) fill() error {
	for range ahead {
		n, err := s.pcm.Write(silence[:])
		if err != nil && !errors.Is(err, unix.EAGAIN) {
			return fmt.Errorf("fill with silence: %w", err)
		}
		s.played.wrote(silence[:n])
	}
	return nil
}

// enter begins a call that moves samples.
func (s *side) enter() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.busy {
		return ErrClosed
	}
	s.busy = true
	s.users++
	return nil
}

// leave ends it, and says whether Close was called meanwhile.
func (s *side) leave() (closed bool) {
	s.mu.Lock()
	s.busy = false
	closed = s.closed
	s.mu.Unlock()
	s.release()
	return closed
}

// hold keeps pcm from being closed until release.
func (s *side) hold() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	s.users++
	return nil
}

func (s *side) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.users--; s.users == 0 && s.closed {
		close(s.idle)
		if s.abandoned {
			s.pcm.Close()
		}
	}
}

// Read implements Device.
func (d *device) Read(frame []int16) error {
	if err := checkFrame(frame); err != nil {
		return err
	}
	if d.in == nil {
		return fmt.Errorf("read sound: nothing to capture from: %w", ErrNotFound)
	}
	if err := d.move(d.in, frame, &d.overruns); err != nil {
		return fmt.Errorf("read sound from %s: %w", d.info.Capture, err)
	}
	d.captured.Add(1)
	d.read += FrameSamples
	return nil
}

// Write implements Player.
func (d *device) Write(frame []int16) error {
	if err := checkFrame(frame); err != nil {
		return err
	}
	if d.out == nil {
		return fmt.Errorf("write sound: nothing to play on: %w", ErrNotFound)
	}
	if err := d.move(d.out, frame, &d.underruns); err != nil {
		return fmt.Errorf("write sound to %s: %w", d.info.Playback, err)
	}
	d.written.Add(1)
	return nil
}

// move moves a whole frame and recovers from overruns or underruns, which it counts in runs.
func (d *device) move(s *side, frame []int16, runs *atomic.Int64) error {
	if err := s.enter(); err != nil {
		return err
	}
	err := d.start()
	if err == nil {
		err = s.moveAll(frame, runs)
	}
	if err == nil {
		d.measure(s)
	}
	if s.leave() {
		return ErrClosed
	}
	if err != nil {
		return classify(err)
	}
	return nil
}

// measure asks the card how much waits. A card that does not know is asked again with the next frame.
func (d *device) measure(s *side) {
	n, err := s.pcm.Delay()
	at := time.Now()
	if s.playback {
		if err == nil {
			d.played.waits(n, at)
		}
		return
	}
	d.waits, d.readAt, d.waitsKnown = n, at, err == nil
}

func (s *side) moveAll(frame []int16, runs *atomic.Int64) error {
	for done := 0; done < len(frame); {
		var n int
		var err error
		if s.playback {
			n, err = s.pcm.Write(frame[done:])
		} else {
			n, err = s.pcm.Read(frame[done:])
		}
		if n > 0 {
			if s.playback {
				s.played.wrote(frame[done : done+n])
			}
			done += n
			s.moved, s.bad = true, 0
			continue
		}
		switch {
		case err == nil, errors.Is(err, unix.EAGAIN):
			err = s.pcm.Wait(moveTimeout)
			if errors.Is(err, alsa.ErrCancelled) {
				return ErrClosed
			}
			if errors.Is(err, os.ErrDeadlineExceeded) {
				return fmt.Errorf("nothing moved for %v: %w", moveTimeout, ErrGone)
			}
			if err != nil && !broken(err) {
				return err
			}
			if err == nil {
				continue
			}
		case !broken(err):
			return err
		}
		// Sound was lost or a gap was heard; before the first frame it was only waiting for us.
		if s.moved {
			runs.Add(1)
		}
		if s.bad++; s.bad > faults {
			return fmt.Errorf("recovered %d times and nothing moved: %w", faults, ErrGone)
		}
		if err := s.recover(); err != nil {
			return fmt.Errorf("recover: %w", err)
		}
	}
	return nil
}

// broken reports whether err is one that starting again mends: overrun or underrun, suspended,
// or not running for another reason.
func broken(err error) bool {
	return errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ESTRPIPE) || errors.Is(err, unix.EBADFD)
}

func (s *side) recover() error {
	if err := s.pcm.Prepare(); err != nil {
		return err
	}
	if s.playback {
		if err := s.fill(); err != nil {
			return err
		}
	}
	return s.pcm.Start()
}

func (d *device) Info() Info { return d.info }

func (d *device) Stats() Stats {
	return Stats{
		Captured: d.captured.Load(), Played: d.written.Load(),
		Overruns: d.overruns.Load(), Underruns: d.underruns.Load(),
	}
}

// Close implements Player. An error wrapping ErrGone says that the driver hangs; the card is then
// given back when it comes back.
func (d *device) Close() error {
	d.closing.Do(func() {
		var errs []error
		for _, s := range []*side{d.in, d.out} {
			if s != nil {
				s.stop()
			}
		}
		for _, s := range []*side{d.in, d.out} {
			if s != nil {
				errs = append(errs, s.close())
			}
		}
		if err := errors.Join(errs...); err != nil {
			d.closeErr = fmt.Errorf("close sound: %w", err)
		}
	})
	return d.closeErr
}

func (s *side) stop() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.pcm.Cancel()
}

func (s *side) close() error {
	s.mu.Lock()
	used := s.users > 0
	s.mu.Unlock()
	if used {
		timer := time.NewTimer(closeGrace)
		defer timer.Stop()
		select {
		case <-s.idle:
		case <-timer.C:
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.users > 0 {
				s.abandoned = true
				return fmt.Errorf("the driver hangs: %w", ErrGone)
			}
		}
	}
	return s.pcm.Close()
}
