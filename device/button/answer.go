package button

import (
	"context"
	"maps"
	"os"
	"slices"
	"syscall"
)

// answerKeys are the keys by which a call may be taken, or the curtain be drawn, of linux/input-event-codes.h: what stands alone on a remote control, a handset or a GPIO, and what
// nobody comes upon while writing.
var answerKeys = map[string]int{
	"KEY_ENTER": 28, "KEY_SPACE": 57, "KEY_KPENTER": 96, "KEY_PHONE": 169, "KEY_PLAYPAUSE": 164, "KEY_PROG1": 148, "KEY_PROG2": 149, "KEY_OK": 0x160, "KEY_SELECT": 0x161,
	"KEY_GREEN": 0x18f, "KEY_PICKUP_PHONE": 0x1bd,
	"KEY_F1": 59, "KEY_F2": 60, "KEY_F3": 61, "KEY_F4": 62, "KEY_F5": 63, "KEY_F6": 64, "KEY_F7": 65, "KEY_F8": 66, "KEY_F9": 67, "KEY_F10": 68, "KEY_F11": 87, "KEY_F12": 88,
	"BTN_0": 0x100, "BTN_1": 0x101, "BTN_2": 0x102, "BTN_3": 0x103, "BTN_4": 0x104, "BTN_5": 0x105, "BTN_6": 0x106, "BTN_7": 0x107, "BTN_8": 0x108, "BTN_9": 0x109,
}

// answerSize is how many bytes of key bits have all of them.
const answerSize = 0x1bd/8 + 1

// Key returns the code of a key that may be more than the button; false if there is none of this name.
func Key(name string) (code int, ok bool) {
	code, ok = answerKeys[name]
	return code, ok
}

// Keys are the names that Key knows.
func Keys() []string { return slices.Sorted(maps.Keys(answerKeys)) }

// AwaitAnswer is Await for the key by which calls are taken.
func (b *Button) AwaitAnswer(ctx context.Context) error {
	if b.answer == 0 {
		return ErrNone
	}
	return b.wait(ctx, func(f *os.File) bool { return b.has(f, b.answer) }, func(f *os.File) error { return awaitKey(f, b.answer) })
}

// AwaitOrCurtain is Await that calls draw whenever the key of the curtain is pressed meanwhile. draw must not block: the button is read behind it.
func (b *Button) AwaitOrCurtain(ctx context.Context, draw func()) error {
	has := func(f *os.File) bool { return b.hasKey(f) || b.curtain != 0 && b.has(f, b.curtain) }
	return b.wait(ctx, has, func(f *os.File) error {
		buf, keys := make([]byte, 64*eventSize), keysOf(f, b.answer, b.curtain)
		for {
			n, err := f.Read(buf)
			if err != nil {
				return err
			}
			for events := buf[:n]; len(events) >= eventSize; events = events[eventSize:] {
				switch kind, code, value := read(events); {
				case kind != typeKey || value != pressed:
				case code == b.curtain && code != 0:
					draw()
				case keys.count(code):
					return nil
				}
			}
		}
	})
}

// HasCurtain tells whether there is a key of the curtain.
func (b *Button) HasCurtain() bool { return b.curtain != 0 && b.device != "none" }

// CanAnswer tells whether a device is there now that has the key by which calls are taken. It reads nothing that is typed.
func (b *Button) CanAnswer() bool {
	if b.answer == 0 || b.device == "none" {
		return false
	}
	for _, path := range b.paths() {
		f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
		if err != nil {
			continue
		}
		can := b.has(f, b.answer)
		f.Close()
		if can {
			return true
		}
	}
	return false
}

// has asks the kernel whether a device has a key.
func has(f *os.File, code int) bool {
	bits, err := keyBits(f)
	return err == nil && bits[code/8]&(1<<(code%8)) != 0
}

// awaitKey returns nil when one key is pressed, or the error of reading.
func awaitKey(f *os.File, code int) error {
	buf := make([]byte, 64*eventSize)
	for {
		n, err := f.Read(buf)
		if err != nil {
			return err
		}
		for events := buf[:n]; len(events) >= eventSize; events = events[eventSize:] {
			if kind, c, value := read(events); kind == typeKey && value == pressed && c == code {
				return nil
			}
		}
	}
}
