package calls

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"sync"
	"testing"

	"vindu/protocol"
)

// What could not be proven is an alarm, whether the clinic found it or the page; how else a call ends is none.
func TestAlarm(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		var mu sync.Mutex
		var raised []protocol.Code
		w.records.Alarm = func(_ context.Context, _ *sql.Tx, code protocol.Code, terminal protocol.KeyHash, _ string) (bool, error) {
			mu.Lock()
			defer mu.Unlock()
			if terminal != w.terminal {
				t.Errorf("about %v", terminal)
			}
			raised = append(raised, code)
			return true, nil
		}
		want := func(codes ...protocol.Code) {
			t.Helper()
			mu.Lock()
			defer mu.Unlock()
			if !slices.Equal(raised, codes) {
				t.Errorf("raised %q, want %q", raised, codes)
			}
		}
		s := w.start(t)
		w.answer(t, s, protocol.Declined, nil)
		w.expect(t, KindAnswer, Ended)
		w.ended(t, s.Call, protocol.AnswerDeclined)
		want()
		report := func(call protocol.CallID, outcome protocol.Code) {
			t.Helper()
			if err := w.Report(t.Context(), person, call, &protocol.CallRecord{Version: protocol.Version, Call: call, By: protocol.SideCaller, Began: 1, Outcome: outcome}); err != nil {
				t.Error(err)
			}
		}
		report(s.Call, protocol.ProofFingerprint)
		report(s.Call, protocol.ProofFingerprint) // the first is kept
		want(protocol.ProofFingerprint)
		s = w.start(t)
		honest := w.key
		w.key = w.signer.key
		w.answer(t, s, protocol.Ringing, nil)
		w.key = honest
		w.told(t, s, protocol.ProofAnswer)
		w.ended(t, s.Call, protocol.ProofAnswer)
		want(protocol.ProofFingerprint, protocol.ProofAnswer)
		report(s.Call, "proof.made_up")
		want(protocol.ProofFingerprint, protocol.ProofAnswer, protocol.ProofAnswer)
		// What came as the terminal's end, after the page's half had gone.
		if err := w.HangUp(t.Context(), person, s.Call, protocol.ProofEnd, nil); err != nil {
			t.Error(err)
		}
		want(protocol.ProofFingerprint, protocol.ProofAnswer, protocol.ProofAnswer, protocol.ProofEnd)
		if err := w.HangUp(t.Context(), "somebody else", s.Call, protocol.ProofEnd, nil); !errors.Is(err, ErrNotFound) {
			t.Errorf("of another's call: %v", err)
		}
		want(protocol.ProofFingerprint, protocol.ProofAnswer, protocol.ProofAnswer, protocol.ProofEnd)
	})
}
