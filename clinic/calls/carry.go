package calls

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"vindu/clinic/fleet"
	"vindu/protocol"
)

// receive takes a message of a terminal.
func (s *Service) receive(m fleet.CallMessage) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.calls[m.Message.Call]
	if c == nil || c.state == Ended && m.Message.Kind != protocol.KindEnd {
		s.log.Debug("message about a call that does not run", "call", m.Message.Call, "terminal", m.Terminal, "kind", m.Message.Kind)
		return
	}
	if c.terminal != m.Terminal {
		s.complain("a terminal spoke about another's call; nothing was done", "call", c.id, "terminal", m.Terminal, "kind", m.Message.Kind)
		return
	}
	switch m.Message.Kind {
	case protocol.KindAnswer:
		s.answered(c, m.Message.Answer)
	case protocol.KindCandidate:
		if c.fromTerminal++; c.fromTerminal <= maxCandidates {
			s.update(c, Update{Kind: KindCandidate, Candidate: m.Message.Candidate})
		}
	case protocol.KindRestart:
		s.restarted(c, m.Message.Restart)
	case protocol.KindCurtain:
		s.curtained(c, m.Message.Curtain.Curtain)
	case protocol.KindRefusal:
		s.apply(c, terminalRefuses, m.Message.Refusal, nil)
	case protocol.KindEnd:
		s.ended(c, m.Message.End.End)
	}
}

// complain warns of what a terminal sends. Of that there can be as much as it likes: what is beyond complaints per second is for debugging alone.
func (s *Service) complain(message string, attributes ...any) {
	level := slog.LevelWarn
	if !s.complaints.Allow() {
		level = slog.LevelDebug
	}
	s.log.Log(context.Background(), level, message, attributes...)
}

// answered checks a signed answer as the page will. Nothing that is not proven goes any further.
func (s *Service) answered(c *call, m *protocol.CallAnswer) {
	answer, err := c.prove(m)
	if err != nil {
		s.log.Error("answer is not proven: something answers that is not the terminal", "call", c.id, "terminal", c.terminal, "error", err, "code", protocol.ProofAnswer)
		s.apply(c, hangUp, protocol.ProofAnswer, nil)
		s.apply(c, endWaited, protocol.ProofAnswer, nil) // what it says of its end is worth nothing
		return
	}
	switch answer.Decision {
	case protocol.Ringing:
		if s.apply(c, terminalRings, "", m) {
			c.key, c.answer = answer.Key, answer.Answer
		}
	case protocol.Answered:
		s.apply(c, terminalAnswers, "", m)
	default:
		s.apply(c, terminalSaysNo, answer.Decision.Outcome(), m)
	}
}

func (c *call) prove(m *protocol.CallAnswer) (*protocol.Answer, error) {
	key, err := publicKey(c.spki)
	if err != nil {
		return nil, err
	}
	answer := new(protocol.Answer)
	if err := protocol.Verify(m.Answer, key, answer); err != nil {
		return nil, err
	}
	switch {
	case answer.Call != c.id || answer.Terminal != c.terminal || answer.Invitation != c.invitation:
		return nil, errors.New("answer to another invitation")
	case answer.Decision == protocol.Ringing && protocol.HashOf(m.SDP) != answer.Answer:
		return nil, errors.New("answer of another session description")
	case answer.Decision == protocol.Answered && c.state != Calling && (answer.Key != c.key || answer.Answer != c.answer):
		return nil, errors.New("answered with other keys than it rang with")
	}
	return answer, nil
}

// proveEnd checks a caller's end as the terminal will.
func (c *call) proveEnd(signed []byte, reason protocol.Code) error {
	key, err := protocol.ParseKey(c.callerKey)
	if err != nil {
		return err
	}
	end := new(protocol.End)
	if err := protocol.Verify(signed, key, end); err != nil {
		return err
	}
	if end.Call != c.id || end.Terminal != c.terminal || end.Invitation != c.invitation || end.By != protocol.SideCaller || end.Reason != reason {
		return fmt.Errorf("end of another call, side or reason: %w", protocol.ErrMalformed)
	}
	return nil
}

// ended takes the terminal's signed end.
func (s *Service) ended(c *call, signed []byte) {
	if c.spki == nil { // it did not survive the server's last stop, and its record knows the key
		return
	}
	end, err := verifyEnd(signed, c.spki, c.id, c.terminal)
	if err == nil && end.Invitation != c.invitation {
		err = fmt.Errorf("end of another invitation: %w", protocol.ErrMalformed)
	}
	if err != nil {
		s.complain("end is not proven and was left aside", "call", c.id, "terminal", c.terminal, "error", err)
		return
	}
	if c.state == Ended {
		// The proof of an end that the page knows of, as after a no: the terminal's answer ends the call, its signed end comes behind.
		if c.terminalEnd == nil {
			c.terminalEnd = signed
			s.update(c, Update{Kind: KindEnd, End: signed, Code: c.outcome})
		}
		return
	}
	c.terminalEnd = signed
	s.apply(c, terminalEnds, end.Reason, nil)
}

// reported hears of what the terminal's outbox brought: whatever it says, for the terminal the call is over. It is how the clinic learns of
// a terminal that restarted during a call.
func (s *Service) reported(terminal protocol.KeyHash, half *protocol.CallRecord, receipt *protocol.EndReceipt) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case half != nil:
		if l, ok := s.lost[half.Call]; ok && l.terminal == terminal {
			delete(s.lost, half.Call)
		}
		if c := s.calls[half.Call]; c != nil && c.terminal == terminal && half.By == protocol.SideTerminal {
			s.apply(c, terminalReports, half.Outcome, nil)
		}
	case receipt != nil:
		if c := s.calls[receipt.Call]; c != nil && c.terminal == terminal {
			s.ended(c, receipt.End)
		}
	}
}

func (s *Service) happen(id protocol.CallID, h happening, code protocol.Code) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.calls[id]; c != nil {
		s.apply(c, h, code, nil)
	}
}

// apply lets something happen to a call and carries out what follows. It reports whether it fitted. s.mu is held.
func (s *Service) apply(c *call, h happening, code protocol.Code, answer *protocol.CallAnswer) bool {
	to, effects, outcome, fits := c.next(h, code)
	if !fits {
		s.log.Debug("does not fit the call's state", "call", c.id, "state", c.state, "happening", h, "code", code)
		return false
	}
	now := time.Now()
	if to.ending != "" && c.ending == "" {
		c.endingAt = now
	}
	c.course = to
	switch h {
	case terminalRings:
		c.rang = now
	case terminalAnswers:
		c.talking = now
	}
	for _, e := range effects {
		switch e {
		case forward:
			s.update(c, Update{Kind: KindAnswer, Answer: answer.Answer, SDP: answer.SDP})
		case tellTerminal:
			s.tell(c, code, now)
		case finish:
			s.finish(c, outcome, now)
		}
	}
	return true
}

func (s *Service) end(c *call, reason protocol.Code, now time.Time) *protocol.End {
	end := &protocol.End{
		Version: protocol.Version, Call: c.id, Terminal: c.terminal, Invitation: c.invitation, By: protocol.SideClinic, Reason: reason,
		At: protocol.At(now),
	}
	if !c.talking.IsZero() {
		end.Duration = uint64(now.Sub(c.talking).Milliseconds())
	}
	return end
}

func (s *Service) tell(c *call, reason protocol.Code, now time.Time) {
	if c.callerEnd != nil {
		if !s.stopped {
			s.hangUp(c.id, c.terminal, c.callerEnd)
		}
		return
	}
	signed, err := s.authority.SignEnd(s.end(c, reason, now))
	if err != nil {
		s.log.Error("end could not be signed; the terminal finds out by itself", "call", c.id, "error", err)
		return
	}
	if s.stopped {
		return
	}
	s.hangUp(c.id, c.terminal, signed)
}

// hangUp has a signed end sent. s.mu is held.
func (s *Service) hangUp(call protocol.CallID, terminal protocol.KeyHash, signed []byte) {
	message := &protocol.CallIn{Version: protocol.Version, Call: call, Kind: protocol.KindHangUp, HangUp: &protocol.HangUp{End: signed}}
	select {
	case s.out <- outgoing{terminal, message}:
	default:
		s.log.Error("too many messages wait; the terminal finds out by itself that its call is over", "call", call)
	}
}

// takeInterrupted has both ends told that a call did not survive the server: the page when it comes back, the terminal by remind.
// s.mu is held.
func (s *Service) takeInterrupted(now time.Time) {
	s.lostEnd = now.Add(remindFor)
	for _, l := range s.records.interrupted {
		c := &call{
			course: course{state: Ended}, id: l.id, person: Person{ID: l.person}, terminal: l.terminal, invitation: l.invitation, ended: now,
		}
		s.calls[l.id] = c
		s.update(c, Update{Kind: KindEnd, Code: protocol.SignalLostClinic})
		if l.invitation != (protocol.Hash{}) {
			s.lost[l.id] = l
		}
	}
}

// remind tells terminals that a call did not survive the server. s.mu is held.
func (s *Service) remind(up bool, now time.Time) {
	if len(s.lost) == 0 || !up || now.Before(s.lostDue) {
		return
	}
	s.lostDue = now.Add(remindEvery)
	if now.After(s.lostEnd) {
		clear(s.lost)
	}
	for id, c := range s.lost {
		if !s.link.State(c.terminal).Online {
			continue
		}
		signed, err := s.authority.SignEnd(&protocol.End{
			Version: protocol.Version, Call: id, Terminal: c.terminal, Invitation: c.invitation, By: protocol.SideClinic,
			Reason: protocol.SignalLostClinic, At: protocol.At(now),
		})
		if err != nil {
			s.log.Error("end could not be signed; the terminal finds out by itself", "call", id, "error", err)
			continue
		}
		s.hangUp(id, c.terminal, signed)
	}
}

func (s *Service) finish(c *call, outcome protocol.Code, now time.Time) {
	c.ended, c.outcome = now, outcome
	close(c.over)
	s.update(c, Update{Kind: KindEnd, End: c.terminalEnd, Code: outcome})
	s.log.Info("call over", "call", c.id, "code", outcome)
	if s.stopped {
		return // the record is closed when the server starts again
	}
	if outcome == protocol.SignalLostClinic && c.pageLost && !c.talking.IsZero() { // by the page, which came back and told: the clinic knows that it was there itself
		outcome = protocol.EndPageClosed
	}
	f := finishedCall{c.id, c.person.ID, ending{rang: c.rang, talking: c.talking, at: now, outcome: outcome, terminalEnd: c.terminalEnd, callerEnd: c.callerEnd, curtains: c.curtains.keep()}}
	select {
	case s.endings <- f:
	default:
		s.log.Error("too many records wait to be closed; this one is when the server starts again", "call", c.id)
	}
}

// update tells the call's page. s.mu is held.
func (s *Service) update(c *call, u Update) {
	s.seq++
	u.Seq, u.Call, u.State = s.seq, c.id, c.state
	c.updates = append(c.updates, u)
	for sub := range s.subs {
		if sub.hears(c) {
			s.deliver(sub, u)
		}
	}
}

func (sub *subscription) hears(c *call) bool {
	return sub.person == c.person.ID && (c.page == "" || c.page == sub.page)
}

func (s *Service) deliver(sub *subscription, u Update) {
	if _, there := s.subs[sub]; !there {
		return
	}
	select {
	case sub.updates <- u:
	default:
		s.drop(sub)
	}
}

// drop ends a subscription. s.mu is held.
func (s *Service) drop(sub *subscription) {
	if _, there := s.subs[sub]; !there {
		return
	}
	delete(s.subs, sub)
	close(sub.updates)
	for _, c := range s.calls {
		s.lookForPage(c, time.Now())
	}
}

// Subscribe delivers the updates of the calls that person began on page: first those after seq, of calls that run or ended less
// than a minute ago. The channel is closed by cancel, and when the subscriber does not keep up; it should then come back.
// While no subscription of a call's page is there the call is about to end.
func (s *Service) Subscribe(person, page string, seq uint64) (updates <-chan Update, cancel func()) {
	sub := &subscription{person, page, make(chan Update, updateQueue)}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.subs[sub] = struct{}{}
	var missed []Update
	for _, c := range s.calls {
		if !sub.hears(c) {
			continue
		}
		c.pageGone = time.Time{}
		for _, u := range c.updates {
			if u.Seq > seq {
				missed = append(missed, u)
			}
		}
	}
	slices.SortFunc(missed, func(a, b Update) int { return cmp.Compare(a.Seq, b.Seq) })
	for _, u := range missed {
		s.deliver(sub, u)
	}
	return sub.updates, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.drop(sub)
	}
}

// lookForPage notes since when a call has no page. s.mu is held.
func (s *Service) lookForPage(c *call, now time.Time) {
	for sub := range s.subs {
		if sub.hears(c) {
			c.pageGone = time.Time{}
			return
		}
	}
	if c.pageGone.IsZero() {
		c.pageGone = now
	}
}

// keepTimes ends what has taken too long and forgets what is long over.
func (s *Service) keepTimes(now time.Time) {
	up := s.link.Up()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.remind(up, now)
	s.forgetGivenUp(now)
	for id, c := range s.calls {
		if c.state == Ended {
			if now.Sub(c.ended) >= replay {
				delete(s.calls, id)
			}
			continue
		}
		if c.curtains.late != nil {
			s.curtained(c, c.curtains.late)
		}
		if up && s.link.State(c.terminal).Online {
			c.terminalGone = time.Time{}
		} else if c.terminalGone.IsZero() {
			c.terminalGone = now
		}
		over := func(since time.Time, limit time.Duration) bool { return !since.IsZero() && now.Sub(since) >= limit }
		switch {
		case over(c.terminalGone, terminalGrace) && !up:
			s.apply(c, terminalLost, protocol.SignalBroker, nil)
		case over(c.terminalGone, terminalGrace):
			s.apply(c, terminalLost, protocol.SignalLostTerminal, nil)
		case over(c.endingAt, endTimeout):
			s.apply(c, endWaited, c.ending, nil)
		case c.ending != "": // in time
		case over(c.pageGone, pageGrace):
			s.stop(c, protocol.EndPageClosed)
		case over(c.until, lapseGrace):
			s.stop(c, protocol.EndLapsed)
		case c.state == Calling && over(c.began, replyTimeout):
			s.stop(c, protocol.SignalNoReply)
		case c.state == Ringing && over(c.rang, ringTimeout):
			s.stop(c, protocol.AnswerTimeout)
		case c.state == Talking && over(c.talking, maxTalk):
			s.stop(c, protocol.EndMaxDuration)
		}
	}
}
