package pace

import (
	"net"
	"net/netip"
	"testing"
	"time"
)

func TestCallers(t *testing.T) {
	b := Bound{2, 100}
	c := New[netip.Prefix](b)
	now := time.Now()
	address := func(i int) netip.Prefix {
		return Place(net.JoinHostPort(net.IPv4(10, byte(i>>16), byte(i>>8), byte(i)).String(), "1"))
	}
	for i := range maxCallers + b.Burst {
		if !c.Allow(address(i), now) {
			t.Fatalf("caller %d was refused", i)
		}
	}
	if c.Allow(address(maxCallers+b.Burst), now) {
		t.Error("the bound of those beyond does not hold")
	}
	if !c.Allow(address(3), now) || len(c.known) > maxCallers {
		t.Errorf("%d callers known", len(c.known))
	}
	if now = now.Add(time.Minute); !c.Allow(address(maxCallers+b.Burst), now) || len(c.known) != 1 {
		t.Errorf("after a minute of silence %d callers are known", len(c.known))
	}
	if Place("[2001:db8::1]:1") != Place("[2001:db8::2]:2") || Place("[2001:db8::1]:1") == Place("[2001:db8:0:1::1]:1") {
		t.Error("not bounded by /64")
	}
	if Place("[::ffff:10.0.0.1]:1") != address(1) || Place("10.0.0.2:1") == address(1) || Place("nowhere").IsValid() {
		t.Error("not bounded by IPv4 address")
	}
}
