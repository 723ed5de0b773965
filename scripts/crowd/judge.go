package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"go.etcd.io/bbolt"

	"vindu/clinic/store"
	"vindu/protocol"
)

// box is what a terminal's outbox says of itself (device/outbox has the format).
type box struct {
	epoch     []byte
	promised  int // numbers that were given out
	dropped   uint64
	pending   int
	setAside  int // outboxes that could not be read
	firstLeft uint64
}

func openBox(folder string) (b box, err error) {
	damaged, err := filepath.Glob(filepath.Join(folder, "outbox.db.damaged-*"))
	if err != nil {
		return b, err
	}
	b.setAside = len(damaged)
	db, err := bbolt.Open(filepath.Join(folder, "outbox.db"), 0o600, &bbolt.Options{ReadOnly: true, Timeout: 10 * time.Second})
	if err != nil {
		return b, fmt.Errorf("open the outbox in %s: %w", folder, err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	return b, db.View(func(tx *bbolt.Tx) error {
		meta, events := tx.Bucket([]byte("meta")), tx.Bucket([]byte("events"))
		if meta == nil || events == nil {
			return fmt.Errorf("%s: no outbox", folder)
		}
		b.epoch = bytes.Clone(meta.Get([]byte("epoch")))
		b.promised = int(binary.BigEndian.Uint64(meta.Get([]byte("next")))) - 1
		if v := meta.Get([]byte("dropped")); v != nil {
			b.dropped = binary.BigEndian.Uint64(v)
		}
		if k, _ := events.Cursor().First(); k != nil {
			b.firstLeft = binary.BigEndian.Uint64(k)
		}
		b.pending = events.Stats().KeyN
		return nil
	})
}

// judge compares what the terminals have promised with what the clinic has. Neither runs any more.
func (c *crowd) judge(ctx context.Context) error {
	db, err := store.Open(ctx, c.clinic.Database(), slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	defer db.Close()
	var wrong []error
	complain := func(format string, args ...any) { wrong = append(wrong, fmt.Errorf(format, args...)) }
	for n, key := range c.keys {
		b, err := openBox(folder(c.Dir, n))
		if err != nil {
			return err
		}
		if b.setAside > 0 || b.dropped > 0 {
			complain("terminal %d: %d outboxes set aside, %d events dropped", n, b.setAside, b.dropped)
		}
		s, err := c.stream(ctx, db, n, key, b)
		if err != nil {
			return err
		}
		c.r.promised += b.promised
		c.r.left += b.pending
		c.r.stored += s.stored
		c.r.lost += s.lost
		c.r.doubled += s.doubled
		c.r.disordered += s.disordered
		c.r.byHTTPS += s.byHTTPS
		if s.lost+s.doubled+s.disordered+b.pending > 0 {
			complain("terminal %d: of %d events %d are lost (%s), %d doubled, %d out of order, %d left from %d on", n, b.promised, s.lost, s.first, s.doubled, s.disordered, b.pending, b.firstLeft)
		}
	}
	if c.r.promised < 3*c.Terminals {
		complain("the terminals promised %d events: too few to tell anything", c.r.promised)
	}
	if c.r.repeated == 0 {
		complain("no event came twice: nothing was tried that could double one")
	}
	if c.r.reported == 0 {
		complain("nothing was told by HTTPS")
	}
	if c.r.alarms > 0 {
		complain("%.0f alarms that a terminal was copied", c.r.alarms)
	}
	if c.r.presenceWrong > 0 {
		complain("presence is wrong of %d terminals", c.r.presenceWrong)
	}
	return errors.Join(append(wrong, c.r.memory.judge())...)
}

// stream is what the clinic has of one terminal.
type stream struct {
	stored, lost, doubled, disordered, byHTTPS int
	first                                      string // what is lost first
}

func (c *crowd) stream(ctx context.Context, db *store.Store, number int, key protocol.KeyHash, b box) (s stream, err error) {
	rows, err := db.Read().QueryContext(ctx, "SELECT epoch, seq, received, kind, body FROM fleet_events WHERE terminal = ? ORDER BY epoch, seq", key[:])
	if err != nil {
		return s, err
	}
	defer rows.Close()
	next, latest := 1, int64(0)
	said := map[string]bool{}                            // each content
	open := map[protocol.Code]protocol.ConditionChange{} // that was told to hold
	miss := func(past int) {
		if past > next {
			s.lost += past - next
			s.first = cmp.Or(s.first, fmt.Sprintf("the first is %d", next))
		}
	}
	for rows.Next() {
		var epoch, body []byte
		var seq int
		var received int64
		var kind string
		if err := rows.Scan(&epoch, &seq, &received, &kind, &body); err != nil {
			return s, err
		}
		s.stored++
		if !bytes.Equal(epoch, b.epoch) || seq < next || seq > b.promised {
			s.doubled++ // another epoch's, or one that was never promised
			continue
		}
		miss(seq)
		next = seq + 1
		if received < latest {
			s.disordered++
		}
		latest = received
		for _, w := range c.windows {
			if w.Terminal == number && received >= w.From && received <= w.Until {
				s.byHTTPS++
			}
		}
		if kind != protocol.EventCondition {
			continue
		}
		// No two changes are the same, and one that ends has begun: what is at the clinic twice by other numbers shows here.
		if said[string(body)] {
			s.doubled++
		}
		said[string(body)] = true
		var change protocol.ConditionChange
		if err := protocol.Decode(body, &change); err != nil {
			return s, err
		}
		if began, told := open[change.Code]; change.Until != 0 && (!told || began.Since != change.Since) {
			s.disordered++
		}
		if open[change.Code] = change; change.Until != 0 {
			delete(open, change.Code)
		}
	}
	miss(b.promised + 1)
	return s, rows.Err()
}
