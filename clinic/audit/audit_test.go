package audit

import (
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"vindu/clinic/store"
	"vindu/protocol"
)

func open(t *testing.T) (*Log, note.Verifier) {
	t.Helper()
	s, err := store.Open(t.Context(), filepath.Join(t.TempDir(), "clinic.db"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	secret, public, err := note.GenerateKey(rand.Reader, "vindu-clinic-audit")
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := note.NewVerifier(public)
	if err != nil {
		t.Fatal(err)
	}
	l, err := New(t.Context(), s, protocol.Secret(secret))
	if err != nil {
		t.Fatal(err)
	}
	return l, verifier
}

func (l *Log) fill(t *testing.T, from, to int) {
	t.Helper()
	for i := from; i < to; i++ {
		if err := l.Append(t.Context(), Entry{Who: "Kari", What: VoucherIssued, Subject: fmt.Sprint(i), Detail: map[string]string{"b": "2", "a": "1"}}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestHeads(t *testing.T) {
	l, verifier := open(t)
	var heads [][]byte
	for i := range 20 {
		head, err := l.Head(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if want := fmt.Sprintf("vindu-clinic-audit\n%d\n", i); !strings.HasPrefix(string(head), want) {
			t.Errorf("head = %q, want it to begin with %q", head, want)
		}
		heads = append(heads, head)
		l.fill(t, i, i+1)
	}
	if _, err := l.Verify(t.Context(), nil); err != nil {
		t.Error(err)
	}
	for i, head := range heads {
		if _, err := l.Verify(t.Context(), verifier, head); err != nil {
			t.Errorf("head of %d entries: %v", i, err)
		}
	}
	_, otherVerifier := open(t)
	if _, err := l.Verify(t.Context(), otherVerifier, heads[3]); !errors.Is(err, ErrHead) {
		t.Errorf("a head of another log: %v", err)
	}
	if n, err := l.Verify(t.Context(), verifier, heads...); err != nil || n != 20 {
		t.Errorf("all heads: %d, %v", n, err)
	}
	forked, _ := note.Sign(&note.Note{Text: checkpoint(logName, 5, tlog.Hash{1})}, l.signer)
	if _, err := l.Verify(t.Context(), verifier, heads[5], forked); !errors.Is(err, ErrTampered) {
		t.Errorf("two heads of different entries: %v", err)
	}
}

func TestEntries(t *testing.T) {
	l, _ := open(t)
	l.fill(t, 0, 5)
	got, err := l.Entries(t.Context(), -1, 2)
	if err != nil || len(got) != 2 || got[0].N != 4 || got[1].N != 3 || got[0].Subject != "4" || got[0].Who != "Kari" || got[0].Detail["a"] != "1" || got[0].At == 0 {
		t.Errorf("newest: %+v, %v", got, err)
	}
	if got, err = l.Entries(t.Context(), 1, 9); err != nil || len(got) != 1 || got[0].N != 0 {
		t.Errorf("oldest: %+v, %v", got, err)
	}
	for name, e := range map[string]Entry{"nobody": {What: "x"}, "nothing": {Who: "x"}, "huge": {Who: "x", What: "y", Subject: strings.Repeat("z", maxEntry)}} {
		if err := l.Append(t.Context(), e); err == nil {
			t.Errorf("%s: appended", name)
		}
	}
}

func TestRollback(t *testing.T) {
	l, _ := open(t)
	l.fill(t, 0, 3)
	cancelled := errors.New("the change failed")
	err := l.store.Write(t.Context(), func(tx *sql.Tx) error {
		if err := l.AppendTx(t.Context(), tx, Entry{Who: "Kari", What: PersonAdded}); err != nil {
			return err
		}
		return cancelled
	})
	if !errors.Is(err, cancelled) {
		t.Fatal(err)
	}
	l.fill(t, 3, 5)
	if _, err := l.Verify(t.Context(), nil); err != nil {
		t.Error(err)
	}
	if got, err := l.Entries(t.Context(), -1, 10); err != nil || len(got) != 5 {
		t.Errorf("%d entries, %v", len(got), err)
	}
}

func TestConcurrent(t *testing.T) {
	l, _ := open(t)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() { l.fill(t, i, i+3) })
	}
	wg.Wait()
	if _, err := l.Verify(t.Context(), nil); err != nil {
		t.Error(err)
	}
}

func TestTampering(t *testing.T) {
	untie := "DROP TRIGGER audit_entries_keep; DROP TRIGGER audit_entries_fix; DROP TRIGGER audit_hashes_keep; DROP TRIGGER audit_hashes_fix;"
	for name, tc := range map[string]struct {
		sql      string
		headOnly bool // found only with an earlier head
	}{
		"entry altered":   {sql: "UPDATE audit_entries SET line = CAST(replace(CAST(line AS TEXT), 'Kari', 'Ola') AS BLOB) WHERE n = 3"},
		"entry taken":     {sql: "DELETE FROM audit_entries WHERE n = 3"},
		"last one taken":  {sql: "DELETE FROM audit_entries WHERE n = 6", headOnly: true},
		"all taken":       {sql: "DELETE FROM audit_entries; DELETE FROM audit_hashes", headOnly: true},
		"hash altered":    {sql: "UPDATE audit_hashes SET hash = zeroblob(32) WHERE i = 2"},
		"hash cut":        {sql: "UPDATE audit_hashes SET hash = zeroblob(3) WHERE i = 2"},
		"entries swapped": {sql: "UPDATE audit_entries SET n = -1 WHERE n = 2; UPDATE audit_entries SET n = 2 WHERE n = 3; UPDATE audit_entries SET n = 3 WHERE n = -1"},
	} {
		t.Run(name, func(t *testing.T) {
			l, verifier := open(t)
			l.fill(t, 0, 7)
			head, err := l.Head(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			write := func(query string) error {
				return l.store.Write(t.Context(), func(tx *sql.Tx) error {
					_, err := tx.Exec(query)
					return err
				})
			}
			if err := write(tc.sql); err == nil || !strings.Contains(err.Error(), "append-only") {
				t.Errorf("by mistake: error = %v", err)
			}
			if err := write(untie + tc.sql); err != nil {
				t.Fatal(err)
			}
			if _, err := l.Verify(t.Context(), verifier, head); !errors.Is(err, ErrTampered) {
				t.Errorf("with a head: error = %v", err)
			}
			if _, err := l.Verify(t.Context(), nil); !tc.headOnly && !errors.Is(err, ErrTampered) {
				t.Errorf("without a head: error = %v", err)
			}
		})
	}
}
