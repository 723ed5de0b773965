package calls

import (
	"context"
	"crypto/ecdsa"
	"errors"
	"testing"
	"time"

	"vindu/protocol"
)

// moved is what a terminal answers to an offer for another path; change makes it another's.
func (w *world) moved(t *testing.T, s Started, n uint64, key *ecdsa.PrivateKey, change func(*protocol.Restart, *protocol.CallRestart)) {
	t.Helper()
	out := &protocol.CallRestart{SDP: answerSDP}
	r := &protocol.Restart{
		Version: protocol.Version, Call: s.Call, Terminal: w.terminal, Invitation: protocol.HashOf(s.Invitation), By: protocol.SideTerminal, N: n,
		SDP: protocol.HashOf(out.SDP), At: protocol.At(time.Now()),
	}
	if change != nil {
		change(r, out)
	}
	var err error
	if out.Restart, err = protocol.Sign(r, key); err != nil {
		t.Fatal(err)
	}
	w.say(&protocol.CallOut{Call: s.Call, Kind: protocol.KindRestart, Restart: out})
}

// TestRestart: an offer for another path goes to the terminal as the page has signed it, and the page gets nothing as the terminal's answer but what the terminal has
// signed, for this call, once. There are so many and no more, and none of a call that is over.
func TestRestart(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		s := w.talk(t)
		ask := func() error {
			return w.Restart(context.Background(), person, s.Call, &protocol.CallRestart{Restart: []byte("signed"), SDP: offer})
		}
		if err := ask(); err != nil {
			t.Fatal(err)
		}
		if m := <-w.link.sent; m.Kind != protocol.KindRestart || m.Call != s.Call || string(m.Restart.Restart) != "signed" || m.Restart.SDP != offer {
			t.Errorf("sent %+v", m)
		}
		w.moved(t, s, 3, w.key, nil)
		if u := w.expect(t, KindRestart, Talking); u.SDP != answerSDP || len(u.Restart) == 0 {
			t.Errorf("update %+v", u)
		}
		for name, spoil := range map[string]func(*protocol.Restart, *protocol.CallRestart){
			"the same again":        func(r *protocol.Restart, _ *protocol.CallRestart) { r.N = 3 },
			"an older one":          func(r *protocol.Restart, _ *protocol.CallRestart) { r.N = 1 },
			"of another call":       func(r *protocol.Restart, _ *protocol.CallRestart) { r.Call[0] ^= 1 },
			"of another terminal":   func(r *protocol.Restart, _ *protocol.CallRestart) { r.Terminal[0] ^= 1 },
			"of another invitation": func(r *protocol.Restart, _ *protocol.CallRestart) { r.Invitation[0] ^= 1 },
			"by the caller":         func(r *protocol.Restart, _ *protocol.CallRestart) { r.By = protocol.SideCaller },
			"another description":   func(_ *protocol.Restart, c *protocol.CallRestart) { c.SDP = "v=0 another" },
		} {
			w.moved(t, s, 9, w.key, spoil)
			t.Log(name) // silent does not know it
			w.silent(t)
		}
		w.moved(t, s, 9, newKey(t), nil)
		w.silent(t)
		for i := 1; i < protocol.MaxRestarts+5; i++ {
			if err := ask(); (i >= protocol.MaxRestarts) != errors.Is(err, ErrTooMany) {
				t.Errorf("restart %d: %v", i, err)
			}
			for len(w.link.sent) > 0 {
				<-w.link.sent
			}
			// Each has candidates of its own.
			if i < protocol.MaxRestarts {
				for range maxCandidates / 2 {
					if err := w.Candidates(context.Background(), person, s.Call, []byte("signed")); err != nil {
						t.Fatalf("candidates after restart %d: %v", i, err)
					}
					<-w.link.sent
				}
			}
		}
		w.end(t, s, protocol.EndPatientHungUp)
		w.ended(t, s.Call, protocol.EndPatientHungUp)
		if err := ask(); err != nil {
			t.Error(err)
		}
		w.moved(t, s, 10, w.key, nil)
		w.silent(t)
		if len(w.link.sent) != 0 {
			t.Errorf("of a call that is over the terminal was told %+v", <-w.link.sent)
		}
	})
}
