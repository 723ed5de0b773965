package relay

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

// A connection that says nothing is closed; one that does may then be silent for long.
func TestSilentConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newListener(nil)
		near, far := net.Pipe()
		c := l.add(near)
		began := time.Now()
		if _, err := c.Read(make([]byte, 1)); err == nil || time.Since(began) != greeting {
			t.Errorf("silent: %v after %v", err, time.Since(began))
		}
		if _, err := far.Write([]byte{1}); err != io.ErrClosedPipe {
			t.Errorf("still open: %v", err)
		}
		near, far = net.Pipe()
		c = l.add(near)
		go far.Write([]byte{1})
		if _, err := c.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		began = time.Now()
		if _, err := c.Read(make([]byte, 1)); err == nil || time.Since(began) != idle {
			t.Errorf("silent later: %v after %v", err, time.Since(began))
		}
		if len(l.open) != 0 {
			t.Errorf("%d connections are counted", len(l.open))
		}
		for range maxConnections {
			l.open[&conn{}] = struct{}{}
		}
		if l.add(near) != nil {
			t.Error("one connection too many")
		}
	})
}

type remote struct {
	net.Conn
	addr string
}

func (r remote) RemoteAddr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(r.addr))
}

// One address cannot have all connections.
func TestConnectionsOfOneAddress(t *testing.T) {
	l := newListener(nil)
	dial := func(addr string) *conn {
		_, far := net.Pipe()
		return l.add(remote{far, addr})
	}
	var first *conn
	for i := range maxPerAddress {
		c := dial(fmt.Sprintf("[2001:db8::%x]:%d", i+1, 1000+i))
		if c == nil {
			t.Fatalf("connection %d of an address: turned away", i+1)
		}
		if first == nil {
			first = c
		}
	}
	if dial("[2001:db8::ffff:1]:1") != nil {
		t.Error("one connection too many of an address")
	}
	if dial("192.0.2.1:1") == nil || dial("[2001:db8:0:1::1]:1") == nil {
		t.Error("another address was turned away")
	}
	for range 2 { // closing twice counts once
		if err := first.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if dial("[2001:db8::1]:1") == nil {
		t.Error("a closed connection still counts")
	}
	if dial("[2001:db8::1]:2") != nil {
		t.Error("a connection closed twice counts twice")
	}
	l.closeAll()
	if len(l.open) != 0 || len(l.from) != 0 {
		t.Errorf("%d connections, %d addresses left", len(l.open), len(l.from))
	}
}
