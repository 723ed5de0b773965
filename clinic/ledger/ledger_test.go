package ledger

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"vindu/clinic/calls"
	"vindu/clinic/fleet"
	"vindu/clinic/register"
	"vindu/clinic/setup"
	"vindu/clinic/store"
	"vindu/protocol"
)

var (
	_ fleet.Sink = (*Ledger)(nil)
	_ Calls      = (*calls.Records)(nil)
	_ Mandates   = (*setup.Service)(nil)
	_ Alarms     = (*register.Register)(nil)
)

var (
	terminal  = protocol.KeyHash{1}
	successor = protocol.KeyHash{4}
	placed    = protocol.CallID{2}
	issued    = [16]byte{3}
	start     = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
)

// clinic is what the ledger compares with, and what it raises.
type clinic struct {
	raised []string
	open   map[protocol.Code]bool
	err    error
}

func (c *clinic) Caller(_ context.Context, _ *sql.Tx, k protocol.KeyHash, call protocol.CallID) (string, bool, error) {
	return "Anne Berg", k == terminal && call == placed, c.err
}

func (c *clinic) Technician(_ context.Context, _ *sql.Tx, mandate []byte) (string, time.Time, bool, error) {
	return "Kari Nes", start.Add(time.Hour), string(mandate) == string(issued[:]), c.err
}

func (c *clinic) RaiseTx(_ context.Context, _ *sql.Tx, code protocol.Code, _ protocol.KeyHash, detail string) (bool, error) {
	fresh := !c.open[code]
	c.open[code] = true
	c.raised = append(c.raised, string(code)+": "+detail)
	return fresh, nil
}

func newLedger(t *testing.T) (*Ledger, *clinic, *strings.Builder) {
	t.Helper()
	s, err := store.Open(t.Context(), filepath.Join(t.TempDir(), "clinic.db"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	c, logged := &clinic{open: map[protocol.Code]bool{}}, new(strings.Builder)
	l, err := New(t.Context(), Config{Store: s, Calls: c, Mandates: c, Alarms: c, Log: slog.New(slog.NewTextHandler(logged, nil))})
	if err != nil {
		t.Fatal(err)
	}
	return l, c, logged
}

func (l *Ledger) take(t *testing.T, k protocol.KeyHash, bodies ...any) {
	t.Helper()
	for _, e := range chain(t, bodies...) {
		l.commit(t, k, e)
	}
}

func (l *Ledger) commit(t *testing.T, k protocol.KeyHash, e *protocol.Event) {
	t.Helper()
	body, err := e.Open()
	if err != nil {
		t.Fatal(err)
	}
	if err := l.c.Store.Write(t.Context(), func(tx *sql.Tx) error { return l.Store(t.Context(), tx, k, e, body) }); err != nil {
		t.Fatal(err)
	}
}

// chain makes a terminal's events of what it tells.
func chain(t *testing.T, bodies ...any) (events []*protocol.Event) {
	t.Helper()
	var n uint64
	var previous protocol.Hash
	for i, body := range bodies {
		e := &protocol.Event{Version: 1, Epoch: protocol.Nonce{9}, Seq: uint64(i + 1), At: 1}
		var err error
		switch b := body.(type) {
		case *protocol.Opening:
			n++
			e.Kind, e.Link = protocol.EventOpening, &protocol.Link{N: n, Previous: previous}
			e.Body, err = protocol.Encode(b)
		case *protocol.Notice:
			e.Kind = protocol.EventNotice
			e.Body, err = protocol.Encode(b)
		}
		if err != nil {
			t.Fatal(err)
		}
		encoded, err := protocol.Encode(e)
		if err != nil {
			t.Fatal(err)
		}
		if e.Link != nil {
			previous = protocol.HashOf(encoded)
		}
		events = append(events, e)
	}
	return events
}

// TestChain: an opening that was left out or changed is found out (R19), and a key's successor goes on with its chain.
func TestChain(t *testing.T) {
	told := func(t *testing.T) []*protocol.Event {
		var bodies []any
		for i := range 6 {
			bodies = append(bodies, &protocol.Opening{Version: 1, Device: "camera", Open: i%2 == 0, Call: placed, At: protocol.At(start.Add(time.Duration(i) * time.Second))})
		}
		return chain(t, bodies...)
	}
	for name, c := range map[string]struct {
		change func([]*protocol.Event) []*protocol.Event
		raised []string
	}{
		"whole":             {func(e []*protocol.Event) []*protocol.Event { return e }, nil},
		"one left out":      {func(e []*protocol.Event) []*protocol.Event { return append(e[:2], e[3:]...) }, []string{"opening 4 follows 2"}},
		"two exchanged":     {func(e []*protocol.Event) []*protocol.Event { e[1], e[2] = e[2], e[1]; return e }, []string{"opening 3 follows 1", "opening 2 follows 3", "opening 4 follows 2"}},
		"the first missing": {func(e []*protocol.Event) []*protocol.Event { return e[1:] }, []string{"opening 2 follows 0"}},
		"one changed": {func(e []*protocol.Event) []*protocol.Event {
			changed := *e[2]
			changed.Link = &protocol.Link{N: 3, Previous: protocol.Hash{1}}
			e[2] = &changed
			return e
		}, []string{"opening 2 is not as it was told", "opening 3 is not as it was told"}},
		"told twice":  {func(e []*protocol.Event) []*protocol.Event { return append(e[:1], e...) }, []string{"it begins anew after 1 openings"}},
		"begun anew":  {func(e []*protocol.Event) []*protocol.Event { return append(e, e[0], e[1]) }, []string{"it begins anew after 6 openings"}},
		"in no chain": {func(e []*protocol.Event) []*protocol.Event { x := *e[5]; x.Link = nil; return append(e, &x) }, []string{"in no chain"}},
		"from far away": {func(e []*protocol.Event) []*protocol.Event {
			x := *e[5]
			x.Link = &protocol.Link{N: 1 << 62, Previous: protocol.Hash{1}}
			return append(e, &x)
		}, []string{"opening 4611686018427387904 follows 6"}},
	} {
		t.Run(name, func(t *testing.T) {
			l, alarms, _ := newLedger(t)
			for _, e := range c.change(told(t)) {
				l.commit(t, terminal, e)
			}
			if len(alarms.raised) != len(c.raised) {
				t.Fatalf("raised %q, want %q", alarms.raised, c.raised)
			}
			for i, want := range c.raised {
				if !strings.HasPrefix(alarms.raised[i], string(protocol.AuthLedger)+": ") || !strings.Contains(alarms.raised[i], want) {
					t.Errorf("raised %q, want %q", alarms.raised[i], want)
				}
			}
		})
	}
	t.Run("the key's successor", func(t *testing.T) {
		l, alarms, _ := newLedger(t)
		events := told(t)
		for i, e := range events {
			k := terminal
			if i >= 4 {
				k = successor
			}
			l.commit(t, k, e)
		}
		if len(alarms.raised) != 2 || strings.Contains(strings.Join(alarms.raised, ""), string(protocol.AuthLedger)) { // its calls were placed to the key before
			t.Errorf("raised %q", alarms.raised)
		}
	})
}

func TestOpenings(t *testing.T) {
	inCall := func(open bool, call protocol.CallID, after time.Duration) *protocol.Opening {
		return &protocol.Opening{Version: 1, Device: "camera", Open: open, Call: call, At: protocol.At(start.Add(after))}
	}
	check := func(open bool, mandate [16]byte, after time.Duration) *protocol.Opening {
		return &protocol.Opening{Version: 1, Device: "microphone", Open: open, At: protocol.At(start.Add(after)), Reason: protocol.OpeningCheck, Mandate: mandate[:]}
	}
	at := func(after time.Duration) time.Time { return start.Add(after) }
	for name, tc := range map[string]struct {
		terminal protocol.KeyHash
		told     []any
		want     []Opening // the latest first; a Flaw is what the flaw has in it
		raised   string    // what the one alarm has in it
	}{
		"in a call": {
			terminal, []any{inCall(true, placed, 0), inCall(false, placed, time.Minute)},
			[]Opening{{"camera", at(0), at(time.Minute), false, "Anne Berg", "", placed, false}}, "",
		},
		"twice in a call": {
			terminal, []any{inCall(true, placed, 0), inCall(false, placed, 1*time.Minute), inCall(true, placed, 2*time.Minute)},
			[]Opening{{"camera", at(2 * time.Minute), time.Time{}, false, "Anne Berg", "", placed, false}, {"camera", at(0), at(time.Minute), false, "Anne Berg", "", placed, false}}, "",
		},
		"the closing came first": {
			terminal, []any{inCall(false, placed, time.Minute), inCall(true, placed, 0)},
			[]Opening{{"camera", at(0), at(time.Minute), false, "Anne Berg", "", placed, false}}, "",
		},
		"for a check": {
			terminal, []any{check(true, issued, 0), check(false, issued, time.Minute)},
			[]Opening{{"microphone", at(0), at(time.Minute), true, "Kari Nes", "", protocol.CallID{}, false}}, "",
		},
		"a check that went on for a little longer": {
			terminal, []any{check(true, issued, 65*time.Minute), check(false, issued, 3*time.Hour)},
			[]Opening{{"microphone", at(65 * time.Minute), at(3 * time.Hour), true, "Kari Nes", "", protocol.CallID{}, false}}, "",
		},
		"a call that nobody placed": {
			terminal, []any{inCall(true, protocol.CallID{9}, 0)},
			[]Opening{{"camera", at(0), time.Time{}, false, "", "has not placed", protocol.CallID{9}, false}}, "camera, a call",
		},
		"a call to another terminal": {
			protocol.KeyHash{8}, []any{inCall(true, placed, 0)},
			[]Opening{{"camera", at(0), time.Time{}, false, "", "has not placed", placed, false}}, "camera, a call",
		},
		"no call":                  {terminal, []any{inCall(true, protocol.CallID{}, 0)}, []Opening{{"camera", at(0), time.Time{}, false, "", "has not placed", protocol.CallID{}, false}}, "camera, a call"},
		"an unknown authorisation": {terminal, []any{check(true, [16]byte{9}, 0)}, []Opening{{"microphone", at(0), time.Time{}, true, "", "has not issued", protocol.CallID{}, false}}, "microphone, a check"},
		"an authorisation that is over": {
			terminal, []any{check(true, issued, 2*time.Hour)},
			[]Opening{{"microphone", at(2 * time.Hour), time.Time{}, true, "Kari Nes", "was over", protocol.CallID{}, false}}, "was over",
		},
	} {
		t.Run(name, func(t *testing.T) {
			l, c, logged := newLedger(t)
			l.take(t, tc.terminal, tc.told...)
			list, err := l.Openings(t.Context(), tc.terminal, 10)
			if err != nil || len(list) != len(tc.want) {
				t.Fatalf("%+v, %v", list, err)
			}
			for i := range list {
				if (list[i].Flaw == "") != (tc.want[i].Flaw == "") || !strings.Contains(list[i].Flaw, tc.want[i].Flaw) {
					t.Errorf("flaw %q, want %q", list[i].Flaw, tc.want[i].Flaw)
				}
				list[i].Flaw = tc.want[i].Flaw
			}
			if !reflect.DeepEqual(list, tc.want) {
				t.Errorf("%+v, want %+v", list, tc.want)
			}
			if tc.raised == "" && len(c.raised) != 0 || tc.raised != "" && (len(c.raised) != 1 || !strings.HasPrefix(c.raised[0], string(protocol.AuthOpening)+": ") || !strings.Contains(c.raised[0], tc.raised)) {
				t.Errorf("raised %q", c.raised)
			}
			if got := strings.Count(logged.String(), "level=ERROR"); got != len(c.raised) {
				t.Errorf("logged %d times: %s", got, logged)
			}
		})
	}
}

// A hostile terminal can tell of as many openings as it likes: what is kept of them, and so what each new one costs, is bounded. Its alarm counts all.
func TestOpeningsAreBounded(t *testing.T) {
	l, c, _ := newLedger(t)
	const told = maxPerReason + maxFlawed + 100
	hostile := protocol.KeyHash{7}
	open := func(tx *sql.Tx, k protocol.KeyHash, call protocol.CallID, i int) error {
		return l.opening(t.Context(), tx, k, &protocol.Opening{Version: 1, Device: "camera", Open: true, Call: call, At: protocol.At(start) + protocol.Time(i)})
	}
	err := l.c.Store.Write(t.Context(), func(tx *sql.Tx) (err error) {
		for i := range told {
			err = errors.Join(err, open(tx, terminal, placed, i), open(tx, hostile, protocol.CallID{8, byte(i >> 8), byte(i)}, i), open(tx, hostile, protocol.CallID{9}, i))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for k, want := range map[protocol.KeyHash]int{terminal: maxPerReason, hostile: maxFlawed} {
		if list, err := l.Openings(t.Context(), k, 10*told); err != nil || len(list) != want {
			t.Errorf("%d kept, want %d, %v", len(list), want, err)
		}
	}
	if len(c.raised) != 2*told {
		t.Errorf("raised %d times, want %d", len(c.raised), 2*told)
	}
}

func TestNotices(t *testing.T) {
	for name, tc := range map[string]struct {
		notice protocol.Notice
		want   string
	}{
		"a refused order":     {protocol.Notice{Code: protocol.AuthOrder}, "authorisation.order: 2026-05-01T12:00:00Z"},
		"a refused call":      {protocol.Notice{Code: protocol.AuthFingerprint, Detail: "invitation", Call: placed}, "authorisation.fingerprint: invitation, call " + placed.String() + ", 2026-05-01T12:00:00Z"},
		"a proof":             {protocol.Notice{Code: protocol.ProofAnswer}, "proof.answer: 2026-05-01T12:00:00Z"},
		"a weak far end":      {protocol.Notice{Code: protocol.DTLSWeak, Detail: "connection", Call: placed}, "dtls.not_as_agreed: connection, call " + placed.String() + ", 2026-05-01T12:00:00Z"},
		"of a newer version":  {protocol.Notice{Code: "authorisation.new"}, string(protocol.AuthUnproven) + ": authorisation.new, 2026-05-01T12:00:00Z"},
		"its own trouble":     {protocol.Notice{Code: protocol.StorageDamaged, Detail: "memory of calls"}, ""},
		"not even in a stage": {protocol.Notice{Code: "authorisationx.order"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			l, c, logged := newLedger(t)
			tc.notice.Version, tc.notice.At = 1, protocol.At(start)
			l.take(t, terminal, &tc.notice, &tc.notice)
			want := []string(nil)
			if tc.want != "" {
				want = []string{tc.want, tc.want}
			}
			if !reflect.DeepEqual(c.raised, want) {
				t.Errorf("raised %q, want %q", c.raised, want)
			}
			if got := strings.Count(logged.String(), "level=ERROR"); got != min(1, len(want)) {
				t.Errorf("logged %d times", got)
			}
		})
	}
}

// Where the clinic cannot say, nothing is kept, so that the event comes again.
func TestCannotCompare(t *testing.T) {
	l, c, _ := newLedger(t)
	c.err = errors.New("disk")
	for _, o := range []*protocol.Opening{{Version: 1, Device: "camera", Open: true, Call: placed, At: 1}, {Version: 1, Device: "camera", Open: true, At: 1, Reason: protocol.OpeningCheck, Mandate: issued[:]}} {
		if err := l.c.Store.Write(t.Context(), func(tx *sql.Tx) error { return l.Store(t.Context(), tx, terminal, chain(t, o)[0], o) }); !errors.Is(err, c.err) {
			t.Errorf("%v", err)
		}
	}
	if list, err := l.Openings(t.Context(), terminal, 10); err != nil || len(list) != 0 || len(c.raised) != 0 {
		t.Errorf("%+v, %q, %v", list, c.raised, err)
	}
}

// TestRehearsals: the microphone opens for rehearsals, which is on the ledger and no alarm; the latest are kept.
func TestRehearsals(t *testing.T) {
	l, alarms, _ := newLedger(t)
	var told []any
	for i := range maxPerReason + 3 {
		for _, open := range []bool{true, false} {
			at := start.Add(time.Duration(i) * time.Hour)
			if !open {
				at = at.Add(4 * time.Second)
			}
			told = append(told, &protocol.Opening{Version: 1, Device: "microphone", Open: open, At: protocol.At(at), Reason: protocol.OpeningRehearsal})
		}
	}
	err := l.c.Store.Write(t.Context(), func(tx *sql.Tx) error { // in one transaction, which takes no time
		for _, e := range chain(t, told...) {
			body, err := e.Open()
			if err != nil {
				return err
			}
			if err := l.Store(t.Context(), tx, terminal, e, body); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	list, err := l.Openings(t.Context(), terminal, 1000)
	if err != nil || len(alarms.raised) != 0 || len(list) != maxPerReason {
		t.Fatalf("%d kept, raised %q, %v", len(list), alarms.raised, err)
	}
	for i, o := range list {
		at := start.Add(time.Duration(maxPerReason+2-i) * time.Hour)
		if want := (Opening{Device: "microphone", Opened: at, Closed: at.Add(4 * time.Second), Rehearsal: true}); !o.Opened.Equal(want.Opened) || !o.Closed.Equal(want.Closed) || !o.Rehearsal || o.Check || o.Flaw != "" {
			t.Fatalf("%+v, want %+v", o, want)
		}
	}
}
