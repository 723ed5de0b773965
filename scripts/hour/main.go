// Hour has a terminal and its clinic, both the real programs, live for an hour in which a browser calls every few minutes, and says what grew.
//
// The terminal has synthetic devices and keeps its state on a real file system. Every few seconds the kernel is asked for what both programs have of the machine;
// the terminal's own log says how many goroutines it has whenever it has come to rest. A call takes memory and gives it back: so what the terminal has is judged
// while it rests, by the line with the least squares through the last five sixths of the time. What it has written while it rests is taken for a day.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/chromedp/chromedp"
	"golang.org/x/sys/unix"

	"vindu/clinic/web/webtest"
	"vindu/scripts/stack"
)

// size is how much is tried.
type size struct {
	For, Every, Lasts time.Duration // Lasts: of a call
	Look              time.Duration // at the programs
	Rest              time.Duration // after a call, until the terminal is said to rest
}

var long = size{For: time.Hour, Every: 4 * time.Minute, Lasts: 20 * time.Second, Look: 10 * time.Second, Rest: 25 * time.Second}

func main() {
	z := long
	flag.DurationVar(&z.For, "for", z.For, "how long")
	flag.DurationVar(&z.Every, "every", z.Every, "how often the terminal is called")
	flag.DurationVar(&z.Lasts, "lasts", z.Lasts, "how long a call lasts")
	summary := flag.String("summary", "", "file that the summary is written to as well")
	in := flag.String("dir", "", "folder for state, on a real file system; default: a temporary one")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := func() error {
		dir := *in
		if dir == "" {
			var err error
			if dir, err = os.MkdirTemp("", "vindu-hour-"); err != nil {
				return err
			}
			defer os.RemoveAll(dir)
		}
		w, err := live(ctx, z, dir, os.Stderr)
		if err != nil {
			return err
		}
		wrong := w.judge(z)
		text := w.summary(z, wrong)
		fmt.Print(text)
		if *summary != "" {
			wrong = errors.Join(wrong, os.WriteFile(*summary, []byte(text), 0o644))
		}
		return wrong
	}()
	if err != nil {
		fmt.Fprintln(os.Stderr, "hour:", err)
		os.Exit(1)
	}
}

// live runs both programs for their time.
func live(ctx context.Context, z size, dir string, says io.Writer) (*watch, error) {
	// Chromium leaves files when it is killed.
	if err := os.MkdirAll(filepath.Join(dir, "tmp"), 0o700); err != nil {
		return nil, err
	}
	if err := os.Setenv("TMPDIR", filepath.Join(dir, "tmp")); err != nil {
		return nil, err
	}
	bin := filepath.Join(dir, "bin")
	if err := stack.Build(ctx, ".", bin, false); err != nil {
		return nil, err
	}
	s, err := stack.New(stack.Options{Dir: filepath.Join(dir, "state"), Bin: bin, Language: "en", Says: says, Measured: true, Agent: map[string]string{
		"log.level": `"debug"`, "picture.width": "320", "picture.height": "240", "picture.fps": "15", "devices.memory_size": `"1280x720"`,
	}})
	if err != nil {
		return nil, err
	}
	w := &watch{memoryDisk: onMemory(dir), log: filepath.Join(dir, "state", "log", "terminal.log")}
	err = s.Run(ctx, func(ctx context.Context) error {
		defer w.readLog()
		return w.run(ctx, z, s, says)
	})
	if errors.Is(err, errOver) {
		err = nil
	}
	return w, err
}

// errOver ends the stack when the time is over.
var errOver = errors.New("the time is over")

// onMemory tells whether a folder is on a disk that is none.
func onMemory(dir string) bool {
	var s unix.Statfs_t
	return unix.Statfs(dir, &s) == nil && s.Type == unix.TMPFS_MAGIC
}

// caller is put into the clinician's page before its own scripts.
const caller = `(() => {
	const until = async done => { while (!done()) await new Promise(next => setTimeout(next, 50)); };
	const devices = navigator.mediaDevices, ask = devices.getUserMedia.bind(devices);
	devices.getUserMedia = wanted => ask(wanted.video ? {...wanted, video: {width: {exact: 320}, height: {exact: 240}, frameRate: {ideal: 15}}} : wanted);
	window.hourCall = async () => {
		const button = document.querySelector("button.ring"), far = document.querySelector("#far");
		await until(() => !button.disabled);
		const first = new Promise(done => far.requestVideoFrameCallback(() => done(true)));
		button.click();
		return await first;
	};
	window.hourEnd = async () => {
		document.querySelector("#hang-up").click();
		await until(() => document.querySelector("#call").dataset.phase === "ended");
		return true;
	};
})()`

// call calls the terminal once, in a browser of its own.
func call(ctx context.Context, s *stack.Stack, lasts time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, lasts+2*time.Minute)
	defer cancel()
	invitation, err := s.Invitation(ctx, "-remove-passkeys")
	if err != nil {
		return err
	}
	tab, done := newBrowser(ctx)
	defer done()
	if err := prepare(tab); err != nil {
		return err
	}
	if _, err := webtest.MakePasskey(tab, invitation, "This computer"); err != nil {
		return fmt.Errorf("open the clinician's page: %w", err)
	}
	if _, err := chromedp.Run(tab, chromedp.Evaluate[bool]("hourCall()", chromedp.EvalAwaitPromise)); err != nil {
		return fmt.Errorf("call the terminal: %w", err)
	}
	if !pause(ctx, lasts) {
		return context.Cause(ctx)
	}
	if _, err := chromedp.Run(tab, chromedp.Evaluate[bool]("hourEnd()", chromedp.EvalAwaitPromise)); err != nil {
		return fmt.Errorf("hang up: %w", err)
	}
	return nil
}

// pause is false if ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
