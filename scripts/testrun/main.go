// Testrun runs the project's Go tests and ends with one summary.
//
// It runs `go test -race`, with the demo's preview built in, with a random order over the tests of the packages named: those first that take longest, beside them the years and the days, which
// are content with what time the others leave, and then the lab alone, because
// a frame rate measured beside a compiler means nothing. One line is printed per package and the whole output of
// each test that failed. The raw events are kept in artefacts/test.json. The last line is always
//
//	N passed, N failed, N skipped
//
// where a test with subtests counts as its subtests. A package that does not build, or that dies outside a test,
// counts as one failure.
//
// If no more than a few tests failed, each is run once more in the end, alone: the tests work with browsers, networks and an emulated computer on a machine that may be
// busy, and who reads the report is to know at once whether a failure stays. What passes then is counted as passed, and is named in the end as UNSTEADY with what it said
// when it failed: it has to be mended, not to be run until it passes. There is no second try after a data race, a panic, a time-out or a failure to build.
//
// What a failed test says at its own lines is printed when it fails, and above that last line once more: who reads
// only the end knows. There stands, too, what a test that passed says that it did NOT JUDGE. It exits non-zero on any
// failure and when no test ran at all.
//
// Tests have a folder for temporary files of their own (TMPDIR). It is removed in the end, with what tests that were
// killed left in it; after a failure it is kept and named instead.
package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// labPackage is what runs last and alone.
const labPackage = "vindu/scripts/lab"

// bubblePackages are all arithmetic, in one goroutine at a time: the race detector would only make minutes of it a quarter of an hour. Their clock is a
// bubble's, so they may run whenever nobody else does. What they run of others has tests of its own, with the race detector.
var bubblePackages = []string{"vindu/scripts/years", "vindu/scripts/days"}

// longest are the packages that take 20 seconds and more, for others to run beside: begun last, one of them would keep a core waiting.
// The first takes nine minutes, and all that follow about as long beside it; clinic/web comes then, since both work a browser most. The faults of the network wait more than they work.
var longest = []string{
	"vindu/cmd/vindu-agent", "vindu/scripts/faults", "vindu/cmd/vindu-clinic", "vindu/scripts/demo", "vindu/cmd/vindu-provision", "vindu/device/identity/tpm",
	"vindu/device/screen", "vindu/media/peer", "vindu/media/session", "vindu/clinic/register", "vindu/clinic/calls", "vindu/device/call",
	"vindu/clinic/web", "vindu/scripts/sbom", "vindu/scripts/crowd",
}

func main() {
	only := flag.String("run", "", "only the tests that match, as in go test")
	timeout := flag.Duration("timeout", 30*time.Minute, "for each package")
	again := flag.Int("again", 3, "tests that are run once more, alone, if no more than these failed; 0: none")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := test(ctx, os.Stdout, *only, *timeout, *again, flag.Args())
	if err != nil {
		stop()
		os.Exit(1)
	}
}

// test runs the packages that match and prints the report, whose last line is the summary.
func test(ctx context.Context, out io.Writer, only string, timeout time.Duration, again int, patterns []string) error {
	began := time.Now()
	all := newReport(out)
	err := func() (err error) {
		if err := os.MkdirAll("artefacts", 0o755); err != nil {
			return err
		}
		raw, err := os.Create(filepath.Join("artefacts", "test.json"))
		if err != nil {
			return err
		}
		defer raw.Close()
		packages, err := list(ctx, patterns)
		if err != nil {
			return err
		}
		temporary, err := os.MkdirTemp("", "vindu-") // short: there are Unix sockets below it
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, all.leave(temporary, ctx.Err() != nil)) }()
		arguments := func(r run, tests string) []string {
			result := append([]string{"test", "-json", "-shuffle=on", "-tags", "preview", "-p", "2", "-timeout", timeout.String()}, r.flags...)
			if tests != "" {
				result = append(result, "-run", tests)
			}
			return append(result, r.packages...)
		}
		for _, stage := range stages(packages) {
			failures := make(chan error, len(stage))
			for _, r := range stage {
				go func() { failures <- goTest(ctx, temporary, arguments(r, only), all, raw) }()
			}
			var err error
			for range stage {
				err = errors.Join(err, <-failures)
			}
			if err != nil {
				return err
			}
		}
		return all.secondTry(again, func(name, tests string, into *report) error {
			return goTest(ctx, temporary, arguments(stages([]string{name})[0][0], tests), into, raw)
		})
	}()
	if err != nil {
		fmt.Fprintf(out, "testrun: %v\n", err)
		all.failed++
	}
	if all.passed+all.failed == 0 {
		fmt.Fprintln(out, "testrun: no test ran")
		err = errors.New("no test ran")
	}
	fmt.Fprintf(out, "\n%s", all.failures.String())
	fmt.Fprint(out, all.said.String())
	fmt.Fprintf(out, "took %s\n", time.Since(began).Round(time.Second))
	fmt.Fprintf(out, "%d passed, %d failed, %d skipped\n", all.passed, all.failed, all.skipped)
	if err == nil && all.failed > 0 {
		err = errors.New("tests failed")
	}
	return err
}

// list expands patterns into packages that hold tests or code.
func list(ctx context.Context, patterns []string) ([]string, error) {
	if len(patterns) == 0 {
		patterns = []string{"./..."}
	}
	command := exec.CommandContext(ctx, "go", append([]string{"list", "-e"}, patterns...)...)
	command.Stderr = os.Stderr
	text, err := command.Output()
	if err != nil {
		return nil, fmt.Errorf("list packages %s: %w", strings.Join(patterns, " "), err)
	}
	return strings.Fields(string(text)), nil
}

// run is a `go test` with flags of its own.
type run struct{ flags, packages []string }

// stages are what runs one after the other, each of runs that are beside each other.
func stages(packages []string) [][]run {
	others := run{flags: []string{"-race"}}
	years := run{flags: []string{"-exec", "nice -n 19"}}
	lab := run{}
	for _, name := range longest {
		if slices.Contains(packages, name) {
			others.packages = append(others.packages, name)
		}
	}
	for _, name := range packages {
		switch {
		case name == labPackage:
			lab.packages = append(lab.packages, name)
		case slices.Contains(bubblePackages, name):
			years.packages = append(years.packages, name)
		case !slices.Contains(longest, name):
			others.packages = append(others.packages, name)
		}
	}
	var result [][]run
	for _, stage := range [][]run{{others, years}, {lab}} {
		stage = slices.DeleteFunc(stage, func(r run) bool { return len(r.packages) == 0 })
		if len(stage) > 0 {
			result = append(result, stage)
		}
	}
	return result
}

// goTest runs one `go test -json` and feeds its events to the report. A failed test is not an error here: the report knows.
func goTest(ctx context.Context, temporary string, arguments []string, report *report, raw io.Writer) error {
	command := exec.CommandContext(ctx, "go", arguments...)
	command.Env = append(os.Environ(), "TMPDIR="+temporary)
	command.Cancel = func() error { return command.Process.Signal(os.Interrupt) }
	command.WaitDelay = 30 * time.Second
	command.Stderr = os.Stderr
	events, err := command.StdoutPipe()
	if err != nil {
		return err
	}
	if err := command.Start(); err != nil {
		return fmt.Errorf("start go test: %w", err)
	}
	failed := false
	lines := bufio.NewReader(events)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			if err := report.take(line, raw, &failed); err != nil {
				return err
			}
		}
		if err != nil {
			break
		}
	}
	err = command.Wait()
	if ctx.Err() != nil {
		return fmt.Errorf("interrupted: %w", ctx.Err())
	}
	if err != nil && !failed {
		return fmt.Errorf("go test: %w", err)
	}
	return nil
}

// event is one line of `go test -json`; see `go doc test2json` and, for build events, `go help buildjson`.
type event struct {
	Action      string
	Package     string
	ImportPath  string
	Test        string
	Output      string
	Elapsed     float64
	FailedBuild string
}

// report collects events into counts. Only take is safe for concurrent use.
type report struct {
	mu                      sync.Mutex
	out                     io.Writer
	passed, failed, skipped int
	failures                strings.Builder // the output of all that failed
	said                    strings.Builder // the gist of it
	unsteady                []failure       // tests that may be run once more
	final                   bool            // something failed that no second try can mend
	packages                map[string]*packageReport
	builds                  map[string]*strings.Builder // compiler output by import path
}

type packageReport struct {
	output map[string]*strings.Builder // by test; "" for the package's own
	result map[string]string           // pass, fail or skip, by test
	began  []string                    // tests in the order they began
}

func newReport(out io.Writer) *report {
	return &report{out: out, packages: map[string]*packageReport{}, builds: map[string]*strings.Builder{}}
}

// take keeps a line of `go test -json`, counts it, and sets failed if a package has failed by it.
func (r *report) take(line []byte, raw io.Writer, failed *bool) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, err := raw.Write(line); err != nil {
		return fmt.Errorf("keep test events: %w", err)
	}
	var e event
	if json.Unmarshal(line, &e) != nil {
		fmt.Fprintf(r.out, "%s", line)
		return nil
	}
	if e.Action == "fail" && e.Test == "" {
		*failed = true
	}
	r.add(e)
	return nil
}

func (r *report) add(e event) {
	if e.ImportPath != "" {
		if r.builds[e.ImportPath] == nil {
			r.builds[e.ImportPath] = &strings.Builder{}
		}
		r.builds[e.ImportPath].WriteString(e.Output)
		return
	}
	if e.Package == "" {
		return
	}
	p := r.packages[e.Package]
	if p == nil {
		p = &packageReport{output: map[string]*strings.Builder{}, result: map[string]string{}}
		r.packages[e.Package] = p
	}
	switch e.Action {
	case "run":
		p.began = append(p.began, e.Test)
	case "output":
		if p.output[e.Test] == nil {
			p.output[e.Test] = &strings.Builder{}
		}
		p.output[e.Test].WriteString(e.Output)
	case "pass", "fail", "skip":
		if e.Test != "" {
			p.result[e.Test] = e.Action
			if e.Action == "fail" { // at once, for who breaks the run off
				fmt.Fprint(r.out, gist(e.Package+" "+e.Test, p.output[e.Test]))
			}
			return
		}
		r.finish(e, p)
		delete(r.packages, e.Package)
	}
}

// finish counts a package and prints its line.
func (r *report) finish(e event, p *packageReport) {
	parents := map[string]bool{}
	for _, name := range p.began {
		for i, c := range name {
			if c == '/' {
				parents[name[:i]] = true
			}
		}
	}
	childFailed := map[string]bool{}
	var tops []string // the tests that failed, or one of whose subtests did
	var passed, failed, skipped int
	for i := len(p.began) - 1; i >= 0; i-- { // children began after their parents
		name := p.began[i]
		switch result := cmp.Or(p.result[name], "fail"); { // a test that never ended took the package with it
		case result == "fail":
			if i := strings.LastIndexByte(name, '/'); i >= 0 {
				childFailed[name[:i]] = true
			}
			if !childFailed[name] {
				failed++
			}
			r.fail(e.Package+" "+name, p.output[name])
			if !strings.Contains(name, "/") {
				tops = append(tops, name)
			}
			if output := p.output[name]; p.result[name] == "" || output != nil && hopeless.MatchString(output.String()) {
				r.final = true
			}
		case parents[name]:
		case result == "skip":
			skipped++
		default:
			passed++
			if output := p.output[name]; output != nil {
				for _, line := range notJudged.FindAllString(output.String(), -1) {
					fmt.Fprintf(&r.said, "passed, but: %s %s\n    %s\n", e.Package, name, strings.TrimSpace(line))
				}
			}
		}
	}
	if e.Action == "fail" && failed == 0 {
		failed++
		r.final = true
		r.fail(e.Package, cmp.Or(r.builds[e.FailedBuild], p.output[""]))
	} else if e.Action == "fail" {
		r.fail(e.Package, p.output[""])
	}
	if len(tops) > 0 {
		slices.Sort(tops)
		r.unsteady = append(r.unsteady, failure{e.Package, tops, failed})
	}
	r.passed += passed
	r.failed += failed
	r.skipped += skipped
	switch {
	case e.Action == "fail":
		fmt.Fprintf(r.out, "FAIL  %-34s %6.1fs  %d passed, %d failed\n", e.Package, e.Elapsed, passed, failed)
	case len(p.began) == 0:
		fmt.Fprintf(r.out, "-     %-34s          no tests\n", e.Package)
	default:
		fmt.Fprintf(r.out, "ok    %-34s %6.1fs  %d passed\n", e.Package, e.Elapsed, passed)
	}
}

// failure is what failed of a package.
type failure struct {
	name   string
	tests  []string // those at the top
	failed int      // counted
}

// hopeless is what a failed test says that is not to be tried again.
var hopeless = regexp.MustCompile(`WARNING: DATA RACE|race detected during execution|(?m)^(panic|fatal error): `)

// secondTry has run run what failed once more, if no more than most tests did, and counts as passed what passes.
func (r *report) secondTry(most int, run func(name, tests string, into *report) error) error {
	count := 0
	for _, f := range r.unsteady {
		count += len(f.tests)
	}
	if count == 0 || count > most || r.final {
		return nil
	}
	for _, f := range r.unsteady {
		fmt.Fprintf(r.out, "once more, alone: %s %s\n", f.name, strings.Join(f.tests, ", "))
		second := newReport(r.out)
		if err := run(f.name, "^("+strings.Join(f.tests, "|")+")$", second); err != nil {
			return err
		}
		if second.failed > 0 || second.passed == 0 {
			fmt.Fprintf(&r.said, "failed twice: %s %s\n", f.name, strings.Join(f.tests, ", "))
			r.failures.WriteString(second.failures.String())
			continue
		}
		r.failed -= f.failed
		r.passed += f.failed
		fmt.Fprintf(&r.said, "UNSTEADY: %s %s failed, and passed when it was run once more, alone: find out why\n", f.name, strings.Join(f.tests, ", "))
	}
	return nil
}

// leave removes the tests' folder for temporary files, or keeps it for who looks into a failure.
func (r *report) leave(temporary string, interrupted bool) error {
	entries, err := os.ReadDir(temporary)
	if err == nil && r.failed > 0 && !interrupted && len(entries) > 0 {
		fmt.Fprintf(&r.failures, "what the tests left is in %s: delete it when you have looked\n\n", temporary)
		return nil
	}
	if err := os.RemoveAll(temporary); err != nil {
		return fmt.Errorf("remove the tests' temporary files: %w", err)
	}
	return nil
}

func (r *report) fail(name string, output *strings.Builder) {
	fmt.Fprintf(&r.failures, "--- %s\n", name)
	if output != nil {
		r.failures.WriteString(output.String())
	}
	r.failures.WriteString("\n")
	r.said.WriteString(gist(name, output))
}

// own are a test's own lines in its output.
var own = regexp.MustCompile(`(?m)^ +\w+_test\.go:\d+: .*$`)

// notJudged is what a test says of what it could not measure here.
var notJudged = regexp.MustCompile(`(?m)^ +\w+_test\.go:\d+: NOT JUDGED: .*$`)

// gist is a test's last own lines, which are where it says why it failed, each no longer than a person reads.
func gist(name string, output *strings.Builder) string {
	const lines, width = 6, 400
	said := "failed: " + name + "\n"
	if output == nil {
		return said
	}
	found := own.FindAllString(output.String(), -1)
	for _, line := range found[max(0, len(found)-lines):] {
		if line = strings.TrimSpace(line); len(line) > width {
			line = strings.ToValidUTF8(line[:width], "") + " …"
		}
		said += "    " + line + "\n"
	}
	return said
}
