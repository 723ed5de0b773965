// Command demo shows vindu on one machine: a clinic, a terminal that is set up by the same enrolment as a real one, and two
// addresses to open; for a technician a third one, and a serial cable to the terminal. make demo runs it.
//
// DEMO_DIR is the folder of its state (.demo), DEMO_RING how long the terminal rings (5s), DEMO_NOTICE for how long the
// home is told before its first call what the terminal is (40s), DEMO_LANGUAGE what it speaks (en, nb or nn), DEMO_PANEL a panel for
// the terminal, such as vindu-panel's (none). Ctrl-C stops everything; the next start finds its state again.
package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	scene "vindu/device/screen"
	"vindu/scripts/stack"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func env(name, otherwise string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return otherwise
}

func run(ctx context.Context) error {
	ring, err := time.ParseDuration(env("DEMO_RING", "5s"))
	if err != nil || ring < 0 || ring > 2*time.Minute {
		return fmt.Errorf("DEMO_RING=%q has to be a duration between 0s and 2m, such as 5s", os.Getenv("DEMO_RING"))
	}
	notice, err := time.ParseDuration(env("DEMO_NOTICE", "40s"))
	if err != nil || notice < 0 || notice > 90*time.Second {
		return fmt.Errorf("DEMO_NOTICE=%q has to be a duration between 0s and 90s, such as 40s", os.Getenv("DEMO_NOTICE"))
	}
	language := env("DEMO_LANGUAGE", "en")
	if !slices.Contains(scene.Languages(), language) {
		return fmt.Errorf("DEMO_LANGUAGE=%q has to be one of %s", language, strings.Join(scene.Languages(), ", "))
	}
	dir := env("DEMO_DIR", ".demo")
	bin := filepath.Join(dir, "bin")
	line, err := newCable()
	if err != nil {
		return err
	}
	var carrying sync.WaitGroup
	carrying.Go(line.run)
	defer carrying.Wait()
	defer line.close() // nothing is lost by it
	settings := map[string]string{"serial.port": strconv.Quote(line.terminal)}
	if port := os.Getenv("DEMO_PANEL"); port != "" {
		settings["panel.port"] = strconv.Quote(port)
	}
	s, err := stack.New(stack.Options{Dir: dir, Bin: bin, Ring: ring, Notice: notice, Language: language, Preview: true, Says: os.Stdout, Agent: settings})
	if err != nil {
		return err
	}
	// Before the build, which takes minutes the first time and would exchange the programs of a demo that runs.
	if err := s.Claim(); err != nil {
		return err
	}
	defer s.Release()
	if err := os.MkdirAll(bin, 0o700); err != nil {
		return fmt.Errorf("make the demo's folder: %w", err)
	}
	fmt.Println("building … (minutes the first time, seconds later)")
	if err := stack.Build(ctx, ".", bin, true); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	err = s.Run(ctx, func(ctx context.Context) error {
		technician, err := s.TechnicianLink(ctx)
		if err != nil {
			return err
		}
		operator, err := s.OperatorLink(ctx)
		if err != nil {
			return err
		}
		end := filepath.Join(s.Dir, "cable")
		if err := os.Remove(end); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := os.Symlink(line.laptop, end); err != nil {
			return fmt.Errorf("name the serial cable: %w", err)
		}
		fmt.Printf("\nstate and logs: %s\n", s.Dir)
		fmt.Printf("clinician: %s\n", s.Clinician)
		fmt.Printf("terminal: %s\n", s.Terminal)
		fmt.Printf("operator: %s\n", operator)
		fmt.Printf("technician: %s\n", technician)
		fmt.Println("\nOpen the first, make a passkey, open the second, and click Ring beside the home. The addresses of people work once, one person to a browser; Ctrl-C stops everything.")
		fmt.Printf("To set the terminal up as a technician does, at its serial cable:\n  go run ./cmd/vindu-provision --folder %s --port %s\n",
			filepath.Join(dir, "laptop"), filepath.Join(dir, "cable"))
		return nil
	})
	if ctx.Err() != nil && (err == nil || errors.Is(err, context.Canceled)) {
		fmt.Println("\nstopped; the next start finds its state again")
		return nil
	}
	return err
}
