package session

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"log/slog"
	"testing"
	"time"

	"vindu/protocol"
	"vindu/provisioning/frame"
)

func signer(t *testing.T) (*ecdsa.PrivateKey, []byte) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(k.Public())
	if err != nil {
		t.Fatal(err)
	}
	return k, der
}

// TestCheckProof: a proof is good for its session, terminal and side, and nothing else.
func TestCheckProof(t *testing.T) {
	key, _ := signer(t)
	other, _ := signer(t)
	hash, terminal := protocol.Hash{1}, protocol.KeyHash{2}
	for _, c := range []struct {
		name string
		by   *ecdsa.PrivateKey
		s    protocol.Session
		ok   bool
	}{
		{"sound", key, protocol.Session{Transcript: hash, Terminal: terminal, By: protocol.SideTechnician}, true},
		{"of another session", key, protocol.Session{Transcript: protocol.Hash{9}, Terminal: terminal, By: protocol.SideTechnician}, false},
		{"for another terminal", key, protocol.Session{Transcript: hash, Terminal: protocol.KeyHash{9}, By: protocol.SideTechnician}, false},
		{"of the other side", key, protocol.Session{Transcript: hash, Terminal: terminal, By: protocol.SideTerminal}, false},
		{"by another key", other, protocol.Session{Transcript: hash, Terminal: terminal, By: protocol.SideTechnician}, false},
	} {
		c.s.Version, c.s.At = protocol.Version, protocol.At(time.Now())
		signed, err := protocol.Sign(&c.s, c.by)
		if err != nil {
			t.Fatal(err)
		}
		if err := checkProof(signed, &key.PublicKey, hash, terminal, protocol.SideTechnician); (err == nil) != c.ok || (err != nil && !errors.Is(err, ErrUnproven)) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// TestNothingBeforeOpen: who has agreed on keys but proven none is not served, also after an attempt that failed.
func TestNothingBeforeOpen(t *testing.T) {
	_, terminal := signer(t)
	_, laptop := signer(t)
	d := &desk{
		Server: NewServer(mute{greeting: Greeting{Public: terminal, State: Factory}}, slog.New(slog.DiscardHandler)),
		line:   newLine(nil), done: make(chan outcome, 1), presses: make(chan press),
	}
	sent := func() frame.Frame {
		t.Helper()
		select {
		case b := <-d.line.out:
			f, ok := parse(b)
			if !ok {
				t.Fatalf("sent %x", b)
			}
			return f
		default:
			return frame.Frame{}
		}
	}
	ephemeral := mustKey(t)
	mine, err := encode(hello{Version, ephemeral.PublicKey().Bytes(), laptop})
	if err != nil {
		t.Fatal(err)
	}
	d.frame(t.Context(), frame.Frame{Kind: kindHello, Payload: mine})
	answer := sent()
	var theirs hello
	if err := decode(answer.Payload, &theirs); err != nil {
		t.Fatal(err)
	}
	s, err := newSealer(ephemeral, theirs.Ephemeral, mine, answer.Payload, true)
	if err != nil {
		t.Fatal(err)
	}
	ask := func(r request) {
		t.Helper()
		b, err := encode(r)
		if err != nil {
			t.Fatal(err)
		}
		if d.frame(context.Background(), frame.Frame{Kind: kindSealed, Payload: s.seal(b)}) {
			t.Errorf("%s is in a session", r.Op)
		}
	}
	wrong, err := encode(openRequest{Proof: []byte("no proof")})
	if err != nil {
		t.Fatal(err)
	}
	for round := range 2 {
		for _, r := range []request{{Number: 1, Op: opInfo}, {Number: 0, Op: opInfo}, {Number: 1, Op: opOpen, Body: wrong}, {Number: 7, Op: opCSR}} {
			ask(r)
			if f := sent(); d.busy || (f.Kind != 0 && round == 0) {
				t.Errorf("round %d: %s with number %d was answered by kind %d", round, r.Op, r.Number, f.Kind)
			}
		}
		if round > 0 {
			break
		}
		ask(request{Op: opOpen, Body: wrong})
		d.busy = false
		d.finish(<-d.done)
		if sent().Kind != kindSealed || d.current != nil || d.coming.open {
			t.Error("a wrong proof opened a session")
		}
	}
	d.group.Wait()
}

// parse takes one frame off the line.
func parse(line []byte) (frame.Frame, bool) {
	f, err := frame.NewReader(&once{line}).Next()
	return f, err == nil
}

type once struct{ b []byte }

func (o *once) Read(p []byte) (int, error) {
	if len(o.b) == 0 {
		return 0, errors.New("end")
	}
	n := copy(p, o.b)
	o.b = o.b[n:]
	return n, nil
}
