package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/binary"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/fxamacker/cbor/v2"

	"vindu/device/agent"
	"vindu/device/screen"
	"vindu/protocol"
	"vindu/protocol/passkeytest"
)

var update = flag.Bool("update", false, "write docs/hostile.md anew")

const hostileDoc = "../../docs/hostile.md"

// hostility is one thing that somebody in the middle does.
type hostility struct {
	has  string // what he has, besides the network
	does string
	// refuses is who does, by code. What that comes to is told on the page of the caller, in the code's sentence or in says.
	refuses string
	code    protocol.Code
	says    string
	run     func(x *bench, h hostility)
}

const (
	theTerminal = "terminal"
	thePage     = "page"
	theBroker   = "the broker"
	webProcess  = "the clinic's web process"
	server      = "the clinic's server, but not the authorisation key"
	relays      = "the relay"
	wires       = "the network alone"
	otherKey    = "a clinic of his own"
	thief       = "the broker, and a copy of the passkey"
	phisher     = "the broker, and a site that imitates the clinic's"
	recorder    = "the broker, and what it passed on before"
	colleague   = "the broker, and another person's passkey"
	insider     = "the clinic's web process, at the person's touch"
)

// bench is a real page and a real terminal with a hostile clinic between them.
type bench struct {
	t         *testing.T
	c         *clinicServer
	page      *clinicianPage
	terminal  *realTerminal
	key       *ecdsa.PrivateKey    // the attacker's
	spent     *protocol.CallIn     // the invite of an honest call that is over
	spentEnd  []byte               // its end, signed by its terminal
	spentBye  []byte               // and by its caller
	spentSaid *protocol.CallAnswer // and what its terminal answered
	spentPath []byte               // and the caller's first candidates
}

// TestHostile is the promise that nobody looks into a home who may not, held against who owns broker, relay, network and the clinic's server: a
// real page calls the program that ships, whose camera and microphone are watched, through him. Whatever he does is refused by one end or the other, with
// its own cause; operators learn of it; and nothing of camera or microphone was read, nor has reached anybody.
func TestHostile(t *testing.T) {
	x := newBench(t)
	t.Run("an honest call", func(t *testing.T) { x.as(t, (*bench).honest) })
	for _, h := range hostilities() {
		t.Run(h.does, func(t *testing.T) { x.as(t, func(x *bench) { x.try(h) }) })
	}
	t.Run("no enemy, but a path that goes away", func(t *testing.T) { x.as(t, (*bench).anotherPath) })
	t.Run("an honest call afterwards", func(t *testing.T) { x.as(t, (*bench).honest) })
	x.t = t
	writeHostileDoc(t)
}

// newBench has a terminal, with a configuration that is changed, and a page that have found their clinic.
func newBench(t *testing.T, change ...func(*agent.Config)) *bench {
	t.Helper()
	return newBenchOf(t, func(x *bench) {
		for _, f := range change {
			f(&x.terminal.cfg)
		}
	})
}

// newBenchOf is newBench with a terminal that is changed before it begins.
func newBenchOf(t *testing.T, change func(*bench)) *bench {
	t.Helper()
	x := newBenchWithoutPage(t, change)
	x.page = newClinicianPage(t, x.c)
	return x
}

// newBenchWithoutPage is newBenchOf for what nobody's page takes part in.
func newBenchWithoutPage(t *testing.T, change func(*bench)) *bench {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	if testing.Verbose() {
		log = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	x := &bench{t: t, c: newClinicServer(t, log), key: newP256()}
	x.terminal = newRealTerminal(t, x.c.voucher(), log)
	var err error
	x.c.home, err = x.c.register.Home(t.Context(), x.c.home.ID)
	x.c.check(err)
	x.c.policies()
	change(x)
	x.terminal.start()
	t.Cleanup(func() { x.terminal.end() })
	x.online()
	return x
}

// as has the bench report to t.
func (x *bench) as(t *testing.T, f func(*bench)) {
	was := x.t
	set := func(t *testing.T) { x.t, x.c.t, x.page.t, x.terminal.t = t, t, t, t }
	set(t)
	defer set(was)
	f(x)
}

func (x *bench) online() {
	x.t.Helper()
	x.c.await("the terminal at the clinic", func() bool { return x.c.fleet.State(x.c.home.Terminal).Online })
	x.c.await("a terminal that is ready", func() bool { s := x.terminal.shows(); return s.Kind == screen.Ready && !s.Offline })
}

// idle waits until both ends are through with the last call.
func (x *bench) idle() {
	x.t.Helper()
	x.c.await("closed devices", x.terminal.capture.shut)
	x.c.await("a terminal that is not in a call", func() bool {
		k := x.terminal.shows().Kind
		return k == screen.Ready || k == screen.Ended
	})
}

// honest is a call as it should be: it shows that what the other cases look at can be seen.
func (x *bench) honest() {
	x.t.Helper()
	x.page.forget()
	call := x.talk()
	x.page.until(`document.getElementById("far").videoWidth > 0`)
	if page, terminal := x.page.code(), x.terminal.shows().CallCode; page == "" || page != terminal {
		x.t.Errorf("the page shows the code %q, the terminal %q", page, terminal)
	}
	x.hangUp(call)
	x.spent, x.spentEnd = x.c.recorded(call), x.terminalEnd(call)
	x.spentBye, x.spentSaid, x.spentPath = x.c.hangUps[call].HangUp.End, x.c.awaitRinging(call), x.c.paths[call].Candidates
	if received, sent := x.page.counted(); received == 0 || sent == 0 {
		x.t.Errorf("%d packets have reached the page and %d left it", received, sent)
	}
}

// placed rings, and returns the name of the call when its invite is at the server.
func (x *bench) placed() protocol.CallID {
	x.t.Helper()
	known := x.calls()
	x.page.ring()
	var call protocol.CallID
	x.c.await("a call of the page", func() bool {
		for id := range x.calls() {
			if !known[id] {
				call = id
				return true
			}
		}
		return false
	})
	return call
}

func (x *bench) calls() map[protocol.CallID]bool {
	x.c.mu.Lock()
	defer x.c.mu.Unlock()
	known := map[protocol.CallID]bool{}
	for id := range x.c.invites {
		known[id] = true
	}
	return known
}

// talk rings, and returns when the call is answered and picture and sound are captured.
func (x *bench) talk() protocol.CallID {
	x.t.Helper()
	before := x.terminal.capture.taken()
	call := x.placed()
	x.page.phase("talking")
	x.c.await("pictures and sound from the devices", func() bool {
		now := x.terminal.capture.taken()
		return now[0] == before[0]+1 && now[1] > before[1] && now[2] == before[2]+1 && now[3] > before[3]
	})
	return call
}

// hangUp ends a call that nobody has disturbed.
func (x *bench) hangUp(call protocol.CallID) {
	x.t.Helper()
	x.page.hangUp()
	x.page.phase("ended")
	x.c.await("the end of the call on record", func() bool {
		r, err := x.c.calls.Record(x.t.Context(), x.c.person.ID, call)
		return err == nil && !r.EndedAt.IsZero() && r.TerminalEnd != nil
	})
	x.idle()
}

func (x *bench) terminalEnd(call protocol.CallID) []byte {
	x.t.Helper()
	r, err := x.c.calls.Record(x.t.Context(), x.c.person.ID, call)
	x.c.check(err)
	return r.TerminalEnd
}

// try plays one case, and looks at the devices.
func (x *bench) try(h hostility) {
	x.t.Helper()
	x.idle()
	x.page.forget()
	h.run(x, h)
	x.c.tap(taps{})
	x.idle()
}

// untouched returns a function that fails the test if, since now, a device was opened or read, or anything has reached the page.
func (x *bench) untouched() func() {
	before := x.terminal.capture.taken()
	return func() {
		x.t.Helper()
		if now := x.terminal.capture.taken(); now != before {
			x.t.Errorf("camera opened %d times and read %d, microphone %d and %d", now[0]-before[0], now[1]-before[1], now[2]-before[2], now[3]-before[3])
		}
		if received, _ := x.page.counted(); received != 0 {
			x.t.Errorf("%d packets and pictures have reached the page", received)
		}
		if seen := evaluate[int](x.page, `document.getElementById("far").videoWidth`); seen != 0 {
			x.t.Error("the page shows a picture")
		}
	}
}

// notices counts what the terminal has told of a call with a code.
func (x *bench) notices(code protocol.Code, call protocol.CallID) (n int) {
	for _, notice := range x.c.notices() {
		if notice.Code == code && notice.Call == call {
			n++
		}
	}
	return n
}

// told waits until the terminal's notice of a refused call is at the clinic, and an alarm of its code is open. before is how many there were.
func (x *bench) told(code protocol.Code, call protocol.CallID, before int) {
	x.t.Helper()
	x.c.await(fmt.Sprintf("notice of %s", code), func() bool { return x.notices(code, call) > before })
	x.c.await(fmt.Sprintf("alarm of %s", code), func() bool { return x.c.hasAlarm(code) })
}

// sentence is what the page says where a case ends.
func (h hostility) sentence() string {
	if h.says != "" {
		return h.says
	}
	return protocol.Explain(h.code).Sentence
}

// invites is a case in which an invite reaches the terminal as change makes it.
func invites(change func(x *bench, m *protocol.CallIn) *protocol.CallIn) func(*bench, hostility) {
	return func(x *bench, h hostility) {
		x.t.Helper()
		check := x.untouched()
		x.c.tap(taps{toTerminal: func(m *protocol.CallIn) []*protocol.CallIn {
			if m.Kind != protocol.KindInvite {
				return []*protocol.CallIn{m}
			}
			return []*protocol.CallIn{change(x, copyOf(m))}
		}})
		call := x.placed()
		x.page.says(h.sentence())
		x.told(h.code, call, 0)
		if code := x.page.code(); code != "" {
			x.t.Errorf("the page shows the code %q", code)
		}
		check()
	}
}

// touches is a case in which the person's passkey has signed what change makes of the honest draft.
func touches(change func(x *bench, d *draft)) func(*bench, hostility) {
	return invites(func(x *bench, m *protocol.CallIn) *protocol.CallIn {
		return x.forge(m, func(d *draft) { change(x, d) })
	})
}

// lies is a case in which the page writes its invitation by what a hostile server tells of the person's authorisation: a, and the signed bytes, if they are not nil.
// The server's own checks are told the same.
func lies(change func(x *bench, a *protocol.Authorisation) []byte) func(*bench, hostility) {
	return func(x *bench, h hostility) {
		x.t.Helper()
		check := x.untouched()
		var once sync.Once
		var lied *protocol.Authorisation
		var bytes []byte
		x.c.tap(taps{authorisation: func(signed []byte, a *protocol.Authorisation) ([]byte, *protocol.Authorisation) {
			once.Do(func() {
				copied := *a
				lied, bytes = &copied, signed
				if other := change(x, lied); other != nil {
					bytes = other
				}
			})
			return bytes, lied
		}})
		x.page.reload()
		call := x.placed()
		x.page.says(h.sentence())
		x.told(h.code, call, 0)
		check()
		x.c.tap(taps{})
		x.page.reload()
	}
}

func copyOf(m *protocol.CallIn) *protocol.CallIn {
	b, err := protocol.Encode(m)
	out := new(protocol.CallIn)
	if err == nil {
		err = protocol.Decode(b, out)
	}
	if err != nil {
		panic(err) // it was on its way
	}
	return out
}

// draft is an invite before the person's touch.
type draft struct {
	inv       *protocol.Invitation
	auth      *protocol.Authorisation
	signed    []byte // the authorisation; nil: auth, as the clinic's key signs it
	bytes     []byte // the invitation; nil: inv, encoded
	offer     protocol.SDP
	passkey   *passkeytest.Authenticator
	use       func(*passkeytest.Use)
	challenge protocol.Hash // zero: the invitation's
}

// forge makes an invite anew, with a touch of the person's passkey.
func (x *bench) forge(m *protocol.CallIn, change func(*draft)) *protocol.CallIn {
	d := &draft{inv: new(protocol.Invitation), auth: new(protocol.Authorisation), signed: m.Invite.Authorisation, offer: m.Invite.Offer, passkey: x.c.passkey.Authenticator(), use: func(*passkeytest.Use) {}}
	x.c.check(protocol.Decode(m.Invite.Invitation, d.inv))
	issuer, err := protocol.ParseKey(x.c.offline.Authorities()[0])
	x.c.check(err)
	x.c.check(protocol.Verify(m.Invite.Authorisation, issuer, d.auth))
	d.passkey.Counter = binary.BigEndian.Uint32(m.Invite.Assertion.AuthenticatorData[33:])
	bound := d.inv.Authorisation
	change(d)
	if d.signed == nil {
		d.signed, err = x.c.offline.SignAuthorisation(d.auth)
		x.c.check(err)
	}
	if d.inv.Authorisation == bound {
		d.inv.Authorisation = protocol.HashOf(d.signed)
	}
	if d.bytes == nil {
		d.bytes, err = protocol.Encode(d.inv)
		x.c.check(err)
	}
	if d.challenge == (protocol.Hash{}) {
		d.challenge = protocol.HashOf(d.bytes)
	}
	return &protocol.CallIn{Version: protocol.Version, Call: m.Call, Kind: protocol.KindInvite, Invite: &protocol.Invite{
		Invitation: d.bytes, Offer: d.offer, ICE: m.Invite.ICE, Authorisation: d.signed, Assertion: d.passkey.Assert(x.t, x.c.site, d.challenge, d.use),
	}}
}

func newP256() *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err) // no source of randomness
	}
	return key
}

func spki(key *ecdsa.PrivateKey) []byte {
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		panic(err) // P-256 can be encoded
	}
	return der
}

// writeHostileDoc holds the table of the cases to the committed one.
func writeHostileDoc(t *testing.T) {
	t.Helper()
	var b bytes.Buffer
	b.WriteString(hostileHead)
	for n, h := range hostilities() {
		code := "`" + string(h.code) + "`"
		if h.code == "" {
			code = "–"
		}
		fmt.Fprintf(&b, "| %d | %s | %s | %s | %s | %s |\n", n+1, h.has, h.does, h.refuses, code, h.sentence())
	}
	if *update {
		if err := os.WriteFile(hostileDoc, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(hostileDoc)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(b.Bytes(), want) {
		t.Errorf("%s is not what the test does; go test ./cmd/vindu-agent -run TestHostile -update writes it", hostileDoc)
	}
}

const hostileHead = `# Somebody in the middle

What happens when the clinic's own broker, relay, network or server is hostile. Each row is a case of ` + "`TestHostile`" + ` (cmd/vindu-agent), which writes this page: a
real page in Chromium, with a passkey, calls the program that ships through him. In none of them was the terminal's camera or microphone opened, or read
once more than the honest call needs; that is counted at the devices. Nothing reached the page, or him. Where a terminal refuses, operators get an alarm of that code; where a page does, its half of the
call's record says so.

He has what the first column says, and the network. Nobody has given him the authorisation key, which is kept on another machine, a terminal's key, or a person's touch beyond what the row
says; and the page that he serves is the honest one. What he could do by another page, and what else is not defended, is in [SECURITY.md](../SECURITY.md).

| | He has | and does | refused by the | code | The caller reads |
|---|---|---|---|---|---|
`

// ownOffer is an offer of the attacker's: the last caller's, with his certificate.
func (x *bench) ownOffer() protocol.SDP {
	return protocol.SDP(strings.ReplaceAll(string(x.spent.Invite.Offer), printOf(x.spent.Invite.Offer).String(), protocol.Fingerprint{0xba, 0xdd}.String()))
}

// printOf is the first certificate that a session description names.
func printOf(sdp protocol.SDP) protocol.Fingerprint {
	_, tail, _ := strings.Cut(string(sdp), "a=fingerprint:sha-256 ")
	line, _, _ := strings.Cut(tail, "\r\n")
	var f protocol.Fingerprint
	for i, pair := range strings.Split(line, ":") {
		if i < len(f) {
			_, _ = fmt.Sscanf(pair, "%02X", &f[i])
		}
	}
	return f
}

func counterOf(m *protocol.CallIn) uint32 {
	return binary.BigEndian.Uint32(m.Invite.Assertion.AuthenticatorData[33:])
}

// withoutParties encodes an invitation that nobody takes part in.
func (x *bench) withoutParties(i *protocol.Invitation) []byte {
	whole, err := protocol.Encode(i)
	x.c.check(err)
	var fields map[int]cbor.RawMessage
	x.c.check(cbor.Unmarshal(whole, &fields))
	fields[6] = []byte{0x80}
	mode, err := cbor.CoreDetEncOptions().EncMode()
	x.c.check(err)
	b, err := mode.Marshal(fields)
	x.c.check(err)
	return b
}
