package broker_test

import (
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"vindu/clinic/broker/brokertest"
	"vindu/protocol"
)

// A message with QoS 2 would stay on the broker's disk until its sender releases it: 2,775 of them, five seconds' work, once kept every terminal out.
func TestNothingIsHeld(t *testing.T) {
	b := brokertest.Start(t, quiet)
	hostile := b.Terminal(t)
	topic := protocol.OutTopic(hostile.Hash, protocol.OutEvent)
	lost := make(chan error, 1)
	c := brokertest.MustConnect(t, b.Options(hostile).SetConnectionLostHandler(func(_ mqtt.Client, err error) { lost <- err }))
	c.Publish(topic, 2, false, "held")
	select {
	case <-lost:
	case <-time.After(brokertest.Patience):
		t.Error("a message with QoS 2 was taken")
	}
	for _, qos := range []byte{0, 1} {
		brokertest.Wait(t, brokertest.MustConnect(t, b.Options(hostile)).Publish(topic, qos, false, "passed on"))
	}
}
