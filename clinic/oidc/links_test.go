package oidc

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"os"
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
	dir, j := t.TempDir(), &journal{}
	l, err := NewLinks(t.Context(), openStore(t, dir), j, filepath.Join(dir, "identity.key"))
	if err != nil {
		t.Fatal(err)
	}
	return l, j
}

func openStore(t *testing.T, dir string) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), filepath.Join(dir, "clinic.db"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// nothingElse ends nothing beside a link.
func nothingElse(context.Context, *sql.Tx, string) error { return nil }

func unknown(t *testing.T, l *Links, i Identity) string {
	t.Helper()
	person, identity, err := l.Person(t.Context(), i)
	u, ok := errors.AsType[*Unknown](err)
	if !ok || !errors.Is(err, ErrUnknown) || person != "" || len(u.Code) != 19 || !bytes.Equal(identity, l.hash(i)) {
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
	if person, identity, err := l.Person(ctx, anne); err != nil || person != "7" || !bytes.Equal(identity, l.hash(anne)) {
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
	ended := ""
	sessions := func(_ context.Context, _ *sql.Tx, person string) error { ended = person; return nil }
	if n, err := l.Unlink(ctx, "person 1", "7", sessions); err != nil || n != 1 || ended != "7" {
		t.Errorf("%d, %v", n, err)
	}
	unknown(t, l, anne)
	if n, err := l.Unlink(ctx, "person 1", "7", nothingElse); err != nil || n != 0 {
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
	for i := range maxWaiting {
		unknown(t, l, Identity{Issuer: "i", Subject: fmt.Sprint(i)})
	}
	if _, _, err := l.Person(t.Context(), Identity{Issuer: "i", Subject: "too late"}); !errors.Is(err, ErrFull) { // and no code that nobody would know
		t.Errorf("one too many: %v", err)
	}
	unknown(t, l, Identity{Issuer: "i", Subject: "0"}) // who waits keeps the code
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
		if holds, err := l.Holds(t.Context(), l.hash(i), person); err != nil || holds != want {
			t.Errorf("of %s: %v, %v", person, holds, err)
		}
		if list, err := l.Of(t.Context(), person); err != nil || len(list) > 0 != want || want && list[0].Issuer != i.Issuer {
			t.Errorf("of %s: %v, %v", person, list, err)
		}
	}
	if n, err := l.Unlink(t.Context(), "kari", "7", nothingElse); err != nil || n != 1 {
		t.Errorf("%d, %v", n, err)
	}
	if holds, err := l.Holds(t.Context(), l.hash(i), "7"); err != nil || holds {
		t.Errorf("taken away: %v, %v", holds, err)
	}
}

// What is kept and logged of an identity cannot be found again by who tries all subjects there are, such as national identity numbers, without the key.
func TestKeyed(t *testing.T) {
	dir := t.TempDir()
	s, file := openStore(t, dir), filepath.Join(dir, "identity.key")
	open := func() (*Links, error) { return NewLinks(t.Context(), s, &journal{}, file) }
	l, err := open()
	if err != nil {
		t.Fatal(err)
	}
	i := Identity{Issuer: "https://id.example", Subject: "01017012345"}
	for _, plain := range []string{"vindu/identity.v1\x00", "vindu/identity.v2\x00", ""} {
		if h := sha256.Sum256([]byte(plain + i.Issuer + "\x00" + i.Subject)); bytes.Equal(h[:], l.hash(i)) {
			t.Error("a hash without a key")
		}
	}
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	if list, err := os.ReadDir(dir); err != nil || slices.ContainsFunc(list, func(e os.DirEntry) bool { return strings.HasPrefix(e.Name(), ".identity") }) {
		t.Errorf("left behind: %v, %v", list, err)
	}
	other, _ := newLinks(t)
	if bytes.Equal(other.hash(i), l.hash(i)) {
		t.Error("two clinics have one key")
	}
	code := unknown(t, l, i)
	other.key = l.key
	if unknown(t, other, i) == code {
		t.Error("the code follows from the identity")
	}
	if err := l.Link(t.Context(), "kari", "7", code); err != nil {
		t.Fatal(err)
	}
	if l, err = open(); err != nil {
		t.Fatal(err)
	}
	if person, _, err := l.Person(t.Context(), i); err != nil || person != "7" {
		t.Errorf("after another start %q, %v", person, err)
	}
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		content []byte
		mode    os.FileMode
		says    string
	}{
		"anybody's": {whole, 0o644, "chmod 600"},
		"cut off":   {whole[:keyBytes-1], 0o600, "damaged"},
		"empty":     {nil, 0o600, "damaged"},
	} {
		if err := errors.Join(os.WriteFile(file, tc.content, tc.mode), os.Chmod(file, tc.mode)); err != nil {
			t.Fatal(err)
		}
		if _, err := open(); err == nil || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A new key in its place would have everybody unknown, and nobody know why.
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if _, err := open(); err == nil || !strings.Contains(err.Error(), "restore it") {
		t.Errorf("without it: %v", err)
	}
	if _, err := l.Unlink(t.Context(), "kari", "7", nothingElse); err != nil {
		t.Fatal(err)
	}
	if _, err := open(); err != nil {
		t.Errorf("without it, and nobody linked: %v", err)
	}
}

// TestOldDatabase: one from before identities were hashed under a key opens; whoever was linked is linked anew.
func TestOldDatabase(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir)
	if err := s.Migrate(t.Context(), "oidc", steps[:3]); err != nil {
		t.Fatal(err)
	}
	if err := s.Write(t.Context(), func(tx *sql.Tx) error {
		_, err := tx.Exec("INSERT INTO oidc_links VALUES (x'01', '7', 'i', 1)")
		if err == nil {
			_, err = tx.Exec("INSERT INTO oidc_waiting VALUES ('AAAA-AAAA-AAAA-AAAA', x'02', 'i', 4102444800000)")
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	l, err := NewLinks(t.Context(), s, &journal{}, filepath.Join(dir, "identity.key"))
	if err != nil {
		t.Fatal(err)
	}
	if list, err := l.Of(t.Context(), "7"); err != nil || len(list) > 0 {
		t.Errorf("linked by what nobody finds: %v, %v", list, err)
	}
	if err := l.Link(t.Context(), "kari", "7", "AAAA-AAAA-AAAA-AAAA"); !errors.Is(err, ErrCode) {
		t.Error(err)
	}
	if err := l.Link(t.Context(), "kari", "7", unknown(t, l, Identity{Issuer: "i", Subject: "s"})); err != nil {
		t.Error(err)
	}
}

// TestUnlinkWhole: what an identity has begun ends with its link, or neither does.
func TestUnlinkWhole(t *testing.T) {
	l, j := newLinks(t)
	i := Identity{Issuer: "i", Subject: "s"}
	if err := l.Link(t.Context(), "kari", "7", unknown(t, l, i)); err != nil {
		t.Fatal(err)
	}
	full := errors.New("disk full")
	if _, err := l.Unlink(t.Context(), "kari", "7", func(context.Context, *sql.Tx, string) error { return full }); !errors.Is(err, full) || len(j.entries) != 1 {
		t.Errorf("%v, %v", err, j.entries)
	}
	if person, _, err := l.Person(t.Context(), i); err != nil || person != "7" {
		t.Errorf("%q, %v", person, err)
	}
}
