package web

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"vindu/clinic/calls"
	"vindu/clinic/passkey"
	"vindu/clinic/web/webtest"
	"vindu/protocol"
)

// proven is the record of a call of the clinic's person to its home, with everything that was signed in it; change spoils what it is made from.
func (c *clinic) proven(began time.Time, change func(*protocol.Invitation, *protocol.End, *protocol.Crypto)) calls.Record {
	c.t.Helper()
	must := func(b []byte, err error) []byte {
		c.t.Helper()
		if err != nil {
			c.t.Fatal(err)
		}
		return b
	}
	signed, a, err := c.authorisations.Current(c.t.Context(), c.person)
	if err != nil {
		c.t.Fatal(err)
	}
	at := func(after time.Duration) protocol.Time { return protocol.At(began.Add(after)) }
	own := webtest.NewKey()
	spki, _ := webtest.Public(own)
	inv := &protocol.Invitation{
		Version: 1, Call: protocol.NewCallID(), Terminal: c.home.Terminal, Caller: protocol.Fingerprint{0xca}, Offer: protocol.HashOf("v=0"), Parties: []protocol.Party{a.Party},
		Issued: at(-time.Second), Expires: at(time.Minute), Nonce: protocol.NewNonce(), Key: spki, Authorisation: protocol.HashOf(signed),
	}
	end := &protocol.End{
		Version: 1, Call: inv.Call, Terminal: c.home.Terminal, By: protocol.SideTerminal, Reason: protocol.EndCallerHungUp, Duration: 754_000,
		CameraClosed: at(762 * time.Second), MicrophoneClosed: at(762 * time.Second), At: at(762 * time.Second),
	}
	terminal := protocol.Crypto{Suite: protocol.CryptoPolicy.Suites[0], SRTP: protocol.CryptoPolicy.SRTP[0], Local: protocol.Fingerprint{0x7e}, Remote: protocol.Fingerprint{0xca}}
	caller := protocol.Crypto{Suite: terminal.Suite, SRTP: terminal.SRTP}
	change(inv, end, &terminal)
	raw := must(protocol.Encode(inv))
	end.Invitation = protocol.HashOf(raw)
	ours := *end
	ours.By, ours.CameraClosed, ours.MicrophoneClosed = protocol.SideCaller, 0, 0
	assertion := c.passkey.Authenticator().Assert(c.t, protocol.RelyingParty{ID: webtest.Site.ID, Origins: []string{c.origin}}, protocol.HashOf(raw))
	half := func(by protocol.Side, crypto protocol.Crypto, camera, sound string) *protocol.CallRecord {
		return &protocol.CallRecord{
			Version: 1, By: by, Began: at(0), Outcome: protocol.EndCallerHungUp, Duration: 754_000,
			Stages: []protocol.StageTime{{Stage: "invited", After: 31}, {Stage: "ringing", After: 84}, {Stage: "connected", After: 190}, {Stage: "answered", After: 8110}, {Stage: "picture", After: 8190}, {Stage: "ended", After: 762_110}},
			Crypto: crypto, LocalPath: "host", RemotePath: "prflx", Camera: camera, Sound: sound,
			Quality:    protocol.Quality{RTT: 24, PacketsLost: 12, PacketsReceived: 41_220, FramesDecoded: 18_850, FramesSent: 18_702, Freezes: 1, Concealed: 40},
			CameraOpen: at(0), CameraClosed: at(762 * time.Second), MicOpen: at(0), MicClosed: at(762 * time.Second),
		}
	}
	return calls.Record{
		Call: inv.Call, Person: calls.Person{ID: c.person, Party: a.Party}, Home: c.home.ID, HomeLabel: c.home.Label, Terminal: c.home.Terminal, SPKI: c.home.SPKI,
		Began: began, RangAt: began, TalkingAt: began.Add(8 * time.Second), EndedAt: began.Add(762 * time.Second), Outcome: protocol.EndCallerHungUp, Sentence: "The caller hung up.",
		Proof:       must(protocol.Encode(&protocol.CallProof{Version: 1, Invitation: raw, Assertion: assertion, Authorisation: signed})),
		TerminalEnd: must(protocol.Sign(end, c.key)), CallerEnd: must(protocol.Sign(&ours, own)),
		TerminalHalf: half(protocol.SideTerminal, terminal, "synthetic", "alsa"), CallerHalf: half(protocol.SideCaller, caller, "browser", "browser"),
	}
}

// TestProof: the record says in words what was proven, and does not say what was not.
func TestProof(t *testing.T) {
	c := newClinic(t)
	w := c.web.words
	began := time.Date(2026, 11, 3, 10, 0, 0, 0, time.Local)
	listed := []passkey.Passkey{{ID: c.passkey.ID, Name: "Laptop at the ward", Created: began.AddDate(0, -1, 0)}}
	none := func(*protocol.Invitation, *protocol.End, *protocol.Crypto) {}
	for _, x := range []struct {
		name   string
		change func(*protocol.Invitation, *protocol.End, *protocol.Crypto)
		after  func(*calls.Record)
		list   []passkey.Passkey
		says   []string // claims that hold
		not    []string // claims that do not
		never  []string // nothing of it
	}{
		{"as it should be", none, nil, listed, []string{
			"Anne Berg, nurse, Solvik clinic, confirmed this call with the passkey “Laptop at the ward”, made 3 October 2026", "The right to call Home 17, Storgata was authorisation ",
			"verified passkey, authorisation, home and time by itself", "The terminal's answer was signed by its key " + c.home.Terminal.Code(), "Both screens showed ",
			"encrypted from end to end, as they have to be", "The terminal's signed end: You hung up. Its camera and microphone were closed at 3 November 2026, 10:12:42", "Your page's signed end: You hung up.",
		}, nil, nil},
		{"the passkey was removed and forgotten", none, nil, nil, []string{"a passkey that is not in the list any more"}, nil, nil},
		{"nobody was asked", none, func(r *calls.Record) { r.Proof = nil }, listed, nil, []string{"Nobody was asked"}, []string{"confirmed", "encrypted"}},
		{"the terminal did not ring", none, func(r *calls.Record) {
			r.RangAt, r.TalkingAt, r.TerminalHalf, r.TerminalEnd, r.CallerHalf = time.Time{}, time.Time{}, nil, nil, nil
		}, listed, []string{"confirmed this call"}, []string{"did not ring"}, []string{"verified passkey", "Both screens", "encrypted", "The terminal's answer"}},
		{"a weak profile", func(_ *protocol.Invitation, _ *protocol.End, x *protocol.Crypto) {
			x.SRTP = "SRTP_AES128_CM_HMAC_SHA1_80"
		}, nil, listed, nil,
			[]string{`not encrypted as they have to be: SRTP profile "SRTP_AES128_CM_HMAC_SHA1_80"`}, []string{"as they have to be."}},
		{"somebody in the middle", func(_ *protocol.Invitation, _ *protocol.End, x *protocol.Crypto) { x.Remote[0]++ }, nil, listed, nil,
			[]string{"not encrypted as they have to be: the terminal spoke with another certificate than the caller's"}, []string{"as they have to be."}},
		{"an end that another key has signed", none, func(r *calls.Record) { r.SPKI, _ = webtest.Public(webtest.NewKey()) }, listed, nil, []string{"There is no end that the terminal has signed."}, []string{"The terminal's signed end"}},
		{"an end of another call", none, func(r *calls.Record) { r.TerminalEnd = c.proven(began, none).TerminalEnd }, listed, nil, []string{"There is no end that the terminal has signed."}, []string{"The terminal's signed end"}},
		{"the caller's end put in the terminal's place", none, func(r *calls.Record) { r.TerminalEnd = r.CallerEnd }, listed, nil, []string{"There is no end"}, []string{"The terminal's signed end"}},
		{"devices that were never open", func(_ *protocol.Invitation, e *protocol.End, _ *protocol.Crypto) {
			e.CameraClosed, e.MicrophoneClosed = 0, 0
		}, nil, listed, []string{"Its camera and microphone were never open."}, nil, nil},
		{"it still runs", none, func(r *calls.Record) { r.EndedAt, r.Outcome, r.TerminalEnd, r.CallerEnd = time.Time{}, "", nil, nil }, listed, []string{"confirmed this call"}, nil, []string{"signed end", "no end"}},
		{"what cannot be read", none, func(r *calls.Record) { r.Proof = r.Proof[:len(r.Proof)-3] }, listed, nil, []string{"Nobody was asked"}, []string{"confirmed"}},
	} {
		t.Run(x.name, func(t *testing.T) {
			r := c.proven(began, x.change)
			if x.after != nil {
				x.after(&r)
			}
			v := w.proof(r, x.list, webtest.Site)
			has := func(holds bool, text string) bool {
				return slices.ContainsFunc(v.Claims, func(c claim) bool { return c.Holds == holds && strings.Contains(c.Text, text) })
			}
			for _, text := range x.says {
				if !has(true, text) {
					t.Errorf("does not say %q: %+v", text, v.Claims)
				}
			}
			for _, text := range x.not {
				if !has(false, text) {
					t.Errorf("does not deny %q: %+v", text, v.Claims)
				}
			}
			for _, text := range x.never {
				if has(true, text) {
					t.Errorf("says %q: %+v", text, v.Claims)
				}
			}
		})
	}
	r := c.proven(began, none)
	p := new(protocol.CallProof)
	if err := protocol.Decode(r.Proof, p); err != nil {
		t.Fatal(err)
	}
	code := protocol.CallCode(protocol.HashOf(p.Invitation), r.TerminalHalf.Crypto.Local)
	v := w.proof(r, listed, webtest.Site)
	for _, whole := range []string{r.TerminalHalf.Crypto.Local.String(), protocol.Fingerprint{0xca}.String(), fmt.Sprintf("%x", c.passkey.ID)} {
		if !slices.ContainsFunc(v.Facts, func(f fact) bool { return f.Whole == whole && strings.HasPrefix(whole, f.Value[:8]) }) {
			t.Errorf("%s cannot be copied: %+v", whole, v.Facts)
		}
	}
	if !slices.ContainsFunc(v.Claims, func(c claim) bool { return c.Text == "Both screens showed "+code+"." }) {
		t.Errorf("the code is not %s: %+v", code, v.Claims)
	}
}
