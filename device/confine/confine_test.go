package confine

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// deeds are what a process may or may not do, each by trying. The folder has: state (to write), given (to read), other (neither).
var deeds = []struct {
	name    string
	allowed bool // under the rules; all of them are without
	try     func(dir string) error
}{
	{"write in the state folder", true, func(dir string) error { return write1(filepath.Join(dir, "state", "new")) }},
	{"replace a file of the state folder", true, func(dir string) error {
		if err := write1(filepath.Join(dir, "state", "one")); err != nil {
			return err
		}
		if err := os.Rename(filepath.Join(dir, "state", "one"), filepath.Join(dir, "state", "two")); err != nil {
			return err
		}
		return os.Remove(filepath.Join(dir, "state", "two"))
	}},
	{"make a folder and a socket in the state folder", true, func(dir string) error {
		if err := os.MkdirAll(filepath.Join(dir, "state", "folder"), 0o700); err != nil {
			return err
		}
		l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "state", "folder", "s"), Net: "unixgram"})
		if err != nil {
			return err
		}
		return errors.Join(l.Close(), os.Remove(filepath.Join(dir, "state", "folder", "s")))
	}},
	{"read what is given", true, func(dir string) error { _, err := os.ReadFile(filepath.Join(dir, "given", "file")); return err }},
	{"use a device", true, func(string) error { _, err := os.ReadFile("/dev/null"); return err }},
	{"bind a UDP port", true, func(string) error {
		c, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		return c.Close()
	}},
	{"write in a folder to read", false, func(dir string) error { return write1(filepath.Join(dir, "given", "new")) }},
	{"change a file to read", false, func(dir string) error { return write1(filepath.Join(dir, "given", "file")) }},
	{"read another file", false, func(dir string) error { _, err := os.ReadFile(filepath.Join(dir, "other", "file")); return err }},
	{"write another file", false, func(dir string) error { return write1(filepath.Join(dir, "other", "new")) }},
	{"list another folder", false, func(dir string) error { _, err := os.ReadDir(filepath.Join(dir, "other")); return err }},
	{"reach another file by a link", false, func(dir string) error {
		link := filepath.Join(dir, "state", "link")
		_ = os.Remove(link)
		// That no link can be made is as good.
		if err := os.Symlink(filepath.Join(dir, "other", "file"), link); err != nil {
			return err
		}
		_, err := os.ReadFile(link)
		return err
	}},
	{"leave a file in the shared temporary folder", false, func(string) error { return write1("/var/tmp/vindu-confine-test") }},
	{"read the system's passwords", false, func(string) error { _, err := os.ReadFile("/etc/shadow"); return err }},
	{"start a program", false, func(string) error { return exec.Command("/bin/true").Run() }},
	{"start this program", false, func(string) error { return exec.Command("/proc/self/exe", "-test.run=^$").Run() }},
	{"start a program that it wrote", false, func(dir string) error {
		name := filepath.Join(dir, "state", "program")
		if err := os.WriteFile(name, []byte("#!/bin/sh\n"), 0o700); err != nil {
			return err
		}
		return exec.Command(name).Run()
	}},
	{"bind a TCP port", false, func(string) error {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		return l.Close()
	}},
	{"look into another process", false, func(string) error {
		local, remote := make([]byte, 1), unix.RemoteIovec{Base: 0, Len: 1}
		_, err := unix.ProcessVMReadv(os.Getpid(), []unix.Iovec{{Base: &local[0], Len: 1}}, []unix.RemoteIovec{remote}, 0)
		if errors.Is(err, syscall.EFAULT) { // it was let in, and nothing is at 0
			return nil
		}
		return err
	}},
	{"take another process's file", false, func(string) error { return asked(unix.SYS_PIDFD_GETFD) }},
	{"make a ring for the kernel's work", false, func(string) error { return asked(unix.SYS_IO_URING_SETUP) }},
	{"have a ring's work done", false, func(string) error { return asked(unix.SYS_IO_URING_ENTER) }},
	{"change a ring", false, func(string) error { return asked(unix.SYS_IO_URING_REGISTER) }},
	{"turn the system's clock", false, func(string) error { return asked(unix.SYS_ADJTIMEX) }},
	{"turn one of the system's clocks", false, func(string) error { return asked(unix.SYS_CLOCK_ADJTIME) }},
	{"take a part of the mounts", false, func(string) error { return asked(unix.SYS_OPEN_TREE) }},
}

// asked makes a system call with nonsense in it: whatever the kernel makes of that, it has let it in.
func asked(call uintptr) error {
	if _, _, errno := unix.Syscall6(call, ^uintptr(0), 0, 0, 0, 0, 0); errno == syscall.EPERM {
		return errno
	}
	return nil
}

func write1(name string) error { return os.WriteFile(name, []byte("x"), 0o600) }

// helper is a process that tries everything: it enters the rules by itself if it is told to.
func helper() {
	dir := os.Getenv("CONFINE_DIR")
	if os.Getenv("CONFINE") == "yes" && !Entered() {
		err := Enter(Rules{
			Read: []string{filepath.Join(dir, "given"), "/usr", "/lib", "/lib64", "/proc/self", filepath.Join(dir, "is not there")}, Write: []string{filepath.Join(dir, "state")},
			Devices: []string{"/dev/null", "/dev/urandom"},
		})
		fmt.Println("enter:", err)
		os.Exit(3)
	}
	if Entered() {
		if err := Seal(); err != nil {
			fmt.Println("seal:", err)
			os.Exit(3)
		}
		if dumpable, _, _ := unix.Syscall(unix.SYS_PRCTL, unix.PR_GET_DUMPABLE, 0, 0); dumpable != 0 {
			fmt.Println("it can be dumped")
		}
		var limit unix.Rlimit
		if err := unix.Getrlimit(unix.RLIMIT_CORE, &limit); err != nil || limit.Cur != 0 || limit.Max != 0 {
			fmt.Println("core dumps are allowed")
		}
	}
	for _, deed := range deeds {
		// On a thread of its own, so that it is not by chance the one that was restricted.
		done := make(chan error, 1)
		go func() { done <- deed.try(dir) }()
		select {
		case err := <-done:
			fmt.Printf("%s\t%v\n", deed.name, err == nil)
		case <-time.After(20 * time.Second):
			fmt.Printf("%s\thangs\n", deed.name)
		}
	}
	os.Exit(0)
}

func TestMain(m *testing.M) {
	if os.Getenv("CONFINE_DIR") != "" && len(os.Args) > 1 && os.Args[1] == "helper" {
		helper()
	}
	os.Exit(m.Run())
}

// TestConfined tries each deed from inside a process under the rules, where what is not allowed has to fail, and from one without, where all of it works: otherwise
// this test would prove nothing. R20.
func TestConfined(t *testing.T) {
	for _, confined := range []bool{false, true} {
		t.Run(fmt.Sprint("confined ", confined), func(t *testing.T) {
			dir := t.TempDir()
			for _, name := range []string{"state", "given", "other"} {
				if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := write1(filepath.Join(dir, name, "file")); err != nil {
					t.Fatal(err)
				}
			}
			command := exec.CommandContext(t.Context(), "/proc/self/exe", "helper")
			command.Env = append(os.Environ(), "CONFINE_DIR="+dir)
			if confined {
				command.Env = append(command.Env, "CONFINE=yes")
			}
			out, err := command.CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			lines := strings.Split(strings.TrimSpace(string(out)), "\n")
			for _, deed := range deeds {
				want := fmt.Sprintf("%s\t%v", deed.name, deed.allowed || !confined)
				if !slices.Contains(lines, want) {
					t.Errorf("%s: want %q in\n%s", deed.name, want, out)
				}
			}
			if len(lines) != len(deeds) {
				t.Errorf("%d lines for %d deeds:\n%s", len(lines), len(deeds), out)
			}
			if err := os.Remove("/var/tmp/vindu-confine-test"); confined == (err == nil) && !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("the file in the shared folder: %v", err)
			}
		})
	}
}

// TestHandled: each version of Landlock is asked for what it knows, and for nothing that a kernel of that time would refuse.
func TestHandled(t *testing.T) {
	for version, want := range map[int]unix.LandlockRulesetAttr{
		1: {Handled_access_fs: 1<<13 - 1}, 2: {Handled_access_fs: 1<<14 - 1}, 3: {Handled_access_fs: 1<<15 - 1},
		4: {Handled_access_fs: 1<<15 - 1, Handled_access_net: 1}, 5: {Handled_access_fs: 1<<16 - 1, Handled_access_net: 1},
		6: {Handled_access_fs: 1<<16 - 1, Handled_access_net: 1, Scoped: 3}, 99: {Handled_access_fs: 1<<16 - 1, Handled_access_net: 1, Scoped: 3},
	} {
		if got := handled(version); got != want {
			t.Errorf("version %d: %+v, want %+v", version, got, want)
		}
	}
}

// TestFilter runs the filter as the kernel would: each forbidden call is refused, and every other one but those of another architecture is not.
func TestFilter(t *testing.T) {
	for _, arch := range machine {
		program := filter(arch)
		if len(program) > 4096 {
			t.Fatalf("%d instructions, more than the kernel takes", len(program))
		}
		for call := range uint32(600) {
			refused := judge(program, call, arch) != uint32(unix.SECCOMP_RET_ALLOW)
			if refused != slices.Contains(forbidden, call) {
				t.Errorf("call %d: refused %v", call, refused)
			}
		}
		if judge(program, 1, arch+1) == uint32(unix.SECCOMP_RET_ALLOW) || judge(program, 0x40000001, arch) == uint32(unix.SECCOMP_RET_ALLOW) {
			t.Error("calls of another architecture pass")
		}
	}
}

// judge interprets the four instructions that filter uses.
func judge(program []unix.SockFilter, call, arch uint32) uint32 {
	var a uint32
	for pc := 0; pc < len(program); pc++ {
		i := program[pc]
		jump := func(yes bool) {
			if yes {
				pc += int(i.Jt)
			} else {
				pc += int(i.Jf)
			}
		}
		switch i.Code {
		case unix.BPF_LD | unix.BPF_W | unix.BPF_ABS:
			a = map[uint32]uint32{0: call, 4: arch}[i.K]
		case unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K:
			jump(a == i.K)
		case unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K:
			jump(a >= i.K)
		case unix.BPF_RET | unix.BPF_K:
			return i.K
		}
	}
	return uint32(unix.SECCOMP_RET_ALLOW)
}
