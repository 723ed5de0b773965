package sessiontest

import (
	"bytes"
	"io"
	"sync"
)

// Cable returns both ends of a cable. It takes whatever is written at once, as a serial line does, whether somebody reads or not.
func Cable() (laptop, terminal *End) {
	there, back := newWire(), newWire()
	return &End{in: back, out: there}, &End{in: there, out: back}
}

// End is a port. Closing it ends its own reads; the other end hears nothing of it.
type End struct {
	in, out *wire
	mu      sync.Mutex
	tamper  func([]byte) []byte
	closed  bool
}

// Tamper has f see and change all that is written to the line from this end; nil leaves it alone.
func (e *End) Tamper(f func([]byte) []byte) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.tamper = f
}

// Inject puts bytes on the line as if this end had written them, past Tamper.
func (e *End) Inject(b []byte) { e.out.put(b) }

// Read implements io.Reader.
func (e *End) Read(b []byte) (int, error) { return e.in.take(b) }

// Write implements io.Writer.
func (e *End) Write(b []byte) (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return 0, io.ErrClosedPipe
	}
	sent := bytes.Clone(b)
	if e.tamper != nil {
		sent = e.tamper(sent)
	}
	e.out.put(sent)
	return len(b), nil
}

// Close implements io.Closer.
func (e *End) Close() error {
	e.mu.Lock()
	e.closed = true
	e.mu.Unlock()
	e.in.close()
	return nil
}

type wire struct {
	mu     sync.Mutex
	some   *sync.Cond
	buf    []byte
	closed bool
}

func newWire() *wire {
	w := new(wire)
	w.some = sync.NewCond(&w.mu)
	return w
}

func (w *wire) put(b []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.buf = append(w.buf, b...)
	w.some.Broadcast()
}

func (w *wire) take(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(w.buf) == 0 && !w.closed {
		w.some.Wait()
	}
	if w.closed {
		return 0, io.EOF
	}
	n := copy(b, w.buf)
	w.buf = w.buf[n:]
	return n, nil
}

func (w *wire) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	w.some.Broadcast()
}

// Reopen opens a closed end again; what came in between is lost.
func (e *End) Reopen() {
	e.mu.Lock()
	e.closed = false
	e.mu.Unlock()
	e.in.mu.Lock()
	defer e.in.mu.Unlock()
	e.in.buf, e.in.closed = nil, false
}
