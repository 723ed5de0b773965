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
