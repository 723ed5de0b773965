package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"net"
	"sync"
	"time"
)

// Directions of a line.
const (
	toClinic = iota
	toTerminal
)

// line is a terminal's way to its clinic: a forwarder that can be cut, stand still in one direction, be slow, or let nothing but HTTPS through. Whatever comes from
// either end stays in order and whole, or the connection ends: it is TCP.
type line struct {
	listener net.Listener
	from     net.IP // own address of the terminal, as the clinic sees it
	to       string

	mu       sync.Mutex
	pipes    map[*pipe]struct{}
	still    [2]chan struct{} // not nil while nothing goes in that direction; closed when it does again
	slow     int              // bytes a second in each direction; 0: as fast as it goes
	refuses  bool             // new connections
	noBroker bool             // what asks for the broker is refused
}

// pipe is a connection that is forwarded.
type pipe struct {
	broker bool
	closed chan struct{}

	mu   sync.Mutex
	ends [2]net.Conn
}

func newLine(ctx context.Context, address, to string) (*line, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	return &line{listener: l, from: net.ParseIP(host), to: to, pipes: map[*pipe]struct{}{}}, nil
}

// run forwards until ctx ends.
func (l *line) run(ctx context.Context) {
	defer l.cut()
	defer context.AfterFunc(ctx, func() { l.listener.Close() })()
	var all sync.WaitGroup
	defer all.Wait()
	defer l.cut()
	for {
		near, err := l.listener.Accept()
		if err != nil {
			return
		}
		all.Go(func() { l.forward(ctx, near) })
	}
}

// forward reads whom a connection is for (RFC 8446 §4.1.2: the first record is the ClientHello, in clear), and copies both ways.
func (l *line) forward(ctx context.Context, near net.Conn) {
	p := &pipe{ends: [2]net.Conn{near}, closed: make(chan struct{})}
	defer p.close()
	defer context.AfterFunc(ctx, p.close)()
	if !l.add(p) {
		return
	}
	defer l.remove(p)
	hello := make([]byte, 5)
	if _, err := io.ReadFull(near, hello); err != nil {
		return
	}
	hello = append(hello, make([]byte, binary.BigEndian.Uint16(hello[3:]))...)
	if _, err := io.ReadFull(near, hello[5:]); err != nil {
		return
	}
	p.broker = bytes.Contains(hello, []byte("\x04mqtt"))
	if !l.lets(p) {
		return
	}
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: l.from}, Timeout: 10 * time.Second}
	far, err := dialer.DialContext(ctx, "tcp", l.to)
	if err != nil {
		return
	}
	if !p.join(far) {
		return
	}
	if !l.pass(p, toClinic, len(hello)) {
		return
	}
	if _, err := far.Write(hello); err != nil {
		return
	}
	var both sync.WaitGroup
	both.Go(func() { l.copy(p, toClinic, far, near) })
	both.Go(func() { l.copy(p, toTerminal, near, far) })
	both.Wait()
}

// copy copies in one direction until either end has had enough.
func (l *line) copy(p *pipe, direction int, to io.Writer, from io.Reader) {
	defer p.close()
	b := make([]byte, 4<<10)
	for {
		n, err := from.Read(b)
		if n > 0 {
			if !l.pass(p, direction, n) {
				return
			}
			if _, err := to.Write(b[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// pass waits until n bytes may go. False: the connection has ended.
func (l *line) pass(p *pipe, direction, n int) bool {
	for {
		l.mu.Lock()
		still, slow := l.still[direction], l.slow
		l.mu.Unlock()
		if still == nil {
			if slow == 0 {
				return true
			}
			timer := time.NewTimer(time.Duration(n) * time.Second / time.Duration(slow))
			defer timer.Stop()
			select {
			case <-timer.C:
				return true
			case <-p.closed:
				return false
			}
		}
		select {
		case <-still:
		case <-p.closed:
			return false
		}
	}
}

func (l *line) add(p *pipe) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.refuses {
		return false
	}
	l.pipes[p] = struct{}{}
	return true
}

func (l *line) lets(p *pipe) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.noBroker || !p.broker
}

func (l *line) remove(p *pipe) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.pipes, p)
}

// cut ends all connections, with a reset.
func (l *line) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for p := range l.pipes {
		p.close()
	}
}

// stop has nothing go in a direction; go has it go again.
func (l *line) stop(direction int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.still[direction] == nil {
		l.still[direction] = make(chan struct{})
	}
}

func (l *line) goOn(direction int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.still[direction] != nil {
		close(l.still[direction])
		l.still[direction] = nil
	}
}

// change changes what else there is.
func (l *line) change(f func(*line)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f(l)
}

// calm makes it a good line.
func (l *line) calm() {
	l.goOn(toClinic)
	l.goOn(toTerminal)
	l.change(func(l *line) { l.slow, l.refuses, l.noBroker = 0, false, false })
}

// join adds the far end. False: the connection has ended meanwhile.
func (p *pipe) join(far net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.closed:
		far.Close()
		return false
	default:
		p.ends[1] = far
		return true
	}
}

func (p *pipe) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.closed:
		return
	default:
	}
	close(p.closed)
	for _, c := range p.ends {
		if t, ok := c.(*net.TCPConn); ok {
			t.SetLinger(0) //nolint:errcheck // a reset is nicer, not needed
			t.Close()
		}
	}
}
