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
	id, err := add(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return &Authenticator{t: t, ctx: ctx, id: id}
}

func add(ctx context.Context) (webauthn.AuthenticatorID, error) {
	if err := chromedp.Do(ctx); err != nil { // the tab is there
		return "", err
	}
	if _, err := chromedp.Call(ctx, webauthn.Enable, webauthn.EnableParams{}); err != nil {
		return "", fmt.Errorf("give the browser an authenticator: %w", err)
	}
	added, err := chromedp.Call(ctx, webauthn.AddVirtualAuthenticator, webauthn.AddVirtualAuthenticatorParams{Options: &webauthn.VirtualAuthenticatorOptions{
		Protocol: webauthn.AuthenticatorProtocolCtap2, Transport: webauthn.AuthenticatorTransportInternal,
		HasResidentKey: true, HasUserVerification: true, IsUserVerified: true, AutomaticPresenceSimulation: true,
		HasCmtgKey: true, // the protocol's Go binding says with each credential that it wants none of these keys, which Chromium 156 takes from who may have them only
	}})
	if err != nil {
		return "", fmt.Errorf("give the browser an authenticator: %w", err)
	}
	return added.AuthenticatorID, nil
}

// MakePasskey gives an authenticator to the tab of ctx and has it make a passkey under an invitation, whose address is given. The tab is signed in then, on its
// person's first page.
func MakePasskey(ctx context.Context, invitation, name string) (webauthn.AuthenticatorID, error) {
	id, err := add(ctx)
	if err != nil {
		return "", err
	}
	if err := chromedp.Do(ctx, chromedp.Navigate(invitation)); err != nil {
		return "", fmt.Errorf("open the invitation: %w", err)
	}
	if err := until(ctx, `document.body?.dataset.ready === "yes" && document.querySelector("form[data-passkey=create]")`); err != nil {
		return "", err
	}
	if _, err := chromedp.Run(ctx, chromedp.Evaluate[bool](fmt.Sprintf(`document.getElementById("name").value = %q, document.querySelector("form[data-passkey] button").click(), true`, name))); err != nil {
		return "", fmt.Errorf("make a passkey: %w", err)
	}
	return id, until(ctx, `document.readyState === "complete" && !document.querySelector("form[data-passkey=create]")`)
}

// Registered is MakePasskey for a test.
func Registered(t testing.TB, ctx context.Context, invitation, name string) *Authenticator {
	t.Helper()
	id, err := MakePasskey(ctx, invitation, name)
	if err != nil {
		t.Fatal(err)
	}
	return &Authenticator{t: t, ctx: ctx, id: id}
}

// until waits until an expression is true in the page, whatever is navigated to meanwhile.
func until(ctx context.Context, expression string) error {
	const patience = 30 * time.Second
	limited, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		_, err := chromedp.Run(limited, chromedp.Poll[bool]("Boolean("+expression+")", chromedp.WithPollingTimeout(patience), chromedp.WithPollingInterval(20*time.Millisecond)))
		if err == nil {
			return nil
		}
		if limited.Err() == nil {
			continue // a page went away in the middle
		}
		text, _ := chromedp.Run(ctx, chromedp.Evaluate[string](`document.body.innerText`)) // what can be read of it
		return fmt.Errorf("in the page is not within %s: %s; it says: %s", patience, expression, text)
	}
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
	c.CmtgKeys, c.ActiveCmtgKeyIndex = nil, nil // Chromium names the first of none
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
