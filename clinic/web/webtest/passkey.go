package webtest

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/webauthn"
	"github.com/chromedp/chromedp"

	"vindu/clinic/passkey"
	"vindu/clinic/store"
	"vindu/protocol"
)

// Authenticator is a virtual one in a tab of Chromium (WebAuthn §11): built into the computer, keeps passkeys, and confirms by itself that it is its person.
type Authenticator struct {
	t   testing.TB
	ctx context.Context
	id  webauthn.AuthenticatorID
}

// NewAuthenticator gives one to the tab of ctx.
func NewAuthenticator(t testing.TB, ctx context.Context) *Authenticator {
	t.Helper()
	a := &Authenticator{t: t, ctx: ctx}
	if err := chromedp.Do(ctx); err != nil { // the tab is there
		t.Fatal(err)
	}
	call(a, webauthn.Enable, webauthn.EnableParams{})
	a.id = call(a, webauthn.AddVirtualAuthenticator, webauthn.AddVirtualAuthenticatorParams{Options: &webauthn.VirtualAuthenticatorOptions{
		Protocol: webauthn.AuthenticatorProtocolCtap2, Transport: webauthn.AuthenticatorTransportInternal,
		HasResidentKey: true, HasUserVerification: true, IsUserVerified: true, AutomaticPresenceSimulation: true,
	}}).AuthenticatorID
	return a
}

// Registered gives an authenticator to the tab of ctx and has it make a passkey under an invitation, whose address is given. The tab is signed in then, on its
// person's first page.
func Registered(t testing.TB, ctx context.Context, invitation, name string) *Authenticator {
	t.Helper()
	a := NewAuthenticator(t, ctx)
	if _, err := chromedp.Run(ctx, chromedp.Navigate(invitation)); err != nil {
		t.Fatal(err)
	}
	a.until(`document.body?.dataset.ready === "yes"`)
	a.eval(fmt.Sprintf(`document.getElementById("name").value = %q, document.querySelector("form[data-passkey] button").click(), true`, name))
	a.until(`document.readyState === "complete" && !document.querySelector("form[data-passkey=create]")`)
	return a
}

func (a *Authenticator) eval(expression string) {
	a.t.Helper()
	if _, err := chromedp.Run(a.ctx, chromedp.Evaluate[bool](expression)); err != nil {
		a.t.Fatal(err)
	}
}

// until waits until an expression is true, also across navigations.
func (a *Authenticator) until(expression string) {
	a.t.Helper()
	const patience = 30 * time.Second
	ctx, cancel := context.WithTimeout(a.ctx, patience)
	defer cancel()
	for ctx.Err() == nil {
		if _, err := chromedp.Run(ctx, chromedp.Poll[bool]("!!("+expression+")", chromedp.WithPollingTimeout(patience), chromedp.WithPollingInterval(20*time.Millisecond))); err == nil {
			return
		}
	}
	text, _ := chromedp.Run(a.ctx, chromedp.Evaluate[string](`document.body.innerText`))
	a.t.Fatalf("waiting for %s. The page says:\n%s", expression, text)
}

// Confirms has it confirm that it is its person from here on, or fail to: as when the person cancels.
func (a *Authenticator) Confirms(yes bool) {
	a.t.Helper()
	call(a, webauthn.SetUserVerified, webauthn.SetUserVerifiedParams{AuthenticatorID: a.id, IsUserVerified: yes})
}

// Passkeys returns those that it keeps.
func (a *Authenticator) Passkeys() []*webauthn.Credential {
	a.t.Helper()
	return call(a, webauthn.GetCredentials, webauthn.GetCredentialsParams{AuthenticatorID: a.id}).Credentials
}

// Forget has it lose all of them.
func (a *Authenticator) Forget() {
	a.t.Helper()
	call(a, webauthn.ClearCredentials, webauthn.ClearCredentialsParams{AuthenticatorID: a.id})
}

// Add gives it a passkey, such as a copy of one.
func (a *Authenticator) Add(c webauthn.Credential) {
	a.t.Helper()
	call(a, webauthn.AddCredential, webauthn.AddCredentialParams{AuthenticatorID: a.id, Credential: &c})
}

// Copy gives another tab an authenticator with the same passkeys, as they are now: one and the same if only one of the two is used from then on.
func (a *Authenticator) Copy(ctx context.Context) *Authenticator {
	a.t.Helper()
	other := NewAuthenticator(a.t, ctx)
	for _, c := range a.Passkeys() {
		other.Add(*c)
	}
	return other
}

func call[P, R any](a *Authenticator, command cdp.Command[P, R], params P) R {
	a.t.Helper()
	result, err := chromedp.Call(a.ctx, command, params)
	if err != nil {
		a.t.Fatal(err)
	}
	return result
}

// Alarms counts those that were raised.
type Alarms struct{ n atomic.Int64 }

// RaiseTx implements passkey.Alarms.
func (a *Alarms) RaiseTx(context.Context, *sql.Tx, protocol.Code, protocol.KeyHash, string) (bool, error) {
	return a.n.Add(1) == 1, nil
}

// Raised returns how many there were.
func (a *Alarms) Raised() int64 { return a.n.Load() }

// NewPasskeys returns the passkeys of persons, for pages at origin, such as http://localhost:8080: browsers make none for an address.
func NewPasskeys(t testing.TB, s *store.Store, log passkey.Auditor, persons passkey.Persons, origin string) *passkey.Service {
	t.Helper()
	u, err := url.Parse(origin)
	if err != nil {
		t.Fatal(err)
	}
	p, err := passkey.New(context.Background(), passkey.Config{
		Store: s, Audit: log, Persons: persons, Alarms: &Alarms{}, Site: protocol.RelyingParty{ID: u.Hostname(), Origins: []string{origin}},
		Organisation: "Solvik clinic", Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}
