// Package button waits for a press of the terminal's button, by which the person in front of it agrees to what its screen asks.
//
// It reads Linux input events (linux/input.h) of one device, or of every device that has keys: a button on a GPIO, a keyboard. Keys that
// switch the machine off or wake it do not count, nor do touches, movements and repetitions of a key that is held. Devices are open only
// while somebody waits, and only presses after that began are seen: nothing else that is typed at a terminal reaches this program.
package button

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	folder   = "/dev/input"
	lookTime = 2 * time.Second // between looks for devices that came

	eventSize = int(unsafe.Sizeof(unix.Timeval{})) + 8 // struct input_event: time, type, code, value
	typeKey   = 0x01                                   // EV_KEY
	pressed   = 1                                      // value; 0 is a release, 2 a repetition
	firstOdd  = 0x10a                                  // behind the keys and BTN_0 … BTN_9 come mice, touch and tools
	bitsSize  = firstOdd/8 + 1
)

// Keys of the machine itself, of linux/input-event-codes.h.
const (
	keyPower  = 116
	keySleep  = 142
	keyWakeUp = 143
	keyPower2 = 0x164
)

// ErrNone is returned where a terminal is configured to have no button.
var ErrNone = errors.New("this terminal has no button")

// Button is the terminal's. Its methods may be called from any goroutine.
type Button struct {
	device string
	folder string
	hasKey func(*os.File) bool
}

// New returns the button that the configuration names: "auto", the path of an input device, or "none".
func New(device string) *Button { return &Button{device, folder, hasKey} }

// Await returns nil once a key was pressed after it was called, ErrNone if there is no button, or ctx's error. While no
// device is there it waits for one to come.
func (b *Button) Await(ctx context.Context) error {
	if b.device == "none" {
		return ErrNone
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var group sync.WaitGroup
	defer group.Wait()
	defer cancel(nil)
	var mu sync.Mutex
	open := map[string]bool{}
	ticks := time.NewTicker(lookTime)
	defer ticks.Stop()
	for {
		for _, path := range b.paths() {
			mu.Lock()
			busy := open[path]
			mu.Unlock()
			if busy {
				continue
			}
			f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
			if err != nil {
				continue // it may be gone, or come to be allowed
			}
			if b.device == "auto" && !b.hasKey(f) {
				f.Close()
				continue
			}
			mu.Lock()
			open[path] = true
			mu.Unlock()
			group.Go(func() {
				defer context.AfterFunc(ctx, func() { f.Close() })()
				if await(f) == nil {
					cancel(errPressed)
				}
				f.Close()
				mu.Lock()
				delete(open, path)
				mu.Unlock()
			})
		}
		select {
		case <-ctx.Done():
			if err := context.Cause(ctx); !errors.Is(err, errPressed) {
				return fmt.Errorf("wait for the button: %w", err)
			}
			return nil
		case <-ticks.C:
		}
	}
}

var errPressed = errors.New("pressed")

func (b *Button) paths() []string {
	if b.device != "auto" {
		return []string{b.device}
	}
	entries, err := os.ReadDir(b.folder)
	if err != nil {
		return nil
	}
	var paths []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "event") {
			paths = append(paths, filepath.Join(b.folder, e.Name()))
		}
	}
	return paths
}

// await returns nil when a key is pressed, or the error of reading.
func await(f *os.File) error {
	buf := make([]byte, 64*eventSize)
	for {
		n, err := f.Read(buf)
		if err != nil {
			return err
		}
		if isPress(buf[:n]) {
			return nil
		}
	}
}

// isPress tells whether one of the events is the press of a key that counts. The kernel hands over whole events only.
func isPress(events []byte) bool {
	for ; len(events) >= eventSize; events = events[eventSize:] {
		e := events[eventSize-8 : eventSize]
		kind, code, value := binary.NativeEndian.Uint16(e), binary.NativeEndian.Uint16(e[2:]), int32(binary.NativeEndian.Uint32(e[4:]))
		if kind == typeKey && value == pressed && counts(int(code)) {
			return true
		}
	}
	return false
}

func counts(code int) bool {
	switch code {
	case keyPower, keySleep, keyWakeUp, keyPower2:
		return false
	}
	return code > 0 && code < firstOdd
}

// hasKey asks the kernel whether a device has a key that counts: EVIOCGBIT(EV_KEY).
func hasKey(f *os.File) bool {
	c, err := f.SyscallConn()
	if err != nil {
		return false
	}
	var bits [bitsSize]byte
	const request = 2<<30 | bitsSize<<16 | 'E'<<8 | 0x20 + typeKey // _IOC(_IOC_READ, 'E', 0x20 + EV_KEY, size)
	var failed error
	err = c.Control(func(fd uintptr) {
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, fd, request, uintptr(unsafe.Pointer(&bits[0]))); errno != 0 {
			failed = errno
		}
	})
	return err == nil && failed == nil && anyKey(bits[:])
}

func anyKey(bits []byte) bool {
	for code := range len(bits) * 8 {
		if bits[code/8]&(1<<(code%8)) != 0 && counts(code) {
			return true
		}
	}
	return false
}
