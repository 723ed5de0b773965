package web

import (
	"flag"
	"fmt"
	"os"

	"context"
	"crypto/ecdsa"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"

	"vindu/clinic/fleet"
	"vindu/clinic/passkey"
	"vindu/clinic/register"
	"vindu/clinic/store"
	"vindu/clinic/web/webtest"
	"vindu/protocol"
)

// clinic is a web server with stand-ins behind it.
type clinic struct {
	t              testing.TB
	server         *httptest.Server
	origin         string // of the same pages, by a name: for passkeys
	web            *Server
	passkeys       *passkey.Service
	sessions       *Sessions
	register       *webtest.Register
	fleet          *webtest.Fleet
	calls          *webtest.Calls
	audit          *webtest.Audit
	person         string
	home           register.Home
	down           atomic.Bool       // the server answers nothing but errors
	key            *ecdsa.PrivateKey // of the home's terminal
	passkey        *webtest.Passkey
	authorisations *webtest.Authorisations
	told           chan protocol.KeyHash // terminals that were to fetch their settings
}

func newClinic(t testing.TB) *clinic {
	t.Helper()
	c := &clinic{t: t, register: webtest.NewRegister(), fleet: webtest.NewFleet(), audit: &webtest.Audit{}, key: webtest.NewKey(), told: make(chan protocol.KeyHash, 8)}
	party := protocol.Party{Name: "Anne Berg", Role: "nurse", Organisation: "Solvik clinic"}
	c.passkey = webtest.NewPasskey(webtest.Site.ID)
	c.authorisations = webtest.NewAuthorisations(c.register, party, c.passkey.Credential())
	c.calls = webtest.NewCalls(c.register, c.authorisations)
	c.person = c.register.AddPerson(party)
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
	c.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c.down.Load() {
			http.Error(w, "", http.StatusBadGateway)
			return
		}
		c.web.ServeHTTP(w, r)
	}))
	c.server.URL = strings.Replace(c.server.URL, "127.0.0.1", "localhost", 1) // passkeys know names, not addresses
	c.origin = c.server.URL
	c.passkeys = webtest.NewPasskeys(t, s, c.audit, c.register, c.origin)
	c.web, err = New(Options{
		Sessions: c.sessions, Register: c.register, Fleet: c.fleet, Calls: c.calls, Passkeys: c.passkeys, Authorisations: c.authorisations, RelyingParty: webtest.Site, Organisation: "Solvik clinic", Log: log,
		Announcements: c.register, Tell: func(_ context.Context, k protocol.KeyHash) error { c.told <- k; return nil },
		Rehearse: func(_ context.Context, k protocol.KeyHash) error { c.told <- k; return nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- c.web.Run(ctx) }()
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
	c.confirms(b)
	navigate(b, c.link())
	b.until(`document.body.dataset.ready === "yes"`)
	return b
}

// confirms gives a tab the person's passkey; it is touched whenever it is asked for.
func (c *clinic) confirms(b *tab) {
	c.t.Helper()
	if _, err := c.passkey.Install(b.ctx, true); err != nil {
		c.t.Fatal(err)
	}
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

// A call as it should be: proven, seen first, then seeing; both hang up; the record has all of it.
func TestCall(t *testing.T) {
	c := newClinic(t)
	b := c.open()
	b.says("No call is running")
	b.button("Ring")
	f := newTerminal(t, c, c.placed())
	b.says("Calling Home 17")
	f.ring()
	b.says("Ringing")
	b.until(`document.querySelector("#roster li:last-child").textContent === "Home 17, Storgata (ringing)" && document.getElementById("comings").textContent === ""`)
	receive(t, f.connected)
	receive(t, f.seen) // the home sees the caller while it rings
	if f.sounds.Load() != 0 {
		t.Error("the caller's microphone was sent before the call was answered")
	}
	if eval[bool](b, `document.getElementById("far").srcObject !== null`) {
		t.Error("the home is shown before it has answered")
	}
	f.answer()
	b.says("In call with Home 17, Storgata")
	receive(t, f.heard)
	b.until(`document.getElementById("far").videoWidth === 640`)
	b.until(`(() => { const v = document.getElementById("far"), c = document.createElement("canvas"); c.width = 8; c.height = 8;
		const g = c.getContext("2d"); g.drawImage(v, 0, 0, 40, 40, 0, 0, 8, 8); const d = g.getImageData(4, 4, 1, 1).data;
		return Math.abs(d[0] - 214) < 16 && Math.abs(d[1] - 200) < 16 && Math.abs(d[2] - 178) < 16 })()`)
	b.until(`document.getElementById("verified").checkVisibility() && document.getElementById("verified").textContent === "Verified: Home 17, Storgata · key " + document.querySelector("[data-home]").dataset.code`)
	code := protocol.CallCode(protocol.HashOf(f.call.Invitation), f.fingerprint)
	b.until(fmt.Sprintf(`document.getElementById("call-code").checkVisibility() && document.getElementById("call-code").textContent === "The home's screen shows %s, too"`, code))
	b.until(`document.getElementById("party").innerText.includes("Anne Berg, nurse, Solvik clinic") && document.getElementById("party").innerText.includes("Home 17")`)
	b.until(`[...document.querySelectorAll("#roster li")].map((l) => l.textContent).join("|") === "Anne Berg, nurse, Solvik clinic (you)|Home 17, Storgata (in the call)"`)
	b.until(`document.getElementById("comings").textContent === "Home 17, Storgata has joined the call." && document.getElementById("comings").ariaLive === "polite"`)
	b.shot("talking")

	b.button("Hang up")
	b.says("The call has ended: You hung up.")
	b.until(`document.getElementById("comings").textContent === "Home 17, Storgata has left the call." && document.querySelectorAll("#roster li").length === 0`)
	hungUp := receive(t, c.calls.HungUp)
	if hungUp.Reason != protocol.EndCallerHungUp || hungUp.Call != f.call.ID {
		t.Errorf("hung up %+v", hungUp)
	}
	f.callerEnds(hungUp)
	half := receive(t, c.calls.Reported)
	var stages []string
	for _, s := range half.Stages {
		stages = append(stages, s.Stage)
	}
	for _, want := range []string{"invited", "ringing", "connected", "answered", "picture", "ended"} {
		if !slices.Contains(stages, want) {
			t.Errorf("the record has stages %v, not %s", stages, want)
		}
	}
	if half.Outcome != protocol.EndCallerHungUp || half.CameraOpen == 0 || half.CameraClosed < half.CameraOpen || half.MicClosed == 0 || half.Duration == 0 {
		t.Errorf("record %+v", half)
	}
	if !strings.Contains(half.Crypto.SRTP, "GCM") || half.LocalPath == "" || half.Quality.FramesDecoded == 0 {
		t.Errorf("record: %+v %s %+v", half.Crypto, half.LocalPath, half.Quality)
	}
	b.until(`document.getElementById("self").srcObject === null && document.getElementById("far").srcObject === null`)
	b.until(`document.querySelector("#recent-calls a")?.textContent === "Home 17, Storgata" && document.querySelector("#recent-calls .sentence").textContent === "You hung up."`)
	t.Log(half.Stages, half.Quality)
}

// shots is a folder to which screenshots are written, if it is named.
var shots = flag.String("shots", "", "write screenshots of pages to this folder")

// shot takes pictures of the page, as wide as a phone and as a desk.
func (b *tab) shot(name string) {
	b.t.Helper()
	if *shots == "" {
		return
	}
	for width, height := range map[int64]int64{390: 844, 1440: 900} {
		b.do(chromedp.EmulateViewport(width, height))
		for kind, action := range map[string]chromedp.Action[[]byte]{"": chromedp.CaptureScreenshot(), "-full": chromedp.FullScreenshot(100)} {
			picture, err := chromedp.Run(b.ctx, action)
			if err != nil {
				b.t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(*shots, fmt.Sprintf("%s-%d%s.png", name, width, kind)), picture, 0o600); err != nil {
				b.t.Fatal(err)
			}
		}
	}
}
