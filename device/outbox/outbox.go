// Package outbox keeps what the terminal has to tell its clinic until the clinic has it.
//
// An event is on the disk before Append returns and leaves it when the clinic has signed that it committed it
// (protocol.Ack). Nothing is lost by a lost connection, a restart or a power cut, and nothing is doubled: an event keeps its
// epoch and sequence number however often it is sent. A rebuilt outbox begins a new epoch.
//
//	outbox.db (bbolt)
//	  meta    "epoch" 16 bytes · "next" uint64 · "dropped" uint64
//	  events  key: sequence number, uint64 big-endian; value: protocol.Event in CBOR
//	  conditions, notices  key: sequence number of an event that is a change of a condition, or a notice; value: empty
//	  ledger  key: number of an opening, uint64 big-endian; value: protocol.Event in CBOR; the last 2048, also those that the clinic has
//
// Events with openings of cameras and microphones are chained (protocol.Link): each names the one before by its hash, so that the clinic finds
// out if one is missing or was changed.
//
// Bounds: the events together have at most the limit given to Open. When a new one does not fit, the oldest change of a condition
// is dropped; when there are none, the oldest notice; and only then the oldest event. All are counted and told to the clinic in health. The space is
// reserved when the database is made, so that a full disk cannot cost an event; where that fails, up to 256 events
// wait in memory until they can be written, dropped there in the same order.
package outbox

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"go.etcd.io/bbolt"

	"vindu/device/state"
	"vindu/protocol"
)

const (
	// DefaultLimit is how many bytes of events wait at most.
	DefaultLimit = 10 << 20
	maxSpill     = 256
	maxLedger    = 2048 // openings
	maxEnvelope  = 256  // bytes of an event around its body, and of bbolt's bookkeeping for it
	fileName     = "outbox.db"
)

var (
	// ErrFull is wrapped when there is no room for an event where it has to be.
	ErrFull = errors.New("outbox is full")
	// ErrNeverSent is wrapped when an event is acknowledged that there never was.
	ErrNeverSent = errors.New("there never was such an event")
)

var (
	bucketMeta       = []byte("meta")
	bucketEvents     = []byte("events")
	bucketNotices    = []byte("notices")
	bucketConditions = []byte("conditions")
	bucketLedger     = []byte("ledger")
	keyEpoch         = []byte("epoch")
	keyNext          = []byte("next")
	keyDropped       = []byte("dropped")
)

// Outbox is safe for concurrent use.
type Outbox struct {
	dir   *state.Dir
	now   func() time.Time
	limit int64
	log   *slog.Logger
	write func(*bbolt.DB, func(*bbolt.Tx) error) error // bbolt's Update; tests put a full disk in its place

	mu      sync.Mutex
	db      *bbolt.DB // nil after Close
	epoch   protocol.Nonce
	sent    uint64 // highest sequence number that Next handed out; acknowledgements beyond it are refused
	size    int64  // of all events, as sizeOf counts
	pending uint64
	dropped uint64
	spill   []protocol.Event // could not be written yet; Seq 0
	why     protocol.Code    // of the spill
	rebuilt []*state.Damage
	added   chan struct{}
}

// Open opens the outbox in the state folder. now gives the events their time. A damaged database was set aside and
// made anew when Rebuilt returns something.
func Open(dir *state.Dir, limit int64, now func() time.Time, log *slog.Logger) (*Outbox, error) {
	o := &Outbox{dir: dir, now: now, limit: limit, log: log, write: (*bbolt.DB).Update, added: make(chan struct{}, 1)}
	if err := o.open(); err != nil {
		return nil, fmt.Errorf("open outbox: %w", err)
	}
	return o, nil
}

// open opens the database and counts what is in it. o.mu is held, or o is not shared yet.
func (o *Outbox) open() error {
	// Twice the limit: bbolt copies pages before it frees them. The rest is for its own pages.
	db, damage, err := o.dir.Database(fileName, 2*o.limit+1<<20)
	if damage != nil {
		o.reportDamage(damage)
	}
	if err != nil {
		return err
	}
	db.AllocSize = 1 << 20
	if err := o.load(db); err != nil {
		return errors.Join(err, db.Close())
	}
	o.db = db
	return nil
}

func (o *Outbox) reportDamage(d *state.Damage) {
	o.rebuilt = append(o.rebuilt, d)
	o.log.Error("outbox was damaged and is made anew; events in it are lost to the clinic",
		"set_aside", d.SetAside, "error", d.Cause, "code", protocol.StorageDamaged)
}

// load reads what is in the database. It writes only to a new one, so that a full disk keeps no agent from starting.
func (o *Outbox) load(db *bbolt.DB) error {
	o.sent = 0
	ready := false
	err := db.View(func(tx *bbolt.Tx) error {
		meta, events := tx.Bucket(bucketMeta), tx.Bucket(bucketEvents)
		if meta == nil || events == nil || tx.Bucket(bucketNotices) == nil || tx.Bucket(bucketLedger) == nil {
			return nil
		}
		epoch := meta.Get(keyEpoch)
		if ready = len(epoch) == len(o.epoch) && number(meta, keyNext) > 0; !ready {
			return nil
		}
		copy(o.epoch[:], epoch)
		o.size, o.pending, o.dropped = 0, 0, number(meta, keyDropped)
		c := events.Cursor()
		for k, v := c.First(); k != nil; k, v = c.Next() {
			o.size += sizeOf(v)
			o.pending++
		}
		return nil
	})
	if err != nil || ready {
		return err
	}
	// New, or not ours in some way: events of an epoch that is not known cannot be told apart from others.
	o.epoch, o.size, o.pending, o.dropped = protocol.NewNonce(), 0, 0, 0
	return db.Update(func(tx *bbolt.Tx) error {
		for _, name := range [][]byte{bucketMeta, bucketEvents, bucketConditions, bucketNotices, bucketLedger} {
			if tx.Bucket(name) != nil {
				if err := tx.DeleteBucket(name); err != nil {
					return err
				}
			}
			if _, err := tx.CreateBucket(name); err != nil {
				return err
			}
		}
		meta := tx.Bucket(bucketMeta)
		return errors.Join(meta.Put(keyEpoch, o.epoch[:]), putNumber(meta, keyNext, 1))
	})
}

// sizeOf is what an event counts against the limit: its bytes, key and share of bbolt's bookkeeping.
func sizeOf(v []byte) int64 { return int64(len(v)) + 24 }

func number(b *bbolt.Bucket, key []byte) uint64 {
	if v := b.Get(key); len(v) == 8 {
		return binary.BigEndian.Uint64(v)
	}
	return 0
}

func putNumber(b *bbolt.Bucket, key []byte, n uint64) error {
	return b.Put(key, binary.BigEndian.AppendUint64(nil, n))
}

// Close closes the database. Events that wait in memory are tried once more.
func (o *Outbox) Close() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.db == nil {
		return nil
	}
	err := o.flush()
	if n := len(o.spill); n > 0 {
		err = fmt.Errorf("close outbox: %d events are lost: %w", n, err)
	} else {
		err = nil
	}
	err = errors.Join(err, o.db.Close())
	o.db = nil
	return err
}

// Added returns a channel that gets a value when there may be something new to send.
func (o *Outbox) Added() <-chan struct{} { return o.added }

// Status is what health tells about the outbox.
type Status struct {
	Pending uint64          // events that the clinic has not acknowledged
	Dropped uint64          // events that the bound cost, since the outbox was made
	Waiting int             // of Pending: events in memory because the disk does not take them
	Why     protocol.Code   // of Waiting: the condition storage.full, storage.read_only or storage.failing
	Rebuilt []*state.Damage // since Open (condition storage.rebuilt)
}

// Status returns the state of the outbox.
func (o *Outbox) Status() Status {
	o.mu.Lock()
	defer o.mu.Unlock()
	s := Status{Pending: o.pending + uint64(len(o.spill)), Dropped: o.dropped, Waiting: len(o.spill), Rebuilt: append([]*state.Damage(nil), o.rebuilt...)}
	if s.Waiting > 0 {
		s.Why = o.why
	}
	return s
}

// Append adds an event: body is the canonical encoding of kind's message. When it returns nil the event is on the disk, or
// waits in memory because the disk refused it, which Status tells. What opens a camera or a microphone is never
// left to memory: then it is an error, so that an opening that is not on record does not happen. It takes as long as a write to
// the disk, so do not call it where milliseconds count. The error wraps ErrFull.
func (o *Outbox) Append(kind string, body []byte) error {
	e := protocol.Event{Version: protocol.Version, At: protocol.At(o.now()), Kind: kind, Body: body}
	message, err := e.Open()
	if err != nil {
		return fmt.Errorf("append %s to outbox: %w", kind, err)
	}
	opening, _ := message.(*protocol.Opening)
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.db == nil {
		return errors.New("append to outbox: it is closed")
	}
	if int64(len(body))+maxEnvelope > o.limit {
		return fmt.Errorf("append %s to outbox: event of %d bytes: %w", kind, len(body), ErrFull)
	}
	e.Body = bytes.Clone(body)
	o.spill = append(o.spill, e)
	if err = o.flush(); err == nil {
		return nil
	}
	o.why = protocol.StorageCode(err)
	if opening != nil && opening.Open || len(o.spill) > maxSpill && !o.spillDrop() {
		o.spill = o.spill[:len(o.spill)-1]
		return fmt.Errorf("append %s to outbox: %w: %w", kind, ErrFull, err)
	}
	o.log.Error("event cannot be written and waits in memory", "kind", kind, "waiting", len(o.spill), "error", err, "code", protocol.CodeOf(err))
	return nil
}

// spillDrop drops an event that waits in memory for another: the oldest of the first of dropFirst of which there is one. False: there is none.
func (o *Outbox) spillDrop() bool {
	for _, kind := range dropFirst {
		if i := slices.IndexFunc(o.spill, func(e protocol.Event) bool { return e.Kind == kind }); i >= 0 {
			o.spill = slices.Delete(o.spill, i, i+1)
			o.dropped++
			return true
		}
	}
	return false
}

// notify wakes who waits for Added.
func (o *Outbox) notify() {
	select {
	case o.added <- struct{}{}:
	default: // woken already
	}
}
