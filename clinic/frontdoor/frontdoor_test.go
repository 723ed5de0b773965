package frontdoor

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const terminals = "terminals.vindu.invalid"

var errNoBroker = errors.New("no broker here")

func noBroker(context.Context) (net.Conn, error) { return nil, errNoBroker }

// start runs a door on loopback until the test ends.
func start(t *testing.T, broker func(context.Context) (net.Conn, error)) *Door {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d := New(l, Config{TerminalsName: terminals, Broker: broker, Limits: DefaultLimits}, slog.New(slog.DiscardHandler))
	run(t, d)
	return d
}

func run(t *testing.T, d *Door) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if len(d.byAddress) != 0 || d.halfOpen.Len() != 0 {
			t.Errorf("%d half-open connections, %d addresses left", d.halfOpen.Len(), len(d.byAddress))
		}
	})
	t.Cleanup(stop)
	return stop
}

func certificate(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{terminals, "clinic.example"}, IPAddresses: []net.IP{{127, 0, 0, 1}}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// greet accepts on l, speaks TLS, says who it is and hangs up.
func greet(t *testing.T, l net.Listener, name string, c tls.Certificate, alpn ...string) {
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			raw, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer raw.Close()
				server := tls.Server(raw, &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{c}, NextProtos: alpn})
				if server.Handshake() == nil {
					io.WriteString(server, name)
					server.Close()
				}
			})
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait() })
}

func TestRoutes(t *testing.T) {
	broker, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d := start(t, func(ctx context.Context) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", broker.Addr().String())
	})
	c := certificate(t)
	greet(t, broker, "broker", c, "mqtt")
	greet(t, d.Terminals(), "terminals", c, "h2", "http/1.1")
	greet(t, d.Browsers(), "browsers", c, "h2", "http/1.1")
	greet(t, d.Relay(), "relay", c, "stun.turn")
	roots := x509.NewCertPool()
	roots.AddCert(c.Leaf)
	for _, tc := range []struct {
		name, sni string
		alpn      []string
		want      string
	}{
		{"MQTT", terminals, []string{"mqtt"}, "broker"},
		{"MQTT under any name", "clinic.example", []string{"mqtt"}, "broker"},
		{"MQTT without a name", "127.0.0.1", []string{"mqtt"}, "broker"},
		{"enrolment by HTTP/2", terminals, []string{"h2", "http/1.1"}, "terminals"},
		{"enrolment by HTTP/1.1", terminals, []string{"http/1.1"}, "terminals"},
		{"enrolment without ALPN", terminals, nil, "terminals"},
		{"names have no case", strings.ToUpper(terminals), nil, "terminals"},
		{"browser", "clinic.example", []string{"h2", "http/1.1"}, "browsers"},
		{"browser by address", "127.0.0.1", []string{"h2", "http/1.1"}, "browsers"},
		{"TURN by ALPN", terminals, []string{"stun.turn"}, "relay"},
		{"TURN of a browser", "clinic.example", nil, "relay"},
		{"TURN of a browser by address", "127.0.0.1", nil, "relay"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			conn, err := tls.Dial("tcp", d.listener.Addr().String(), &tls.Config{ServerName: tc.sni, NextProtos: tc.alpn, RootCAs: roots})
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			got, err := io.ReadAll(conn)
			if err != nil || string(got) != tc.want {
				t.Errorf("reached %q, %v; want %q", got, err, tc.want)
			}
		})
	}
	t.Run("TLS 1.2 is for the one behind to refuse", func(t *testing.T) {
		_, err := tls.Dial("tcp", d.listener.Addr().String(), &tls.Config{ServerName: terminals, RootCAs: roots, MaxVersion: tls.VersionTLS12})
		if err == nil || !strings.Contains(err.Error(), "protocol version") {
			t.Errorf("error = %v", err)
		}
	})
}

// clientHello returns the first flight of a client.
func clientHello(t testing.TB, config *tls.Config) []byte {
	t.Helper()
	near, far := net.Pipe()
	defer far.Close()
	go func() {
		tls.Client(near, config).Handshake()
		near.Close()
	}()
	b := make([]byte, maxHello)
	n, err := far.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	return b[:n]
}

// records puts a ClientHello of one TLS record into many of them (RFC 8446 §5.1).
func records(record []byte, size int) (out []byte) {
	for body := record[5:]; len(body) > 0; {
		n := min(size, len(body))
		out = append(out, 22, 3, 1, byte(n>>8), byte(n))
		out = append(out, body[:n]...)
		body = body[n:]
	}
	return out
}

// TestSplice sends megabytes both ways, with the hello in all sorts of pieces, and ends one direction before the other.
func TestSplice(t *testing.T) {
	broker, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer broker.Close()
	d := start(t, func(ctx context.Context) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", broker.Addr().String())
	})
	plain := clientHello(t, &tls.Config{ServerName: terminals, NextProtos: []string{"mqtt"}})
	for name, tc := range map[string]struct {
		hello []byte
		piece int
	}{
		"whole":               {plain, len(plain)},
		"byte by byte":        {plain, 1},
		"in many TLS records": {records(plain, 100), 64},
	} {
		t.Run(name, func(t *testing.T) {
			up, down := make([]byte, 4<<20), make([]byte, 4<<20)
			rand.Read(up)
			rand.Read(down)
			copy(up, tc.hello)
			result := make(chan error, 1)
			go func() {
				result <- func() error {
					c, err := broker.Accept()
					if err != nil {
						return err
					}
					defer c.Close()
					got, err := io.ReadAll(c) // until the terminal's half-close
					if err != nil {
						return err
					}
					if !bytes.Equal(got, up) {
						return errors.New("not the bytes that were sent")
					}
					_, err = c.Write(down)
					return err
				}()
			}()
			c, err := net.Dial("tcp", d.listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			for sent := 0; sent < len(tc.hello); sent += tc.piece {
				if _, err := c.Write(up[sent:min(sent+tc.piece, len(tc.hello))]); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := c.Write(up[len(tc.hello):]); err != nil {
				t.Fatal(err)
			}
			if err := c.(*net.TCPConn).CloseWrite(); err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(c)
			if err != nil || !bytes.Equal(got, down) {
				t.Errorf("%d bytes came back, want %d: %v", len(got), len(down), err)
			}
			if err := <-result; err != nil {
				t.Errorf("broker: %v", err)
			}
		})
	}
}

// TestIdle: a spliced connection that is silent costs its two sockets and no other file descriptor.
func TestIdle(t *testing.T) {
	broker, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer broker.Close()
	d := start(t, func(ctx context.Context) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", broker.Addr().String())
	})
	hello := clientHello(t, &tls.Config{ServerName: terminals, NextProtos: []string{"mqtt"}})
	open := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	const connections = 40
	before := open()
	for range connections {
		c, err := net.Dial("tcp", d.listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := c.Write(hello); err != nil {
			t.Fatal(err)
		}
		b, err := broker.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		for from, to := range map[net.Conn]net.Conn{c: b, b: c} { // once each way, so that both directions run
			if _, err := from.Write(hello); err != nil {
				t.Fatal(err)
			}
			n := len(hello)
			if to == b {
				n *= 2
			}
			if _, err := io.ReadFull(to, make([]byte, n)); err != nil {
				t.Fatal(err)
			}
		}
	}
	// All four ends are in this process.
	if got := open() - before; got > 4*connections {
		t.Errorf("%d connections hold %d file descriptors, want %d", connections, got, 4*connections)
	}
}

func TestGarbage(t *testing.T) {
	d := start(t, noBroker)
	good := clientHello(t, &tls.Config{ServerName: terminals})
	long := records(append(make([]byte, 5), bytes.Repeat([]byte{1, 0, 0xff, 0xff}, 10<<10)...), 16<<10)
	for name, b := range map[string][]byte{
		"plain HTTP":      []byte("GET / HTTP/1.1\r\nHost: clinic\r\n\r\n"),
		"plain MQTT":      {0x10, 0x10, 0, 4, 'M', 'Q', 'T', 'T', 4, 2, 0, 60, 0, 4, 'a', 'b', 'c', 'd'},
		"SSL 2":           {0x80, 0x2e, 1, 0, 2, 0, 0x15, 0, 0, 0, 0x10},
		"alert":           {21, 3, 3, 0, 2, 2, 40},
		"cut":             good[:len(good)/2],
		"endless":         long,
		"not a hello":     {22, 3, 1, 0, 4, 2, 0, 0, 0},
		"nothing":         nil,
		"MQTT, no broker": clientHello(t, &tls.Config{ServerName: terminals, NextProtos: []string{"mqtt"}}),
	} {
		t.Run(name, func(t *testing.T) {
			c, err := net.Dial("tcp", d.listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			c.Write(b) // the door may have closed it already
			c.(*net.TCPConn).CloseWrite()
			if got, _ := io.ReadAll(c); len(got) != 0 {
				t.Errorf("the door said %q", got)
			}
		})
	}
	// After all that it still works.
	cert := certificate(t)
	greet(t, d.Browsers(), "browsers", cert, "h2")
	roots := x509.NewCertPool()
	roots.AddCert(cert.Leaf)
	c, err := tls.Dial("tcp", d.listener.Addr().String(), &tls.Config{ServerName: "clinic.example", RootCAs: roots, NextProtos: []string{"h2"}})
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}

// pipes is a listener of connections within the process, so that time can be faked.
type pipes struct {
	connections chan net.Conn
	closed      chan struct{}
	once        sync.Once
}

func newPipes() *pipes { return &pipes{connections: make(chan net.Conn), closed: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.connections:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}
func (p *pipes) Close() error { p.once.Do(func() { close(p.closed) }); return nil }
func (p *pipes) Addr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:443"))
}

type from struct {
	net.Conn
	addr string
}

func (f from) RemoteAddr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(f.addr))
}

func (p *pipes) dial(addr string) net.Conn {
	near, far := net.Pipe()
	p.connections <- from{far, addr}
	return near
}

// closedAfter reads until the other side closes and says how long that took.
func closedAfter(c net.Conn, begin time.Time) time.Duration {
	io.Copy(io.Discard, c)
	return time.Since(begin)
}

func TestSlowloris(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPipes()
		d := New(p, Config{TerminalsName: terminals, Broker: noBroker, Limits: DefaultLimits}, slog.New(slog.DiscardHandler))
		stop := run(t, d)
		begin := time.Now()
		silent, slow := p.dial("192.0.2.1:1000"), p.dial("192.0.2.1:1001")
		hello := clientHello(t, &tls.Config{ServerName: terminals})
		var wg sync.WaitGroup
		defer wg.Wait()
		wg.Go(func() {
			for i := range hello { // a byte each second
				if _, err := slow.Write(hello[i : i+1]); err != nil {
					return
				}
				<-time.After(time.Second)
			}
		})
		for name, c := range map[string]net.Conn{"silent": silent, "slow": slow} {
			if after := closedAfter(c, begin); after != HelloTimeout {
				t.Errorf("%s: closed after %v, want %v", name, after, HelloTimeout)
			}
			c.Close()
		}
		stop()
	})
}

func TestNobodyAccepts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPipes()
		d := New(p, Config{TerminalsName: terminals, Broker: noBroker, Limits: DefaultLimits}, slog.New(slog.DiscardHandler))
		stop := run(t, d)
		c := p.dial("192.0.2.1:1000")
		begin := time.Now()
		if _, err := c.Write(clientHello(t, &tls.Config{ServerName: terminals})); err != nil {
			t.Fatal(err)
		}
		if after := closedAfter(c, begin); after != handTimeout {
			t.Errorf("closed after %v, want %v", after, handTimeout)
		}
		d.Terminals().Close()
		c = p.dial("192.0.2.1:1000")
		begin = time.Now()
		if _, err := c.Write(clientHello(t, &tls.Config{ServerName: terminals})); err != nil {
			t.Fatal(err)
		}
		if after := closedAfter(c, begin); after != 0 {
			t.Errorf("to a closed listener: closed after %v, want at once", after)
		}
		stop()
	})
}

// TestFlood: who opens connections and says nothing holds no place against others who come later, nor can one address that
// does speak have all places.
func TestFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPipes()
		d := New(p, Config{TerminalsName: terminals, Broker: noBroker, Limits: Limits{HalfOpen: 4, HalfOpenPerAddress: 3, Open: 9, OpenPerAddress: 6}}, slog.New(slog.DiscardHandler))
		run(t, d)
		hello := clientHello(t, &tls.Config{ServerName: terminals})
		enters := func(addr string) bool {
			c := p.dial(addr)
			if _, err := c.Write(hello); err != nil {
				return false
			}
			s, err := d.Terminals().Accept()
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { s.Close() })
			return true
		}
		var silent []net.Conn
		for _, addr := range []string{"192.0.2.1:1", "192.0.2.1:2", "192.0.2.2:1", "192.0.2.2:2"} {
			silent = append(silent, p.dial(addr))
		}
		synctest.Wait()
		if !enters("192.0.2.3:1") {
			t.Error("turned away while others held places without a word")
		}
		synctest.Wait()
		if err := silent[0].SetReadDeadline(time.Now()); err == nil {
			if _, err := silent[0].Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
				t.Errorf("the oldest silent connection: %v", err)
			}
		}
		<-time.After(2 * HelloTimeout) // the silent ones are gone
		for i := range 6 {
			if got, want := enters("192.0.2.3:2"), i < 5; got != want {
				t.Errorf("connection %d of one address: entered = %v", i+2, got)
			}
		}
		if !enters("192.0.2.4:1") {
			t.Error("one address holds all places")
		}
	})
}

func TestLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPipes()
		d := New(p, Config{TerminalsName: terminals, Broker: noBroker, Limits: Limits{HalfOpen: 5, HalfOpenPerAddress: 2, Open: 7, OpenPerAddress: 7}}, slog.New(slog.DiscardHandler))
		stop := run(t, d)
		dial := func(addr string) (c net.Conn, turnedAway bool) {
			c = p.dial(addr)
			synctest.Wait()
			if c.SetReadDeadline(time.Now().Add(time.Millisecond)) != nil {
				return c, true // a pipe whose other end is closed
			}
			_, err := c.Read(make([]byte, 1))
			return c, errors.Is(err, io.EOF)
		}
		for _, tc := range []struct {
			name, addr string
			turnedAway bool
		}{
			{"first", "192.0.2.1:1", false},
			{"second of an address", "192.0.2.1:2", false},
			{"third of an address", "192.0.2.1:3", true},
			{"another address", "192.0.2.2:3", false},
			{"IPv6", "[2001:db8::1]:1", false},
			{"same /64", "[2001:db8::2]:1", false},
			{"same /64 again", "[2001:db8::ffff:3]:1", true},
			{"sixth in all", "192.0.2.7:3", false},
		} {
			if _, got := dial(tc.addr); got != tc.turnedAway {
				t.Errorf("%s: turned away = %v", tc.name, got)
			}
		}
		<-time.After(2 * HelloTimeout) // the five are gone
		hello := clientHello(t, &tls.Config{ServerName: terminals})
		var accepted []net.Conn
		for i := range 8 {
			c, turnedAway := dial("192.0.2.9:1")
			if turnedAway != (i == 7) {
				t.Errorf("connection %d: turned away = %v", i, turnedAway)
			}
			if turnedAway {
				break
			}
			if _, err := c.Write(hello); err != nil {
				t.Fatal(err)
			}
			s, err := d.Terminals().Accept()
			if err != nil {
				t.Fatal(err)
			}
			accepted = append(accepted, s)
		}
		for range 2 { // closing twice counts once
			accepted[0].Close()
		}
		if _, turnedAway := dial("192.0.2.9:1"); turnedAway {
			t.Error("a closed connection still counts")
		}
		if _, turnedAway := dial("192.0.2.9:1"); !turnedAway {
			t.Error("a connection closed twice counts twice")
		}
		stop()
		for _, c := range accepted[1:] { // what was handed on is not the door's to close
			if err := c.SetReadDeadline(time.Now()); err != nil {
				t.Errorf("handed-on connection: %v", err)
			}
			c.Close()
		}
	})
}

// TestStop leaves one connection in each state and stops.
func TestStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPipes()
		near, far := net.Pipe()
		d := New(p, Config{TerminalsName: terminals, Broker: func(context.Context) (net.Conn, error) { return far, nil }, Limits: DefaultLimits}, slog.New(slog.DiscardHandler))
		stop := run(t, d)
		begin := time.Now()
		silent, waiting, spliced := p.dial("192.0.2.1:1"), p.dial("192.0.2.1:2"), p.dial("192.0.2.1:3")
		if _, err := waiting.Write(clientHello(t, &tls.Config{ServerName: terminals})); err != nil {
			t.Fatal(err)
		}
		hello := clientHello(t, &tls.Config{ServerName: terminals, NextProtos: []string{"mqtt"}})
		if _, err := spliced.Write(hello); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(near, make([]byte, len(hello))); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		stop()
		for name, c := range map[string]net.Conn{"silent": silent, "waiting": waiting, "spliced": spliced, "broker": near} {
			if after := closedAfter(c, begin); after != 0 {
				t.Errorf("%s: closed after %v", name, after)
			}
		}
		if _, err := d.Browsers().Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("accept: %v", err)
		}
	})
}

// TestAcceptFails: running out of file descriptors passes, a listener that is closed under the door does not.
func TestAcceptFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &failing{pipes: newPipes(), left: 20}
		d := New(f, Config{TerminalsName: terminals, Broker: noBroker, Limits: DefaultLimits}, slog.New(slog.DiscardHandler))
		done := make(chan error, 1)
		go func() { done <- d.Run(t.Context()) }()
		c := f.dial("192.0.2.1:1")
		closedAfter(c, time.Now())
		f.Close()
		if err := <-done; !errors.Is(err, net.ErrClosed) {
			t.Errorf("error = %v", err)
		}
	})
}

type failing struct {
	*pipes
	left int
}

func (f *failing) Accept() (net.Conn, error) {
	if f.left > 0 {
		f.left--
		return nil, errors.New("too many open files")
	}
	return f.pipes.Accept()
}

func TestTLS(t *testing.T) {
	c := certificate(t)
	config := &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{c}}
	t.Run("speaks", func(t *testing.T) {
		p := newPipes()
		l := TLS(p, config)
		go func() {
			s, err := l.Accept()
			if err != nil {
				t.Error(err)
				return
			}
			defer s.Close()
			io.Copy(s, s)
		}()
		roots := x509.NewCertPool()
		roots.AddCert(c.Leaf)
		client := tls.Client(p.dial("192.0.2.1:1"), &tls.Config{ServerName: terminals, RootCAs: roots})
		defer client.Close()
		if _, err := io.WriteString(client, "ping"); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 4)
		if _, err := io.ReadFull(client, got); err != nil || string(got) != "ping" {
			t.Errorf("got %q, %v", got, err)
		}
	})
	t.Run("does not wait for ever", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p := newPipes()
			l := TLS(p, config)
			done := make(chan error)
			go func() {
				s, err := l.Accept()
				if err == nil {
					_, err = s.Read(make([]byte, 1))
				}
				done <- err
			}()
			client, begin := p.dial("192.0.2.1:1"), time.Now()
			if after := closedAfter(client, begin); after != HelloTimeout {
				t.Errorf("closed after %v, want %v", after, HelloTimeout)
			}
			if err := <-done; !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("error = %v", err)
			}
		})
	})
}

// bytesConn is a connection from which b comes, then the end.
type bytesConn struct {
	net.Conn
	r bytes.Reader
}

func (c *bytesConn) Read(b []byte) (int, error)      { return c.r.Read(b) }
func (c *bytesConn) SetReadDeadline(time.Time) error { return nil }

func FuzzReadHello(f *testing.F) {
	for _, config := range []*tls.Config{
		{ServerName: terminals, NextProtos: []string{"mqtt"}},
		{ServerName: "clinic.example", NextProtos: []string{"h2", "http/1.1"}, MaxVersion: tls.VersionTLS12},
		{InsecureSkipVerify: true},
	} {
		hello := clientHello(f, config)
		f.Add(hello)
		f.Add(records(hello, 50))
		f.Add(hello[:len(hello)-1])
	}
	d := New(newPipes(), Config{TerminalsName: terminals, Broker: noBroker, Limits: DefaultLimits}, slog.New(slog.DiscardHandler))
	f.Fuzz(func(t *testing.T, b []byte) {
		c := &bytesConn{}
		c.r.Reset(b)
		h, head, err := readHello(c)
		if !bytes.HasPrefix(b, head) || len(head) > maxHello {
			t.Fatal("not the bytes that came were kept")
		}
		if err != nil {
			return
		}
		d.route(h)
		again := &bytesConn{}
		again.r.Reset(head)
		if h2, _, err := readHello(again); err != nil || h2.name != h.name || len(h2.alpn) != len(h.alpn) {
			t.Fatalf("the one behind would read it differently: %+v, %+v, %v", h, h2, err)
		}
	})
}
