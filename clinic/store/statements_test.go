package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
)

// keeping returns what the writer's connection keeps prepared.
func keeping(t *testing.T, s *Store) (kept map[string]*statement) {
	t.Helper()
	c, err := s.writer.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Raw(func(driver any) error { kept = driver.(*conn).kept; return nil }); err != nil {
		t.Fatal(err)
	}
	return kept
}

// TestStatementsAreKept: one that is asked for again while its rows are read is answered too; after a failure, a change of the
// table or a write that was given up it answers as if it were new.
func TestStatementsAreKept(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "clinic.db"))
	if err := s.Migrate(t.Context(), "numbers", []string{"CREATE TABLE numbers (n INTEGER PRIMARY KEY) STRICT", "INSERT INTO numbers VALUES (1), (2), (3)"}); err != nil {
		t.Fatal(err)
	}
	const all, add = "SELECT * FROM numbers ORDER BY n", "INSERT INTO numbers (n) VALUES (?)"
	read := func(tx *sql.Tx, inside func() error) (numbers []int, err error) {
		rows, err := tx.Query(all)
		if err != nil {
			return nil, err
		}
		defer rows.Close()
		columns, err := rows.Columns()
		if err != nil {
			return nil, err
		}
		for rows.Next() {
			row := make([]any, len(columns))
			for i := range row {
				row[i] = new(int)
			}
			if err := errors.Join(rows.Scan(row...), inside()); err != nil {
				return nil, err
			}
			numbers = append(numbers, *row[0].(*int))
		}
		return numbers, rows.Err()
	}
	nothing := func() error { return nil }
	write := func(f func(tx *sql.Tx) error) {
		t.Helper()
		if err := s.Write(t.Context(), f); err != nil {
			t.Error(err)
		}
	}
	want := func(tx *sql.Tx, numbers ...int) {
		t.Helper()
		if got, err := read(tx, nothing); err != nil || fmt.Sprint(got) != fmt.Sprint(numbers) {
			t.Errorf("the numbers are %v, want %v, %v", got, numbers, err)
		}
	}
	write(func(tx *sql.Tx) error {
		got, err := read(tx, func() error { want(tx, 1, 2, 3); return nil })
		if len(got) != 3 {
			t.Errorf("read %v", got)
		}
		return err
	})
	kept := keeping(t, s)[all]
	if kept == nil || kept.busy {
		t.Fatalf("after it was read it is %+v", kept)
	}
	write(func(tx *sql.Tx) error {
		if _, err := tx.Exec(add, 1); err == nil {
			t.Error("a number was added twice")
		}
		_, err := tx.Exec(add, 4)
		want(tx, 1, 2, 3, 4)
		return err
	})
	if err := s.Write(t.Context(), func(tx *sql.Tx) error {
		if _, err := tx.Exec("DELETE FROM numbers"); err != nil {
			return err
		}
		want(tx)
		return sql.ErrTxDone
	}); !errors.Is(err, sql.ErrTxDone) {
		t.Error(err)
	}
	write(func(tx *sql.Tx) error {
		rows, err := tx.Query(all) // left at its first row
		if err != nil || !rows.Next() {
			t.Errorf("no row: %v", err)
		}
		return rows.Close()
	})
	ctx, cancel := context.WithCancel(t.Context())
	if err := s.Write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, add, 5)
		cancel()
		return errors.Join(err, ctx.Err())
	}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if err := s.Migrate(t.Context(), "more", []string{"ALTER TABLE numbers ADD COLUMN m INTEGER NOT NULL DEFAULT 7"}); err != nil {
		t.Fatal(err)
	}
	write(func(tx *sql.Tx) error {
		want(tx, 1, 2, 3, 4)
		_, err := tx.Exec(add, 5)
		want(tx, 1, 2, 3, 4, 5)
		return err
	})
	if keeping(t, s)[all] == nil {
		t.Error("nothing is kept")
	}
}

// TestKeptStatementsAreBounded: more are run, and not kept; a malformed one neither.
func TestKeptStatementsAreBounded(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "clinic.db"))
	if err := s.Write(t.Context(), func(tx *sql.Tx) error {
		if _, err := tx.Exec("SELECT FROM"); err == nil {
			t.Error("a malformed statement was run")
		}
		for n := range statements + 10 {
			var got int
			if err := tx.QueryRow(fmt.Sprintf("SELECT %d", n)).Scan(&got); err != nil || got != n {
				t.Errorf("%d is read as %d, %v", n, got, err)
			}
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	if kept := len(keeping(t, s)); kept != statements {
		t.Errorf("%d are kept", kept)
	}
}
