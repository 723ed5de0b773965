package relay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/pion/logging"
	"github.com/pion/turn/v5"
)

var (
	errUDPOnly = errors.New("relaying TCP is not offered")
	errTooMany = errors.New("too many allocations")
)

// udpOnly makes the ends of what is relayed: UDP sockets, as many as there is room for, nothing else.
type udpOnly struct {
	turn.RelayAddressGenerator
	relay *Relay
}

// AllocatePacketConn implements turn.RelayAddressGenerator.
func (u udpOnly) AllocatePacketConn(config turn.AllocateListenerConfig) (net.PacketConn, net.Addr, error) {
	c, err := u.relay.take(config.UserID)
	if err != nil {
		return nil, nil, err
	}
	p, address, err := u.RelayAddressGenerator.AllocatePacketConn(config)
	if err != nil {
		u.relay.free(c)
		return nil, nil, err
	}
	if !c.open(p) { // revoked meanwhile
		return nil, nil, errors.Join(errTooMany, p.Close())
	}
	return c, address, nil
}

// relayed is the relay's end of one allocation. The server closes it with the allocation, Revoke before.
type relayed struct {
	net.PacketConn // nil until open
	owner          *Relay
	user           string
	mu             sync.Mutex
	closed         bool
}

// open takes the socket. It reports false if c was closed before.
func (c *relayed) open(p net.PacketConn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	c.PacketConn = p
	return true
}

// Close implements net.PacketConn.
func (c *relayed) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.owner.free(c)
	if c.closed {
		return nil
	}
	c.closed = true
	if c.PacketConn == nil {
		return nil
	}
	return c.PacketConn.Close()
}

func (udpOnly) AllocateListener(turn.AllocateListenerConfig) (net.Listener, net.Addr, error) {
	return nil, nil, errUDPOnly
}
func (udpOnly) AllocateConn(turn.AllocateConnConfig) (net.Conn, error) { return nil, errUDPOnly }

func (r *Relay) ports() (turn.RelayAddressGenerator, error) {
	address, bind := net.IP(r.config.Address.AsSlice()), r.config.Bind.String()
	var g turn.RelayAddressGenerator = &turn.RelayAddressGeneratorStatic{RelayAddress: address, Address: bind}
	if r.config.MinPort != 0 {
		g = &turn.RelayAddressGeneratorPortRange{
			RelayAddress: address, Address: bind, MinPort: r.config.MinPort, MaxPort: r.config.MaxPort, MaxRetries: 64,
		}
	}
	return udpOnly{g, r}, g.Validate()
}

// listener bounds the connections of another, their number and their silence, and can close them all: the TURN server
// would leave them open.
type listener struct {
	net.Listener
	mu     sync.Mutex
	open   map[*conn]struct{}
	from   map[netip.Addr]int // of open
	closed bool
}

func newListener(l net.Listener) *listener {
	return &listener{Listener: l, open: make(map[*conn]struct{}), from: make(map[netip.Addr]int)}
}

// Accept returns the next connection. Those that are too many are closed.
func (l *listener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if w := l.add(c); w != nil {
			return w, nil
		}
		_ = c.Close() // it goes either way
	}
}

func (l *listener) add(c net.Conn) *conn {
	l.mu.Lock()
	defer l.mu.Unlock()
	from := addressOf(c)
	if l.closed || len(l.open) >= maxConnections || l.from[from] >= maxPerAddress {
		return nil
	}
	w := &conn{Conn: c, owner: l, from: from, patience: greeting}
	l.open[w] = struct{}{}
	l.from[from]++
	return w
}

// addressOf returns an IPv4 address, or the first of an IPv6 /64.
func addressOf(c net.Conn) netip.Addr {
	a, err := netip.ParseAddrPort(c.RemoteAddr().String())
	if err != nil {
		return netip.Addr{}
	}
	from := a.Addr().Unmap().WithZone("")
	if from.Is6() {
		return netip.PrefixFrom(from, 64).Masked().Addr()
	}
	return from
}

func (l *listener) forget(c *conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, open := l.open[c]; !open {
		return
	}
	delete(l.open, c)
	if l.from[c.from]--; l.from[c.from] == 0 {
		delete(l.from, c.from)
	}
}

func (l *listener) closeAll() {
	l.mu.Lock()
	l.closed = true
	open := make([]*conn, 0, len(l.open))
	for c := range l.open {
		open = append(open, c)
	}
	l.mu.Unlock()
	for _, c := range open {
		_ = c.Close() // the far end may have been quicker
	}
}

// steady is a socket whose errors pass: the TURN server would read nothing from it any more after the first, and tell nobody.
type steady struct {
	net.PacketConn
	done <-chan struct{} // that the relay ends
	log  *slog.Logger
}

func (s steady) ReadFrom(b []byte) (int, net.Addr, error) {
	for {
		n, from, err := s.PacketConn.ReadFrom(b)
		if err == nil || errors.Is(err, net.ErrClosed) {
			return n, from, err
		}
		s.log.Error("relay cannot read from its UDP socket; is the machine out of memory? Trying again", "error", err)
		select {
		case <-s.done:
			return 0, nil, net.ErrClosed
		case <-time.After(readPause):
		}
	}
}

// conn is a connection that has to say something from time to time.
type conn struct {
	net.Conn
	owner    *listener
	from     netip.Addr
	patience time.Duration // only Read touches it, and there is one reader
}

func (c *conn) Read(b []byte) (int, error) {
	if err := c.SetReadDeadline(time.Now().Add(c.patience)); err != nil {
		return 0, err
	}
	n, err := c.Conn.Read(b)
	if err != nil {
		// The TURN server returns from a failed TLS handshake without closing.
		return n, errors.Join(err, c.Close())
	}
	c.patience = idle
	return n, nil
}

// Write fails rather than to wait for a far end that does not read.
func (c *conn) Write(b []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(greeting)); err != nil {
		return 0, err
	}
	return c.Conn.Write(b)
}

func (c *conn) Close() error {
	c.owner.forget(c)
	return c.Conn.Close()
}

// loggers passes the TURN server's log on. What it calls an error is a stranger's doing. Its lines name addresses and user names, so they are
// for debugging alone.
type loggers struct{ log *slog.Logger }

func (l loggers) NewLogger(string) logging.LeveledLogger { return leveled(l) }

type leveled struct{ log *slog.Logger }

func (l leveled) line(format string, v ...any) {
	if l.log.Enabled(context.Background(), slog.LevelDebug) {
		l.log.Debug("turn", "message", fmt.Sprintf(format, v...))
	}
}

func (l leveled) Trace(string)              {}
func (l leveled) Tracef(string, ...any)     {}
func (l leveled) Debug(m string)            { l.line("%s", m) }
func (l leveled) Debugf(f string, v ...any) { l.line(f, v...) }
func (l leveled) Info(m string)             { l.line("%s", m) }
func (l leveled) Infof(f string, v ...any)  { l.line(f, v...) }
func (l leveled) Warn(m string)             { l.line("%s", m) }
func (l leveled) Warnf(f string, v ...any)  { l.line(f, v...) }
func (l leveled) Error(m string)            { l.line("%s", m) }
func (l leveled) Errorf(f string, v ...any) { l.line(f, v...) }
