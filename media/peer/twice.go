package peer

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/pion/transport/v4"
	"github.com/pion/transport/v4/stdnet"
)

const (
	// handshakeRetry is when a flight of the handshake is sent again at first, and after twice as long each time (RFC 9147 §5.8.2). Its 400 ms for
	// DTLS-SRTP leave a flight five tries in 8 s; one more costs a kilobyte.
	handshakeRetry = 100 * time.Millisecond

	// twiceAfter is when a packet of the handshake leaves a second time: later than a burst of losses lasts, sooner than anybody asks.
	twiceAfter = 40 * time.Millisecond
	// twiceMost is how many do; a handshake on a good line has three.
	twiceMost = 64
)

// twice sends what DTLS sends two times, for a while. A terminal is the server of the handshake: its last flight is sent again only when the far end
// asks for it by sending its own again, after 0.4, 1.2, 2.8 and 6 s if it is a browser and the line takes 200 ms there and back. On a line that loses
// three packets of ten that decides whether a call comes about in time. DTLS drops what it has seen (RFC 6347 §4.1.2.6).
type twice struct {
	transport.Net
	alive context.Context // the peer's life
}

func newTwice(alive context.Context) (*twice, error) {
	n, err := stdnet.NewNet()
	if err != nil {
		return nil, fmt.Errorf("look at network interfaces: %w", err)
	}
	return &twice{n, alive}, nil
}

// Interfaces are looked at anew each time: a terminal's change.
func (t *twice) Interfaces() ([]*transport.Interface, error) {
	n, err := stdnet.NewNet()
	if err != nil {
		return nil, fmt.Errorf("look at network interfaces: %w", err)
	}
	return n.Interfaces()
}

// relayGrace is how long after the peer's end what is said to a relay still gets out.
const relayGrace = 500 * time.Millisecond

// ListenPacket makes a socket for asking a relay over UDP. Where nothing comes back, as where UDP is blocked, pion asks for eight seconds and a closing waits for that: it ends
// at the first question that cannot be sent, 1.6 s later at most.
func (t *twice) ListenPacket(network, address string) (net.PacketConn, error) {
	conn, err := t.Net.ListenPacket(network, address)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(t.alive, func() { time.AfterFunc(relayGrace, func() { _ = conn.Close() }) }) // closed already where the relay answers
	return &relaySocket{conn, stop}, nil
}

type relaySocket struct {
	net.PacketConn
	stop func() bool
}

// Close implements net.PacketConn.
func (s *relaySocket) Close() error {
	s.stop()
	return s.PacketConn.Close()
}

// ListenUDP makes the socket of a candidate. Sockets with a port of their own are mDNS's.
func (t *twice) ListenUDP(network string, addr *net.UDPAddr) (transport.UDPConn, error) {
	conn, err := net.ListenUDP(network, addr)
	if err != nil {
		return nil, err
	}
	if addr != nil && addr.Port != 0 {
		return conn, nil
	}
	return &twiceConn{UDPConn: conn}, nil
}

type twiceConn struct {
	*net.UDPConn
	sent atomic.Int32
}

// ReadFromAddrPort and WriteToAddrPort are what pion/ice reads and writes by, without allocating (ice.AddrPortReaderWriter).
func (c *twiceConn) ReadFromAddrPort(b []byte) (int, netip.AddrPort, error) {
	return c.ReadFromUDPAddrPort(b)
}

func (c *twiceConn) WriteToAddrPort(b []byte, addr netip.AddrPort) (int, error) {
	if isDTLS(b) && c.sent.Add(1) <= twiceMost {
		again := append([]byte(nil), b...)
		// On a socket that is closed by then it fails, and nobody minds.
		time.AfterFunc(twiceAfter, func() { _, _ = c.WriteToUDPAddrPort(again, addr) })
	}
	return c.WriteToUDPAddrPort(b, addr)
}

// isDTLS tells DTLS from STUN, TURN and SRTP by its first byte (RFC 7983 §7), and a handshake from an alert, which is said once.
func isDTLS(b []byte) bool {
	const changeCipherSpec, handshake = 20, 22 // RFC 5246 §6.2.1
	return len(b) > 0 && (b[0] == changeCipherSpec || b[0] == handshake)
}
