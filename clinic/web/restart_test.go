package web

import (
	"crypto/ecdsa"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"vindu/clinic/web/webtest"
	"vindu/protocol"
)

// TestRestartStatements: what the page signs as its offer for another path is what a terminal verifies, and as the terminal's answer the page takes nothing but what
// the terminal has signed, for this call, with the certificate that it has shown.
func TestRestartStatements(t *testing.T) {
	b := modules(t)
	key, other := webtest.NewKey(), webtest.NewKey()
	spki, terminal := webtest.Public(key)
	call := protocol.NewCallID()
	shown := protocol.Fingerprint{0xce, 0x27}
	const section = "v=0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=fingerprint:sha-256 "
	sdp := section + shown.String() + "\r\n"
	b64 := base64.StdEncoding.EncodeToString
	made := eval[struct{ Invitation, Restart string }](b, fmt.Sprintf(`(async () => {
		const {bytes, invitation} = vindu;
		const by = {signed: new Uint8Array(3), party: {name: "Anne", role: "nurse", organisation: "x"}, passkeys: [], rp: "localhost", id: "a", to: 1800000000000, clock: 0, lag: 1000};
		const wish = {call: %q, terminal: bytes.fromBase64(%q), offer: %q, errand: "", relayOnly: false, urgent: false};
		const i = await invitation.write(wish, by, 1790000000000);
		return {invitation: bytes.toBase64(i.bytes), restart: bytes.toBase64(await invitation.restart(i, wish, 7, "v=0 again", by, 1790000100000))};
	})()`, call, b64(terminal[:]), sdp))
	raw := decode64(t, made.Invitation)
	inv := new(protocol.Invitation)
	if err := protocol.Decode(raw, inv); err != nil {
		t.Fatal(err)
	}
	caller, err := protocol.ParseKey(inv.Key)
	if err != nil {
		t.Fatal(err)
	}
	got, err := protocol.VerifyRestart(decode64(t, made.Restart), caller, protocol.SideCaller, call, terminal, protocol.HashOf(raw), "v=0 again", 6)
	if err != nil || got.N != 7 || got.At != 1_790_000_101_000 {
		t.Errorf("the page's offer: %+v, %v", got, err)
	}
	right := protocol.Restart{
		Version: 1, Call: call, Terminal: terminal, Invitation: protocol.HashOf(raw), By: protocol.SideTerminal, N: 7, SDP: protocol.HashOf(sdp), At: 1_790_000_102_000,
	}
	with := func(change func(*protocol.Restart)) *protocol.Restart { r := right; change(&r); return &r }
	foreign := section + (protocol.Fingerprint{1}).String() + "\r\n"
	for _, c := range []struct {
		name string
		r    *protocol.Restart
		key  *ecdsa.PrivateKey
		sdp  string
		want string
	}{
		{"the right one", &right, key, sdp, "7"},
		{"by another key", &right, other, sdp, "proof.answer"},
		{"of another call", with(func(r *protocol.Restart) { r.Call[0] ^= 1 }), key, sdp, "proof.answer"},
		{"of another terminal", with(func(r *protocol.Restart) { r.Terminal[0] ^= 1 }), key, sdp, "proof.answer"},
		{"of another invitation", with(func(r *protocol.Restart) { r.Invitation[0] ^= 1 }), key, sdp, "proof.answer"},
		{"of the caller's side", with(func(r *protocol.Restart) { r.By = protocol.SideCaller }), key, sdp, "proof.answer"},
		{"with another description", &right, key, sdp + "a=x\r\n", "proof.fingerprint"},
		{"with another certificate", with(func(r *protocol.Restart) { r.SDP = protocol.HashOf(foreign) }), key, foreign, "proof.fingerprint"},
		{"with a second certificate", with(func(r *protocol.Restart) { r.SDP = protocol.HashOf(sdp + foreign[3:]) }), key, sdp + strings.TrimPrefix(foreign, "v=0"), "proof.fingerprint"},
	} {
		signed, err := protocol.Sign(c.r, c.key)
		if err != nil {
			t.Fatal(err)
		}
		if got := eval[string](b, fmt.Sprintf(`(async () => {
			const {bytes, cose, proof} = vindu;
			const expected = {key: await cose.importKey(%q), call: %q, invitation: bytes.fromBase64(%q)};
			try { return String((await proof.proveRestart(bytes.fromBase64(%q), %q, expected, bytes.fromBase64(%q))).number) } catch (e) { return e.code ?? String(e) }
		})()`, b64(spki), call, made.Invitation, b64(signed), c.sdp, b64(shown[:]))); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
	// An answer, or an end, in its place is none.
	end, err := protocol.Sign(&protocol.End{Version: 1, Call: call, Terminal: terminal, Invitation: protocol.HashOf(raw), By: protocol.SideTerminal, Reason: protocol.EndPatientHungUp, At: 1}, key)
	if err != nil {
		t.Fatal(err)
	}
	if got := eval[string](b, fmt.Sprintf(`(async () => {
		const {bytes, cose, proof} = vindu;
		const expected = {key: await cose.importKey(%q), call: %q, invitation: bytes.fromBase64(%q)};
		try { return String((await proof.proveRestart(bytes.fromBase64(%q), %q, expected, bytes.fromBase64(%q))).number) } catch (e) { return e.code ?? String(e) }
	})()`, b64(spki), call, made.Invitation, b64(end), sdp, b64(shown[:]))); got != "proof.answer" {
		t.Errorf("an end in its place: %s", got)
	}
}
