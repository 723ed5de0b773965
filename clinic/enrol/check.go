package enrol

import (
	"errors"
	"io"
	"net/http"

	"vindu/protocol"
)

// maxQuestion bounds the body of what is not a certification request.
const maxQuestion = 1 << 10

// relay tells a terminal that is being checked where the relay is.
func (s *Server) relay(w http.ResponseWriter, r *http.Request) error {
	t, err := s.terminal(r.Context(), r, false)
	if err != nil {
		return err
	}
	body, err := protocol.Encode(&protocol.RelayServers{Version: protocol.Version, Servers: s.Relay(t.Key)})
	if err != nil {
		return err
	}
	sendCBOR(w, body)
	return nil
}

// testCall has the robot ring the terminal that asks, and no other.
func (s *Server) testCall(w http.ResponseWriter, r *http.Request) error {
	t, err := s.terminal(r.Context(), r, false)
	if err != nil {
		return err
	}
	raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxQuestion))
	if err != nil {
		return &refusal{http.StatusBadRequest, protocol.SignalMalformed, err}
	}
	request := new(protocol.TestCallRequest)
	if err := protocol.Decode(raw, request); err != nil {
		return &refusal{http.StatusBadRequest, protocol.SignalMalformed, err}
	}
	state, err := s.TestCall(t, request.Call, request.Path)
	if protocol.CodeOf(err) == protocol.LinkTooMany {
		w.Header().Set("Retry-After", "10")
		return &refusal{http.StatusTooManyRequests, protocol.LinkTooMany, err}
	}
	if err == nil && state == nil {
		err = errors.New("nothing is known of the test call")
	}
	if err != nil {
		return err
	}
	body, err := protocol.Encode(state)
	if err != nil {
		return err
	}
	sendCBOR(w, body)
	return nil
}

func sendCBOR(w http.ResponseWriter, body []byte) {
	w.Header().Set("Content-Type", "application/cbor")
	w.Header().Set("Cache-Control", "no-store")
	w.Write(body) // a peer that went away comes again
}
