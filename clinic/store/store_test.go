package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"
)

// other is set in the environment of the second process of TestTwoProcesses.
const other = "VINDU_STORE_TEST_DATABASE"

func TestMain(m *testing.M) {
	if path := os.Getenv(other); path != "" {
		os.Exit(count(path))
	}
	goleak.VerifyTestMain(m)
}

// count is the second process: it adds 50 to the counter.
func count(path string) int {
	s, err := Open(context.Background(), path, slog.New(slog.DiscardHandler))
	if err == nil {
		err = add(s, 50)
		err = errors.Join(err, s.Close())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

var counter = []string{"CREATE TABLE counter (n INTEGER NOT NULL) STRICT", "INSERT INTO counter VALUES (0)"}

func add(s *Store, times int) error {
	for range times {
		err := s.Write(context.Background(), func(tx *sql.Tx) error {
			_, err := tx.Exec("UPDATE counter SET n = n + 1")
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func open(t *testing.T, path string) *Store {
	t.Helper()
	s, err := Open(t.Context(), path, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func read(t *testing.T, s *Store) (n int) {
	t.Helper()
	if err := s.Read().QueryRow("SELECT n FROM counter").Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestDurability(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "new", "c%20l?i#nic.db"))
	for pragma, want := range map[string]string{"journal_mode": "wal", "synchronous": "2", "foreign_keys": "1"} {
		var got string
		if err := s.writer.QueryRow("PRAGMA " + pragma).Scan(&got); err != nil || got != want {
			t.Errorf("%s = %s, %v; want %s", pragma, got, err, want)
		}
	}
	for path, want := range map[string]os.FileMode{s.Path(): 0o600, s.Path() + "-wal": 0o600, filepath.Dir(s.Path()): 0o700 | os.ModeDir} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode() != want {
			t.Errorf("%s has mode %v, want %v", path, info.Mode(), want)
		}
	}
	if _, err := s.Read().Exec("CREATE TABLE t (a)"); err == nil {
		t.Error("the readers' pool wrote")
	}
}

func TestMigrate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "clinic.db")
	s := open(t, path)
	for range 2 { // the second time there is nothing to do
		if err := s.Migrate(t.Context(), "counter", counter); err != nil {
			t.Fatal(err)
		}
	}
	if n := read(t, s); n != 0 {
		t.Errorf("counter = %d", n)
	}
	wrong := append(counter[:2:2], "UPDATE counter SET n = 7", "nonsense")
	if err := s.Migrate(t.Context(), "counter", wrong); err == nil || !strings.Contains(err.Error(), "migrate counter, step 4") {
		t.Errorf("error = %v", err)
	}
	if n := read(t, s); n != 0 {
		t.Errorf("counter = %d: half a migration was kept", n)
	}
	if err := s.Migrate(t.Context(), "counter", counter[:1]); !errors.Is(err, ErrForeign) {
		t.Errorf("a newer database: error = %v", err)
	}
}

func TestWriteRollsBack(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "clinic.db"))
	if err := s.Migrate(t.Context(), "counter", counter); err != nil {
		t.Fatal(err)
	}
	sentinel := errors.New("no")
	err := s.Write(t.Context(), func(tx *sql.Tx) error {
		if _, err := tx.Exec("UPDATE counter SET n = 9"); err != nil {
			return err
		}
		return sentinel
	})
	if !errors.Is(err, sentinel) {
		t.Errorf("error = %v", err)
	}
	func() {
		defer func() { recover() }()
		s.Write(t.Context(), func(tx *sql.Tx) error {
			if _, err := tx.Exec("UPDATE counter SET n = 9"); err != nil {
				return err
			}
			panic("in a transaction")
		})
	}()
	if n := read(t, s); n != 0 {
		t.Errorf("counter = %d", n)
	}
	if err := add(s, 1); err != nil {
		t.Errorf("after a panic: %v", err)
	}
}

func TestTwoProcesses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "clinic.db")
	s := open(t, path)
	if err := s.Migrate(t.Context(), "counter", counter); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			if err := add(s, 25); err != nil {
				t.Error(err)
			}
		})
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), other+"="+path)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("second process: %v\n%s", err, out)
	}
	wg.Wait()
	if n := read(t, s); n != 100 {
		t.Errorf("counter = %d, want 100", n)
	}
}

func TestDamaged(t *testing.T) {
	damage := map[string]func([]byte) []byte{
		"garbage":   func(b []byte) []byte { return []byte(strings.Repeat("not a database ", 600)) },
		"truncated": func(b []byte) []byte { return b[:len(b)/2] },
		"middle": func(b []byte) []byte {
			clear(b[4096:12288])
			return b
		},
	}
	for name, f := range damage {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "clinic.db")
			s, err := Open(t.Context(), path, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Migrate(t.Context(), "counter", counter); err != nil {
				t.Fatal(err)
			}
			if err := s.Check(t.Context()); err != nil {
				t.Errorf("whole: %v", err)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, f(b), 0o600); err != nil {
				t.Fatal(err)
			}
			s, err = Open(t.Context(), path, slog.New(slog.DiscardHandler))
			if err == nil {
				err = s.Check(t.Context())
				defer s.Close()
			}
			if !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), path) {
				t.Errorf("error = %v", err)
			}
		})
	}
}

func TestForeign(t *testing.T) {
	path := filepath.Join(t.TempDir(), "other.db")
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec("CREATE TABLE cookies (a)"); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), path, slog.New(slog.DiscardHandler)); !errors.Is(err, ErrUnwritable) || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("one that others can read: %v", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), path, slog.New(slog.DiscardHandler)); !errors.Is(err, ErrForeign) {
		t.Errorf("error = %v", err)
	}
}

func TestUnwritable(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, path := range map[string]string{
		"folder is a file":    filepath.Join(file, "clinic.db"),
		"file is a folder":    t.TempDir(),
		"read-only file tree": "/proc/clinic.db",
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := Open(t.Context(), path, slog.New(slog.DiscardHandler)); !errors.Is(err, ErrUnwritable) {
				t.Errorf("error = %v", err)
			}
		})
	}
}

func TestFull(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "clinic.db"))
	if err := s.Migrate(t.Context(), "counter", counter); err != nil {
		t.Fatal(err)
	}
	if _, err := s.writer.Exec("PRAGMA max_page_count = 1"); err != nil { // at most what it has now
		t.Fatal(err)
	}
	err := s.Write(t.Context(), func(tx *sql.Tx) error {
		_, err := tx.Exec("CREATE TABLE big AS SELECT randomblob(100000)")
		return err
	})
	if !errors.Is(err, ErrFull) {
		t.Errorf("error = %v", err)
	}
	if err := add(s, 1); err != nil || read(t, s) != 1 {
		t.Errorf("after it was full: %v", err)
	}
}

func TestBusy(t *testing.T) {
	path := filepath.Join(t.TempDir(), "clinic.db")
	a, b := open(t, path), open(t, path)
	if err := a.Migrate(t.Context(), "counter", counter); err != nil {
		t.Fatal(err)
	}
	if _, err := b.writer.Exec("PRAGMA busy_timeout = 1"); err != nil {
		t.Fatal(err)
	}
	err := a.Write(t.Context(), func(*sql.Tx) error {
		if err := add(b, 1); !errors.Is(err, ErrBusy) {
			t.Errorf("error = %v", err)
		}
		if n := read(t, b); n != 0 {
			t.Errorf("a reader beside a writer: counter = %d", n)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
