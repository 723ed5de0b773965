package main

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"

	"vindu/scripts/lab"
	"vindu/scripts/stack"
)

// halfRelayed is put into the page: the terminal is still asked to be relayed only, but this browser, which would need a publicly
// certified relay for TURN over TLS, offers its own addresses.
const halfRelayed = `(() => {
	const Native = window.RTCPeerConnection;
	window.RTCPeerConnection = class extends Native { constructor(config) { super({...config, iceTransportPolicy: "all"}); } };
})()`

// A network that lets nothing but the clinic's one TCP port through at the terminal's end: picture and sound go by TURN over
// TLS 1.3 on that port (RFC 7443), from a real agent to a real browser.
func TestRelayOverTLS(t *testing.T) {
	dir := t.TempDir()
	bin := filepath.Join(dir, "bin")
	if err := stack.Build(t.Context(), projectRoot(t), bin, true); err != nil {
		t.Fatal(err)
	}
	s, err := stack.New(stack.Options{Dir: filepath.Join(dir, "state"), Bin: bin, Language: "en", Preview: true, StreamRelay: true})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- s.Run(ctx, func(context.Context) error { close(ready); return nil }) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	select {
	case <-ready:
	case err := <-ended:
		ended <- nil
		t.Fatal(err)
	}
	// The relay's addresses are loopback ones here, which Chromium otherwise leaves out.
	clinician := &person{lab.NewBrowser(t, nil, "allow-loopback-in-peer-connection"), t, "clinician"}
	addScript := func(ctx context.Context, target *chromedp.Target) error {
		_, err := chromedp.Call(ctx, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: halfRelayed})
		return err
	}
	if err := clinician.Do(10*time.Second, chromedp.Func(addScript)); err != nil {
		t.Fatal(err)
	}
	clinician.register(s.Clinician)
	if _, err := lab.Evaluate[bool](clinician.Browser, 10*time.Second, "(document.querySelector('details.options').open = true, document.querySelector('#relay-only').click(), true)"); err != nil {
		t.Fatal(err)
	}
	clinician.click("Ring")
	clinician.reads(30*time.Second, "In call", "verified")
	if err := clinician.WaitForFarEnd(30 * time.Second); err != nil {
		clinician.fail("sees nothing of the terminal: %v", err)
	}
	seesCaller(t, s.Terminal)
	if rate, err := clinician.movement(3 * time.Second); err != nil || rate < 3 {
		t.Errorf("the terminal's picture moves %.1f times a second (%v)", rate, err)
	}
	clinician.click("Hang up")
	clinician.reads(10*time.Second, "ended", "You hung up")
	clinician.findsInRecord("through the clinic's relay", "relay – ", "AEAD_AES_")
}
