package setup

import (
	"crypto/rand"
	"crypto/x509"
	"testing"

	"vindu/clinic/authority"
	"vindu/clinic/fleet"
	"vindu/protocol"
)

// TestOrderFollowsKey: an order that a terminal did not get before it had a new key is given to the new one.
func TestOrderFollowsKey(t *testing.T) {
	c := open(t)
	_, old := c.terminal(t, "a")
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, newKey(t))
	if err != nil {
		t.Fatal(err)
	}
	request, err := authority.ParseRequest(der)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Register.Succeed(t.Context(), old, request, c.Authority.IssueTerminal); err != nil {
		t.Fatal(err)
	}
	if leaving, err := c.Leaving(t.Context(), old); err != nil || leaving {
		t.Errorf("leaves without an order: %v", err)
	}
	if _, err := c.Decommission(t.Context(), "Ola", old, "returned"); err != nil {
		t.Fatal(err)
	}
	if leaving, err := c.Leaving(t.Context(), old); err != nil || !leaving {
		t.Errorf("does not leave with an order: %v", err)
	}
	if _, err := c.Register.Admit(t.Context(), request.Hash); err != nil {
		t.Fatal(err)
	}
	f := &terminals{states: map[protocol.KeyHash]fleet.State{}}
	f.online(request.Hash)
	for range 2 {
		if err := c.deliver(t.Context(), f); err != nil {
			t.Fatal(err)
		}
	}
	orders, err := c.Orders(t.Context(), request.Hash)
	if err != nil || len(orders) != 1 || orders[0].By != "Ola" || orders[0].Reason != "returned" || orders[0].State != OrderWaiting {
		t.Errorf("%+v, %v", orders, err)
	}
	if sent := f.take(); len(sent) != 1 {
		t.Errorf("sent %d orders", len(sent))
	}
}
