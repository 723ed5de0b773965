package signing

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"path/filepath"
	"testing"

	"vindu/clinic/store"
)

func open(t *testing.T) (*Requests, func(func(*sql.Tx) error)) {
	t.Helper()
	s, err := store.Open(t.Context(), filepath.Join(t.TempDir(), "clinic.db"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	r, err := New(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	return r, func(do func(*sql.Tx) error) {
		t.Helper()
		if err := s.Write(context.WithoutCancel(t.Context()), do); err != nil {
			t.Fatal(err)
		}
	}
}

// TestRequests: what was asked for waits once for each key, until it is signed or dropped; what was dropped is not accepted.
func TestRequests(t *testing.T) {
	ctx := t.Context()
	r, write := open(t)
	one, two := []byte("key one"), []byte("key two")
	waiting := func(key []byte, want int) {
		t.Helper()
		if list, err := r.Waiting(ctx, key); err != nil || len(list) != want {
			t.Errorf("%d wait for %s, want %d; %v", len(list), key, want, err)
		}
	}
	signed := func(kind, subject string, key []byte, want string) {
		t.Helper()
		if got, err := r.Signed(ctx, kind, subject, key); err != nil || string(got) != want {
			t.Errorf("%s %s: %q, %v; want %q", kind, subject, got, err, want)
		}
	}
	for _, body := range []string{"first", "asked again, the first stays"} {
		if got, err := r.Ask(ctx, KeyOrder, "terminal", []byte(body), one); err != nil || got != nil {
			t.Errorf("%q, %v", got, err)
		}
	}
	write(func(tx *sql.Tx) error { return r.Want(ctx, tx, Mandate, "lost", []byte("mandate"), one) })
	waiting(one, 2)
	waiting(two, 0)
	if body, err := r.Body(ctx, KeyOrder, "terminal"); err != nil || string(body) != "first" {
		t.Errorf("%q, %v", body, err)
	}
	write(func(tx *sql.Tx) error { return r.Drop(ctx, tx, Mandate, "lost") })
	waiting(one, 1)
	write(func(tx *sql.Tx) error {
		n, key, waits, err := r.Asked(ctx, tx, KeyOrder, []byte("first"))
		if err != nil || string(key) != string(one) || !waits {
			t.Errorf("%s, %v, %v", key, waits, err)
		}
		if err := r.Accept(ctx, tx, n, []byte("signed")); err != nil {
			return err
		}
		n, _, waits, err = r.Asked(ctx, tx, Mandate, []byte("mandate"))
		if err != nil || waits {
			t.Errorf("dropped, and it waits: %v", err)
		}
		if _, _, _, err := r.Asked(ctx, tx, Mandate, []byte("another")); !errors.Is(err, sql.ErrNoRows) {
			t.Errorf("never asked for: %v", err)
		}
		return r.Accept(ctx, tx, n, []byte("signed"))
	})
	waiting(one, 0)
	signed(KeyOrder, "terminal", one, "signed")
	signed(Mandate, "lost", one, "")
	signed(KeyOrder, "terminal", two, "") // another key has followed: it is asked, too
	if got, err := r.Ask(ctx, KeyOrder, "terminal", []byte("second"), two); err != nil || got != nil {
		t.Errorf("%q, %v", got, err)
	}
	waiting(two, 1)
}
