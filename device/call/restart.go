package call

import (
	"context"
	"errors"
	"fmt"

	"vindu/protocol"
)

// restarts are what has become of the caller's offers for another path in a call.
type restarts struct {
	heard   int          // that came, whoever sent them
	number  uint64       // of the one that was taken last
	offer   protocol.SDP // its
	runs    bool         // the session is answering it
	doubted bool         // some were not the caller's, and that was told
}

var errOneAtATime = errors.New("the one before is still being answered")

// restart takes an offer for another path that the caller has signed for this call, and no other: nobody in between has this terminal look for paths, or give up the
// one that it has. What is not newer than what was taken says nothing.
func (r *Runner) restart(m *protocol.CallRestart) {
	cur := r.cur
	if cur.restarts.heard++; cur.restarts.heard > 2*protocol.MaxRestarts {
		return
	}
	key, err := protocol.ParseKey(cur.inv.Key)
	var said *protocol.Restart
	if err == nil {
		said, err = protocol.VerifyRestart(m.Restart, key, protocol.SideCaller, cur.call, r.c.Self, cur.hash, m.SDP, cur.restarts.number)
	}
	if err != nil {
		r.complain(protocol.AuthUnproven, cur.call, "restart that is not the caller's", err)
		if !cur.restarts.doubted { // once is enough: the call goes on
			cur.restarts.doubted = true
			r.notice(protocol.AuthUnproven, cur.call, "restart")
		}
		return
	}
	if cur.restarts.runs {
		r.c.Log.Info("another path is not looked for", "call", cur.call, "number", said.N, "error", errOneAtATime)
		return
	}
	cur.restarts.number, cur.restarts.offer = said.N, m.SDP
	cur.statements = 0 // it has candidates of its own
	r.apply(Moved{cur.call})
}

// move has the session answer the offer for another path.
func (r *Runner) move() {
	cur := r.cur
	session, ok := cur.session.(Movable)
	if !ok {
		r.c.Log.Warn("another path is not looked for: the session cannot", "call", cur.call)
		return
	}
	number, offer := cur.restarts.number, cur.restarts.offer
	cur.restarts.runs = true
	cur.stage("restart", r.c.Now())
	ctx, cancel := context.WithTimeout(cur.during(), MoveLimit)
	r.wg.Go(func() {
		defer cancel()
		sdp, err := session.Restart(ctx, offer)
		r.post(moveDone{cur, number, sdp, err})
	})
}

// moved sends the session's answer, signed. An offer that the session refuses changes nothing, unless it shows that this is somebody else.
func (r *Runner) moved(m moveDone) {
	if m.cur != r.cur || r.state.Phase == Ending {
		return
	}
	cur := m.cur
	cur.restarts.runs = false
	early := cur.early
	cur.early = nil
	if m.err != nil {
		if me, ok := errors.AsType[*MediaError](m.err); ok && hostile(me.Code) {
			r.fail(cur, "restart", m.err, me.Code)
			return
		}
		r.c.Log.Warn("offer for another path not taken", "call", cur.call, "number", m.number, "error", m.err)
		return
	}
	if err := r.sendRestart(cur, m); err != nil {
		r.c.Log.Error("another path not answered: the terminal's key cannot sign", "call", cur.call, "error", err)
		return
	}
	for _, c := range early {
		r.addCandidate(c)
	}
}

func (r *Runner) sendRestart(cur *current, m moveDone) error {
	signed, err := protocol.Sign(&protocol.Restart{
		Version: protocol.Version, Call: cur.call, Terminal: r.c.Self, Invitation: cur.hash, By: protocol.SideTerminal, N: m.number, SDP: protocol.HashOf(m.sdp),
		At: protocol.At(r.c.Now()),
	}, r.c.Signer)
	if err != nil {
		return fmt.Errorf("sign restart: %w", err)
	}
	r.sender.send(&protocol.CallOut{
		Version: protocol.Version, Call: cur.call, Kind: protocol.KindRestart, Restart: &protocol.CallRestart{Restart: signed, SDP: m.sdp},
	})
	return nil
}
