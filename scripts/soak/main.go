// Soak runs the long sizes of what make test does in short ones, and ends with one summary. make soak runs it; it takes two hours.
//
// What runs beside one another has time to spare; the rest runs alone. The whole output of each is kept in artefacts/soak/. The exit code is 0 if all of them held.
package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"
)

// long is one of them.
type long struct {
	name string
	args []string
	says *regexp.Regexp // lines of its output that belong into the summary
}

// all are what there is: those of a row run beside one another, the rows one after the other.
var all = [][]long{
	{
		{"crowd", []string{"go", "run", "./scripts/crowd"}, regexp.MustCompile(`^(\d+ terminals, .* ended |faults:|events:|recognised|presence:|clinic,|FAILED|all as)`)},
		{"hour", []string{"go", "run", "./scripts/hour"}, regexp.MustCompile(`^(a terminal and|terminal:|clinic:|NOT JUDGED|FAILED|all as)`)},
	},
	{{"days", []string{"go", "test", "-count=1", "-v", "-timeout", "1h", "./scripts/days", "-lasts", "336h"}, regexp.MustCompile(`days_test.go:|^(---|ok|FAIL)`)}},
	{{"faults", []string{"go", "test", "-count=1", "-v", "-timeout", "1h", "./scripts/faults", "-whole"}, regexp.MustCompile(`^\s*--- |^(ok|FAIL)`)}},
	{{"appliance", []string{"go", "test", "-count=1", "-v", "-timeout", "1h", "-run", "^TestAppliance$", "./scripts/lab", "-appliance", "-system-cuts", "50"}, regexp.MustCompile(`_test.go:\d+: .*(ready again|told|writes|exposure|security)|^(---|ok|FAIL)`)}},
	{{"lab", []string{"go", "test", "-count=1", "-v", "-timeout", "3h", "-run", "^(TestPowerCut|TestReset|TestAtHome)$", "./scripts/lab", "-cuts", "1000", "-resets", "50", "-noise", "10m"}, regexp.MustCompile(`_test.go:\d+: .*(cut|reset|ready|noise)|^(---|ok|FAIL)`)}},
}

func main() {
	only := flag.String("run", "", "only those whose names match")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := soak(ctx, all, *only, filepath.Join("artefacts", "soak"), os.Stdout)
	stop()
	if err != nil {
		os.Exit(1)
	}
}

// soak runs those of rows whose names match, and prints the summary.
func soak(ctx context.Context, rows [][]long, only, artefacts string, out io.Writer) error {
	wanted, err := regexp.Compile(only)
	if err == nil {
		err = os.MkdirAll(artefacts, 0o755)
	}
	if err != nil {
		fmt.Fprintln(out, "soak:", err)
		return err
	}
	began := time.Now()
	var mu sync.Mutex
	var summary strings.Builder
	held, failed := 0, 0
	for _, row := range rows {
		var running sync.WaitGroup
		for _, l := range row {
			if !wanted.MatchString(l.name) || ctx.Err() != nil {
				continue
			}
			fmt.Fprintf(out, "%s  %s\n", time.Now().Format(time.TimeOnly), strings.Join(l.args, " "))
			running.Go(func() {
				begin := time.Now()
				lines, err := l.run(ctx, filepath.Join(artefacts, l.name+".log"))
				mu.Lock()
				defer mu.Unlock()
				verdict := "held"
				if held++; err != nil {
					held--
					failed++
					verdict = "FAILED: " + err.Error()
				}
				fmt.Fprintf(&summary, "%s (%s): %s\n", l.name, time.Since(begin).Round(time.Second), verdict)
				for _, line := range lines {
					fmt.Fprintf(&summary, "    %s\n", line)
				}
			})
		}
		running.Wait()
	}
	fmt.Fprintf(out, "\n%stook %s\n%d held, %d failed\n", summary.String(), time.Since(began).Round(time.Second), held, failed)
	switch {
	case failed > 0:
		return errors.New("not all of them held")
	case held == 0:
		return errors.New("nothing ran")
	}
	return ctx.Err()
}

// run runs it to its end and returns what belongs into the summary.
func (l long) run(ctx context.Context, log string) ([]string, error) {
	f, err := os.Create(log)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	cmd := exec.CommandContext(ctx, l.args[0], l.args[1:]...)
	cmd.Stdout, cmd.Stderr = f, f
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = time.Minute
	err = cmd.Run()
	text, readErr := os.ReadFile(log)
	var lines []string
	for said := bufio.NewScanner(bytes.NewReader(text)); said.Scan(); {
		if line := strings.TrimSpace(said.Text()); l.says.MatchString(line) {
			lines = append(lines, line)
		}
	}
	if err != nil {
		err = fmt.Errorf("%w; all of it is in %s", err, log)
	}
	return lines, errors.Join(err, readErr)
}
