package calls

import (
	"context"
	"crypto/ecdsa"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"vindu/protocol"
)

func (w *world) curtain(t *testing.T, s Started, by protocol.Side, number uint32, drawn bool, key *ecdsa.PrivateKey, change ...func(*protocol.Curtain)) []byte {
	t.Helper()
	c := &protocol.Curtain{
		Version: protocol.Version, Call: s.Call, Terminal: w.terminal, Invitation: protocol.HashOf(s.Invitation), By: by, Drawn: drawn, Number: number, At: protocol.At(time.Now()),
	}
	for _, f := range change {
		f(c)
	}
	signed, err := protocol.Sign(c, key)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

func closed(c *protocol.Curtain) { c.CameraClosed, c.MicrophoneClosed = c.At, c.At }

// TestCurtain: what either end has signed of its own curtain goes to the other, once and in order, and is on the record; nothing else does.
func TestCurtain(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		s := w.talk(t)
		draws := func(signed []byte) error { return w.Curtain(context.Background(), person, s.Call, signed) }
		tells := func(signed []byte) {
			w.say(&protocol.CallOut{Call: s.Call, Kind: protocol.KindCurtain, Curtain: &protocol.CallCurtain{Curtain: signed}})
		}
		mine := w.curtain(t, s, protocol.SideCaller, 2, true, w.caller.key)
		if err := draws(mine); err != nil {
			t.Fatal(err)
		}
		if m := <-w.link.sent; m.Kind != protocol.KindCurtain || !slices.Equal(m.Curtain.Curtain, mine) {
			t.Errorf("sent %+v", m)
		}
		theirs := w.curtain(t, s, protocol.SideTerminal, 2, false, w.key, closed)
		tells(theirs)
		if u := w.expect(t, KindCurtain, Talking); !slices.Equal(u.Curtain, theirs) {
			t.Errorf("update %+v", u)
		}

		other := protocol.NewCallID()
		for name, signed := range map[string][]byte{
			"once more":             mine,
			"an older one":          w.curtain(t, s, protocol.SideCaller, 1, false, w.caller.key),
			"by the terminal's key": w.curtain(t, s, protocol.SideCaller, 9, false, w.key),
			"of the terminal":       w.curtain(t, s, protocol.SideTerminal, 9, false, w.caller.key),
			"of another call":       w.curtain(t, s, protocol.SideCaller, 9, false, w.caller.key, func(c *protocol.Curtain) { c.Call = other }),
			"of another invitation": w.curtain(t, s, protocol.SideCaller, 9, false, w.caller.key, func(c *protocol.Curtain) { c.Invitation[0] ^= 1 }),
			"of another terminal":   w.curtain(t, s, protocol.SideCaller, 9, false, w.caller.key, func(c *protocol.Curtain) { c.Terminal[0] ^= 1 }),
			"nothing":               {},
			"an end":                w.signedEnd(t, s, protocol.EndCallerHungUp, w.key),
		} {
			if err := draws(signed); !errors.Is(err, ErrBadRequest) {
				t.Errorf("%s from the page: %v", name, err)
			}
		}
		for _, signed := range [][]byte{
			theirs, mine, w.curtain(t, s, protocol.SideTerminal, 1, true, w.key), w.curtain(t, s, protocol.SideTerminal, 9, true, w.caller.key), w.curtain(t, s, protocol.SideCaller, 9, true, w.key),
			w.curtain(t, s, protocol.SideTerminal, 9, true, w.key, func(c *protocol.Curtain) { c.Call = other }),
		} {
			tells(signed)
		}
		w.silent(t)
		w.untold(t)
		if err := w.Curtain(context.Background(), "somebody else", s.Call, w.curtain(t, s, protocol.SideCaller, 9, false, w.caller.key)); !errors.Is(err, ErrNotFound) {
			t.Errorf("another person: %v", err)
		}

		if err := draws(w.curtain(t, s, protocol.SideCaller, 3, false, w.caller.key)); err != nil {
			t.Fatal(err)
		}
		<-w.link.sent
		tells(w.curtain(t, s, protocol.SideTerminal, 3, true, w.key))
		w.expect(t, KindCurtain, Talking)
		w.end(t, s, protocol.EndPatientHungUp)
		w.ended(t, s.Call, protocol.EndPatientHungUp)
		if err := draws(w.curtain(t, s, protocol.SideCaller, 4, true, w.caller.key)); err != nil {
			t.Errorf("after the end: %v", err)
		}
		w.untold(t)
		rec := w.recorded(t, s.Call, protocol.EndPatientHungUp)
		var course []string
		for _, c := range rec.Curtains {
			course = append(course, string(c.By)+" "+c.What)
			if c.At.IsZero() || len(c.Signed) == 0 {
				t.Errorf("kept %+v", c)
			}
		}
		want := []string{"caller drawn", "terminal closed", "caller opened", "terminal drawn", "terminal back"}
		if !slices.Equal(course, want) {
			t.Errorf("recorded %v", course)
		}
	})
}

// TestManyCurtains: neither end can have the other busy with curtains, and the terminal's last word gets through.
func TestManyCurtains(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		s := w.talk(t)
		passed := 0
		for n := range uint32(100) {
			err := w.Curtain(context.Background(), person, s.Call, w.curtain(t, s, protocol.SideCaller, n+1, n%2 == 0, w.caller.key))
			if err == nil {
				passed++
				<-w.link.sent
			} else if !errors.Is(err, ErrTooMany) {
				t.Fatal(err)
			}
		}
		if passed != curtainBurst {
			t.Errorf("%d curtains of the page were passed on", passed)
		}
		var last []byte
		for n := range uint32(100) {
			last = w.curtain(t, s, protocol.SideTerminal, n+1, n%2 == 0, w.key)
			w.say(&protocol.CallOut{Call: s.Call, Kind: protocol.KindCurtain, Curtain: &protocol.CallCurtain{Curtain: last}})
		}
		pass(2 * time.Second)
		synctest.Wait()
		told := 0
		var heard []byte
		for ; len(w.updates) > 0; told++ {
			heard = (<-w.updates).Curtain
		}
		if told > curtainBurst+1 || !slices.Equal(heard, last) {
			t.Errorf("%d curtains of the terminal were passed on; the last got through: %v", told, slices.Equal(heard, last))
		}
		w.end(t, s, protocol.EndPatientHungUp)
	})
}
