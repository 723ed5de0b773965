package call_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"vindu/device/call/calltest"
	"vindu/protocol"
)

// TestCandidates: the terminal looks for paths to where the caller says, and to nowhere else; who says so in the caller's name is told of once, and the call goes on.
func TestCandidates(t *testing.T) {
	lines := func(s *calltest.Session) (list []string) {
		for _, c := range s.Candidates() {
			list = append(list, string(c.Line))
		}
		return list
	}
	notices := func(x *terminal) int { return len(calltest.Events[*protocol.Notice](x.outbox)) }
	garbage := func(m *protocol.CallIn, b []byte) *protocol.CallIn {
		return &protocol.CallIn{Version: protocol.Version, Call: m.Call, Kind: protocol.KindCandidates, Candidates: b}
	}
	for _, c := range []struct {
		name  string
		spoil func(x *terminal, m *protocol.CallIn) *protocol.CallIn
	}{
		{"by another key", func(x *terminal, m *protocol.CallIn) *protocol.CallIn {
			return x.clinic.CandidatesBy(x.t, m, &protocol.Candidates{
				Version: 1, Call: m.Call, Terminal: x.clinic.Self, Invitation: protocol.HashOf(m.Invite.Invitation), Number: 2, List: []protocol.Candidate{{Line: "candidate:x"}},
			}, x.clinic.Service)
		}},
		{"of another call", func(x *terminal, m *protocol.CallIn) *protocol.CallIn {
			return x.clinic.Candidates(x.t, m, 2, func(s *protocol.Candidates) { s.Call = protocol.NewCallID() })
		}},
		{"for another terminal", func(x *terminal, m *protocol.CallIn) *protocol.CallIn {
			return x.clinic.Candidates(x.t, m, 2, func(s *protocol.Candidates) { s.Terminal[0] ^= 1 })
		}},
		{"to another invitation", func(x *terminal, m *protocol.CallIn) *protocol.CallIn {
			return x.clinic.Candidates(x.t, m, 2, func(s *protocol.Candidates) { s.Invitation[0] ^= 1 })
		}},
		{"not signed", func(_ *terminal, m *protocol.CallIn) *protocol.CallIn { return garbage(m, []byte{0xa0}) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				x := newTerminal(t)
				x.start()
				m, s := x.invite()
				x.deliver(x.clinic.Candidates(t, m, 1))
				for range 5 {
					x.deliver(c.spoil(x, m))
				}
				if n := notices(x); n != 1 || calltest.Events[*protocol.Notice](x.outbox)[0].Code != protocol.AuthUnproven || calltest.Events[*protocol.Notice](x.outbox)[0].Call != m.Call {
					t.Errorf("%d notices", n)
				}
				x.deliver(x.clinic.Candidates(t, m, 2))
				equal(t, "candidates", lines(s), []string{"candidate:1", "candidate:2"})
				_ = x.end()
			})
		})
	}
	t.Run("once more, late, and out of order", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			x := newTerminal(t)
			x.start()
			m, s := x.invite()
			for _, number := range []uint64{3, 3, 1, 2, 7, 4} {
				x.deliver(x.clinic.Candidates(t, m, number))
			}
			equal(t, "candidates", lines(s), []string{"candidate:3", "candidate:7"})
			if notices(x) != 0 {
				t.Error("what the caller has signed was taken for somebody else's")
			}
			_ = x.end()
		})
	})
	t.Run("without end", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			x := newTerminal(t)
			x.start()
			m, s := x.invite()
			for number := range uint64(100) {
				x.deliver(x.clinic.Candidates(t, m, number+1))
			}
			if got := lines(s); len(got) != 64 || got[63] != fmt.Sprintf("candidate:%d", 64) {
				t.Errorf("%d candidates were taken", len(got))
			}
			_ = x.end()
		})
	})
	t.Run("of a call before", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			x := newTerminal(t)
			x.start()
			before, _ := x.invite()
			old := x.clinic.Candidates(t, before, 9)
			x.deliver(x.clinic.HangUp(t, before, protocol.EndCallerHungUp))
			x.wait(10 * time.Second)
			m, s := x.invite()
			x.deliver(old) // names the call that is over
			x.deliver(garbage(m, old.Candidates))
			if n := notices(x); n != 1 || len(s.Candidates()) != 0 {
				t.Errorf("%d notices, candidates %v", n, lines(s))
			}
			_ = x.end()
		})
	})
}
