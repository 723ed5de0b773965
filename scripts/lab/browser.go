package lab

import (
	"context"
	_ "embed"
	"encoding/binary"
	"errors"
	"fmt"
	"image/color"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"

	"vindu/clinic/web/webtest"
)

//go:embed probe.js
var probeScript string

// CallerTone is what Chromium's microphone hears, in Hz; a terminal is given another, so that no end hears itself.
const (
	CallerTone   = 1000
	TerminalTone = 700
)

// Browser is a headless Chromium in a lab's network, with [CallerVideo] for a camera and [Beeps] of CallerTone for a
// microphone.
type Browser struct {
	ctx context.Context

	mu      sync.Mutex
	console []string
}

// NewBrowser starts a browser in a network, nil for this machine's own, with flags beyond the usual, which the test's end ends. It ends the test on failure.
func NewBrowser(t testing.TB, network *Net, flags ...string) *Browser {
	t.Helper()
	directory := t.TempDir()
	video, sound := filepath.Join(directory, "camera.y4m"), filepath.Join(directory, "microphone.wav")
	if err := errors.Join(os.WriteFile(video, CallerVideo(), 0o600), os.WriteFile(sound, EncodeWAV(Beeps(CallerTone, 10)), 0o600)); err != nil {
		t.Fatal(err)
	}
	// Chromium has a socket below it: t.TempDir's path may be too long for one.
	temporary, err := os.MkdirTemp("", "chromium-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(temporary) })
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.Env("TMPDIR="+temporary),
		chromedp.ExecPath("chromium"),
		chromedp.ModifyCmdFunc(func(command *exec.Cmd) { network.Enter(command) }),
		chromedp.NoSandbox, // root has none
		chromedp.DisableGPU,
		chromedp.WindowSize(1440, 900),
		chromedp.Flag("disable-quic", true),
		chromedp.Flag("lang", "en-US"),
		chromedp.Flag("disable-component-update", true),
		chromedp.Flag("ignore-certificate-errors", true), // the clinic's certificate is of its own making
		chromedp.Flag("autoplay-policy", "no-user-gesture-required"),
		chromedp.Flag("use-fake-ui-for-media-stream", true),
		chromedp.Flag("use-fake-device-for-media-stream", true),
		chromedp.Flag("use-file-for-fake-video-capture", video),
		chromedp.Flag("use-file-for-fake-audio-capture", sound),
	)
	for _, flag := range flags {
		options = append(options, chromedp.Flag(flag, true))
	}
	b := &Browser{}
	allocator, stop := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, cancel := chromedp.NewContext(allocator, chromedp.WithBrowserOption(chromedp.WithConsolef(func(format string, arguments ...any) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.console = append(b.console, fmt.Sprintf(format, arguments...))
	})))
	b.ctx = ctx
	t.Cleanup(func() {
		closing, done := context.WithTimeout(ctx, 10*time.Second)
		defer done()
		if err := chromedp.Cancel(closing); err != nil { // asks it to close: it then removes what it made
			t.Logf("close Chromium: %v", err)
		}
		cancel()
		stop() // waits for the process
		if t.Failed() {
			b.mu.Lock()
			defer b.mu.Unlock()
			t.Logf("the browser's console:\n%s", strings.Join(b.console, "\n"))
		}
	})
	// The first call starts the browser, and its context is the browser's life: no limit.
	_, err = chromedp.Call(ctx, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: probeScript})
	if err != nil {
		t.Fatalf("start Chromium: %v", err)
	}
	return b
}

// Do does things in the page, within the time given.
func (b *Browser) Do(limit time.Duration, steps ...chromedp.Action[chromedp.Void]) error {
	ctx, cancel := context.WithTimeout(b.ctx, limit)
	defer cancel()
	return chromedp.Do(ctx, steps...)
}

// MakePasskey has the person at the browser make a passkey under an invitation, and so sign in.
func (b *Browser) MakePasskey(limit time.Duration, invitation string) error {
	ctx, cancel := context.WithTimeout(b.ctx, limit)
	defer cancel()
	_, err := webtest.MakePasskey(ctx, invitation, "This computer")
	return err
}

// Evaluate returns the value of an expression in the page; a promise is awaited.
func Evaluate[T any](b *Browser, limit time.Duration, expression string) (T, error) {
	ctx, cancel := context.WithTimeout(b.ctx, limit)
	defer cancel()
	value, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		err = fmt.Errorf("in the page: %s: %w", expression, err)
	}
	return value, err
}

// WaitFor waits until an expression is true in the page, whatever is navigated to meanwhile.
func (b *Browser) WaitFor(limit time.Duration, expression string) error {
	for deadline := time.Now().Add(limit); ; {
		truth, err := Evaluate[bool](b, limit, "Boolean("+expression+")")
		if err == nil && truth {
			return nil
		}
		if time.Now().After(deadline) {
			return errors.Join(fmt.Errorf("after %s this is not so in the page: %s", limit, expression), err)
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-b.ctx.Done():
			return fmt.Errorf("the browser ended: %w", context.Cause(b.ctx))
		}
	}
}

// Frame is one picture of the far end as the page showed it.
type Frame struct {
	At            time.Duration // since watching began
	Width, Height int
	Row           []color.RGBA // three quarters down
}

// Watched is what the page showed and played of the far end.
type Watched struct {
	For    time.Duration
	Frames []Frame
	Sound  []int16 // at SampleRate
}

// kept is what probe.js returns.
type kept struct {
	EndMs  float64 `json:"endMs"`
	Frames []struct {
		Ms     float64 `json:"ms"`
		Width  int     `json:"width"`
		Height int     `json:"height"`
		Row    []byte  `json:"row"`
	} `json:"frames"`
	Sound []byte `json:"sound"`
}

// WaitForFarEnd waits until the page shows the far end's picture.
func (b *Browser) WaitForFarEnd(limit time.Duration) error {
	return b.WaitFor(limit, "window.vinduProbe.shows()")
}

// Watch begins to watch and listen; the function that it returns ends that.
func (b *Browser) Watch() (end func() (Watched, error), err error) {
	began, err := Evaluate[float64](b, 10*time.Second, "window.vinduProbe.begin()")
	if err != nil {
		return nil, fmt.Errorf("begin to watch the page: %w", err)
	}
	return func() (Watched, error) {
		kept, err := Evaluate[kept](b, 30*time.Second, "window.vinduProbe.end()")
		if err != nil {
			return Watched{}, fmt.Errorf("end watching the page: %w", err)
		}
		since := func(ms float64) time.Duration { return time.Duration((ms - began) * float64(time.Millisecond)) }
		watched := Watched{For: since(kept.EndMs)}
		for _, frame := range kept.Frames {
			row := make([]color.RGBA, len(frame.Row)/3)
			for i := range row {
				row[i] = color.RGBA{frame.Row[3*i], frame.Row[3*i+1], frame.Row[3*i+2], 255}
			}
			watched.Frames = append(watched.Frames, Frame{At: since(frame.Ms), Width: frame.Width, Height: frame.Height, Row: row})
		}
		for i := 0; i+1 < len(kept.Sound); i += 2 {
			watched.Sound = append(watched.Sound, int16(binary.LittleEndian.Uint16(kept.Sound[i:])))
		}
		return watched, nil
	}, nil
}

// Stats are numbers of the page's newest connection, such as "in.video.framesDecoded" and "transport.srtpCipher".
func (b *Browser) Stats() (map[string]string, error) {
	return Evaluate[map[string]string](b, 10*time.Second, "window.vinduProbe.stats()")
}

// Screenshot keeps a picture of the page.
func (b *Browser) Screenshot(name string) error {
	ctx, cancel := context.WithTimeout(b.ctx, 20*time.Second)
	defer cancel()
	data, err := chromedp.Run(ctx, chromedp.CaptureScreenshot())
	if err != nil {
		return fmt.Errorf("screenshot: %w", err)
	}
	return os.WriteFile(name, data, 0o644)
}
