package broker_test

import (
	"errors"
	"testing"

	"github.com/eclipse/paho.mqtt.golang/packets"

	"vindu/clinic/broker/brokertest"
)

// A register that cannot be asked is no refusal: the terminal is not told that it may not connect, and nobody that it was refused.
func TestRegisterCannotBeAsked(t *testing.T) {
	b := brokertest.Start(t, quiet)
	id := b.Terminal(t)
	b.Ignorant(errors.New("database busy"))
	_, err := brokertest.Connect(t, b.Options(id))
	if err == nil || errors.Is(err, packets.ErrorRefusedNotAuthorised) {
		t.Errorf("connected: %v", err)
	}
	if refusals := b.Refusals(); len(refusals) != 0 {
		t.Errorf("refusals %v", refusals)
	}
	b.Ignorant(nil)
	brokertest.MustConnect(t, b.Options(id))
	b.Revoke(id.Hash)
	if _, err := brokertest.Connect(t, b.Options(id)); !errors.Is(err, packets.ErrorRefusedNotAuthorised) {
		t.Errorf("one that was revoked: %v", err)
	}
	if refusals := b.Refusals(); len(refusals) != 1 || refusals[0].Serial != id.Certificate.Leaf.SerialNumber.Text(16) {
		t.Errorf("refusals %v", refusals)
	}
}

// A connection that takes the place of another is told of, whether or not anything is said on it.
func TestReplaced(t *testing.T) {
	b := brokertest.Start(t, quiet)
	id := b.Terminal(t)
	brokertest.MustConnect(t, b.Options(b.Terminal(t)))
	first := brokertest.MustConnect(t, b.Options(id))
	if n := b.Replaced(); n != 0 {
		t.Errorf("%d replaced by the first connections", n)
	}
	brokertest.MustConnect(t, b.Options(id))
	if n := b.Replaced(); n != 1 {
		t.Errorf("%d replaced", n)
	}
	first.Disconnect(0)
}
