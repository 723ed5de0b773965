package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"vindu/scripts/stack"
	"vindu/scripts/steady"
)

// program is what one has of the machine, as time goes by.
type program struct {
	pid                       int
	begun                     int // times that it was found under another process id
	rss, pss, files, threads  steady.Series
	written                   float64 // bytes, while the terminal rested
	rested                    time.Duration
	last                      steady.Process
	lastAt                    time.Time
	lastRest                  bool
	heap, goroutines, resting steady.Series // resting: RSS while the terminal rested
	restingFiles, restThreads steady.Series
}

// watch is the hour.
type watch struct {
	memoryDisk      bool
	log             string
	began           time.Time
	agent, clinic   program
	calls, failures int
	problems        []string
}

// look notes how a program is. resting: the terminal is, and was for long enough.
func (p *program) look(pid int, resting bool, now time.Time) {
	seen, err := steady.Look(pid)
	if err != nil {
		return
	}
	if pid != p.pid {
		p.pid, p.begun, p.lastRest = pid, p.begun+1, false
	}
	p.rss.Add(now, seen.RSS)
	p.pss.Add(now, seen.PSS)
	p.files.Add(now, seen.Files)
	p.threads.Add(now, seen.Threads)
	if resting {
		p.resting.Add(now, seen.RSS)
		p.restingFiles.Add(now, seen.Files)
		p.restThreads.Add(now, seen.Threads)
		if p.lastRest {
			p.written += seen.Written - p.last.Written
			p.rested += now.Sub(p.lastAt)
		}
	}
	p.last, p.lastAt, p.lastRest = seen, now, resting
}

// run calls and looks until the time is over; then it returns errOver.
func (w *watch) run(ctx context.Context, z size, s *stack.Stack, says io.Writer) error {
	w.began = time.Now()
	over := time.NewTimer(z.For)
	defer over.Stop()
	look := time.NewTicker(z.Look)
	defer look.Stop()
	next := time.NewTimer(z.Every / 4)
	defer next.Stop()
	ended := make(chan error, 1)
	inCall, rests := false, w.began.Add(z.Rest)
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-over.C:
			if inCall {
				<-ended
			}
			return errOver
		case <-next.C:
			inCall = true
			go func() { ended <- call(ctx, s, z.Lasts) }()
		case err := <-ended:
			w.calls++
			if err != nil {
				w.failures++
				w.problems = append(w.problems, err.Error())
				fmt.Fprintln(says, "a call failed:", err)
			}
			inCall, rests = false, time.Now().Add(z.Rest)
			next.Reset(z.Every - z.Lasts)
		case now := <-look.C:
			resting := !inCall && now.After(rests)
			w.agent.look(s.AgentPID(), resting, now)
			w.clinic.look(s.ClinicPID(), resting, now)
			if told, err := s.Metrics(ctx); err == nil {
				w.clinic.heap.Add(now, told["vindu_memory_heap_bytes"])
				w.clinic.goroutines.Add(now, told["vindu_goroutines"])
			}
		}
	}
}

// readLog takes from the terminal's log what it has said of itself at rest.
func (w *watch) readLog() {
	f, err := os.Open(w.log)
	if err != nil {
		w.problems = append(w.problems, err.Error())
		return
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var said struct {
			Time       time.Time `json:"time"`
			Message    string    `json:"msg"`
			Goroutines float64   `json:"goroutines"`
			Heap       float64   `json:"heap"`
		}
		if json.Unmarshal(lines.Bytes(), &said) == nil && said.Message == "at rest" {
			w.agent.goroutines.Add(said.Time, said.Goroutines)
			w.agent.heap.Add(said.Time, said.Heap)
		}
	}
}

// Bounds of the terminal: what it may grow by in an hour, and what it may write in a day in which nobody calls.
const (
	mostRSS        = 0.5 * (1 << 20)
	mostFiles      = 1.0
	mostThreads    = 2.0
	mostGoroutines = 2.0
	mostWritten    = 5e6
	shortest       = 30 * time.Minute // nothing is held against the bounds that ran for less
)

// part is the time that counts: what is there at the start is not yet all.
func (w *watch) part(z size, s steady.Series) steady.Series { return s.Since(w.began.Add(z.For / 6)) }

// perDay is what a program would write in a day without calls.
func (p *program) perDay() float64 {
	if p.rested == 0 {
		return 0
	}
	return p.written / p.rested.Hours() * 24
}

// judge says what is not as it has to be.
func (w *watch) judge(z size) error {
	var wrong []error
	complain := func(format string, args ...any) { wrong = append(wrong, fmt.Errorf(format, args...)) }
	if w.failures > 0 || w.calls == 0 {
		complain("%d of %d calls failed: %s", w.failures, w.calls, strings.Join(w.problems, "; "))
	}
	if w.agent.begun != 1 || w.clinic.begun != 1 {
		complain("the terminal was begun %d times, the clinic %d times", w.agent.begun, w.clinic.begun)
	}
	if len(w.agent.goroutines) < w.calls {
		complain("the terminal came to rest %d times in %d calls", len(w.agent.goroutines), w.calls)
	}
	if z.For < shortest {
		return errors.Join(wrong...)
	}
	for _, b := range []struct {
		what     string
		of       steady.Series
		most, in float64
		unit     string
	}{
		{"resident pages at rest", w.agent.resting, mostRSS, 1 << 20, "MiB"},
		{"descriptors at rest", w.agent.restingFiles, mostFiles, 1, ""},
		{"threads", w.agent.restThreads, mostThreads, 1, ""},
		{"goroutines at rest", w.agent.goroutines, mostGoroutines, 1, ""},
	} {
		if slope := w.part(z, b.of).Slope(); slope > b.most {
			complain("the terminal's %s grow by %.2f %s an hour, more than %.2f", b.what, slope/b.in, b.unit, b.most/b.in)
		}
	}
	if w.agent.perDay() > mostWritten && !w.memoryDisk {
		complain("the terminal would write %.1f MB in a day without calls, more than %.1f", w.agent.perDay()/1e6, mostWritten/1e6)
	}
	return errors.Join(wrong...)
}

func (w *watch) summary(z size, wrong error) string {
	var b strings.Builder
	fmt.Fprintf(&b, "a terminal and its clinic for %v, ended %s; %d calls of %v, %d failed\n", z.For, time.Now().Format(time.DateTime), w.calls, z.Lasts, w.failures)
	for _, p := range []struct {
		name string
		of   *program
	}{{"terminal", &w.agent}, {"clinic", &w.clinic}} {
		for _, s := range []struct {
			what string
			of   steady.Series
			unit float64
			in   string
		}{
			{"resident pages", p.of.rss, 1 << 20, " MiB"}, {"its share of pages (PSS)", p.of.pss, 1 << 20, " MiB"}, {"resident pages at rest", p.of.resting, 1 << 20, " MiB"},
			{"heap", p.of.heap, 1 << 20, " MiB"}, {"goroutines", p.of.goroutines, 1, ""}, {"descriptors", p.of.files, 1, ""},
			{"descriptors at rest", p.of.restingFiles, 1, ""}, {"threads", p.of.threads, 1, ""},
		} {
			part := w.part(z, s.of)
			least, most := part.Bounds()
			fmt.Fprintf(&b, "%s: %s %.2f to %.2f%s, %+.3f%s an hour (%d samples)\n", p.name, s.what, least/s.unit, most/s.unit, s.in, part.Slope()/s.unit, s.in, len(part))
		}
		fmt.Fprintf(&b, "%s: written in %v at rest: %.1f kB, which is %.2f MB a day\n", p.name, p.of.rested.Round(time.Second), p.of.written/1e3, p.of.perDay()/1e6)
	}
	if w.memoryDisk {
		fmt.Fprintln(&b, "NOT JUDGED: what is written, for its folder is in memory")
	}
	if z.For < shortest {
		fmt.Fprintf(&b, "NOT JUDGED: growth, in less than %v\n", shortest)
	}
	if wrong != nil {
		fmt.Fprintf(&b, "FAILED: %v\n", wrong)
	} else {
		fmt.Fprintln(&b, "all as it has to be")
	}
	return b.String()
}
