// Package alerts is what operators do about conditions, and how others learn of them. An operator acknowledges a condition of a terminal, with a note: that
// holds for as long as the condition does. Or silences it until a time, whatever comes and goes meanwhile. Serious conditions that hold for a while, and
// terminals that are not heard of, are told to a webhook of the clinic's choice, and so is their end. That terminals are not heard of is not told while the clinic's server itself
// hears of none, because it has just begun or has lost its message broker: that is told instead, once.
//
// # The webhook
//
// One POST of application/json for each beginning and each end, in the order in which they happened, again and again with a growing pause until an
// answer of 2xx; what was told survives a restart, and an id says what is told twice. It says the home's number, never its label, and nothing of a person. The number is empty
// of what concerns the clinic's server (signalling.broker_unreachable):
//
//	{"version":1, "id":"17-raised", "event":"raised", "code":"capture.no_camera", "severity":"serious", "title":"No camera",
//	 "home":"123456789", "since":"2026-11-22T10:00:00Z", "address":"https://clinic.example/operator/homes/123456789"}
//
// What looks like an attack (an alarm on the operator's page) is told the same way, but at once; it is cleared when an operator has settled it, and has an empty home where it is of none.
//
// The header Vindu-Signature is "t=<seconds since 1970>,v1=<hex>", where hex is HMAC-SHA-256, under the secret that both know, of the seconds, a full stop and the body.
package alerts

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"vindu/clinic/audit"
	"vindu/clinic/fleet"
	"vindu/clinic/register"
	"vindu/clinic/store"
	"vindu/protocol"
)

// Bounds.
const (
	MaxNote    = 200                 // characters
	Longest    = 31 * 24 * time.Hour // of silence
	look       = 10 * time.Second
	atOnce     = 100                 // alerts that are told one after the other before the fleet is looked at again
	keep       = 90 * 24 * time.Hour // for which alerts that are over are kept
	sweep      = time.Hour
	patience   = 10 * time.Second // for the webhook
	leastPause = time.Minute      // in which what was over is not told of again, at least; and for which the broker is away before it is told, at least
	reconnect  = 2 * time.Minute  // in which terminals come back after the broker has: they wait for up to a minute between two attempts
)

// Errors of Mark.
var (
	ErrNote  = errors.New("a note has to be one line of at most 200 characters")
	ErrUntil = errors.New("a silence has to end in the future, and within 31 days")
	ErrCode  = errors.New("there is no such condition")
)

// Mark is what an operator has said of a condition of a terminal.
type Mark struct {
	Code  protocol.Code
	Since time.Time // of the condition that was meant
	Until time.Time // silent whatever comes and goes; zero: only what was meant is
	By    string    // a person's number, as the audit log has it
	At    time.Time
	Note  string
}

// Holds reports whether the mark is for a condition that holds since then. Marks are kept, and asked for by pages, to the millisecond; since when a terminal is offline is known more exactly.
func (m *Mark) Holds(since, now time.Time) bool {
	return !since.IsZero() && m.Since.UnixMilli() == since.UnixMilli() || now.Before(m.Until)
}

// Fleet knows how terminals are; fleet.Fleet is one.
type Fleet interface {
	States() map[protocol.KeyHash]fleet.State
	// Up reports whether terminals can be heard of at all.
	Up() bool
}

// Homes knows where they are; register.Register is one.
type Homes interface {
	Homes(ctx context.Context) ([]register.Home, error)
}

// Config is what a Service works with.
type Config struct {
	Store *store.Store
	Audit *audit.Log
	Fleet Fleet
	Homes Homes
	// Alarms are told too; nil: there are none.
	Alarms Alarms
	Hook   *Hook         // nil: nobody is told
	After  time.Duration // for so long something holds before it is told
	Log    *slog.Logger
	now    func() time.Time
}

// Service keeps marks, and tells of alerts while Run runs.
type Service struct {
	c Config

	// Of Run's goroutine: since when the fleet is up, or is not; as far as was looked.
	up    bool
	since time.Time
}

var migrations = []string{
	`CREATE TABLE condition_marks (
		terminal BLOB NOT NULL, code TEXT NOT NULL, since INTEGER NOT NULL, until INTEGER NOT NULL, marked_by TEXT NOT NULL, at INTEGER NOT NULL, note TEXT NOT NULL,
		PRIMARY KEY (terminal, code)
	) STRICT`,
	`CREATE TABLE alerts_sent (
		n INTEGER PRIMARY KEY, terminal BLOB NOT NULL, home TEXT NOT NULL, code TEXT NOT NULL, since INTEGER NOT NULL,
		raised INTEGER NOT NULL, raised_told INTEGER, cleared INTEGER, cleared_told INTEGER
	) STRICT`,
	`CREATE UNIQUE INDEX alerts_sent_open ON alerts_sent (terminal, code) WHERE cleared IS NULL`,
}

// New makes a Service and brings its tables up.
func New(ctx context.Context, c Config) (*Service, error) {
	if c.now == nil {
		c.now = time.Now
	}
	if err := c.Store.Migrate(ctx, "alerts", migrations); err != nil {
		return nil, fmt.Errorf("alerts: %w", err)
	}
	return &Service{c: c}, nil
}

func milli(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func fromMilli(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.UnixMilli(n)
}

// Mark acknowledges a condition that holds since a time, or silences it until another; who is for the audit log.
func (s *Service) Mark(ctx context.Context, who string, terminal protocol.KeyHash, code protocol.Code, since, until time.Time, text string) error {
	now := s.c.now()
	text = strings.TrimSpace(text)
	switch {
	case utf8.RuneCountInString(text) > MaxNote || !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl):
		return ErrNote
	case !until.IsZero() && (!until.After(now) || until.After(now.Add(Longest))):
		return ErrUntil
	case !protocol.Registered(code):
		return ErrCode
	}
	detail := map[string]string{"condition": string(code), "note": text, "until": ""}
	if !until.IsZero() {
		detail["until"] = until.UTC().Format(time.RFC3339)
	}
	err := s.c.Store.Write(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, "INSERT OR REPLACE INTO condition_marks VALUES (?, ?, ?, ?, ?, ?, ?)", terminal[:], string(code), milli(since), milli(until), who, now.UnixMilli(), text); err != nil {
			return err
		}
		return s.c.Audit.AppendTx(ctx, tx, audit.Entry{Who: who, What: audit.ConditionMarked, Subject: "terminal " + terminal.Name(), Detail: detail})
	})
	if err != nil {
		return fmt.Errorf("mark condition: %w", err)
	}
	return nil
}

// Unmark takes a mark back. There need not be one.
func (s *Service) Unmark(ctx context.Context, who string, terminal protocol.KeyHash, code protocol.Code) error {
	err := s.c.Store.Write(ctx, func(tx *sql.Tx) error {
		result, err := tx.ExecContext(ctx, "DELETE FROM condition_marks WHERE terminal = ? AND code = ?", terminal[:], string(code))
		if err != nil {
			return err
		}
		if n, err := result.RowsAffected(); err != nil || n == 0 {
			return err
		}
		return s.c.Audit.AppendTx(ctx, tx, audit.Entry{Who: who, What: audit.ConditionUnmarked, Subject: "terminal " + terminal.Name(), Detail: map[string]string{"condition": string(code)}})
	})
	if err != nil {
		return fmt.Errorf("take a mark back: %w", err)
	}
	return nil
}

// Marks returns all marks, those that hold no longer too, until they are replaced or swept.
func (s *Service) Marks(ctx context.Context) (map[protocol.KeyHash]map[protocol.Code]Mark, error) {
	rows, err := s.c.Store.Read().QueryContext(ctx, "SELECT terminal, code, since, until, marked_by, at, note FROM condition_marks")
	if err != nil {
		return nil, fmt.Errorf("read marks: %w", err)
	}
	defer rows.Close()
	marks := map[protocol.KeyHash]map[protocol.Code]Mark{}
	for rows.Next() {
		var terminal []byte
		var m Mark
		var since, until, at int64
		if err := rows.Scan(&terminal, &m.Code, &since, &until, &m.By, &at, &m.Note); err != nil {
			return nil, fmt.Errorf("read marks: %w", err)
		}
		var key protocol.KeyHash
		if copy(key[:], terminal) != len(key) {
			continue
		}
		m.Since, m.Until, m.At = fromMilli(since), fromMilli(until), fromMilli(at)
		if marks[key] == nil {
			marks[key] = map[protocol.Code]Mark{}
		}
		marks[key][m.Code] = m
	}
	return marks, rows.Err()
}
