package rehearsal

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"vindu/device/call/calltest"
	"vindu/protocol"
)

var well = []string{"call.direct passed ", "call.relayed passed ", "microphone passed ", "loudspeaker passed "}

// TestAsked: both paths and the sound, told as an event, and remembered; no device was opened for a call.
func TestAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.start()
		if code := b.runner.Ask(); code != "" {
			t.Fatal(code)
		}
		pass(time.Minute)
		if b.runner.Running() {
			t.Error("it still runs")
		}
		events := calltest.Events[*protocol.Rehearsal](&b.outbox)
		if r := b.last(); !slices.Equal(states(r), well) || !r.Asked || len(events) != 1 || !reflect.DeepEqual(events[0], r) || b.runner.Last() != r {
			t.Errorf("%+v, %d events", r, len(events))
		} else if p, _ := r.Part("call.relayed"); p.Took == 0 || p.Loss != 10 {
			t.Errorf("%+v", p)
		}
		if paths, heard := b.begun(); !slices.Equal(paths, []string{protocol.DirectPath, protocol.RelayedPath}) || len(heard) != 1 {
			t.Errorf("%v, %v", paths, heard)
		}
		for i, relayed := range []bool{false, true} {
			if offer := b.media.Sessions()[i].Offer; offer.RelayOnly != relayed {
				t.Errorf("%+v", offer)
			}
		}
		if n := len(calltest.Events[*protocol.CallRecord](&b.outbox)); n != 2 {
			t.Errorf("%d records of calls", n)
		}
		b.end()
		if b.store.Saves() != 1 {
			t.Errorf("written %d times", b.store.Saves())
		}
		b.start() // it remembers
		synctest.Wait()
		if r := b.runner.Last(); !slices.Equal(states(r), well) {
			t.Errorf("after a restart %+v", r)
		}
		b.end()
	})
}

// TestNights: once in each window, and the sound by day, for a week with a restart each noon.
func TestNights(t *testing.T) {
	zone, err := time.LoadLocation("Europe/Oslo")
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.zone, b.window = zone, &protocol.Window{From: 120, To: 240}
		b.quiet = func(now time.Time) bool { return now.Hour() < 11 } // long after the chirp would be due
		for day := range 7 {
			b.start()
			pass(24 * time.Hour)
			b.end()
			paths, heard := b.begun()
			if len(paths) != 2*(day+1) || len(heard) != day+1 {
				t.Fatalf("day %d: %d calls, heard %v", day, len(paths), heard)
			}
		}
		var nights, days int
		for _, r := range calltest.Events[*protocol.Rehearsal](&b.outbox) {
			at := r.At.Time().In(zone)
			switch {
			case r.Asked:
				t.Errorf("asked for: %+v", r)
			case at.Hour() >= 2 && at.Hour() < 4:
				nights++
			case at.Hour() == 11:
				days++
			default:
				t.Errorf("at %v", at)
			}
		}
		if nights != 7 || days != 7 {
			t.Errorf("%d nights, %d days", nights, days)
		}
	})
}

// TestNever: without a window it does not rehearse by itself, and while it does not know the time neither.
func TestNever(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.start()
		pass(72 * time.Hour)
		if paths, heard := b.begun(); len(paths)+len(heard) != 0 {
			t.Errorf("%v, %v", paths, heard)
		}
		b.end()
	})
}

// TestThousandTimes: however often the clinic asks, a terminal rehearses every AskEvery, and its microphone opens every SoundEvery.
func TestThousandTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.start()
		yes := 0
		for range 1000 {
			if b.runner.Ask() == "" {
				yes++
			}
		}
		pass(time.Minute)
		if paths, heard := b.begun(); yes != 1 || len(paths) != 2 || len(heard) != 1 {
			t.Errorf("%d allowed, calls %v, heard %v", yes, paths, heard)
		}
		for range 3 * 60 * 60 {
			b.runner.Ask()
			pass(time.Second)
		}
		paths, heard := b.begun()
		if most := 2 * (3*60/5 + 2); len(paths) > most || len(paths) < most-6 || len(heard) < 3 || len(heard) > 4 {
			t.Errorf("%d calls, heard %v", len(paths), heard)
		}
		for i := 1; i < len(heard); i++ {
			if apart := heard[i].Sub(heard[i-1]); apart < SoundEvery {
				t.Errorf("heard again after %v", apart)
			}
		}
		b.end()
	})
}

// TestNotNow: what comes first is asked before and while it runs.
func TestNotNow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.window = &protocol.Window{From: 1, To: 0}
		b.busy(protocol.AnswerBusy)
		b.start()
		if code := b.runner.Ask(); code != protocol.AnswerBusy {
			t.Errorf("asked for in a call: %q", code)
		}
		pass(48 * time.Hour)
		if paths, heard := b.begun(); len(paths)+len(heard) != 0 {
			t.Errorf("%v, %v", paths, heard)
		}
		b.busy("")
		pass(24 * time.Hour)
		if paths, _ := b.begun(); len(paths) == 0 {
			t.Error("and never again")
		}
		b.end()
	})
}

// TestGivesWay: a call that is let in ends it at once, with what it has found until then; it is tried again.
func TestGivesWay(t *testing.T) {
	for _, during := range []string{protocol.DirectPath, protocol.RelayedPath, "sound"} {
		t.Run(during, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				b.window = &protocol.Window{From: 1, To: 300} // before the chirp is due
				yielded := make(chan struct{})
				var once sync.Once
				yield := func(path string) {
					if path != during {
						return
					}
					once.Do(func() {
						go func() {
							defer close(yielded)
							pass(time.Second)
							b.busy(protocol.AnswerBusy)
							b.runner.Yield()
							synctest.Wait()
							if during == "sound" && b.runner.Running() {
								t.Error("it runs on")
							}
							pass(2 * time.Second) // for the last word to the clinic
							if b.runner.Running() {
								t.Error("it runs 2 s after a call came")
							}
							b.busy("")
						}()
					})
				}
				b.asked = yield
				listens := b.listen
				b.listen = func(ctx context.Context) ([]protocol.Check, error) {
					yield("sound")
					select {
					case <-yielded:
						return listens(ctx)
					case <-ctx.Done():
						return nil, context.Cause(ctx)
					}
				}
				b.start()
				if during == "sound" {
					b.runner.Ask()
				}
				<-yielded
				pass(time.Second)
				want := map[string][]string{protocol.DirectPath: nil, protocol.RelayedPath: well[:1], "sound": well[:2]}[during]
				if got := states(b.runner.Last()); !slices.Equal(got, want) {
					t.Errorf("told %v", got)
				}
				if ends := calltest.Events[*protocol.EndReceipt](&b.outbox); during != "sound" {
					end := new(protocol.End)
					if err := protocol.Verify(ends[len(ends)-1].End, &b.clinic.Terminal.PublicKey, end); err != nil || end.Reason != protocol.AnswerBusy {
						t.Errorf("the robot is told %+v, %v", end, err)
					}
				}
				pass(48 * time.Hour)
				if got := states(b.runner.Last()); !slices.Equal(got, well) {
					t.Errorf("afterwards %v", got)
				}
				b.end()
			})
		})
	}
}

// TestStrangers: nothing is let in but the call that is rehearsed.
func TestStrangers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.start()
		if unasked, _ := b.clinic.TestCall(t, time.Now()); b.runner.Deliver(unasked) {
			t.Error("a robot's call that nobody asked for is taken")
		}
		b.asked = func(string) {
			for _, m := range []func() *protocol.CallIn{
				func() *protocol.CallIn { m, _ := b.clinic.TestCall(t, time.Now()); return m },
				func() *protocol.CallIn { m, _ := b.clinic.Invite(t, time.Now()); return m },
			} {
				if b.runner.Deliver(m()) {
					t.Error("another call is taken for the rehearsed one")
				}
			}
		}
		b.runner.Ask()
		pass(time.Minute)
		if got := states(b.last()); !slices.Equal(got, well) {
			t.Errorf("%v", got)
		}
		b.end()
	})
}

// TestServiceKeyAlone: the rehearsed call is by the server's key; a passkey's is refused in it, and another server's.
func TestServiceKeyAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.start()
		b.clinic.Service = calltest.NewKey(t) // which the terminal does not believe
		keys := b.runner.c.Keys()
		b.clinic.Service = calltest.NewKey(t)
		b.runner.c.Keys = func() [][]byte { return keys }
		b.runner.Ask()
		pass(2 * time.Minute)
		if n := len(b.media.Sessions()); n != 0 {
			t.Errorf("%d connections to a robot that proved nothing", n)
		}
		b.end()
	})
}

// TestOpensNothing: media that would open a camera is not let.
func TestOpensNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.media.opens = true
		b.start()
		b.runner.Ask()
		pass(2 * time.Minute)
		if p, _ := b.last().Part("call.direct"); p.State != protocol.CheckFailed {
			t.Errorf("%+v", p)
		}
		b.end()
	})
}

// TestOtherPath: a call that worked by another path than the one that was rehearsed says nothing of that one.
func TestOtherPath(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.media.strays = true
		b.start()
		b.runner.Ask()
		pass(time.Minute)
		if p, _ := b.last().Part("call.relayed"); p.State != protocol.CheckFailed || p.Code != protocol.ICENoRelayed {
			t.Errorf("%+v", p)
		}
		b.end()
	})
}

// TestConditions: each condition that a rehearsal finds begins with a bad one and ends with the next good one.
func TestConditions(t *testing.T) {
	heard := func(level, chirp protocol.Code) func(context.Context) ([]protocol.Check, error) {
		return func(context.Context) (checks []protocol.Check, _ error) {
			for name, code := range map[string]protocol.Code{"microphone.level": level, "loudspeaker.chirp": chirp} {
				c := protocol.Check{Name: name, State: protocol.CheckFailed, Code: code}
				if code == "" {
					c.State = protocol.CheckPassed
				}
				checks = append(checks, c)
			}
			return checks, nil
		}
	}
	for _, c := range []struct {
		code   protocol.Code
		robot  func(path string) (protocol.Code, error)
		listen func(context.Context) ([]protocol.Check, error)
	}{
		{protocol.MediaRehearsal, func(string) (protocol.Code, error) { return protocol.ICEFailed, nil }, heard("", "")},
		{protocol.MediaRehearsal, func(string) (protocol.Code, error) { return "", errors.New("no clinic") }, heard("", "")},
		{protocol.ICENoRelayed, func(path string) (code protocol.Code, _ error) {
			if path == protocol.RelayedPath {
				code = protocol.ICEFailed
			}
			return code, nil
		}, heard("", "")},
		{protocol.CaptureSilent, nil, heard(protocol.CaptureSilent, "")},
		{protocol.CaptureLoud, nil, heard(protocol.CaptureLoud, "")},
		{protocol.CaptureNoEcho, nil, heard("", protocol.CaptureNoEcho)},
	} {
		t.Run(string(c.code), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				b.robot, b.listen = c.robot, c.listen
				b.start()
				b.runner.Ask()
				pass(SoundEvery + time.Minute)
				if got := b.last().Conditions(); !slices.Equal(got, []protocol.Code{c.code}) {
					t.Errorf("raised %v by %v", got, states(b.last()))
				}
				b.end()
				b.start() // it holds through a restart
				synctest.Wait()
				if got := b.last().Conditions(); !slices.Equal(got, []protocol.Code{c.code}) {
					t.Errorf("after a restart %v", got)
				}
				b.robot, b.listen = nil, heard("", "")
				b.runner.Ask()
				pass(time.Minute)
				if got := b.last().Conditions(); len(got) != 0 {
					t.Errorf("not cleared: %v", got)
				}
				b.end()
			})
		})
	}
}

// TestCrowd: a robot that has no room says nothing of the terminal.
func TestCrowd(t *testing.T) {
	for _, c := range []struct {
		name string
		full int
		want []string
	}{{"for a while", 3, well[:2]}, {"all night", 1 << 20, nil}} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				b.window = &protocol.Window{From: 60, To: 240}
				asked := 0
				b.robot = func(string) (protocol.Code, error) {
					if asked++; asked <= c.full {
						return "", errCrowd
					}
					return "", nil
				}
				b.start()
				pass(5 * time.Hour)
				if got := states(b.runner.Last()); !slices.Equal(got, c.want) {
					t.Errorf("%v", got)
				}
				if asked > 4*60*60/20 {
					t.Errorf("asked %d times", asked)
				}
				b.end()
			})
		})
	}
}

// TestTriedTwice: at night a path that fails is tried once more before anybody is told; who waits for the result is told at once.
func TestTriedTwice(t *testing.T) {
	for _, asked := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t)
			fails := 1
			b.robot = func(string) (code protocol.Code, _ error) {
				if fails--; fails >= 0 {
					code = protocol.ICEFailed
				}
				return code, nil
			}
			if asked {
				b.start()
				b.runner.Ask()
			} else {
				b.window = &protocol.Window{From: 60, To: 240}
				b.start()
			}
			pass(5 * time.Hour)
			p, _ := b.runner.Last().Part("call.direct")
			if paths, _ := b.begun(); (p.State == protocol.CheckFailed) != asked || len(paths) != map[bool]int{true: 2, false: 3}[asked] {
				t.Errorf("asked %v: %+v, %v", asked, p, paths)
			}
			b.end()
		})
	}
}

// TestUnheard: the microphone stays closed where it has to, whoever asks.
func TestUnheard(t *testing.T) {
	for _, c := range []struct {
		name string
		set  func(*bench)
	}{
		{"quiet hours", func(b *bench) { b.quiet = func(time.Time) bool { return true } }},
		{"the shutter is closed", func(b *bench) { b.closed = true }},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				b.window = &protocol.Window{From: 120, To: 240}
				c.set(b)
				b.start()
				b.runner.Ask()
				pass(36 * time.Hour)
				if paths, heard := b.begun(); len(paths) < 4 || len(heard) != 0 {
					t.Errorf("%v, %v", paths, heard)
				}
				b.end()
			})
		})
	}
}

// TestSaidNo: who says no to the chirp does not hear it again that day.
func TestSaidNo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.window = &protocol.Window{From: 120, To: 240}
		b.listen = func(context.Context) ([]protocol.Check, error) {
			return nil, protocol.WithCode(protocol.AnswerDeclined, errors.New("no"))
		}
		b.start()
		pass(23 * time.Hour)
		if _, heard := b.begun(); len(heard) != 1 {
			t.Errorf("%v", heard)
		}
		b.end()
	})
}

// TestHangs: a connection that does not end is no reason to end a terminal, but to rehearse no more.
func TestHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.media.hangs = make(chan struct{})
		b.start()
		b.runner.Ask()
		pass(2 * time.Minute)
		if p, _ := b.last().Part("call.direct"); p.Code != protocol.MediaFailed {
			t.Errorf("%+v", p)
		}
		pass(AskEvery)
		if code := b.runner.Ask(); code != protocol.LinkTooMany {
			t.Errorf("and once more: %q", code)
		}
		close(b.media.hangs)
		b.end()
	})
}

// TestDamaged: a file that says nothing is forgotten.
func TestDamaged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		if err := b.store.Save([]byte("garbage")); err != nil {
			t.Fatal(err)
		}
		b.start()
		synctest.Wait()
		if b.last() != nil {
			t.Errorf("%+v", b.last())
		}
		b.end()
	})
}

// TestSpread: a fleet does not begin at once, and a terminal not at the same time each night; every one does in its window, also when the clocks change.
func TestSpread(t *testing.T) {
	zone, err := time.LoadLocation("Europe/Oslo")
	if err != nil {
		t.Fatal(err)
	}
	for _, date := range []time.Time{time.Date(2027, 1, 15, 0, 0, 0, 0, zone), time.Date(2027, 3, 28, 0, 0, 0, 0, zone), time.Date(2027, 10, 31, 0, 0, 0, 0, zone)} {
		for _, w := range []*protocol.Window{{From: 60, To: 240}, {From: 23 * 60, To: 300}} {
			begin := map[int]int{} // terminals by the quarter of an hour
			for n := range 100 {
				key, began := protocol.KeyHash{byte(n), byte(n >> 8)}, -1
				for minute := 0; minute < 24*60; minute += 5 {
					if calls, _ := due(key, w, nil, date.Add(time.Duration(minute)*time.Minute)); calls {
						began = minute
						break
					}
				}
				if began < 0 {
					t.Fatalf("%v: a terminal that does not rehearse", date)
				}
				begin[began/15]++
			}
			for quarter, n := range begin {
				if n > 100/3 && quarter != 0 { // midnight is in the middle of the second window
					t.Errorf("%v: %d of 100 begin in quarter %d", date, n, quarter)
				}
			}
		}
	}
	one := map[time.Duration]bool{}
	for d := range 30 {
		one[share(protocol.KeyHash{1}, time.Date(2027, 1, d+1, 0, 0, 0, 0, zone), time.Hour)] = true
	}
	if len(one) < 25 {
		t.Errorf("%d different times in 30 nights", len(one))
	}
}
