package main

import (
	"io"
	"os"
	"sync"
)

// keys hands what is typed to one form after another. A form's own reader would go on for a moment when the form is over and swallow
// the first key of the next one (bubbletea v2.0.2 closes it while it is still waiting), so what reads the keyboard here is one goroutine for as
// long as the program runs, and each form has a reader that ends with it.
type keys struct {
	file *os.File
	once sync.Once
	data chan []byte
	// ended is closed when nothing more can be typed.
	ended chan struct{}

	mu   sync.Mutex
	left []byte // typed, and not read yet
}

// reader returns a reader for one form, and what ends it.
func (k *keys) reader() (r io.Reader, end func()) {
	k.once.Do(func() {
		k.data, k.ended = make(chan []byte), make(chan struct{})
		go k.pump()
	})
	f := &formKeys{keys: k, over: make(chan struct{})}
	return f, sync.OnceFunc(func() { close(f.over) })
}

func (k *keys) pump() {
	defer close(k.ended)
	defer close(k.data)
	for {
		b := make([]byte, 4<<10)
		n, err := k.file.Read(b)
		if n > 0 {
			k.data <- b[:n]
		}
		if err != nil {
			return
		}
	}
}

// formKeys is the keyboard while one form is shown. It has Fd, by which the terminal is put into raw mode, and no Name, by which
// it would be taken for a file to read from directly.
type formKeys struct {
	keys *keys
	over chan struct{}
}

// Read implements io.Reader. It ends when the form is over, and has then taken nothing.
func (f *formKeys) Read(b []byte) (int, error) {
	f.keys.mu.Lock()
	n := copy(b, f.keys.left)
	f.keys.left = f.keys.left[n:]
	f.keys.mu.Unlock()
	if n > 0 {
		return n, nil
	}
	select {
	case <-f.over:
		return 0, io.EOF
	default:
	}
	select {
	case <-f.over:
		return 0, io.EOF
	case typed, ok := <-f.keys.data:
		if !ok {
			return 0, io.EOF
		}
		n := copy(b, typed)
		f.keys.mu.Lock()
		f.keys.left = typed[n:]
		f.keys.mu.Unlock()
		return n, nil
	}
}

// Fd returns the terminal's descriptor.
func (f *formKeys) Fd() uintptr { return f.keys.file.Fd() }

// Write implements io.Writer, which makes this a terminal.
func (f *formKeys) Write(b []byte) (int, error) { return f.keys.file.Write(b) }

// Close leaves the terminal open: the next form reads it.
func (f *formKeys) Close() error { return nil }
