package oidc

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"vindu/clinic/audit"
	"vindu/clinic/store"
)

type journal struct {
	mu      sync.Mutex
	entries []audit.Entry
	err     error
}

func (j *journal) AppendTx(_ context.Context, _ *sql.Tx, e audit.Entry) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.err == nil {
		j.entries = append(j.entries, e)
	}
	return j.err
}

func newLinks(t *testing.T) (*Links, *journal) {
	t.Helper()
	s, err := store.Open(t.Context(), filepath.Join(t.TempDir(), "clinic.db"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	j := &journal{}
	l, err := NewLinks(t.Context(), s, j)
	if err != nil {
		t.Fatal(err)
	}
	return l, j
}

func unknown(t *testing.T, l *Links, i Identity) string {
	t.Helper()
	person, err := l.Person(t.Context(), i)
	u, ok := errors.AsType[*Unknown](err)
	if !ok || !errors.Is(err, ErrUnknown) || person != "" || len(u.Code) != 19 {
		t.Fatalf("%q, %v", person, err)
	}
	return u.Code
}

func TestLinks(t *testing.T) {
	l, j := newLinks(t)
	ctx := t.Context()
	anne := Identity{Issuer: "https://helseid.example", Subject: "01017012345"}
	code := unknown(t, l, anne)
	if again := unknown(t, l, anne); again != code {
		t.Error("another code for the same person")
	}
	if err := l.Link(ctx, "person 1", "7", " "+strings.ToLower(code)+"\n"); err != nil {
		t.Fatal(err)
	}
	if person, err := l.Person(ctx, anne); err != nil || person != "7" {
		t.Errorf("%q, %v", person, err)
	}
	for _, other := range []Identity{{Issuer: "https://other.example", Subject: anne.Subject}, {Issuer: anne.Issuer, Subject: "02"}, {Issuer: anne.Issuer + "\x00", Subject: "1"}} {
		if c := unknown(t, l, other); c == code {
			t.Errorf("%+v has Anne's code", other)
		}
	}
	if err := l.Link(ctx, "person 1", "8", code); !errors.Is(err, ErrCode) {
		t.Errorf("the code twice: %v", err)
	}
	if err := l.Link(ctx, "person 1", "8", "AAAA-AAAA-AAAA-AAAA"); !errors.Is(err, ErrCode) {
		t.Errorf("a code of nobody: %v", err)
	}
	if n, err := l.Unlink(ctx, "person 1", "7"); err != nil || n != 1 {
		t.Errorf("%d, %v", n, err)
	}
	unknown(t, l, anne)
	if n, err := l.Unlink(ctx, "person 1", "7"); err != nil || n != 0 {
		t.Errorf("%d, %v", n, err)
	}
	var what []string
	for _, e := range j.entries {
		what = append(what, string(e.What))
		if strings.Contains(fmt.Sprint(e), anne.Subject) {
			t.Errorf("the audit log has the number: %v", e)
		}
	}
	if !slices.Equal(what, []string{string(audit.IdentityLinked), string(audit.IdentityUnlinked)}) {
		t.Errorf("audited %q", what)
	}
	var kept int
	if err := l.store.Read().QueryRowContext(ctx, "SELECT count(*) FROM oidc_waiting WHERE instr(identity, ?) > 0 OR instr(code, ?) > 0", anne.Subject, anne.Subject).Scan(&kept); err != nil || kept != 0 {
		t.Errorf("the store has the number: %d, %v", kept, err)
	}
}

func TestCodesEnd(t *testing.T) {
	l, j := newLinks(t)
	clock := time.Now()
	l.now = func() time.Time { return clock }
	code := unknown(t, l, Identity{Issuer: "i", Subject: "s"})
	clock = clock.Add(codeLife)
	if err := l.Link(t.Context(), "a", "7", code); !errors.Is(err, ErrCode) {
		t.Errorf("a code of yesterday: %v", err)
	}
	code = unknown(t, l, Identity{Issuer: "i", Subject: "s"})
	j.err = errors.New("disk full")
	if err := l.Link(t.Context(), "a", "7", code); !errors.Is(err, j.err) {
		t.Error(err)
	}
	j.err = nil
	if err := l.Link(t.Context(), "a", "7", code); err != nil { // nothing was half done
		t.Error(err)
	}
	for i := range maxWaiting + 50 {
		unknown(t, l, Identity{Issuer: "i", Subject: fmt.Sprint(i)})
	}
	var n int
	if err := l.store.Read().QueryRowContext(t.Context(), "SELECT count(*) FROM oidc_waiting").Scan(&n); err != nil || n != maxWaiting {
		t.Errorf("%d wait, %v", n, err)
	}
}

// TestRace: of fifty administrators who use one code for fifty persons one succeeds.
func TestRace(t *testing.T) {
	l, _ := newLinks(t)
	code := unknown(t, l, Identity{Issuer: "i", Subject: "s"})
	var won atomic.Int64
	var group sync.WaitGroup
	for i := range 50 {
		group.Go(func() {
			switch err := l.Link(t.Context(), "a", fmt.Sprint(i), code); {
			case err == nil:
				won.Add(1)
			case !errors.Is(err, ErrCode):
				t.Error(err)
			}
		})
	}
	group.Wait()
	if won.Load() != 1 {
		t.Errorf("%d won", won.Load())
	}
}

// Whose identity is whose is known without what it is; a link that was taken away holds no more.
func TestHolds(t *testing.T) {
	l, _ := newLinks(t)
	i := Identity{Issuer: "https://id.example", Subject: "01017012345"}
	if err := l.Link(t.Context(), "kari", "7", unknown(t, l, i)); err != nil {
		t.Fatal(err)
	}
	for person, want := range map[string]bool{"7": true, "8": false} {
		if holds, err := l.Holds(t.Context(), i.Hash(), person); err != nil || holds != want {
			t.Errorf("of %s: %v, %v", person, holds, err)
		}
		if list, err := l.Of(t.Context(), person); err != nil || len(list) > 0 != want || want && list[0].Issuer != i.Issuer {
			t.Errorf("of %s: %v, %v", person, list, err)
		}
	}
	if n, err := l.Unlink(t.Context(), "kari", "7"); err != nil || n != 1 {
		t.Errorf("%d, %v", n, err)
	}
	if holds, err := l.Holds(t.Context(), i.Hash(), "7"); err != nil || holds {
		t.Errorf("taken away: %v, %v", holds, err)
	}
}
