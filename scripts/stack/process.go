package stack

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// process is a program that is kept running: when it dies without being asked to, it is started again after a second, as a terminal's
// or a server's own supervisor would.
type process struct {
	name string
	args []string
	log  string // file that its log is appended to
	says io.Writer

	mu    sync.Mutex
	cmd   *exec.Cmd
	began time.Time           // of the running program
	ready chan map[string]any // bounded by one; the fields of its latest "ready" line
	after time.Duration       // from its start to its latest "ready" line, as seen from outside
}

func newProcess(name, log string, says io.Writer, args ...string) *process {
	return &process{name: name, args: args, log: log, says: says, ready: make(chan map[string]any, 1)}
}

// pid returns the running program's process id, 0 if there is none.
func (p *process) pid() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return 0
	}
	return p.cmd.Process.Pid
}

// readyAfter returns how long the running program took from its start to saying that it is ready; 0 until it has.
func (p *process) readyAfter() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.after
}

// run keeps the program running until ctx ends, then asks it to stop and waits; after ten seconds it kills it. A program that ends by
// itself within its first two seconds has a reason that starting it again does not cure: run returns it.
func (p *process) run(ctx context.Context) error {
	if err := os.MkdirAll(filepath.Dir(p.log), 0o700); err != nil {
		return err
	}
	for {
		began := time.Now()
		last, err := p.once(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err == nil {
			err = errors.New("it ended by itself")
		}
		if time.Since(began) < 2*time.Second && !killed(err) {
			return fmt.Errorf("%s: %w\n%s(its log: %s)", p.name, err, last, p.log)
		}
		fmt.Fprintf(p.says, "%s stopped (%v); starting it again\n", p.name, err)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Second):
		}
	}
}

func killed(err error) bool {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return false
	}
	status, ok := exit.Sys().(syscall.WaitStatus)
	return ok && status.Signaled()
}

// once runs the program once and returns the last lines of its log.
func (p *process) once(ctx context.Context) (string, error) {
	// Pdeathsig is about the thread that started the program.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	out, err := os.OpenFile(p.log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return "", err
	}
	defer out.Close()
	read, write, err := os.Pipe()
	if err != nil {
		return "", err
	}
	defer read.Close()
	cmd := exec.CommandContext(ctx, p.args[0], p.args[1:]...)
	cmd.Stdout, cmd.Stderr = write, write
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	// A group of its own: Ctrl-C reaches the demo alone, which then stops its programs in order. And should the demo be
	// killed, they end too.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	p.mu.Lock()
	p.began, p.after = time.Now(), 0
	p.mu.Unlock()
	err = cmd.Start()
	write.Close()
	if err != nil {
		return "", err
	}
	p.mu.Lock()
	p.cmd = cmd
	p.mu.Unlock()

	var tail [][]byte
	lines := bufio.NewScanner(read)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := bytes.Clone(lines.Bytes())
		fmt.Fprintf(out, "%s\n", line)
		if tail = append(tail, line); len(tail) > 5 {
			tail = tail[1:]
		}
		p.notice(line)
	}
	err = cmd.Wait()
	p.mu.Lock()
	p.cmd = nil
	p.mu.Unlock()
	var last bytes.Buffer
	for _, l := range tail {
		fmt.Fprintf(&last, "  %s\n", l)
	}
	return last.String(), err
}

// notice looks for the line by which a program says that it is ready.
func (p *process) notice(line []byte) {
	var fields map[string]any
	if json.Unmarshal(line, &fields) != nil {
		return
	}
	if fields["msg"] != "ready" {
		return
	}
	p.mu.Lock()
	p.after = time.Since(p.began)
	p.mu.Unlock()
	select {
	case <-p.ready: // nobody looked at the former one
	default:
	}
	p.ready <- fields
}

// waitReady waits until the program has said that it is ready and returns that line's fields.
func (p *process) waitReady(ctx context.Context) (map[string]any, error) {
	select {
	case f := <-p.ready:
		return f, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("%s: not ready: %w (its log: %s)", p.name, context.Cause(ctx), p.log)
	}
}
