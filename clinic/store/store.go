// Package store keeps the clinic's state in one SQLite database in WAL mode with synchronous=FULL: what Write has
// returned nil for survives a power cut.
//
// Each package of the clinic owns its tables and brings them up with Migrate under a name of its own; no package
// touches another's tables. Times are stored as milliseconds since the Unix epoch (protocol.Time), hashes and keys as
// blobs. The file is made with mode 0600, its folder with 0700.
//
// There is one writer at a time: within the process writes queue for one connection, between processes (a command
// beside a running server) they wait up to BusyTimeout for each other. Readers never wait and never block the writer;
// they see the last commit.
//
// Every error of this package that SQLite has a name for wraps one of ErrDamaged, ErrForeign, ErrBusy, ErrFull or
// ErrUnwritable and says what to do.
package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// BusyTimeout is how long a write waits for a writer in another process.
const BusyTimeout = 5 * time.Second

// applicationID marks the file as a vindu clinic's (https://www.sqlite.org/fileformat2.html#application_id): "vndu".
const applicationID = 0x766e6475

const readers = 4

var (
	// ErrDamaged is wrapped when the file is not a whole SQLite database.
	ErrDamaged = errors.New("database damaged")
	// ErrForeign is wrapped when the database is another program's, or of a newer vindu.
	ErrForeign = errors.New("not a database of this program")
	// ErrBusy is wrapped when another process held the database for longer than BusyTimeout.
	ErrBusy = errors.New("database busy")
	// ErrFull is wrapped when there is no space for a write. Nothing of the write was kept.
	ErrFull = errors.New("no space for the database")
	// ErrUnwritable is wrapped when the file or its folder cannot be made, read or written.
	ErrUnwritable = errors.New("database cannot be read or written")
)

// Store is an open database. It is safe for concurrent use.
type Store struct {
	path   string
	writer *sql.DB
	reader *sql.DB
	log    *slog.Logger
}

// Open opens the database at path and makes it, and its folder, where missing.
func Open(ctx context.Context, path string, log *slog.Logger) (*Store, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	if err := create(path); err != nil {
		return nil, err
	}
	s := &Store{path: path, log: log}
	if s.writer, err = s.open("_txlock=immediate&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=journal_size_limit(67108864)"); err != nil {
		return nil, s.explain("open", err)
	}
	s.writer.SetMaxOpenConns(1)
	if s.reader, err = s.open("_pragma=query_only(ON)"); err != nil {
		return nil, errors.Join(s.explain("open", err), s.writer.Close())
	}
	s.reader.SetMaxOpenConns(readers)
	s.reader.SetMaxIdleConns(readers)
	if err := s.prepare(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	log.Debug("database open", "path", path)
	return s, nil
}

func (s *Store) open(parameters string) (*sql.DB, error) {
	u := url.URL{Scheme: "file", Path: s.path}
	c, err := sqlite.NewConnector(fmt.Sprintf("%s?_pragma=busy_timeout(%d)&_pragma=foreign_keys(ON)&_dqs=0&%s", u.String(), BusyTimeout.Milliseconds(), parameters))
	if err != nil {
		return nil, err
	}
	return sql.OpenDB(connector{c}), nil
}

// create makes an empty file with the right mode. An existing one is not opened: closing it would drop the locks that
// another Store of this process holds on it (https://www.sqlite.org/howtocorrupt.html §2.2).
func create(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("make the database's folder: %w: %w; check that the path exists and belongs to the server's user", ErrUnwritable, err)
	}
	if info, err := os.Stat(path); err == nil {
		if info.Mode().Perm()&0o077 != 0 {
			return fmt.Errorf("open database: %w: others than the owner have access to %s (mode %#o); chmod 600 it", ErrUnwritable, path, info.Mode().Perm())
		}
		return nil
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		return fmt.Errorf("make database: %w: %w; check that its folder belongs to the server's user", ErrUnwritable, err)
	}
	return nil
}

// prepare tells a new database from ours and ours from another program's.
func (s *Store) prepare(ctx context.Context) error {
	return s.Write(ctx, func(tx *sql.Tx) error {
		var id, objects int
		if err := tx.QueryRowContext(ctx, "SELECT (SELECT * FROM pragma_application_id), (SELECT count(*) FROM sqlite_master)").Scan(&id, &objects); err != nil {
			return err
		}
		switch {
		case id == applicationID:
			return nil
		case id != 0 || objects != 0:
			return fmt.Errorf("%w: %s; name another file", ErrForeign, s.path)
		}
		if _, err := tx.ExecContext(ctx, fmt.Sprintf("PRAGMA application_id = %d", applicationID)); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `CREATE TABLE migrations (
			component TEXT NOT NULL, step INTEGER NOT NULL, at INTEGER NOT NULL, PRIMARY KEY (component, step)) STRICT`)
		return err
	})
}

// Migrate brings component's tables up: it runs those steps, in order, that have not been run on this database, each
// together with the note that it was. Steps are append-only. A database on which more steps were run than there are
// is a newer program's (ErrForeign).
func (s *Store) Migrate(ctx context.Context, component string, steps []string) error {
	return s.Write(ctx, func(tx *sql.Tx) error {
		var done int
		if err := tx.QueryRowContext(ctx, "SELECT count(*) FROM migrations WHERE component = ?", component).Scan(&done); err != nil {
			return err
		}
		if done > len(steps) {
			return fmt.Errorf("%w: %s was used by a newer vindu-clinic (%s %d, this one knows %d); run that one", ErrForeign, s.path, component, done, len(steps))
		}
		for i, step := range steps[done:] {
			if _, err := tx.ExecContext(ctx, step); err != nil {
				return fmt.Errorf("migrate %s, step %d: %w", component, done+i+1, err)
			}
			if _, err := tx.ExecContext(ctx, "INSERT INTO migrations VALUES (?, ?, ?)", component, done+i+1, time.Now().UnixMilli()); err != nil {
				return err
			}
		}
		return nil
	})
}

// Write runs f in the one write transaction there is and commits it, to the disk, if f returns nil; otherwise nothing of
// it happened and the error is f's. f must not call Write.
func (s *Store) Write(ctx context.Context, f func(tx *sql.Tx) error) error {
	tx, err := s.writer.BeginTx(ctx, nil)
	if err != nil {
		return s.explain("write", err)
	}
	defer tx.Rollback() // after a commit this does nothing
	if err := f(tx); err != nil {
		return s.explain("write", err)
	}
	if err := tx.Commit(); err != nil {
		return s.explain("commit", err)
	}
	return nil
}

// Read returns the pool for queries. It refuses writes.
func (s *Store) Read() *sql.DB { return s.reader }

// Path returns where the database is.
func (s *Store) Path() string { return s.path }

// Check reads all of the database and returns an error wrapping ErrDamaged if it is not whole. It takes time in
// proportion to the database's size; a server runs it once, at its start.
func (s *Store) Check(ctx context.Context) error {
	var result string
	if err := s.reader.QueryRowContext(ctx, "PRAGMA quick_check(1)").Scan(&result); err != nil {
		return s.explain("check", err)
	}
	if result != "ok" {
		return s.damaged("check", errors.New(result))
	}
	return nil
}

// Close waits for running queries and closes the database.
func (s *Store) Close() error {
	if err := errors.Join(s.reader.Close(), s.writer.Close()); err != nil {
		return s.explain("close", err)
	}
	return nil
}

func (s *Store) damaged(doing string, err error) error {
	return fmt.Errorf("%s: %w: %s: %w; stop the server, set the file and those beside it aside and restore a backup", doing, ErrDamaged, s.path, err)
}

// explain adds to SQLite's errors what they mean here. Others pass through.
func (s *Store) explain(doing string, err error) error {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return err
	}
	switch e.Code() & 0xff { // the primary code: https://www.sqlite.org/rescode.html
	case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
		return s.damaged(doing, err)
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
		return fmt.Errorf("%s: %w: %s: %w; another process holds it: try again, and see which (fuser)", doing, ErrBusy, s.path, err)
	case sqlite3.SQLITE_FULL:
		return fmt.Errorf("%s: %w: %s: %w; free space on that file system", doing, ErrFull, s.path, err)
	case sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_IOERR:
		return fmt.Errorf("%s: %w: %s: %w; check that file and folder belong to the server's user and that the disk is healthy", doing, ErrUnwritable, s.path, err)
	}
	return fmt.Errorf("%s: database %s: %w", doing, s.path, err)
}
