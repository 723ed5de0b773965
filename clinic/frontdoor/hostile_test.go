package frontdoor

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

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
