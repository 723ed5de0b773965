package call

import (
	"context"
	"fmt"
	"slices"
	"time"

	"vindu/protocol"
)

// guest is one who joined a call that runs.
type guest struct {
	proof  *Proof
	offer  protocol.SDP
	ice    []protocol.ICEServer // those that the clinic's authorisation key has signed for
	lapses time.Time            // the authorisation, by the monotonic clock
}

// roster is who takes part: the caller, and those who have joined.
func (c *current) roster(joined Places) []protocol.Party {
	parties := c.inv.Parties
	for place, g := range c.guests {
		if g != nil && joined.Has(uint8(place)) {
			parties = append(parties[:len(parties):len(parties)], g.proof.Invitation.Parties...)
		}
	}
	return parties
}

// joinable tells whether another may take part in the call that runs: somebody talks, by a passkey, in a session that more can take part in.
func (r *Runner) joinable() bool {
	_, ok := r.cur.session.(Conference)
	return ok && r.state.Phase == Talking && r.cur.proof.Authorisation != nil
}

// join lets another take part in the call that runs, who has proven it as the caller has: by a passkey, an authorisation for this home, and an invitation of the
// own to this very call. Nothing is kept of one that is not proven.
func (r *Runner) join(invite *protocol.Invite) {
	call, now := r.cur.call, r.c.Now()
	place := uint8(0)
	for i, g := range r.cur.guests {
		if g == nil && i > 0 && place == 0 {
			place = uint8(i)
		}
	}
	proof, code, err := r.prove(call, invite, time.Time{}, now)
	switch {
	case err != nil:
	case proof.Authorisation == nil:
		code = protocol.AuthUnproven // of a robot, who calls by itself
	case r.cur.shows(proof.Invitation.Caller):
		code = protocol.AuthFingerprint // who leaves could not be told from who stays
	}
	if code != "" {
		r.notice(code, call, "invitation to join")
		return
	}
	decision := r.c.Policy.Decide(proof, now)
	if place == 0 || decision.Decision != protocol.Ringing || decision.Ask {
		r.c.Log.Info("not let into the call that runs", "call", call, "decision", decision.Decision, "ask", decision.Ask, "room", place != 0)
		return
	}
	ice, unknown := protocol.KnownServers(invite.ICE, r.relays())
	if unknown > 0 {
		r.notice(protocol.AuthRelay, call, "invitation to join")
	}
	g := &guest{proof: proof, offer: invite.Offer, ice: ice, lapses: time.Now().Add(proof.Authorisation.To.Time().Sub(now))}
	r.cur.guests[place] = g
	r.apply(Joins{call, place})
}

// shows tells whether somebody who takes part has this certificate.
func (c *current) shows(f protocol.Fingerprint) bool {
	return f == c.inv.Caller || slices.ContainsFunc(c.guests[:], func(g *guest) bool { return g != nil && g.proof.Invitation.Caller == f })
}

// leaver returns the place of the one who has proven to leave; 0: nobody who joined.
func (r *Runner) leaver(signed []byte) uint8 {
	for place, g := range r.cur.guests {
		if g == nil {
			continue
		}
		end, err := r.c.Prover.End(signed, g.proof)
		if err == nil && end.Call == r.cur.call && end.Invitation == g.proof.Hash && end.Terminal == g.proof.Invitation.Terminal {
			return uint8(place)
		}
	}
	return 0
}

// lapseGuests has those leave whose authorisation is over, by the clock or since they joined.
func (r *Runner) lapseGuests() {
	for place, g := range r.cur.guests {
		if g != nil && (time.Until(g.lapses) <= 0 || !r.c.Now().Before(g.proof.Authorisation.To.Time())) {
			r.apply(Leaves{r.cur.call, uint8(place)})
		}
	}
}

func (r *Runner) admit(place uint8) {
	cur, g := r.cur, r.cur.guests[place]
	inv := g.proof.Invitation
	offer := Offer{
		Call: cur.call, SDP: g.offer, Remote: inv.Caller, ICE: g.ice, RelayOnly: inv.RelayOnly, Parties: inv.Parties, Volume: cur.policy.Volume, Ledger: cur.ledger,
	}
	ctx := cur.during()
	r.c.Log.Info("another joins the call", "call", cur.call, "place", place)
	r.wg.Go(func() { r.post(joinDone{cur, place, g, cur.session.(Conference).Join(ctx, offer)}) })
}

// dismiss ends that one takes part. It promises an answer within closeLimit, whatever the session does.
func (r *Runner) dismiss(place uint8) {
	cur, g := r.cur, r.cur.guests[place]
	ctx, cancel := context.WithTimeout(cur.during(), closeLimit)
	result := make(chan error, 1)
	go func() { result <- cur.session.(Conference).Leave(ctx, g.proof.Invitation.Caller) }() // not waited for: if it hangs, the call ends
	r.wg.Go(func() {
		defer cancel()
		var err error
		select {
		case err = <-result:
		case <-ctx.Done():
			err = fmt.Errorf("still takes part: %w", ctx.Err())
		}
		r.post(leaveDone{cur, place, g, err})
	})
}

// joined handles what came of Admit.
func (r *Runner) joined(m joinDone) {
	if m.cur != r.cur || m.cur.guests[m.place] != m.guest || m.err == nil || r.state.Leaving.Has(m.place) {
		return
	}
	r.c.Log.Warn("who joins cannot take part", "call", m.cur.call, "place", m.place, "error", m.err)
	r.apply(Leaves{m.cur.call, m.place}) // whatever was begun is ended, too
}

// left handles what came of Dismiss. Where it is not certain that nothing goes to them any more, the call ends for all.
func (r *Runner) left(m leaveDone) {
	if m.cur != r.cur || m.cur.guests[m.place] != m.guest {
		return
	}
	if m.err != nil {
		r.fail(m.cur, "leave", m.err, protocol.MediaFailed)
		return
	}
	r.apply(Left{m.cur.call, m.place})
	m.cur.guests[m.place] = nil
	r.c.Log.Info("one who had joined has left", "call", m.cur.call, "place", m.place)
}
