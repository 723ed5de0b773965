package provisioning

import (
	"context"
	"fmt"
	"net/http"

	"vindu/protocol"
)

// Relay asks where the clinic's relay is, and for credentials, over mutual TLS.
func (c *Client) Relay(ctx context.Context, g *Grant) ([]protocol.ICEServer, error) {
	s := c.session(g, g.Chain, c.Now)
	defer s.close()
	body, err := s.do(ctx, http.MethodGet, protocol.PathRelay, "", nil, nil)
	if err != nil {
		return nil, fmt.Errorf("ask for the clinic's relay: %w", err)
	}
	relay := new(protocol.RelayServers)
	if err := protocol.Decode(body, relay); err != nil {
		return nil, fmt.Errorf("ask for the clinic's relay: %w", protocol.WithCode(protocol.SignalMalformed, err))
	}
	return relay.Servers, nil
}

// TestCall has the clinic's robot ring this terminal in the call of that name, by a path if one is named, or tells how that call goes.
func (c *Client) TestCall(ctx context.Context, g *Grant, call protocol.CallID, path string) (*protocol.TestCall, error) {
	request, err := protocol.Encode(&protocol.TestCallRequest{Version: protocol.Version, Call: call, Path: path})
	if err != nil {
		return nil, err
	}
	s := c.session(g, g.Chain, c.Now)
	defer s.close()
	body, err := s.do(ctx, http.MethodPost, protocol.PathTestCall, "application/cbor", request, nil)
	if err != nil {
		return nil, fmt.Errorf("ask for a test call: %w", err)
	}
	t := new(protocol.TestCall)
	if err := protocol.Decode(body, t); err != nil {
		return nil, fmt.Errorf("ask for a test call: %w", protocol.WithCode(protocol.SignalMalformed, err))
	}
	if t.Call != call {
		return nil, protocol.WithCode(protocol.SignalMalformed, fmt.Errorf("ask for a test call: told of call %s", t.Call))
	}
	return t, nil
}
