package faults

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"vindu/scripts/lab"
)

// listener takes connections in a network until the test ends, each of which it hands to serve, and waits for all of them then.
func listener(t *testing.T, n *lab.Net, address string, serve func(ctx context.Context, conn net.Conn)) {
	t.Helper()
	l, err := n.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() {
				defer conn.Close()
				defer context.AfterFunc(ctx, func() { conn.Close() })()
				serve(ctx, conn)
			})
		}
	})
	t.Cleanup(func() {
		cancel()
		l.Close()
		running.Wait()
	})
}

// forward carries connections from an address in one network to one that is reached from another.
func forward(t *testing.T, from *lab.Net, address string, to *lab.Net, target string) {
	t.Helper()
	listener(t, from, address, func(ctx context.Context, near net.Conn) {
		dialing, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		far, err := to.DialContext(dialing, "tcp", target)
		if err != nil {
			return
		}
		join(ctx, near, far)
	})
}

// join carries both ways until one end closes.
func join(ctx context.Context, near, far net.Conn) {
	defer context.AfterFunc(ctx, func() { far.Close() })()
	var both sync.WaitGroup
	both.Go(func() { io.Copy(far, near); far.Close(); near.Close() })
	both.Go(func() { io.Copy(near, far); far.Close(); near.Close() })
	both.Wait()
}

// names is the home's router answering questions for names.
type names struct {
	mu    sync.Mutex
	how   naming
	four  netip.Addr
	six   netip.Addr // zero: there is none
	lies  netip.Addr
	delay time.Duration
}

type naming int

const (
	namesWell naming = iota
	namesDead
	namesUnknown // that there is no such name
	namesLie
)

func (n *names) set(how naming, lies string, delay time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.how, n.delay = how, delay
	n.lies, _ = netip.ParseAddr(lies)
}

// noSix has the clinic's name lead to no IPv6 address.
func (n *names) noSix() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.six = netip.Addr{}
}

// serve answers on the router until the test ends.
func (n *names) serve(t *testing.T, router *lab.Net, address string) {
	t.Helper()
	var conn net.PacketConn
	if err := router.Inside(func() (err error) {
		conn, err = net.ListenPacket("udp", address)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() {
		buffer := make([]byte, 1500)
		for {
			size, from, err := conn.ReadFrom(buffer)
			if err != nil {
				if errors.Is(err, net.ErrClosed) {
					return
				}
				continue
			}
			question := append([]byte(nil), buffer[:size]...)
			running.Go(func() {
				if answer := n.answer(question); answer != nil {
					conn.WriteTo(answer, from)
				}
			})
		}
	})
	t.Cleanup(func() {
		conn.Close()
		running.Wait()
	})
}

func (n *names) answer(question []byte) []byte {
	n.mu.Lock()
	how, four, six, delay := n.how, n.four, n.six, n.delay
	if how == namesLie {
		four, six = n.lies, netip.Addr{}
	}
	n.mu.Unlock()
	var m dnsmessage.Message
	if how == namesDead || m.Unpack(question) != nil || len(m.Questions) != 1 {
		return nil
	}
	if delay > 0 {
		<-time.After(delay)
	}
	q := m.Questions[0]
	m.Response, m.RecursionAvailable, m.Additionals = true, true, nil
	header := dnsmessage.ResourceHeader{Name: q.Name, Class: dnsmessage.ClassINET, TTL: 1}
	switch {
	case how == namesUnknown || q.Name.String() != clinicName+".":
		m.RCode = dnsmessage.RCodeNameError
	case q.Type == dnsmessage.TypeA && four.IsValid():
		m.Answers = []dnsmessage.Resource{{Header: header, Body: &dnsmessage.AResource{A: four.As4()}}}
	case q.Type == dnsmessage.TypeAAAA && six.IsValid():
		m.Answers = []dnsmessage.Resource{{Header: header, Body: &dnsmessage.AAAAResource{AAAA: six.As16()}}}
	}
	answer, err := m.Pack()
	if err != nil {
		return nil
	}
	return answer
}

// foreign is a certificate of a CA that the terminal does not know, for any name.
func foreign(t *testing.T) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"mqtt", "http/1.1", "stun.turn"}, GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		template := &x509.Certificate{
			SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "Network protection"}, DNSNames: []string{hello.ServerName},
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		}
		der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
		return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
	}}
}

// intercept answers TLS in the clinic's place.
func intercept(config *tls.Config) func(context.Context, net.Conn) {
	return func(ctx context.Context, conn net.Conn) {
		c := tls.Server(conn, config)
		if c.HandshakeContext(ctx) == nil {
			io.Copy(io.Discard, io.LimitReader(c, 1<<20))
		}
	}
}

// reset breaks a connection as soon as somebody says something.
func reset(_ context.Context, conn net.Conn) {
	io.ReadFull(conn, make([]byte, 100))
	if c, ok := conn.(*net.TCPConn); ok {
		c.SetLinger(0)
	}
}

// onlyKnown passes connections on to the clinic, but for those that offer TURN by ALPN: a firewall that lets TLS through and looks into its beginning.
func onlyKnown(router *lab.Net) func(context.Context, net.Conn) {
	return func(ctx context.Context, near net.Conn) {
		hello := make([]byte, 0, 4<<10)
		for len(hello) < 5 || len(hello) < 5+(int(hello[3])<<8|int(hello[4])) {
			if len(hello) == cap(hello) {
				return
			}
			n, err := near.Read(hello[len(hello):cap(hello)])
			if err != nil {
				return
			}
			hello = hello[:len(hello)+n]
		}
		if bytes.Contains(hello, []byte("stun.turn")) {
			return
		}
		dialing, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		far, err := router.DialContext(dialing, "tcp", net.JoinHostPort(clinicFour, "443"))
		if err != nil {
			return
		}
		if _, err := far.Write(hello); err != nil {
			far.Close()
			return
		}
		join(ctx, near, far)
	}
}

// portal is a hotel's page: whoever asks for anything is led to it.
func portal(_ context.Context, conn net.Conn) {
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	io.ReadAtLeast(conn, make([]byte, 4<<10), 16)
	io.WriteString(conn, "HTTP/1.1 302 "+http.StatusText(http.StatusFound)+"\r\nLocation: http://login.portal.invalid/\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
}
