package outbox

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"runtime/debug"
	"syscall"

	"go.etcd.io/bbolt"

	"vindu/protocol"
)

// errFault is wrapped when bbolt stumbled over its own file.
var errFault = errors.New("database is damaged")

// buckets are those of one transaction.
type buckets struct{ meta, events, conditions, notices, ledger *bbolt.Bucket }

// update runs f in a transaction. bbolt panics on damage that appears in use; the database is then set aside, and f
// runs on a new one. o.mu is held.
func (o *Outbox) update(f func(b buckets) error) error {
	err := o.try(f)
	if errors.Is(err, bbolt.ErrDatabaseNotOpen) { // making it anew failed earlier
		if err := o.open(); err != nil {
			return err
		}
		err = o.try(f)
	}
	if !errors.Is(err, errFault) {
		return classify(err)
	}
	// The old database is left behind as it is: bbolt holds its locks for good when undoing a transaction panics too.
	damage, err := o.dir.SetAside(fileName, err)
	if err != nil {
		return err
	}
	o.reportDamage(damage)
	if err := o.open(); err != nil {
		return err
	}
	return classify(o.try(f))
}

func (o *Outbox) try(f func(b buckets) error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%v: %w", r, errFault)
		}
	}()
	return o.write(o.db, func(tx *bbolt.Tx) error {
		b := buckets{meta: tx.Bucket(bucketMeta), events: tx.Bucket(bucketEvents), notices: tx.Bucket(bucketNotices), ledger: tx.Bucket(bucketLedger)}
		if b.meta == nil || b.events == nil || b.notices == nil || b.ledger == nil {
			return fmt.Errorf("a bucket is missing: %w", errFault)
		}
		// Outboxes that were made before there was this bucket have changes of conditions among the notices.
		conditions, err := tx.CreateBucketIfNotExists(bucketConditions)
		if err != nil {
			return err
		}
		b.conditions = conditions
		return f(b)
	})
}

func classify(err error) error {
	var path *fs.PathError
	switch {
	case err == nil:
		return nil
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return protocol.WithCode(protocol.StorageFull, fmt.Errorf("write outbox: the storage is full: free space on it: %w", err))
	case errors.As(err, &path):
		return protocol.WithCode(protocol.StorageUnreadable, fmt.Errorf("write outbox: %w", err))
	}
	return err
}

// tally is what a transaction makes of the counters; it counts only once the transaction is committed.
type tally struct {
	size             int64
	pending, dropped uint64
}

func (o *Outbox) tally() tally { return tally{o.size, o.pending, o.dropped} }

func (o *Outbox) commit(t tally) { o.size, o.pending, o.dropped = t.size, t.pending, t.dropped }

// flush writes what waits in memory, all or nothing. o.mu is held.
func (o *Outbox) flush() error {
	if len(o.spill) == 0 {
		return nil
	}
	var t tally
	before := o.dropped
	err := o.update(func(b buckets) error {
		t = o.tally()
		next := number(b.meta, keyNext)
		for _, e := range o.spill {
			e.Epoch, e.Seq = o.epoch, next
			if e.Kind == protocol.EventOpening {
				e.Link = b.link()
			}
			message, err := protocol.Encode(&e)
			if err != nil {
				return err
			}
			if e.Link != nil {
				if err := b.enter(e.Link.N, message); err != nil {
					return err
				}
			}
			for t.pending > 0 && t.size+sizeOf(message) > o.limit {
				if err := b.drop(b.oldest(), &t); err != nil {
					return err
				}
			}
			if err := b.events.Put(seqKey(next), message); err != nil {
				return err
			}
			if first := b.first(e.Kind); first != nil {
				if err := first.Put(seqKey(next), []byte{}); err != nil {
					return err
				}
			}
			t.size += sizeOf(message)
			t.pending++
			next++
		}
		return errors.Join(putNumber(b.meta, keyNext, next), putNumber(b.meta, keyDropped, t.dropped))
	})
	if err != nil {
		return err
	}
	if t.dropped > before {
		o.log.Error("outbox is full, its oldest events were dropped", "dropped", t.dropped-before, "dropped_ever", t.dropped)
	}
	o.commit(t)
	o.spill = nil
	o.notify()
	return nil
}

// dropFirst are the kinds of events that make room for others, in this order. What a condition says health says again. A notice is of a call or an order that was refused: the clinic
// hears of it by nothing else, and who can have conditions come and go, as the network's owner can, is not to push it out.
var dropFirst = []string{protocol.EventCondition, protocol.EventNotice}

// first is where the numbers are of those events of a kind that make room for others; nil: they do not.
func (b buckets) first(kind string) *bbolt.Bucket {
	switch kind {
	case protocol.EventCondition:
		return b.conditions
	case protocol.EventNotice:
		return b.notices
	}
	return nil
}

// link is the place in the ledger of the next opening.
func (b buckets) link() *protocol.Link {
	k, last := b.ledger.Cursor().Last()
	if len(k) != 8 {
		return &protocol.Link{N: 1}
	}
	return &protocol.Link{N: binary.BigEndian.Uint64(k) + 1, Previous: protocol.HashOf(last)}
}

// enter writes an opening into the ledger, and lets go of the one that is maxLedger before it.
func (b buckets) enter(n uint64, message []byte) error {
	if err := b.ledger.Put(seqKey(n), message); err != nil {
		return err
	}
	if n <= maxLedger {
		return nil
	}
	return b.ledger.Delete(seqKey(n - maxLedger))
}

func seqKey(seq uint64) []byte { return binary.BigEndian.AppendUint64(nil, seq) }

// oldest returns the key of the event that is to make room for another: of the first of dropFirst of which there is one, or of all.
func (b buckets) oldest() []byte {
	for _, kind := range dropFirst {
		if k, _ := b.first(kind).Cursor().First(); k != nil {
			return k
		}
	}
	k, _ := b.events.Cursor().First()
	return k
}

// drop deletes an event that the clinic will not get.
func (b buckets) drop(key []byte, t *tally) error {
	t.dropped++
	return b.remove(bytes.Clone(key), t)
}

// remove deletes an event. key must not point into the database.
func (b buckets) remove(key []byte, t *tally) error {
	if v := b.events.Get(key); v != nil {
		t.size -= sizeOf(v)
		t.pending--
	}
	return errors.Join(b.events.Delete(key), b.conditions.Delete(key), b.notices.Delete(key))
}

// Next returns the oldest event whose sequence number is above after, encoded as it goes on protocol.OutEvent. The
// message is nil if there is none. An event that cannot be understood any more is deleted and counted as dropped.
func (o *Outbox) Next(after uint64) (seq uint64, message []byte, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.db == nil {
		return 0, nil, errors.New("read outbox: it is closed")
	}
	if err := o.flush(); err != nil {
		o.log.Warn("events still wait in memory", "waiting", len(o.spill), "error", err, "code", protocol.CodeOf(err))
	}
	var t tally
	before := o.dropped
	if o.pending == 0 {
		return 0, nil, nil
	}
	err = o.update(func(b buckets) error {
		t, seq, message = o.tally(), 0, nil
		c := b.events.Cursor()
		for k, v := c.Seek(seqKey(after + 1)); k != nil; k, v = c.Seek(seqKey(after + 1)) {
			if n, ok := o.sound(k, v); ok {
				seq, message = n, bytes.Clone(v)
				break
			}
			if err := b.drop(k, &t); err != nil {
				return err
			}
		}
		if t.dropped == o.dropped {
			return errUnchanged
		}
		return putNumber(b.meta, keyDropped, t.dropped)
	})
	if err != nil && !errors.Is(err, errUnchanged) {
		return 0, nil, fmt.Errorf("read outbox: %w", err)
	}
	if t.dropped > before {
		o.log.Error("events in the outbox were damaged and are lost to the clinic", "damaged", t.dropped-before, "code", protocol.StorageDamaged)
	}
	o.commit(t)
	o.sent = max(o.sent, seq)
	return seq, message, nil
}

// errUnchanged ends a transaction that has nothing to write.
var errUnchanged = errors.New("nothing to write")

// sound tells whether an entry is the event that its key says.
func (o *Outbox) sound(key, value []byte) (uint64, bool) {
	if len(key) != 8 {
		return 0, false
	}
	var e protocol.Event
	seq := binary.BigEndian.Uint64(key)
	err := protocol.Decode(value, &e)
	return seq, err == nil && e.Seq == seq && e.Epoch == o.epoch
}

// ever tells of a number that was not handed out since the outbox was opened whether it has been given to an event at all. o.mu is held.
func (o *Outbox) ever(seq uint64) error {
	epoch, next := o.epoch, uint64(0)
	err := o.update(func(b buckets) error {
		next = number(b.meta, keyNext)
		return errUnchanged
	})
	if err != nil && !errors.Is(err, errUnchanged) {
		return fmt.Errorf("acknowledge: %w", err)
	}
	if o.epoch == epoch && seq >= next { // another epoch: the database was made anew just now
		return protocol.WithCode(protocol.AuthAck, fmt.Errorf("acknowledge event %d, the next is %d: %w", seq, next, ErrNeverSent))
	}
	return nil
}

// Ack removes what the clinic has committed: the events up to and including a.Seq. The caller has verified that the clinic says so (protocol.VerifyAck).
// Acknowledgements of another epoch, or of what was not sent since the outbox was opened, change nothing: what they mean to confirm is sent again, and
// recognised. One of an event that this epoch never had is refused; the error wraps ErrNeverSent and has the code protocol.AuthAck. It returns how many events
// it removed.
func (o *Outbox) Ack(a protocol.Ack) (uint64, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.db == nil {
		return 0, errors.New("acknowledge: the outbox is closed")
	}
	if a.Epoch != o.epoch || a.Seq == 0 {
		return 0, nil
	}
	if a.Seq > o.sent {
		return 0, o.ever(a.Seq)
	}
	var t tally
	before := o.pending
	err := o.update(func(b buckets) error {
		if t = o.tally(); a.Epoch != o.epoch {
			return errUnchanged // the database was made anew just now
		}
		before = t.pending
		for {
			k, _ := b.events.Cursor().First()
			if k == nil || len(k) == 8 && binary.BigEndian.Uint64(k) > a.Seq {
				break
			}
			if err := b.remove(bytes.Clone(k), &t); err != nil {
				return err
			}
		}
		if t.pending == before {
			return errUnchanged
		}
		return nil
	})
	if err != nil && !errors.Is(err, errUnchanged) {
		return 0, fmt.Errorf("acknowledge: %w", err)
	}
	o.commit(t)
	return before - t.pending, nil
}
