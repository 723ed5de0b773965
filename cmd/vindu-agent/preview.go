//go:build preview

package main

import (
	"bytes"
	"context"
	"embed"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/jpeg"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"vindu/device/agent"
	"vindu/device/screen"
	"vindu/media/display"
)

// preview shows a terminal that has no screen of its own in a browser on the same machine, for demonstrations: its picture, its state in
// words, the hang-up button, and what its loudspeaker would say. It listens on loopback alone and answers to no other name.
type preview struct {
	listeners []net.Listener
	url       string
	memory    *display.Memory // nil: the terminal has its own screen
	far       *tap
	devices   *devices
	lang      *screen.Language
	texts     map[string]string // of the page, in the language of the screen
	log       *slog.Logger
	agent     *agent.Agent

	press    chan struct{} // the page's button
	mu       sync.Mutex
	state    pageState
	changed  chan struct{} // closed at the next change of state
	sounds   map[chan []byte]bool
	encoding sync.Mutex
	img      *image.RGBA
	buf      bytes.Buffer // the encoder's
	jpeg     []byte       // not changed once it is here
	frame    uint64
	encoded  time.Time
}

// pageState is what the page says.
type pageState struct {
	Text   string   `json:"text"`
	HangUp bool     `json:"hang_up"`
	Press  bool     `json:"press"`
	Notes  []string `json:"notes"`
}

const (
	frameGap = 66 * time.Millisecond // 15 pictures per second are enough to see how it looks
	pollTime = 20 * time.Second
)

//go:embed preview
var pageFiles embed.FS

// openPreview listens, and speaks what the screen speaks. It returns nil if listen is empty.
func openPreview(listen, language string, memory *display.Memory, d *devices, far *tap, log *slog.Logger) (*preview, error) {
	if listen == "" {
		return nil, nil
	}
	lang, err := screen.LoadLanguage(language)
	if err != nil {
		return nil, err
	}
	texts, err := pageTexts(language)
	if err != nil {
		return nil, err
	}
	listeners, err := listenLoopback(listen)
	if err != nil {
		return nil, err
	}
	host, _, _ := net.SplitHostPort(listen)
	_, port, _ := net.SplitHostPort(listeners[0].Addr().String())
	p := &preview{
		listeners: listeners, url: "http://" + net.JoinHostPort(host, port) + "/", memory: memory, far: far, devices: d, lang: lang, texts: texts, log: log,
		press: make(chan struct{}), changed: make(chan struct{}), sounds: map[chan []byte]bool{}, state: pageState{Text: lang.Say(screen.Scene{}), Notes: []string{}},
	}
	far.set(p.hear)
	return p, nil
}

// pageTexts returns the page's own texts in a language; the screen's are screen.Language's.
func pageTexts(language string) (map[string]string, error) {
	b, err := pageFiles.ReadFile("preview/words.json")
	if err != nil {
		return nil, fmt.Errorf("texts of the preview: %w", err)
	}
	var all map[string]map[string]string
	if err := json.Unmarshal(b, &all); err != nil {
		return nil, fmt.Errorf("texts of the preview: %w", err)
	}
	texts, ok := all[language]
	if !ok {
		return nil, fmt.Errorf("the preview has no texts in %q", language)
	}
	texts["lang"] = language
	return texts, nil
}

// listenLoopback listens on a loopback address; for "localhost" on that of IPv4 and, where there is one, on that of IPv6.
func listenLoopback(address string) ([]net.Listener, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("preview.listen = %q: has to be host:port, such as localhost:8081", address)
	}
	hosts := []string{host}
	if host == "localhost" {
		hosts = []string{"127.0.0.1", "::1"}
	} else if ip, err := netip.ParseAddr(host); err != nil || !ip.IsLoopback() {
		return nil, fmt.Errorf("preview.listen = %q: has to be a loopback address: the page shows what is on the screen", address)
	}
	var listeners []net.Listener
	for _, h := range hosts {
		l, err := net.Listen("tcp", net.JoinHostPort(h, port))
		switch {
		case err == nil:
			listeners = append(listeners, l)
			_, port, _ = net.SplitHostPort(l.Addr().String())
		case errors.Is(err, syscall.EADDRINUSE):
			for _, open := range listeners {
				open.Close()
			}
			return nil, fmt.Errorf("preview.listen = %q: the port is taken by another program: stop that one or choose another port: %w", address, err)
		case len(listeners) == 0:
			return nil, fmt.Errorf("preview.listen = %q: %w", address, err)
		} // else: no IPv6 here
	}
	return listeners, nil
}

func (p *preview) address() string { return p.url }

// use connects the hang-up button.
func (p *preview) use(a *agent.Agent) {
	if p != nil {
		p.agent = a
	}
}

// button is what the page's button calls itself.
func (p *preview) button() string {
	if p == nil {
		return ""
	}
	return "button of the page"
}

// awaitPress returns nil once the page's button was pressed.
func (p *preview) awaitPress(ctx context.Context) error {
	if p == nil {
		return errors.New("there is no page with a button")
	}
	select {
	case <-p.press:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// run serves until ctx ends.
func (p *preview) run(ctx context.Context) error {
	server := &http.Server{
		Handler: p.handler(), ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
		BaseContext: func(net.Listener) context.Context { return ctx }, ErrorLog: slog.NewLogLogger(p.log.Handler(), slog.LevelDebug),
	}
	failed := make(chan error, len(p.listeners))
	for _, l := range p.listeners {
		go func() { failed <- server.Serve(l) }()
	}
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	// Streams end with ctx; what hangs beyond a second is cut.
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if server.Shutdown(end) != nil {
		_ = server.Close()
	}
	return err
}

func (p *preview) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", p.page)
	static, err := fs.Sub(pageFiles, "preview")
	if err != nil {
		panic(err) // embedded: cannot happen
	}
	files := http.FileServerFS(static)
	mux.Handle("GET /page.css", files)
	mux.Handle("GET /page.js", files)
	mux.HandleFunc("GET /screen", p.screen)
	mux.HandleFunc("GET /state", p.stream)
	mux.HandleFunc("GET /sound", p.sound)
	mux.HandleFunc("POST /press", func(w http.ResponseWriter, _ *http.Request) {
		select {
		case p.press <- struct{}{}:
		default: // nothing asks for it
		}
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("POST /hang-up", func(w http.ResponseWriter, _ *http.Request) {
		p.agent.HangUp()
		w.WriteHeader(http.StatusNoContent)
	})
	guarded := http.NewCrossOriginProtection().Handler(mux)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// Another name that leads here is a trick of another page (DNS rebinding).
		host := r.Host
		if h, _, err := net.SplitHostPort(host); err == nil {
			host = h
		}
		if ip, err := netip.ParseAddr(strings.Trim(host, "[]")); host != "localhost" && (err != nil || !ip.IsLoopback()) {
			http.Error(w, "open this page by the address that the terminal's log names", http.StatusMisdirectedRequest)
			return
		}
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "+
			"base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		guarded.ServeHTTP(w, r)
	})
}

// page fills the page's few blanks by hand: html/template would make the program a fifth larger.
func (p *preview) page(w http.ResponseWriter, _ *http.Request) {
	page, err := pageFiles.ReadFile("preview/page.html")
	if err != nil {
		http.Error(w, "the page is not there", http.StatusInternalServerError)
		return
	}
	state := p.now()
	picture := `<p class="elsewhere">{elsewhere}</p>`
	if p.memory != nil {
		width, height := p.memory.Size()
		picture = fmt.Sprintf(`<canvas id="screen" width="%d" height="%d" role="img" aria-label="{screen}"></canvas>`, width, height)
	}
	disabled := map[bool]string{false: " disabled"}
	var notes strings.Builder
	for _, n := range state.Notes {
		notes.WriteString("<li>" + escape.Replace(n) + "</li>")
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	var blanks []string
	for name, text := range p.texts {
		blanks = append(blanks, "{"+name+"}", escape.Replace(text))
	}
	text := strings.NewReplacer(blanks...).Replace(strings.Replace(string(page), "<!--picture-->", picture, 1))
	_, _ = strings.NewReplacer(
		"<!--state-->", escape.Replace(state.Text), " data-disabled", disabled[state.HangUp], " data-no-press", disabled[state.Press], "<!--notes-->", notes.String(),
	).WriteString(w, text)
}

var escape = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&quot;")

// screen answers with the screen's picture as soon as it is newer than the one that the page has.
func (p *preview) screen(w http.ResponseWriter, r *http.Request) {
	if p.memory == nil {
		http.Error(w, "the terminal has its own screen", http.StatusNotFound)
		return
	}
	after, _ := strconv.ParseUint(r.URL.Query().Get("after"), 10, 64)
	ctx, cancel := context.WithTimeout(r.Context(), pollTime)
	defer cancel()
	if _, err := p.memory.Wait(ctx, after); err != nil {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	picture, frame, err := p.picture(ctx)
	if err != nil {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	w.Header().Set("Content-Type", "image/jpeg")
	w.Header().Set("Vindu-Frame", strconv.FormatUint(frame, 10))
	_, _ = w.Write(picture)
}

// picture returns the screen as a JPEG, made at most once for all who watch and not more often than frameGap.
func (p *preview) picture(ctx context.Context) ([]byte, uint64, error) {
	p.encoding.Lock()
	defer p.encoding.Unlock()
	if wait := frameGap - time.Since(p.encoded); wait > 0 {
		select {
		case <-ctx.Done():
			return nil, 0, ctx.Err()
		case <-time.After(wait):
		}
	}
	if p.img == nil {
		w, h := p.memory.Size()
		p.img = image.NewRGBA(image.Rect(0, 0, w, h))
	}
	frame := p.memory.SnapshotInto(p.img)
	if frame != p.frame || p.jpeg == nil {
		p.buf.Reset()
		if err := jpeg.Encode(&p.buf, p.img, &jpeg.Options{Quality: 80}); err != nil {
			return nil, 0, err
		}
		p.jpeg, p.frame, p.encoded = bytes.Clone(p.buf.Bytes()), frame, time.Now()
	}
	return p.jpeg, p.frame, nil
}

func (p *preview) now() pageState {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.state
}

// stream sends the state, now and whenever it changes.
func (p *preview) stream(w http.ResponseWriter, r *http.Request) {
	control := http.NewResponseController(w)
	w.Header().Set("Content-Type", "text/event-stream")
	for {
		p.mu.Lock()
		state, changed := p.state, p.changed
		p.mu.Unlock()
		b, err := json.Marshal(state)
		if err != nil {
			return
		}
		_ = control.SetWriteDeadline(time.Now().Add(10 * time.Second))
		if _, err := fmt.Fprintf(w, "data: %s\n\n", b); err != nil || control.Flush() != nil {
			return
		}
		select {
		case <-r.Context().Done():
			return
		case <-changed:
		case <-time.After(30 * time.Second): // finds out whether anybody is there
		}
	}
}

// sound sends what the loudspeaker plays: 48 kHz, mono, 16-bit little-endian, without end. Who is slow loses sound.
func (p *preview) sound(w http.ResponseWriter, r *http.Request) {
	frames := make(chan []byte, 50)
	p.mu.Lock()
	if len(p.sounds) >= 8 {
		p.mu.Unlock()
		http.Error(w, "too many listen", http.StatusServiceUnavailable)
		return
	}
	p.sounds[frames] = true
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		delete(p.sounds, frames)
		p.mu.Unlock()
	}()
	control := http.NewResponseController(w)
	w.Header().Set("Content-Type", "application/octet-stream")
	if control.Flush() != nil {
		return
	}
	for {
		select {
		case <-r.Context().Done():
			return
		case f := <-frames:
			_ = control.SetWriteDeadline(time.Now().Add(10 * time.Second))
			if _, err := w.Write(f); err != nil || control.Flush() != nil {
				return
			}
		}
	}
}

// hear takes what is played. It never blocks.
func (p *preview) hear(frame []int16) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.sounds) == 0 {
		return
	}
	b := make([]byte, 0, 2*len(frame))
	for _, s := range frame {
		b = binary.LittleEndian.AppendUint16(b, uint16(s))
	}
	for c := range p.sounds {
		select {
		case c <- b:
		default:
		}
	}
}

// show implements agent.Parts.Shown.
func (p *preview) show(s screen.Scene) {
	if p == nil {
		return
	}
	state := pageState{Text: p.lang.Say(s), HangUp: s.Button || s.Kind == screen.Ringing || s.Kind == screen.InCall, Press: s.Kind == screen.Pressing, Notes: []string{}}
	d := p.devices.look()
	if d.Camera.Kind == "synthetic" {
		state.Notes = append(state.Notes, p.texts["test_picture"])
	}
	if d.Microphone.Kind == "synthetic" {
		state.Notes = append(state.Notes, p.texts["test_sound"])
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if state.Text == p.state.Text && state.HangUp == p.state.HangUp && state.Press == p.state.Press && slices.Equal(state.Notes, p.state.Notes) {
		return
	}
	p.state = state
	close(p.changed)
	p.changed = make(chan struct{})
}
