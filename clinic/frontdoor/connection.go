package frontdoor

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"
	"time"
)

// maxHello bounds what is read before the ClientHello is whole. Browsers with post-quantum key shares send about 2 KiB.
const maxHello = 16 << 10

// hello is what the door has to know of a ClientHello.
type hello struct {
	name string // SNI
	alpn []string
}

var errRead = errors.New("ClientHello read")

// readHello reads until the ClientHello is whole and returns, besides what it says, all bytes that were read, which may be
// more. Nothing is written to c.
func readHello(c net.Conn) (h hello, head []byte, err error) {
	if err := c.SetReadDeadline(time.Now().Add(HelloTimeout)); err != nil {
		return hello{}, nil, err
	}
	r := &recorder{Conn: c}
	// The TLS server is left as soon as it has parsed the ClientHello: before it chooses a version or wants a certificate.
	err = tls.Server(r, &tls.Config{MinVersion: tls.VersionTLS13, GetConfigForClient: func(i *tls.ClientHelloInfo) (*tls.Config, error) {
		h = hello{name: i.ServerName, alpn: i.SupportedProtos}
		return nil, errRead
	}}).Handshake()
	if !errors.Is(err, errRead) {
		return hello{}, r.head, fmt.Errorf("read ClientHello: %w", err)
	}
	return h, r.head, c.SetReadDeadline(time.Time{})
}

// recorder keeps what is read and swallows what is written.
type recorder struct {
	net.Conn
	head []byte
}

func (r *recorder) Read(b []byte) (int, error) {
	if len(r.head) >= maxHello {
		return 0, fmt.Errorf("longer than %d bytes", maxHello)
	}
	n, err := r.Conn.Read(b[:min(len(b), maxHello-len(r.head))])
	r.head = append(r.head, b[:n]...)
	return n, err
}

func (*recorder) Write(b []byte) (int, error)      { return len(b), nil }
func (*recorder) SetWriteDeadline(time.Time) error { return nil }

// replayed is a connection of which head was read before.
type replayed struct {
	net.Conn
	close func() error

	mu   sync.Mutex
	head []byte
}

func (r *replayed) Read(b []byte) (int, error) {
	r.mu.Lock()
	if len(r.head) > 0 {
		defer r.mu.Unlock()
		n := copy(b, r.head)
		if r.head = r.head[n:]; len(r.head) == 0 {
			r.head = nil
		}
		return n, nil
	}
	r.mu.Unlock()
	return r.Conn.Read(b)
}

func (r *replayed) Close() error { return r.close() }

// pump copies from one connection to the other, passes the end on as half-close, and gives the other direction lingerTimeout
// from then. Errors end it like an end of file: the other end has to notice by TLS.
func pump(to, from net.Conn) {
	err := forward(patient{to}, from)
	half, ok := to.(interface{ CloseWrite() error })
	if err != nil || !ok || half.CloseWrite() != nil {
		to.Close()
		from.Close()
		return
	}
	if to.SetReadDeadline(time.Now().Add(lingerTimeout)) != nil {
		to.Close()
	}
}

// patient waits for stallTimeout for an end that does not read, not for ever: the broker gives such a terminal up, and its end of the
// connection would stay.
type patient struct{ net.Conn }

func (p patient) Write(b []byte) (int, error) {
	if err := p.SetWriteDeadline(time.Now().Add(stallTimeout)); err != nil {
		return 0, err
	}
	return p.Conn.Write(b)
}

var buffers = sync.Pool{New: func() any { return new([16 << 10]byte) }}

// forward is io.Copy that holds nothing while nothing comes. io.Copy between TCP connections uses splice(2) and holds a pipe, that is two
// file descriptors, for each direction; ten thousand terminals, which are silent most of the time, have better use for them.
func forward(to, from net.Conn) error {
	s, ok := from.(syscall.Conn)
	if !ok {
		_, err := io.Copy(to, from)
		return err
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return err
	}
	for {
		var buffer *[16 << 10]byte
		var n int
		var failed error
		err := raw.Read(func(fd uintptr) (done bool) {
			buffer = buffers.Get().(*[16 << 10]byte)
			for {
				n, failed = syscall.Read(int(fd), buffer[:])
				if failed != syscall.EINTR {
					break
				}
			}
			if failed == syscall.EAGAIN {
				buffers.Put(buffer)
				return false
			}
			return true
		})
		if err != nil { // closed, or lingered for too long
			return err
		}
		if failed == nil && n > 0 {
			_, failed = to.Write(buffer[:n])
		}
		buffers.Put(buffer)
		if failed != nil || n == 0 {
			return failed
		}
	}
}

// outlet is a net.Listener that is fed by the door.
type outlet struct {
	connections chan net.Conn // unbuffered: what is not accepted stays the door's
	closed      chan struct{}
	close       func()
	addr        net.Addr
}

func newOutlet(addr net.Addr) *outlet {
	o := &outlet{connections: make(chan net.Conn), closed: make(chan struct{}), addr: addr}
	o.close = sync.OnceFunc(func() { close(o.closed) })
	return o
}

func (o *outlet) Accept() (net.Conn, error) {
	select {
	case c := <-o.connections:
		return c, nil
	case <-o.closed:
		return nil, net.ErrClosed
	}
}

func (o *outlet) Close() error {
	o.close()
	return nil
}

func (o *outlet) Addr() net.Addr { return o.addr }

// TLS returns a listener whose connections speak TLS, for servers that know nothing of it. The handshake is made by the first Read or Write, has
// HelloTimeout, and closes the connection if it fails.
func TLS(l net.Listener, config *tls.Config) net.Listener { return &tlsListener{l, config} }

type tlsListener struct {
	net.Listener
	config *tls.Config
}

func (l *tlsListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	s := &tlsConn{Conn: tls.Server(c, l.config)}
	s.handshake = sync.OnceValue(func() error {
		ctx, cancel := context.WithTimeout(context.Background(), HelloTimeout)
		defer cancel()
		if err := s.HandshakeContext(ctx); err != nil {
			return errors.Join(fmt.Errorf("TLS handshake: %w", err), c.Close())
		}
		return nil
	})
	return s, nil
}

type tlsConn struct {
	*tls.Conn
	handshake func() error
}

func (c *tlsConn) Read(b []byte) (int, error) {
	if err := c.handshake(); err != nil {
		return 0, err
	}
	return c.Conn.Read(b)
}

func (c *tlsConn) Write(b []byte) (int, error) {
	if err := c.handshake(); err != nil {
		return 0, err
	}
	return c.Conn.Write(b)
}
