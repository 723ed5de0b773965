package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/chromedp/chromedp"

	"vindu/scripts/split"
)

// afterAnswer is how long it takes from the terminal's decision to answer until the caller's page shows its first picture. It has rung for two seconds then, so
// that everything is ready that may be; camera and microphone are closed. That the camera opens is in it, and is shown apart.
func afterAnswer(ctx context.Context, dir string) []row {
	first := row{Name: "answer to first picture shown, loopback, after ringing 2 s", Unit: "ms", Goal: "≤ 120"}
	camera := row{Name: "of it, opening the (test) camera", Unit: "ms"}
	z := sizes[0]
	firsts, opens, err := answered(ctx, filepath.Join(dir, "answer"), z, 9)
	if err != nil {
		return []row{first.failed(err), camera.failed(err)}
	}
	first.Value, camera.Value = median(firsts), median(opens)
	first.Holds = first.Value <= 120
	return []row{first, camera}
}

// stagesOf says where the terminal's processor time goes in a call of size z, which is profiled and counts nowhere else.
func stagesOf(ctx context.Context, dir string, z size, d time.Duration) row {
	r := row{Name: "stages of the terminal's processor time, " + z.String(), Unit: "CPU-s/s"}
	file := filepath.Join(dir, "call.pprof")
	t, err := startTerminal(ctx, dir, z, 0, "-profile", file)
	if err != nil {
		return r.failed(err)
	}
	m, err := t.call(ctx, d)
	if err = errors.Join(err, t.stop()); err != nil {
		return r.failed(err)
	}
	shares, err := split.Stages(ctx, file)
	if err != nil {
		return r.failed(err)
	}
	r.Value, r.Why = m.CPU, split.String(shares)
	return r
}

// answered makes n calls and returns milliseconds. The terminal's times are those of its log, the page's are those of the same machine's clock.
func answered(ctx context.Context, dir string, z size, n int) (firsts, opens []float64, err error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	t, err := startTerminal(ctx, dir, z, 2*time.Second)
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, t.stop()) }()
	tab, done, err := t.page(ctx)
	if err != nil {
		return nil, nil, err
	}
	defer done()
	time.Sleep(2 * time.Second) // the page makes its offer ready
	for range n {
		shown, err := chromedp.Run(tab, chromedp.Evaluate[float64]("benchAnswered()", chromedp.EvalAwaitPromise))
		if err != nil {
			return nil, nil, fmt.Errorf("call the terminal: %w", err)
		}
		at, err := lastOf(filepath.Join(dir, "log", "terminal.log"), "call answered", "camera open")
		if err != nil {
			return nil, nil, err
		}
		firsts = append(firsts, shown-float64(at[0].UnixMicro())/1000)
		opens = append(opens, float64(at[1].Sub(at[0]).Microseconds())/1000)
		time.Sleep(time.Second)
		if err := chromedp.Do(tab, end); err != nil {
			return nil, nil, fmt.Errorf("hang up: %w", err)
		}
		time.Sleep(time.Second)
	}
	return firsts, opens, nil
}

// lastOf returns when a program's log had each message last.
func lastOf(log string, messages ...string) ([]time.Time, error) {
	f, err := os.Open(log)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	at := make([]time.Time, len(messages))
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var l struct {
			Time time.Time `json:"time"`
			Msg  string    `json:"msg"`
		}
		if json.Unmarshal(lines.Bytes(), &l) != nil {
			continue // what a library wrote
		}
		for i, m := range messages {
			if l.Msg == m {
				at[i] = l.Time
			}
		}
	}
	for i, a := range at {
		if a.IsZero() {
			return nil, fmt.Errorf("%s has no %q", log, messages[i])
		}
	}
	return at, nil
}
