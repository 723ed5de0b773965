package outbox

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.etcd.io/bbolt"
	"go.uber.org/goleak"

	"vindu/device/state"
	"vindu/protocol"
)

func TestMain(m *testing.M) {
	if path := os.Getenv("VINDU_TEST_APPEND"); path != "" {
		appendForever(path)
	}
	goleak.VerifyTestMain(m)
}

var quiet = slog.New(slog.DiscardHandler)

func encode(t testing.TB, kind string, n int) []byte {
	t.Helper()
	var b []byte
	var err error
	call := protocol.CallID{1, byte(n >> 8), byte(n)}
	switch kind {
	case protocol.EventNotice:
		b, err = protocol.Encode(&protocol.Notice{Version: 1, Code: protocol.AuthReplayed, Call: call, Detail: strings.Repeat("x", 100), At: 1})
	case protocol.EventCondition:
		b, err = protocol.Encode(&protocol.ConditionChange{Version: 1, Code: protocol.HeatHot, Since: protocol.Time(n + 1), Figure: strings.Repeat("x", 100)})
	case protocol.EventOpening:
		b, err = protocol.Encode(&protocol.Opening{Version: 1, Device: "camera", Open: n%2 == 0, Call: call, At: 1})
	case protocol.EventEnd:
		b, err = protocol.Encode(&protocol.EndReceipt{Version: 1, Call: call, End: bytes.Repeat([]byte{1}, 200)})
	case protocol.EventCall:
		b, err = protocol.Encode(&protocol.CallRecord{Version: 1, Call: call, By: protocol.SideTerminal, Began: 1, Outcome: protocol.EndCallerHungUp})
	}
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// box is an outbox that can be closed and opened again.
type box struct {
	*Outbox
	t    testing.TB
	path string
	dir  *state.Dir
	fast bool // without waiting for the disk: not for tests of what survives
}

const testLimit = 64 << 10

func newBox(t testing.TB, fast bool) *box {
	b := &box{t: t, path: filepath.Join(t.TempDir(), "state"), fast: fast}
	b.open()
	t.Cleanup(b.close)
	return b
}

func (b *box) open() {
	b.t.Helper()
	var err error
	if b.dir, err = state.Open(b.path); err != nil {
		b.t.Fatal(err)
	}
	if b.Outbox, err = Open(b.dir, testLimit, time.Now, quiet); err != nil {
		b.t.Fatal(err)
	}
	b.db.NoSync = b.fast
}

func (b *box) close() {
	b.t.Helper()
	if err := errors.Join(b.Outbox.Close(), b.dir.Close()); err != nil && !errors.Is(err, os.ErrClosed) {
		b.t.Error(err)
	}
}

func (b *box) append(kind string, n int) {
	b.t.Helper()
	if err := b.Append(kind, encode(b.t, kind, n)); err != nil {
		b.t.Fatal(err)
	}
}

// next returns the event after a sequence number, decoded; nil if there is none.
func (b *box) next(after uint64) *protocol.Event {
	b.t.Helper()
	seq, message, err := b.Next(after)
	if err != nil {
		b.t.Fatal(err)
	}
	if message == nil {
		return nil
	}
	e := new(protocol.Event)
	if err := protocol.Decode(message, e); err != nil {
		b.t.Fatal(err)
	}
	if e.Seq != seq {
		b.t.Errorf("event %d was returned as %d", e.Seq, seq)
	}
	return e
}

func (b *box) ack(epoch protocol.Nonce, seq uint64) uint64 {
	b.t.Helper()
	n, err := b.Ack(protocol.Ack{Version: 1, Epoch: epoch, Seq: seq})
	if err != nil {
		b.t.Fatal(err)
	}
	return n
}

// TestNeverSent: what the clinic cannot have is acknowledged by somebody who is not the clinic, or to a terminal that was put back to an older copy of itself.
func TestNeverSent(t *testing.T) {
	b := newBox(t, false)
	for i := range 3 {
		b.append(protocol.EventNotice, i)
	}
	b.next(0)
	for _, c := range []struct {
		seq  uint64
		want error
	}{{2, nil}, {3, nil}, {4, ErrNeverSent}, {math.MaxUint64, ErrNeverSent}} {
		n, err := b.Ack(protocol.Ack{Version: 1, Epoch: b.epoch, Seq: c.seq})
		if n != 0 || !errors.Is(err, c.want) || err != nil && protocol.CodeOf(err) != protocol.AuthAck {
			t.Errorf("event %d: %d removed, %v", c.seq, n, err)
		}
	}
	if n, err := b.Ack(protocol.Ack{Version: 1, Epoch: protocol.Nonce{1}, Seq: 9}); n != 0 || err != nil {
		t.Errorf("of another epoch: %d removed, %v", n, err)
	}
	if b.Status().Pending != 3 {
		t.Errorf("%d events are left", b.Status().Pending)
	}
}

func TestOrderAndAcknowledgement(t *testing.T) {
	b := newBox(t, false)
	if b.next(0) != nil {
		t.Error("a new outbox has an event")
	}
	kinds := []string{protocol.EventOpening, protocol.EventNotice, protocol.EventEnd, protocol.EventCall}
	for i, kind := range kinds {
		b.append(kind, i)
	}
	select {
	case <-b.Added():
	default:
		t.Error("nobody was told")
	}
	var epoch protocol.Nonce
	for i, kind := range kinds {
		e := b.next(uint64(i))
		if e == nil || e.Kind != kind || e.Seq != uint64(i+1) || !bytes.Equal(e.Body, encode(t, kind, i)) || e.At <= 0 {
			t.Fatalf("event %d: %+v", i+1, e)
		}
		epoch = e.Epoch
	}
	if b.next(4) != nil {
		t.Error("a fifth event")
	}
	b.close()
	b.open()
	if e := b.next(0); e == nil || e.Seq != 1 || e.Epoch != epoch {
		t.Fatalf("after a restart: %+v", e)
	}
	if s := b.Status(); s.Pending != 4 || s.Dropped != 0 || s.Waiting != 0 || len(s.Rebuilt) != 0 {
		t.Errorf("status %+v", s)
	}
	for _, c := range []struct {
		name  string
		epoch protocol.Nonce
		seq   uint64
		want  uint64
	}{
		{"another epoch", protocol.NewNonce(), 1, 0},
		{"nothing", epoch, 0, 0},
		{"beyond what was sent", epoch, 2, 0},
		{"the first", epoch, 1, 1},
		{"again", epoch, 1, 0},
	} {
		if got := b.ack(c.epoch, c.seq); got != c.want {
			t.Errorf("%s: removed %d, want %d", c.name, got, c.want)
		}
	}
	for seq := uint64(1); seq < 4; seq++ {
		b.next(seq)
	}
	if got := b.ack(epoch, 3); got != 2 {
		t.Errorf("cumulative: removed %d, want 2", got)
	}
	b.close()
	b.open()
	if e := b.next(0); e == nil || e.Seq != 4 || b.Status().Pending != 1 {
		t.Errorf("what was acknowledged came back: %+v", e)
	}
	b.ack(epoch, 4)
	b.append(protocol.EventNotice, 9)
	if e := b.next(0); e == nil || e.Seq != 5 || e.Epoch != epoch {
		t.Errorf("a number was used twice: %+v", e)
	}
}

func TestAppendRefuses(t *testing.T) {
	b := newBox(t, false)
	for _, c := range []struct {
		name, kind string
		body       []byte
		want       error
	}{
		{"unknown kind", "gossip", encode(t, protocol.EventNotice, 1), protocol.ErrMalformed},
		{"body of another kind", protocol.EventCall, encode(t, protocol.EventNotice, 1), protocol.ErrMalformed},
		{"no body", protocol.EventNotice, nil, protocol.ErrMalformed},
		{"too large", protocol.EventNotice, make([]byte, protocol.MaxMessage+1), protocol.ErrTooLarge},
	} {
		if err := b.Append(c.kind, c.body); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if s := b.Status(); s.Pending != 0 {
		t.Errorf("status %+v", s)
	}
}

func TestBound(t *testing.T) {
	b := newBox(t, true)
	for i := range 100 {
		b.append(protocol.EventOpening, i)
		b.append(protocol.EventNotice, i)
	}
	if b.Status().Dropped != 0 {
		t.Fatal("the limit is too small for this test")
	}
	for i := range 1000 {
		b.append(protocol.EventOpening, 100+i)
	}
	s := b.Status()
	if s.Pending+s.Dropped != 1200 || s.Dropped == 0 {
		t.Errorf("status %+v", s)
	}
	if b.size > testLimit || b.size < testLimit*9/10 {
		t.Errorf("%d bytes of %d", b.size, testLimit)
	}
	var openings, notices, last uint64
	for e := b.next(0); e != nil; e = b.next(last) {
		if e.Seq <= last {
			t.Fatalf("event %d after %d", e.Seq, last)
		}
		last = e.Seq
		if e.Kind == protocol.EventNotice {
			notices++
		} else {
			openings++
		}
	}
	if notices != 0 || openings != s.Pending || last != 1200 {
		t.Errorf("%d notices and %d openings are left, the last is %d", notices, openings, last)
	}
	if info, err := os.Stat(filepath.Join(b.path, fileName)); err != nil || info.Size() > 4<<20 {
		t.Errorf("the file has %d bytes, %v", info.Size(), err)
	}
	dropped := s.Dropped
	b.close()
	b.open()
	if s := b.Status(); s.Dropped != dropped || s.Pending != openings {
		t.Errorf("after a restart %+v", s)
	}
}

// TestRepeatableGoFirst: a flood of refused calls, or of conditions that come and go, does not cost the ledger an entry.
func TestRepeatableGoFirst(t *testing.T) {
	for _, kind := range []string{protocol.EventNotice, protocol.EventCondition} {
		t.Run(kind, func(t *testing.T) {
			b := newBox(t, true)
			for i := range 20 {
				b.append(protocol.EventOpening, i)
			}
			for i := range 1000 {
				b.append(kind, i)
			}
			var openings int
			for e := b.next(0); e != nil; e = b.next(e.Seq) {
				if e.Kind == protocol.EventOpening {
					openings++
				}
			}
			if openings != 20 || b.Status().Dropped == 0 {
				t.Errorf("%d openings are left, status %+v", openings, b.Status())
			}
		})
	}
}

// TestConditionsGoBeforeNotices: who owns the network can have conditions come and go. That does not cost the clinic the notice of a call that was refused, on the disk or in memory;
// and an outbox of before there was a difference is none that is lost.
func TestConditionsGoBeforeNotices(t *testing.T) {
	left := func(b *box) (kinds map[string]int) {
		kinds = map[string]int{}
		for e := b.next(0); e != nil; e = b.next(e.Seq) {
			kinds[e.Kind]++
		}
		return kinds
	}
	t.Run("on the disk", func(t *testing.T) {
		b := newBox(t, true)
		for i := range 20 {
			b.append(protocol.EventNotice, i)
		}
		if err := b.db.Update(func(tx *bbolt.Tx) error { return tx.DeleteBucket(bucketConditions) }); err != nil {
			t.Fatal(err)
		}
		b.close()
		b.open()
		for i := range 1000 {
			b.append(protocol.EventCondition, i)
		}
		if got := left(b); got[protocol.EventNotice] != 20 || b.Status().Dropped == 0 || len(b.Status().Rebuilt) != 0 {
			t.Errorf("left are %v, status %+v", got, b.Status())
		}
		for i := range 1000 {
			b.append(protocol.EventNotice, 20+i)
		}
		if got := left(b); got[protocol.EventCondition] != 0 || uint64(got[protocol.EventNotice]) != b.Status().Pending {
			t.Errorf("left are %v, status %+v", got, b.Status())
		}
	})
	t.Run("in memory", func(t *testing.T) {
		b := newBox(t, true)
		working := b.write
		b.write = func(*bbolt.DB, func(*bbolt.Tx) error) error {
			return &fs.PathError{Op: "write", Path: "outbox.db", Err: syscall.ENOSPC}
		}
		b.append(protocol.EventNotice, 0)
		for i := range 2 * maxSpill {
			b.append(protocol.EventCondition, i)
		}
		b.write = working
		if got := left(b); got[protocol.EventNotice] != 1 || got[protocol.EventCondition] != maxSpill-1 {
			t.Errorf("left are %v, status %+v", got, b.Status())
		}
	})
}

func TestDamagedEvents(t *testing.T) {
	b := newBox(t, false)
	for i := range 5 {
		b.append(protocol.EventNotice, i)
	}
	err := b.db.Update(func(tx *bbolt.Tx) error {
		events := tx.Bucket(bucketEvents)
		flipped := bytes.Clone(events.Get(seqKey(2)))
		flipped[len(flipped)/2] ^= 0x80
		return errors.Join(
			events.Put(seqKey(2), flipped),
			events.Put(seqKey(3), bytes.Clone(events.Get(seqKey(1)))),
			events.Put([]byte("odd"), []byte{1}))
	})
	if err != nil {
		t.Fatal(err)
	}
	b.close()
	b.open()
	var seqs []uint64
	for e := b.next(0); e != nil; e = b.next(e.Seq) {
		seqs = append(seqs, e.Seq)
	}
	if fmt.Sprint(seqs) != "[1 4 5]" {
		t.Errorf("left are %v", seqs)
	}
	if s := b.Status(); s.Pending != 3 || s.Dropped != 3 {
		t.Errorf("status %+v", s)
	}
}

// TestDamagedDatabase also raises what the agent reports as protocol.StorageDamaged; the next start clears it.
func TestDamagedDatabase(t *testing.T) {
	for _, c := range []struct {
		name   string
		damage func(t *testing.T, b *box)
	}{
		{"while closed", func(t *testing.T, b *box) {
			b.close()
			if err := os.WriteFile(filepath.Join(b.path, fileName), bytes.Repeat([]byte("no "), 10000), 0o600); err != nil {
				t.Fatal(err)
			}
			b.open()
		}},
		{"in use", func(t *testing.T, b *box) {
			f, err := os.OpenFile(filepath.Join(b.path, fileName), os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			page := int64(os.Getpagesize())
			info, err := f.Stat()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.WriteAt(bytes.Repeat([]byte{0xff}, int(info.Size()-2*page)), 2*page); err != nil {
				t.Fatal(err)
			}
		}},
		{"lost buckets", func(t *testing.T, b *box) {
			if err := b.db.Update(func(tx *bbolt.Tx) error { return tx.DeleteBucket(bucketNotices) }); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBox(t, false)
			b.append(protocol.EventNotice, 1)
			epoch := b.next(0).Epoch
			c.damage(t, b)
			b.append(protocol.EventNotice, 2)
			e := b.next(0)
			if e == nil || e.Seq != 1 || e.Epoch == epoch || !bytes.Equal(e.Body, encode(t, protocol.EventNotice, 2)) {
				t.Errorf("after the damage: %+v", e)
			}
			s := b.Status()
			if len(s.Rebuilt) != 1 || s.Pending != 1 {
				t.Fatalf("status %+v", s)
			}
			if _, err := os.Stat(s.Rebuilt[0].SetAside); err != nil {
				t.Error(err)
			}
			if b.ack(epoch, 1) != 0 {
				t.Error("an acknowledgement of the lost epoch counts for the new one")
			}
			if b.ack(e.Epoch, 1) != 1 {
				t.Error("the new epoch is not acknowledged")
			}
		})
	}
}

func TestDiskFull(t *testing.T) {
	b := newBox(t, false)
	b.append(protocol.EventNotice, 0)
	full := func(*bbolt.DB, func(*bbolt.Tx) error) error {
		return &fs.PathError{Op: "write", Path: "outbox.db", Err: syscall.ENOSPC}
	}
	working := b.write
	b.write = full
	for i := range maxSpill {
		b.append(protocol.EventNotice, 1+i)
	}
	if s := b.Status(); s.Waiting != maxSpill || s.Why != protocol.StorageFull || s.Pending != maxSpill+1 {
		t.Errorf("status %+v", s)
	}
	for i := range maxSpill {
		b.append(protocol.EventEnd, i)
	}
	if s := b.Status(); s.Waiting != maxSpill || s.Dropped != maxSpill {
		t.Errorf("notices do not make room: %+v", s)
	}
	if err := b.Append(protocol.EventEnd, encode(t, protocol.EventEnd, 999)); !errors.Is(err, ErrFull) || protocol.CodeOf(err) != protocol.StorageFull {
		t.Errorf("one more: %v with code %q", err, protocol.CodeOf(err))
	}
	b.spill = b.spill[:10]
	if err := b.Append(protocol.EventOpening, encode(t, protocol.EventOpening, 0)); protocol.CodeOf(err) != protocol.StorageFull || len(b.spill) != 10 {
		t.Errorf("an opening that is not on record: %v", err)
	}
	b.append(protocol.EventOpening, 1) // a closing waits like everything else
	b.write = working
	var n int
	for e := b.next(0); e != nil; e = b.next(e.Seq) {
		n++
	}
	if s := b.Status(); n != 12 || s.Waiting != 0 || s.Pending != 12 || s.Dropped != maxSpill {
		t.Errorf("%d events after there was room again, status %+v", n, s)
	}
}

// TestDiskFails: what waits says whether the disk is full, fails, or lets nobody write.
func TestDiskFails(t *testing.T) {
	b := newBox(t, false)
	working := b.write
	for err, why := range map[error]protocol.Code{syscall.EIO: protocol.StorageFailing, syscall.EROFS: protocol.StorageReadOnly, syscall.ENOSPC: protocol.StorageFull} {
		b.write = func(*bbolt.DB, func(*bbolt.Tx) error) error { return fmt.Errorf("fdatasync: %w", err) }
		b.append(protocol.EventNotice, 1)
		if s := b.Status(); s.Waiting != 1 || s.Why != why {
			t.Errorf("%v: %d wait because of %q, want 1 because of %q", err, s.Waiting, s.Why, why)
		}
		b.write = working
		b.append(protocol.EventNotice, 2)
		if s := b.Status(); s.Waiting != 0 || s.Why != "" {
			t.Errorf("%v: afterwards %d wait because of %q", err, s.Waiting, s.Why)
		}
	}
}

func TestCloseTellsWhatIsLost(t *testing.T) {
	b := newBox(t, false)
	b.write = func(*bbolt.DB, func(*bbolt.Tx) error) error { return syscall.ENOSPC }
	b.append(protocol.EventNotice, 1)
	if err := b.Outbox.Close(); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("close: %v", err)
	}
	if err := b.Append(protocol.EventNotice, encode(t, protocol.EventNotice, 1)); err == nil {
		t.Error("append after close")
	}
	if _, _, err := b.Next(0); err == nil {
		t.Error("next after close")
	}
	if _, err := b.Ack(protocol.Ack{Epoch: b.epoch, Seq: 1}); err == nil {
		t.Error("acknowledged after close")
	}
}

// appendForever is the agent of TestKilled: it says each event's number after Append returned.
func appendForever(path string) {
	dir, err := state.Open(path)
	if err != nil {
		panic(err)
	}
	o, err := Open(dir, DefaultLimit, time.Now, quiet)
	if err != nil {
		panic(err)
	}
	for i := 1; ; i++ {
		b, err := protocol.Encode(&protocol.Notice{Version: 1, Code: protocol.AuthReplayed, At: protocol.Time(i)})
		if err != nil {
			panic(err)
		}
		if err := o.Append(protocol.EventNotice, b); err != nil {
			panic(err)
		}
		fmt.Println(i)
	}
}

// TestKilled kills the agent while it appends: every event whose Append had returned is there.
func TestKilled(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	agent := exec.Command(os.Args[0])
	agent.Env = append(os.Environ(), "VINDU_TEST_APPEND="+path)
	out, err := agent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	var last uint64
	for lines := bufio.NewScanner(out); lines.Scan(); {
		n, err := strconv.ParseUint(lines.Text(), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		if last = n; last == 40 {
			if err := agent.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	_ = agent.Wait() // killed
	b := &box{t: t, path: path}
	b.open()
	defer b.close()
	for seq := uint64(1); seq <= last; seq++ {
		e := b.next(seq - 1)
		if e == nil || e.Seq != seq {
			t.Fatalf("of %d events, %d is missing: %+v", last, seq, e)
		}
	}
	if s := b.Status(); last < 40 || len(s.Rebuilt) != 0 {
		t.Errorf("%d events, status %+v", last, s)
	}
}
