package web

import (
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/webauthn"
	"github.com/chromedp/chromedp"

	"vindu/clinic/web/webtest"
	"vindu/protocol"
)

// callerEnds checks that a hang-up carries the caller's end, signed by the key of this very call.
func (f *terminal) callerEnds(h webtest.HangUp) {
	f.t.Helper()
	key, err := protocol.ParseKey(f.call.Proven.Key)
	if err != nil {
		f.t.Fatal(err)
	}
	end := new(protocol.End)
	if err := protocol.Verify(h.Signed, key, end); err != nil {
		f.t.Fatal(err)
	}
	if end.Call != f.call.ID || end.Terminal != f.call.Terminal || end.Invitation != protocol.HashOf(f.call.Invitation) || end.By != protocol.SideCaller || end.Reason != h.Reason ||
		end.Duration == 0 || end.Duration > 60_000 {
		f.t.Errorf("%+v", end)
	}
}

// TestInvitation has the page's own code write invitations and ends, and Go read them: what a terminal will see.
func TestInvitation(t *testing.T) {
	b := modules(t)
	signed := []byte("a signed authorisation")
	terminal := protocol.KeyHash{1, 2, 3}
	call := protocol.NewCallID()
	offer := "v=0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=fingerprint:sha-256 " + (protocol.Fingerprint{0xab, 7}).String() + "\r\n"
	for _, c := range []struct {
		name, person, errand string
		relayOnly, urgent    bool
		lag                  time.Duration
	}{
		{"plain", "Anne Berg", "", false, false, 0},
		{"urgent, by the relay, by a clock that is behind", "Åse Bjørnås-Ødegård", "Medisin", true, true, 3 * time.Minute},
		{"by a clock that is ahead", "Ánne", "x", false, true, -3 * time.Minute},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := eval[struct{ Invitation, End, Certificate, Code, Candidates string }](b, fmt.Sprintf(`(async () => {
				const {bytes, invitation} = vindu;
				const by = {signed: bytes.fromBase64(%q), party: {name: %q, role: "nurse", organisation: "Home care"}, passkeys: [], rp: "localhost", id: "a", to: 1800000000000, clock: 0, lag: %d};
				const wish = {call: %q, terminal: bytes.fromBase64(%q), offer: %q, errand: %q, relayOnly: %t, urgent: %t};
				const i = await invitation.write(wish, by, 1790000000000);
				const certificate = new Uint8Array(32).fill(9);
				return {invitation: bytes.toBase64(i.bytes), end: bytes.toBase64(await invitation.end(i, wish, "end.caller_hung_up", 61234.4, by, 1790000100000)),
					candidates: bytes.toBase64(await invitation.candidates(i, wish, 300, [{line: "candidate:1 1 udp 1 192.0.2.1 9 typ host", mid: "0", mline: 0}, {line: "", mid: "", mline: 1}])),
					certificate: bytes.toBase64(certificate), code: await invitation.code(i.bytes, certificate)};
			})()`, base64.StdEncoding.EncodeToString(signed), c.person, c.lag.Milliseconds(), call, base64.StdEncoding.EncodeToString(terminal[:]), offer, c.errand, c.relayOnly, c.urgent))
			raw := decode64(t, got.Invitation)
			inv := new(protocol.Invitation)
			if err := protocol.Decode(raw, inv); err != nil {
				t.Fatal(err)
			}
			issued := protocol.Time(1_790_000_000_000 + c.lag.Milliseconds())
			if inv.Call != call || inv.Terminal != terminal || inv.Caller != (protocol.Fingerprint{0xab, 7}) || inv.Offer != protocol.HashOf(offer) || inv.Errand != c.errand ||
				len(inv.Parties) != 1 || inv.Parties[0] != (protocol.Party{Name: c.person, Role: "nurse", Organisation: "Home care"}) ||
				inv.Issued != issued || inv.Expires != issued+90_000 || inv.Authorisation != protocol.HashOf(signed) || inv.RelayOnly != c.relayOnly || inv.Urgent != c.urgent {
				t.Errorf("%+v", inv)
			}
			key, err := protocol.ParseKey(inv.Key)
			if err != nil {
				t.Fatal(err)
			}
			end := new(protocol.End)
			if err := protocol.Verify(decode64(t, got.End), key, end); err != nil {
				t.Fatal(err)
			}
			want := protocol.End{
				Version: 1, Call: call, Terminal: terminal, Invitation: protocol.HashOf(raw), By: protocol.SideCaller, Reason: protocol.EndCallerHungUp, Duration: 61234,
				At: 1_790_000_100_000 + protocol.Time(c.lag.Milliseconds()),
			}
			if *end != want {
				t.Errorf("%+v, want %+v", *end, want)
			}
			paths, err := protocol.VerifyCandidates(decode64(t, got.Candidates), inv, protocol.HashOf(raw))
			if err != nil || paths.Number != 300 || !slices.Equal(paths.List, []protocol.Candidate{{Line: "candidate:1 1 udp 1 192.0.2.1 9 typ host", Mid: "0"}, {MLine: 1}}) {
				t.Errorf("%+v, %v", paths, err)
			}
			if want := protocol.CallCode(protocol.HashOf(raw), protocol.Fingerprint(decode64(t, got.Certificate))); got.Code != want {
				t.Errorf("code %q, want %q", got.Code, want)
			}
		})
	}
	if eval[bool](b, `(async () => { const {invitation} = vindu; const k = await vindu.cose.newKey(); return k.key.extractable })()`) {
		t.Error("the key of a call can be taken out of the browser")
	}
}

// TestManyCandidates: however many candidates a computer has, and however long they are, each goes into a statement that a terminal takes.
func TestManyCandidates(t *testing.T) {
	b := modules(t)
	for _, long := range []int{20, 150, 250, 500} {
		got := eval[struct {
			Invitation string
			Signed     []string
		}](b, fmt.Sprintf(`(async () => {
			const {bytes, invitation, peer} = vindu;
			const by = {signed: new Uint8Array(1), party: {name: "A", role: "nurse", organisation: "B"}, passkeys: [], rp: "localhost", id: "a", to: 1800000000000, clock: 0, lag: 0};
			const wish = {call: %q, terminal: new Uint8Array(32).fill(7), offer: "v=0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=fingerprint:sha-256 " + %q + "\r\n", errand: "", relayOnly: false, urgent: false};
			const i = await invitation.write(wish, by, 1790000000000);
			const waiting = Array.from({length: 40}, (_, n) => ({line: ("candidate:" + n).padEnd(%d, "x"), mid: "0", mline: 0}));
			const signed = [];
			while (waiting.length > 0) signed.push(bytes.toBase64(await invitation.candidates(i, wish, signed.length + 1, peer.batch(waiting))));
			return {invitation: bytes.toBase64(i.bytes), signed};
		})()`, protocol.NewCallID(), protocol.Fingerprint{9}, long))
		inv, raw, lines := new(protocol.Invitation), decode64(t, got.Invitation), 0
		if err := protocol.Decode(raw, inv); err != nil {
			t.Fatal(err)
		}
		for i, signed := range got.Signed {
			c, err := protocol.VerifyCandidates(decode64(t, signed), inv, protocol.HashOf(raw))
			if err != nil || c.Number != uint64(i+1) {
				t.Fatalf("%d characters: %+v, %v", long, c, err)
			}
			for _, line := range c.List {
				if want := fmt.Sprintf("candidate:%d", lines); strings.TrimRight(string(line.Line), "x") != want || len(line.Line) != long {
					t.Errorf("%q, want %s", line.Line, want)
				}
				lines++
			}
		}
		if lines != 40 || long < 200 && len(got.Signed) != 5 {
			t.Errorf("%d characters: %d candidates in %d statements", long, lines, len(got.Signed))
		}
	}
}

func decode64(t *testing.T, text string) []byte {
	t.Helper()
	b, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// get has the browser's question for a passkey answered by a function in place of the authenticator, for as long as window.wrong is set.
func get(wrong string) string {
	return `{ const real = navigator.credentials.get.bind(navigator.credentials); const refuse = (name) => Promise.reject(new DOMException("no", name));
		window.wrong = ` + wrong + `; navigator.credentials.get = (o) => window.wrong ? window.wrong(o, real, refuse) : real(o) }`
}

// TestNotConfirmed: without the person's passkey nobody is called, the page says why in a sentence, and the next attempt works.
func TestNotConfirmed(t *testing.T) {
	right := func(_ *clinic, b *tab) { eval[*struct{}](b, `(window.wrong = null)`) }
	for _, x := range []struct {
		name, before string
		spoil, mend  func(c *clinic, b *tab)
		want         protocol.Code
	}{
		{"the person is not who the passkey knows", "", func(c *clinic, b *tab) { replacePasskey(t, c, b, false) }, func(c *clinic, b *tab) { replacePasskey(t, c, b, true) }, protocol.BrowserCancelled},
		{"cancelled", get(`(o, real, refuse) => refuse("NotAllowedError")`), nil, right, protocol.BrowserCancelled},
		{"nobody touched it in time", get(`(o, real, refuse) => { const now = performance.now.bind(performance); performance.now = () => now() + o.publicKey.timeout; return refuse("NotAllowedError") }`),
			nil, right, protocol.BrowserSlow},
		{"this device has none of the person's passkeys", "", func(c *clinic, b *tab) {
			removeAuthenticator(t, b)
			if _, err := webtest.NewPasskey(webtest.Site.ID).Install(b.ctx, true); err != nil {
				t.Fatal(err)
			}
		}, func(c *clinic, b *tab) { replacePasskey(t, c, b, true) }, protocol.BrowserCancelled},
		{"another passkey answers", get(`async (o, real) => { const {response} = await real(o); return {rawId: new Uint8Array(32).buffer, response} }`), nil, right, protocol.BrowserOtherPasskey},
		{"an authenticator that cannot verify the person", "", func(c *clinic, b *tab) {
			removeAuthenticator(t, b)
			if _, err := c.passkey.InstallUnverified(b.ctx); err != nil {
				t.Fatal(err)
			}
		}, func(c *clinic, b *tab) { replacePasskey(t, c, b, true) }, protocol.BrowserCancelled},
		{"one that says that it did not", get(`async (o, real) => { const {rawId, response: r} = await real(o); const d = new Uint8Array(r.authenticatorData.slice(0)); d[32] &= ~4;
			return {rawId, response: {authenticatorData: d.buffer, clientDataJSON: r.clientDataJSON, signature: r.signature}} }`), nil, right, protocol.BrowserUnverified},
		{"no passkeys in this browser", `delete window.PublicKeyCredential`, func(_ *clinic, b *tab) {
			b.until(`document.getElementById("own").textContent.startsWith("This browser cannot use passkeys")`)
		}, nil, protocol.BrowserNoPasskey},
		{"the browser cannot", get(`(o, real, refuse) => refuse("SecurityError")`), nil, right, protocol.BrowserNoPasskey},
		{"the right was withdrawn just now", "", func(c *clinic, _ *tab) {
			c.authorisations.Refuse(protocol.WithCode(protocol.AuthNone, errors.New("nothing is granted")))
		}, func(c *clinic, _ *tab) { c.authorisations.Refuse(nil) }, protocol.AuthNone},
		{"the authorisation has ended while the page was open", "", func(c *clinic, b *tab) {
			c.authorisations.Change(func(a *protocol.Authorisation) { a.To = protocol.At(time.Now().Add(time.Second)) })
			eval[*struct{}](b, fmt.Sprintf(`(window.over = %d, null)`, time.Now().Add(time.Second).UnixMilli()))
			c.web.RightsChanged(c.person)
			b.until(`document.getElementById("right").checkVisibility()`)
			b.until(`Date.now() > window.over`)
			c.authorisations.Refuse(protocol.WithCode(protocol.AuthNone, errors.New("it is over")))
		}, func(c *clinic, _ *tab) {
			c.authorisations.Change(func(a *protocol.Authorisation) { a.To = protocol.At(time.Now().Add(time.Hour)) })
			c.authorisations.Refuse(nil)
		}, protocol.AuthNone},
	} {
		t.Run(x.name, func(t *testing.T) {
			c := newClinic(t)
			b := c.open(x.before)
			b.forgive("403 (Forbidden)")
			if x.spoil != nil {
				x.spoil(c, b)
			}
			b.button("Ring")
			said := failureTo(c, x.want)
			b.says("The call has ended: " + said.Sentence)
			b.until(fmt.Sprintf(`document.getElementById("next").textContent === %q`, said.Next))
			if len(c.calls.Placed) != 0 {
				t.Error("the home was called")
			}
			if eval[bool](b, `document.getElementById("self").srcObject !== null`) {
				t.Error("the caller's camera stays open")
			}
			b.look("not confirmed, " + x.name)
			if x.mend == nil {
				return
			}
			x.mend(c, b)
			b.button("Ring")
			c.placed()
			b.says("Calling")
		})
	}
}

// failureTo is what a page says of a code.
func failureTo(c *clinic, code protocol.Code) failure { return c.web.words.failures()[code] }

// TestClockOff: a call is for now by the clinic's clock, whatever this computer's says; and the page says which is wrong, and who sets it.
func TestClockOff(t *testing.T) {
	for _, x := range []struct {
		name          string
		before, after time.Duration // by which the clock is ahead when the page is loaded, and when somebody rings
		says          string
	}{
		{"ten minutes fast", 10 * time.Minute, 10 * time.Minute, "This computer's clock is 10 minutes fast. Calls work all the same; tell whoever looks after this computer to set it."},
		{"ten minutes slow", -10 * time.Minute, -10 * time.Minute, "This computer's clock is 10 minutes slow. Calls work all the same; tell whoever looks after this computer to set it."},
		{"set ahead while the page is open", 0, 10 * time.Minute, "This computer's clock is 10 minutes fast."},
		{"put right while the page is open", -10 * time.Minute, 0, ""},
		{"some seconds slow", -5 * time.Second, -5 * time.Second, ""},
	} {
		t.Run(x.name, func(t *testing.T) {
			c := newClinic(t)
			b := c.open(fmt.Sprintf(`{ const now = Date.now; window.ahead = %d; Date.now = () => now() + window.ahead }`, x.before.Milliseconds()))
			eval[*struct{}](b, fmt.Sprintf(`(window.ahead = %d, null)`, x.after.Milliseconds()))
			b.button("Ring")
			issued := c.placed().Proven.Issued.Time()
			if off := time.Since(issued).Abs(); off > 20*time.Second {
				t.Errorf("the invitation is %s off the clinic's time", off)
			}
			b.until(fmt.Sprintf(`%q === "" ? document.getElementById("own").hidden : document.getElementById("own").textContent.startsWith(%[1]q)`, x.says))
			b.look("clock, " + x.name)
		})
	}
}

// TestHangUpWhileConfirming: the question for the passkey is taken back.
func TestHangUpWhileConfirming(t *testing.T) {
	c := newClinic(t)
	b := c.open(`navigator.credentials.get = (o) => new Promise((_, no) => o.signal.addEventListener("abort", () => { window.aborted = true; no(new DOMException("", "AbortError")) }))`)
	b.button("Ring")
	b.says("Confirm with your passkey that you want to call Home 17, Storgata.")
	b.shot("confirming")
	b.button("Hang up")
	b.says("The call has ended: You hung up.")
	b.until(`window.aborted`)
	if len(c.calls.Placed)+len(c.calls.HungUp) != 0 {
		t.Error("the clinic was told of a call that nobody had confirmed")
	}
}

// TestUrgent: what the page asks for is in what the passkey signs.
func TestUrgent(t *testing.T) {
	c := newClinic(t)
	b := c.open()
	b.button("Ring")
	if c.placed().Proven.Urgent {
		t.Error("urgent, though nobody said so")
	}
	b.button("Hang up")
	b.says("You hung up")
	eval[*struct{}](b, `document.getElementById("urgent").click(), null`)
	b.button("Ring")
	if !c.placed().Proven.Urgent {
		t.Error("not urgent")
	}
}

func reload(b *tab) {
	b.t.Helper()
	eval[*struct{}](b, `(document.body.dataset.ready = "", location.reload(), null)`)
	b.until(`document.body.dataset.ready === "yes"`)
}

func replacePasskey(t *testing.T, c *clinic, b *tab, willing bool) {
	t.Helper()
	removeAuthenticator(t, b)
	if _, err := c.passkey.Install(b.ctx, willing); err != nil {
		t.Fatal(err)
	}
}

func removeAuthenticator(t *testing.T, b *tab) {
	t.Helper()
	if _, err := chromedp.Call(b.ctx, webauthn.Disable, struct{}{}); err != nil {
		t.Fatal(err)
	}
}
