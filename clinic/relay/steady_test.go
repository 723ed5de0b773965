package relay

import (
	"net"
	"sync/atomic"
	"syscall"
	"testing"
)

// torn is a socket that fails once.
type torn struct {
	net.PacketConn
	failed *atomic.Bool
}

func (p torn) ReadFrom(b []byte) (int, net.Addr, error) {
	if !p.failed.Swap(true) {
		return 0, nil, syscall.ENOBUFS
	}
	return p.PacketConn.ReadFrom(b)
}

// An error of the socket that passes does not end the relay.
func TestReadFails(t *testing.T) {
	failed := new(atomic.Bool)
	x := start(t, func(c *Config) { c.Packets[0] = torn{c.Packets[0], failed} })
	c := x.client(t, "udp", x.Servers()[0])
	if err := allocate(t, c).Close(); err != nil {
		t.Error(err)
	}
	if !failed.Load() {
		t.Error("nothing has failed")
	}
}
