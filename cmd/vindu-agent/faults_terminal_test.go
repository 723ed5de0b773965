package main

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"math/big"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vindu/device/identity"
	"vindu/device/state"
	"vindu/protocol"
	"vindu/protocol/faulttest"
)

// innerFault is something that goes wrong inside a terminal, so that a call fails.
type innerFault struct {
	name    string
	rule    string // of package diagnosis, that has to speak once it is over
	held    protocol.Code
	away    bool          // the clinic hears of it only afterwards
	behind  time.Duration // the terminal's clock
	provoke func(x *bench)
	relieve func(x *bench)
	slow    bool // it is looked at each minute
}

// TestFaultsOfTerminals provokes what goes wrong inside a terminal, and rings it: its clock is off, its certificate has expired, its disk is full. The program is the one that
// ships; its state is on a file system of its own.
func TestFaultsOfTerminals(t *testing.T) {
	t.Parallel()
	disk := t.TempDir()
	all := innerFaults(disk)
	var names []string
	for _, f := range all {
		names = append(names, f.name)
	}
	list := faulttest.New(t, "inside", "cmd/vindu-agent TestFaultsOfTerminals", *update, names...)
	mountSmall(t, disk)
	x := newBenchOf(t, func(x *bench) {
		if out, err := exec.CommandContext(t.Context(), "cp", "-a", x.terminal.cfg.State, disk).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		x.terminal.cfg.State = filepath.Join(disk, filepath.Base(x.terminal.cfg.State))
	})
	for _, f := range all {
		t.Run(f.name, func(t *testing.T) {
			x.as(t, func(x *bench) { x.inner(f, list) })
		})
	}
}

// inner provokes a fault, rings, relieves it, and reads what was told and said.
func (x *bench) inner(f innerFault, list *faulttest.List) {
	x.t.Helper()
	x.idle()
	v := x.vigil(f.held)
	began := v.since
	v.since = began.Add(-f.behind)
	f.provoke(x)
	if f.slow {
		eventually(func() bool { codes, _ := v.begun(); return slices.Contains(codes, f.held) })
	}
	if f.away {
		v.tells(list.Hides(f.name)...)
	} else {
		v.shows(list.Hides(f.name)...)
	}
	x.fails()
	f.relieve(x)
	hidden := v.over()
	list.Saw(x.t, faulttest.Fault{Fault: f.name, Condition: f.held, Hidden: hidden, Rule: f.rule, Sentence: x.diagnosed(f.rule, began)})
}

func innerFaults(disk string) []innerFault {
	anew := func(change func(x *bench)) func(x *bench) {
		return func(x *bench) {
			x.terminal.end()
			change(x)
			x.again()
		}
	}
	return []innerFault{
		{name: "the terminal's clock is off: ten minutes behind, by what it was told", rule: "refused-lapsed-clock", held: protocol.TimeOff, behind: 11 * time.Minute,
			provoke: anew(func(x *bench) { x.c.tap(taps{clock: -10 * time.Minute}) }),
			relieve: anew(func(x *bench) { x.c.tap(taps{}) })},
		{name: "the terminal's certificate has expired, and is not renewed", rule: "offline-expired", held: protocol.IdentityExpired, away: true,
			provoke: func(x *bench) {
				x.terminal.end()
				x.expire()
				x.c.tap(taps{noRenewal: true})
				x.terminal.start()
				x.c.await("a terminal that is away", func() bool { return !x.c.fleet.State(x.c.home.Terminal).Online })
			},
			relieve: anew(func(x *bench) { x.c.tap(taps{}) })},
		{name: "the terminal's disk is full", rule: "register", held: protocol.StorageFull,
			provoke: func(x *bench) { x.fill(disk) }, slow: true,
			relieve: func(x *bench) { x.c.check(os.Remove(filepath.Join(disk, filler))) }},
	}
}

// mountSmall mounts a file system that is soon full, as root, who runs the tests.
func mountSmall(t *testing.T, at string) {
	t.Helper()
	if err := unix.Mount("tmpfs", at, "tmpfs", 0, "size=16m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(at, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}

const filler = "filler"

// fill writes until the file system takes no more.
func (x *bench) fill(disk string) {
	x.t.Helper()
	f, err := os.Create(filepath.Join(disk, filler))
	x.c.check(err)
	block := make([]byte, 4096)
	for err == nil {
		_, err = f.Write(block)
	}
	if !errors.Is(err, unix.ENOSPC) {
		x.t.Fatal(err)
	}
	x.c.check(f.Close())
}

// expire has the clinic's CA, as it did once, certify the terminal for a time that is over.
func (x *bench) expire() {
	x.t.Helper()
	dir, err := state.Open(x.terminal.cfg.State)
	x.c.check(err)
	defer func() { x.c.check(dir.Close()) }()
	keys, err := keysOf(x.terminal.cfg, x.terminal.log).Open(dir)
	x.c.check(err)
	id, err := identity.Open(dir, keys, time.Now)
	x.c.check(err)
	issuing, err := tls.LoadX509KeyPair(filepath.Join(x.c.folder, "authority", "issuing.pem"), filepath.Join(x.c.folder, "authority", "issuing.key"))
	x.c.check(err)
	chain := id.Grant().Chain
	again := *chain[0]
	again.SerialNumber, again.NotBefore, again.NotAfter = big.NewInt(time.Now().UnixNano()), issuing.Leaf.NotBefore, time.Now().Add(-time.Minute)
	der, err := x509.CreateCertificate(rand.Reader, &again, issuing.Leaf, chain[0].PublicKey, issuing.PrivateKey)
	x.c.check(err)
	expired, err := x509.ParseCertificate(der)
	x.c.check(err)
	x.c.check(id.KeepChain(append([]*x509.Certificate{expired}, chain[1:]...)))
}

// again has the terminal begin again.
func (x *bench) again() {
	x.t.Helper()
	x.terminal.start()
	x.online()
}

// tellTime signs another time than the clinic's for a terminal that asks.
func (c *clinicServer) tellTime(w http.ResponseWriter, r *http.Request, at time.Time) {
	nonce, err := hex.DecodeString(r.URL.Query().Get("nonce"))
	if err != nil || len(nonce) != len(protocol.Nonce{}) {
		c.t.Errorf("the nonce %x: %v", nonce, err)
		return
	}
	signed, err := c.offline.SignClock(&protocol.Clock{Version: protocol.Version, Nonce: protocol.Nonce(nonce), At: protocol.At(at)})
	if err != nil {
		c.t.Error(err)
		return
	}
	w.Header().Set("Content-Type", `application/cose; cose-type="cose-sign1"`)
	_, _ = w.Write(signed)
}
