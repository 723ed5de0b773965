// Package tpmtest runs software TPMs (Debian's swtpm) for tests.
package tpmtest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// TPM is a software TPM on a Unix socket. What it stores outlives its process, as with a chip that loses its power.
type TPM struct {
	Path string // of the socket

	t     testing.TB
	state string
	cmd   *exec.Cmd
	log   string
}

// Start starts a new TPM, which ends with the test.
func Start(t testing.TB) *TPM {
	t.Helper()
	// Short, because the path of a socket may have 107 bytes.
	dir, err := os.MkdirTemp("", "tpm")
	if err != nil {
		t.Fatal(err)
	}
	p := &TPM{Path: filepath.Join(dir, "socket"), t: t, state: filepath.Join(dir, "state"), log: filepath.Join(dir, "log")}
	t.Cleanup(func() {
		p.Kill()
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := os.Mkdir(p.state, 0o700); err != nil {
		t.Fatal(err)
	}
	p.Restart()
	return p
}

// Restart starts it again after Kill.
func (p *TPM) Restart() {
	p.t.Helper()
	p.Kill()
	p.cmd = exec.Command("swtpm", "socket", "--tpm2", "--tpmstate", "dir="+p.state, "--server", "type=unixio,path="+p.Path,
		"--flags", "not-need-init,startup-clear", "--log", "file="+p.log)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		p.t.Fatalf("%v; scripts/setup test installs what is missing", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for {
		conn, err := net.Dial("unix", p.Path)
		if err == nil {
			if err := conn.Close(); err != nil {
				p.t.Fatal(err)
			}
			return
		}
		select {
		case <-ctx.Done():
			log, _ := os.ReadFile(p.log)
			p.t.Fatalf("swtpm does not listen: %v\n%s", err, log)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// Kill takes its power. Nothing listens on the socket afterwards.
func (p *TPM) Kill() {
	p.t.Helper()
	if p.cmd == nil {
		return
	}
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.t.Error(fmt.Errorf("kill swtpm: %w", err))
	}
	_ = p.cmd.Wait() // it says that it was killed
	p.cmd = nil
	if err := os.Remove(p.Path); err != nil && !errors.Is(err, os.ErrNotExist) {
		p.t.Error(err)
	}
}
