// Package passkey gives the browsers of the demo's tests, the lab and the benchmarks a clinician's passkey, as a person would make it: under an invitation, on
// the clinic's own page, by Chromium's virtual authenticator (WebAuthn §11), which confirms whatever it is asked.
package passkey

import (
	"context"
	"fmt"
	"time"

	"github.com/chromedp/cdproto/webauthn"
	"github.com/chromedp/chromedp"
)

// Register gives the tab of ctx an authenticator and has it make a passkey under an invitation, whose address is given. The tab is signed in then, on the
// clinician's page.
func Register(ctx context.Context, invitation string) error {
	if err := chromedp.Do(ctx); err != nil { // the tab is there
		return err
	}
	if _, err := chromedp.Call(ctx, webauthn.Enable, webauthn.EnableParams{}); err != nil {
		return fmt.Errorf("give the browser an authenticator: %w", err)
	}
	_, err := chromedp.Call(ctx, webauthn.AddVirtualAuthenticator, webauthn.AddVirtualAuthenticatorParams{Options: &webauthn.VirtualAuthenticatorOptions{
		Protocol: webauthn.AuthenticatorProtocolCtap2, Transport: webauthn.AuthenticatorTransportInternal,
		HasResidentKey: true, HasUserVerification: true, IsUserVerified: true, AutomaticPresenceSimulation: true,
	}})
	if err != nil {
		return fmt.Errorf("give the browser an authenticator: %w", err)
	}
	if err := chromedp.Do(ctx, chromedp.Navigate(invitation)); err != nil {
		return fmt.Errorf("open the invitation: %w", err)
	}
	if err := until(ctx, `document.body?.dataset.ready === "yes" && document.querySelector("form[data-passkey=create]")`); err != nil {
		return err
	}
	if _, err := chromedp.Run(ctx, chromedp.Evaluate[bool](`document.getElementById("name").value = "This computer", document.querySelector("form[data-passkey] button").click(), true`)); err != nil {
		return fmt.Errorf("make a passkey: %w", err)
	}
	return until(ctx, `document.querySelector("[data-home]")`)
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
