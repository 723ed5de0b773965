package lab

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestArchive lets cpio, which the kernel's format was made for, read what we write: two archives, one behind the
// other, as a boot makes them.
func TestArchive(t *testing.T) {
	var both bytes.Buffer
	first := newArchive()
	first.file("/etc/word", 0o600, []byte("odd"))
	first.file("bin/tool", 0o755, []byte("#!"))
	first.link("sbin/tool", "/bin/tool")
	if err := first.write(&both); err != nil {
		t.Fatal(err)
	}
	if both.Len()%512 != 0 {
		t.Errorf("the archive has %d bytes: another cannot follow", both.Len())
	}
	name := filepath.Join(t.TempDir(), "archive")
	if err := os.WriteFile(name, both.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	into := t.TempDir()
	if _, err := output(t.Context(), into, "sh", "-c", `cpio -idm --quiet --no-absolute-filenames <"$1"`, "sh", name); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(into, "etc/word"))
	if err != nil || string(text) != "odd" {
		t.Errorf("the file reads %q, %v", text, err)
	}
	if info, err := os.Stat(filepath.Join(into, "bin/tool")); err != nil || info.Mode() != 0o755 {
		t.Errorf("the program is %v, %v", info, err)
	}
	if target, err := os.Readlink(filepath.Join(into, "sbin/tool")); err != nil || target != "/bin/tool" {
		t.Errorf("the link points to %q, %v", target, err)
	}
	if info, err := os.Stat(filepath.Join(into, "etc")); err != nil || info.Mode() != fs.ModeDir|0o755 {
		t.Errorf("the directory is %v, %v", info, err)
	}
}

func TestProgramOfAnotherMachineIsRefused(t *testing.T) {
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	if err := addProgram(newArchive(), t.TempDir(), "bin/test", self); err == nil || !strings.Contains(err.Error(), "not for the arm64 guest") {
		t.Errorf("error %v", err)
	}
}
