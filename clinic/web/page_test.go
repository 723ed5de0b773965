package web

import (
	"context"
	"crypto/ecdsa"
	"log/slog"
	"net/http/httptest"
	"path/filepath"
	"testing"
	"time"

	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"

	"vindu/clinic/fleet"
	"vindu/clinic/register"
	"vindu/clinic/store"
	"vindu/clinic/web/webtest"
	"vindu/protocol"
)

// clinic is a web server with stand-ins behind it.
type clinic struct {
	t        testing.TB
	server   *httptest.Server
	web      *Server
	sessions *Sessions
	register *webtest.Register
	fleet    *webtest.Fleet
	calls    *webtest.Calls
	audit    *webtest.Audit
	person   string
	home     register.Home
	key      *ecdsa.PrivateKey // of the home's terminal
}

func newClinic(t testing.TB) *clinic {
	t.Helper()
	c := &clinic{t: t, register: webtest.NewRegister(), fleet: webtest.NewFleet(), audit: &webtest.Audit{}, key: webtest.NewKey()}
	c.calls = webtest.NewCalls(c.register)
	c.person = c.register.AddPerson(protocol.Party{Name: "Anne Berg", Role: "nurse", Organisation: "Solvik clinic"})
	c.home = c.register.AddHome("Home 17, Storgata", c.key)
	c.fleet.Set(online(c.home.Terminal))
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	s, err := store.Open(t.Context(), filepath.Join(t.TempDir(), "clinic.db"), log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	if c.sessions, err = NewSessions(t.Context(), s, c.audit); err != nil {
		t.Fatal(err)
	}
	c.web, err = New(Options{
		Sessions: c.sessions, Register: c.register, Fleet: c.fleet, Calls: c.calls, Organisation: "Solvik clinic", Log: log,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- c.web.Run(ctx) }()
	c.server = httptest.NewServer(c.web)
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		c.server.CloseClientConnections()
		c.server.Close()
	})
	return c
}

func online(k protocol.KeyHash) fleet.State {
	now := time.Now()
	return fleet.State{
		Terminal: k, Online: true, Since: now.Add(-time.Hour), Heard: now, Software: "1.0.0",
		Health: &protocol.Health{
			Version: 1, At: protocol.At(now), Software: "1.0.0", KeyGrade: "file",
			Camera: protocol.DeviceState{Kind: "v4l2", Name: "camera"}, Microphone: protocol.DeviceState{Kind: "alsa"},
			Speaker: protocol.DeviceState{Kind: "alsa"}, Screen: protocol.DeviceState{Kind: "drm"},
		},
	}
}

// link returns the address of a sign-in link.
func (c *clinic) link() string {
	c.t.Helper()
	path, err := c.sessions.Link(c.t.Context(), "test", c.person, LinkLife)
	if err != nil {
		c.t.Fatal(err)
	}
	return c.server.URL + path
}

// navigate is chromedp.Navigate without waiting for the load event's frames.
func navigate(b *tab, url string) {
	b.t.Helper()
	if _, err := chromedp.Call(b.ctx, page.Navigate, page.NavigateParams{URL: url}); err != nil {
		b.t.Fatal(err)
	}
	b.until(`document.readyState === "complete" && location.href !== "about:blank"`)
}

// open signs in with a new tab and waits until the page is ready.
func (c *clinic) open(before ...string) *tab {
	c.t.Helper()
	b := newTab(c.t, before...)
	navigate(b, c.link())
	b.until(`document.body.dataset.ready === "yes"`)
	return b
}

// placed returns the next call that a page has placed.
func (c *clinic) placed() *webtest.Call {
	c.t.Helper()
	return receive(c.t, c.calls.Placed)
}

func receive[T any](t testing.TB, from <-chan T) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(patience):
		t.Fatal("nothing came")
		panic("unreachable")
	}
}

func TestShots(t *testing.T) {
	c := newClinic(t)
	b := c.open()
	b.button("Ring")
	c.placed()
	b.says("Calling")
}
