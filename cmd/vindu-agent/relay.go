package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"

	"golang.org/x/net/proxy"

	"vindu/device/identity"
	"vindu/protocol"
)

// relayDialer connects to the clinic's relay by TLS on the clinic's own port: the server is verified like the clinic itself, and told apart
// by ALPN (RFC 7443).
type relayDialer struct{ id *identity.Identity }

var _ interface {
	proxy.Dialer
	proxy.ContextDialer
} = relayDialer{}

// Dial implements proxy.Dialer.
func (d relayDialer) Dial(network, address string) (net.Conn, error) {
	return d.DialContext(context.Background(), network, address)
}

// DialContext implements proxy.ContextDialer, so that a call that is hung up does not wait for a relay that does not answer.
func (d relayDialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	cfg := d.id.TLS(protocol.ALPNTURN)
	if cfg == nil {
		return nil, errors.New("dial relay: the terminal is not set up")
	}
	conn, err := (&tls.Dialer{NetDialer: &net.Dialer{Timeout: 10 * time.Second}, Config: cfg}).DialContext(ctx, network, address)
	if err != nil {
		return nil, fmt.Errorf("dial relay: %w", err)
	}
	return conn, nil
}
