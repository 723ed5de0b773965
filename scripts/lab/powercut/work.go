package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strings"
	"time"

	"vindu/device/identity"
	"vindu/device/outbox"
	"vindu/device/state"
	"vindu/protocol"
)

const (
	// events and writes are how much work there is. An acknowledgement comes every ackEach events.
	events, writes, ackEach = 90, 60, 8

	// boxLimit is the outbox's bound: small, so that its database reuses pages.
	boxLimit = 256 << 10

	// file is one that is replaced again and again, as package call does with its memory of invitations.
	file = "calls"
)

// discard is for what the packages would log.
var discard = slog.New(slog.DiscardHandler)

// Kinds of marks: each with a number, ready with the terminal's key.
const (
	markReady     = "ready"
	markAppending = "appending"
	markAppended  = "appended"
	markAcking    = "acking"
	markAcked     = "acked"
	markWriting   = "writing"
	markWritten   = "written"
)

// promises are what the state has to hold, as the marks of the log tell. What was begun may have happened.
type promises struct {
	ready bool   // state, key and outbox were opened
	key   string // the terminal's

	appending, appended uint64 // the newest event
	acking, acked       uint64 // the newest event that the clinic has
	writing, written    uint64 // the newest content of file
}

// keep takes a mark up. Those of others, as the kernel's own at the end, are passed over.
func (p *promises) keep(mark string) error {
	kind, rest, _ := strings.Cut(mark, "=")
	to := map[string]*uint64{
		markAppending: &p.appending, markAppended: &p.appended, markAcking: &p.acking,
		markAcked: &p.acked, markWriting: &p.writing, markWritten: &p.written,
	}[kind]
	switch {
	case kind == markReady:
		p.ready, p.key = true, rest
	case to != nil:
		if _, err := fmt.Sscan(rest, to); err != nil {
			return fmt.Errorf("mark %q: %w", mark, err)
		}
	}
	return nil
}

// event is the n-th: a notice, or every fourth time an opening.
func event(n uint64) (kind string, body []byte, err error) {
	at := protocol.Time(1_800_000_000_000 + n)
	if n%4 == 0 {
		body, err = protocol.Encode(&protocol.Opening{Version: 1, Device: "camera", Open: n%8 == 0, At: at, Call: protocol.CallID{15: 1}})
		return protocol.EventOpening, body, err
	}
	detail := fmt.Sprintf("event %d %s", n, strings.Repeat("x", int(n*37%200)))
	body, err = protocol.Encode(&protocol.Notice{Version: 1, Code: protocol.AuthReplayed, Detail: detail, At: at})
	return protocol.EventNotice, body, err
}

// content is the n-th of file; its length changes.
func content(n uint64) []byte {
	return binary.BigEndian.AppendUint64(make([]byte, 300+n*611%9000), n)
}

func numberIn(content []byte) uint64 {
	if len(content) < 8 {
		return 0
	}
	return binary.BigEndian.Uint64(content[len(content)-8:])
}

// work is a terminal's: events come and go, and in between a file is replaced. Each promise is marked before it may be kept
// and after it has been made.
func work(path string, mark func(string) error) (err error) {
	dir, err := state.Open(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dir.Close()) }()
	keys, err := identity.FileKeystore(dir)
	if err != nil {
		return err
	}
	key, err := protocol.HashKey(keys.Signer().Public())
	if err != nil {
		return err
	}
	box, err := outbox.Open(dir, boxLimit, time.Now, discard)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, box.Close()) }()
	if err := mark(markReady + "=" + key.Name()); err != nil {
		return err
	}
	return deliver(dir, box, mark)
}

// deliver does one thing after the other: dm-log-writes, as we understand it, takes what is unflushed into the first of two flushes that run at the same time, so
// that its log shows the second, and what was promised after it, before those writes (docs/not-proven.md).
func deliver(dir *state.Dir, box *outbox.Outbox, mark func(string) error) error {
	sent, written := uint64(0), uint64(0)
	for n := uint64(1); n <= events; n++ {
		kind, body, err := event(n)
		if err != nil {
			return err
		}
		if err := between(mark, markAppending, markAppended, n, func() error { return box.Append(kind, body) }); err != nil {
			return err
		}
		for ; written < n*writes/events; written++ {
			next := written + 1
			if err := between(mark, markWriting, markWritten, next, func() error { return dir.Write(file, content(next)) }); err != nil {
				return err
			}
		}
		if n%ackEach != 0 {
			continue
		}
		var newest []byte
		for sent < n-ackEach/2 { // some wait always
			if sent, newest, err = box.Next(sent); err != nil {
				return err
			}
		}
		var e protocol.Event
		if err := protocol.Decode(newest, &e); err != nil {
			return err
		}
		err = between(mark, markAcking, markAcked, e.Seq, func() error {
			_, err := box.Ack(protocol.Ack{Version: 1, Epoch: e.Epoch, Seq: e.Seq})
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func between(mark func(string) error, before, after string, n uint64, do func() error) error {
	if err := mark(fmt.Sprintf("%s=%d", before, n)); err != nil {
		return err
	}
	if err := do(); err != nil {
		return fmt.Errorf("%s %d: %w", before, n, err)
	}
	return mark(fmt.Sprintf("%s=%d", after, n))
}

// The ways in which a state can break its promises.
var (
	errDamaged = errors.New("cannot be used as it is")
	errLost    = errors.New("lost what was promised")
	errAnew    = errors.New("identity was made anew")
)

// check opens a state as the agent does at its start, and compares it with what was promised before the cut. Then it works on.
func check(path string, p promises) (err error) {
	dir, err := state.Open(path)
	if err != nil {
		return fmt.Errorf("%w: %w", err, errDamaged)
	}
	defer func() { err = errors.Join(err, dir.Close()) }()
	keys, err := identity.FileKeystore(dir)
	if err != nil {
		return fmt.Errorf("%w: %w", err, errDamaged)
	}
	key, err := protocol.HashKey(keys.Signer().Public())
	if err != nil {
		return err
	}
	if p.ready && key.Name() != p.key {
		return errAnew
	}
	b, err := dir.Read(file, 1<<20)
	if n := numberIn(b); err == nil && (n < p.written || n > p.writing || string(b) != string(content(n))) || err != nil && (p.written > 0 || !errors.Is(err, fs.ErrNotExist)) {
		return fmt.Errorf("%s has content %d, %v, after %d was written: %w", file, n, err, p.written, errLost)
	}
	box, err := outbox.Open(dir, boxLimit, time.Now, discard)
	if err != nil {
		return fmt.Errorf("%w: %w", err, errDamaged)
	}
	defer func() { err = errors.Join(err, box.Close()) }()
	// A database whose making was cut holds nothing yet.
	if s := box.Status(); p.ready && (len(s.Rebuilt) > 0 || s.Dropped > 0) {
		return fmt.Errorf("%d databases set aside, %d events dropped: %w", len(s.Rebuilt), s.Dropped, errDamaged)
	}
	last, err := waiting(box, p)
	if err != nil {
		return err
	}
	// The number of an event that was promised is never given out again.
	kind, body, err := event(last + 1)
	if err == nil {
		err = box.Append(kind, body)
	}
	if err != nil {
		return fmt.Errorf("append after the cut: %w: %w", err, errDamaged)
	}
	seq, _, err := box.Next(max(last, p.appended))
	if err != nil || seq == 0 {
		return fmt.Errorf("the next event after %d has number %d, %v: %w", max(last, p.appended), seq, err, errLost)
	}
	return nil
}

// waiting compares the events that wait with those that were promised, and returns the newest one's number.
func waiting(box *outbox.Outbox, p promises) (last uint64, err error) {
	var ledger protocol.Link
	for {
		seq, message, err := box.Next(last)
		if err != nil {
			return last, fmt.Errorf("read events: %w: %w", err, errDamaged)
		}
		if seq == 0 {
			break
		}
		if last != 0 && seq != last+1 || last == 0 && seq > p.acking+1 {
			return last, fmt.Errorf("event %d comes after %d, the clinic has at most %d: %w", seq, last, p.acking, errLost)
		}
		if last == 0 && seq <= p.acked {
			return last, fmt.Errorf("event %d is back, the clinic has %d: %w", seq, p.acked, errLost)
		}
		var e protocol.Event
		kind, body, err := event(seq)
		if err == nil {
			err = protocol.Decode(message, &e)
		}
		if err != nil {
			return last, fmt.Errorf("event %d: %w: %w", seq, err, errDamaged)
		}
		if e.Kind != kind || string(e.Body) != string(body) {
			return last, fmt.Errorf("event %d is another: %w", seq, errDamaged)
		}
		if e.Link != nil {
			if ledger.N != 0 && (e.Link.N != ledger.N+1 || e.Link.Previous != ledger.Previous) {
				return last, fmt.Errorf("event %d is not the opening after number %d: %w", seq, ledger.N, errLost)
			}
			ledger = protocol.Link{N: e.Link.N, Previous: protocol.HashOf(message)}
		}
		last = seq
	}
	if last == 0 && p.appended > p.acking || last != 0 && last < p.appended || last > p.appending {
		return last, fmt.Errorf("the newest event is %d, of %d to %d appended: %w", last, p.appended, p.appending, errLost)
	}
	return last, nil
}
