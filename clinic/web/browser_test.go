package web

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
	"go.uber.org/goleak"
)

// One Chromium serves all tests; each gets a browser context, that is cookies and storage, of its own.
var chromium struct {
	once sync.Once
	ctx  context.Context
	stop func()
	err  error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if chromium.stop != nil {
		chromium.stop()
	}
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, "goroutines are left:", err)
			code = 1
		}
	}
	os.Exit(code)
}

func browser(t testing.TB) context.Context {
	t.Helper()
	chromium.once.Do(func() {
		path, err := exec.LookPath("chromium")
		if err != nil {
			chromium.err = fmt.Errorf("tests of the pages need Chromium (scripts/setup test): %w", err)
			return
		}
		opts := append(chromedp.DefaultExecAllocatorOptions[:],
			chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU,
			chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true),
			chromedp.Flag("use-fake-device-for-media-stream", true), chromedp.Flag("use-fake-ui-for-media-stream", true),
			// Only loopback is used: WebRTC would leave it out otherwise.
			chromedp.Flag("allow-loopback-in-peer-connection", true),
			chromedp.Flag("host-resolver-rules", "MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1"),
		)
		allocator, stopAllocator := chromedp.NewExecAllocator(context.Background(), opts...)
		ctx, stop := chromedp.NewContext(allocator)
		chromium.err = chromedp.Do(ctx)
		chromium.ctx, chromium.stop = ctx, func() {
			if err := chromedp.Cancel(ctx); err != nil {
				fmt.Fprintln(os.Stderr, "Chromium did not stop well:", err)
			}
			stop()
			stopAllocator()
		}
	})
	if chromium.err != nil {
		t.Fatal(chromium.err)
	}
	return chromium.ctx
}

// patience is for what has to happen; a test that passes never waits for it.
const patience = 30 * time.Second

// tab is a page in a browser.
type tab struct {
	t   testing.TB
	ctx context.Context

	mu       sync.Mutex
	problems []string
	forgiven []string
}

// newTab opens one with cookies of its own. before is run in every document before its scripts; what the console says in earnest, and every
// violation of the Content-Security-Policy, fails the test when it ends.
func newTab(t testing.TB, before ...string) *tab {
	t.Helper()
	return openTab(t, browser(t), true, before...)
}

// beside opens another tab with the same cookies.
func (b *tab) beside(before ...string) *tab { return openTab(b.t, b.ctx, false, before...) }

func openTab(t testing.TB, parent context.Context, fresh bool, before ...string) *tab {
	t.Helper()
	var opts []chromedp.ContextOption
	if fresh {
		opts = append(opts, chromedp.WithNewBrowserContext())
	}
	ctx, cancel := chromedp.NewContext(parent, opts...)
	ctx, stop := context.WithTimeout(ctx, 2*patience)
	b := &tab{t: t, ctx: ctx}
	t.Cleanup(func() {
		if t.Failed() {
			if shot, err := chromedp.Run(ctx, chromedp.FullScreenshot(90)); err == nil {
				path := strings.NewReplacer("/", "_", " ", "_").Replace(t.Name()) + ".png"
				if os.WriteFile(os.TempDir()+"/"+path, shot, 0o600) == nil {
					t.Logf("screenshot: %s/%s", os.TempDir(), path)
				}
			}
		}
		stop()
		cancel()
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, p := range b.problems {
			if containsAny(p, b.forgiven) {
				continue
			}
			t.Errorf("the browser complains: %s", p)
		}
	})
	messages := chromedp.Console(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for m, err := range messages {
			if err != nil {
				return
			}
			if m.Type == chromedp.ConsoleError || m.Type == chromedp.ConsoleException || m.Source == "security" {
				b.mu.Lock()
				b.problems = append(b.problems, fmt.Sprintf("%s %s (%s:%d)", m.Type, m.Text, m.URL, m.Line))
				b.mu.Unlock()
			}
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
	before = append([]string{`addEventListener("securitypolicyviolation", e => console.error("CSP: " + e.violatedDirective + " " + e.blockedURI))`}, before...)
	for _, source := range before {
		if _, err := chromedp.Call(ctx, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: source}); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

// forgive lets complaints pass that contain one of texts, because the test provokes them.
func (b *tab) forgive(texts ...string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.forgiven = append(b.forgiven, texts...)
}

func containsAny(s string, texts []string) bool {
	for _, t := range texts {
		if strings.Contains(s, t) {
			return true
		}
	}
	return false
}

func (b *tab) do(actions ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	if err := chromedp.Do(b.ctx, actions...); err != nil {
		b.t.Fatal(err)
	}
}

// eval evaluates an expression, which may be a promise.
func eval[T any](b *tab, expression string) T {
	b.t.Helper()
	v, err := chromedp.Run(b.ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		b.t.Fatalf("%v\nin %.300s", err, expression)
	}
	return v
}

// until waits until an expression is true, also across navigations.
func (b *tab) until(expression string) {
	b.t.Helper()
	deadline := time.Now().Add(patience)
	for {
		left := time.Until(deadline)
		_, err := chromedp.Run(b.ctx, chromedp.Poll[bool]("!!("+expression+")", chromedp.WithPollingTimeout(left), chromedp.WithPollingInterval(20*time.Millisecond)))
		if err == nil {
			return
		}
		if left > 0 && b.ctx.Err() == nil && containsAny(err.Error(), []string{"Cannot find context", "context was destroyed", "navigated"}) {
			continue // the document was exchanged meanwhile
		}
		text, _ := chromedp.Run(b.ctx, chromedp.Evaluate[string](`document.body.innerText`))
		b.t.Fatalf("waiting for %s: %v\nThe page says:\n%s", expression, err, text)
	}
}

// says waits until the state of the call, in words, contains text.
func (b *tab) says(text string) {
	b.t.Helper()
	b.until(fmt.Sprintf(`document.querySelector("[role=status]")?.textContent.includes(%q)`, text))
}

// button clicks the one enabled, visible button with this name; of several, the first below the element with text.
func (b *tab) button(name string) {
	b.t.Helper()
	b.until(fmt.Sprintf(`[...document.querySelectorAll("button")].some(b => b.textContent.trim() === %q && !b.disabled && b.checkVisibility())`, name))
	eval[*struct{}](b, fmt.Sprintf(`[...document.querySelectorAll("button")].find(b => b.textContent.trim() === %q && !b.disabled && b.checkVisibility()).click(), null`, name))
}
