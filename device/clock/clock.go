// Package clock is the time by which the terminal judges certificates and invitations.
//
// A terminal without a clock battery wakes up in the past, and in a closed network no time server sets its clock. So the
// clock has a floor, which never goes back: the time at which the software was built, and times that the clinic told
// over a verified connection (kept in the file "clock" of the state folder, as decimal milliseconds since 1970). And it
// follows the clinic when that is ahead of the system's clock. It moves on by the monotonic clock while the agent runs.
// Verification is never skipped.
//
// A wrong clock must not lock a fleet out for good. The system's own time never becomes the floor: a time server that is
// wrong once would leave the terminal in the future. What the clinic tells becomes the floor only if the system's clock
// agrees, or was never set, or the clinic has told the same for six hours; and until then it is followed at most 40 days
// ahead, and only until it tells otherwise. It can never move the clock back: that would revive what has expired.
package clock

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"time"

	"vindu/device/state"
	"vindu/protocol"
)

// Tolerance is how far the system's clock may be from the clinic's before that is a condition. Invitations are
// accepted within the same span.
const Tolerance = time.Minute

const (
	fileName   = "clock"
	maxFile    = 32
	saveEvery  = time.Hour // wear of the storage against how far back a restart can begin
	trustAfter = 6 * time.Hour
	maxLeap    = 40 * 24 * time.Hour
	maxAhead   = 10 * 365 * 24 * time.Hour // of the floor; beyond, the clinic's time is no time
)

// ErrImplausible is wrapped by Observe when the clinic tells a time that cannot be.
var ErrImplausible = errors.New("implausible time")

// released is the floor of a build that does not know when it was made.
var released = time.Date(2026, time.January, 1, 0, 0, 0, 0, time.UTC)

// Built returns when this program's source was committed, as Go's build information has it, or the date of the first release.
func Built() time.Time {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if t, err := time.Parse(time.RFC3339, s.Value); s.Key == "vcs.time" && err == nil && t.After(released) {
				return t
			}
		}
	}
	return released
}

// Clock tells the time. Its methods may be called from any goroutine; it has none of its own.
type Clock struct {
	dir   *state.Dir
	built time.Time
	log   *slog.Logger

	keeping sync.Mutex // held across Observe; the storage may take its time, and Now must not wait for it
	mu      sync.Mutex
	floor   time.Time // at anchor
	anchor  time.Time // system time with monotonic reading, as are heard and steady
	saved   time.Time
	told    time.Time // the clinic's time at heard; zero if it was not heard yet
	heard   time.Time
	steady  time.Time // since then, all that the clinic told agrees
}

// New returns a clock whose floor is the later of built and what the state folder has. A file that cannot be read is
// logged and does without.
func New(dir *state.Dir, built time.Time, log *slog.Logger) *Clock {
	c := &Clock{dir: dir, built: built, log: log, floor: built.UTC(), anchor: time.Now()}
	seen, err := load(dir)
	if err != nil {
		log.Warn("last seen time cannot be read, going by the build time", "error", err, "code", protocol.CodeOf(err))
	}
	if seen.After(c.floor) {
		c.floor, c.saved = seen, seen
	}
	return c
}

func load(dir *state.Dir) (time.Time, error) {
	b, err := dir.Read(fileName, maxFile)
	if errors.Is(err, fs.ErrNotExist) {
		return time.Time{}, nil
	}
	if err != nil {
		return time.Time{}, err
	}
	return parse(b)
}

func parse(b []byte) (time.Time, error) {
	ms, err := strconv.ParseInt(strings.TrimSuffix(string(b), "\n"), 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("parse last seen time: %w", err)
	}
	if last := time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli(); ms <= 0 || ms > last {
		return time.Time{}, errors.New("parse last seen time: out of bounds")
	}
	return time.UnixMilli(ms).UTC(), nil
}

// Now returns the latest of the system's time, the floor, and the clinic's time as far as that is followed.
func (c *Clock) Now() time.Time {
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	result := now.UTC()
	if floor := c.floorAt(now); floor.After(result) {
		result = floor
	}
	if told := c.toldAt(now); told.After(result) && (c.trusted(now) || told.Sub(result) <= maxLeap) {
		result = told
	}
	return result
}

// floorAt goes by the monotonic clock, so that setting the system's clock does not move it. c.mu is held.
func (c *Clock) floorAt(now time.Time) time.Time { return c.floor.Add(now.Sub(c.anchor)) }

// toldAt is what the clinic's clock shows by what it told last; zero if it was not heard yet. c.mu is held.
func (c *Clock) toldAt(now time.Time) time.Time {
	if c.told.IsZero() {
		return time.Time{}
	}
	return c.told.Add(now.Sub(c.heard))
}

// trusted tells whether the clinic's time may become the floor although the system's clock says otherwise. c.mu is held.
func (c *Clock) trusted(now time.Time) bool {
	return now.Before(c.built) || !c.steady.IsZero() && now.Sub(c.steady) >= trustAfter
}

// Observe takes note of the clinic's time as it came over a connection that was verified, in answer to a request
// that took roundTrip. It returns an error wrapping ErrImplausible, or one about storing the floor, which holds until the next
// start nevertheless.
func (c *Clock) Observe(clinic time.Time, roundTrip time.Duration) error {
	c.keeping.Lock()
	defer c.keeping.Unlock()
	floor, err := c.observe(clinic, roundTrip)
	if err != nil || floor.IsZero() {
		return err
	}
	if err := c.dir.Write(fileName, strconv.AppendInt(nil, floor.UnixMilli(), 10)); err != nil {
		return fmt.Errorf("keep last seen time: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.saved = floor
	return nil
}

// observe is Observe without the storage: it returns the floor if that is worth a write.
func (c *Clock) observe(clinic time.Time, roundTrip time.Duration) (time.Time, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if ahead := clinic.Sub(c.floorAt(now)); ahead > maxAhead {
		return time.Time{}, fmt.Errorf("the clinic's clock is %v ahead: %w", ahead.Round(time.Hour), ErrImplausible)
	}
	// What the clinic wrote is between 0 and roundTrip old; the middle halves the error.
	told := clinic.UTC().Add(roundTrip / 2)
	if c.told.IsZero() || told.Sub(c.toldAt(now)).Abs() > Tolerance {
		c.steady = now
	}
	wasOff := c.off(now)
	c.told, c.heard = told, now
	if off := c.off(now); off != wasOff {
		c.log.Warn("system clock compared with the clinic's", "off", off, "offset", c.offset(now).Round(time.Millisecond))
	}
	if !c.trusted(now) && c.offset(now) > Tolerance {
		return time.Time{}, nil
	}
	if told.After(c.floorAt(now)) {
		c.floor, c.anchor = told, now
	}
	if told.Sub(c.saved) < saveEvery {
		return time.Time{}, nil
	}
	return told, nil
}

// Offset returns how far the clinic's clock is ahead of the system's, and false if the clinic was not heard yet.
func (c *Clock) Offset() (time.Duration, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.offset(time.Now()), !c.told.IsZero()
}

// offset compares by the monotonic clock, so that it is right at once when the system's clock is set. c.mu is held.
func (c *Clock) offset(now time.Time) time.Duration {
	if c.told.IsZero() {
		return 0
	}
	return c.toldAt(now).Sub(now)
}

// Off says whether the condition protocol.TimeOff holds: the system's clock differs from the clinic's by more than
// Tolerance, or is behind the floor by more than that.
func (c *Clock) Off() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.off(time.Now())
}

func (c *Clock) off(now time.Time) bool {
	return c.offset(now).Abs() > Tolerance || c.floorAt(now).Sub(now) > Tolerance
}
