package web

import (
	"crypto/ecdsa"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/veraison/go-cose"

	"vindu/clinic/web/webtest"
	"vindu/protocol"
)

// TestAgreement changes payloads at random, signs them properly, and asks the browser and Go what they think: a
// difference would be a statement that one end takes for something else than the other.
func TestAgreement(t *testing.T) {
	key := webtest.NewKey()
	spki, terminal := webtest.Public(key)
	call := protocol.NewCallID()
	invitation := []byte("an invitation")
	good, err := protocol.Encode(&protocol.Answer{
		Version: 1, Call: call, Terminal: terminal, Invitation: protocol.HashOf(invitation), Decision: protocol.Declined, Software: "vindu-agent 1.0.0 — æøå", At: 1_760_000_000_000,
	})
	if err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(1, 2))
	type item struct {
		Answer string `json:"answer"`
		want   string
	}
	items := make([]item, 0, 600)
	accepted := 0
	for range cap(items) {
		signed := signPayload(t, key, mutate(random, good))
		var a protocol.Answer
		want := "ok"
		if err := protocol.Verify(signed, &key.PublicKey, &a); err != nil || a.Call != call || a.Terminal != terminal || a.Invitation != protocol.HashOf(invitation) {
			want = "proof.answer"
		} else if a.Decision == protocol.Ringing || a.Decision == protocol.Answered {
			want = "proof.fingerprint" // there is no session description here
		} else if a.At > 1<<53-1 {
			want = "proof.answer" // in 285,000 years; the browser has no such integers and refuses them
		} else {
			accepted++
			want = fmt.Sprintf("ok %s %d", a.Decision, a.At)
		}
		items = append(items, item{base64.StdEncoding.EncodeToString(signed), want})
	}
	if accepted == 0 || accepted == len(items) {
		t.Fatalf("%d of %d accepted: the changes show nothing", accepted, len(items))
	}
	list, err := json.Marshal(items)
	if err != nil {
		t.Fatal(err)
	}
	b := modules(t)
	got := eval[[]string](b, fmt.Sprintf(`(async () => {
		const {proof, cose, bytes} = vindu;
		const expected = {key: await cose.importKey(%q), call: %q, invitation: new TextEncoder().encode("an invitation")};
		return Promise.all(%s.map(async (x) => {
			try { const a = await proof.proveAnswer(bytes.fromBase64(x.answer), "", expected); return "ok " + a.decision + " " + a.at } catch (e) { return e.code }
		}));
	})()`, base64.StdEncoding.EncodeToString(spki), call, list))
	for i, want := range items {
		if got[i] != want.want {
			t.Errorf("item %d: the browser says %s, Go says %s: %s", i, got[i], want.want, want.Answer)
		}
	}
}

// mutate changes b a little: often not at all, sometimes only in the text or the time, where it may stay valid.
func mutate(random *rand.Rand, b []byte) []byte {
	b = slices.Clone(b)
	text := strings.Index(string(b), "vindu-agent")
	switch random.IntN(6) {
	case 0:
		b[text+random.IntN(24)] = byte(random.IntN(256))
	case 1:
		b[len(b)-1-random.IntN(9)] = byte(random.IntN(256))
	case 2:
		b[random.IntN(len(b))] ^= 1 << random.IntN(8)
	case 3:
		i := random.IntN(len(b))
		b = slices.Delete(b, i, min(len(b), i+1+random.IntN(3)))
	case 4:
		b = slices.Insert(b, random.IntN(len(b)), byte(random.IntN(256)))
	case 5:
		i := random.IntN(len(b) - 4)
		copy(b[i:], []byte{0x18, 0x19, 0x1a, 0x1b, 0x38, 0x58, 0x78, 0x9f, 0xa0, 0xf6}[random.IntN(9):][:1])
	}
	return b
}

// signPayload signs anything as if it were an answer, as only whoever holds the terminal's key can.
func signPayload(t *testing.T, key *ecdsa.PrivateKey, payload []byte) []byte {
	t.Helper()
	_, kid := webtest.Public(key)
	signer, err := cose.NewSigner(cose.AlgorithmES256, key)
	if err != nil {
		t.Fatal(err)
	}
	m := cose.Sign1Message{Headers: cose.Headers{Protected: cose.ProtectedHeader{
		cose.HeaderLabelAlgorithm: cose.AlgorithmES256, cose.HeaderLabelContentType: "vindu/answer.v1", cose.HeaderLabelKeyID: kid[:],
	}, Unprotected: cose.UnprotectedHeader{}}, Payload: payload}
	if err := m.Sign(nil, nil, signer); err != nil {
		t.Fatal(err)
	}
	b, err := m.MarshalCBOR()
	if err != nil {
		t.Fatal(err)
	}
	return b
}
