package webtest

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"sync"
	"time"

	"github.com/chromedp/cdproto/webauthn"
	"github.com/chromedp/chromedp"

	"vindu/clinic/register"
	"vindu/protocol"
	"vindu/protocol/passkeytest"
)

// Passkey is one whose private half the test holds, so that a browser can have it without a registration.
type Passkey struct {
	ID  []byte
	RP  string
	key *ecdsa.PrivateKey
}

// NewPasskey makes a passkey for a relying party.
func NewPasskey(rp string) *Passkey {
	id := make([]byte, 32)
	rand.Read(id)
	return &Passkey{ID: id, RP: rp, key: NewKey()}
}

// Credential is what an authorisation says of it.
func (p *Passkey) Credential() protocol.Credential {
	spki, _ := Public(p.key)
	return protocol.Credential{ID: p.ID, Key: spki}
}

// Authenticator is the passkey without a browser.
func (p *Passkey) Authenticator() *passkeytest.Authenticator { return passkeytest.From(p.ID, p.key) }

// Install gives a tab an authenticator that has this passkey (CDP domain WebAuthn). Touches are granted at once, by the person, if willing.
func (p *Passkey) Install(ctx context.Context, willing bool) (webauthn.AuthenticatorID, error) {
	return p.install(ctx, true, willing, 1)
}

// InstallCounting is Install with an authenticator that goes on counting from here.
func (p *Passkey) InstallCounting(ctx context.Context, from uint32) (webauthn.AuthenticatorID, error) {
	return p.install(ctx, true, true, float64(from))
}

// InstallUnverified is Install with an authenticator that has no PIN, finger or face: it is touched, by whomever.
func (p *Passkey) InstallUnverified(ctx context.Context) (webauthn.AuthenticatorID, error) {
	return p.install(ctx, false, false, 1)
}

func (p *Passkey) install(ctx context.Context, verifies, willing bool, count float64) (webauthn.AuthenticatorID, error) {
	if _, err := chromedp.Call(ctx, webauthn.Enable, webauthn.EnableParams{}); err != nil {
		return "", err
	}
	added, err := chromedp.Call(ctx, webauthn.AddVirtualAuthenticator, webauthn.AddVirtualAuthenticatorParams{Options: &webauthn.VirtualAuthenticatorOptions{
		Protocol: webauthn.AuthenticatorProtocolCtap2, Transport: webauthn.AuthenticatorTransportInternal, HasResidentKey: true, HasUserVerification: verifies,
		IsUserVerified: willing, AutomaticPresenceSimulation: true,
		HasCmtgKey: true, // as add says
	}})
	if err != nil {
		return "", err
	}
	der, err := x509.MarshalPKCS8PrivateKey(p.key)
	if err != nil {
		return "", err
	}
	_, err = chromedp.Call(ctx, webauthn.AddCredential, webauthn.AddCredentialParams{AuthenticatorID: added.AuthenticatorID, Credential: &webauthn.Credential{
		CredentialID: p.ID, IsResidentCredential: true, RpID: p.RP, PrivateKey: der, UserHandle: []byte("person"), SignCount: count,
	}})
	return added.AuthenticatorID, err
}

// Authorisations has one authorisation, for everybody.
type Authorisations struct {
	mu     sync.Mutex
	signed []byte
	a      *protocol.Authorisation
	err    error
	homes  Homes
	none   map[string]bool // homes that it is not for
}

// Homes are those that there are.
type Homes interface {
	Homes(ctx context.Context) ([]register.Home, error)
}

// NewAuthorisations authorises a party to call all of homes by these passkeys for a week.
func NewAuthorisations(homes Homes, p protocol.Party, passkeys ...protocol.Credential) *Authorisations {
	now := time.Now()
	a := &protocol.Authorisation{
		Version: protocol.Version, ID: protocol.NewNonce(), Person: "100", Party: p, Employment: "employed", Group: "home care", Credentials: passkeys,
		Scope: protocol.Scope{Groups: []string{"all"}}, From: protocol.At(now.Add(-time.Hour)), To: protocol.At(now.Add(7 * 24 * time.Hour)),
	}
	signed, err := protocol.Sign(a, NewKey())
	if err != nil {
		panic(err) // of a test's own making
	}
	return &Authorisations{signed: signed, a: a, homes: homes, none: map[string]bool{}}
}

// Change makes the authorisation another.
func (a *Authorisations) Change(change func(*protocol.Authorisation)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	fresh := *a.a
	fresh.ID = protocol.NewNonce()
	change(&fresh)
	signed, err := protocol.Sign(&fresh, NewKey())
	if err != nil {
		panic(err) // of a test's own making
	}
	a.signed, a.a = signed, &fresh
}

// Cover has it be for a home, or not.
func (a *Authorisations) Cover(home string, yes bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.none[home] = !yes
}

// Covered implements web.Authorisations.
func (a *Authorisations) Covered(ctx context.Context, _ *protocol.Authorisation) (map[string]bool, error) {
	homes, err := a.homes.Homes(ctx)
	a.mu.Lock()
	defer a.mu.Unlock()
	covered := map[string]bool{}
	for _, h := range homes {
		if !a.none[h.ID] {
			covered[h.ID] = true
		}
	}
	return covered, err
}

// Passkeys has the authorisation name these passkeys, in place of those before.
func (a *Authorisations) Passkeys(passkeys ...protocol.Credential) {
	a.Change(func(fresh *protocol.Authorisation) { fresh.Credentials = passkeys })
}

// Current implements web.Authorisations.
func (a *Authorisations) Current(context.Context, string) ([]byte, *protocol.Authorisation, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.signed, a.a, a.err
}

// Refuse has Current fail from here on; nil has it succeed again.
func (a *Authorisations) Refuse(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.err = err
}
