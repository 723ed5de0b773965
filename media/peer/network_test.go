package peer_test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"

	"vindu/media/peer"
	"vindu/media/peer/peertest"
)

const ownNetwork = "VINDU_TEST_OWN_NETWORK"

// TestRestartOnAnotherNetwork: the near end's interface loses its address, as a cable that is pulled or a Wi-Fi that is left does, and another interface comes that
// was not there when the connection was made. By the next offer picture and sound go on over it. In a network namespace of the test's own.
func TestRestartOnAnotherNetwork(t *testing.T) {
	if os.Getenv(ownNetwork) == "" {
		var out bytes.Buffer
		c := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
		c.Env, c.Stdout, c.Stderr = append(os.Environ(), ownNetwork+"=yes"), &out, &out
		c.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
			UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}, GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
		}
		if err := c.Run(); err != nil || !strings.Contains(out.String(), "--- PASS: "+t.Name()) {
			t.Fatalf("%v\n%s", err, out.String())
		}
		return
	}
	ip := func(arguments string) {
		t.Helper()
		if out, err := exec.CommandContext(t.Context(), "ip", strings.Fields(arguments)...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v: %s", arguments, err, out)
		}
	}
	ip("link set lo up")
	ip("link add near0 type veth peer name far0")
	for _, name := range []string{"near0", "far0"} {
		ip("link set " + name + " up")
	}
	ip("addr add 192.0.2.1/24 dev near0")
	ip("addr add 192.0.2.2/24 dev far0")
	ip("addr add 198.51.100.2/24 dev far0")
	only := func(prefix string) func(string) bool {
		return func(name string) bool { return strings.HasPrefix(name, prefix) }
	}
	c, offer := newCaller(t, peertest.Options{Interfaces: only("far")})
	n := newNear(t, peer.Config{Interfaces: only("near")}, offer)
	if err := c.Answer(string(n.p.Answer())); err != nil {
		t.Fatal(err)
	}
	n.start(c)
	n.await(peer.Secure)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { n.send(ctx) })
	defer wg.Wait()
	defer cancel()
	eventually(t, "frames", func() bool { f, _ := c.Frames(); return n.frames.Load() > 5 && f > 5 })
	ip("addr del 192.0.2.1/24 dev near0")
	n.await(peer.Interrupted)
	ip("link add near1 type veth peer name other1")
	ip("link set near1 up")
	ip("link set other1 up")
	ip("addr add 198.51.100.1/24 dev near1")
	before := n.frames.Load()
	sent, _ := c.Frames()
	n.move(c, nil)
	n.await(peer.Resumed)
	eventually(t, "frames on the other network", func() bool { f, _ := c.Frames(); return n.frames.Load() > before+10 && f > sent+5 })
}
