package control

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// connect returns a client whose far end serves in this process.
func connect(t *testing.T) *Client {
	t.Helper()
	near, far := net.Pipe()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		Serve(far) // returns when the client hangs up
	}()
	client := NewClient(near)
	t.Cleanup(func() {
		client.Close()
		<-ended
	})
	return client
}

func TestExec(t *testing.T) {
	cases := []struct {
		name    string
		command Command
		output  string
		fails   string
	}{
		{"both outputs", Command{Args: []string{"sh", "-c", "echo one; echo two >&2"}}, "one\ntwo\n", ""},
		{"input and environment", Command{Args: []string{"sh", "-c", "echo $WORD; cat"}, Env: []string{"WORD=a"}, Stdin: []byte("b")}, "a\nb", ""},
		{"exit status", Command{Args: []string{"sh", "-c", "echo why; exit 3"}}, "why\n", "exit status 3"},
		{"no such program", Command{Args: []string{"/no/such/program"}}, "", "no such file"},
		{"nothing to run", Command{}, "", "no command given"},
		{"runs too long", Command{Args: []string{"sleep", "60"}, Timeout: 50 * time.Millisecond}, "", "killed after 50ms"},
	}
	client := connect(t)
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			result, err := client.Exec(t.Context(), c.command)
			if string(result.Output) != c.output {
				t.Errorf("output %q, want %q", result.Output, c.output)
			}
			if c.fails == "" && err != nil || c.fails != "" && (err == nil || !strings.Contains(err.Error(), c.fails)) {
				t.Errorf("error %v, want %q", err, c.fails)
			}
		})
	}
}

func TestFiles(t *testing.T) {
	client := connect(t)
	name := filepath.Join(t.TempDir(), "a", "b")
	if _, err := client.ReadFile(t.Context(), name); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("reading a file that is not there: %v", err)
	}
	if err := client.WriteFile(t.Context(), File{Path: name, Mode: 0o600, Data: []byte("text")}); err != nil {
		t.Fatal(err)
	}
	data, err := client.ReadFile(t.Context(), name)
	if err != nil || string(data) != "text" {
		t.Errorf("read %q, %v", data, err)
	}
	if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

func TestHoldersSeesAnOpenFile(t *testing.T) {
	client := connect(t)
	name := filepath.Join(t.TempDir(), "device")
	file, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	holders, err := client.Holders(t.Context(), filepath.Join(filepath.Dir(name), "dev*"))
	if err != nil || len(holders) != 1 || holders[0].PID != os.Getpid() || holders[0].Path != name {
		t.Errorf("holders of an open file are %v, %v", holders, err)
	}
	file.Close()
	holders, err = client.Holders(t.Context(), name)
	if err != nil || len(holders) != 0 {
		t.Errorf("holders of a closed file are %v, %v", holders, err)
	}
}

func TestStartAndSignal(t *testing.T) {
	client := connect(t)
	log := filepath.Join(t.TempDir(), "log")
	pid, err := client.Start(t.Context(), Command{Args: []string{"sh", "-c", "echo begun; exec sleep 60"}, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	result, err := client.Signal(t.Context(), Signal{PID: pid, Signal: int(syscall.SIGTERM), Wait: 10 * time.Second})
	if err != nil || result.Code != -1 || !strings.Contains(result.State, "terminated") {
		t.Errorf("ended with %+v, %v", result, err)
	}
	if _, err := client.Signal(t.Context(), Signal{PID: pid + 1}); err == nil {
		t.Error("a process that was not started here took a signal")
	}
}

func TestCallGivesUp(t *testing.T) {
	near, far := net.Pipe() // nobody serves
	defer far.Close()
	client := NewClient(near)
	defer client.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	go far.Read(make([]byte, 1<<10))
	if err := client.Ping(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}
