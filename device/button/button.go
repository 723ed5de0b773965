// Package button waits for a press of the terminal's button, by which the person in front of it agrees to what its screen asks.
//
// It reads Linux input events (linux/input.h) of one device, or of every device that has keys: a button on a GPIO, a keyboard. Of a keyboard, which is
// what has all letters of a row, only Enter counts: nobody ends a call by leaning on it. Keys that
// switch the machine off or wake it do not count, nor do touches, movements and repetitions of a key that is held. Devices are open only
// while somebody waits, and only presses after that began are seen: nothing else that is typed at a terminal reaches this program.
package button

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
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
	pressed   = 1                                      // value; 2 is a repetition
	released  = 0
	firstOdd  = 0x10a // behind the keys and BTN_0 … BTN_9 come mice, touch and tools
	bitsSize  = firstOdd/8 + 1
)

// Keys of the machine itself, of linux/input-event-codes.h.
const (
	keyPower  = 116
	keySleep  = 142
	keyWakeUp = 143
	keyPower2 = 0x164
)

// Keys of a keyboard.
const (
	keyQ     = 16 // to P, in a row
	keyP     = 25
	keyEnter = 28
	keypad   = 96 // its Enter
)

// ErrNone is returned where a terminal is configured to have no button.
var ErrNone = errors.New("this terminal has no button")

// Button is the terminal's. Its methods may be called from any goroutine.
type Button struct {
	device  string
	folder  string
	answer  int // the key by which calls are taken, which is not the button; 0: there is none
	curtain int // so is that of the curtain
	hasKey  func(*os.File) bool
	has     func(f *os.File, code int) bool
	name    func(*os.File) string
}

// keys says which keys of a device count; all but those of the machine itself, and but some, if it has no letters.
type keys struct {
	letters bool
	but     []int
}

// New returns the button that the configuration names: "auto", the path of an input device, or "none". answer is the key by which calls are taken (Key), curtain
// the one that draws the curtain in a call, and 0 if there is none: neither ever counts as the button.
func New(device string, answer, curtain int) *Button {
	return &Button{device: device, folder: folder, answer: answer, curtain: curtain, hasKey: hasKey, has: has, name: name}
}

// Await returns nil once a key was pressed after it was called, ErrNone if there is no button, or ctx's error. While no
// device is there it waits for one to come.
func (b *Button) Await(ctx context.Context) error {
	return b.wait(ctx, b.hasKey, func(f *os.File) error { return await(f, keysOf(f, b.answer, b.curtain)) })
}

// Hold is Await for a key that is held for so long.
func (b *Button) Hold(ctx context.Context, long time.Duration) error {
	return b.wait(ctx, b.hasKey, func(f *os.File) error { return hold(f, long, keysOf(f, b.answer, b.curtain)) })
}

func (b *Button) wait(ctx context.Context, hasKey func(*os.File) bool, await func(*os.File) error) error {
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
			if b.device == "auto" && !hasKey(f) {
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

// What returns what the button calls itself, such as "gpio-keys", with the one key of a keyboard that counts; empty if there is none now. It reads nothing that is typed.
func (b *Button) What() string {
	if b.device == "none" {
		return ""
	}
	var names []string
	for _, path := range b.paths() {
		f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
		if err != nil {
			continue
		}
		if b.device != "auto" || b.hasKey(f) {
			name := b.name(f)
			if keysOf(f).letters {
				name += " (Enter)"
			}
			names = append(names, name)
		}
		f.Close()
	}
	return strings.Join(slices.Compact(names), ", ")
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
func await(f *os.File, k keys) error {
	buf := make([]byte, 64*eventSize)
	for {
		n, err := f.Read(buf)
		if err != nil {
			return err
		}
		if k.pressed(buf[:n]) {
			return nil
		}
	}
}

// hold returns nil when a key has been down for so long, or the error of reading.
func hold(f *os.File, long time.Duration, k keys) error {
	buf := make([]byte, 64*eventSize)
	down := 0 // the key; none has this code
	for {
		n, err := f.Read(buf)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return nil
		}
		if err != nil {
			return err
		}
		for events := buf[:n]; len(events) >= eventSize; events = events[eventSize:] {
			var until time.Time // for ever
			switch kind, code, value := read(events); {
			case kind == typeKey && value == pressed && k.count(code) && down == 0:
				down, until = code, time.Now().Add(long)
			case kind == typeKey && value == released && code == down:
				down = 0
			default:
				continue
			}
			if err := f.SetReadDeadline(until); err != nil {
				return err
			}
		}
	}
}

// read returns the first of events.
func read(events []byte) (kind uint16, code int, value int32) {
	e := events[eventSize-8 : eventSize]
	return binary.NativeEndian.Uint16(e), int(binary.NativeEndian.Uint16(e[2:])), int32(binary.NativeEndian.Uint32(e[4:]))
}

// pressed tells whether one of the events is the press of a key that counts. The kernel hands over whole events only.
func (k keys) pressed(events []byte) bool {
	for ; len(events) >= eventSize; events = events[eventSize:] {
		if kind, code, value := read(events); kind == typeKey && value == pressed && k.count(code) {
			return true
		}
	}
	return false
}

func (k keys) count(code int) bool {
	if slices.Contains(k.but, code) {
		return false
	}
	if k.letters {
		return code == keyEnter || code == keypad
	}
	return counts(code)
}

func counts(code int) bool {
	switch code {
	case keyPower, keySleep, keyWakeUp, keyPower2:
		return false
	}
	return code > 0 && code < firstOdd
}

// hasKey tells whether a device has a key that counts.
func hasKey(f *os.File) bool {
	bits, err := keyBits(f)
	return err == nil && anyKey(bits)
}

// keysOf tells which keys of a device count.
func keysOf(f *os.File, but ...int) keys {
	bits, err := keyBits(f)
	return keys{err == nil && allLetters(bits), but}
}

// keyBits asks the kernel which keys a device has: EVIOCGBIT(EV_KEY).
func keyBits(f *os.File) ([]byte, error) {
	var bits [answerSize]byte
	const request = 2<<30 | answerSize<<16 | 'E'<<8 | 0x20 + typeKey // _IOC(_IOC_READ, 'E', 0x20 + EV_KEY, size)
	err := control(f, request, unsafe.Pointer(&bits[0]))
	return bits[:], err
}

func allLetters(bits []byte) bool {
	for code := keyQ; code <= keyP; code++ {
		if bits[code/8]&(1<<(code%8)) == 0 {
			return false
		}
	}
	return true
}

func control(f *os.File, request uintptr, into unsafe.Pointer) error {
	c, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = c.Control(func(fd uintptr) {
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, fd, request, uintptr(into)); errno != 0 {
			failed = errno
		}
	})
	return errors.Join(err, failed)
}

func anyKey(bits []byte) bool {
	for code := range min(len(bits), bitsSize) * 8 {
		if bits[code/8]&(1<<(code%8)) != 0 && counts(code) {
			return true
		}
	}
	return false
}

// name asks the kernel what a device calls itself: EVIOCGNAME.
func name(f *os.File) string {
	var text [64]byte
	if err := control(f, 2<<30|uintptr(len(text))<<16|'E'<<8|0x06, unsafe.Pointer(&text[0])); err == nil {
		if s := strings.TrimSpace(string(bytes.TrimRight(text[:], "\x00"))); s != "" {
			return s
		}
	}
	return filepath.Base(f.Name())
}
