// Package clock is the time by which the terminal judges certificates and invitations.
//
// A terminal without a clock battery wakes up in the past, and in a closed network no time server sets its clock. So the
// clock has a floor: the time at which the software was built, and what the clinic proved by its signature (kept in the file "clock"
// of the state folder, as decimal milliseconds since 1970). Until a time is proven the clock shows the system's time, or the floor if
// that is later; from then on it follows the clinic, by the monotonic clock between two proofs: the system's clock, which anything on
// the network may have set to the past or years ahead, counts no more. What is not signed is not listened to. Verification is never skipped.
//
// A wrong clock must not lock a fleet out for good. The system's own time never becomes the floor: a time server that is
// wrong once would leave the terminal in the future. What the clinic proves becomes the floor only if the system's clock
// is not behind it, or was never set, or the clinic has proven the same for six hours. And a proof also lowers the floor, down to the build time: a clinic
// whose own clock was wrong is followed back. Who holds the key of a proof could sign whatever the floor protects from, for any date.
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

// FileName is where the floor is kept in the state folder.
const FileName = "clock"

const (
	maxFile    = 32
	saveEvery  = time.Hour // wear of the storage against how far back a restart can begin
	trustAfter = 6 * time.Hour
	maxAhead   = 20 * 365 * 24 * time.Hour // of the floor; beyond, the clinic's time is no time: that long lives its root
)

// ErrImplausible is wrapped by Prove when the clinic tells a time that cannot be.
var ErrImplausible = errors.New("implausible time")

// released is the floor of a build that does not know when it was made.
var released = time.Date(2026, time.January, 1, 0, 0, 0, 0, time.UTC)

// committed is when the source was committed, as RFC 3339. The linker sets it (scripts/arm, the image's package) where Go's own stamp is left out.
var committed string

// Built returns when this program's source was committed, as the linker or Go's build information has it, or the date of the first release.
func Built() time.Time {
	if t, err := time.Parse(time.RFC3339, committed); err == nil && t.After(released) {
		return t
	}
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

	began time.Time // with monotonic reading

	keeping   sync.Mutex // held across Prove; the storage may take its time, and Now must not wait for it
	mu        sync.Mutex
	floor     time.Time // at anchor
	anchor    time.Time // system time with monotonic reading, as are heard and steady
	saved     time.Time // what a start would have as its floor
	told      time.Time // the clinic's time at heard; zero if none was proven yet
	heard     time.Time
	steady    time.Time     // since then, all that the clinic proved agrees
	refined   time.Duration // what a time server corrects told by, within its bounds
	roundTrip time.Duration // of told
}

// New returns a clock whose floor is the later of built and what the state folder has. A file that cannot be read is
// logged and does without.
func New(dir *state.Dir, built time.Time, log *slog.Logger) *Clock {
	now := time.Now()
	c := &Clock{dir: dir, built: built.UTC(), log: log, began: now, floor: built.UTC(), anchor: now, saved: built.UTC()}
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
	b, err := dir.Read(FileName, maxFile)
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

// Now returns the clinic's time if it was proven, else the system's; and the floor if that is later.
func (c *Clock) Now() time.Time {
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	result := now.UTC()
	if c.proven() {
		result = c.toldAt(now).Add(c.refined)
	}
	if floor := c.floorAt(now); floor.After(result) {
		result = floor
	}
	return result
}

// Floor returns a time that has been for certain, as far as the clinic's own clock was right: Now may be ahead of the clinic until a time is proven, the
// floor is not.
func (c *Clock) Floor() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.floorAt(time.Now())
}

// floorAt goes by the monotonic clock, so that setting the system's clock does not move it. c.mu is held.
func (c *Clock) floorAt(now time.Time) time.Time { return c.floor.Add(now.Sub(c.anchor)) }

// proven tells whether the clinic has told its time. c.mu is held.
func (c *Clock) proven() bool { return !c.told.IsZero() }

// toldAt is what the clinic's clock shows by what it told last; zero if it has not. c.mu is held.
func (c *Clock) toldAt(now time.Time) time.Time {
	if !c.proven() {
		return time.Time{}
	}
	return c.told.Add(now.Sub(c.heard))
}

// trusted tells whether the clinic's time may become the floor although the system's clock says otherwise. c.mu is held.
func (c *Clock) trusted(now time.Time) bool {
	return now.Before(c.built) || !c.steady.IsZero() && now.Sub(c.steady) >= trustAfter
}

// Proven tells whether the time was proven since New.
func (c *Clock) Proven() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.proven()
}

// Age returns how long ago the clinic's time was proven, if it was since New.
func (c *Clock) Age() (time.Duration, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.proven() {
		return 0, false
	}
	return time.Since(c.heard), true
}

// Prove takes note of the time that the clinic signed for this terminal's question, to which the answer took roundTrip. It returns an error wrapping
// ErrImplausible, or one about storing the floor, which holds until the next start nevertheless.
func (c *Clock) Prove(clinic time.Time, roundTrip time.Duration) error {
	c.keeping.Lock()
	defer c.keeping.Unlock()
	floor, err := c.hear(clinic, roundTrip)
	if err != nil || floor.IsZero() {
		return err
	}
	if err := c.dir.Write(FileName, strconv.AppendInt(nil, floor.UnixMilli(), 10)); err != nil {
		return fmt.Errorf("keep last seen time: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.saved = floor
	return nil
}

// hear is Prove without the storage: it returns the floor if that is worth a write.
func (c *Clock) hear(clinic time.Time, roundTrip time.Duration) (time.Time, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if ahead := clinic.Sub(c.floorAt(now)); ahead > maxAhead {
		return time.Time{}, fmt.Errorf("the clinic's clock is %v ahead: %w", ahead.Round(time.Hour), ErrImplausible)
	}
	// What the clinic wrote is between 0 and roundTrip old; the middle halves the error.
	told := clinic.UTC().Add(roundTrip / 2)
	if !c.proven() || told.Sub(c.toldAt(now)).Abs() > Tolerance {
		c.steady = now
	}
	wasOff := c.off(now)
	finer := c.toldAt(now).Add(c.refined).Sub(told)
	if c.refined == 0 || finer.Abs() > roundTrip/2+time.Second {
		finer = 0
	}
	c.told, c.heard, c.roundTrip, c.refined = told, now, roundTrip, finer
	if told.Before(c.floorAt(now)) || c.trusted(now) || c.offset(now) <= Tolerance {
		c.floor, c.anchor = told, now
		if lowest := c.built.Add(now.Sub(c.began)); c.floor.Before(lowest) {
			c.floor = lowest
		}
	}
	if off := c.off(now); off != wasOff {
		c.log.Warn("system clock compared with the clinic's", "off", off, "offset", c.offset(now).Round(time.Millisecond))
	}
	floor := c.floorAt(now)
	if moved := floor.Sub(c.saved); moved < saveEvery && moved > -Tolerance {
		return time.Time{}, nil
	}
	return floor, nil
}

// offset is how far the clinic's clock is ahead of the system's. It compares by the monotonic clock, so that it is right at once when the system's clock is
// set. c.mu is held.
func (c *Clock) offset(now time.Time) time.Duration {
	if !c.proven() {
		return 0
	}
	return c.toldAt(now).Sub(now)
}

// Condition returns protocol.TimeOff if the system's clock differs from the clinic's by more than Tolerance, or is behind the floor by more than that; but
// protocol.TimeUnknown if no time was proven yet, and "" if all is well.
func (c *Clock) Condition() protocol.Code {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case !c.off(time.Now()):
		return ""
	case !c.proven():
		return protocol.TimeUnknown
	}
	return protocol.TimeOff
}

// off is Condition's question. c.mu is held.
func (c *Clock) off(now time.Time) bool {
	return c.offset(now).Abs() > Tolerance || c.floorAt(now).Sub(now) > Tolerance
}
