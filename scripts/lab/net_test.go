package lab

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// What the lab cannot do without is asked for before anything is built, and said with what to do.
func TestPossible(t *testing.T) {
	if err := possible(0, filepath.Join(t.TempDir(), "tun")); err == nil || !strings.Contains(err.Error(), "modprobe tun") {
		t.Errorf("without a tun device: %v", err)
	}
	if err := possible(1000, os.DevNull); err == nil || !strings.Contains(err.Error(), "needs root") {
		t.Errorf("without root: %v", err)
	}
	if err := possible(0, os.DevNull); err != nil {
		t.Errorf("with both: %v", err)
	}
}

// make test and make lab begin with scripts/setup: who is not root hears of it there, and not after minutes.
func TestSetupAsksForRoot(t *testing.T) {
	script, err := os.ReadFile("../setup")
	if err != nil {
		t.Fatal(err)
	}
	command := exec.Command("sh", "-s", "build", "test", "arm", "lab")
	command.Dir, command.Stdin = "/", bytes.NewReader(script)
	if os.Geteuid() == 0 {
		command.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}
	out, err := command.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "needs root; nothing was built. Run: sudo") {
		t.Errorf("%v: %s", err, out)
	}
}
