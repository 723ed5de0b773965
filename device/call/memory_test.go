package call

import (
	"bytes"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"

	"vindu/protocol"
)

type document struct{ b []byte }

func (d *document) Load() ([]byte, error) { return d.b, nil }
func (d *document) Save(b []byte) error   { d.b = bytes.Clone(b); return nil }

func TestMemoryIsBounded(t *testing.T) {
	now := time.Now().Truncate(time.Millisecond)
	doc := &document{}
	m, err := loadMemory(doc, now)
	if err != nil {
		t.Fatal(err)
	}
	use := func(at time.Time) protocol.Code {
		t.Helper()
		inv := &protocol.Invitation{Nonce: protocol.NewNonce(), Issued: protocol.At(at), Expires: protocol.At(at.Add(time.Minute))}
		code, _ := m.use(inv, protocol.Hash{}, time.Time{}, at)
		return code
	}
	for i := range maxNonces {
		if code := use(now); code != "" {
			t.Fatalf("invitation %d: %s", i, code)
		}
	}
	if code := use(now); code != protocol.AnswerRefused {
		t.Errorf("beyond the bound: %q", code)
	}
	if again, err := loadMemory(doc, now); err != nil || len(again.doc.Used) != maxNonces {
		t.Errorf("read back: %v", err)
	}
	// Expired ones make room, but only once the skew is over too.
	if code := use(now.Add(time.Minute + Skew)); code != protocol.AnswerRefused {
		t.Errorf("at the end of the skew: %q", code)
	}
	if code := use(now.Add(time.Minute + Skew + time.Millisecond)); code != "" {
		t.Errorf("after the skew: %q", code)
	}
	if n := len(m.doc.Used); n != 1 {
		t.Errorf("%d are remembered, want 1", n)
	}
}

// TestClockAheadAndBack: an invitation counts once also if the clock went ahead, another call came, and the clock went back.
func TestClockAheadAndBack(t *testing.T) {
	now := time.Now().Truncate(time.Millisecond)
	m, err := loadMemory(&document{}, now)
	if err != nil {
		t.Fatal(err)
	}
	use := func(inv *protocol.Invitation, at time.Time) protocol.Code {
		code, _ := m.use(inv, protocol.Hash{}, at, at)
		return code
	}
	invitation := func(issued time.Time) *protocol.Invitation {
		return &protocol.Invitation{Nonce: protocol.NewNonce(), Issued: protocol.At(issued), Expires: protocol.At(issued.Add(time.Minute))}
	}
	first := invitation(now)
	if code := use(first, now); code != "" {
		t.Fatal(code)
	}
	if code := use(invitation(now.Add(10*time.Second)), now.Add(2*time.Minute+5*time.Second)); code != "" {
		t.Fatal(code)
	}
	if code := use(first, now.Add(20*time.Second)); code != protocol.AuthReplayed {
		t.Errorf("a second time: %q", code)
	}
	now = now.Add(remembered + time.Hour)
	if code := use(invitation(now), now); code != "" || len(m.doc.Used) != 1 {
		t.Errorf("a day later %d are remembered, code %q", len(m.doc.Used), code)
	}
}

// TestLostMemoryStaysLost: an invitation that may have been used before the memory was lost is refused as long as it would hold,
// also after another start, when the memory is whole again.
func TestLostMemoryStaysLost(t *testing.T) {
	now := time.Now().Truncate(time.Millisecond)
	invitation := func(issued time.Time) *protocol.Invitation {
		return &protocol.Invitation{Nonce: protocol.NewNonce(), Issued: protocol.At(issued), Expires: protocol.At(issued.Add(protocol.MaxInvitationLife))}
	}
	doc := &document{b: []byte("damaged")}
	m, err := loadMemory(doc, now)
	if err == nil {
		t.Fatal("not noticed")
	}
	old := invitation(now.Add(-time.Second))
	if code, _ := m.use(old, protocol.Hash{}, now, now); code != protocol.AuthReplayed {
		t.Errorf("right after the loss: %q", code)
	}
	now = now.Add(Skew + time.Second)
	if code, err := m.use(invitation(now), protocol.Hash{}, now, now); code != "" {
		t.Fatalf("a new one: %s: %v", code, err)
	}
	if m, err = loadMemory(doc, now); err != nil {
		t.Fatal(err)
	}
	if code, _ := m.use(old, protocol.Hash{}, now, now); code != protocol.AuthReplayed {
		t.Errorf("after another start: %q", code)
	}
}

func FuzzMemory(f *testing.F) {
	full, err := cbor.Marshal(memoryDoc{Version: 1, Used: []usedNonce{{protocol.Nonce{1}, 5}}, Running: &runningMarker{
		Call: protocol.CallID{1}, Began: 4, Open: []Device{Camera}, Reason: protocol.PowerRestarted,
	}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(full)
	f.Add(full[:len(full)/2])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		var doc memoryDoc
		if err := decodeMemory(b, &doc); err != nil {
			return
		}
		again, err := cbor.Marshal(doc)
		if err != nil {
			t.Fatalf("what was read cannot be written: %v", err)
		}
		if err := decodeMemory(again, new(memoryDoc)); err != nil {
			t.Fatalf("what was written cannot be read: %v", err)
		}
	})
}
