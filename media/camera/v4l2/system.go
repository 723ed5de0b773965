package v4l2

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"sort"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ErrCancelled is returned by Handle.Wait after Handle.Cancel.
var ErrCancelled = errors.New("wait was cancelled")

// System is the Kernel of this machine.
type System struct {
	// Sysfs is the tree below /sys/class/video4linux; nil means that of this machine.
	Sysfs fs.FS
}

// Nodes implements Kernel.
func (s System) Nodes() []Node {
	tree := s.Sysfs
	if tree == nil {
		tree = os.DirFS("/sys/class/video4linux")
	}
	entries, err := fs.ReadDir(tree, ".")
	if err != nil {
		return nil // no such class: no driver, no camera
	}
	type numbered struct {
		number int
		Node
	}
	var found []numbered
	for _, e := range entries {
		number, err := strconv.Atoi(strings.TrimPrefix(e.Name(), "video"))
		if err != nil || !strings.HasPrefix(e.Name(), "video") {
			continue // v4l-subdev, radio, vbi
		}
		index, _ := strconv.Atoi(attribute(tree, e.Name(), "index"))
		found = append(found, numbered{number, Node{
			Path: "/dev/" + e.Name(), Name: attribute(tree, e.Name(), "name"), Index: index,
		}})
	}
	sort.Slice(found, func(i, j int) bool { return found[i].number < found[j].number })
	nodes := make([]Node, len(found))
	for i, f := range found {
		nodes[i] = f.Node
	}
	return nodes
}

func attribute(tree fs.FS, node, name string) string {
	data, err := fs.ReadFile(tree, path.Join(node, name))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}

// Open implements Kernel.
func (System) Open(name string) (Handle, error) {
	fd, err := openRetry(name)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	event, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		unix.Close(fd)
		return nil, &fs.PathError{Op: "eventfd for", Path: name, Err: err}
	}
	return &file{fd: fd, event: event}, nil
}

func openRetry(name string) (int, error) {
	for {
		fd, err := unix.Open(name, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

// file is a Handle on a file descriptor. event is an eventfd that becomes readable for good
// once Cancel was called.
type file struct {
	fd, event int
	cancelled atomic.Bool
	closed    atomic.Bool
	closing   sync.Once
	closeErr  error
	// eventUse is held while event is used, so that its number is not closed (and given
	// to another file) under a call that is about to use it.
	eventUse sync.RWMutex
}

func (f *file) Ioctl(request uint32, arg unsafe.Pointer) error {
	for {
		if f.closed.Load() {
			return unix.EBADF
		}
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(f.fd), uintptr(request), uintptr(arg))
		switch errno {
		case 0:
			return nil
		case unix.EINTR:
		default:
			return errno
		}
	}
}

func (f *file) Map(offset, length uint32) ([]byte, error) {
	return unix.Mmap(f.fd, int64(offset), int(length), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
}

func (f *file) Unmap(memory []byte) error { return unix.Munmap(memory) }

func (f *file) Wait(timeout time.Duration) error {
	f.eventUse.RLock()
	defer f.eventUse.RUnlock()
	deadline := time.Now().Add(timeout)
	fds := [2]unix.PollFd{
		{Fd: int32(f.fd), Events: unix.POLLIN},
		{Fd: int32(f.event), Events: unix.POLLIN},
	}
	for {
		if f.cancelled.Load() || f.closed.Load() {
			return ErrCancelled
		}
		left := time.Until(deadline)
		if left < 0 {
			left = 0
		}
		// Round up, or the last millisecond is spent spinning.
		n, err := unix.Poll(fds[:], int((left+time.Millisecond-1)/time.Millisecond))
		switch {
		case err == unix.EINTR:
		case err != nil:
			return os.NewSyscallError("poll", err)
		case fds[1].Revents != 0:
			return ErrCancelled
		case n > 0:
			return nil
		case !time.Now().Before(deadline):
			return os.ErrDeadlineExceeded
		}
	}
}

func (f *file) Cancel() {
	if f.cancelled.Swap(true) || f.closed.Load() {
		return
	}
	one := [8]byte{0: 1, 7: 1} // not zero in either byte order
	// It can only fail when the counter is full, and then it is readable anyway.
	_, _ = unix.Write(f.event, one[:])
}

func (f *file) Close() error {
	f.closing.Do(func() {
		f.Cancel()
		f.closed.Store(true)
		// The device first: it must go even if a call hangs in the driver.
		f.closeErr = os.NewSyscallError("close", unix.Close(f.fd))
		f.eventUse.Lock() // Wait leaves at once, having been cancelled
		unix.Close(f.event)
		f.eventUse.Unlock()
	})
	return f.closeErr
}
