package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// HostAddr is the host's address on the guest's network, in the network's own namespace.
	HostAddr = "10.77.0.1"
	// GuestAddr is the guest's.
	GuestAddr = "10.77.0.2"

	tap      = "tap0"
	netnsDir = "/run/netns"
	prefix   = "vindu-lab-"
)

// Net is a network namespace with a tap device, on which the guest hangs, and a loopback. Nothing in it reaches the
// host's networks, nor the other way round; clinic and browser run inside it.
type Net struct {
	name string
}

var netCount atomic.Int32

// NewNet makes a network for a test, whose end takes it away. [Boot] makes its own.
func NewNet(t testing.TB) *Net {
	t.Helper()
	n, err := newNet(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.close(context.Background()); err != nil {
			t.Errorf("take the network away: %v", err)
		}
	})
	return n
}

// possible says why this machine cannot have a network for the lab, before anything is built for it.
func possible(user int, tun string) error {
	if user != 0 {
		return errors.New("the lab needs root, for a network of its own: run it as root")
	}
	f, err := os.OpenFile(tun, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("the lab needs a tap device: %w (modprobe tun; in a container --device=/dev/net/tun)", err)
	}
	return f.Close()
}

// newNet makes a network. Networks that a killed test left behind are taken away first.
func newNet(ctx context.Context) (*Net, error) {
	if err := pruneNets(ctx); err != nil {
		return nil, err
	}
	n := &Net{fmt.Sprintf("%s%d-%d", prefix, os.Getpid(), netCount.Add(1))}
	if _, err := output(ctx, "/", "ip", "netns", "add", n.name); err != nil {
		return nil, fmt.Errorf("make a network namespace, which a container has to be allowed (SYS_ADMIN and NET_ADMIN): %w", err)
	}
	for _, arguments := range [][]string{
		{"link", "set", "lo", "up"},
		{"tuntap", "add", tap, "mode", "tap"},
		{"addr", "add", HostAddr + "/24", "dev", tap},
		{"link", "set", tap, "up"},
	} {
		if _, err := output(ctx, "/", "ip", append([]string{"-n", n.name}, arguments...)...); err != nil {
			return nil, errors.Join(fmt.Errorf("set up network %s: %w", n.name, err), n.close(ctx))
		}
	}
	return n, nil
}

// pruneNets takes away the networks of test processes that are no more.
func pruneNets(ctx context.Context) error {
	names, err := orphans(netnsDir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := (&Net{name}).close(ctx); err != nil {
			return fmt.Errorf("take away what an earlier test left: %w", err)
		}
	}
	return nil
}

// orphans are the entries of a directory that carry the prefix and the process id of a test that is no more.
func orphans(directory string) ([]string, error) {
	entries, err := os.ReadDir(directory)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	var names []string
	for _, entry := range entries {
		owner, ok := strings.CutPrefix(entry.Name(), prefix)
		owner, _, _ = strings.Cut(owner, "-")
		if pid, err := strconv.Atoi(owner); ok && err == nil && errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			names = append(names, entry.Name())
		}
	}
	return names, nil
}

// close ends every process that is still in the network, and the network.
func (n *Net) close(ctx context.Context) error {
	pids, err := output(ctx, "/", "ip", "netns", "pids", n.name)
	if err == nil {
		for pid := range strings.FieldsSeq(pids) {
			if number, err := strconv.Atoi(pid); err == nil {
				syscall.Kill(number, syscall.SIGKILL) // it may be gone already
			}
		}
	}
	_, err = output(ctx, "/", "ip", "netns", "del", n.name)
	return err
}

// inFront runs a program ahead of the machine's other work. Where Linux groups processes by session for scheduling
// (sched(7), "The autogroup feature"), niceness counts within the session only: it needs a session of its own, and that
// the session's niceness. Beside busy compilers a guest with a niceness of -10 alone got a third of a core.
const inFront = `[ ! -w /proc/self/autogroup ] || echo -15 >/proc/self/autogroup; exec nice -n -10 "$@"`

// Command is a command that runs in the network, in a session of its own and ahead of the machine's other work, because
// what runs here is measured. It is killed with the test process, whatever happens to that.
func (n *Net) Command(ctx context.Context, name string, arguments ...string) *exec.Cmd {
	command := exec.CommandContext(ctx, "sh", append([]string{"-c", inFront, "sh", "ip", "netns", "exec", n.name, name}, arguments...)...)
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setsid: true}
	command.WaitDelay = 5 * time.Second
	return command
}

// Enter changes a command that was made elsewhere so that it runs in the network. A nil network is this machine's own.
func (n *Net) Enter(command *exec.Cmd) {
	if n == nil {
		return
	}
	inside := n.Command(context.Background(), command.Path, command.Args[1:]...)
	command.Path, command.Args, command.Err = inside.Path, inside.Args, inside.Err
	if command.SysProcAttr == nil {
		command.SysProcAttr = &syscall.SysProcAttr{}
	}
	command.SysProcAttr.Pdeathsig, command.SysProcAttr.Setsid = syscall.SIGKILL, true
}

// DialContext connects from within the network; address holds an IP address, not a name.
func (n *Net) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	var conn net.Conn
	err := n.Inside(func() (err error) {
		var dialer net.Dialer
		conn, err = dialer.DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// Listen listens within the network.
func (n *Net) Listen(network, address string) (net.Listener, error) {
	var listener net.Listener
	err := n.Inside(func() (err error) {
		listener, err = net.Listen(network, address)
		return err
	})
	return listener, err
}

// Name is what ip-netns(8) calls the network.
func (n *Net) Name() string { return n.name }

// Inside calls f on a thread that is in the network. Sockets stay where they were made.
func (n *Net) Inside(f func() error) error {
	there, err := os.Open(filepath.Join(netnsDir, n.name))
	if err != nil {
		return fmt.Errorf("open network %s: %w", n.name, err)
	}
	defer there.Close()
	runtime.LockOSThread()
	here, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("open this thread's network: %w", err)
	}
	defer here.Close()
	if err := unix.Setns(int(there.Fd()), unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("enter network %s: %w", n.name, err)
	}
	err = f()
	if back := unix.Setns(int(here.Fd()), unix.CLONE_NEWNET); back != nil {
		return errors.Join(err, fmt.Errorf("leave network %s: %w", n.name, back)) // the thread stays locked and ends with its goroutine
	}
	runtime.UnlockOSThread()
	return err
}
