// Command bench measures the terminal, and GStreamer's webrtcbin doing the same work in the same run. make bench runs it.
//
// It prints one table and writes bench.json: one object per row. Times are noisy on shared machines: it takes medians, and
// ratios pair by pair. Nothing here is asserted by a test. A row that could not be measured says why and does not hold.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"
)

// size is a kind of call: what each side sends at best.
type size struct{ width, height, fps, bitrate int }

func (z size) String() string { return fmt.Sprintf("%d×%d@%d", z.width, z.height, z.fps) }

var sizes = []size{{640, 480, 30, 1_000_000}, {1280, 720, 30, 2_000_000}}

// The screen of the terminal, and of its peer.
const screenWidth, screenHeight = 1280, 720

// settle is how long a call runs before it is measured: until the bitrate has been found.
const settle = 8 * time.Second

// row is one line of the table.
type row struct {
	Name      string   `json:"name"`
	Value     float64  `json:"value"`
	Unit      string   `json:"unit"`
	Peer      string   `json:"peer,omitempty"`
	PeerValue *float64 `json:"peer_value,omitempty"`
	Ratio     *float64 `json:"ratio,omitempty"`
	Goal      string   `json:"goal,omitempty"`
	Holds     bool     `json:"holds"`
	Why       string   `json:"why,omitempty"`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	rounds := flag.Int("rounds", 3, "how many times each side has each call")
	only := flag.String("only", "", "the only call to measure, such as 640×480@30 (default all)")
	onlySound := flag.Bool("sound", false, "measure only what is done to sound; writes no bench.json")
	onlyLine := flag.Bool("line", false, "measure only calls on bad lines; writes no bench.json")
	peer := flag.Bool("peer", true, "measure GStreamer too")
	duration := flag.Duration("for", 15*time.Second, "how long each call is measured")
	flag.Parse()
	if *onlySound || *onlyLine {
		rows := soundRows
		if *onlyLine {
			rows = func() []row { return lineRows(ctx) }
		}
		if err := table(rows()); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(1)
		}
		return
	}
	rows, err := run(ctx, *rounds, *duration, *only, *peer)
	if err == nil {
		err = report(rows)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, rounds int, d time.Duration, only string, withPeer bool) ([]row, error) {
	dir, err := os.MkdirTemp("", "vindu-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	if err := os.Setenv("TMPDIR", dir); err != nil { // Chromium leaves files when it is killed
		return nil, err
	}
	peer, peerErr := "", errors.New("not asked for")
	if withPeer {
		peer, peerErr = buildPeer(ctx, dir)
	}
	if peerErr != nil {
		fmt.Fprintln(os.Stderr, "bench: no peer to measure beside:", peerErr)
	}
	rows := []row{armSize(ctx)}
	for i, z := range sizes {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if only != "" && only != z.String() {
			continue
		}
		t, err := startTerminal(ctx, filepath.Join(dir, z.String()), z)
		if err != nil {
			return nil, err
		}
		if i == 0 {
			more, err := t.alone(ctx)
			if err != nil {
				return nil, err
			}
			rows = append(rows, more...)
		}
		var ours, theirs []measured
		for n := range rounds {
			m, err := repeat(z, func() (measured, error) { return t.call(ctx, d) })
			fmt.Fprintf(os.Stderr, "%s, round %d: vindu     %s\n", z, n+1, m)
			if err != nil {
				return nil, err
			}
			ours = append(ours, m)
			if peerErr != nil {
				continue
			}
			m, peerErr = repeat(z, func() (measured, error) { return callGStreamer(ctx, peer, z, d) })
			fmt.Fprintf(os.Stderr, "%s, round %d: GStreamer %s\n", z, n+1, m)
			if peerErr != nil {
				fmt.Fprintln(os.Stderr, "bench:", peerErr)
				continue
			}
			theirs = append(theirs, m)
		}
		if err := t.stop(); err != nil {
			return nil, err
		}
		rows = append(rows, compare(z, ours, theirs, peerErr)...)
	}
	return append(rows, soundRows()...), nil
}

// repeat measures until the work was done: on a starved machine both sides send less, and less work costs less.
func repeat(z size, f func() (measured, error)) (m measured, err error) {
	for range 3 {
		if m, err = f(); err != nil || m.did(z) {
			return m, err
		}
		fmt.Fprintf(os.Stderr, "%s: starved, measured again: %s\n", z, m)
	}
	return m, fmt.Errorf("%s: the machine has no time for this call: %s", z, m)
}

// did says whether the call was of size z both ways.
func (m measured) did(z size) bool {
	return m.FPSIn >= 0.9*float64(z.fps) && m.Width == z.width && m.FPSOut >= 0.8*float64(z.fps) && m.WidthOut == z.width
}

func (m measured) String() string {
	return fmt.Sprintf("%.3f CPU-s/s, peak %.1f MB; the browser decodes %.1f/s at %d wide, %.0f kbit/s; sends %.1f/s at %d wide, %.0f kbit/s",
		m.CPU, mb(m.Peak), m.FPSIn, m.Width, m.RateIn/1000, m.FPSOut, m.WidthOut, m.RateOut/1000)
}

func mb(bytes int64) float64 { return float64(bytes) / 1e6 }

// compare makes the rows of one size.
func compare(z size, ours, theirs []measured, peerErr error) []row {
	pick := func(m []measured, f func(measured) float64) []float64 {
		var v []float64
		for _, x := range m {
			v = append(v, f(x))
		}
		return v
	}
	cpu := func(m measured) float64 { return m.CPU }
	peak := func(m measured) float64 { return mb(m.Peak) }
	fps := func(m measured) float64 { return m.FPSIn }
	first := z == sizes[0]
	rows := []row{
		{Name: "terminal CPU, call " + z.String(), Value: median(pick(ours, cpu)), Unit: "CPU-s/s"},
		{Name: "peak RSS, call " + z.String(), Value: median(pick(ours, peak)), Unit: "MB"},
		{Name: "pictures decoded by the browser, call " + z.String(), Value: median(pick(ours, fps)), Unit: "1/s"},
	}
	if first {
		rows[0].Goal = "≤ 1.0 × GStreamer"
		rows[1].Goal, rows[1].Holds = "≤ 60 MB", rows[1].Value <= 60
	}
	if len(theirs) != len(ours) {
		for i := range rows {
			rows[i].Why = fmt.Sprintf("no peer: %v", peerErr)
		}
		return rows
	}
	for i, f := range []func(measured) float64{cpu, peak, fps} {
		var ratios []float64
		for n := range ours {
			ratios = append(ratios, f(ours[n])/f(theirs[n]))
		}
		value, ratio := median(pick(theirs, f)), median(ratios)
		rows[i].Peer, rows[i].PeerValue, rows[i].Ratio = "GStreamer webrtcbin", &value, &ratio
	}
	if first {
		rows[0].Holds = *rows[0].Ratio <= 1
	}
	return rows
}

// armSize cross-compiles the agent and weighs it.
func armSize(ctx context.Context) row {
	r := row{Name: "vindu-agent for arm64, stripped", Unit: "MB", Goal: "≤ 20 MB"}
	if out, err := exec.CommandContext(ctx, "scripts/arm").CombinedOutput(); err != nil {
		r.Why = fmt.Sprintf("scripts/arm: %v: %s", err, strings.TrimSpace(string(out)))
		return r
	}
	found, err := filepath.Glob("build/*arm64*/vindu-agent")
	if err != nil || len(found) != 1 {
		r.Why = fmt.Sprintf("found %d binaries under build/", len(found))
		return r
	}
	info, err := os.Stat(found[0])
	if err != nil {
		r.Why = err.Error()
		return r
	}
	r.Value = mb(info.Size())
	r.Holds = r.Value <= 20
	return r
}

func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	v = slices.Sorted(slices.Values(v))
	if n := len(v); n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[len(v)/2]
}

// report prints the table and writes bench.json.
func report(rows []row) error {
	if err := table(rows); err != nil {
		return err
	}
	b, err := json.MarshalIndent(rows, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile("bench.json", append(b, '\n'), 0o644)
}

func table(rows []row) error {
	fmt.Printf("\n%s, %s\n\n", machine(), time.Now().Format(time.DateOnly))
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "what\tvindu\tunit\tpeer\tratio\tgoal\t")
	for _, r := range rows {
		peer, ratio, verdict := "", "", ""
		if r.PeerValue != nil {
			peer, ratio = fmt.Sprintf("%.3g", *r.PeerValue), fmt.Sprintf("%.2f", *r.Ratio)
		}
		switch {
		case r.Why != "":
			verdict = r.Why
		case r.Goal != "" && r.Holds:
			verdict = "holds"
		case r.Goal != "":
			verdict = "not reached"
		}
		fmt.Fprintf(w, "%s\t%.3g\t%s\t%s\t%s\t%s\t%s\n", r.Name, r.Value, r.Unit, peer, ratio, r.Goal, verdict)
	}
	return w.Flush()
}

// machine names the processor and what else is busy on it.
func machine() string {
	name := "unknown processor"
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(b)) {
			if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "model name" {
				name = strings.TrimSpace(value)
				break
			}
		}
	}
	cores, _ := exec.Command("nproc").Output()
	return fmt.Sprintf("%s, %s cores, Chromium on the same machine", name, strings.TrimSpace(string(cores)))
}
