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
	terminal = protocol.KeyHash{1}
	placed   = protocol.CallID{2}
	issued   = [16]byte{3}
	start    = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
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
	for _, body := range bodies {
		if err := l.c.Store.Write(t.Context(), func(tx *sql.Tx) error { return l.Store(t.Context(), tx, k, nil, body) }); err != nil {
			t.Fatal(err)
		}
	}
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
			[]Opening{{"camera", at(0), at(time.Minute), false, "Anne Berg", ""}}, "",
		},
		"twice in a call": {
			terminal, []any{inCall(true, placed, 0), inCall(false, placed, 1*time.Minute), inCall(true, placed, 2*time.Minute)},
			[]Opening{{"camera", at(2 * time.Minute), time.Time{}, false, "Anne Berg", ""}, {"camera", at(0), at(time.Minute), false, "Anne Berg", ""}}, "",
		},
		"the closing came first": {
			terminal, []any{inCall(false, placed, time.Minute), inCall(true, placed, 0)},
			[]Opening{{"camera", at(0), at(time.Minute), false, "Anne Berg", ""}}, "",
		},
		"for a check": {
			terminal, []any{check(true, issued, 0), check(false, issued, time.Minute)},
			[]Opening{{"microphone", at(0), at(time.Minute), true, "Kari Nes", ""}}, "",
		},
		"a check that went on for a little longer": {
			terminal, []any{check(true, issued, 65*time.Minute), check(false, issued, 3*time.Hour)},
			[]Opening{{"microphone", at(65 * time.Minute), at(3 * time.Hour), true, "Kari Nes", ""}}, "",
		},
		"a call that nobody placed": {
			terminal, []any{inCall(true, protocol.CallID{9}, 0)},
			[]Opening{{"camera", at(0), time.Time{}, false, "", "has not placed"}}, "camera, a call",
		},
		"a call to another terminal": {
			protocol.KeyHash{8}, []any{inCall(true, placed, 0)},
			[]Opening{{"camera", at(0), time.Time{}, false, "", "has not placed"}}, "camera, a call",
		},
		"no call":                  {terminal, []any{inCall(true, protocol.CallID{}, 0)}, []Opening{{"camera", at(0), time.Time{}, false, "", "has not placed"}}, "camera, a call"},
		"an unknown authorisation": {terminal, []any{check(true, [16]byte{9}, 0)}, []Opening{{"microphone", at(0), time.Time{}, true, "", "has not issued"}}, "microphone, a check"},
		"an authorisation that is over": {
			terminal, []any{check(true, issued, 2*time.Hour)},
			[]Opening{{"microphone", at(2 * time.Hour), time.Time{}, true, "Kari Nes", "was over"}}, "was over",
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

func TestNotices(t *testing.T) {
	for name, tc := range map[string]struct {
		notice protocol.Notice
		want   string
	}{
		"a refused order":     {protocol.Notice{Code: protocol.AuthOrder}, "authorisation.order: 2026-05-01T12:00:00Z"},
		"a refused call":      {protocol.Notice{Code: protocol.AuthFingerprint, Detail: "invitation", Call: placed}, "authorisation.fingerprint: invitation, call " + placed.String() + ", 2026-05-01T12:00:00Z"},
		"a proof":             {protocol.Notice{Code: protocol.ProofAnswer}, "proof.answer: 2026-05-01T12:00:00Z"},
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
	for _, o := range []*protocol.Opening{{Device: "camera", Open: true, Call: placed, At: 1}, {Device: "camera", Open: true, At: 1, Reason: protocol.OpeningCheck, Mandate: issued[:]}} {
		if err := l.c.Store.Write(t.Context(), func(tx *sql.Tx) error { return l.Store(t.Context(), tx, terminal, nil, o) }); !errors.Is(err, c.err) {
			t.Errorf("%v", err)
		}
	}
	if list, err := l.Openings(t.Context(), terminal, 10); err != nil || len(list) != 0 || len(c.raised) != 0 {
		t.Errorf("%+v, %q, %v", list, c.raised, err)
	}
}
