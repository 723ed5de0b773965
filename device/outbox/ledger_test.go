package outbox

import (
	"testing"

	"vindu/protocol"
)

// TestLedgerChain: each opening names the one before by its hash, whatever stands between them in the outbox, across restarts and after the clinic has
// taken what was told.
func TestLedgerChain(t *testing.T) {
	b := newBox(t, true)
	var n uint64
	var previous protocol.Hash
	var after uint64
	follow := func() {
		t.Helper()
		for e := b.next(after); e != nil; e = b.next(after) {
			after = e.Seq
			if e.Kind != protocol.EventOpening {
				if e.Link != nil {
					t.Errorf("%s has a link", e.Kind)
				}
				continue
			}
			if n++; e.Link == nil || e.Link.N != n || e.Link.Previous != previous {
				t.Fatalf("opening %d: link %+v after %x", n, e.Link, previous)
			}
			encoded, err := protocol.Encode(e)
			if err != nil {
				t.Fatal(err)
			}
			previous = protocol.HashOf(encoded)
		}
	}
	for i := range 5 {
		b.append(protocol.EventOpening, i)
		b.append(protocol.EventNotice, i)
	}
	follow()
	b.ack(b.epoch, after)
	b.close()
	b.open()
	for i := range 5 {
		b.append(protocol.EventCall, i)
		b.append(protocol.EventOpening, i)
	}
	follow()
	if n != 10 {
		t.Fatalf("%d openings", n)
	}
	b.ack(b.epoch, after)
	for i := range maxLedger {
		b.append(protocol.EventOpening, i)
		if i%64 == 63 {
			follow()
			b.ack(b.epoch, after)
		}
	}
	kept := 0
	if err := b.update(func(k buckets) error {
		kept = k.ledger.Stats().KeyN
		return errUnchanged
	}); err != errUnchanged || kept != maxLedger {
		t.Errorf("%d openings are kept, %v", kept, err)
	}
}

// TestLedgerLosesNothing: what the bound of the outbox costs the clinic is a gap that it can see.
func TestLedgerLosesNothing(t *testing.T) {
	b := newBox(t, true)
	for i := range 2000 {
		b.append(protocol.EventOpening, i)
	}
	first := b.next(0)
	if first == nil || first.Seq == 1 || first.Link.N != first.Seq {
		t.Fatalf("%+v", first)
	}
}
