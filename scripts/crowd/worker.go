package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"vindu/protocol"
)

// order is what a worker is told at its start.
type order struct {
	Dir         string
	First, Past int // the numbers of its terminals
	Addresses   []string
	Clinic      string
	Seed        uint64
	Every       time.Duration // a fault befalls a terminal so often, on average; 0: it is calm from the beginning
	Longest     time.Duration // of a fault
	Away        time.Duration // for which the broker is out of the way of a terminal whose turn it is
	ReportAfter time.Duration
	Flips       int32
}

// told is what a worker says, a line each.
type told struct {
	Fault    string `json:",omitempty"` // that befell a terminal
	Terminal int
	From     int64 `json:",omitempty"` // milliseconds: when HTTPS alone was left, and until when
	Until    int64 `json:",omitempty"`
	Calm     bool  `json:",omitempty"` // no fault is left, and all are online
}

// worker runs some of the terminals in a process of its own, which can be killed.
type worker struct {
	order
	out *json.Encoder
	log *slog.Logger

	mu        sync.Mutex // of out
	terminals []*terminal
	running   sync.WaitGroup
}

// work is the worker's program: it is told its order on the first line of in, and then words: calm, leave N…, silence N…, stop.
func work(ctx context.Context, in io.Reader, out io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 1<<20)
	if !lines.Scan() {
		return lines.Err()
	}
	w := &worker{out: json.NewEncoder(out)}
	if err := json.Unmarshal(lines.Bytes(), &w.order); err != nil {
		return err
	}
	file, err := os.OpenFile(filepath.Join(w.Dir, "log", fmt.Sprintf("terminals-%d.log", w.First)), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer file.Close()
	w.log = slog.New(slog.NewJSONHandler(file, &slog.HandlerOptions{Level: slog.LevelError}))
	trouble, calm := context.WithCancel(ctx)
	defer calm()
	var troubles sync.WaitGroup
	defer w.running.Wait()
	defer cancel()
	for n := w.First; n < w.Past; n++ {
		l, err := newLine(ctx, w.Addresses[n], w.Clinic)
		if err != nil {
			return err
		}
		w.running.Go(func() { l.run(ctx) })
		t := &terminal{number: n, folder: folder(w.Dir, n), line: l, report: w.ReportAfter, log: w.log.With("number", n), holds: map[protocol.Code]bool{}, chance: rand.New(rand.NewPCG(w.Seed, uint64(n)|1<<33))}
		t.flips.Store(w.Flips)
		w.terminals = append(w.terminals, t)
		if err := t.start(context.WithoutCancel(ctx)); err != nil {
			return err
		}
		if w.Every > 0 {
			troubles.Go(func() { w.trouble(trouble, t, rand.New(rand.NewPCG(w.Seed, uint64(n)))) })
		} else {
			t.flips.Store(0)
		}
	}
	defer func() {
		calm()
		troubles.Wait()
		var all sync.WaitGroup
		for _, t := range w.terminals {
			all.Go(t.end)
		}
		all.Wait()
	}()
	for lines.Scan() {
		word, rest, _ := strings.Cut(lines.Text(), " ")
		var which []*terminal
		for _, field := range strings.Fields(rest) {
			if n, err := strconv.Atoi(field); err == nil && n >= w.First && n < w.Past {
				which = append(which, w.terminals[n-w.First])
			}
		}
		switch word {
		case "calm":
			calm()
			troubles.Wait()
			for _, t := range w.terminals {
				t.line.calm()
				t.flips.Store(0)
			}
			w.running.Go(func() { w.sayCalm(ctx) })
		case "leave":
			var all sync.WaitGroup
			for _, t := range which {
				all.Go(t.end)
			}
			all.Wait()
		case "silence":
			for _, t := range which {
				t.line.stop(toClinic)
				t.line.stop(toTerminal)
			}
		case "stop":
			return nil
		}
	}
	return lines.Err()
}

func (w *worker) say(t told) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.out.Encode(t) //nolint:errcheck // whoever does not listen any more has ended this program, too
}

// sayCalm says when all terminals are online.
func (w *worker) sayCalm(ctx context.Context) {
	for {
		offline := 0
		for _, t := range w.terminals {
			if !t.online.Load() {
				offline++
			}
		}
		if offline == 0 {
			w.say(told{Calm: true})
			return
		}
		if !wait(ctx, 100*time.Millisecond) {
			return
		}
	}
}

// wait is false if ctx ended first.
func wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// trouble is what befalls a terminal, one thing after the other, until ctx ends. Every fault ends within it but those of the line, which calm ends.
func (w *worker) trouble(ctx context.Context, t *terminal, chance *rand.Rand) {
	some := func(most time.Duration) time.Duration { return time.Duration(chance.Int64N(int64(most))) + most/50 }
	for wait(ctx, time.Duration(chance.ExpFloat64()*float64(w.Every))) {
		faults := []struct {
			name string
			do   func()
		}{
			{"cut", t.line.cut},
			{"nothing gets to the terminal, then cut", func() { // acknowledgements among it
				t.line.stop(toTerminal)
				wait(ctx, some(w.Longest/3))
				t.line.cut()
				t.line.goOn(toTerminal)
			}},
			{"nothing gets to the terminal for a while", func() {
				t.line.stop(toTerminal)
				wait(ctx, some(w.Longest))
				t.line.goOn(toTerminal)
			}},
			{"nothing gets to the clinic for a while", func() {
				t.line.stop(toClinic)
				wait(ctx, some(w.Longest))
				t.line.goOn(toClinic)
			}},
			{"half-open both ways, then cut", func() {
				t.line.stop(toClinic)
				t.line.stop(toTerminal)
				wait(ctx, some(w.Longest))
				t.line.cut()
				t.line.calm()
			}},
			{"slow", func() {
				t.line.change(func(l *line) { l.slow = 1000 + chance.IntN(4000) })
				wait(ctx, some(w.Longest))
				t.line.change(func(l *line) { l.slow = 0 })
			}},
			{"no way", func() {
				t.line.change(func(l *line) { l.refuses = true })
				t.line.cut()
				wait(ctx, some(w.Longest))
				t.line.change(func(l *line) { l.refuses = false })
			}},
			{"stopped", func() { w.again(ctx, t, some(w.Longest/4)) }},
			{"started, and not acknowledged", w.startUnheard(ctx, t, some(w.Longest/6))},
			{"started, and not acknowledged", w.startUnheard(ctx, t, some(w.Longest/6))},
			{"cut and stopped", func() { // without a goodbye; what waits is found in the outbox
				t.line.change(func(l *line) { l.refuses = true })
				t.line.cut()
				w.again(ctx, t, some(w.Longest/4))
				t.line.change(func(l *line) { l.refuses = false })
			}},
			{"no broker", func() {
				t.line.change(func(l *line) { l.noBroker = true })
				t.line.cut()
				from := time.Now().Add(time.Second)
				wait(ctx, w.Away)
				w.say(told{Fault: "reports", Terminal: t.number, From: from.UnixMilli(), Until: time.Now().UnixMilli()})
				t.line.change(func(l *line) { l.noBroker = false })
			}},
		}
		f := faults[chance.IntN(len(faults))]
		w.say(told{Fault: f.name, Terminal: t.number})
		f.do()
	}
}

// startUnheard starts a terminal anew, and nothing gets to it from the moment on in which it is online and tells what waits; then its connections are cut.
func (w *worker) startUnheard(ctx context.Context, t *terminal, still time.Duration) func() {
	return func() {
		w.again(ctx, t, 0)
		for patience := 0; !t.online.Load() && patience < 5000; patience++ {
			if !wait(ctx, time.Millisecond) {
				return
			}
		}
		t.line.stop(toTerminal)
		wait(ctx, still)
		t.line.cut()
		t.line.goOn(toTerminal)
	}
}

// again stops a terminal and starts it after a pause.
func (w *worker) again(ctx context.Context, t *terminal, pause time.Duration) {
	t.end()
	wait(ctx, pause)
	if err := t.start(context.WithoutCancel(ctx)); err != nil {
		w.log.Error("a terminal does not start", "number", t.number, "error", err)
	}
}
