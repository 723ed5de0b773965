package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"vindu/scripts/stack"
)

// demo is the demo as a person runs it: a process of its own that prints its addresses.
type demo struct {
	clinician, terminal string
	cmd                 *exec.Cmd
	output              chan string // everything it printed, once it ended
}

var (
	clinicianLine = regexp.MustCompile(`(?m)^clinician: (\S+)$`)
	terminalLine  = regexp.MustCompile(`(?m)^terminal: (\S+)$`)
)

func projectRoot(t testing.TB) string {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// startDemo starts the demo on dir and waits for its addresses.
func startDemo(t *testing.T, program, dir, ring string) *demo {
	t.Helper()
	cmd := exec.Command(program)
	cmd.Dir = projectRoot(t)
	cmd.Env = append(os.Environ(), "DEMO_DIR="+dir, "DEMO_RING="+ring, "DEMO_NOTICE=0s")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	d := &demo{cmd: cmd, output: make(chan string, 1)}
	addresses := make(chan [2]string, 1)
	go func() {
		var all strings.Builder
		var a [2]string
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			fmt.Fprintln(&all, lines.Text())
			if m := clinicianLine.FindStringSubmatch(lines.Text()); m != nil {
				a[0] = m[1]
			}
			if m := terminalLine.FindStringSubmatch(lines.Text()); m != nil {
				a[1] = m[1]
			}
			if a[0] != "" && a[1] != "" {
				select {
				case addresses <- a:
				default:
				}
			}
		}
		io.Copy(io.Discard, out)
		d.output <- all.String()
		close(addresses)
	}()
	t.Cleanup(func() {
		if d.cmd.ProcessState == nil {
			d.stop(t)
		}
		if t.Failed() {
			d.keepLogs(t, dir)
		}
	})
	select {
	case a, ok := <-addresses:
		if !ok {
			t.Fatalf("the demo ended before it was ready:\n%s", <-d.output)
		}
		d.clinician, d.terminal = a[0], a[1]
	case <-time.After(4 * time.Minute):
		t.Fatal("the demo was not ready in four minutes")
	}
	return d
}

// stop presses Ctrl-C.
func (d *demo) stop(t *testing.T) {
	t.Helper()
	if err := d.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Errorf("stop the demo: %v", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- d.cmd.Wait() }()
	select {
	case err := <-ended:
		out := <-d.output
		if err != nil {
			t.Errorf("the demo ended with %v:\n%s", err, out)
		}
	case <-time.After(30 * time.Second):
		d.cmd.Process.Kill()
		t.Error("the demo did not stop within 30 s of Ctrl-C")
	}
}

func (d *demo) keepLogs(t *testing.T, dir string) {
	for _, name := range []string{"clinic.log", "terminal.log"} {
		b, err := os.ReadFile(filepath.Join(dir, "log", name))
		if err != nil {
			t.Logf("%s: %v", name, err)
			continue
		}
		lines := strings.Split(strings.TrimSpace(string(b)), "\n")
		t.Logf("%s, the end of it:\n%s", name, strings.Join(lines[max(0, len(lines)-30):], "\n"))
	}
}

// kill ends the program of the demo that is called name with SIGKILL, as a power cut would.
func (d *demo) kill(t *testing.T, name string) {
	t.Helper()
	pid := d.child(t, name)
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}

// child returns the process id of the demo's program called name.
func (d *demo) child(t *testing.T, name string) int {
	t.Helper()
	out, err := exec.Command("pgrep", "-P", fmt.Sprint(d.cmd.Process.Pid), "-x", name).Output()
	var pid int
	if err == nil {
		_, err = fmt.Sscan(string(out), &pid)
	}
	if err != nil {
		t.Fatalf("find %s below the demo: %v", name, err)
	}
	return pid
}

// buildDemo compiles the demo.
func buildDemo(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "demo")
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", "build", "-o", program, "./scripts/demo")
	cmd.Dir = projectRoot(t)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build the demo: %v\n%s", err, out)
	}
	return program
}

func TestBadEnvironment(t *testing.T) {
	program := buildDemo(t)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ env, says string }{
		"ring that is no duration": {"DEMO_RING=soon", "DEMO_RING"},
		"notice of hours":          {"DEMO_NOTICE=1h", "DEMO_NOTICE"},
		"negative ring":            {"DEMO_RING=-1s", "DEMO_RING"},
		"unknown language":         {"DEMO_LANGUAGE=xx", "DEMO_LANGUAGE"},
		"folder that is a file":    {"DEMO_DIR=" + file, file},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.Command(program)
			cmd.Dir = projectRoot(t)
			cmd.Env = append(os.Environ(), "DEMO_DIR="+t.TempDir(), c.env)
			out, err := cmd.CombinedOutput()
			if err == nil || !strings.Contains(string(out), c.says) {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
}

// A folder in which a demo runs is refused before anything is built in it.
func TestFolderInUse(t *testing.T) {
	dir := t.TempDir()
	first, err := stack.New(stack.Options{Dir: dir, Bin: filepath.Join(dir, "bin"), Language: "en"})
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Claim(); err != nil {
		t.Fatal(err)
	}
	defer first.Release()
	t.Setenv("DEMO_DIR", dir)
	if err := run(t.Context()); err == nil || !strings.Contains(err.Error(), "another demo runs in this folder") {
		t.Errorf("a second demo in the folder: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "bin")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it began to build before it looked: %v", err)
	}
}
