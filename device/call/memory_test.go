package call

import (
	"bytes"
	"testing"
	"testing/synctest"
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
	m, err := loadMemory(doc)
	if err != nil {
		t.Fatal(err)
	}
	use := func(at time.Time) protocol.Code {
		t.Helper()
		inv := &protocol.Invitation{Nonce: protocol.NewNonce(), Issued: protocol.At(at), Expires: protocol.At(at.Add(time.Minute))}
		code, _ := m.use(&Proof{Invitation: inv}, time.Time{}, at)
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
	if again, err := loadMemory(doc); err != nil || len(again.doc.Used) != maxNonces {
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
	m, err := loadMemory(&document{})
	if err != nil {
		t.Fatal(err)
	}
	use := func(inv *protocol.Invitation, at time.Time) protocol.Code {
		code, _ := m.use(&Proof{Invitation: inv}, at, at)
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
// also after another start, when the memory is whole again; and by the time that is proven, since without a clock battery the terminal is behind at its start.
func TestLostMemoryStaysLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		invitation := func(issued time.Time) *protocol.Invitation {
			return &protocol.Invitation{Nonce: protocol.NewNonce(), Issued: protocol.At(issued), Expires: protocol.At(issued.Add(protocol.MaxInvitationLife))}
		}
		proven := func(inv *protocol.Invitation) *Proof {
			return &Proof{Invitation: inv, Authorisation: new(protocol.Authorisation)}
		}
		began := time.Now().Truncate(time.Millisecond)
		doc := &document{b: []byte("damaged")}
		m, err := loadMemory(doc)
		if err == nil {
			t.Fatal("not noticed")
		}
		behind := began.Add(-50 * time.Minute) // nothing is proven yet
		if code, _ := m.use(&Proof{Invitation: invitation(behind)}, behind, behind); code != protocol.AuthReplayed {
			t.Errorf("a test call right after the loss: %q", code)
		}
		<-time.After(Skew)
		behind = behind.Add(Skew)
		if code, err := m.use(&Proof{Invitation: invitation(behind)}, behind, behind); code != "" {
			t.Fatalf("a test call a minute later: %s: %v", code, err)
		}
		if m, err = loadMemory(doc); err != nil { // it was written
			t.Fatal(err)
		}
		old := invitation(time.Now().Add(-time.Second))
		<-time.After(Skew / 2)
		if code, _ := m.use(proven(old), time.Now(), time.Now()); code != protocol.AuthReplayed {
			t.Errorf("after the loss: %q", code)
		}
		<-time.After(Skew/2 + time.Second)
		if code, _ := m.use(proven(old), time.Now(), time.Now()); code != protocol.AuthReplayed {
			t.Errorf("a minute after the loss: %q", code)
		}
		if code, err := m.use(proven(invitation(time.Now())), time.Now(), time.Now()); code != "" {
			t.Fatalf("a new one: %s: %v", code, err)
		}
		if m, err = loadMemory(doc); err != nil {
			t.Fatal(err)
		}
		if code, _ := m.use(proven(old), time.Now(), time.Now()); code != protocol.AuthReplayed {
			t.Errorf("after another start: %q", code)
		}
		<-time.After(time.Hour)
		m, _ = loadMemory(&document{b: []byte("damaged")})
		<-time.After(10 * time.Minute)
		if code, err := m.use(proven(invitation(time.Now())), time.Now(), time.Now()); code != "" {
			t.Errorf("the first call long after the loss: %s: %v", code, err)
		}
	})
}

// TestPasskeysCount: a passkey's counter has to rise from use to use, across restarts; passkeys that do not count always say 0.
func TestPasskeysCount(t *testing.T) {
	now := time.Now().Truncate(time.Millisecond)
	one, two, synced := protocol.Hash{1}, protocol.Hash{2}, protocol.Hash{3}
	doc := &document{}
	for i, use := range []struct {
		passkey protocol.Hash
		counter uint32
		want    protocol.Code
	}{
		{one, 5, ""}, {one, 5, protocol.AuthCounter}, {one, 4, protocol.AuthCounter}, {one, 0, protocol.AuthCounter}, {one, 6, ""},
		{two, 1, ""}, {one, 7, ""}, {two, 1, protocol.AuthCounter}, {two, 1 << 31, ""}, {two, 2, protocol.AuthCounter},
		{synced, 0, ""}, {synced, 0, ""}, {synced, 1, ""}, {synced, 0, protocol.AuthCounter}, {one, 1<<32 - 1, ""}, {one, 0, protocol.AuthCounter},
	} {
		m, err := loadMemory(doc) // a new process each time
		if err != nil {
			t.Fatal(err)
		}
		before := bytes.Clone(doc.b)
		p := &Proof{
			Invitation: &protocol.Invitation{Nonce: protocol.NewNonce(), Issued: protocol.At(now), Expires: protocol.At(now.Add(time.Minute))},
			Passkey:    use.passkey, Counter: use.counter,
		}
		if code, _ := m.use(p, time.Time{}, now); code != use.want {
			t.Errorf("use %d, counter %d: %q, want %q", i, use.counter, code, use.want)
		}
		if use.want != "" && !bytes.Equal(before, doc.b) {
			t.Errorf("use %d was refused and written down", i)
		}
	}
}

// TestPasskeysAreBounded: the one that was used longest ago makes room, and what does not count takes none.
func TestPasskeysAreBounded(t *testing.T) {
	now := time.Now().Truncate(time.Millisecond)
	doc := &document{}
	m, err := loadMemory(doc)
	if err != nil {
		t.Fatal(err)
	}
	use := func(n int, counter uint32) protocol.Code {
		now = now.Add(remembered) // so that nonces make room too
		inv := &protocol.Invitation{Nonce: protocol.NewNonce(), Issued: protocol.At(now), Expires: protocol.At(now.Add(time.Minute))}
		code, _ := m.use(&Proof{Invitation: inv, Passkey: protocol.Hash{byte(n), byte(n >> 8)}, Counter: counter}, time.Time{}, now)
		return code
	}
	for n := range maxPasskeys {
		use(n, 10)
	}
	use(0, 11) // from now on 1 was used longest ago
	for n := range 50 {
		use(10_000+n, 0)
	}
	use(maxPasskeys, 10)
	if n := len(m.doc.Passkeys); n != maxPasskeys {
		t.Errorf("%d are remembered, want %d", n, maxPasskeys)
	}
	if code := use(0, 11); code != protocol.AuthCounter {
		t.Errorf("one that was used of late was forgotten: %q", code)
	}
	if code := use(1, 10); code != "" {
		t.Errorf("the one that was used longest ago: %q", code)
	}
	if len(doc.b) > 64<<10 {
		t.Errorf("the document has %d bytes", len(doc.b))
	}
}

// TestMemoryOfVersion1: what a version before passkeys wrote is read, and nothing of it is lost.
func TestMemoryOfVersion1(t *testing.T) {
	now := time.Now().Truncate(time.Millisecond)
	inv := &protocol.Invitation{Nonce: protocol.Nonce{7}, Issued: protocol.At(now), Expires: protocol.At(now.Add(time.Minute))}
	old, err := cbor.Marshal(map[int]any{1: 1, 2: []map[int]any{{1: inv.Nonce, 2: inv.Expires}}})
	if err != nil {
		t.Fatal(err)
	}
	doc := &document{b: old}
	m, err := loadMemory(doc)
	if err != nil {
		t.Fatal(err)
	}
	if code, _ := m.use(&Proof{Invitation: inv}, time.Time{}, now); code != protocol.AuthReplayed {
		t.Errorf("an invitation that was used before: %q", code)
	}
	next := *inv
	next.Nonce = protocol.Nonce{8}
	if code, err := m.use(&Proof{Invitation: &next, Passkey: protocol.Hash{1}, Counter: 3}, time.Time{}, now); code != "" {
		t.Fatal(err)
	}
	if m, err = loadMemory(doc); err != nil || m.doc.Version != memoryVersion || len(m.doc.Used) != 2 || len(m.doc.Passkeys) != 1 {
		t.Errorf("read back: %+v, %v", m.doc, err)
	}
}

func FuzzMemory(f *testing.F) {
	full, err := cbor.Marshal(memoryDoc{Version: memoryVersion, Passkeys: []passkeyCounter{{protocol.Hash{1}, 7}}, Used: []usedNonce{{protocol.Nonce{1}, 5}}, Running: &runningMarker{
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
