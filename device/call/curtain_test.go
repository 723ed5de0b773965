package call_test

import (
	"crypto/ecdsa"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"vindu/device/call"
	"vindu/device/call/calltest"
	"vindu/protocol"
)

// draws is what a caller says of a curtain, signed by whatever key.
func (x *terminal) draws(invite *protocol.CallIn, number uint32, drawn bool, key *ecdsa.PrivateKey, change ...func(*protocol.Curtain)) *protocol.CallIn {
	x.t.Helper()
	c := &protocol.Curtain{
		Version: protocol.Version, Call: invite.Call, Terminal: x.clinic.Self, Invitation: protocol.HashOf(invite.Invite.Invitation), By: protocol.SideCaller, Drawn: drawn,
		Number: number, At: protocol.At(time.Now()),
	}
	for _, f := range change {
		f(c)
	}
	signed, err := protocol.Sign(c, key)
	if err != nil {
		x.t.Fatal(err)
	}
	return &protocol.CallIn{Version: protocol.Version, Call: invite.Call, Kind: protocol.KindCurtain, Curtain: &protocol.CallCurtain{Curtain: signed}}
}

// curtain is what the terminal said last of the own, verified; nil: nothing yet.
func (x *terminal) curtain() (last *protocol.Curtain, number int) {
	x.t.Helper()
	for _, m := range x.sender.Sent() {
		if m.Kind != protocol.KindCurtain {
			continue
		}
		last = new(protocol.Curtain)
		if err := protocol.Verify(m.Curtain.Curtain, &x.clinic.Terminal.PublicKey, last); err != nil {
			x.t.Fatal(err)
		}
		if number++; last.Number != uint32(number) || last.Call != m.Call || last.By != protocol.SideTerminal {
			x.t.Errorf("curtain %d is %+v", number, last)
		}
	}
	return last, number
}

func (x *terminal) looks(what string, s *calltest.Session, open bool, drawn call.Curtains, lifting bool) {
	x.t.Helper()
	last := x.view.Last()
	if s.IsOpen(call.Camera) != open || s.IsOpen(call.Microphone) != open || last.Scene != call.SceneInCall || last.Drawn != drawn || last.Lifting != lifting {
		x.t.Errorf("%s: camera open %v, microphone %v, shown %+v", what, s.IsOpen(call.Camera), s.IsOpen(call.Microphone), last)
	}
}

// TestCurtains: either end closes camera and microphone at once; they come back when neither's is drawn, and not before that was shown for a while. All of it is on
// the ledger, and told the caller signed.
func TestCurtains(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newTerminal(t)
		x.start()
		m, s := x.talk()
		x.looks("talking", s, true, 0, false)
		x.deliver(x.draws(m, 1, true, x.clinic.Caller))
		x.looks("drawn by the caller", s, false, call.DrawnByCaller, false)
		if err := s.OpenDevice(call.Camera); err == nil {
			t.Error("the ledger allows an opening behind a curtain")
		}
		if c, n := x.curtain(); n != 1 || c.Drawn || c.CameraClosed == 0 || c.MicrophoneClosed == 0 {
			t.Errorf("told %d times, %+v", n, c)
		}
		x.run.Curtain()
		synctest.Wait()
		x.looks("drawn by both", s, false, call.DrawnByCaller|call.DrawnByPatient, false)
		x.deliver(x.draws(m, 2, false, x.clinic.Caller))
		x.wait(time.Minute)
		x.looks("opened by the caller alone", s, false, call.DrawnByPatient, false)
		x.run.Curtain()
		synctest.Wait()
		x.looks("opened by both", s, false, 0, true)
		chimes := s.Chimes()
		x.deliver(x.draws(m, 3, true, x.clinic.Caller))
		x.wait(time.Minute)
		x.looks("drawn again before it opened", s, false, call.DrawnByCaller, false)
		x.deliver(x.draws(m, 4, false, x.clinic.Caller))
		x.wait(call.LiftAfter - time.Millisecond)
		x.looks("just before it opens", s, false, 0, true)
		x.wait(time.Millisecond)
		x.looks("open", s, true, 0, false)
		if chimes != 1 || s.Chimes() != 2 {
			t.Errorf("%d chimes, then %d", chimes, s.Chimes())
		}
		if c, _ := x.curtain(); c.Drawn || c.CameraClosed != 0 || c.MicrophoneClosed != 0 {
			t.Errorf("told at last %+v", c)
		}
		var cameras []bool
		for _, o := range calltest.Events[*protocol.Opening](x.outbox) {
			if o.Device == string(call.Camera) {
				cameras = append(cameras, o.Open)
			}
		}
		equal(t, "the camera on the ledger", cameras, []bool{true, false, true})
		x.run.Curtain()
		synctest.Wait()
		x.run.HangUp()
		synctest.Wait()
		if last := x.view.Last(); last.Scene != call.SceneEnded || last.Drawn != 0 {
			t.Errorf("after a hang-up behind a curtain: %+v", last)
		}
		if err := x.end(); err != nil {
			t.Error(err)
		}
	})
}

// TestCurtainDrawnBefore: behind a caller's curtain that is drawn while it rings nothing is ever opened; camera and microphone open for the first time after it does. A press is no
// curtain while it rings.
func TestCurtainDrawnBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newTerminal(t)
		x.start()
		m, s := x.invite()
		x.run.Curtain()
		x.deliver(x.draws(m, 1, true, x.clinic.Caller))
		x.say(s, call.MediaConnected)
		x.say(s, call.MediaSeen)
		x.wait(5 * time.Second)
		x.looks("answered", s, false, call.DrawnByCaller, false)
		if opened := calltest.Events[*protocol.Opening](x.outbox); len(opened) != 0 || !x.view.Last().Closed {
			t.Errorf("behind the curtain %d openings are on the ledger, shown %+v", len(opened), x.view.Last())
		}
		if c, n := x.curtain(); n != 1 || c.Drawn || c.CameraClosed == 0 {
			t.Errorf("told %d times, %+v", n, c)
		}
		x.deliver(x.draws(m, 2, false, x.clinic.Caller))
		x.wait(call.LiftAfter - time.Millisecond)
		x.looks("just before it opens", s, false, 0, true)
		x.wait(time.Millisecond)
		x.looks("open", s, true, 0, false)
		x.deliver(x.draws(m, 3, true, x.clinic.Caller))
		x.looks("drawn again", s, false, call.DrawnByCaller, false)
		_ = x.end()
	})
}

// TestCurtainWhileOpening: whoever draws while camera and microphone are being opened has them closed at once, and need not wait for a slow driver.
func TestCurtainWhileOpening(t *testing.T) {
	for _, by := range []call.Curtains{call.DrawnByPatient, call.DrawnByCaller} {
		synctest.Test(t, func(t *testing.T) {
			x := newTerminal(t)
			hold := make(chan struct{})
			x.media.NewSession = func(s *calltest.Session) { s.HoldOpen = hold }
			x.start()
			m, s := x.invite()
			x.say(s, call.MediaConnected)
			x.say(s, call.MediaSeen)
			x.wait(5 * time.Second)
			if !s.IsOpen(call.Camera) || s.IsOpen(call.Microphone) || x.view.Last().Scene != call.SceneInCall {
				t.Fatal("it is not being opened")
			}
			toggle := func(number uint32, drawn bool) {
				if by == call.DrawnByCaller {
					x.deliver(x.draws(m, number, drawn, x.clinic.Caller))
					return
				}
				x.run.Curtain()
				synctest.Wait()
			}
			toggle(1, true)
			x.looks("drawn", s, false, by, false)
			close(hold)
			synctest.Wait()
			x.looks("the driver has come back", s, false, by, false)
			toggle(2, false)
			x.wait(call.LiftAfter)
			x.looks("open", s, true, 0, false)
			_ = x.end()
		})
	}
}

// TestHostileCurtains: nobody draws or opens a curtain but its own end, once for each time that it says so.
func TestHostileCurtains(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newTerminal(t)
		x.start()
		m, s := x.talk()
		draw, open := x.draws(m, 7, true, x.clinic.Caller), x.draws(m, 6, false, x.clinic.Caller)
		tries := map[string]*protocol.CallIn{
			"an older one":                    open,
			"signed by the clinic's server":   x.draws(m, 100, false, x.clinic.Service),
			"signed by the terminal":          x.draws(m, 100, false, x.clinic.Terminal),
			"of the terminal's side":          x.draws(m, 100, false, x.clinic.Caller, func(c *protocol.Curtain) { c.By = protocol.SideTerminal }),
			"about another call":              x.draws(m, 100, false, x.clinic.Caller, func(c *protocol.Curtain) { c.Call[0] ^= 1 }),
			"about another invitation":        x.draws(m, 100, false, x.clinic.Caller, func(c *protocol.Curtain) { c.Invitation[0] ^= 1 }),
			"about another terminal":          x.draws(m, 100, false, x.clinic.Caller, func(c *protocol.Curtain) { c.Terminal[0] ^= 1 }),
			"that is an end":                  {Version: protocol.Version, Call: m.Call, Kind: protocol.KindCurtain, Curtain: &protocol.CallCurtain{Curtain: x.clinic.HangUp(t, m, protocol.EndCallerHungUp).HangUp.End}},
			"of nothing":                      {Version: protocol.Version, Call: m.Call, Kind: protocol.KindCurtain, Curtain: &protocol.CallCurtain{Curtain: []byte{0xd2}}},
			"the same again, after an opened": draw,
		}
		x.deliver(draw)
		for name, try := range tries {
			x.deliver(try)
			x.wait(2 * call.LiftAfter)
			x.looks(name, s, false, call.DrawnByCaller, false)
		}
		x.deliver(x.draws(m, 8, false, x.clinic.Caller))
		x.wait(call.LiftAfter)
		x.deliver(draw)
		x.looks("an old draw", s, true, 0, false)
		_ = x.end()
	})
}

// TestCurtainThatHangs: a device that does not close behind a curtain ends the program, and so closes; one that only takes its time is waited for.
func TestCurtainThatHangs(t *testing.T) {
	for name, spoil := range map[string]func(*calltest.Session){
		"hangs": func(s *calltest.Session) { s.HoldCurtain = make(chan struct{}) }, "forgets the camera": func(s *calltest.Session) { s.Forget = true },
	} {
		synctest.Test(t, func(t *testing.T) {
			x := newTerminal(t)
			x.start()
			_, s := x.talk()
			spoil(s)
			x.run.Curtain()
			x.wait(3 * time.Second)
			select {
			case err := <-x.err:
				if !errors.Is(err, call.ErrDeviceStuck) {
					t.Errorf("%s: %v", name, err)
				}
			default:
				t.Errorf("%s: the program goes on", name)
				defer x.end()
			}
			if s.HoldCurtain != nil {
				close(s.HoldCurtain)
			}
			s.Close(t.Context())
		})
	}
}
