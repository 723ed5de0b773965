package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vindu/protocol"
	"vindu/provisioning/laptop"
	"vindu/provisioning/session"
	"vindu/scripts/stack"
)

// pty returns the laptop's end of a serial line, and the path of the terminal's.
func pty(t *testing.T) (*os.File, string) {
	t.Helper()
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "/dev/ptmx")
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	return f, fmt.Sprintf("/dev/pts/%d", n)
}

// TestCheck has a technician check a terminal: the programs as they are, a laptop at a serial line, a mandate of the clinic, a press of
// the button, the relay over UDP and TLS, and a test call of the clinic's robot with the terminal's own codecs.
func TestCheck(t *testing.T) {
	ctx, stop := context.WithTimeout(t.Context(), 4*time.Minute)
	defer stop()
	dir := t.TempDir()
	if err := stack.Build(ctx, projectRoot(t), filepath.Join(dir, "bin"), true); err != nil {
		t.Fatal(err)
	}
	port, name := pty(t)
	s, err := stack.New(stack.Options{
		Dir: filepath.Join(dir, "state"), Bin: filepath.Join(dir, "bin"), Ring: 10 * time.Second, Language: "en", Preview: true, Says: t.Output(),
		Agent: map[string]string{"serial.port": strconv.Quote(name), "devices.button": `"none"`},
	})
	if err != nil {
		t.Fatal(err)
	}
	var checks []protocol.Check
	done := errors.New("done")
	err = s.Run(ctx, func(ctx context.Context) error {
		if checks, err = check(ctx, t, s, dir, port); err != nil {
			return err
		}
		return done
	})
	if !errors.Is(err, done) {
		log, _ := os.ReadFile(filepath.Join(dir, "state", "log", "terminal.log"))
		t.Fatalf("%v\n%s", err, log)
	}
	// The stack has a test picture and test sound, no panel and no Wi-Fi, and nobody who compares the code on its screen; everything else is there.
	want := map[string]protocol.Code{
		"screen": protocol.ScreenUnseen,
		"panel":  protocol.PanelMissing, "camera.brightness": protocol.CaptureTestPicture, "camera.sharpness": protocol.CaptureTestPicture,
		"camera.motion": protocol.CaptureTestPicture, "microphone.level": protocol.CaptureTestSound, "loudspeaker.chirp": protocol.CaptureTestSound,
		"wifi.signal": protocol.IPWired,
	}
	if len(checks) != 16 {
		t.Errorf("%d checks, want 16", len(checks))
	}
	for _, c := range checks {
		t.Logf("%-18s %-8s %-28s %s", c.Name, c.State, c.Figure, c.Code)
		state := protocol.CheckPassed
		if want[c.Name] != "" {
			state = protocol.CheckSkipped
		}
		if c.State != state || c.Code != want[c.Name] {
			t.Errorf("%s %s %s, want %s %s", c.Name, c.State, c.Code, state, want[c.Name])
		}
	}
}

// check is the technician.
func check(ctx context.Context, t *testing.T, s *stack.Stack, dir string, port *os.File) ([]protocol.Check, error) {
	l, err := laptop.Open(filepath.Join(dir, "laptop"))
	if err != nil {
		return nil, err
	}
	text, err := s.Mandate(ctx, "Bo Dahl", l.Text())
	if err != nil {
		return nil, err
	}
	if _, err := l.KeepMandate(text, time.Now()); err != nil {
		return nil, err
	}
	mandate, _, err := l.Mandate(time.Now())
	if err != nil {
		return nil, err
	}
	c := session.NewClient(port, session.Technician{Key: l.Key(), Mandate: mandate, Now: time.Now}, slog.New(slog.DiscardHandler))
	own, stop := context.WithCancel(ctx)
	var group sync.WaitGroup
	defer group.Wait()
	defer stop()
	group.Go(func() {
		if err := c.Run(own); err != nil {
			t.Error(err)
		}
	})
	if err := c.Open(ctx); err != nil {
		return nil, fmt.Errorf("open: %w", err)
	}
	if _, err := c.Check(ctx, session.CheckOptions{}, nil); protocol.CodeOf(err) != protocol.AuthButton {
		return nil, fmt.Errorf("checked without a press of the button: %w", err)
	}
	asked, agreed := context.WithCancel(own)
	var pressing sync.WaitGroup
	err = c.Authorise(ctx, func() { pressing.Go(func() { press(asked, t, s.Terminal) }) })
	agreed()
	pressing.Wait()
	if err != nil {
		return nil, fmt.Errorf("authorise: %w", err)
	}
	return c.Check(ctx, session.CheckOptions{}, func(p *session.CheckStatus) { t.Logf("%d of %d: %s", len(p.Done), p.Total, p.Current) })
}

// press presses the terminal's button, on its page, until it was noticed.
func press(ctx context.Context, t *testing.T, page string) {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(page, "/")+"/press", nil)
		if err != nil {
			t.Error(err)
			return
		}
		response, err := http.DefaultClient.Do(r)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			t.Error(err)
			return
		}
		response.Body.Close()
		if response.StatusCode >= 300 {
			t.Errorf("press: %s", response.Status)
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
