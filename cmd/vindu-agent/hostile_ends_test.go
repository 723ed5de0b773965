package main

import (
	"context"
	"errors"
	"fmt"
	"image"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"

	"vindu/clinic/web"
	"vindu/device/agent"
	"vindu/device/screen"
	"vindu/media/camera"
	"vindu/media/sound"
)

// watch counts what is done with a device: by that alone a test says whether anybody could see or hear.
type deviceWatch struct{ opened, closed, read atomic.Int64 }

// capture are the terminal's camera and microphone, watched.
type capture struct {
	camera, microphone deviceWatch
	trouble            atomic.Pointer[trouble] // nil: they are well
	played             *loudspeaker            // nil: there is no loudspeaker
}

// trouble is what is wrong with the devices.
type trouble struct {
	noCamera, noMicrophone, noSpeaker            bool
	openCamera, readCamera, openSound, readSound error
}

// ails returns what is wrong now.
func (c *capture) ails() trouble {
	if t := c.trouble.Load(); t != nil {
		return *t
	}
	return trouble{}
}

// taken is what was done with both so far.
func (c *capture) taken() [4]int64 {
	return [4]int64{c.camera.opened.Load(), c.camera.read.Load(), c.microphone.opened.Load(), c.microphone.read.Load()}
}

// shut reports whether nothing is open.
func (c *capture) shut() bool {
	return c.camera.opened.Load() == c.camera.closed.Load() && c.microphone.opened.Load() == c.microphone.closed.Load()
}

func (c *capture) drivers() *drivers {
	tap := c.played.hear
	if c.played == nil {
		tap = nil
	}
	return &drivers{
		cameras: func() []camera.Info {
			if c.ails().noCamera {
				return nil
			}
			return []camera.Info{{Path: "/dev/vindu-watched", Name: "watched"}}
		},
		openCamera: func(_ context.Context, cfg camera.Config) (camera.Source, error) {
			if err := c.ails().openCamera; err != nil {
				return nil, err
			}
			c.camera.opened.Add(1)
			return &watchedCamera{Source: camera.TestPicture(cfg), w: &c.camera, ails: c.ails}, nil
		},
		cards: func() (capture, playback []sound.Card) {
			card := []sound.Card{{Device: "watched", Name: "watched"}}
			capture, playback = card, card
			if c.ails().noMicrophone {
				capture = nil
			}
			if c.ails().noSpeaker {
				playback = nil
			}
			return capture, playback
		},
		openSound: func(context.Context, sound.Config) (sound.Device, error) {
			if err := c.ails().openSound; err != nil {
				return nil, err
			}
			c.microphone.opened.Add(1)
			c.played.opened()
			return &watchedSound{Device: sound.TestSound(tap), w: &c.microphone, ails: c.ails}, nil
		},
		openPlayer: func(_ context.Context, cfg sound.Config) (sound.Player, error) {
			if cfg.Capture != "none" {
				return nil, errors.New("a player that captures")
			}
			c.played.opened()
			return sound.TestSound(tap), nil
		},
	}
}

type watchedCamera struct {
	camera.Source
	w    *deviceWatch
	ails func() trouble
	once sync.Once
}

func (c *watchedCamera) Read() (image.Image, func(), error) {
	if err := c.ails().readCamera; err != nil {
		return nil, nil, err
	}
	img, release, err := c.Source.Read()
	if err == nil {
		c.w.read.Add(1)
	}
	return img, release, err
}

func (c *watchedCamera) Close() error {
	err := c.Source.Close()
	c.once.Do(func() { c.w.closed.Add(1) })
	return err
}

type watchedSound struct {
	sound.Device
	w    *deviceWatch
	ails func() trouble
	once sync.Once
}

func (s *watchedSound) Read(frame []int16) error {
	if err := s.ails().readSound; err != nil {
		return err
	}
	err := s.Device.Read(frame)
	if err == nil {
		s.w.read.Add(1)
	}
	return err
}

func (s *watchedSound) Close() error {
	err := s.Device.Close()
	s.once.Do(func() { s.w.closed.Add(1) })
	return err
}

// realTerminal is the program that ships, with watched devices.
type realTerminal struct {
	t       *testing.T
	cfg     agent.Config
	log     *slog.Logger
	capture capture

	mu    sync.Mutex
	scene screen.Scene
	shown map[screen.Kind]int // how often each scene was shown
	stop  context.CancelFunc
	done  chan error
}

func newRealTerminal(t *testing.T, voucher string, log *slog.Logger) *realTerminal {
	t.Helper()
	cfg := agent.Default()
	cfg.State, cfg.Language, cfg.Identity.TPM = t.TempDir()+"/state", "en", "none"
	cfg.Devices.Display, cfg.Devices.Button = "memory", "none"
	cfg.Devices.Camera, cfg.Devices.Microphone, cfg.Devices.Speaker = "auto", "auto", "none"
	cfg.Picture = agent.Picture{Width: 160, Height: 120, FPS: 10, Bitrate: 200_000}
	cfg.Call.Ring, cfg.Call.Least = 0, 0
	cfg.Network.Loopback = true
	cfg.Serial.Port, cfg.Preview.Listen, cfg.Network.WiFi = "", "", "none"
	x := &realTerminal{t: t, cfg: cfg, log: log}
	if err := enrol(t.Context(), cfg, "-", false, strings.NewReader(voucher), io.Discard, log); err != nil {
		t.Fatal(err)
	}
	return x
}

func (x *realTerminal) start() {
	ctx, stop := context.WithCancel(context.Background())
	x.stop, x.done = stop, make(chan error, 1)
	x.mu.Lock()
	x.scene = screen.Scene{}
	x.mu.Unlock()
	go func() {
		x.done <- runWith(ctx, x.cfg, x.capture.drivers(), func(s screen.Scene) {
			x.mu.Lock()
			defer x.mu.Unlock()
			x.scene = s
			if x.shown == nil {
				x.shown = map[screen.Kind]int{}
			}
			x.shown[s.Kind]++
		}, x.log)
	}()
}

func (x *realTerminal) end() {
	x.t.Helper()
	x.stop()
	if err := <-x.done; err != nil {
		x.t.Errorf("the terminal: %v", err)
	}
}

// shows is what is on the terminal's screen now.
func (x *realTerminal) shows() screen.Scene {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.scene
}

// counting is put into the page: what reaches its connections and what leaves them, told when they are closed.
const counting = `(() => {
	const Native = window.RTCPeerConnection;
	window.counted = {received: 0, decoded: 0, sent: 0, pending: 0};
	window.RTCPeerConnection = class extends Native {
		constructor(...a) {
			super(...a);
			this.addEventListener("connectionstatechange", () => { if (this.connectionState === "connected") window.counted.live = this; });
		}
		close() {
			if (this.signalingState !== "closed") {
				window.counted.pending++;
				this.getStats().then((all) => all.forEach((s) => {
					if (s.type === "inbound-rtp") { window.counted.received += s.packetsReceived ?? 0; window.counted.decoded += s.framesDecoded ?? 0; }
					if (s.type === "outbound-rtp") window.counted.sent += s.packetsSent ?? 0;
				})).catch(() => undefined).finally(() => window.counted.pending--);
			}
			super.close();
		}
	};
})()`

// clinicianPage is the page that ships, in a real browser, with the clinician's passkey.
type clinicianPage struct {
	t   *testing.T
	ctx context.Context
	c   *clinicServer
}

func newClinicianPage(t *testing.T, c *clinicServer, flags ...chromedp.ExecAllocatorOption) *clinicianPage {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		t.Fatalf("the bench needs Chromium (scripts/setup test): %v", err)
	}
	opts := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true),
		chromedp.Flag("use-fake-device-for-media-stream", true), chromedp.Flag("use-fake-ui-for-media-stream", true), chromedp.Flag("allow-loopback-in-peer-connection", true),
		chromedp.Flag("host-resolver-rules", "MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1"),
	)
	allocator, stopAllocator := chromedp.NewExecAllocator(context.Background(), append(opts, flags...)...)
	ctx, stop := chromedp.NewContext(allocator)
	t.Cleanup(func() {
		if t.Failed() {
			if shot, err := chromedp.Run(ctx, chromedp.FullScreenshot(90)); err == nil {
				name := os.TempDir() + "/vindu-hostile.png"
				if os.WriteFile(name, shot, 0o600) == nil {
					t.Logf("screenshot: %s", name)
				}
			}
		}
		if err := chromedp.Cancel(ctx); err != nil {
			t.Error(err)
		}
		stop()
		stopAllocator()
	})
	p := &clinicianPage{t, ctx, c}
	if err := chromedp.Do(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := chromedp.Call(ctx, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: counting}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.passkey.Install(ctx, true); err != nil {
		t.Fatal(err)
	}
	p.signIn()
	return p
}

func (p *clinicianPage) signIn() {
	p.t.Helper()
	link, err := p.c.sessions.Link(p.t.Context(), "test", p.c.person.ID, web.LinkLife)
	if err != nil {
		p.t.Fatal(err)
	}
	p.open(p.c.site.Origins[0] + link)
}

// open goes to an address and waits until its page is ready.
func (p *clinicianPage) open(address string) {
	p.t.Helper()
	if _, err := chromedp.Call(p.ctx, page.Navigate, page.NavigateParams{URL: address}); err != nil {
		p.t.Fatal(err)
	}
	p.until(`document.body?.dataset.ready === "yes" && document.querySelector("[data-home]")`)
}

// reload has the page forget all it knows.
func (p *clinicianPage) reload() { p.open(p.c.site.Origins[0] + "/") }

func evaluate[T any](p *clinicianPage, expression string) T {
	p.t.Helper()
	v, err := chromedp.Run(p.ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		p.t.Fatalf("%v\nin %.300s", err, expression)
	}
	return v
}

// until waits until an expression is true.
func (p *clinicianPage) until(expression string) {
	p.t.Helper()
	if !eventually(func() bool {
		v, err := chromedp.Run(p.ctx, chromedp.Evaluate[bool]("Boolean("+expression+")"))
		return err == nil && v
	}) {
		text, _ := chromedp.Run(p.ctx, chromedp.Evaluate[string](`document.body.innerText`))
		p.t.Fatalf("in the page is not within a while: %s\nit says:\n%s", expression, text)
	}
}

// ring presses the button of the home, and returns the name of the call.
func (p *clinicianPage) ring() {
	p.t.Helper()
	button := fmt.Sprintf(`document.querySelector("[data-home='%s'] button.ring")`, p.c.home.ID)
	p.until(button + ` && !` + button + `.disabled`)
	evaluate[bool](p, button+`.click(), true`)
}

func (p *clinicianPage) hangUp() {
	p.t.Helper()
	evaluate[bool](p, `document.getElementById("hang-up").click(), true`)
}

// phase waits for a phase of the call.
func (p *clinicianPage) phase(phase string) {
	p.t.Helper()
	p.until(fmt.Sprintf(`document.getElementById("call").dataset.phase === %q`, phase))
}

// status is what the page says about the call.
func (p *clinicianPage) status() string {
	p.t.Helper()
	return evaluate[string](p, `document.getElementById("status").textContent`)
}

// code is the six digits that the page shows.
func (p *clinicianPage) code() string {
	p.t.Helper()
	return evaluate[string](p, `(document.getElementById("call-code").textContent.match(/[0-9]{3} [0-9]{3}/) ?? [""])[0]`)
}

// counted is what has reached the page's connections and what has left them, in packets, of those that are closed.
func (p *clinicianPage) counted() (received, sent int) {
	p.t.Helper()
	p.until(`window.counted.pending === 0`)
	n := evaluate[[]int](p, `[window.counted.received + window.counted.decoded, window.counted.sent]`)
	return n[0], n[1]
}

// forget has counted begin anew.
func (p *clinicianPage) forget() {
	p.t.Helper()
	p.until(`window.counted.pending === 0`)
	evaluate[bool](p, `Object.assign(window.counted, {received: 0, decoded: 0, sent: 0}), true`)
}

// says waits until the ended call's sentence is that of code.
func (p *clinicianPage) says(sentence string) {
	p.t.Helper()
	p.phase("ended")
	p.until(fmt.Sprintf(`document.getElementById("status").textContent.includes(%q)`, strings.TrimSuffix(sentence, ".")))
}
