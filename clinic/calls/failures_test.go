package calls

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"vindu/clinic/fleet"
	"vindu/protocol"
)

// Every way in which a call can fail has its code, on the page and on the record.
func TestFailures(t *testing.T) {
	wait := func(d time.Duration) { pass(d + tick) }
	decision := func(d protocol.Decision, code protocol.Code) func(*testing.T, *world) {
		return func(t *testing.T, w *world) {
			s := w.start(t)
			w.answer(t, s, d, nil)
			w.expect(t, KindAnswer, Ended)
			w.ended(t, s.Call, code)
			w.untold(t)
		}
	}
	unproven := func(d protocol.Decision, change func(*protocol.Answer, *protocol.CallAnswer)) func(*testing.T, *world) {
		return func(t *testing.T, w *world) {
			s := w.start(t)
			if d == protocol.Answered {
				w.answer(t, s, protocol.Ringing, nil)
				w.expect(t, KindAnswer, Ringing)
			}
			w.answer(t, s, d, change)
			w.told(t, s, protocol.ProofAnswer)
			w.ended(t, s.Call, protocol.ProofAnswer)
		}
	}
	for name, play := range map[string]func(*testing.T, *world){
		"busy":           decision(protocol.Busy, protocol.AnswerBusy),
		"declined":       decision(protocol.Declined, protocol.AnswerDeclined),
		"quiet hours":    decision(protocol.Quiet, protocol.AnswerQuiet),
		"shutter closed": decision(protocol.Shutter, protocol.AnswerShutter),
		"policy refuses": decision(protocol.Refused, protocol.AnswerRefused),
		"declined while ringing": func(t *testing.T, w *world) {
			s := w.start(t)
			w.answer(t, s, protocol.Ringing, nil)
			w.expect(t, KindAnswer, Ringing)
			w.answer(t, s, protocol.Declined, nil)
			w.expect(t, KindAnswer, Ended)
			w.ended(t, s.Call, protocol.AnswerDeclined)
			// The proof that nobody saw or heard anything comes behind the answer that ended the call.
			w.end(t, s, protocol.AnswerDeclined)
			if u := w.expect(t, KindEnd, Ended); len(u.End) == 0 || u.Code != protocol.AnswerDeclined {
				t.Errorf("the signed end came as %+v", u)
			}
			w.end(t, s, protocol.AnswerDeclined)
			w.silent(t) // once
		},
		"declined, and the end signed by another": func(t *testing.T, w *world) {
			s := w.start(t)
			w.answer(t, s, protocol.Declined, nil)
			w.expect(t, KindAnswer, Ended)
			w.ended(t, s.Call, protocol.AnswerDeclined)
			w.say(&protocol.CallOut{Call: s.Call, Kind: protocol.KindEnd, End: &protocol.CallEnd{End: w.signedEnd(t, s, protocol.AnswerDeclined, w.signer.key)}})
			w.silent(t)
		},
		"invitation not believed": func(t *testing.T, w *world) {
			s := w.start(t)
			w.say(&protocol.CallOut{Call: s.Call, Kind: protocol.KindRefusal, Refusal: protocol.AuthExpired})
			w.ended(t, s.Call, protocol.AuthExpired)
		},
		"no reply": func(t *testing.T, w *world) {
			s := w.start(t)
			pass(replyTimeout - tick)
			w.silent(t)
			wait(tick)
			w.told(t, s, protocol.SignalNoReply)
			w.ended(t, s.Call, protocol.SignalNoReply)
		},
		"rings for ever": func(t *testing.T, w *world) {
			s := w.start(t)
			w.answer(t, s, protocol.Ringing, nil)
			w.expect(t, KindAnswer, Ringing)
			wait(ringTimeout)
			w.told(t, s, protocol.AnswerTimeout)
			wait(endTimeout)
			w.ended(t, s.Call, protocol.AnswerTimeout)
		},
		"talks for ever": func(t *testing.T, w *world) {
			s := w.talk(t)
			wait(maxTalk)
			w.told(t, s, protocol.EndMaxDuration)
			w.end(t, s, protocol.EndMaxDuration)
			w.ended(t, s.Call, protocol.EndMaxDuration)
		},
		"ended at the terminal": func(t *testing.T, w *world) {
			s := w.talk(t)
			w.end(t, s, protocol.EndPatientHungUp)
			if u := w.ended(t, s.Call, protocol.EndPatientHungUp); len(u.End) == 0 {
				t.Error("no signed end")
			}
			w.untold(t)
		},
		"terminal lost": func(t *testing.T, w *world) {
			s := w.talk(t)
			w.link.set(func() { w.link.online = false })
			pass(terminalGrace - tick)
			w.silent(t)
			wait(tick)
			w.ended(t, s.Call, protocol.SignalLostTerminal)
		},
		"terminal comes back": func(t *testing.T, w *world) {
			s := w.talk(t)
			for range 3 {
				w.link.set(func() { w.link.online = false })
				pass(terminalGrace - tick)
				w.link.set(func() { w.link.online = true })
				synctest.Wait()
			}
			w.silent(t)
			w.end(t, s, protocol.EndPatientHungUp)
			w.ended(t, s.Call, protocol.EndPatientHungUp)
		},
		"terminal restarted": func(t *testing.T, w *world) {
			s := w.talk(t)
			w.report(t, &protocol.CallRecord{Version: protocol.Version, Call: s.Call, By: protocol.SideTerminal, Began: 5, Outcome: protocol.PowerRestarted})
			w.ended(t, s.Call, protocol.PowerRestarted)
		},
		"end came by the outbox": func(t *testing.T, w *world) {
			s := w.talk(t)
			w.report(t, &protocol.EndReceipt{Version: protocol.Version, Call: s.Call, End: w.signedEnd(t, s, protocol.ICELost, w.key)})
			w.ended(t, s.Call, protocol.ICELost)
		},
		"broker lost": func(t *testing.T, w *world) {
			s := w.talk(t)
			w.link.set(func() { w.link.up = false })
			wait(terminalGrace)
			w.ended(t, s.Call, protocol.SignalBroker)
		},
		"page closed": func(t *testing.T, w *world) {
			s := w.talk(t)
			w.leave()
			pass(pageGrace - tick)
			w.untold(t)
			wait(tick)
			w.told(t, s, protocol.EndPageClosed)
			w.end(t, s, protocol.EndPageClosed)
			w.recorded(t, s.Call, protocol.EndPageClosed)
		},
		"page reloaded": func(t *testing.T, w *world) {
			s := w.talk(t)
			for range 3 {
				w.leave()
				pass(pageGrace - tick)
				w.updates, w.leave = w.Subscribe(person, page, w.lastSeq())
			}
			w.silent(t)
			w.end(t, s, protocol.EndPatientHungUp)
			w.ended(t, s.Call, protocol.EndPatientHungUp)
		},
		"another page of the same person does not keep a call": func(t *testing.T, w *world) {
			s := w.talk(t)
			_, cancel := w.Subscribe(person, "page-2", 0)
			defer cancel()
			w.leave()
			wait(pageGrace)
			w.told(t, s, protocol.EndPageClosed)
		},
		"terminal does not prove its end": func(t *testing.T, w *world) {
			s := w.talk(t)
			if err := w.HangUp(context.Background(), person, s.Call, protocol.ICEFailed, nil); err != nil {
				t.Fatal(err)
			}
			w.told(t, s, protocol.ICEFailed)
			pass(endTimeout - tick)
			w.silent(t)
			wait(tick)
			if u := w.ended(t, s.Call, protocol.ICEFailed); u.End != nil {
				t.Error("an end without proof")
			}
		},
		"revoked": func(t *testing.T, w *world) {
			s := w.talk(t)
			w.Revoke(protocol.KeyHash{7})
			w.silent(t)
			w.Revoke(w.terminal)
			w.told(t, s, protocol.EndCutOff)
			w.ended(t, s.Call, protocol.EndCutOff)
		},
		"revoked, and proves its end": func(t *testing.T, w *world) {
			first, second := w.talk(t), w.talk(t)
			began := time.Now()
			revoked := make(chan struct{})
			go func() { w.Revoke(w.terminal); close(revoked) }()
			synctest.Wait()
			for range 2 {
				if m := <-w.link.sent; m.Kind != protocol.KindHangUp {
					t.Errorf("sent %s", m.Kind)
				}
			}
			for _, s := range []Started{first, second} {
				w.end(t, s, protocol.EndCutOff)
				if u := w.ended(t, s.Call, protocol.EndCutOff); u.End == nil {
					t.Error("no proof of the end")
				}
			}
			if <-revoked; time.Since(began) != 0 {
				t.Errorf("waited %v although all was proven", time.Since(began))
			}
		},
		"server stops": func(t *testing.T, w *world) {
			s := w.talk(t)
			w.stop()
			w.told(t, s, protocol.SignalLostClinic)
			w.ended(t, s.Call, protocol.SignalLostClinic)
			if _, err := w.Start(context.Background(), w.request(t)); !errors.Is(err, ErrStopped) {
				t.Errorf("start: %v", err)
			}
			if err := w.HangUp(context.Background(), person, s.Call, protocol.EndCallerHungUp, nil); err != nil {
				t.Errorf("hang up: %v", err)
			}
		},
		"answer signed by another": func(t *testing.T, w *world) {
			s := w.start(t)
			honest := w.key
			w.key = w.signer.key
			w.answer(t, s, protocol.Ringing, nil)
			w.key = honest
			w.told(t, s, protocol.ProofAnswer)
			w.ended(t, s.Call, protocol.ProofAnswer)
		},
		"answer to another call": unproven(protocol.Ringing, func(a *protocol.Answer, _ *protocol.CallAnswer) { a.Call = protocol.NewCallID() }),
		"answer to another invitation": unproven(protocol.Ringing, func(a *protocol.Answer, _ *protocol.CallAnswer) {
			a.Invitation = protocol.Hash{1}
		}),
		"answer of another terminal":    unproven(protocol.Ringing, func(a *protocol.Answer, _ *protocol.CallAnswer) { a.Terminal = protocol.KeyHash{1} }),
		"session description exchanged": unproven(protocol.Ringing, func(_ *protocol.Answer, o *protocol.CallAnswer) { o.SDP += "a=x\r\n" }),
		"answered with another key":     unproven(protocol.Answered, func(a *protocol.Answer, _ *protocol.CallAnswer) { a.Key[0]++ }),
		"answered with another description": unproven(protocol.Answered, func(a *protocol.Answer, _ *protocol.CallAnswer) {
			a.Answer[0]++
		}),
		"end signed by another": func(t *testing.T, w *world) {
			s := w.talk(t)
			w.say(&protocol.CallOut{Call: s.Call, Kind: protocol.KindEnd, End: &protocol.CallEnd{End: w.signedEnd(t, s, protocol.EndPatientHungUp, w.signer.key)}})
			w.report(t, &protocol.EndReceipt{Version: protocol.Version, Call: s.Call, End: w.signedEnd(t, s, protocol.EndPatientHungUp, w.signer.key)})
			w.silent(t)
		},
		"another terminal meddles": func(t *testing.T, w *world) {
			s := w.talk(t)
			other := protocol.KeyHash{7}
			w.link.messages <- fleet.CallMessage{Terminal: other, Message: &protocol.CallOut{Version: 1, Call: s.Call, Kind: protocol.KindRefusal, Refusal: protocol.AuthExpired}}
			w.link.messages <- fleet.CallMessage{Terminal: other, Message: &protocol.CallOut{Version: 1, Call: s.Call, Kind: protocol.KindEnd, End: &protocol.CallEnd{End: w.signedEnd(t, s, protocol.EndPatientHungUp, w.key)}}}
			w.reportFrom(t, other, &protocol.CallRecord{Version: protocol.Version, Call: s.Call, By: protocol.SideTerminal, Began: 5, Outcome: protocol.PowerRestarted})
			w.reportFrom(t, other, &protocol.EndReceipt{Version: protocol.Version, Call: s.Call, End: w.signedEnd(t, s, protocol.EndPatientHungUp, w.key)})
			w.report(t, &protocol.CallRecord{Version: protocol.Version, Call: s.Call, By: protocol.SideCaller, Began: 5, Outcome: protocol.PowerRestarted})
			w.silent(t)
			rec, err := w.Record(context.Background(), person, s.Call)
			if err != nil || rec.TerminalHalf != nil || rec.TerminalEnd != nil || rec.Outcome != "" {
				t.Errorf("record %+v, %v", rec, err)
			}
		},
		"late and repeated messages": func(t *testing.T, w *world) {
			s := w.talk(t)
			w.answer(t, s, protocol.Ringing, nil)
			w.answer(t, s, protocol.Answered, nil)
			w.say(&protocol.CallOut{Call: s.Call, Kind: protocol.KindRefusal, Refusal: protocol.AuthExpired})
			w.say(&protocol.CallOut{Call: protocol.NewCallID(), Kind: protocol.KindRefusal, Refusal: protocol.AuthExpired})
			w.silent(t)
			w.end(t, s, protocol.EndPatientHungUp)
			w.ended(t, s.Call, protocol.EndPatientHungUp)
			w.end(t, s, protocol.EndPatientHungUp)
			w.answer(t, s, protocol.Answered, nil)
			w.silent(t)
		},
	} {
		t.Run(name, func(t *testing.T) { inWorld(t, play) })
	}
}

// What cannot even begin is on the record too.
func TestCannotStart(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		for name, c := range map[string]struct {
			change  func(*wish)
			arrange func()
			code    protocol.Code
		}{
			"offline":         {nil, func() { w.link.online = false }, protocol.SignalOffline},
			"no terminal":     {func(r *wish) { r.home = "18" }, func() {}, protocol.SignalOffline},
			"broker down":     {nil, func() { w.link.up = false }, protocol.SignalBroker},
			"broker loses it": {nil, func() { w.link.sendErr = protocol.WithCode(protocol.SignalBroker, fleet.ErrDown) }, protocol.SignalBroker},
		} {
			r := w.request(t, func(x *wish) {
				if c.change != nil {
					c.change(x)
				}
			})
			w.link.set(func() { w.link.up, w.link.online, w.link.sendErr = true, true, nil; c.arrange() })
			began := time.Now()
			_, err := w.Start(context.Background(), r)
			var f *Failure
			if !errors.As(err, &f) || f.Code != c.code || !time.Now().Equal(began) || !strings.Contains(err.Error(), string(c.code)) {
				t.Errorf("%s: %v after %v", name, err, time.Since(began))
				continue
			}
			w.recorded(t, f.Call, c.code)
		}
		list, err := w.Records(context.Background(), person, 10)
		if err != nil || len(list) != 4 {
			t.Errorf("%d records, %v", len(list), err)
		}
	})
}

func TestBadRequests(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		print := "a=fingerprint:sha-256 " + strings.TrimSuffix(strings.Repeat("AA:", 32), ":") + "\r\n"
		for name, c := range map[string]struct {
			change func(*wish)
			want   error
		}{
			"no such home":          {func(r *wish) { r.home = "1" }, ErrNotFound},
			"no offer":              {func(r *wish) { r.offer = "" }, ErrBadRequest},
			"huge offer":            {func(r *wish) { r.offer = protocol.SDP(strings.Repeat("x", protocol.MaxSDP+1)) }, ErrBadRequest},
			"no fingerprint":        {func(r *wish) { r.offer = "v=0\r\n" }, ErrBadRequest},
			"two fingerprints":      {func(r *wish) { r.offer += protocol.SDP(print) }, ErrBadRequest},
			"SHA-1":                 {func(r *wish) { r.offer = protocol.SDP(strings.Replace(print, "256", "1", 1)) }, ErrBadRequest},
			"short fingerprint":     {func(r *wish) { r.offer = protocol.SDP(strings.Replace(print, ":AA", "", 1)) }, ErrBadRequest},
			"malformed fingerprint": {func(r *wish) { r.offer = protocol.SDP(strings.Replace(print, "AA", "+A", 1)) }, ErrBadRequest},
		} {
			r := w.request(t, c.change)
			if _, err := w.Start(context.Background(), r); !errors.Is(err, c.want) {
				t.Errorf("%s: %v", name, err)
			}
		}
		r := w.request(t, func(x *wish) { x.offer = protocol.SDP(print + print) }) // the same for sound and picture
		if _, err := w.Start(context.Background(), r); err != nil {
			t.Errorf("one fingerprint in two parts: %v", err)
		}
		s := w.start2(t)
		ctx := context.Background()
		half := &protocol.CallRecord{Version: protocol.Version, Call: s.Call, By: protocol.SideCaller, Began: 5, Outcome: protocol.EndCallerHungUp}
		for name, c := range map[string]struct {
			err  error
			want error
		}{
			"another's candidate":       {w.Candidates(ctx, "other", s.Call, []byte("signed")), ErrNotFound},
			"huge candidates":           {w.Candidates(ctx, person, s.Call, make([]byte, protocol.MaxStatement+1)), ErrBadRequest},
			"no candidates":             {w.Candidates(ctx, person, s.Call, nil), ErrBadRequest},
			"another's restart":         {w.Restart(ctx, "other", s.Call, &protocol.CallRestart{Restart: []byte("signed"), SDP: "v=0"}), ErrNotFound},
			"restart without an offer":  {w.Restart(ctx, person, s.Call, &protocol.CallRestart{Restart: []byte("signed")}), ErrBadRequest},
			"restart that is unsigned":  {w.Restart(ctx, person, s.Call, &protocol.CallRestart{SDP: "v=0"}), ErrBadRequest},
			"restart with a huge offer": {w.Restart(ctx, person, s.Call, &protocol.CallRestart{Restart: []byte("signed"), SDP: protocol.SDP(strings.Repeat("x", protocol.MaxSDP+1))}), ErrBadRequest},
			"another's hang-up":         {w.HangUp(ctx, "other", s.Call, protocol.EndCallerHungUp, nil), ErrNotFound},
			"hang up no call, no code":  {w.HangUp(ctx, person, protocol.NewCallID(), "because.why", nil), ErrBadRequest},
			"hang up for no code":       {w.HangUp(ctx, person, s.Call, "because", nil), ErrBadRequest},
			"another's record":          {w.Report(ctx, "other", s.Call, half), ErrNotFound},
			"record of no call":         {w.Report(ctx, person, protocol.NewCallID(), half), ErrBadRequest},
			"record of the terminal":    {w.Report(ctx, person, s.Call, &protocol.CallRecord{Version: 1, Call: s.Call, By: protocol.SideTerminal, Began: 5, Outcome: protocol.Unknown}), ErrBadRequest},
			"malformed record":          {w.Report(ctx, person, s.Call, &protocol.CallRecord{Call: s.Call, By: protocol.SideCaller}), ErrBadRequest},
		} {
			if !errors.Is(c.err, c.want) {
				t.Errorf("%s: %v", name, c.err)
			}
		}
		if _, err := w.Record(ctx, "other", s.Call); !errors.Is(err, ErrNotFound) {
			t.Errorf("another's record: %v", err)
		}
	})
}

// start2 starts a call where others have been.
func (w *world) start2(t *testing.T) Started {
	t.Helper()
	for len(w.link.sent) > 0 {
		<-w.link.sent
	}
	return w.start(t)
}

// TestBoundsAtOnce: who rings often enough at the same instant has no more calls than who rings one by one.
func TestBoundsAtOnce(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		var started, refused atomic.Int64
		var group sync.WaitGroup
		for range 8 * maxPerPerson {
			group.Go(func() {
				switch _, err := w.Start(context.Background(), w.request(t)); {
				case err == nil:
					started.Add(1)
				case errors.Is(err, ErrTooMany):
					refused.Add(1)
				default:
					t.Error(err)
				}
			})
		}
		group.Wait()
		if started.Load() != maxPerPerson {
			t.Errorf("%d calls at once, at most %d", started.Load(), maxPerPerson)
		}
		if len(w.begun) != 0 {
			t.Errorf("%v still begun", w.begun)
		}
	})
}

func TestBounds(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		var s Started
		for range maxPerPerson {
			s = w.start(t)
		}
		if _, err := w.Start(context.Background(), w.request(t)); !errors.Is(err, ErrTooMany) {
			t.Errorf("one call too many: %v", err)
		}
		for i := range maxCandidates + 5 {
			err := w.Candidates(context.Background(), person, s.Call, []byte("signed"))
			if (i >= maxCandidates) != errors.Is(err, ErrTooMany) {
				t.Errorf("candidates %d: %v", i, err)
			}
			w.say(&protocol.CallOut{Call: s.Call, Kind: protocol.KindCandidate, Candidate: &protocol.Candidate{Line: "candidate:2", Mid: "0"}})
		}
		for range maxCandidates {
			w.expect(t, KindCandidate, Calling)
		}
		w.silent(t)
	})
}
