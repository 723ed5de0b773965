package progress

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A program that ends five times in ten minutes without having been asked to will do so again: what it begins with is at fault.
const (
	CrashLimit = 5
	CrashSpan  = 10 * time.Minute
	// SafeFor is how long safe mode lasts before the terminal is tried as a whole again.
	SafeFor = 30 * time.Minute
)

// Files keep one text between starts of the program. What they keep need not outlive the system.
type Files interface {
	// Load returns what was saved last, or nothing.
	Load() ([]byte, error)
	Save([]byte) error
}

// Starts remembers those starts of this program that did not end well, by the time since the system's own start, which no clock moves: each on a line, in
// seconds, under the system's boot ID.
type Starts struct {
	Files Files
	Boot  string               // this start of the system
	Now   func() time.Duration // since then
}

// Begin notes a start, and tells whether it is one too many. What cannot be read counts as nothing: a terminal begins as a whole rather than not at all.
func (s *Starts) Begin() (safe bool, err error) {
	now, times := s.Now(), s.load()
	recent := times[:0]
	for _, t := range times {
		if t <= now && now-t < CrashSpan {
			recent = append(recent, t)
		}
	}
	safe = len(recent) >= CrashLimit
	recent = append(recent, now)
	return safe, s.save(recent[max(0, len(recent)-CrashLimit-1):])
}

// End notes that the program ends as it was asked to: what was before counts no more.
func (s *Starts) End() error { return s.save(nil) }

// Excuse notes that the program ends by itself and nothing is wrong with it: this start does not count, what was before does.
func (s *Starts) Excuse() error {
	times := s.load()
	return s.save(times[:max(0, len(times)-1)])
}

func (s *Starts) load() []time.Duration {
	text, err := s.Files.Load()
	if err != nil || len(text) > 4<<10 {
		return nil
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	if lines[0] != s.Boot {
		return nil
	}
	var times []time.Duration
	for _, line := range lines[1:] {
		if n, err := strconv.ParseUint(line, 10, 31); err == nil {
			times = append(times, time.Duration(n)*time.Second)
		}
	}
	return times
}

func (s *Starts) save(times []time.Duration) error {
	var b strings.Builder
	b.WriteString(s.Boot + "\n")
	for _, t := range times {
		fmt.Fprintf(&b, "%d\n", int64(t/time.Second))
	}
	if err := s.Files.Save([]byte(b.String())); err != nil {
		return fmt.Errorf("remember this start: %w", err)
	}
	return nil
}

// SinceBoot is the time since the system's start, sleep included.
func SinceBoot() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		return 0
	}
	return time.Duration(t.Nano())
}
