package call

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"vindu/protocol"
)

// current is the call that runs. The owner's goroutine alone touches it, except where a field says otherwise.
type current struct {
	call       protocol.CallID
	invite     *protocol.Invite
	hash       protocol.Hash // of the invitation's bytes
	proof      *Proof
	policy     Decision
	lapses     time.Time            // the authorisation, by the monotonic clock
	inv        *protocol.Invitation // proof's
	other      *protocol.Invite     // of another caller, while it is refused
	began      time.Time
	ended      time.Time // when the end was decided
	answer     time.Time // when "answered" was signed and sent; nothing opens before
	stages     []protocol.StageTime
	early      []protocol.Candidate
	number     uint64 // of the candidates that were taken last
	statements int    // with candidates that came, whoever sent them
	doubted    bool   // some were not the caller's, and that was told
	restarts   restarts
	session    Session

	cancels    []context.CancelFunc // of Prepare and Open
	preparing  Session              // written by Prepare's goroutine before prepareEnd is closed
	prepareEnd chan struct{}        // nil if nothing was prepared
	openEnd    chan struct{}        // nil if nothing was opened
	ledger     *ledger              // nil if nothing was prepared

	curtains curtains
	veiling  context.Context // of every change of them; made by the first

	guests [protocol.MaxParties]*guest // who joined, by their place; the first is nobody's
}

// during returns a context that ends with the call.
func (c *current) during() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	c.cancels = append(c.cancels, cancel)
	return ctx
}

func (c *current) cancel() {
	for _, cancel := range c.cancels {
		cancel()
	}
}

func (c *current) stage(name string, at time.Time) {
	if len(c.stages) < 32 {
		c.stages = append(c.stages, protocol.StageTime{Stage: name, After: millis(at.Sub(c.began))})
	}
}

func millis(d time.Duration) uint64 { return uint64(max(d, 0).Milliseconds()) }

// fits checks that a proven end is about this call.
func (c *current) fits(end *protocol.End) error {
	if end.Call != c.call || end.Invitation != c.hash || end.Terminal != c.inv.Terminal {
		return errors.New("it is about another call")
	}
	return nil
}

// code is what both ends show, as soon as it is known which certificate this end shows.
func (c *current) code() string {
	if c.session == nil {
		return ""
	}
	return protocol.CallCode(c.hash, c.session.Key())
}

// lapseLook is how often it is looked whether an authorisation is over: the terminal's clock may be put right while a call runs.
const lapseLook = 2 * time.Second

// lapsesIn is how long the authorisation of the running call still lasts, by the clock or since it was proven, whichever ends first.
func (r *Runner) lapsesIn() time.Duration {
	return min(time.Until(r.cur.lapses), r.cur.proof.Authorisation.To.Time().Sub(r.c.Now()))
}

// do carries one effect out. What takes time does so in a goroutine that posts its result.
func (r *Runner) do(e Effect) {
	now := r.c.Now()
	switch e := e.(type) {
	case Verify:
		r.verify(now)
	case RefuseBusy:
		r.refuseBusy(e.Call, now)
	case Refuse:
		r.refuse(r.cur.call, e.Code)
		r.cur = nil
	case Decline:
		r.sendAnswer(r.cur.call, r.cur.hash, e.Decision, nil)
	case Prepare:
		r.prepare()
	case SendRinging:
		if !r.sendAnswer(r.cur.call, r.cur.hash, protocol.Ringing, r.cur.session) {
			r.todo = append(r.todo, Failed{r.cur.call, protocol.AnswerTimeout})
			return
		}
		r.cur.stage("ringing", now)
	case SendAnswered:
		if r.sendAnswer(r.cur.call, r.cur.hash, protocol.Answered, r.cur.session) {
			r.c.Log.Info("call answered", "call", r.cur.call)
			r.cur.answer = now
			r.cur.stage("answered", now)
		}
	case Open:
		r.open()
	case Move:
		r.move()
	case Admit:
		r.admit(e.Place)
	case Dismiss:
		r.dismiss(e.Place)
	case Chime:
		if c, ok := r.cur.session.(interface{ Chime() }); ok {
			c.Chime()
		}
	case Blank:
		r.blank(true)
	case Unblank:
		r.blank(false)
	case SendCurtain:
		r.sendCurtain(now)
	case Close:
		r.cur.ended = now
		r.close()
	case Finish:
		r.finish(e, now)
		r.cur = nil
	case Ring:
		if e.On {
			r.c.Bell.Start(r.cur.policy.Ring, r.cur.policy.Notice)
		} else {
			r.c.Bell.Stop()
		}
	case Show:
		s := Status{Scene: e.Scene, Drawn: e.Drawn, Closed: e.Closed, Lifting: e.Lifting, Reason: e.Reason}
		if e.Scene != SceneReady {
			s.Call, s.Parties, s.Errand, s.Urgent = r.cur.call, r.cur.roster(r.state.Joined), r.cur.inv.Errand, r.cur.policy.Urgent
			if e.Scene != SceneEnded {
				s.Code = r.cur.code()
			}
			if e.Scene == SceneInCall && r.status.Call == s.Call {
				s.Conditions = r.status.Conditions
			}
		}
		if e.Scene == SceneRinging && e.AnswersIn > 0 && r.cur.policy.Notice > 0 {
			s.Notice, s.NoticeEnds = r.cur.policy.Notice, now.Add(r.cur.policy.Notice)
		}
		switch {
		case e.Ask:
			s.Ask, s.TakeBy = true, now.Add(e.AnswersIn)
		case e.AnswersIn > 0:
			s.AnswersAt = now.Add(e.AnswersIn)
		}
		r.show(s)
	case Start:
		if e.Timer == TimerAuthorisation {
			r.cur.lapses = time.Now().Add(e.After)
			e.After = min(e.After, lapseLook)
		}
		r.start(e.Timer, e.After)
	case Stop:
		r.stop(e.Timer)
	case StopAll:
		for t := range r.timers {
			r.stop(t)
		}
	}
}

// prove does everything that has to be done before an invitation is believed. Nothing is kept of one that is not.
func (r *Runner) prove(call protocol.CallID, invite *protocol.Invite, began, now time.Time) (*Proof, protocol.Code, error) {
	proof, code, err := r.c.Prover.Invite(invite, now)
	if err == nil {
		code, err = checkInvitation(proof.Invitation, call, r.c.Self, invite.Offer, now)
	}
	if err == nil {
		code, err = r.memory.use(proof, began, now)
	}
	if err != nil {
		r.complain(code, call, "invitation refused", err)
		return nil, code, err
	}
	return proof, "", nil
}

func (r *Runner) verify(now time.Time) {
	cur := r.cur
	proof, code, err := r.prove(cur.call, cur.invite, cur.began, now)
	if err != nil {
		r.todo = append(r.todo, Unproven{cur.call, code})
		return
	}
	cur.proof, cur.inv, cur.hash = proof, proof.Invitation, proof.Hash
	cur.stage("proven", r.c.Now())
	cur.policy = r.first(proof, r.c.Policy.Decide(proof, now))
	r.c.Log.Info("invitation proven", "call", cur.call, "decision", cur.policy.Decision, "ring_ms", cur.policy.Ring.Milliseconds(), "ask", cur.policy.Ask,
		"urgent", cur.policy.Urgent, "passkey", proof.Authorisation != nil)
	proven := Proven{Call: cur.call, Decision: cur.policy}
	if proof.Authorisation != nil {
		proven.Lasts = max(proof.Authorisation.To.Time().Sub(now), time.Millisecond)
	}
	r.todo = append(r.todo, proven)
}

// first has a home's first call ring longer, so that the people there are told first what it is that rings (R24). A test call is a technician's,
// and what is urgent does not wait: the call after it is the first then.
func (r *Runner) first(proof *Proof, d Decision) Decision {
	if d.Decision != protocol.Ringing || d.Notice <= 0 || proof.Authorisation == nil || d.Urgent || r.memory.wasTold(d.Home) {
		d.Notice = 0
		return d
	}
	d.Ring += d.Notice
	return d
}

func (r *Runner) refuseBusy(call protocol.CallID, now time.Time) {
	proof, code, err := r.prove(call, r.cur.other, time.Time{}, now)
	if err != nil {
		r.refuse(call, code)
		return
	}
	r.sendAnswer(call, proof.Hash, protocol.Busy, nil)
	r.record(&protocol.CallRecord{
		Version: protocol.Version, Call: call, By: protocol.SideTerminal, Began: protocol.At(now), Outcome: protocol.AnswerBusy,
	})
}

// refuse tells the clinic that an invitation is not believed. Nothing can be signed about it, because nothing about it is known.
func (r *Runner) refuse(call protocol.CallID, code protocol.Code) {
	r.sender.send(&protocol.CallOut{Version: protocol.Version, Call: call, Kind: protocol.KindRefusal, Refusal: code})
	r.notice(code, call, "invitation")
}

// sendAnswer signs and sends a decision; false says that it could not be signed.
func (r *Runner) sendAnswer(call protocol.CallID, invitation protocol.Hash, d protocol.Decision, session Session) bool {
	a := &protocol.Answer{
		Version: protocol.Version, Call: call, Terminal: r.c.Self, Invitation: invitation, Decision: d,
		Software: r.c.Software, At: protocol.At(r.c.Now()),
	}
	out := &protocol.CallAnswer{}
	if session != nil {
		sdp := session.SDP()
		a.Key, a.Answer = session.Key(), protocol.HashOf(sdp)
		if d == protocol.Ringing {
			out.SDP = sdp
		}
	}
	signed, err := protocol.Sign(a, r.c.Signer)
	if err != nil {
		r.c.Log.Error("answer not sent: the terminal's key cannot sign", "call", call, "decision", d, "error", err)
		return false
	}
	out.Answer = signed
	r.sender.send(&protocol.CallOut{Version: protocol.Version, Call: call, Kind: protocol.KindAnswer, Answer: out})
	return true
}

func (r *Runner) prepare() {
	cur := r.cur
	cur.prepareEnd = make(chan struct{})
	cur.ledger = &ledger{r: r, call: cur.call, times: map[Device]*deviceTimes{Camera: {}, Microphone: {}}}
	ice, unknown := protocol.KnownServers(cur.invite.ICE, r.relays())
	if unknown > 0 { // nothing of an invite's that is not in the invitation is proven
		r.c.Log.Warn("servers that the clinic has not signed for are not used", "call", cur.call, "urls", unknown)
		r.notice(protocol.AuthRelay, cur.call, "invite")
	}
	offer := Offer{
		Call: cur.call, SDP: cur.invite.Offer, Remote: cur.inv.Caller, ICE: ice, RelayOnly: cur.inv.RelayOnly,
		Parties: cur.inv.Parties, Volume: cur.policy.Volume, Ledger: cur.ledger,
	}
	ctx := cur.during()
	r.wg.Go(func() {
		session, err := r.c.Media.Prepare(ctx, offer)
		cur.preparing = session
		close(cur.prepareEnd)
		r.post(prepareDone{cur, err})
	})
}

func (r *Runner) relays() []string {
	if r.c.Relays == nil {
		return nil
	}
	return r.c.Relays()
}

func (r *Runner) open() {
	cur := r.cur
	if cur.answer.IsZero() { // not signed: nobody could prove that it was answered
		r.todo = append(r.todo, Failed{cur.call, protocol.AnswerTimeout})
		return
	}
	cur.ledger.allow(true)
	cur.openEnd = make(chan struct{})
	ctx := cur.during()
	r.wg.Go(func() {
		err := cur.session.Open(ctx)
		close(cur.openEnd)
		r.post(openDone{cur, err})
	})
}

// close forbids any further opening and closes the session. It promises an answer within closeLimit.
func (r *Runner) close() {
	cur := r.cur
	cur.cancel()
	if cur.prepareEnd == nil {
		r.todo = append(r.todo, SessionClosed{cur.call})
		return
	}
	cur.ledger.allow(false)
	result := make(chan error, 1)
	ctx, cancel := context.WithTimeout(context.Background(), closeLimit)
	go func() { // not waited for: if it hangs, the process ends
		<-cur.prepareEnd
		if cur.preparing == nil {
			result <- nil
			return
		}
		err := cur.preparing.Close(ctx)
		if cur.openEnd != nil {
			<-cur.openEnd
		}
		result <- err
	}()
	r.wg.Go(func() {
		defer cancel()
		var err error
		select {
		case err = <-result:
		case <-ctx.Done():
			err = fmt.Errorf("not closed within %s", closeLimit)
		}
		r.post(closeDone{cur, errors.Join(err, cur.ledger.open())})
	})
}

// finish says that the call is over: signed to the caller if it was accepted, and on the record.
func (r *Runner) finish(f Finish, now time.Time) {
	cur := r.cur
	cur.cancel()
	rec := &protocol.CallRecord{
		Version: protocol.Version, Call: cur.call, By: protocol.SideTerminal, Began: protocol.At(cur.began), Outcome: f.Reason,
	}
	if !cur.answer.IsZero() {
		rec.Duration = millis(cur.ended.Sub(cur.answer))
	}
	if cur.ledger != nil {
		rec.CameraOpen, rec.CameraClosed = cur.ledger.span(Camera)
		rec.MicOpen, rec.MicClosed = cur.ledger.span(Microphone)
	}
	if f.Accepted {
		r.sendEnd(&protocol.End{
			Version: protocol.Version, Call: cur.call, Terminal: r.c.Self, Invitation: cur.hash, By: protocol.SideTerminal,
			Reason: f.Reason, Duration: rec.Duration, CameraClosed: rec.CameraClosed, MicrophoneClosed: rec.MicClosed, At: protocol.At(now),
		})
	}
	if cur.session != nil {
		report := cur.session.Report()
		rec.Crypto, rec.LocalPath, rec.RemotePath = report.Crypto, report.LocalPath, report.RemotePath
		rec.Camera, rec.Sound, rec.Quality = report.Camera, report.Sound, report.Quality
		rec.Pairs, rec.Series = report.Pairs, report.Series
		for _, s := range report.Stages {
			cur.stage(s.Name, s.At)
		}
	}
	slices.SortStableFunc(cur.stages, func(a, b protocol.StageTime) int { return int(a.After) - int(b.After) })
	rec.Stages = cur.stages
	r.record(rec)
	if err := r.memory.finished(); err != nil {
		r.c.Log.Error("end of the call not noted", "call", cur.call, "error", err)
	}
	r.c.Log.Info("call over", "call", cur.call, "reason", f.Reason, "talked_ms", rec.Duration)
}

// sendEnd signs an end, sends it, and keeps it until the clinic has it.
func (r *Runner) sendEnd(end *protocol.End) {
	signed, err := protocol.Sign(end, r.c.Signer)
	if err != nil {
		r.c.Log.Error("end not sent: the terminal's key cannot sign", "call", end.Call, "error", err)
		return
	}
	r.sender.send(&protocol.CallOut{Version: protocol.Version, Call: end.Call, Kind: protocol.KindEnd, End: &protocol.CallEnd{End: signed}})
	body, err := protocol.Encode(&protocol.EndReceipt{Version: protocol.Version, Call: end.Call, End: signed})
	r.append(protocol.EventEnd, body, err)
}

func (r *Runner) record(rec *protocol.CallRecord) {
	body, err := protocol.Encode(rec)
	r.append(protocol.EventCall, body, err)
}

func (r *Runner) append(kind string, body []byte, err error) {
	if err == nil {
		err = r.c.Outbox.Append(kind, body)
	}
	if err != nil {
		r.c.Log.Error("event not recorded", "kind", kind, "error", err)
	}
}

// reportInterrupted reports the call that ran when the process died, if there was one.
func (r *Runner) reportInterrupted() {
	m := r.memory.running()
	if m == nil {
		return
	}
	now := r.c.Now()
	r.c.Log.Warn("a call ran when the program was last interrupted", "call", m.Call, "reason", m.Reason)
	end := &protocol.End{
		Version: protocol.Version, Call: m.Call, Terminal: r.c.Self, Invitation: m.Invitation, By: protocol.SideTerminal, Reason: m.Reason,
		At: protocol.At(now),
	}
	rec := &protocol.CallRecord{Version: protocol.Version, Call: m.Call, By: protocol.SideTerminal, Began: m.Began, Outcome: m.Reason}
	// The kernel closed them when the process died. By now at the latest: that is all that can be sworn.
	for _, d := range m.Open {
		if err := r.opening(d, false, m.Call, now); err != nil {
			r.c.Log.Error("closing not recorded", "device", d, "call", m.Call, "error", err)
		}
		if d == Camera {
			end.CameraClosed, rec.CameraOpen, rec.CameraClosed = protocol.At(now), m.Opened, protocol.At(now)
		} else {
			end.MicrophoneClosed, rec.MicOpen, rec.MicClosed = protocol.At(now), m.Opened, protocol.At(now)
		}
	}
	r.sendEnd(end)
	r.record(rec)
	if err := r.memory.finished(); err != nil {
		r.c.Log.Error("end of the call not noted", "call", m.Call, "error", err)
	}
}

// noticeLimit keeps a flood of refused messages of one cause from filling the outbox.
type noticeLimit struct {
	minute  time.Time
	sent    int
	skipped int
}

// complain warns of what somebody sent who can send as much of it as they like: what is beyond the notices of a minute is for debugging alone.
func (r *Runner) complain(code protocol.Code, call protocol.CallID, message string, err error) {
	level := slog.LevelWarn
	if n := r.notices[code]; n != nil && n.sent >= noticesPerMin && r.c.Now().Sub(n.minute) < time.Minute {
		level = slog.LevelDebug
	}
	r.c.Log.Log(context.Background(), level, message, "call", call, "code", code, "error", err)
}

// notice reports something that somebody should know (R18), at most noticesPerMin times a minute for each cause: with many harmless ones nobody
// hides another.
func (r *Runner) notice(code protocol.Code, call protocol.CallID, detail string) {
	now := r.c.Now()
	n := r.notices[code]
	if n == nil { // there are no more of them than causes in this package
		n = &noticeLimit{}
		r.notices[code] = n
	}
	if now.Sub(n.minute) >= time.Minute || now.Before(n.minute) {
		n.minute, n.sent = now, 0
	}
	if n.sent++; n.sent > noticesPerMin {
		n.skipped++
		return
	}
	if n.skipped > 0 {
		detail = fmt.Sprintf("%s; %d more were not reported one by one", detail, n.skipped)
		n.skipped = 0
	}
	body, err := protocol.Encode(&protocol.Notice{Version: protocol.Version, Code: code, Call: call, Detail: detail, At: protocol.At(now)})
	r.append(protocol.EventNotice, body, err)
}
