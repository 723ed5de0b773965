package protocol

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/veraison/go-cose"
)

const vectorsFile = "testdata/vectors.json"

// vectors are golden: every implementation of the protocol, in whatever language, has to agree with them. TestVectors makes them, from
// fixed keys and by deterministic signatures (RFC 6979), so that the file can be compared byte for byte.
type vectors struct {
	About      string             `json:"about"`
	Answers    []answerVector     `json:"answers"`
	Ends       []endVector        `json:"ends"`
	Curtains   []curtainVector    `json:"curtains"`
	Acks       []ackVector        `json:"acks"`
	Candidates []candidatesVector `json:"candidates"`
	CBOR       []cborVector       `json:"cbor"`
	Texts      []textVector       `json:"texts"`
}

// textVector is a text that a statement carries, as the software of an answer, and whether it may.
type textVector struct {
	Name   string `json:"name"`
	Text   string `json:"text"`
	OK     bool   `json:"ok"`
	Answer []byte `json:"answer"` // signed, with this text; about the call and to the invitation of the first answer
}

// answerVector is what a caller has in hand when an answer arrives, and what has to come of it.
type answerVector struct {
	Name       string `json:"name"`
	SPKI       []byte `json:"spki"` // of the terminal that the caller meant to call
	Call       string `json:"call"`
	Invitation []byte `json:"invitation"`
	Answer     []byte `json:"answer"`
	SDP        string `json:"sdp"`
	Want       string `json:"want"` // "ok", or the code of the failure
	Decision   string `json:"decision,omitempty"`
	Key        string `json:"key,omitempty"`
}

type endVector struct {
	Name       string `json:"name"`
	SPKI       []byte `json:"spki"`
	Call       string `json:"call"`
	Invitation []byte `json:"invitation"`
	End        []byte `json:"end"`
	Want       string `json:"want"`
	Reason     string `json:"reason,omitempty"`
	Duration   uint64 `json:"duration,omitempty"`
}

// curtainVector is what a caller has in hand when a terminal speaks of its curtain, after number After.
type curtainVector struct {
	Name       string `json:"name"`
	SPKI       []byte `json:"spki"`
	Call       string `json:"call"`
	Invitation []byte `json:"invitation"`
	Curtain    []byte `json:"curtain"`
	After      uint32 `json:"after"`
	Want       string `json:"want"`
	Drawn      bool   `json:"drawn,omitempty"`
	Closed     uint64 `json:"closed,omitempty"`
}

// ackVector is what a terminal has in hand when something is acknowledged.
type ackVector struct {
	Name    string `json:"name"`
	Service []byte `json:"service"` // the key that the terminal's trust names
	SPKI    []byte `json:"spki"`    // of the terminal
	Ack     []byte `json:"ack"`
	Want    string `json:"want"` // "ok", or the code of the failure
	Epoch   string `json:"epoch,omitempty"`
	Seq     uint64 `json:"seq,omitempty"`
}

// candidatesVector is what a terminal has in hand when candidates arrive: the invitation was proven, and names the key.
type candidatesVector struct {
	Name       string `json:"name"`
	Invitation []byte `json:"invitation"`
	Candidates []byte `json:"candidates"`
	Want       string `json:"want"` // "ok", or the code of the failure
	Number     uint64 `json:"number,omitempty"`
	Lines      int    `json:"lines,omitempty"`
}

// cborVector is one item and whether it is in the encoding that doc.go describes.
type cborVector struct {
	Name string `json:"name"`
	Item []byte `json:"item"`
	OK   bool   `json:"ok"`
}

func makeVectors(t *testing.T) *vectors {
	home, other, clinic := fixedKey(t, "home"), fixedKey(t, "other home"), fixedKey(t, "clinic")
	spki, err := x509.MarshalPKIXPublicKey(home.Public())
	if err != nil {
		t.Fatal(err)
	}
	terminal := HashSPKI(spki)
	certificate := Fingerprint(sha256.Sum256([]byte("the terminal's DTLS certificate")))
	stranger := Fingerprint(sha256.Sum256([]byte("a stranger's DTLS certificate")))
	call := CallID(sha256.New().Sum(nil)[:16])
	offer := "v=0\r\na=fingerprint:sha-256 " + Fingerprint(sha256.Sum256([]byte("caller"))).String() + "\r\n"
	invitation := mustSign(t, &Invitation{
		Version: Version, Call: call, Terminal: terminal, Caller: Fingerprint(sha256.Sum256([]byte("caller"))), Offer: HashOf(offer),
		Parties: []Party{{"Anne Berg", "nurse", "Solvik clinic"}}, Issued: 1_760_000_000_000, Expires: 1_760_000_060_000, Nonce: Nonce{1, 2, 3},
		Key: spki, Authorisation: Hash{1},
	}, clinic)
	media := func(audio, video Fingerprint) string {
		return "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1\r\n" +
			"m=audio 9 UDP/TLS/RTP/SAVPF 111\r\nc=IN IP4 0.0.0.0\r\na=mid:0\r\na=setup:active\r\na=fingerprint:sha-256 " + audio.String() + "\r\n" +
			"m=video 9 UDP/TLS/RTP/SAVPF 96\r\nc=IN IP4 0.0.0.0\r\na=mid:1\r\na=setup:active\r\na=fingerprint:sha-256 " + video.String() + "\r\n"
	}
	sdp := media(certificate, certificate)
	ringing := func(sdp string) *Answer {
		return &Answer{
			Version: Version, Call: call, Terminal: terminal, Invitation: HashOf(invitation), Key: certificate, Answer: HashOf(sdp),
			Decision: Ringing, Software: "vindu-agent 1.0.0", At: 1_760_000_001_234,
		}
	}
	changed := func(change func(*Answer)) *Answer {
		a := ringing(sdp)
		change(a)
		return a
	}
	good := mustSign(t, ringing(sdp), home)
	payload := mustEncode(t, ringing(sdp))
	raw := func(payload []byte) []byte { return signRaw(t, typeAnswer, payload, home, nil) }

	v := &vectors{About: "Made by TestVectors of package protocol (go test ./protocol -run TestVectors -update). Bytes are base64."}
	answer := func(name, want string, answer []byte, sdp string) {
		a := answerVector{Name: name, SPKI: spki, Call: call.String(), Invitation: invitation, Answer: answer, SDP: sdp, Want: want}
		if want == "ok" {
			var decoded Answer
			if err := Verify(answer, &home.PublicKey, &decoded); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			a.Decision, a.Key = string(decoded.Decision), decoded.Key.String()
		}
		v.Answers = append(v.Answers, a)
	}
	proof, fingerprint := string(ProofAnswer), string(ProofFingerprint)
	answer("ringing", "ok", good, sdp)
	answer("answered", "ok", mustSign(t, changed(func(a *Answer) { a.Decision = Answered }), home), sdp)
	for _, d := range []Decision{Declined, Busy, Quiet, Shutter, Refused} {
		answer(string(d), "ok", mustSign(t, changed(func(a *Answer) { a.Decision, a.Key, a.Answer = d, Fingerprint{}, Hash{} }), home), "")
	}
	sessionLevel := "v=0\r\na=fingerprint:SHA-256 " + strings.ToLower(certificate.String()) + "\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\n"
	answer("fingerprint at session level, in lower case", "ok", mustSign(t, ringing(sessionLevel), home), sessionLevel)
	answer("signed by another terminal", proof, mustSign(t, ringing(sdp), other), sdp)
	answer("signed by another key under this terminal's name", proof, signRaw(t, typeAnswer, payload, other, func(m *cose.Sign1Message) {
		m.Headers.Protected[cose.HeaderLabelKeyID] = terminal[:]
	}), sdp)
	answer("payload altered", proof, replaceOnce(t, good, []byte("vindu-agent 1.0.0"), []byte("vindu-agent 1.0.1")), sdp)
	answer("signature altered", proof, flipped(good, len(good)-1), sdp)
	answer("kind in the header altered", proof, replaceOnce(t, good, []byte(typeAnswer), []byte("vindu/answar.v1")), sdp)
	answer("an end in place of an answer", proof, mustSign(t, &End{
		Version: Version, Call: call, Terminal: terminal, Invitation: HashOf(invitation), By: SideTerminal, Reason: EndPatientHungUp, At: 1_760_000_002_000,
	}, home), sdp)
	answer("of another terminal, signed by this one", proof, mustSign(t, changed(func(a *Answer) { a.Terminal[0] ^= 1 }), home), sdp)
	answer("of another call", proof, mustSign(t, changed(func(a *Answer) { a.Call[0] ^= 1 }), home), sdp)
	answer("to another invitation", proof, mustSign(t, changed(func(a *Answer) { a.Invitation[0] ^= 1 }), home), sdp)
	answer("of a later version", proof, raw(replaceOnce(t, payload[:3], []byte{0x01, 0x01}, []byte{0x01, 0x02})), sdp)
	answer("payload with a longer integer than needed", proof, raw(append([]byte{0xa9, 0x01, 0x18, 0x01}, payload[3:]...)), sdp)
	answer("payload with a field too many", proof, raw(append(append([]byte{0xaa}, payload[1:]...), 0x0a, 0x01)), sdp)
	answer("payload with bytes after it", proof, raw(append(bytes.Clone(payload), 0x00)), sdp)
	answer("payload is empty", proof, raw([]byte{}), sdp)
	answer("unknown decision", proof, raw(replaceOnce(t, payload, []byte("gringing"), []byte("gronging"))), sdp)
	answer("ringing without keys", proof, raw(replaceOnce(t, payload, certificate[:], make([]byte, 32))), sdp)
	answer("signature in DER", proof, func() []byte {
		var m cose.Sign1Message
		if err := m.UnmarshalCBOR(good); err != nil {
			t.Fatal(err)
		}
		m.Signature = append([]byte{0x30, 0x44, 0x02, 0x20}, m.Signature...)
		b, err := m.MarshalCBOR()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}(), sdp)
	answer("an unprotected header", proof, signRaw(t, typeAnswer, payload, home, func(m *cose.Sign1Message) {
		m.Headers.Unprotected[cose.HeaderLabelContentType] = "a/b"
	}), sdp)
	answer("one protected header more", proof, signRaw(t, typeAnswer, payload, home, func(m *cose.Sign1Message) {
		m.Headers.Protected[int64(99)] = "x"
	}), sdp)
	answer("untagged", proof, good[1:], sdp)
	answer("bytes after the statement", proof, append(bytes.Clone(good), 0x00), sdp)
	answer("cut short", proof, good[:len(good)-1], sdp)
	answer("empty", proof, []byte{}, sdp)
	answer("too large", proof, append(bytes.Clone(good), make([]byte, MaxStatement)...), sdp)
	answer("session description altered", fingerprint, good, strings.Replace(sdp, "m=video 9", "m=video 8", 1))
	answer("session description missing", fingerprint, good, "")
	swapped := media(stranger, stranger)
	answer("fingerprint of a stranger", fingerprint, good, swapped)
	answer("fingerprint of a stranger, hash fitting", fingerprint, mustSign(t, ringing(swapped), home), swapped)
	half := media(certificate, stranger)
	answer("fingerprint of a stranger for the picture only", fingerprint, mustSign(t, ringing(half), home), half)
	none := strings.ReplaceAll(sdp, "a=fingerprint", "a=footprint")
	answer("no fingerprint", fingerprint, mustSign(t, ringing(none), home), none)
	one := strings.Replace(sdp, "a=fingerprint", "a=footprint", 1)
	answer("a section without fingerprint", fingerprint, mustSign(t, ringing(one), home), one)
	weak := strings.Replace(sdp, "a=fingerprint:sha-256 ", "a=fingerprint:sha-1 00:11\r\na=fingerprint:sha-256 ", 1)
	answer("a weak fingerprint beside the good one", fingerprint, mustSign(t, ringing(weak), home), weak)

	text := func(name, text string, ok bool) {
		no := mustEncode(t, changed(func(a *Answer) { a.Decision, a.Key, a.Answer = Declined, Fingerprint{}, Hash{} }))
		old, err := encMode.Marshal("vindu-agent 1.0.0")
		if err != nil {
			t.Fatal(err)
		}
		with, err := encMode.Marshal(text)
		if err != nil {
			t.Fatal(err)
		}
		v.Texts = append(v.Texts, textVector{name, text, ok, raw(replaceOnce(t, no, old, with))})
	}
	text("plain", "vindu-agent 1.0.0", true)
	text("Norwegian", "Åse Bjørnstad-Sørås", true)
	text("Arabic, right to left by itself", "\u0645\u0631\u064a\u0645", true)
	text("Persian, spelt with a joiner", "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", true)
	text("emoji of several parts", "\U0001f468\u200d\u2695\ufe0f", true)
	text("no-break space", "dr.\u00a0Berg", true)
	text("dashes and quotes", "“Anne” – Berg …", true)
	text("the longest", strings.Repeat("x", MaxText), true)
	text("too long", strings.Repeat("x", MaxText+1), false)
	text("empty", "", false)
	for _, r := range []rune{
		0x00, 0x09, 0x0a, 0x1b, 0x1f, 0x7f, 0x80, 0x85, 0x9b, 0x9f, 0xad, 0x61c, 0x180e, 0x200b, 0x200e, 0x200f, 0x2028, 0x2029, 0x202a, 0x202b,
		0x202c, 0x202d, 0x202e, 0x2060, 0x2064, 0x2066, 0x2067, 0x2068, 0x2069, 0x206a, 0x206f, 0xfeff, 0xfff9, 0xfffb, 0xe0001, 0xe0020, 0xe007f,
	} {
		text(fmt.Sprintf("%U in it", r), "Anne"+string(r)+"Berg", false)
	}
	for _, r := range []rune{0x20, 0x7e, 0xa0, 0xac, 0xae, 0x61b, 0x61d, 0x200c, 0x200d, 0x2010, 0x2027, 0x202f, 0x205f, 0x2070, 0xfefe, 0xfffc, 0xe0080} {
		text(fmt.Sprintf("%U in it, which is next to what may not be", r), "Anne"+string(r)+"Berg", true)
	}

	finished := func(change func(*End)) *End {
		e := &End{
			Version: Version, Call: call, Terminal: terminal, Invitation: HashOf(invitation), By: SideTerminal, Reason: EndPatientHungUp,
			Duration: 61_500, CameraClosed: 1_760_000_062_000, MicrophoneClosed: 1_760_000_062_001, At: 1_760_000_062_010,
		}
		if change != nil {
			change(e)
		}
		return e
	}
	end := func(name, want string, end []byte) {
		e := endVector{Name: name, SPKI: spki, Call: call.String(), Invitation: invitation, End: end, Want: want}
		if want == "ok" {
			var decoded End
			if err := Verify(end, &home.PublicKey, &decoded); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			e.Reason, e.Duration = string(decoded.Reason), decoded.Duration
		}
		v.Ends = append(v.Ends, e)
	}
	end("ended at the terminal", "ok", mustSign(t, finished(nil), home))
	end("never answered", "ok", mustSign(t, finished(func(e *End) { e.Reason, e.Duration, e.CameraClosed, e.MicrophoneClosed = AnswerTimeout, 0, 0, 0 }), home))
	end("a reason of a later version", "ok", mustSign(t, finished(func(e *End) { e.Reason = "weather.storm" }), home))
	end("signed by another terminal", proof, mustSign(t, finished(nil), other))
	end("of another call", proof, mustSign(t, finished(func(e *End) { e.Call[0] ^= 1 }), home))
	end("by the caller, signed by the terminal", proof, mustSign(t, finished(func(e *End) { e.By, e.CameraClosed, e.MicrophoneClosed = SideCaller, 0, 0 }), home))
	end("an answer in place of an end", proof, good)

	covered := func(change func(*Curtain)) *Curtain {
		c := &Curtain{
			Version: Version, Call: call, Terminal: terminal, Invitation: HashOf(invitation), By: SideTerminal, Drawn: true, Number: 7,
			CameraClosed: 1_760_000_062_000, MicrophoneClosed: 1_760_000_062_000, At: 1_760_000_062_010,
		}
		if change != nil {
			change(c)
		}
		return c
	}
	curtain := func(name, want string, signed []byte) {
		c := curtainVector{Name: name, SPKI: spki, Call: call.String(), Invitation: invitation, Curtain: signed, After: 6, Want: want}
		var decoded Curtain
		if err := Verify(signed, &home.PublicKey, &decoded); want == "ok" {
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			c.Drawn, c.Closed = decoded.Drawn, uint64(decoded.CameraClosed)
		} else if err == nil && decoded.Call == call && decoded.Terminal == terminal && decoded.Invitation == HashOf(invitation) && decoded.By == SideTerminal && decoded.Number > c.After {
			t.Errorf("%s: it proves a curtain", name)
		}
		v.Curtains = append(v.Curtains, c)
	}
	drawn := mustEncode(t, covered(nil))
	malformed := func(old, with []byte) []byte {
		return signRaw(t, typeCurtain, replaceOnce(t, drawn, old, with), home, nil)
	}
	curtain("drawn, and all is closed", "ok", mustSign(t, covered(nil), home))
	curtain("drawn", "ok", mustSign(t, covered(func(c *Curtain) { c.CameraClosed, c.MicrophoneClosed = 0, 0 }), home))
	curtain("closed for the caller's", "ok", mustSign(t, covered(func(c *Curtain) { c.Drawn = false }), home))
	curtain("open", "ok", mustSign(t, covered(func(c *Curtain) { c.Drawn, c.CameraClosed, c.MicrophoneClosed = false, 0, 0 }), home))
	curtain("a large number", "ok", mustSign(t, covered(func(c *Curtain) { c.Number = 1<<32 - 1 }), home))
	curtain("the same number again", proof, mustSign(t, covered(func(c *Curtain) { c.Number = 6 }), home))
	curtain("an older number", proof, mustSign(t, covered(func(c *Curtain) { c.Number = 1 }), home))
	curtain("signed by another terminal", proof, mustSign(t, covered(nil), other))
	curtain("signed by the clinic", proof, mustSign(t, covered(nil), clinic))
	curtain("of another call", proof, mustSign(t, covered(func(c *Curtain) { c.Call[0] ^= 1 }), home))
	curtain("of another invitation", proof, mustSign(t, covered(func(c *Curtain) { c.Invitation[0] ^= 1 }), home))
	curtain("of another terminal", proof, mustSign(t, covered(func(c *Curtain) { c.Terminal[0] ^= 1 }), home))
	curtain("of the caller, signed by the terminal", proof, mustSign(t, covered(func(c *Curtain) { c.By, c.CameraClosed, c.MicrophoneClosed = SideCaller, 0, 0 }), home))
	curtain("an end in place of it", proof, mustSign(t, finished(nil), home))
	curtain("neither drawn nor open", proof, malformed([]byte{0x06, 0xf5, 0x07}, []byte{0x06, 0x01, 0x07}))
	curtain("undefined", proof, malformed([]byte{0x06, 0xf5, 0x07}, []byte{0x06, 0xf7, 0x07}))
	curtain("of the clinic", proof, malformed([]byte("hterminal"), []byte("fclinic")))
	curtain("the camera closed alone", proof, malformed(append([]byte{0x09}, mustTime(t, 1_760_000_062_000)...), []byte{0x09, 0x00}))
	curtain("closed in time to come", proof, malformed(append([]byte{0x0a}, mustTime(t, 1_760_000_062_010)...), append([]byte{0x0a}, mustTime(t, 1_760_000_061_000)...)))
	curtain("without a signature", proof, drawn)

	service, err := x509.MarshalPKIXPublicKey(clinic.Public())
	if err != nil {
		t.Fatal(err)
	}
	committed := &Ack{Version: Version, Terminal: terminal, Epoch: fill[Nonce](0xe0), Seq: 42}
	acknowledged := func(name, want string, ack []byte) {
		a := ackVector{Name: name, Service: service, SPKI: spki, Ack: ack, Want: want}
		if want == "ok" {
			a.Epoch, a.Seq = hex.EncodeToString(committed.Epoch[:]), committed.Seq
		}
		v.Acks = append(v.Acks, a)
	}
	forged, elsewhere := string(AuthAck), *committed
	elsewhere.Terminal[0] ^= 1
	acknowledged("by the clinic's server", "ok", mustSign(t, committed, clinic))
	acknowledged("by a key that the trust does not name", forged, mustSign(t, committed, home))
	server := HashSPKI(service)
	acknowledged("by another key under the server's name", forged, signRaw(t, typeAck, mustEncode(t, committed), home, func(m *cose.Sign1Message) {
		m.Headers.Protected[cose.HeaderLabelKeyID] = server[:]
	}))
	acknowledged("for another terminal", forged, mustSign(t, &elsewhere, clinic))
	acknowledged("a larger number", forged, replaceOnce(t, mustSign(t, committed, clinic), []byte{0x04, 0x18, 42}, []byte{0x04, 0x18, 43}))
	acknowledged("no number", forged, signRaw(t, typeAck, replaceOnce(t, mustEncode(t, committed), []byte{0x04, 0x18, 42}, []byte{0x04, 0x00}), clinic, nil))
	acknowledged("without a signature", forged, mustEncode(t, committed))
	acknowledged("a time in place of it", forged, mustSign(t, &Clock{Version: Version, Nonce: committed.Epoch, At: 42}, clinic))

	calling, calledBy, paths := candidatesOf(t)
	written := mustEncode(t, calling)
	path := func(name, want string, signed []byte) {
		c := candidatesVector{Name: name, Invitation: written, Candidates: signed, Want: want}
		if want == "ok" {
			c.Number, c.Lines = paths.Number, len(paths.List)
		}
		v.Candidates = append(v.Candidates, c)
	}
	at := func(change func(*Candidates)) []byte {
		c := *paths
		change(&c)
		return mustSign(t, &c, fixedSigner{testKey(1)})
	}
	unproven := string(AuthUnproven)
	path("the caller's", "ok", at(func(*Candidates) {}))
	path("by another key", unproven, mustSign(t, paths, home))
	path("of another call", unproven, at(func(c *Candidates) { c.Call[0] ^= 1 }))
	path("for another terminal", unproven, at(func(c *Candidates) { c.Terminal[0] ^= 1 }))
	path("with another invitation", unproven, at(func(c *Candidates) { c.Invitation[0] ^= 1 }))
	path("another address", unproven, replaceOnce(t, at(func(*Candidates) {}), []byte("192.0.2.1"), []byte("192.0.2.9")))
	path("without a signature", unproven, mustEncode(t, paths))
	path("an end in place of them", unproven, mustSign(t, finished(func(e *End) { e.Call, e.Terminal, e.Invitation = calling.Call, calling.Terminal, calledBy }), fixedSigner{testKey(1)}))

	item := func(name string, ok bool, b ...byte) { v.CBOR = append(v.CBOR, cborVector{name, b, ok}) }
	item("zero", true, 0x00)
	item("23", true, 0x17)
	item("24", true, 0x18, 0x18)
	item("23 in two bytes", false, 0x18, 0x17)
	item("255 in three bytes", false, 0x19, 0x00, 0xff)
	item("65535 in five bytes", false, 0x1a, 0x00, 0x00, 0xff, 0xff)
	item("4294967295 in nine bytes", false, 0x1b, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff)
	item("4294967296", true, 0x1b, 0, 0, 0, 1, 0, 0, 0, 0)
	item("minus seven", true, 0x26)
	item("bytes", true, 0x42, 1, 2)
	item("bytes cut short", false, 0x42, 1)
	item("bytes of a length in two bytes without need", false, 0x58, 0x01, 0x01)
	item("bytes of a length beyond all reason", false, 0x5b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff)
	item("text", true, 0x62, 0xc3, 0xb8)
	item("text that is not UTF-8", false, 0x62, 0xc3, 0x28)
	item("array", true, 0x82, 1, 2)
	item("array cut short", false, 0x82, 1)
	item("array of indefinite length", false, 0x9f, 1, 0xff)
	item("bytes of indefinite length", false, 0x5f, 0x41, 1, 0xff)
	item("map", true, 0xa2, 1, 2, 3, 4)
	item("map out of order", false, 0xa2, 3, 4, 1, 2)
	item("map with a key twice", false, 0xa2, 1, 2, 1, 3)
	item("map of indefinite length", false, 0xbf, 1, 2, 0xff)
	item("true", true, 0xf5)
	item("false", true, 0xf4)
	item("true in two bytes", false, 0xf8, 0x15)
	item("tag", false, 0xc0, 0x61, 0x61)
	item("float", false, 0xf9, 0x00, 0x00)
	item("reserved length", false, 0x1c)
	item("break alone", false, 0xff)
	item("two items", false, 0x01, 0x01)
	item("nothing", false)
	item("nine deep", false, 0x81, 0x81, 0x81, 0x81, 0x81, 0x81, 0x81, 0x81, 0x81, 0x01)
	return v
}

// judge is what a caller does with an answer; clinic/web does it in the browser.
func judge(a answerVector) (*Answer, Code) {
	key, err := x509.ParsePKIXPublicKey(a.SPKI)
	if err != nil {
		return nil, Unknown
	}
	var got Answer
	if Verify(a.Answer, key.(*ecdsa.PublicKey), &got) != nil {
		return nil, ProofAnswer
	}
	if got.Call.String() != a.Call || got.Terminal != HashSPKI(a.SPKI) || got.Invitation != HashOf(a.Invitation) {
		return nil, ProofAnswer
	}
	if got.Decision != Ringing && got.Decision != Answered {
		return &got, ""
	}
	if got.Answer != HashOf(a.SDP) || !onlyFingerprint(a.SDP, got.Key) {
		return nil, ProofFingerprint
	}
	return &got, ""
}

// onlyFingerprint says whether every section of sdp is bound to f and to nothing else (RFC 8122 §5: a session-level
// attribute holds for every section that has none).
func onlyFingerprint(sdp string, f Fingerprint) bool {
	session, open, any := false, false, false
	for line := range strings.SplitSeq(sdp, "\r\n") {
		if strings.HasPrefix(line, "m=") {
			if any && !open {
				return false
			}
			any, open = true, session
			continue
		}
		value, ok := strings.CutPrefix(line, "a=fingerprint:")
		if !ok {
			continue
		}
		hash, digest, _ := strings.Cut(value, " ")
		if !strings.EqualFold(hash, "sha-256") || !strings.EqualFold(digest, f.String()) {
			return false
		}
		session, open = session || !any, true
	}
	return any && open
}

func TestVectors(t *testing.T) {
	v := makeVectors(t)
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", " ")
	if err := e.Encode(v); err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(vectorsFile, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	golden, err := os.ReadFile(vectorsFile)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(golden, b.Bytes()) {
		t.Errorf("%s is not what the code makes: the wire format has changed. If that is meant, it is a new Version", vectorsFile)
	}
	for _, a := range v.Answers {
		t.Run("answer/"+a.Name, func(t *testing.T) {
			got, code := judge(a)
			if want := Code(a.Want); code != want && !(a.Want == "ok" && code == "") {
				t.Fatalf("judged %q, want %q", code, want)
			}
			if a.Want == "ok" && (string(got.Decision) != a.Decision || got.Key.String() != a.Key) {
				t.Errorf("decision %q, key %s", got.Decision, got.Key)
			}
		})
	}
	for _, e := range v.Ends {
		t.Run("end/"+e.Name, func(t *testing.T) {
			key, err := x509.ParsePKIXPublicKey(e.SPKI)
			if err != nil {
				t.Fatal(err)
			}
			var got End
			err = Verify(e.End, key.(*ecdsa.PublicKey), &got)
			ok := err == nil && got.Call.String() == e.Call && got.Terminal == HashSPKI(e.SPKI) && got.Invitation == HashOf(e.Invitation) && got.By == SideTerminal
			if ok != (e.Want == "ok") {
				t.Fatalf("accepted: %v (%v), want %q", ok, err, e.Want)
			}
			if ok && (string(got.Reason) != e.Reason || got.Duration != e.Duration) {
				t.Errorf("reason %q, duration %d", got.Reason, got.Duration)
			}
		})
	}
	for _, a := range v.Acks {
		t.Run("ack/"+a.Name, func(t *testing.T) {
			got, err := VerifyAck(a.Ack, [][]byte{a.Service}, HashSPKI(a.SPKI))
			if a.Want != "ok" {
				if err == nil || string(CodeOf(err)) != a.Want {
					t.Errorf("%+v, %v", got, err)
				}
				return
			}
			if err != nil || hex.EncodeToString(got.Epoch[:]) != a.Epoch || got.Seq != a.Seq {
				t.Errorf("%+v, %v", got, err)
			}
		})
	}
	for _, c := range v.Candidates {
		t.Run("candidates/"+c.Name, func(t *testing.T) {
			inv := new(Invitation)
			if err := Decode(c.Invitation, inv); err != nil {
				t.Fatal(err)
			}
			got, err := VerifyCandidates(c.Candidates, inv, HashOf(c.Invitation))
			if c.Want != "ok" {
				if err == nil || string(CodeOf(err)) != c.Want {
					t.Errorf("%+v, %v", got, err)
				}
				return
			}
			if err != nil || got.Number != c.Number || len(got.List) != c.Lines {
				t.Errorf("%+v, %v", got, err)
			}
		})
	}
	for _, c := range v.CBOR {
		t.Run("cbor/"+c.Name, func(t *testing.T) {
			var x any
			err := decMode.Unmarshal(c.Item, &x)
			if err == nil {
				var again []byte
				if again, err = encMode.Marshal(x); err == nil && !bytes.Equal(again, c.Item) {
					err = errors.New("another encoding")
				}
			}
			if _, float := x.(float64); float && err == nil {
				err = errors.New("no message holds a float")
			}
			if (err == nil) != c.OK {
				t.Errorf("%x: %v, want it accepted: %v", c.Item, err, c.OK)
			}
		})
	}
	for _, x := range v.Texts {
		t.Run("text/"+x.Name, func(t *testing.T) {
			key, err := x509.ParsePKIXPublicKey(v.Answers[0].SPKI)
			if err != nil {
				t.Fatal(err)
			}
			var got Answer
			err = Verify(x.Answer, key.(*ecdsa.PublicKey), &got)
			if (err == nil) != x.OK || (err != nil && !errors.Is(err, ErrMalformed)) {
				t.Errorf("%q: %v, want it accepted: %v", x.Text, err, x.OK)
			}
			if x.OK && got.Software != x.Text {
				t.Errorf("read as %q", got.Software)
			}
		})
	}
}
