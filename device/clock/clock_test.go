package clock

import (
	"errors"
	"log/slog"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"vindu/device/state"
	"vindu/device/state/statetest"
	"vindu/protocol"
)

var quiet = slog.New(slog.DiscardHandler)

func open(t *testing.T, disk *statetest.Disk) *state.Dir {
	t.Helper()
	dir, err := state.OpenOn(disk, "/state")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// longAgo is when software was built whose system clock is plausible in a bubble.
var longAgo = time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC)

// In a synctest bubble the system's clock begins at midnight of 2000-01-01: a terminal without a clock battery.
func TestFloor(t *testing.T) {
	built := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		name     string
		built    time.Time
		observed time.Time // by an earlier run; zero: none
		file     string    // instead of what an earlier run wrote
		want     time.Time
	}{
		{"the system's clock is right", time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC), time.Time{}, "", time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)},
		{"never seen the clinic", built, time.Time{}, "", built},
		{"seen after the build", built, built.Add(1000 * time.Hour), "", built.Add(1000 * time.Hour)},
		{"software newer than last seen", built, built.Add(-1000 * time.Hour), "", built},
		{"damaged file", built, time.Time{}, "yesterday", built},
		{"empty file", built, time.Time{}, "\n", built},
		{"file from beyond time", built, time.Time{}, "9223372036854775807", built},
		{"negative file", built, time.Time{}, "-1", built},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				disk := statetest.New()
				dir := open(t, disk)
				if !c.observed.IsZero() {
					if err := New(dir, c.built, quiet).Prove(c.observed, 0); err != nil {
						t.Fatal(err)
					}
				}
				if c.file != "" {
					disk.Corrupt("/state/clock", []byte(c.file))
				}
				clock := New(open(t, disk.After(statetest.Everything)), c.built, quiet)
				if got := clock.Now(); !got.Equal(c.want) {
					t.Errorf("got %v, want %v", got, c.want)
				}
				time.Sleep(time.Hour) // allowed: of the bubble
				if got := clock.Now(); !got.Equal(c.want.Add(time.Hour)) {
					t.Errorf("an hour later: got %v, want %v", got, c.want.Add(time.Hour))
				}
				if got, want := clock.Condition() != "", c.want.After(time.Date(2001, 1, 1, 0, 0, 0, 0, time.UTC)); got != want {
					t.Errorf("off: got %v, want %v", got, want)
				}
				if floor := clock.Floor(); floor.After(clock.Now()) || c.observed.After(floor) {
					t.Errorf("the floor is %v", floor)
				}
			})
		})
	}
}

// TestOff: the clinic is followed, forward and back; the system's clock being off by more than a minute is a condition.
func TestOff(t *testing.T) {
	for _, c := range []struct {
		name  string
		ahead time.Duration // the clinic's clock, of ours
		off   protocol.Code
	}{
		{"same", 0, ""},
		{"a little ahead", 59 * time.Second, ""},
		{"a little behind", -59 * time.Second, ""},
		{"far ahead", 61 * time.Second, protocol.TimeOff},
		{"far behind", -61 * time.Second, protocol.TimeOff},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				clock := New(open(t, statetest.New()), longAgo, quiet)
				if code := clock.Condition(); code != "" {
					t.Errorf("%q before the clinic was heard", code)
				}
				before := clock.Now()
				if err := clock.Prove(time.Now().Add(c.ahead-time.Second), 2*time.Second); err != nil { // the middle of the round trip
					t.Fatal(err)
				}
				time.Sleep(time.Hour) // allowed: of the bubble
				if code := clock.Condition(); code != c.off {
					t.Errorf("condition %q, want %q", code, c.off)
				}
				if got, want := clock.Now(), before.Add(time.Hour+c.ahead); !got.Equal(want) {
					t.Errorf("now %v, want %v", got, want)
				}
			})
		})
	}
}

// TestWear counts writes: one an hour at most, however often the clinic is heard.
func TestWear(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := statetest.New()
		clock := New(open(t, disk), longAgo, quiet)
		writes := func() int { return disk.Steps() }
		if err := clock.Prove(time.Now(), 0); err != nil {
			t.Fatal(err)
		}
		first := writes()
		for range 59 {
			time.Sleep(time.Minute) // allowed: of the bubble
			if err := clock.Prove(time.Now(), 0); err != nil {
				t.Fatal(err)
			}
		}
		if writes() != first {
			t.Errorf("%d steps within the hour", writes()-first)
		}
		time.Sleep(time.Minute) // allowed: of the bubble
		if err := clock.Prove(time.Now(), 0); err != nil || writes() == first {
			t.Errorf("nothing written after an hour, %v", err)
		}
	})
}

func TestDiskFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := statetest.New()
		clock := New(open(t, disk), time.Now().Add(time.Minute), quiet) // the system's clock was never set
		disk.Fail("write", syscall.ENOSPC)
		told := time.Now().Add(2 * time.Hour)
		if err := clock.Prove(told, 0); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("got %v", err)
		}
		if got := clock.Now(); !got.Equal(told) {
			t.Errorf("the floor does not hold: %v", got)
		}
		disk.Fail("write", nil)
		if err := clock.Prove(told, 0); err != nil {
			t.Error(err)
		}
		if got := New(open(t, disk.After(statetest.Everything)), longAgo, quiet).Now(); !got.Equal(told) {
			t.Errorf("after a restart: %v", got)
		}
	})
}

// TestClinicWrong: a clinic whose own clock is wrong for a while does not lock its terminals out: when it is right again it is followed back, by a terminal
// that ran on as by one that was restarted meanwhile, and the next start knows nothing of it any more.
func TestClinicWrong(t *testing.T) {
	const year, day = 365 * 24 * time.Hour, 24 * time.Hour
	for _, c := range []struct {
		name   string
		built  time.Time
		ahead  time.Duration // what the clinic tells, of ours
		times  int           // each after an hour
		keep   bool          // after a restart
		refuse bool
	}{
		{"a year ahead, once", longAgo, year, 1, false, false},
		{"a year ahead, for five hours", longAgo, year, 5, false, false},
		{"a year ahead, for seven hours", longAgo, year, 8, true, false},
		{"a year ahead, our clock was never set", longAgo.Add(2 * year), 3 * year, 1, true, false},
		{"ten days ahead, once", longAgo, 10 * day, 1, false, false},
		{"a minute ahead", longAgo, time.Minute, 1, true, false},
		{"a thousand years ahead", longAgo, 290 * year, 8, false, true},
		{"half a year behind", longAgo, -year / 2, 8, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				disk := statetest.New()
				clock := New(open(t, disk), c.built, quiet)
				ahead := func(clock *Clock) time.Duration { return clock.Now().Sub(time.Now()) }
				for i := range c.times {
					if i > 0 {
						time.Sleep(time.Hour) // allowed: of the bubble
					}
					if err := clock.Prove(time.Now().Add(c.ahead), 0); errors.Is(err, ErrImplausible) != c.refuse {
						t.Fatal(err)
					}
				}
				if got := ahead(clock); (got == c.ahead) == c.refuse {
					t.Errorf("now is %v ahead", got)
				}
				restart := func() *Clock { return New(open(t, disk.After(statetest.Everything)), c.built, quiet) }
				restarted := restart()
				if got := ahead(restarted); (got == c.ahead) != c.keep {
					t.Errorf("after a restart now is %v ahead, want to keep: %v", got, c.keep)
				}
				right := time.Now()
				if right.Before(c.built) {
					right = c.built
				}
				for what, clock := range map[string]*Clock{"running": clock, "restarted": restarted} {
					if err := clock.Prove(right, 0); err != nil {
						t.Fatal(err)
					}
					if got, floor := clock.Now(), clock.Floor(); got.Sub(right).Abs() > Tolerance || floor.Sub(right) > Tolerance {
						t.Errorf("%s: not healed when the clinic is right again: now %v, floor %v", what, got, floor)
					}
				}
				if got := restart().Now(); got.Sub(right).Abs() > Tolerance {
					t.Errorf("not healed after the next start: %v", got)
				}
			})
		})
	}
}

func TestBuilt(t *testing.T) {
	if got := Built(); got.Before(released) || got.After(time.Now().AddDate(1, 0, 0)) {
		t.Errorf("got %v", got)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"", "0", "1767225600000", "1767225600000\n", "-5", "9999999999999999999", "1e9", " 1"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := parse(b)
		if err == nil && (got.Year() < 1970 || got.Year() > 9999) {
			t.Errorf("parsed %q as %v", b, got)
		}
	})
}

// slowDisk lets a write wait.
type slowDisk struct {
	*statetest.Disk
	began, goOn chan struct{}
}

func (d slowDisk) Create(path string) (state.File, error) {
	close(d.began)
	<-d.goOn
	return d.Disk.Create(path)
}

// Who asks for the time does not wait for the storage: a call may be ringing.
func TestNowDoesNotWaitForTheDisk(t *testing.T) {
	disk := slowDisk{statetest.New(), make(chan struct{}), make(chan struct{})}
	dir, err := state.OpenOn(disk, "/state")
	if err != nil {
		t.Fatal(err)
	}
	clock := New(dir, time.Now().Add(-time.Hour), quiet)
	observed := make(chan error, 1)
	go func() { observed <- clock.Prove(time.Now(), 0) }()
	select {
	case <-disk.began:
	case err := <-observed:
		t.Fatalf("nothing was written: %v", err)
	}
	if clock.mu.TryLock() {
		clock.mu.Unlock()
	} else {
		t.Error("Now waits for the disk")
	}
	close(disk.goOn)
	if err := <-observed; err != nil {
		t.Error(err)
	}
}
