package panel_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"vindu/device/panel"
	"vindu/device/panel/simulator"
	"vindu/device/panel/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// plug is one end of a line that can be opened again after it was closed.
type plug struct{ net.Conn }

func (p plug) Close() error { return p.SetDeadline(time.Unix(1, 0)) }

// home is a terminal with a panel, in a bubble.
type home struct {
	t      *testing.T
	panel  *panel.Panel
	sim    *simulator.Simulator
	cable  *simulator.Cable
	log    bytes.Buffer
	hung   atomic.Bool
	events panel.Event // all that came
	stop   context.CancelFunc
	done   chan error
}

// start runs both until the test ends, after the panel has come. between stands in the terminal's line.
func start(t *testing.T, logic simulator.Logic, between func(net.Conn) io.ReadWriteCloser) *home {
	here, there := net.Pipe()
	h := &home{t: t, cable: &simulator.Cable{Line: there}, sim: simulator.New(logic, nil), done: make(chan error, 1)}
	h.panel = panel.New(func(context.Context) (io.ReadWriteCloser, error) {
		if err := here.SetDeadline(time.Time{}); err != nil {
			return nil, err
		}
		return between(plug{here}), nil
	}, func() bool { return !h.hung.Load() }, slog.New(slog.NewTextHandler(&h.log, nil)))
	ctx, stop := context.WithCancel(t.Context())
	h.stop = stop
	outlives, end := context.WithCancel(t.Context())
	simulated := make(chan error, 1)
	go func() { simulated <- h.sim.Run(outlives, h.cable) }()
	go func() { h.done <- h.panel.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		end()
		if err := errors.Join(<-h.done, <-simulated); err != nil {
			t.Error(err)
		}
	})
	h.pass(time.Second)
	if h.events&^panel.Opened != panel.Came || !h.panel.State().Open { // a shutter is closed until it has been open for a while
		t.Fatalf("after a second: %b", h.events)
	}
	h.events = 0
	return h
}

func always() bool { return true }

func straight(c net.Conn) io.ReadWriteCloser { return c }

// pass lets time pass and gathers what happens.
func (h *home) pass(d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end); {
		time.Sleep(time.Millisecond) // allowed: of the bubble
		synctest.Wait()
		select {
		case e := <-h.panel.Events():
			h.events |= e
		default:
		}
	}
}

func (h *home) camera() *panel.Lease {
	h.t.Helper()
	l, err := h.panel.Camera(h.t.Context())
	if err != nil {
		h.t.Fatal(err)
	}
	if !h.sim.Outputs().Camera {
		h.t.Fatal("the camera has no power")
	}
	return l
}

func (h *home) lost(l *panel.Lease, why error) {
	h.t.Helper()
	select {
	case <-l.Lost():
		if !errors.Is(l.Err(), why) || (why == nil) != (l.Err() == nil) {
			h.t.Errorf("lost by %v, want %v", l.Err(), why)
		}
	default:
		h.t.Error("the lease holds")
	}
	if h.sim.Outputs().Camera {
		h.t.Error("the camera has power")
	}
}

// TestLease: power while it is held, however long, and none afterwards.
func TestLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, new(simulator.Panel), straight)
		l := h.camera()
		if _, err := h.panel.Camera(t.Context()); !errors.Is(err, panel.ErrBusy) {
			t.Error(err)
		}
		for range 200 {
			h.pass(100 * time.Millisecond)
			if !h.sim.Outputs().Camera {
				t.Fatal("it went dark")
			}
		}
		l.Release()
		l.Release()
		h.pass(50 * time.Millisecond)
		h.lost(l, nil)
		if h.events != 0 {
			t.Errorf("%b", h.events)
		}
		h.camera().Release()
	})
}

// TestHold: the answer button counts as held only after a press in this session, in one piece, after somebody waits for it.
func TestHold(t *testing.T) {
	const long = 3 * time.Second
	down := func(h *home) { h.sim.Change(func(in *simulator.Inputs) { in.Answer = true }) }
	up := func(h *home) { h.sim.Change(func(in *simulator.Inputs) { in.Answer = false }) }
	for _, test := range []struct {
		name    string
		before  func(*home)
		do      func(*home)
		whether bool
	}{
		{"held", nil, func(h *home) { down(h); h.pass(long + 300*time.Millisecond) }, true},
		{"let go too soon", nil, func(h *home) { down(h); h.pass(long - 300*time.Millisecond); up(h); h.pass(long) }, false},
		{"twice half as long", nil, func(h *home) {
			for range 2 {
				down(h)
				h.pass(long - time.Second)
				up(h)
				h.pass(50 * time.Millisecond)
			}
		}, false},
		{"since before", func(h *home) { down(h); h.pass(time.Second) }, func(h *home) { h.pass(2 * long) }, false},
		{"the other button", nil, func(h *home) {
			h.sim.Change(func(in *simulator.Inputs) { in.No = true })
			h.pass(2 * long)
		}, false},
		{"stuck, and the cable is put back", func(h *home) { h.cable.Pull(true); down(h); h.pass(long) }, func(h *home) { h.cable.Pull(false); h.pass(20 * time.Second) }, false},
		{"the cable is out in the middle", nil, func(h *home) {
			down(h)
			h.pass(2 * time.Second)
			h.cable.Pull(true)
			h.pass(2 * time.Second)
			h.cable.Pull(false)
			h.pass(20 * time.Second)
		}, false},
		{"after a first one that was too short", nil, func(h *home) {
			down(h)
			h.pass(time.Second)
			up(h)
			h.pass(time.Second)
			down(h)
			h.pass(long + 300*time.Millisecond)
		}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := start(t, new(simulator.Panel), straight)
				if test.before != nil {
					test.before(h)
				}
				ctx, stop := context.WithCancel(t.Context())
				defer stop()
				held := make(chan error, 1)
				go func() { held <- h.panel.AwaitHold(ctx, long) }()
				h.pass(10 * time.Millisecond)
				test.do(h)
				if (len(held) > 0) != test.whether {
					t.Errorf("held: %v", !test.whether)
				}
				stop()
				if err := <-held; (err == nil) != test.whether {
					t.Error(err)
				}
			})
		})
	}
}

// TestPulled is the cable pulled out in a call: within 2 s the camera has no power, and whoever has it open has been told.
func TestPulled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, new(simulator.Panel), straight)
		h.panel.Show(wire.LampCall)
		l := h.camera()
		h.pass(3 * time.Second)
		h.cable.Pull(true)
		h.pass(2 * time.Second)
		h.lost(l, panel.ErrAway)
		if h.sim.Outputs().Lamp || h.events != panel.Went || h.panel.State() != (panel.State{}) {
			t.Errorf("%v, %b, %+v", h.sim.Outputs(), h.events, h.panel.State())
		}
		if _, err := h.panel.Camera(t.Context()); !errors.Is(err, panel.ErrAway) {
			t.Error(err)
		}
		h.pass(time.Minute)
		h.cable.Pull(false)
		h.pass(30 * time.Second)
		if h.events != panel.Went|panel.Came || !h.sim.Outputs().Lamp || h.sim.Outputs().Camera {
			t.Errorf("%b, %v", h.events, h.sim.Outputs())
		}
		h.camera().Release()
		if n := strings.Count(h.log.String(), "level=WARN"); n != 1 {
			t.Errorf("said %d times:\n%s", n, h.log.String())
		}
	})
}

// TestHung: a terminal in which what runs the call does not get on gives the power back at once, and gets none before it does.
func TestHung(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, new(simulator.Panel), straight)
		h.panel.Show(wire.LampCall)
		l := h.camera()
		h.pass(3 * time.Second)
		h.hung.Store(true)
		h.pass(550 * time.Millisecond)
		h.lost(l, panel.ErrHung)
		if _, err := h.panel.Camera(t.Context()); !errors.Is(err, panel.ErrHung) || h.events != 0 || !h.sim.Outputs().Lamp {
			t.Errorf("%v, %b", err, h.events)
		}
		h.hung.Store(false)
		h.camera().Release()
	})
}

// TestStopped: a terminal whose program ends leaves a camera without power.
func TestStopped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, new(simulator.Panel), straight)
		l := h.camera()
		h.stop()
		h.pass(2 * time.Second)
		h.lost(l, panel.ErrAway)
	})
}

// TestNo: in every state a no is heard within 300 ms, and cuts the power; also on a line that loses two frames of three.
func TestNo(t *testing.T) {
	for _, line := range []struct {
		name    string
		between func(net.Conn) io.ReadWriteCloser
	}{{"a good line", straight}, {"a bad line", func(c net.Conn) io.ReadWriteCloser { return &lossy{Conn: c} }}} {
		for _, state := range []struct {
			name   string
			lamp   panel.Lamp
			camera bool
			denied bool
		}{{"idle", wire.LampOff, false, false}, {"ringing", wire.LampRinging, false, true}, {"in a call without camera", wire.LampCall, false, true}, {"in a call", wire.LampCall, true, true}} {
			t.Run(line.name+", "+state.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					h := start(t, new(simulator.Panel), line.between)
					h.panel.Show(state.lamp)
					var l *panel.Lease
					if state.camera {
						l = h.camera()
					}
					h.pass(2 * time.Second)
					h.sim.Change(func(in *simulator.Inputs) { in.No = true })
					h.pass(300 * time.Millisecond)
					if h.events != panel.No {
						t.Errorf("%b", h.events)
					}
					if l != nil {
						h.lost(l, panel.ErrDenied)
					}
					h.sim.Change(func(in *simulator.Inputs) { in.No = false })
					h.pass(5 * time.Second)
					_, err := h.panel.Camera(t.Context())
					if denied := errors.Is(err, panel.ErrDenied); denied != state.denied {
						t.Errorf("in the same call: %v", err)
					}
					h.panel.Show(wire.LampOff) // it is over
					h.pass(2 * time.Second)
					if h.panel.State().Denied || h.events != panel.No {
						t.Errorf("%+v, %b", h.panel.State(), h.events)
					}
				})
			})
		}
	}
}

// lossy loses two reads of three.
type lossy struct {
	net.Conn
	n int
}

func (l *lossy) Read(b []byte) (int, error) {
	for {
		n, err := l.Conn.Read(b)
		if l.n++; err != nil || l.n%3 == 0 {
			return n, err
		}
	}
}

// TestNoWhileAway: who says no while the line is away is obeyed by the panel at once, and by the terminal as soon as the line is back.
func TestNoWhileAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, new(simulator.Panel), straight)
		h.panel.Show(wire.LampCall)
		l := h.camera()
		h.pass(time.Second)
		h.cable.Pull(true)
		h.sim.Change(func(in *simulator.Inputs) { in.No = true })
		h.pass(50 * time.Millisecond)
		if h.sim.Outputs().Camera {
			t.Error("the panel did not cut the power")
		}
		h.sim.Change(func(in *simulator.Inputs) { in.No = false })
		h.pass(10 * time.Second)
		h.lost(l, panel.ErrAway)
		h.cable.Pull(false)
		h.pass(20 * time.Second)
		if h.events != panel.Went|panel.Came|panel.No {
			t.Errorf("%b", h.events)
		}
	})
}

// TestShutter: closed is dark, here and there, and open is light again when it is asked for.
func TestShutter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, new(simulator.Panel), straight)
		h.panel.Show(wire.LampCall)
		l := h.camera()
		h.sim.Change(func(in *simulator.Inputs) { in.Open = false })
		h.pass(300 * time.Millisecond)
		h.lost(l, panel.ErrShutter)
		if _, err := h.panel.Camera(t.Context()); !errors.Is(err, panel.ErrShutter) || h.events != panel.Closed || h.panel.State().Open {
			t.Errorf("%v, %b", err, h.events)
		}
		h.sim.Change(func(in *simulator.Inputs) { in.Open = true })
		h.pass(time.Second)
		if h.events != panel.Closed|panel.Opened || h.sim.Outputs().Camera {
			t.Errorf("%b, %v", h.events, h.sim.Outputs())
		}
		h.camera().Release()
	})
}

// TestHands: the other things that a person can do.
func TestHands(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, new(simulator.Panel), straight)
		h.sim.Change(func(in *simulator.Inputs) { in.Answer, in.Volume, in.Light = true, 30, 7 })
		h.pass(300 * time.Millisecond)
		h.sim.Change(func(in *simulator.Inputs) { in.Answer = false })
		h.pass(300 * time.Millisecond)
		if s := h.panel.State(); h.events != panel.Answer|panel.Turned || s.Volume != 30 || s.Light != 7 || s.Firmware != simulator.Firmware {
			t.Errorf("%b, %+v", h.events, s)
		}
	})
}

// TestEventsWait: what nobody reads is gathered, and nothing of it is lost.
func TestEventsWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, new(simulator.Panel), straight)
		for _, press := range []func(*simulator.Inputs){
			func(in *simulator.Inputs) { in.No = true }, func(in *simulator.Inputs) { in.No = false },
			func(in *simulator.Inputs) { in.Answer = true }, func(in *simulator.Inputs) { in.Open = false },
		} {
			h.sim.Change(press)
			time.Sleep(time.Second) // allowed: of the bubble
		}
		synctest.Wait()
		if e := <-h.panel.Events(); e != panel.No|panel.Answer|panel.Closed {
			t.Errorf("%b", e)
		}
	})
}

// changed is a panel that is another one from one moment to the next: its microcontroller was reset.
type changed struct{ simulator.Logic }

func (c *changed) reset() { c.Logic = new(simulator.Panel) }

// TestReset: a panel that begins anew in a call has no lease, and the terminal notices.
func TestReset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		logic := &changed{new(simulator.Panel)}
		h := start(t, logic, straight)
		l := h.camera()
		h.sim.Change(func(*simulator.Inputs) { logic.reset() })
		h.pass(2 * time.Second)
		h.lost(l, panel.ErrAway)
		if h.events&^panel.Opened != panel.Went|panel.Came {
			t.Errorf("%b", h.events)
		}
		h.camera().Release()
	})
}

// TestStatusRefused: what another session's status says, one that came before and one that is damaged is nothing; the next one's word counts.
func TestStatusRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		here, there := net.Pipe()
		p := panel.New(func(context.Context) (io.ReadWriteCloser, error) { return here, nil }, always, slog.New(slog.DiscardHandler))
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- p.Run(ctx) }()
		said := make(chan uint32, 64)
		go func() {
			var d wire.Decoder
			for b := make([]byte, 1); ; {
				if _, err := there.Read(b); err != nil {
					return
				}
				if hello, ok := d.Feed(b[0]).(wire.Hello); ok {
					said <- hello.Session
				}
			}
		}()
		session := <-said
		say := func(want panel.Event, frame []byte) {
			t.Helper()
			if _, err := there.Write(frame); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			var got panel.Event
			select {
			case got = <-p.Events():
			default:
			}
			if got != want {
				t.Fatalf("%b, want %b", got, want)
			}
		}
		status := wire.Status{Session: session, Sequence: 250, Open: true, No: 7, Answer: 9, Volume: 50}
		say(panel.Came, status.Append(nil))
		pressed := status
		pressed.No, pressed.Answer, pressed.Denied, pressed.Open = 8, 10, true, false
		say(0, pressed.Append(nil)) // the same number
		pressed.Sequence = 249
		say(0, pressed.Append(nil))
		pressed.Sequence = 250 - 128
		say(0, pressed.Append(nil))
		pressed.Sequence = 3 // it has gone round
		for _, other := range []uint32{0x01020304, session + 1, session ^ 1<<31} {
			foreign := pressed
			foreign.Session = other
			say(0, foreign.Append(nil))
		}
		damaged := pressed.Append(nil)
		damaged[5] ^= 1
		say(0, damaged)
		say(panel.No|panel.Answer|panel.Closed, pressed.Append(nil))
		stop()
		there.Close()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// TestNone: without a panel a terminal goes on, and says so once.
func TestNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		opened := 0
		p := panel.New(func(context.Context) (io.ReadWriteCloser, error) {
			opened++
			return nil, errors.New("nothing is plugged in")
		}, always, slog.New(slog.NewTextHandler(&log, nil)))
		ctx, stop := context.WithTimeout(t.Context(), time.Hour)
		defer stop()
		if err := p.Run(ctx); err != nil {
			t.Error(err)
		}
		if n := strings.Count(log.String(), "\n"); n != 1 || !strings.Contains(log.String(), "nothing is plugged in") {
			t.Errorf("%s", log.String())
		}
		if opened < 150 || opened > 600 { // 15 s, give or take the half
			t.Errorf("tried %d times in an hour", opened)
		}
		if _, err := p.Camera(t.Context()); !errors.Is(err, panel.ErrAway) {
			t.Error(err)
		}
	})
}

// noisy has noise between what comes: as much as a line of this speed carries, now and then with zeros.
type noisy struct {
	net.Conn
	rand *rand.Rand
	only bool // nothing but noise
}

func (n *noisy) Read(b []byte) (int, error) {
	if !n.only && n.rand.IntN(2) == 0 {
		return n.Conn.Read(b)
	}
	time.Sleep(20 * time.Millisecond) // allowed: of the bubble
	size := min(wire.Baud/10/50, len(b))
	for i := range size {
		b[i] = byte(n.rand.Uint32())
		if n.rand.IntN(16) == 0 {
			b[i] = 0
		}
	}
	if !n.only {
		b[0] = 0 // so that what comes next begins anew: the frame's own zero may be the noise's
	}
	return size, nil
}

// TestNoise is ten minutes of it: among frames, and alone. Nobody has pressed anything.
func TestNoise(t *testing.T) {
	t.Run("among frames", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			noise := rand.New(rand.NewPCG(3, 4))
			h := start(t, new(simulator.Panel), func(c net.Conn) io.ReadWriteCloser { return &noisy{Conn: c, rand: noise} })
			for range 600 {
				time.Sleep(time.Second) // allowed: of the bubble
				synctest.Wait()
				select {
				case e := <-h.panel.Events():
					if e&^(panel.Went|panel.Came) != 0 {
						t.Fatalf("noise is %b", e)
					}
				default:
				}
			}
		})
	})
	t.Run("alone", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			noise := rand.New(rand.NewPCG(5, 6))
			p := panel.New(func(context.Context) (io.ReadWriteCloser, error) {
				here, there := net.Pipe()
				t.Cleanup(func() { there.Close() })
				go func() { _, _ = io.Copy(io.Discard, there) }()
				return &noisy{Conn: here, rand: noise, only: true}, nil
			}, always, slog.New(slog.DiscardHandler))
			ctx, stop := context.WithTimeout(t.Context(), 10*time.Minute)
			defer stop()
			if err := p.Run(ctx); err != nil {
				t.Error(err)
			}
			select {
			case e := <-p.Events():
				t.Errorf("noise is %b", e)
			default:
			}
		})
	})
}
