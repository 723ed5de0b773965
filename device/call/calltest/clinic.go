package calltest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"sync"
	"testing"
	"time"

	"vindu/device/call"
	"vindu/protocol"
	"vindu/protocol/passkeytest"
)

// Clinic signs as a clinic does, and has a clinician who calls by a passkey.
type Clinic struct {
	Authority *ecdsa.PrivateKey          // signs authorisations, policies and trust; and, where it vouches, invitations
	Service   *ecdsa.PrivateKey          // the server's
	Passkey   *passkeytest.Authenticator // the clinician's
	Caller    *ecdsa.PrivateKey          // of the clinician's page, for calls
	Terminal  *ecdsa.PrivateKey          // the called terminal's key
	Self      protocol.KeyHash           // and its name

	mu       sync.Mutex
	expected map[protocol.CallID]bool // test calls that the terminal waits for
}

// The home in which the terminal stands, as scopes name it.
const (
	Home  = "home-17"
	Group = "north"
)

// RelyingParty is the clinic's site.
var RelyingParty = protocol.RelyingParty{ID: "clinic.example", Origins: []string{"https://clinic.example", "https://desk.clinic.example"}}

// Clinician is who calls.
var Clinician = protocol.Party{Name: "Anne Berg", Role: "nurse", Organisation: "Home care"}

// NewClinic makes the keys of a clinic, of its clinician and of one terminal.
func NewClinic(t testing.TB) *Clinic {
	t.Helper()
	c := &Clinic{Authority: NewKey(t), Service: NewKey(t), Passkey: passkeytest.New(t, passkeytest.ES256), Caller: NewKey(t), Terminal: NewKey(t)}
	var err error
	if c.Self, err = protocol.HashKey(c.Terminal.Public()); err != nil {
		t.Fatal(err)
	}
	return c
}

// NewKey makes a key such as every part of the system has.
func NewKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// SPKI is a key's public half.
func SPKI(t testing.TB, key *ecdsa.PrivateKey) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// Authorities is what the terminal pinned.
func (c *Clinic) Authorities(t testing.TB) [][]byte { return [][]byte{SPKI(t, c.Authority)} }

// Believed is what the terminal believes of the clinic.
func (c *Clinic) Believed(t testing.TB) call.Believed {
	return call.Believed{
		Trust: &protocol.Trust{
			Version: protocol.Version, Serial: 1, Authorities: c.Authorities(t), Service: [][]byte{SPKI(t, c.Service)}, RelyingParty: RelyingParty, Issued: 1,
		},
		Policy: &protocol.Policy{
			Version: protocol.Version, Serial: 1, Terminal: c.Self, Home: Home, Groups: []string{Group}, Rules: []protocol.Rule{{Group: "nurses", Mode: protocol.ModeRing, After: 5}},
			Zone: "Europe/Oslo", Longest: 3600, Volume: 80, Issued: 1,
		},
	}
}

// Prover is what the terminal proves invites by.
func (c *Clinic) Prover(t testing.TB) call.Prover {
	believed := c.Believed(t)
	return &call.EitherProver{
		Passkey: &call.PasskeyProver{Believed: func() call.Believed { return believed }, TimeKnown: func() bool { return true }},
		Test:    &call.TestProver{Keys: func() [][]byte { return believed.Trust.Service }, Expected: c.Expects},
	}
}

// Offer is an offer of a caller with the given certificate.
func Offer(caller protocol.Fingerprint) protocol.SDP {
	return protocol.SDP(fmt.Sprintf("v=0\r\nm=audio 9\r\na=fingerprint:sha-256 %s\r\nm=video 9\r\na=fingerprint:sha-256 %[1]s\r\n", caller))
}

// Caller is the certificate of the caller that Invite invites with.
var Caller = protocol.Fingerprint{0xca, 0x11}

func (c *Clinic) invitation(t testing.TB, now time.Time) *protocol.Invitation {
	return &protocol.Invitation{
		Version: protocol.Version, Call: protocol.NewCallID(), Terminal: c.Self, Caller: Caller, Offer: protocol.HashOf(Offer(Caller)),
		Parties: []protocol.Party{Clinician}, Errand: "Morning medicine",
		Issued: protocol.At(now), Expires: protocol.At(now.Add(time.Minute)), Nonce: protocol.NewNonce(), Key: SPKI(t, c.Caller),
	}
}

// Draft is an invite before it is signed. Each part may be spoilt.
type Draft struct {
	Authorisation *protocol.Authorisation
	Authority     *ecdsa.PrivateKey // signs the authorisation
	Invitation    *protocol.Invitation
	// Bound is what Invitation.Authorisation becomes; zero: the hash of the signed authorisation.
	Bound     protocol.Hash
	Passkey   *passkeytest.Authenticator
	Use       func(*passkeytest.Use) // changes what the passkey signs; nil: nothing
	Challenge protocol.Hash          // that the passkey signs; zero: the hash of the invitation
	Offer     protocol.SDP
}

// Draft returns what an honest clinician would send now.
func (c *Clinic) Draft(t testing.TB, now time.Time) *Draft {
	t.Helper()
	return &Draft{
		Authorisation: &protocol.Authorisation{
			Version: protocol.Version, ID: protocol.NewNonce(), Person: "person-5", Party: Clinician, Employment: "employed", Group: "nurses",
			Credentials: []protocol.Credential{c.Passkey.Credential(t)}, Scope: protocol.Scope{Homes: []string{Home}},
			From: protocol.At(now.Add(-time.Hour)), To: protocol.At(now.Add(7 * 24 * time.Hour)),
		},
		Authority: c.Authority, Invitation: c.invitation(t, now), Passkey: c.Passkey, Offer: Offer(Caller),
	}
}

// Guest is another clinician, who joins calls by a passkey of the own.
type Guest struct {
	Party       protocol.Party
	Passkey     *passkeytest.Authenticator
	Key         *ecdsa.PrivateKey
	Certificate protocol.Fingerprint
}

// NewGuest makes one.
func NewGuest(t testing.TB, name string) *Guest {
	t.Helper()
	party := Clinician
	party.Name = name
	return &Guest{Party: party, Passkey: passkeytest.New(t, passkeytest.ES256), Key: NewKey(t), Certificate: protocol.Fingerprint(protocol.HashOf(name))}
}

// Join returns what an honest guest would send now to join a call.
func (c *Clinic) Join(t testing.TB, now time.Time, id protocol.CallID, g *Guest) *Draft {
	t.Helper()
	d := c.Draft(t, now)
	d.Authorisation.Party, d.Authorisation.Credentials, d.Passkey = g.Party, []protocol.Credential{g.Passkey.Credential(t)}, g.Passkey
	d.Offer = Offer(g.Certificate)
	inv := d.Invitation
	inv.Call, inv.Parties, inv.Caller, inv.Offer, inv.Key = id, []protocol.Party{g.Party}, g.Certificate, protocol.HashOf(d.Offer), SPKI(t, g.Key)
	return d
}

// Message signs a draft.
func (d *Draft) Message(t testing.TB) *protocol.CallIn {
	t.Helper()
	signed, err := protocol.Sign(d.Authorisation, d.Authority)
	if err != nil {
		t.Fatal(err)
	}
	d.Invitation.Authorisation = d.Bound
	if (d.Bound == protocol.Hash{}) {
		d.Invitation.Authorisation = protocol.HashOf(signed)
	}
	bytes, err := protocol.Encode(d.Invitation)
	if err != nil {
		t.Fatal(err)
	}
	challenge := d.Challenge
	if (challenge == protocol.Hash{}) {
		challenge = protocol.HashOf(bytes)
	}
	use := d.Use
	if use == nil {
		use = func(*passkeytest.Use) {}
	}
	return &protocol.CallIn{
		Version: protocol.Version, Call: d.Invitation.Call, Kind: protocol.KindInvite,
		Invite: &protocol.Invite{
			Invitation: bytes, Offer: d.Offer, Assertion: d.Passkey.Assert(t, RelyingParty, challenge, use), Authorisation: signed,
		},
	}
}

// Invite returns a call to the terminal that the clinician has proven by passkey, as the clinic sends it. Each of change may spoil the invitation
// before it is signed.
func (c *Clinic) Invite(t testing.TB, now time.Time, change ...func(*protocol.Invitation)) (*protocol.CallIn, *protocol.Invitation) {
	t.Helper()
	d := c.Draft(t, now)
	for _, f := range change {
		f(d.Invitation)
	}
	return d.Message(t), d.Invitation
}

// Expects tells whether the terminal waits for a test call: for each that TestCall has made.
func (c *Clinic) Expects(id protocol.CallID) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.expected[id]
}

// TestCall is Invite without a passkey: the clinic's robot calls, as the terminal has asked for.
func (c *Clinic) TestCall(t testing.TB, now time.Time, change ...func(*protocol.Invitation)) (*protocol.CallIn, *protocol.Invitation) {
	t.Helper()
	inv := c.invitation(t, now)
	inv.Key, inv.Authorisation = SPKI(t, c.Service), protocol.HashOf("authorisation")
	for _, f := range change {
		f(inv)
	}
	signed, err := protocol.Sign(inv, c.Service)
	if err != nil {
		t.Fatal(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.expected == nil {
		c.expected = map[protocol.CallID]bool{}
	}
	c.expected[inv.Call] = true
	return &protocol.CallIn{
		Version: protocol.Version, Call: inv.Call, Kind: protocol.KindInvite, Invite: &protocol.Invite{Invitation: signed, Offer: Offer(Caller)},
	}, inv
}

// HangUp returns the caller's proven end of the call that invite began; or the clinic's, if one of change makes it that.
func (c *Clinic) HangUp(t testing.TB, invite *protocol.CallIn, reason protocol.Code, change ...func(*protocol.End)) *protocol.CallIn {
	t.Helper()
	end := &protocol.End{
		Version: protocol.Version, Call: invite.Call, Terminal: c.Self, Invitation: protocol.HashOf(invite.Invite.Invitation),
		By: protocol.SideCaller, Reason: reason, At: 1,
	}
	for _, f := range change {
		f(end)
	}
	if invite.Invite.Assertion == nil { // of a test call, which the server ends
		end.By = protocol.SideClinic
	}
	key := c.Caller
	if end.By == protocol.SideClinic {
		key = c.Service
	}
	return c.HangUpBy(t, invite, end, key)
}

// Candidates returns candidates of the caller of the call that invite began, signed by the call's key. Each of change may spoil them before.
func (c *Clinic) Candidates(t testing.TB, invite *protocol.CallIn, number uint64, change ...func(*protocol.Candidates)) *protocol.CallIn {
	t.Helper()
	s := &protocol.Candidates{
		Version: protocol.Version, Call: invite.Call, Terminal: c.Self, Invitation: protocol.HashOf(invite.Invite.Invitation), Number: number,
		List: []protocol.Candidate{{Line: protocol.CandidateLine(fmt.Sprintf("candidate:%d", number)), Mid: "0"}},
	}
	for _, f := range change {
		f(s)
	}
	return c.CandidatesBy(t, invite, s, c.Caller)
}

// CandidatesBy returns candidates signed by whatever key.
func (c *Clinic) CandidatesBy(t testing.TB, invite *protocol.CallIn, s *protocol.Candidates, key *ecdsa.PrivateKey) *protocol.CallIn {
	t.Helper()
	signed, err := protocol.Sign(s, key)
	if err != nil {
		t.Fatal(err)
	}
	return &protocol.CallIn{Version: protocol.Version, Call: invite.Call, Kind: protocol.KindCandidates, Candidates: signed}
}

// Restart returns the caller's offer for another path in the call that invite began.
func (c *Clinic) Restart(t testing.TB, invite *protocol.CallIn, number uint64, change ...func(*protocol.Restart)) *protocol.CallIn {
	t.Helper()
	offer := protocol.SDP(fmt.Sprintf("offer %d", number))
	s := &protocol.Restart{
		Version: protocol.Version, Call: invite.Call, Terminal: c.Self, Invitation: protocol.HashOf(invite.Invite.Invitation), By: protocol.SideCaller, N: number,
		SDP: protocol.HashOf(offer), At: protocol.At(time.Now()),
	}
	for _, f := range change {
		f(s)
	}
	return c.RestartBy(t, invite, s, offer, c.Caller)
}

// RestartBy returns an offer for another path signed by whatever key.
func (c *Clinic) RestartBy(t testing.TB, invite *protocol.CallIn, s *protocol.Restart, offer protocol.SDP, key *ecdsa.PrivateKey) *protocol.CallIn {
	t.Helper()
	signed, err := protocol.Sign(s, key)
	if err != nil {
		t.Fatal(err)
	}
	return &protocol.CallIn{Version: protocol.Version, Call: invite.Call, Kind: protocol.KindRestart, Restart: &protocol.CallRestart{Restart: signed, SDP: offer}}
}

// HangUpBy returns an end of the call that invite began, signed by whatever key.
func (c *Clinic) HangUpBy(t testing.TB, invite *protocol.CallIn, end *protocol.End, key *ecdsa.PrivateKey) *protocol.CallIn {
	t.Helper()
	signed, err := protocol.Sign(end, key)
	if err != nil {
		t.Fatal(err)
	}
	return &protocol.CallIn{Version: protocol.Version, Call: invite.Call, Kind: protocol.KindHangUp, HangUp: &protocol.HangUp{End: signed}}
}
