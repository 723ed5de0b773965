// Crowd has a clinic live through an hour with two hundred terminals that have nothing but bad luck, and judges what came of it.
//
// The clinic is the real program. Each terminal is a whole agent of package device/agent, without devices: enrolled by a voucher with a key of its own, with its
// own outbox, link, health and courier. They run in a few processes, each terminal behind a forwarder at a loopback address of its own. By chance (the seed is
// printed) their connections are cut, stand still in one direction or both, so that acknowledgements are held back, are slow, or are let nowhere; the broker is out
// of the way until HTTPS takes over; terminals are stopped and started from their outboxes, and their processes killed; and so is the clinic, in the first half.
//
// In the end everything is calm. Then each event that a terminal has promised to keep (its number is in its outbox) has to be in the clinic's database once, in
// order, and no terminal's outbox may hold any; events must have come twice and been recognised, or nothing was proven; the operator's list has to say the truth of
// each terminal, of those that left and of those whose line is dead, too; and in the second half the clinic's memory, goroutines and descriptors may not grow.
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
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"vindu/scripts/stack"
)

// size is how much is tried. Zero durations follow from For.
type size struct {
	Terminals, Workers int
	For                time.Duration // with faults; calm comes after it
	Every              time.Duration // a fault befalls a terminal, on average
	Longest            time.Duration // of a fault
	ReportAfter        time.Duration // the broker is out of reach, before HTTPS is used
	Silence            bool          // lines that are dead are to be found out, too: that takes more than a minute
	Flips              int32         // thousandths: that a condition begins or ends at a look
	Seed               uint64
	Dir, Bin           string
	Says               io.Writer
}

// long is an hour's.
var long = size{Terminals: 200, Workers: 8, For: time.Hour, Every: 90 * time.Second, Longest: 50 * time.Second, ReportAfter: 5 * time.Minute, Silence: true, Flips: 150}

func main() {
	if len(os.Args) == 2 && os.Args[1] == "worker" {
		exit(work(context.Background(), os.Stdin, os.Stdout))
	}
	z := long
	flag.IntVar(&z.Terminals, "terminals", z.Terminals, "how many terminals")
	flag.IntVar(&z.Workers, "workers", z.Workers, "processes that they run in")
	flag.DurationVar(&z.For, "for", z.For, "how long there are faults")
	flag.DurationVar(&z.Every, "every", z.Every, "how often one befalls a terminal, on average")
	flag.DurationVar(&z.ReportAfter, "report-after", z.ReportAfter, "how long terminals wait for the broker before they use HTTPS")
	flag.Uint64Var(&z.Seed, "seed", 0, "of all chance; 0: any")
	flag.StringVar(&z.Dir, "dir", "", "folder, made if missing and kept; default: a temporary one")
	summary := flag.String("summary", "", "file that the summary is written to as well")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	z.Says = os.Stderr
	z.Seed = cmp.Or(z.Seed, uint64(time.Now().UnixNano()))
	exit(func() error {
		if z.Dir == "" {
			dir, err := os.MkdirTemp("", "vindu-crowd-")
			if err != nil {
				return err
			}
			defer os.RemoveAll(dir)
			z.Dir = dir
		}
		z.Bin = filepath.Join(z.Dir, "bin")
		if err := stack.BuildClinic(ctx, ".", z.Bin); err != nil {
			return err
		}
		program, err := os.Executable()
		if err != nil {
			return err
		}
		r, err := live(ctx, z, []string{program, "worker"})
		text := r.summary(z, err)
		fmt.Print(text)
		if *summary != "" {
			err = errors.Join(err, os.WriteFile(*summary, []byte(text), 0o644))
		}
		return err
	}())
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "crowd:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// summary is what there is to tell in the end.
func (r *result) summary(z size, err error) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d terminals, faults for %v, seed %d, ended %s\n", z.Terminals, z.For, z.Seed, time.Now().Format(time.DateTime))
	fmt.Fprintf(&b, "faults: %s; clinic killed %d times, processes of terminals %d times; the clinic ended by itself %d times\n", counts(r.faults), r.clinicKills, r.workerKills, max(r.memory.starts-1-r.clinicKills, 0))
	fmt.Fprintf(&b, "events: %d promised, %d at the clinic, %d lost, %d doubled, %d out of order, %d left in outboxes\n", r.promised, r.stored, r.lost, r.doubled, r.disordered, r.left)
	fmt.Fprintf(&b, "recognised as sent before: %d at least; told by HTTPS: %d at least, %d while a terminal had nothing else\n", r.repeated, r.reported, r.byHTTPS)
	fmt.Fprintf(&b, "presence: wrong of %d of %d terminals; alarms of copied terminals: %.0f\n", r.presenceWrong, r.presenceAsked, r.alarms)
	r.memory.summary(&b)
	if err != nil {
		fmt.Fprintf(&b, "FAILED: %v\n", err)
	} else {
		fmt.Fprintln(&b, "all as it has to be")
	}
	return b.String()
}

// hand is a worker's process as its parent has it.
type hand struct {
	order order
	*child
}

// send tells a worker a word.
func (h *hand) send(words ...any) error {
	_, err := fmt.Fprintln(h.in, words...)
	return err
}

// listen hands on what a worker says until it ends.
func listen(out io.Reader, to chan<- told) {
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		var t told
		if json.Unmarshal(lines.Bytes(), &t) == nil {
			to <- t
		}
	}
}
