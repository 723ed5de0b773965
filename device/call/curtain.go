package call

import (
	"context"
	"crypto/ecdsa"
	"errors"
	"fmt"
	"time"

	"vindu/protocol"
)

// Curtains are whose curtains are drawn. While any is, nobody sees and nobody hears anybody; each end opens its own alone.
type Curtains uint8

const (
	DrawnByPatient Curtains = 1 << iota
	DrawnByCaller
)

// curtain draws and opens curtains. Before the answer only the caller's can be drawn: a press is a no then.
func curtain(s State, e Event) (State, []Effect) {
	switch e := e.(type) {
	case Curtained:
		whose, effects := DrawnByCaller, []Effect(nil)
		switch e.By {
		case ByPatient:
			whose, effects = DrawnByPatient, []Effect{SendCurtain{}}
		case ByTerminal:
			return s, nil
		case ByCaller:
		}
		drawn := s.Drawn &^ whose
		if e.Drawn {
			drawn |= whose
		}
		if drawn == s.Drawn || whose == DrawnByPatient && !s.Answered {
			return s, nil
		}
		s.Drawn = drawn
		if !s.Answered {
			return s, nil // nothing is open, and nothing opens while it is drawn
		}
		return settle(s, effects...)
	case Blanked:
		if !s.Blanking {
			return s, nil
		}
		s.Phase, s.Blanking, s.Blanked = Talking, false, e.Closed
		return settle(s, SendCurtain{})
	}
	return s, nil
}

// enter is what becomes of camera and microphone when the call is answered: they are opened, unless a curtain was drawn while it rang. Then they stay closed, and open when it does.
func enter(s State) (State, Effect) {
	if s.Drawn != 0 {
		s.Blanking = true
		return s, Blank{}
	}
	s.Open = true
	return s, Open{}
}

// settle has camera and microphone follow the curtains, one change at a time: what comes while they are being closed or opened is looked at when that is done.
func settle(s State, effects ...Effect) (State, []Effect) {
	effects = append([]Effect{inCall(s)}, effects...)
	switch {
	case s.Blanking:
	case s.Drawn != 0 && !s.Blanked:
		s.Blanking = true
		effects = append(effects, Blank{})
	case s.Drawn != 0:
		effects = append(effects, Stop{TimerCurtain})
	case s.Blanked:
		effects = append(effects, Chime{}, Start{TimerCurtain, LiftAfter})
	case !s.Open && s.Connected: // for the first time; where the path is lost just now, when there is one again
		s.Open = true
		effects = append(effects, Open{})
	}
	return s, effects
}

// lifting tells whether camera and microphone are about to come back.
func lifting(s State) bool { return s.Drawn == 0 && s.Blanked }

// inCall is the scene of a call that runs.
func inCall(s State) Show {
	return Show{Scene: SceneInCall, Drawn: s.Drawn, Closed: s.Blanked && !s.Blanking, Lifting: lifting(s)}
}

// curtains are what a call's statements have said of them.
type curtains struct {
	number uint32    // of the terminal's last
	heard  uint32    // of the caller's last
	closed time.Time // since when camera and microphone are closed for one; zero: they are not
}

// blankLimit is in which camera and microphone have to be closed for a curtain. One that is not ends the process, as at a call's end.
const blankLimit = 2 * time.Second

// curtained takes what the caller says of the own curtain. What is not newer than what was heard says nothing: whoever has the broker can send it again.
func (r *Runner) curtained(m *protocol.CallIn) {
	c := new(protocol.Curtain)
	err := verifyBy([][]byte{r.cur.inv.Key}, func(key *ecdsa.PublicKey) error {
		c = new(protocol.Curtain)
		return protocol.Verify(m.Curtain.Curtain, key, c)
	})
	switch {
	case err != nil:
	case c.By != protocol.SideCaller:
		err = fmt.Errorf("a curtain of the %s, signed by the key of the caller: %w", c.By, protocol.ErrSignature)
	case c.Call != r.cur.call || c.Invitation != r.cur.hash || c.Terminal != r.cur.inv.Terminal:
		err = errors.New("it is about another call")
	case c.Number <= r.cur.curtains.heard:
		err = errReplayed
	}
	if err != nil {
		r.complain(protocol.AuthUnproven, m.Call, "curtain that is not proven", err)
		r.notice(protocol.AuthUnproven, m.Call, "curtain")
		return
	}
	r.cur.curtains.heard = c.Number
	r.apply(Curtained{m.Call, ByCaller, c.Drawn})
}

// blank closes camera and microphone for a curtain, or opens them again.
func (r *Runner) blank(closed bool) {
	cur := r.cur
	session, ok := cur.session.(Veiled)
	if !ok || cur.answer.IsZero() { // not signed, as in open
		r.todo = append(r.todo, Failed{cur.call, protocol.MediaFailed})
		return
	}
	cur.ledger.allow(!closed)
	if cur.veiling == nil {
		cur.veiling = cur.during()
	}
	ctx, cancel := context.WithTimeout(cur.veiling, blankLimit)
	r.wg.Go(func() {
		defer cancel()
		result := make(chan error, 1)
		go func() { result <- session.Curtain(ctx, closed) }() // not waited for: if it hangs, the process ends
		var err error
		select {
		case err = <-result:
		case <-ctx.Done():
			err = ctx.Err()
		}
		if closed {
			err = errors.Join(err, cur.ledger.open())
		}
		r.post(blankDone{cur, closed, err})
	})
}

func (r *Runner) blanked(m blankDone) {
	if m.cur != r.cur || r.state.Phase == Ending { // Close has closed, or closes
		return
	}
	switch {
	case m.err != nil && m.closed:
		r.stuck = fmt.Errorf("call %s: behind a curtain: %w: %w", m.cur.call, ErrDeviceStuck, m.err)
		if err := r.memory.stuck(protocol.CaptureCameraStuck); err != nil {
			r.c.Log.Error("cannot note why the program ends", "error", err)
		}
		return
	case m.err != nil:
		r.fail(m.cur, "open a curtain", m.err, protocol.MediaFailed)
		return
	case m.closed:
		m.cur.curtains.closed = r.c.Now()
	default:
		m.cur.curtains.closed = time.Time{}
	}
	r.apply(Blanked{m.cur.call, m.closed})
}

func (r *Runner) sendCurtain(now time.Time) {
	cur := r.cur
	cur.curtains.number++
	c := &protocol.Curtain{
		Version: protocol.Version, Call: cur.call, Terminal: r.c.Self, Invitation: cur.hash, By: protocol.SideTerminal, Drawn: r.state.Drawn&DrawnByPatient != 0,
		Number: cur.curtains.number, CameraClosed: protocol.At(cur.curtains.closed), MicrophoneClosed: protocol.At(cur.curtains.closed), At: protocol.At(now),
	}
	signed, err := protocol.Sign(c, r.c.Signer)
	if err != nil {
		r.c.Log.Error("curtain not told: the terminal's key cannot sign", "call", cur.call, "error", err)
		return
	}
	r.sender.send(&protocol.CallOut{Version: protocol.Version, Call: cur.call, Kind: protocol.KindCurtain, Curtain: &protocol.CallCurtain{Curtain: signed}})
}
