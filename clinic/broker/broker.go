// Package broker passes messages between the terminals and the clinic: MQTT 3.1.1 over mutual TLS 1.3.
//
// The embedded broker is a NATS server in this process with JetStream under a folder of its own, which holds retained
// messages and may be lost without losing anything: what matters is in the store, and terminals publish anew when they connect. It reads them
// while it serves: who subscribes in the first moments after a start may not be told what is retained.
//
// # Who may do what
//
// A connection is who its certificate's key says. The MQTT client id has to be the name of that key, so that nobody can push
// another's session out. A terminal may publish on its four "out" topics and subscribe to its own "in" topics; the clinic may
// subscribe to every "out" and publish on every "in" topic. What is not permitted is dropped (PUBLISH) or answered with failure
// (SUBSCRIBE, MQTT 3.1.1 §3.9.3), and the connection goes on. A certificate that the register does not admit is
// answered with "not authorized" (§3.2.2.3); where the register cannot be asked the connection is closed. It ends with its certificate's time.
//
// # Limits
//
// Payloads over MaxPayload end the connection. Larger ones than the protocol allows, but not than this, are passed on so that
// the clinic can count them and the connection survives. PUBLISH with QoS 2 ends it too: such a message would stay on the disk until its sender
// releases it.
//
// Delivery leans on acknowledgements of our own and QoS 0, so any broker that keeps retained messages and sends wills will do
// in place of this one; what it would have to do is the interface Broker.
package broker

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"

	"vindu/protocol"
)

// MaxPayload is the largest payload in bytes that a connection survives.
const MaxPayload = 4 * protocol.MaxMessage

// ErrRefused is wrapped by the errors with which Admit refuses, and by Refusal's.
var ErrRefused = errors.New("connection refused")

// Broker is a message broker in this process.
type Broker interface {
	// Run serves until ctx is done, and then returns nil.
	Run(ctx context.Context) error
	// Ready is closed when connections are accepted.
	Ready() <-chan struct{}
	// Addr returns where TLS connections are accepted; nil before Ready.
	Addr() net.Addr
	// Kick closes every connection of key. A key that is refused by Admit before it is kicked stays out.
	Kick(key protocol.KeyHash)
}

// Refusal is a connection that was not let in although its certificate is of the clinic's authority: unknown, revoked, or
// with another's name. It is a security event (R18).
type Refusal struct {
	Key    protocol.KeyHash
	Serial string // of the certificate, hexadecimal
	Err    error  // wraps ErrRefused
}

// Config says what a broker needs.
type Config struct {
	// Dir is the broker's own folder. It is made, and set aside if it is damaged.
	Dir string
	// Listen is the address of the TLS listener, "127.0.0.1:0" by default; the front door hands connections to it.
	Listen string
	// TLS holds the server's certificate and, in ClientCAs, the authority of the terminals and of the clinic. Versions and client authentication are set by the broker.
	TLS *tls.Config
	// Clinic says whether a certificate, which is of the authority and within its time, is of the clinic's own client.
	Clinic func(certificate *x509.Certificate) bool
	// Admit says whether a terminal may connect with this certificate, which is of the authority and within its time. It is called for every
	// connection and has to return soon. An error that wraps ErrRefused refuses it; with any other Admit could not tell, and the connection is closed
	// without an answer, so that an honest terminal tries again.
	Admit func(key protocol.KeyHash, certificate *x509.Certificate) error
	// Refused is told of each refusal. It may be nil, and must not block.
	Refused func(Refusal)
	// Replaced is told when a terminal is let in while a connection with its key is open, which then ends: it comes again after its line broke
	// unnoticed, or there are two of it. It may be nil, and must not block.
	Replaced func(key protocol.KeyHash)
}

func (c *Config) check() error {
	switch {
	case c.Dir == "":
		return errors.New("broker: no folder is configured")
	case c.TLS == nil || c.TLS.ClientCAs == nil:
		return errors.New("broker: no server certificate or no authority of clients is configured")
	case len(c.TLS.Certificates) == 0 && c.TLS.GetCertificate == nil:
		return errors.New("broker: no server certificate is configured")
	case c.Admit == nil:
		return errors.New("broker: nothing says who is admitted")
	case c.Clinic == nil:
		return errors.New("broker: nothing says who the clinic is")
	}
	if c.Listen == "" {
		c.Listen = "127.0.0.1:0"
	}
	if _, _, err := net.SplitHostPort(c.Listen); err != nil {
		return fmt.Errorf("broker: listen address: %w", err)
	}
	return nil
}

// mutual returns base with TLS 1.3 and verified client certificates enforced, also in what its GetConfigForClient returns.
func mutual(base *tls.Config) *tls.Config {
	c := base.Clone()
	c.MinVersion = tls.VersionTLS13
	c.ClientAuth = tls.RequireAndVerifyClientCert
	c.NextProtos = []string{protocol.ALPNMQTT}
	c.SessionTicketsDisabled = true // each connection is verified anew
	if next := base.GetConfigForClient; next != nil {
		c.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			chosen, err := next(hello)
			if err != nil || chosen == nil {
				return nil, err
			}
			chosen = chosen.Clone()
			chosen.GetConfigForClient = nil
			return mutual(chosen), nil
		}
	}
	return c
}
