package peer

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/pion/ice/v4"
)

// A packet of the handshake comes twice, and everything else once; after twiceMost packets no more does.
func TestTwice(t *testing.T) {
	n, err := newTwice(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	loopback := net.IPv4(127, 0, 0, 1)
	far, err := net.ListenUDP("udp4", &net.UDPAddr{IP: loopback})
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	if err := far.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	near, err := n.ListenUDP("udp4", &net.UDPAddr{IP: loopback})
	if err != nil {
		t.Fatal(err)
	}
	defer near.Close()
	conn, ok := near.(ice.AddrPortReaderWriter)
	if !ok {
		t.Fatal("pion writes past it")
	}
	to := far.LocalAddr().(*net.UDPAddr).AddrPort()
	to = netip.AddrPortFrom(to.Addr().Unmap(), to.Port())
	// times sends a packet, then one that says that no more come, and counts the first.
	buf := make([]byte, 100)
	times := func(first byte) (n int) {
		sent := []byte{first, 1, 2, 3}
		if _, err := conn.WriteToAddrPort(sent, to); err != nil {
			t.Fatal(err)
		}
		sent[1] = 9 // what was sent is the socket's no longer
		end := time.AfterFunc(3*twiceAfter, func() { _, _ = conn.WriteToAddrPort([]byte{0, 0}, to) })
		defer end.Stop()
		for {
			k, _, err := far.ReadFromUDP(buf)
			if err != nil {
				t.Fatal(err)
			}
			if k == 2 {
				return n
			}
			if buf[0] != first || buf[1] != 1 {
				t.Errorf("% x came", buf[:k])
			}
			n++
		}
	}
	for _, tt := range []struct {
		name  string
		first byte
		want  int
	}{
		{"change of cipher", 20, 2}, {"handshake", 22, 2}, {"alert", 21, 1}, {"data", 23, 1}, {"STUN", 0, 1}, {"SRTP", 128, 1}, {"TURN", 64, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := times(tt.first); got != tt.want {
				t.Errorf("it came %d times, want %d", got, tt.want)
			}
		})
	}
	near.(*twiceConn).sent.Store(twiceMost)
	if got := times(22); got != 1 {
		t.Errorf("after so many a packet came %d times, want 1", got)
	}
}
