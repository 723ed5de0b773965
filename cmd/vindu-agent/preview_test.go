//go:build preview

package main

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"vindu/device/agent"
	"vindu/device/screen"
	"vindu/media/display"
	"vindu/protocol"
)

func newPreview(t *testing.T, listen string) (*preview, error) {
	t.Helper()
	cfg := agent.Default().Devices
	cfg.Camera, cfg.TestPicture = "/dev/vindu-test-no-camera", true
	return openPreview(listen, "en", display.NewMemory(320, 240), &devices{cfg: cfg}, &tap{}, slog.New(slog.DiscardHandler))
}

func TestPreviewListensOnLoopbackOnly(t *testing.T) {
	for _, bad := range []string{"0.0.0.0:0", "192.0.2.1:0", ":0", "example.com:0", "localhost", "[::]:0"} {
		if p, err := newPreview(t, bad); err == nil {
			t.Errorf("listens on %s", bad)
			for _, l := range p.listeners {
				l.Close()
			}
		}
	}
	p, err := newPreview(t, "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer p.listeners[0].Close()
	if _, err := newPreview(t, p.listeners[0].Addr().String()); err == nil || !strings.Contains(err.Error(), "taken") {
		t.Errorf("a port that is taken: %v", err)
	}
}

func TestPreviewPage(t *testing.T) {
	p, err := newPreview(t, "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- p.run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		http.DefaultClient.CloseIdleConnections()
	}()
	p.show(screen.Scene{Kind: screen.Ringing, Parties: []protocol.Party{{Name: "Anne <b>Berg", Role: "nurse", Organisation: "Solvik"}}})
	get := func(path, host string) *http.Response {
		t.Helper()
		r, err := http.NewRequestWithContext(ctx, "GET", strings.TrimSuffix(p.address(), "/")+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if host != "" {
			r.Host = host
		}
		response, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		return response
	}
	response := get("/", "")
	body, _ := io.ReadAll(response.Body)
	response.Body.Close()
	for _, s := range []string{`>Anne &lt;b&gt;Berg is calling (nurse, Solvik)<`, `<button id="hang-up" type="button">`, "<canvas", "Test picture"} {
		if !strings.Contains(string(body), s) {
			t.Errorf("the page lacks %q", s)
		}
	}
	if csp := response.Header.Get("Content-Security-Policy"); !strings.Contains(csp, "default-src 'none'") || strings.Contains(csp, "unsafe") {
		t.Errorf("policy %q", csp)
	}
	for _, path := range []string{"/page.js", "/page.css"} {
		response := get(path, "")
		response.Body.Close()
		if response.StatusCode != 200 {
			t.Errorf("%s: %d", path, response.StatusCode)
		}
	}
	// A name that somebody else's DNS gave this address is not ours.
	response = get("/", "evil.example")
	response.Body.Close()
	if response.StatusCode != http.StatusMisdirectedRequest {
		t.Errorf("another host: %d", response.StatusCode)
	}

	response = get("/state", "")
	lines := bufio.NewScanner(response.Body)
	if !lines.Scan() || !strings.Contains(lines.Text(), `"hang_up":true`) {
		t.Errorf("state: %q", lines.Text())
	}
	p.show(screen.Scene{Kind: screen.Ended})
	lines.Scan() // the empty line between events
	if !lines.Scan() || !strings.Contains(lines.Text(), "The call has ended. The camera is off.") {
		t.Errorf("state: %q", lines.Text())
	}
	response.Body.Close()

	response = get("/sound", "")
	p.hear([]int16{1, -2})
	heard := make([]byte, 4)
	if _, err := io.ReadFull(response.Body, heard); err != nil || string(heard) != "\x01\x00\xfe\xff" {
		t.Errorf("heard %v, %v", heard, err)
	}
	response.Body.Close()

	d := display.New(p.memory)
	defer d.Close()
	if err := d.Paint(); err != nil {
		t.Fatal(err)
	}
	response = get("/screen?after=0", "")
	picture, _ := io.ReadAll(response.Body)
	response.Body.Close()
	if response.Header.Get("Content-Type") != "image/jpeg" || len(picture) == 0 || response.Header.Get("Vindu-Frame") == "" {
		t.Errorf("screen: %v, %d bytes", response.Header, len(picture))
	}
}

func TestPreviewHangUp(t *testing.T) {
	p, err := newPreview(t, "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer p.listeners[0].Close()
	p.agent = &agent.Agent{} // no call runs: there is nothing to hang up
	for _, test := range []struct {
		method, origin string
		want           int
	}{{"POST", "", 204}, {"POST", "http://evil.example", 403}, {"GET", "", 405}} {
		r := httptest.NewRequest(test.method, p.address()+"hang-up", nil)
		if test.origin != "" {
			r.Header.Set("Origin", test.origin)
			r.Header.Set("Sec-Fetch-Site", "cross-site")
		}
		w := httptest.NewRecorder()
		p.handler().ServeHTTP(w, r)
		if w.Code != test.want {
			t.Errorf("%s from %q: %d, want %d", test.method, test.origin, w.Code, test.want)
		}
	}
}

// The page speaks what the screen speaks, all of it.
func TestPreviewLanguages(t *testing.T) {
	english, err := pageTexts("en")
	if err != nil {
		t.Fatal(err)
	}
	anne := []protocol.Party{{Name: "Anne Berg", Role: "sykepleier", Organisation: "Solvik"}}
	for _, language := range screen.Languages() {
		cfg := agent.Default().Devices
		cfg.Camera, cfg.TestPicture = "/dev/vindu-test-no-camera", true
		p, err := openPreview("127.0.0.1:0", language, display.NewMemory(320, 240), &devices{cfg: cfg}, &tap{}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range p.listeners {
			l.Close()
		}
		p.show(screen.Scene{
			Kind: screen.InCall, Parties: anne, Camera: true, Microphone: true, Faults: []protocol.Code{protocol.CaptureTestPicture, protocol.CaptureTestSound},
		})
		w := httptest.NewRecorder()
		p.handler().ServeHTTP(w, httptest.NewRequest("GET", p.address(), nil))
		body := w.Body.String()
		if left := regexp.MustCompile(`\{[a-z_]*\}|<!--`).FindString(body); left != "" || !strings.Contains(body, `<html lang="`+language+`">`) {
			t.Errorf("%s: %q is left in the page", language, left)
		}
		for key, text := range english {
			if p.texts[key] == "" {
				t.Errorf("%s: no text for %s", language, key)
			}
			if language != "en" && strings.Contains(body, ">"+escape.Replace(text)+"<") {
				t.Errorf("%s: the page says in English %q", language, text)
			}
		}
		if want := map[string]string{
			"en": "You are talking with Anne Berg, sykepleier. A test picture and test sound are sent.",
			"nb": "Du snakker med Anne Berg, sykepleier. Det sendes testbilde og testlyd.",
			"nn": "Du snakkar med Anne Berg, sykepleier. Det blir sendt testbilete og testlyd.",
		}[language]; !strings.Contains(body, want) {
			t.Errorf("%s: the page does not say %q", language, want)
		}
	}
}
