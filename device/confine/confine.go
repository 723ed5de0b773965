// Package confine takes from this process what a terminal does not need, for good: files outside a list, starting other programs, and waiting for connections (R20, R33).
//
// Landlock (landlock(7)) holds for a thread and what it starts, and Go has many threads at once. So Enter restricts one thread and has it start this
// very program again in its place: all threads of that one are born under the rules. Seal, called there, does the rest for all threads at once: a
// seccomp filter against starting programs and against looking into others, no core dumps, and memory that other processes of the same user cannot read.
//
// The rules hold also where systemd's unit, which says much the same, is not there; not against root, who may write to every device in a folder of
// Rules.Devices, the disk among them: run it as a user of its own. On a kernel without Landlock Enter returns ErrNoLandlock and nothing has changed. What a
// path leads to is looked up when the rules are made: a device that is plugged in later is found because its folder is in the list. Binding UDP ports stays
// possible: calls need it.
package confine

import (
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ErrNoLandlock is returned by Enter if the kernel has no Landlock, or it is not switched on (lsm=).
var ErrNoLandlock = errors.New("the kernel has no Landlock")

// marker is how the program that Enter starts knows that it is that one.
const marker = "VINDU_CONFINED"

// Rules are what stays allowed. Paths that do not exist are left out. A folder stands for all that is in it.
type Rules struct {
	Read    []string
	Write   []string // and read, make and delete
	Devices []string // read, write and control, not make
}

const (
	read  = unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_READ_DIR
	write = read | unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_TRUNCATE | unix.LANDLOCK_ACCESS_FS_MAKE_REG | unix.LANDLOCK_ACCESS_FS_MAKE_DIR |
		unix.LANDLOCK_ACCESS_FS_MAKE_SOCK | unix.LANDLOCK_ACCESS_FS_REMOVE_FILE | unix.LANDLOCK_ACCESS_FS_REMOVE_DIR | unix.LANDLOCK_ACCESS_FS_REFER
	device = read | unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
	run    = unix.LANDLOCK_ACCESS_FS_EXECUTE | unix.LANDLOCK_ACCESS_FS_READ_FILE
	// ofFile are the rights that a file can have; the others are a folder's.
	ofFile = unix.LANDLOCK_ACCESS_FS_EXECUTE | unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_TRUNCATE |
		unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
)

// Entered tells whether this is the program that Enter started.
func Entered() bool { return os.Getenv(marker) == "1" }

// Enter starts this program again, with the same arguments and surroundings, under the rules. It returns only if that failed.
func Enter(rules Rules) error {
	// The thread that is restricted is not given back.
	runtime.LockOSThread()
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	loader, err := loaderOf(self)
	if err != nil {
		return err
	}
	if err := restrict(rules, append(loader, self)); err != nil {
		return err
	}
	surroundings := append(os.Environ(), marker+"=1")
	return fmt.Errorf("start %s again under the rules: %w", self, unix.Exec(self, os.Args, surroundings))
}

// loaderOf is the program that starts a dynamic program: the kernel executes it, too.
func loaderOf(program string) ([]string, error) {
	file, err := elf.Open(program)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", program, err)
	}
	defer file.Close()
	section := file.Section(".interp")
	if section == nil {
		return nil, nil
	}
	text, err := section.Data()
	if err != nil {
		return nil, fmt.Errorf("read the loader's name in %s: %w", program, err)
	}
	name := strings.TrimRight(string(text), "\x00")
	real, err := filepath.EvalSymlinks(name)
	if err != nil {
		return nil, fmt.Errorf("find the loader of %s: %w", program, err)
	}
	return []string{real}, nil
}

// handled are the rights that a kernel with this version of Landlock takes away. They are all it knows: what is not handled stays allowed.
func handled(version int) unix.LandlockRulesetAttr {
	a := unix.LandlockRulesetAttr{Handled_access_fs: unix.LANDLOCK_ACCESS_FS_REFER - 1}
	if version >= 2 {
		a.Handled_access_fs |= unix.LANDLOCK_ACCESS_FS_REFER
	}
	if version >= 3 {
		a.Handled_access_fs |= unix.LANDLOCK_ACCESS_FS_TRUNCATE
	}
	if version >= 4 {
		a.Handled_access_net = unix.LANDLOCK_ACCESS_NET_BIND_TCP
	}
	if version >= 5 {
		a.Handled_access_fs |= unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
	}
	if version >= 6 {
		a.Scoped = unix.LANDLOCK_SCOPE_SIGNAL | unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET
	}
	return a
}

func restrict(rules Rules, programs []string) error {
	version, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno == unix.ENOSYS || errno == unix.EOPNOTSUPP {
		return ErrNoLandlock
	}
	if errno != 0 {
		return fmt.Errorf("ask for the version of Landlock: %w", errno)
	}
	all := handled(int(version))
	// An older kernel takes this longer structure because what it does not know is zero.
	set, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&all)), unsafe.Sizeof(all), 0)
	if errno != 0 {
		return fmt.Errorf("make Landlock's rules: %w", errno)
	}
	defer unix.Close(int(set))
	for _, part := range []struct {
		paths  []string
		access uint64
	}{{rules.Read, read}, {rules.Write, write}, {rules.Devices, device}, {programs, run}} {
		for _, path := range part.paths {
			if err := allow(int(set), path, part.access&all.Handled_access_fs); err != nil {
				return err
			}
		}
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("give up new privileges: %w", err)
	}
	if _, _, errno := unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, set, 0, 0); errno != 0 {
		return fmt.Errorf("enter Landlock's rules: %w", errno)
	}
	return nil
}

func allow(set int, path string, access uint64) error {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("allow %s: %w", path, err)
	}
	defer unix.Close(fd)
	var info unix.Stat_t
	if err := unix.Fstat(fd, &info); err != nil {
		return fmt.Errorf("allow %s: %w", path, err)
	}
	if info.Mode&unix.S_IFMT != unix.S_IFDIR {
		access &= ofFile
	}
	rule := unix.LandlockPathBeneathAttr{Allowed_access: access, Parent_fd: int32(fd)}
	_, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(set), unix.LANDLOCK_RULE_PATH_BENEATH, uintptr(unsafe.Pointer(&rule)), 0, 0, 0)
	if errno != 0 {
		return fmt.Errorf("allow %s: %w", path, errno)
	}
	return nil
}
