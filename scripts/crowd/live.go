package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/cookiejar"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"vindu/protocol"
	"vindu/scripts/stack"
)

// result is what came of it.
type result struct {
	faults                   map[string]int
	clinicKills, workerKills int

	promised, stored, lost, doubled, disordered, left int
	repeated, reported                                int // at least: what a clinic has counted that is killed is lost
	byHTTPS                                           int
	presenceAsked, presenceWrong                      int
	alarms                                            float64
	memory                                            memory
}

func counts(of map[string]int) string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(of)) {
		all = append(all, fmt.Sprintf("%s %d", name, of[name]))
	}
	return strings.Join(all, ", ")
}

// crowd is everything that runs.
type crowd struct {
	size
	program []string // of a worker
	clinic  *stack.Stack
	keys    []protocol.KeyHash
	lines   []string // addresses that terminals take for the clinic's
	hands   []*hand
	chance  *rand.Rand

	told    chan told
	windows []told // in which HTTPS alone was left
	calm    int    // workers that are
	r       *result
}

// live runs clinic and terminals through their time and judges it. program is how a worker is started.
func live(ctx context.Context, z size, program []string) (*result, error) {
	r := &result{faults: map[string]int{}}
	if err := os.MkdirAll(filepath.Join(z.Dir, "log"), 0o700); err != nil {
		return r, err
	}
	s, err := stack.New(stack.Options{Dir: z.Dir, Bin: z.Bin, Says: z.Says, Measured: true})
	if err != nil {
		return r, err
	}
	c := &crowd{size: z, program: program, clinic: s, chance: rand.New(rand.NewPCG(z.Seed, 1<<32)), told: make(chan told, 1000), r: r}
	fmt.Fprintf(z.Says, "%d terminals, faults for %v, seed %d, in %s\n", z.Terminals, z.For, z.Seed, z.Dir)
	err = s.RunClinic(ctx, c.run)
	if err == nil {
		err = c.judge(ctx)
	}
	return r, err
}

// run is all that happens while the clinic runs.
func (c *crowd) run(ctx context.Context) error {
	if err := c.enrol(ctx); err != nil {
		return fmt.Errorf("set the terminals up: %w", err)
	}
	inner, stop := context.WithCancel(ctx)
	defer stop()
	var around sync.WaitGroup
	defer around.Wait()
	defer stop()
	c.r.memory.begin(c.For)
	around.Go(func() { c.r.memory.watch(inner, c.clinic) })
	defer c.endHands()
	for n := range c.Workers {
		h := &hand{order: order{
			Dir: c.Dir, First: n * c.Terminals / c.Workers, Past: (n + 1) * c.Terminals / c.Workers, Addresses: c.lines, Clinic: c.clinic.Front(), Seed: c.Seed,
			Every: c.Every, Longest: c.Longest, Away: c.ReportAfter*7/5 + c.Longest/2, ReportAfter: c.ReportAfter, Flips: c.Flips,
		}}
		c.hands = append(c.hands, h)
		if err := c.begin(h); err != nil {
			return err
		}
	}
	if err := c.suffer(ctx); err != nil {
		return err
	}
	fmt.Fprintln(c.Says, "calm")
	for _, h := range c.hands {
		if err := h.send("calm"); err != nil {
			return err
		}
	}
	for c.calm < len(c.hands) {
		if err := c.hear(ctx, nil); err != nil {
			return fmt.Errorf("calm came, and not all terminals were online again: %w", err)
		}
	}
	if err := c.presence(ctx); err != nil {
		return err
	}
	stop()
	around.Wait()
	c.r.repeated, c.r.reported = int(c.r.memory.counted(repeated)), int(c.r.memory.counted(reported))
	c.endHands()
	return c.drain(ctx)
}

// enrol makes the terminals: homes and vouchers by the clinic's own program, keys and certificates as real ones get them.
func (c *crowd) enrol(ctx context.Context) error {
	log := slog.New(slog.DiscardHandler)
	block := 10 + c.chance.IntN(200)
	for {
		l, err := net.Listen("tcp", address(block, 0))
		if err == nil {
			l.Close()
			break
		}
		if block++; block > 250 {
			return fmt.Errorf("no free addresses on loopback: %w", err)
		}
	}
	c.keys, c.lines = make([]protocol.KeyHash, c.Terminals), make([]string, c.Terminals)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(2)
	for n := range c.Terminals {
		c.lines[n] = address(block, n)
		group.Go(func() error {
			v, err := c.clinic.Voucher(ctx, home(n))
			if err == nil {
				c.keys[n], err = enrol(ctx, folder(c.Dir, n), c.lines[n], v, log)
			}
			return err
		})
	}
	return group.Wait()
}

func home(number int) string { return fmt.Sprintf("Home %d", number) }

// address is a terminal's own: the clinic sees two hundred, not one.
func address(block, number int) string {
	return fmt.Sprintf("127.%d.%d.%d:8443", block, number/250, number%250+1)
}

// child is a process that talks.
type child struct {
	cmd   *exec.Cmd
	in    io.WriteCloser
	ended chan struct{}
}

// begin starts a worker.
func (c *crowd) begin(h *hand) error {
	cmd := exec.Command(c.program[0], c.program[1:]...)
	cmd.Env = append(os.Environ(), workerVariable+"=1")
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	h.child = &child{cmd: cmd, in: in, ended: make(chan struct{})}
	go func(p *child) {
		defer close(p.ended)
		listen(out, c.told)
		cmd.Wait() //nolint:errcheck // it is killed now and then
	}(h.child)
	text, err := json.Marshal(h.order)
	if err != nil {
		return err
	}
	return h.send(string(text))
}

// workerVariable has a test's program be a worker.
const workerVariable = "VINDU_CROWD_WORKER"

// endHands has all workers stop, and waits for them.
func (c *crowd) endHands() {
	for _, h := range c.hands {
		if h.child != nil {
			h.in.Close()
		}
	}
	for _, h := range c.hands {
		for ended := h.child == nil; !ended; {
			select {
			case <-h.ended:
				ended = true
			case t := <-c.told:
				c.note(t)
			}
		}
		h.child = nil
	}
}

// hear takes what workers say, until due or one thing was said; a nil due never comes.
func (c *crowd) hear(ctx context.Context, due <-chan time.Time) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-due:
	case t := <-c.told:
		c.note(t)
	}
	return nil
}

func (c *crowd) note(t told) {
	switch {
	case t.Calm:
		c.calm++
	case t.Until != 0:
		c.windows = append(c.windows, t)
	default:
		c.r.faults[t.Fault]++
	}
}

// suffer is the time of faults. Those of lines and single terminals are the workers'; here processes are killed. The clinic is in the first half only, and once at least,
// so that its memory can be watched in the second.
func (c *crowd) suffer(ctx context.Context) error {
	began := time.Now()
	at := func(part float64) time.Time { return began.Add(time.Duration(part * float64(c.For))) }
	type kill struct {
		at     time.Time
		clinic bool
	}
	kills := []kill{{at(0.25 + 0.1*c.chance.Float64()), true}, {at(0.4 + 0.2*c.chance.Float64()), false}}
	for range int(c.For / (12 * time.Minute)) {
		kills = append(kills, kill{at(0.05 + 0.4*c.chance.Float64()), true})
	}
	for range int(c.For / (5 * time.Minute)) {
		kills = append(kills, kill{at(0.02 + 0.9*c.chance.Float64()), false})
	}
	slices.SortFunc(kills, func(a, b kill) int { return a.at.Compare(b.at) })
	until := func(due time.Time) error {
		timer := time.NewTimer(time.Until(due))
		defer timer.Stop()
		for time.Now().Before(due) {
			if err := c.hear(ctx, timer.C); err != nil {
				return err
			}
		}
		return nil
	}
	for _, k := range kills {
		if err := until(k.at); err != nil {
			return err
		}
		if k.clinic {
			pid := c.clinic.ClinicPID()
			if pid <= 0 {
				continue // it is on its way back
			}
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				return fmt.Errorf("kill the clinic: %w", err)
			}
			c.r.clinicKills++
			continue
		}
		h := c.hands[c.chance.IntN(len(c.hands))]
		if err := h.cmd.Process.Kill(); err != nil {
			return fmt.Errorf("kill a process of terminals: %w", err)
		}
		for ended := false; !ended; {
			select {
			case <-h.ended:
				ended = true
			case t := <-c.told:
				c.note(t)
			}
		}
		c.r.workerKills++
		if err := c.begin(h); err != nil {
			return err
		}
	}
	if err := until(began.Add(c.For)); err != nil {
		return err
	}
	// On a machine that has no time it may take longer until something was tried that is to be judged.
	for range 100 {
		if c.r.memory.evident.Load() {
			break
		}
		if err := until(time.Now().Add(3 * time.Second)); err != nil {
			return err
		}
	}
	return nil
}

// row is what the operator's list says of a home.
type row struct {
	Label, State string
}

// presence has some terminals leave and others' lines die, and waits until the operator's list says so of each, and of all others that they are there. It is asked
// as an operator's browser does.
func (c *crowd) presence(ctx context.Context) error {
	link, err := c.clinic.OperatorLink(ctx)
	if err != nil {
		return err
	}
	jar, err := cookiejar.New(nil)
	if err != nil {
		return err
	}
	client := &http.Client{Jar: jar, Timeout: 30 * time.Second}
	base, _, _ := strings.Cut(link, "/enter/")
	ask := func(path string) ([]byte, error) {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, path, nil)
		if err != nil {
			return nil, err
		}
		answer, err := client.Do(r)
		if err != nil {
			return nil, err
		}
		defer answer.Body.Close()
		b, err := io.ReadAll(answer.Body)
		if err == nil && answer.StatusCode != http.StatusOK {
			err = fmt.Errorf("%s: status %d", r.URL.Path, answer.StatusCode)
		}
		return b, err
	}
	if _, err := ask(link); err != nil {
		return fmt.Errorf("sign an operator in: %w", err)
	}
	wrong := func(there map[string]bool) (int, error) {
		b, err := ask(base + "/operator/fleet.json")
		if err != nil {
			return 0, err
		}
		var rows []row
		if err := json.Unmarshal(b, &rows); err != nil {
			return 0, err
		}
		n := len(there) - len(rows)
		for _, r := range rows {
			if here, known := there[r.Label]; !known || here != (r.State != "offline") {
				n++
			}
		}
		return n, nil
	}
	there := map[string]bool{}
	for n := range c.Terminals {
		there[home(n)] = true
	}
	until := func(what string) error {
		ctx, cancel := context.WithTimeoutCause(ctx, 5*time.Minute, errors.New("not within five minutes"))
		defer cancel()
		for {
			n, err := wrong(there)
			if err != nil {
				return err
			}
			if c.r.presenceAsked, c.r.presenceWrong = len(there), n; n == 0 {
				return nil
			}
			timer := time.NewTimer(200 * time.Millisecond)
			err = c.hear(ctx, timer.C)
			timer.Stop()
			if err != nil {
				return fmt.Errorf("the operator's list tells wrongly of %d terminals, %s: %w", n, what, err)
			}
		}
	}
	if err := until("all of which are there"); err != nil {
		return err
	}
	words := []string{"leave"}
	if c.Silence {
		words = append(words, "silence")
	}
	for _, word := range words {
		for _, h := range c.hands {
			message := []any{word}
			for n := h.order.First; n < h.order.Past; n++ {
				if there[home(n)] && c.chance.IntN(4) == 0 {
					message, there[home(n)] = append(message, n), false
				}
			}
			if err := h.send(message...); err != nil {
				return err
			}
		}
	}
	if err := until("some of which have gone"); err != nil {
		return err
	}
	told, err := c.clinic.Metrics(ctx)
	for name, n := range told {
		if strings.HasPrefix(name, "vindu_alarms_open") {
			c.r.alarms += n
		}
	}
	return err
}

// rounds bounds how often what is left in an outbox is given time to be told.
const rounds = 10

// drain has the terminals in whose outboxes something is left run again, without faults, until nothing is.
func (c *crowd) drain(ctx context.Context) error {
	for round := range rounds {
		var waiting []*hand
		for _, h := range c.hands {
			left := 0
			for n := h.order.First; n < h.order.Past; n++ {
				box, err := openBox(folder(c.Dir, n))
				if err != nil {
					return err
				}
				left += box.pending
			}
			if left > 0 {
				waiting = append(waiting, h)
			}
		}
		if len(waiting) == 0 {
			return nil
		}
		fmt.Fprintf(c.Says, "something is left in the outboxes of %d processes\n", len(waiting))
		c.calm = 0
		for _, h := range waiting {
			h.order.Every = 0
			if err := c.begin(h); err != nil {
				return err
			}
			if err := h.send("calm"); err != nil {
				return err
			}
		}
		for c.calm < len(waiting) {
			if err := c.hear(ctx, nil); err != nil {
				return err
			}
		}
		timer := time.NewTimer(time.Duration(round+1) * 4 * time.Second)
		for due := false; !due; {
			select {
			case <-ctx.Done():
				return context.Cause(ctx)
			case t := <-c.told:
				c.note(t)
			case <-timer.C:
				due = true
			}
		}
		c.endHands()
	}
	return nil // the judge counts what is left
}
