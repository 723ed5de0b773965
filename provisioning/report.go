package provisioning

import (
	"context"
	"fmt"
	"net/http"

	"vindu/protocol"
)

// Report tells the clinic what cannot be told over MQTT, and returns its signed acknowledgements (protocol.VerifyAck) of what it has committed.
func (c *Client) Report(ctx context.Context, g *Grant, r *protocol.Report) ([][]byte, error) {
	raw, err := protocol.Encode(r)
	if err != nil {
		return nil, err
	}
	s := c.session(g, g.Chain, c.Now)
	defer s.close()
	body, err := s.do(ctx, http.MethodPost, protocol.PathReport, "application/cbor", raw, nil)
	if err != nil {
		return nil, fmt.Errorf("report to the clinic: %w", err)
	}
	answer := new(protocol.Reported)
	if err := protocol.Decode(body, answer); err != nil {
		return nil, fmt.Errorf("report to the clinic: %w", protocol.WithCode(protocol.SignalMalformed, err))
	}
	return answer.Acks, nil
}
