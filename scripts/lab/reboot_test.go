package lab

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"vindu/scripts/lab/control"
)

var resets = flag.Int("resets", 3, "resets of TestReset; make soak takes 50")

// TestReset resets the whole terminal at moments that nobody chose, also while it starts. Each time it comes back by itself, is the one that it was,
// and reaches its clinic; also when its disk is full. From outside no port of it is open.
func TestReset(t *testing.T) {
	t.Parallel() // how long it takes is judged where the host had time to spare
	program, err := Build(t.Context(), "./cmd/vindu-agent", false)
	if err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(t.TempDir(), "data")
	if err := errors.Join(os.WriteFile(data, nil, 0o600), os.Truncate(data, 64<<20)); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), "/sbin/mkfs.ext4", "-q", data).CombinedOutput(); err != nil {
		t.Fatalf("make a file system: %v\n%s", err, out)
	}
	guest := Boot(t, Options{
		Programs: map[string][]byte{"/usr/bin/vindu-agent": program},
		Files:    map[string][]byte{"/etc/vindu/agent.toml": []byte(agentConfig)},
		Disks:    []string{data},
	})
	clinic := StartClinic(t, guest)
	mount := func() {
		t.Helper()
		if _, err := guest.Exec(t.Context(), control.Command{Args: []string{"sh", "-c",
			"modprobe virtio_blk && modprobe crc32c_generic && modprobe ext4 && mkdir -p /var/lib/vindu && mount -t ext4 /dev/vda /var/lib/vindu"}}); err != nil {
			t.Fatal(err)
		}
	}
	mount()
	voucher, err := clinic.Voucher(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	agent := []string{"/usr/bin/vindu-agent", "run", "-config", "/etc/vindu/agent.toml"}
	if _, err = guest.Exec(t.Context(), control.Command{
		Args:  []string{"/usr/bin/vindu-agent", "enrol", "-config", "/etc/vindu/agent.toml", "-voucher-file", "-"},
		Stdin: []byte(voucher),
	}); err != nil {
		t.Fatal(err)
	}
	start := func() int {
		t.Helper()
		pid, err := guest.Start(t.Context(), control.Command{Args: agent, Log: agentLog})
		if err != nil {
			t.Fatal(err)
		}
		return pid
	}
	start()
	first := whoIsReady(t, guest)
	rng := rand.New(rand.NewPCG(uint64(*resets), 1))
	var took []time.Duration
	pid := 0
	for n := range *resets {
		// From the start of a boot's agent on, up to some time after it is ready.
		after := time.Duration(rng.IntN(9000)) * time.Millisecond
		if n > 0 {
			start()
		}
		<-time.After(after)
		before, err := ReadCPU()
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if err := guest.Reset(t.Context()); err != nil {
			t.Fatal(err)
		}
		mount()
		pid = start()
		if again := whoIsReady(t, guest); again != first {
			t.Fatalf("after reset %d the terminal is %s, it was %s", n+1, again, first)
		}
		took = append(took, time.Since(began))
		host, err := ReadCPU()
		if err != nil {
			t.Fatal(err)
		}
		if idle := host.IdleSince(before); took[n] > reset && idle >= LeastIdle {
			t.Errorf("after reset %d the terminal was ready in %s, want %s; %.1f of the host's cores were idle", n+1, took[n], reset, idle)
		}
		guest.Log("reset %d, %s after the agent's start: ready again in %.1f s", n+1, after, took[n].Seconds())
		if n+1 < *resets {
			if err := guest.Reset(t.Context()); err != nil { // and once more, so that the next cut may come while it starts
				t.Fatal(err)
			}
			mount()
		}
	}
	// A full disk keeps no terminal from starting either.
	if _, err := guest.Exec(t.Context(), control.Command{Args: []string{"sh", "-c",
		"cd /var/lib/vindu && ! dd if=/dev/zero of=fill bs=64k && ! dd if=/dev/zero of=rest bs=512 && ! (echo 1 >word) && sync"}}); err != nil {
		t.Fatal(err)
	}
	if err := guest.Reset(t.Context()); err != nil {
		t.Fatal(err)
	}
	mount()
	pid = start()
	if again := whoIsReady(t, guest); again != first {
		t.Fatalf("with a full disk the terminal is %s, it was %s", again, first)
	}
	guest.Log("ready with a full disk")
	if _, err := guest.Exec(t.Context(), control.Command{Args: []string{"sh", "-c", "cd /var/lib/vindu && rm fill rest word"}}); err != nil {
		t.Fatal(err)
	}
	slices.Sort(took)
	t.Logf("%d resets: ready again in %.1f s, at most %.1f s", 2**resets-1, took[len(took)/2].Seconds(), took[len(took)-1].Seconds())
	onlyOpen(t, guest, 47)

	result, err := guest.Signal(t.Context(), control.Signal{PID: pid, Signal: int(syscall.SIGTERM), Wait: 15 * time.Second})
	if err != nil || result.Code != 0 {
		t.Errorf("the agent ended with %s, %v", result.State, err)
	}
	keepAgentLog(t.Context(), t, guest)
}

// whoIsReady waits until the agent has reached its clinic, and returns its key.
func whoIsReady(t *testing.T, guest *Guest) (key string) {
	t.Helper()
	err := guest.Until(t.Context(), 2*time.Minute, func() error {
		log, err := guest.ReadFile(t.Context(), agentLog)
		for line := range strings.Lines(string(log)) {
			var said struct{ Msg, Terminal string }
			if json.Unmarshal([]byte(line), &said) == nil && said.Msg == "ready" {
				key = said.Terminal
				return nil
			}
		}
		return errors.Join(err, fmt.Errorf("the agent is not ready: %s", log))
	})
	if err != nil || key == "" {
		t.Fatalf("who is ready: %q, %v", key, err)
	}
	return key
}

// onlyOpen opens one port itself, tries every TCP port of the terminal from outside, and looks at the UDP ports from inside (answers about those are
// bounded by the kernel): the one is found, and no other.
func onlyOpen(t *testing.T, guest *Guest, own int) {
	t.Helper()
	pid, err := guest.Start(t.Context(), control.Command{Args: []string{"labguest", "open", strconv.Itoa(own)}})
	if err != nil {
		t.Fatal(err)
	}
	defer guest.Signal(t.Context(), control.Signal{PID: pid, Signal: int(syscall.SIGKILL)}) // the guest ends soon
	if err := guest.Until(t.Context(), 20*time.Second, func() error {
		result, err := guest.Exec(t.Context(), control.Command{Args: []string{"netstat", "-l", "-n", "-t", "-u"}})
		if err == nil && strings.Count(string(result.Output), fmt.Sprintf(":%d ", own)) != 2 {
			err = fmt.Errorf("port %d is not open twice:\n%s", own, result.Output)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	const workers, ports = 64, 1 << 16
	var mu sync.Mutex
	var open, silent []int
	try := func(from int) {
		err := guest.Net.Inside(func() error {
			for port := from; port < ports; port += workers {
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
				conn, err := new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort(GuestAddr, strconv.Itoa(port)))
				cancel()
				mu.Lock()
				switch {
				case err == nil:
					conn.Close()
					open = append(open, port)
				case !errors.Is(err, syscall.ECONNREFUSED):
					silent = append(silent, port)
				}
				mu.Unlock()
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
	began := time.Now()
	var ended sync.WaitGroup
	for worker := range workers {
		ended.Go(func() { try(worker + 1) })
	}
	ended.Wait()
	guest.Log("all TCP ports tried in %.1f s", time.Since(began).Seconds())
	if !slices.Equal(open, []int{own}) || len(silent) > 0 {
		t.Errorf("from outside the TCP ports %v are open, %v did not answer; the test's own is %d", open, silent, own)
	}
	var anybody []string // may send to these
	for _, table := range []string{"/proc/net/udp", "/proc/net/udp6"} {
		text, err := guest.ReadFile(t.Context(), table)
		if err != nil {
			t.Fatal(err)
		}
		for n, line := range strings.Split(strings.TrimSpace(string(text)), "\n") {
			fields := strings.Fields(line) // sl, local address, remote address: proc(5)
			if n == 0 || len(fields) < 3 {
				continue
			}
			if !strings.HasPrefix(fields[1], "0100007F:") && strings.Trim(fields[2], "0:") == "" {
				anybody = append(anybody, fields[1])
			}
		}
	}
	if want := fmt.Sprintf("0000:%04X", own); len(anybody) != 1 || !strings.HasSuffix(anybody[0], want) {
		t.Errorf("anybody may send to the UDP ports %v; the test's own is %s", anybody, want)
	}
}
