// Package faults provokes faults of the network between the programs that ship: terminals in homes, each behind a router of its own, a clinic, and a clinician's
// browser, in network namespaces that the test makes. Nothing in them reaches any other network.
//
//	home (vindu-agent) ── router (NAT, names, filters) ── line ── internet ── clinic (vindu-clinic)
//	                                                                 └─────── caller (Chromium)
//
// Each fault has a home of its own, so that they are provoked beside one another: what takes long is to wait until a condition has held for as long as the
// register says. There is one browser, and calls are made one after the other. What is read is what people read: the terminal by `vindu-agent diagnose`,
// the clinic by its records.
//
// A device that the kernel makes up is no device to the terminal, unless its configuration names it: that is why it is called its Wi-Fi here.
package faults

import (
	"bufio"
	"context"
	"encoding/json"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"vindu/clinic/config"

	"vindu/clinic/audit"
	"vindu/clinic/authority"
	"vindu/clinic/calls"
	"vindu/clinic/fleet"
	"vindu/clinic/register"
	"vindu/clinic/store"
	"vindu/protocol"
	"vindu/scripts/lab"
	"vindu/scripts/stack"
)

// Names and addresses, of those that are for examples (RFC 5737, RFC 3849).
const (
	clinicName  = "clinic.example"
	clinicFour  = "198.51.100.10"
	clinicSix   = "2001:db8:51::10"
	callerFour  = "192.0.2.20"
	routerInner = "192.168.2.1"
	nowhere     = "198.51.100.99" // nobody has it
)

// world is everything but the homes.
type world struct {
	dir, bin                 string
	internet, clinic, caller *lab.Net
	server                   *program

	calls    *calls.Service
	fleet    *fleet.Fleet
	register *register.Register
	store    *store.Store

	desk desk
}

// newWorld builds the programs, and makes networks and a clinic.
func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{dir: t.TempDir()}
	w.bin = filepath.Join(w.dir, "bin")
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	if err := stack.Build(t.Context(), root, w.bin, true); err != nil {
		t.Fatal(err)
	}
	w.internet, w.clinic, w.caller = network(t), network(t), network(t)
	forwards(t, w.internet)
	w.connect(t, w.clinic, "c0", "198.51.100.1/24", clinicFour+"/24")
	w.connect(t, w.caller, "k0", "192.0.2.1/24", callerFour+"/24")
	ip(t, w.internet, "addr", "add", "2001:db8:51::1/64", "dev", "c0", "nodad")
	ip(t, w.clinic, "addr", "add", clinicSix+"/64", "dev", "eth0", "nodad")
	ip(t, w.clinic, "route", "add", "default", "via", "2001:db8:51::1")
	// The pages without TLS are for loopback alone: what the browser asks its own for goes to the clinic's.
	forward(t, w.caller, "127.0.0.1:8080", w.caller, clinicFour+":8081")
	forward(t, w.clinic, clinicFour+":8081", w.clinic, "127.0.0.1:8080")

	w.run(t, "vindu-clinic", "init", "-dir", w.path("clinic"), "-organisation", stack.Organisation, "-address", clinicName+":443", "-listen", ":443", "-plain", "localhost:8080",
		"-relay", clinicFour+":3478", "-local", "-log", "json")
	settings := filepath.Join(w.path("clinic"), "clinic.toml")
	c, err := config.Load(settings)
	if err != nil {
		t.Fatal(err)
	}
	c.Rehearsals = config.Rehearsals{} // what is provoked at night is not disturbed
	text, err := c.Render()
	if err == nil {
		err = os.WriteFile(settings, text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	policy := w.path("policy.toml")
	if err := os.WriteFile(policy, []byte(stack.Policy), 0o600); err != nil {
		t.Fatal(err)
	}
	w.run(t, "vindu-clinic", "policy", "set", "-dir", w.path("clinic"), policy)
	return w
}

// open reads the clinic's records beside its server, as its commands do.
func (w *world) open(t *testing.T) {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	keys, err := authority.Load(w.path("clinic", "authority"))
	fatal(t, err)
	w.store, err = store.Open(t.Context(), w.path("clinic", "clinic.db"), log)
	fatal(t, err)
	t.Cleanup(func() { w.store.Close() })
	trail, err := audit.New(t.Context(), w.store, keys.LogKey())
	fatal(t, err)
	w.register, err = register.New(t.Context(), w.store, trail)
	fatal(t, err)
	records, err := calls.OpenRecords(t.Context(), w.store, trail, log)
	fatal(t, err)
	w.fleet, err = fleet.New(t.Context(), fleet.Config{Store: w.store}, log)
	fatal(t, err)
	records.Held = w.fleet.Held
	w.calls = calls.New(calls.Config{Records: records, Register: w.register, Log: log})
}

func fatal(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (w *world) path(elements ...string) string {
	return filepath.Join(append([]string{w.dir}, elements...)...)
}

// network is one without the device that the lab's guest would hang on.
func network(t *testing.T) *lab.Net {
	t.Helper()
	n := lab.NewNet(t)
	ip(t, n, "link", "del", "tap0")
	return n
}

// connect lays a cable from the internet, where its end is called name.
func (w *world) connect(t *testing.T, n *lab.Net, name, near, far string) {
	t.Helper()
	ip(t, w.internet, "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", n.Name())
	ip(t, w.internet, "addr", "add", near, "dev", name)
	ip(t, w.internet, "link", "set", name, "up")
	ip(t, n, "addr", "add", far, "dev", "eth0")
	ip(t, n, "link", "set", "eth0", "up")
	gateway, err := netip.ParsePrefix(near)
	fatal(t, err)
	ip(t, n, "route", "add", "default", "via", gateway.Addr().String())
}

// ip changes a network.
func ip(t *testing.T, n *lab.Net, arguments ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if out, err := exec.CommandContext(ctx, "ip", append([]string{"-n", n.Name()}, arguments...)...).CombinedOutput(); err != nil {
		t.Fatalf("ip %s: %v\n%s", strings.Join(arguments, " "), err, out)
	}
}

// filter gives a network's packet filter more rules.
func filter(t *testing.T, n *lab.Net, rules string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	command := exec.CommandContext(ctx, "ip", "netns", "exec", n.Name(), "nft", "-f", "-")
	command.Stdin = strings.NewReader(rules)
	if out, err := command.CombinedOutput(); err != nil {
		t.Fatalf("nft: %v\n%s\n%s", err, out, rules)
	}
}

// forwards has a network pass packets on.
func forwards(t *testing.T, n *lab.Net) {
	t.Helper()
	fatal(t, n.Inside(func() error {
		for _, file := range []string{"ipv4/ip_forward", "ipv6/conf/all/forwarding"} {
			if err := os.WriteFile("/proc/sys/net/"+file, []byte("1"), 0o600); err != nil {
				return err
			}
		}
		return nil
	}))
}

// run runs one of the clinic's commands, in no network of ours: it needs none.
func (w *world) run(t *testing.T, name string, arguments ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	command := exec.CommandContext(ctx, filepath.Join(w.bin, name), arguments...)
	var said strings.Builder
	command.Stderr = &said
	out, err := command.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(arguments, " "), err, said.String())
	}
	return strings.TrimSpace(string(out))
}

// program is one that runs in a network until it is stopped.
type program struct {
	name string
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended

	mu    sync.Mutex
	lines []logLine
	tail  []string
}

// logLine is what a program has said of what matters here.
type logLine struct {
	At   time.Time
	Msg  string        `json:"msg"`
	Code protocol.Code `json:"code"`
}

// start runs a program in a network.
func start(t *testing.T, n *lab.Net, name string, arguments ...string) *program {
	t.Helper()
	p := &program{name: filepath.Base(arguments[0]), done: make(chan struct{})}
	p.cmd = n.Command(context.Background(), name, arguments...)
	out, err := p.cmd.StderrPipe()
	fatal(t, err)
	p.cmd.Stdout = p.cmd.Stderr
	// What kills it when its parent ends is about the thread that started it, which this test's goroutines do not keep: the networks' end kills all that is in them.
	p.cmd.SysProcAttr.Pdeathsig = 0
	fatal(t, p.cmd.Start())
	go func() { // until the program ends, which stop waits for
		defer close(p.done)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			p.take(lines.Bytes())
		}
		p.cmd.Wait() // how it ended is in its log
	}()
	t.Cleanup(func() { p.stop(t) })
	return p
}

func (p *program) take(line []byte) {
	var l logLine
	p.mu.Lock()
	defer p.mu.Unlock()
	if json.Unmarshal(line, &l) == nil && (l.Msg == "ready" || l.Msg == "coders of the picture" || strings.HasPrefix(l.Msg, "condition")) {
		l.At = time.Now()
		p.lines = append(p.lines, l)
	}
	if p.tail = append(p.tail, string(line)); len(p.tail) > 40 {
		p.tail = p.tail[1:]
	}
}

// stop ends it as a supervisor would.
func (p *program) stop(t *testing.T) {
	select {
	case <-p.done:
		return
	default:
	}
	p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	select {
	case <-p.done:
	case <-time.After(15 * time.Second):
		t.Errorf("%s does not stop", p.name)
		p.cmd.Process.Kill()
		<-p.done
	}
}

// said tells whether a line came after an instant.
func (p *program) said(msg string, code protocol.Code, after time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range p.lines {
		if l.Msg == msg && (code == "" || l.Code == code) && l.At.After(after) {
			return true
		}
	}
	return false
}

func (p *program) last() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.tail, "\n")
}

// until waits for something to be so, and says after how long it was.
func until(t *testing.T, limit time.Duration, what string, so func() bool) time.Duration {
	t.Helper()
	began := time.Now()
	for !so() {
		if time.Since(began) > limit {
			t.Fatalf("waited %s in vain for %s", limit, what)
		}
		select {
		case <-t.Context().Done():
			t.Fatalf("the test ended while it waited for %s", what)
		case <-time.After(100 * time.Millisecond):
		}
	}
	return time.Since(began)
}

// serve starts the clinic.
func (w *world) serve(t *testing.T) {
	t.Helper()
	w.server = start(t, w.clinic, filepath.Join(w.bin, "vindu-clinic"), "serve", "-config", w.path("clinic", "clinic.toml"))
	until(t, 30*time.Second, "a clinic that is ready", func() bool { return w.server.said("ready", "", time.Time{}) })
}
