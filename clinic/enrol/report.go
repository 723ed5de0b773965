package enrol

import (
	"io"
	"net/http"

	"vindu/protocol"
)

// report takes what a terminal would have told over MQTT, had it reached the broker.
func (s *Server) report(w http.ResponseWriter, r *http.Request) error {
	t, err := s.terminal(r.Context(), r, false)
	if err != nil {
		return err
	}
	raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, protocol.MaxMessage))
	if err != nil {
		return &refusal{http.StatusBadRequest, protocol.SignalMalformed, err}
	}
	report := new(protocol.Report)
	if err := protocol.Decode(raw, report); err != nil {
		return &refusal{http.StatusBadRequest, protocol.SignalMalformed, err}
	}
	acks, err := s.Report(r.Context(), t.Key, report)
	if err != nil {
		return err
	}
	if acks == nil {
		acks = [][]byte{}
	}
	body, err := protocol.Encode(&protocol.Reported{Version: protocol.Version, Acks: acks})
	if err != nil {
		return err
	}
	sendCBOR(w, body)
	return nil
}
