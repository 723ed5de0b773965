package progress

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestBlocked blocks each of three roots in turn: the watchdog is fed until ten seconds after its last report, and not later, whichever it is; and
// again once it gets on.
func TestBlocked(t *testing.T) {
	for blocked := range 3 {
		t.Run(fmt.Sprintf("root %d", blocked), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, stop := context.WithCancel(t.Context())
				board := new(Board)
				lock := make(chan struct{}, 1) // what the blocked one waits for: a mutex that a bubble understands
				var fed, asked atomic.Int64
				asks := 0
				hung := make(chan []string, 10)
				begin := time.Now()
				keeper := &Keeper{
					Board: board, Log: slog.New(slog.DiscardHandler),
					Feed: func() error { fed.Store(int64(time.Since(begin))); return nil },
					Hung: func(late []string) { hung <- late },
					Ask:  func() error { asked.Store(int64(time.Since(begin))); asks++; return nil },
				}
				var group sync.WaitGroup
				for i := range 3 {
					root := board.Root(fmt.Sprint("root ", i))
					group.Go(func() {
						defer root.End()
						tick := time.NewTicker(Every)
						defer tick.Stop()
						for {
							select {
							case <-ctx.Done():
								return
							case <-tick.C:
							}
							if i == blocked {
								lock <- struct{}{}
								<-lock
							}
							root.Alive()
						}
					})
				}
				group.Go(func() { _ = keeper.Run(ctx) })
				wait := func(d time.Duration) { <-time.After(d) }

				wait(time.Hour)
				if last := time.Duration(fed.Load()); time.Hour-last > Every || len(hung) > 0 {
					t.Fatalf("fed last after %v of an hour in which all went well; hung: %d", last, len(hung))
				}
				lock <- struct{}{}
				wait(time.Minute)
				if last := time.Duration(fed.Load()) - time.Hour; last > Within+Every || last < Within-2*Every {
					t.Errorf("fed last %v after a root hung", last)
				}
				if at := time.Duration(asked.Load()) - time.Hour; asks != 1 || at < Within-Every+Mercy || at > Within+Mercy+2*Every {
					t.Errorf("the supervisor was asked %d times to act, last %v after a root hung", asks, at)
				}
				if want := fmt.Sprint("root ", blocked); len(hung) != 1 {
					t.Errorf("told %d times, want once", len(hung))
				} else if late := <-hung; !slices.Equal(late, []string{want}) {
					t.Errorf("told of %v, want %s", late, want)
				}
				if late := board.Late(); !slices.Equal(late, []string{fmt.Sprint("root ", blocked)}) {
					t.Errorf("late: %v", late)
				}
				<-lock
				wait(2 * Every)
				if late := board.Late(); len(late) > 0 || time.Since(begin)-time.Duration(fed.Load()) > Every {
					t.Errorf("not fed again: late %v", late)
				}
				stop()
				group.Wait()
				wait(time.Minute)
				if late := board.Late(); len(late) > 0 {
					t.Errorf("who has ended is late: %v", late)
				}
			})
		})
	}
}

// TestStep: who has said that a step may take longer is late when it has taken that and more; after its next report it is judged as before.
func TestStep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		board := new(Board)
		root := board.Root("link")
		late := func(want bool, after time.Duration) {
			t.Helper()
			<-time.After(after)
			if got := len(board.Late()) > 0; got != want {
				t.Errorf("late: %v", got)
			}
		}
		root.Step(20 * time.Second)
		late(false, Within+20*time.Second)
		late(true, 1)
		root.Alive()
		late(false, Within)
		late(true, 1)
		root.Step(time.Second)
		root.Step(0)
		late(true, Within+1)
	})
}

// TestRecent: whoever asks for a name is told sooner than a watchdog; who has ended, or never was, does not get on.
func TestRecent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		board := new(Board)
		recent := func(want bool, what string) {
			t.Helper()
			if board.Recent("calls", 3*time.Second) != want {
				t.Errorf("%s: %v", what, !want)
			}
		}
		recent(false, "nobody")
		board.Root("screen")
		recent(false, "another")
		one := board.Root("calls")
		recent(true, "begun")
		<-time.After(3*time.Second + 1)
		recent(false, "silent")
		two := board.Root("calls")
		recent(false, "one of two silent")
		one.End()
		recent(true, "the other")
		two.Alive()
		two.End()
		recent(false, "ended")
		if none := (*Board)(nil); !none.Recent("calls", 0) {
			t.Error("no board")
		}
	})
}

func TestNobody(t *testing.T) {
	var board *Board
	root := board.Root("none")
	root.Alive()
	root.End()
}

func TestNotify(t *testing.T) {
	name := filepath.Join(t.TempDir(), "notify")
	t.Setenv("NOTIFY_SOCKET", "")
	if err := Notify("READY=1"); err != nil || Supervised() {
		t.Errorf("without a supervisor: %v", err)
	}
	t.Setenv("NOTIFY_SOCKET", name)
	if err := Notify("READY=1"); err == nil || !Supervised() {
		t.Error("no error although nobody listens")
	}
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := Notify("WATCHDOG=1"); err != nil {
		t.Fatal(err)
	}
	buffer := make([]byte, 64)
	n, err := conn.Read(buffer)
	if err != nil || string(buffer[:n]) != "WATCHDOG=1" {
		t.Errorf("got %q, %v", buffer[:n], err)
	}
}

type memory struct {
	text []byte
	err  error
}

func (m *memory) Load() ([]byte, error) { return m.text, m.err }
func (m *memory) Save(b []byte) error   { m.text = bytes.Clone(b); return m.err }

func TestStarts(t *testing.T) {
	type start struct {
		at   time.Duration
		boot string
		well bool // it ended as it was asked to
		safe bool
		none bool // it ended by itself, and nothing was wrong with it
	}
	const m = time.Minute
	for name, starts := range map[string][]start{
		"five crashes, then safe": {{at: 0}, {at: 1 * m}, {at: 2 * m}, {at: 3 * m}, {at: 4 * m}, {at: 5 * m, safe: true}, {at: 6 * m, safe: true}},
		"slowly":                  {{at: 0}, {at: 3 * m}, {at: 6 * m}, {at: 9 * m}, {at: 12 * m}, {at: 15 * m}, {at: 18 * m}},
		"asked to in between":     {{at: 0}, {at: 1 * m}, {at: 2 * m}, {at: 3 * m, well: true}, {at: 4 * m}, {at: 5 * m}, {at: 6 * m}},
		"another start of the system": {
			{at: 0}, {at: 1 * m}, {at: 2 * m}, {at: 3 * m}, {at: 4 * m}, {at: 5 * m, boot: "other"}, {at: 6 * m, boot: "other"},
		},
		"again as a whole after safe mode": {
			{at: 0}, {at: 1 * m}, {at: 2 * m}, {at: 3 * m}, {at: 4 * m}, {at: 5 * m, safe: true, well: true}, {at: 6 * m},
		},
		"a screen that comes and goes": {{at: 0, none: true}, {at: 1 * m, none: true}, {at: 2 * m, none: true}, {at: 3 * m, none: true}, {at: 4 * m, none: true}, {at: 5 * m}},
		"crashes between which a screen comes": {
			{at: 0}, {at: 1 * m}, {at: 2 * m, none: true}, {at: 2 * m}, {at: 3 * m}, {at: 4 * m, none: true}, {at: 4 * m}, {at: 5 * m, safe: true},
		},
		"exactly ten minutes ago is not in ten minutes": {{at: 0}, {at: 1 * m}, {at: 2 * m}, {at: 3 * m}, {at: 4 * m}, {at: 10 * m}},
	} {
		t.Run(name, func(t *testing.T) {
			files := new(memory)
			for i, x := range starts {
				s := &Starts{Files: files, Boot: "boot" + x.boot, Now: func() time.Duration { return x.at }}
				safe, err := s.Begin()
				if err != nil || safe != x.safe {
					t.Errorf("start %d: safe %v, %v; want %v", i+1, safe, err, x.safe)
				}
				err = nil
				if x.well {
					err = s.End()
				}
				if x.none {
					err = s.Excuse()
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	damaged := &memory{text: []byte("boot\nx\n-4\n999999999999999999999\n")}
	s := &Starts{Files: damaged, Boot: "boot", Now: SinceBoot}
	if safe, err := s.Begin(); safe || err != nil {
		t.Errorf("damaged: %v, %v", safe, err)
	}
	damaged.err = errors.New("no disk")
	if safe, err := s.Begin(); safe || !errors.Is(err, damaged.err) {
		t.Errorf("no disk: %v, %v", safe, err)
	}
	if SinceBoot() <= 0 {
		t.Error("no time since the start")
	}
}
