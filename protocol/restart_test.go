package protocol

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"testing"
)

func TestVerifyRestart(t *testing.T) {
	key := func() *ecdsa.PrivateKey {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	caller, clinic := key(), key()
	const offer = SDP("v=0 again")
	right := Restart{
		Version: Version, Call: CallID{1}, Terminal: KeyHash{2}, Invitation: Hash{3}, By: SideCaller, N: 2, SDP: HashOf(offer), At: 1_800_000_000_000,
	}
	for _, tt := range []struct {
		name   string
		change func(*Restart)
		key    *ecdsa.PrivateKey
		last   uint64
		want   error
	}{
		{"the right one", func(*Restart) {}, caller, 1, nil},
		{"the first", func(r *Restart) { r.N = 1 }, caller, 0, nil},
		{"signed by the clinic", func(*Restart) {}, clinic, 1, ErrSignature},
		{"said before", func(*Restart) {}, caller, 2, ErrRestart},
		{"an older one", func(*Restart) {}, caller, 7, ErrRestart},
		{"of another call", func(r *Restart) { r.Call = CallID{9} }, caller, 1, ErrRestart},
		{"of another terminal", func(r *Restart) { r.Terminal = KeyHash{9} }, caller, 1, ErrRestart},
		{"of another invitation", func(r *Restart) { r.Invitation = Hash{9} }, caller, 1, ErrRestart},
		{"with another offer", func(r *Restart) { r.SDP = HashOf("v=0 other") }, caller, 1, ErrRestart},
		{"the other side's", func(r *Restart) { r.By = SideTerminal }, caller, 1, ErrRestart},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := right
			tt.change(&r)
			signed, err := Sign(&r, tt.key)
			if err != nil {
				t.Fatal(err)
			}
			got, err := VerifyRestart(signed, &caller.PublicKey, SideCaller, right.Call, right.Terminal, right.Invitation, offer, tt.last)
			if !errors.Is(err, tt.want) || (err == nil) != (tt.want == nil) {
				t.Fatalf("got %v, want %v", err, tt.want)
			}
			if err == nil && got.N != r.N {
				t.Errorf("number %d", got.N)
			}
		})
	}
	for name, change := range map[string]func(*Restart){
		"no number": func(r *Restart) { r.N = 0 }, "too many": func(r *Restart) { r.N = MaxRestarts + 1 }, "by the clinic": func(r *Restart) { r.By = SideClinic },
		"no description": func(r *Restart) { r.SDP = Hash{} }, "no time": func(r *Restart) { r.At = 0 },
	} {
		r := right
		change(&r)
		if _, err := Sign(&r, caller); err == nil {
			t.Errorf("%s: it is signed", name)
		}
	}
	// A statement of another kind is none.
	end, err := Sign(&End{Version: Version, Call: right.Call, Terminal: right.Terminal, Invitation: right.Invitation, By: SideCaller, Reason: EndCallerHungUp, At: 1}, caller)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := VerifyRestart(end, &caller.PublicKey, SideCaller, right.Call, right.Terminal, right.Invitation, offer, 0); !errors.Is(err, ErrKind) {
		t.Errorf("an end in place of a restart: %v", err)
	}
}
