// Command bench measures the terminal, and GStreamer's webrtcbin doing the same work in the same run. make bench runs it.
//
// It prints one table and writes bench.json: one object per row. Times are noisy on shared machines: it takes medians, and
// ratios pair by pair. Nothing here is asserted by a test. A row that could not be measured says why and does not hold, and the rest goes on. The exit
// code is 0 when there is a table, whatever holds, and 1 when there is none.
package main

import (
	"cmp"
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
	onlyDelay := flag.Bool("delay", false, "measure only how late picture and sound are; writes no bench.json")
	onlyGuest := flag.Bool("guest", false, "measure only the emulated arm64 terminal; writes no bench.json")
	onlyStages := flag.Bool("stages", false, "say only where the terminal's processor time goes; writes no bench.json")
	onlyFirst := flag.Bool("first", false, "measure only the first picture after the answer; writes no bench.json")
	floorOf := flag.String("floor", "", "do nothing but code, decode and protect a call of this size, and print the processor seconds per second")
	floorCodec := flag.String("codec", "VP8", "what codes the pictures of -floor: VP8 or H264")
	duration := flag.Duration("for", 15*time.Second, "how long each call is measured")
	flag.Parse()
	if *floorOf != "" {
		i := slices.IndexFunc(sizes, func(z size) bool { return z.String() == *floorOf })
		if i < 0 {
			exit(fmt.Errorf("no call of size %q", *floorOf))
		}
		v, err := atFloor(sizes[i], *floorCodec, *duration)
		if err == nil {
			fmt.Println(v)
		}
		exit(err)
	}
	for _, part := range []struct {
		asked bool
		rows  func() []row
	}{
		{*onlySound, soundRows}, {*onlyLine, func() []row { return lineRows(ctx) }}, {*onlyDelay, func() []row { return delays(ctx) }},
		{*onlyGuest, func() []row { return guestRows(ctx) }},
		{*onlyStages, func() []row {
			return inFolder(func(dir string) (rows []row) {
				for _, z := range sizes {
					rows = append(rows, stagesOf(ctx, filepath.Join(dir, z.String()), z, *duration))
				}
				return rows
			})
		}},
		{*onlyFirst, func() []row { return inFolder(func(dir string) []row { return afterAnswer(ctx, dir) }) }},
	} {
		if part.asked {
			exit(table(part.rows()))
		}
	}
	rows := inFolder(func(dir string) []row { return run(ctx, dir, *rounds, *duration, *only, *peer) })
	if ctx.Err() != nil {
		exit(ctx.Err())
	}
	exit(report(rows))
}

// exit ends with 0, also if some rows do not hold, or with 1 if err says why there is no table.
func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// inFolder has f work in a folder that is gone afterwards.
func inFolder(f func(dir string) []row) []row {
	dir, err := os.MkdirTemp("", "vindu-bench-")
	if err == nil {
		defer os.RemoveAll(dir)
		err = os.Setenv("TMPDIR", dir) // Chromium leaves files when it is killed
	}
	if err != nil {
		return []row{row{Name: "everything"}.failed(err)}
	}
	return f(dir)
}

// run measures everything, one after the other. What fails is a row that says why, and the rest goes on.
func run(ctx context.Context, dir string, rounds int, d time.Duration, only string, withPeer bool) []row {
	peer, peerErr := "", errors.New("not asked for")
	if withPeer {
		peer, peerErr = buildPeer(ctx, dir)
	}
	if peerErr != nil {
		fmt.Fprintln(os.Stderr, "bench: no peer to measure beside:", peerErr)
	}
	rows := []row{armSize(ctx)}
	for i, z := range sizes {
		if only == "" || only == z.String() {
			rows = append(rows, sized(ctx, filepath.Join(dir, z.String()), z, i == 0, rounds, d, peer, peerErr)...)
		}
	}
	for _, part := range []func() []row{
		func() []row { return afterAnswer(ctx, dir) }, func() []row { return delays(ctx) }, soundRows,
		func() []row { return lineRows(ctx) }, func() []row { return guestRows(ctx) },
	} {
		if only == "" && ctx.Err() == nil {
			rows = append(rows, part()...)
		}
	}
	return rows
}

// sized are the rows of calls of size z; with those of a terminal that is not called, if alone.
func sized(ctx context.Context, dir string, z size, alone bool, rounds int, d time.Duration, peer string, peerErr error) []row {
	var rows []row
	var ours, theirs []measured
	var floors []float64
	t, err := startTerminal(ctx, dir, z, 0)
	if err != nil {
		return compare(z, nil, nil, nil, err, peerErr)
	}
	if alone {
		more, err := t.alone(ctx)
		if err != nil {
			more = []row{row{Name: "the terminal alone"}.failed(err)}
		}
		rows = append(rows, more...)
	}
	for n := range rounds {
		var m measured
		if m, err = repeat(z, func() (measured, error) { return t.call(ctx, d) }); err != nil {
			break
		}
		fmt.Fprintf(os.Stderr, "%s, round %d: vindu     %s\n", z, n+1, m)
		ours = append(ours, m)
		f, ferr := floor(ctx, z, m.Codec, d)
		if ferr != nil {
			fmt.Fprintln(os.Stderr, "bench:", ferr)
		} else {
			fmt.Fprintf(os.Stderr, "%s, round %d: floor     %.3f CPU-s/s, %s\n", z, n+1, f, m.Codec)
			floors = append(floors, f)
		}
		if peerErr != nil {
			continue
		}
		if m, peerErr = repeat(z, func() (measured, error) { return callGStreamer(ctx, peer, z, d) }); peerErr != nil {
			fmt.Fprintln(os.Stderr, "bench:", peerErr)
			continue
		}
		fmt.Fprintf(os.Stderr, "%s, round %d: GStreamer %s\n", z, n+1, m)
		theirs = append(theirs, m)
	}
	if stopErr := t.stop(); err == nil {
		err = stopErr
	}
	rows = append(rows, compare(z, ours, theirs, floors, err, peerErr)...)
	return append(rows, stagesOf(ctx, dir+" stages", z, d))
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
	return fmt.Sprintf("%.3f CPU-s/s, peak %.1f MB, %s; the browser decodes %.1f/s at %d wide, %.0f kbit/s; sends %.1f/s at %d wide, %.0f kbit/s",
		m.CPU, mb(m.Peak), m.Codec, m.FPSIn, m.Width, m.RateIn/1000, m.FPSOut, m.WidthOut, m.RateOut/1000)
}

func mb(bytes int64) float64 { return float64(bytes) / 1e6 }

// goals of a call of each size: beside GStreamer, beside the floor, and in MB.
var goals = []struct{ peer, floor, rss float64 }{{0.8, 1.3, 50}, {0.9, 0, 0}}

// compare makes the rows of one size. err says why there is nothing of ours, or not all of it.
func compare(z size, ours, theirs []measured, floors []float64, err, peerErr error) []row {
	goal := goals[slices.Index(sizes, z)]
	atMost := func(v float64, of string) string {
		if v == 0 {
			return ""
		}
		return fmt.Sprintf("≤ %g%s", v, of)
	}
	rows := []row{
		{Name: "terminal CPU, call " + z.String(), Unit: "CPU-s/s", Goal: atMost(goal.peer, " × GStreamer"), Peer: "GStreamer webrtcbin"},
		{Name: "terminal CPU beside coding, decoding and SRTP alone, " + z.String(), Unit: "CPU-s/s", Goal: atMost(goal.floor, " × floor"), Peer: "floor"},
		{Name: "peak RSS, call " + z.String(), Unit: "MB", Goal: atMost(goal.rss, " MB"), Peer: "GStreamer webrtcbin"},
		{Name: "pictures decoded by the browser, call " + z.String(), Unit: "1/s", Peer: "GStreamer webrtcbin"},
	}
	of := []func(measured) float64{func(m measured) float64 { return m.CPU }, func(m measured) float64 { return m.CPU }, func(m measured) float64 { return mb(m.Peak) }, func(m measured) float64 { return m.FPSIn }}
	limits := []float64{goal.peer, goal.floor, 0, 0}
	for i := range rows {
		if len(ours) == 0 {
			rows[i] = rows[i].failed(cmp.Or(err, errors.New("nothing was measured")))
			continue
		}
		var mine, others, ratios []float64
		for n, m := range ours {
			mine = append(mine, of[i](m))
			var other float64
			switch {
			case i == 1 && n < len(floors):
				other = floors[n]
			case i != 1 && n < len(theirs):
				other = of[i](theirs[n])
			default:
				continue
			}
			others, ratios = append(others, other), append(ratios, of[i](m)/other)
		}
		rows[i].Value = median(mine)
		if len(ratios) > 0 {
			value, ratio := median(others), median(ratios)
			rows[i].PeerValue, rows[i].Ratio = &value, &ratio
			rows[i].Holds = limits[i] > 0 && ratio <= limits[i]
		} else if i == 1 {
			rows[i].Why = "the floor was not measured"
		} else {
			rows[i].Why = fmt.Sprintf("no peer: %v", peerErr)
		}
	}
	if goal.rss > 0 && len(ours) > 0 {
		rows[2].Holds = rows[2].Value <= goal.rss
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
		case r.Why != "" && r.Goal != "" && r.Holds:
			verdict = "holds; " + r.Why
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
