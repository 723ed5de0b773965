package enrol

import (
	"context"
	"errors"
	"net/http"

	"vindu/clinic/authority"
	"vindu/clinic/register"
	"vindu/protocol"
)

// keyDue tells whether a terminal's key is to be replaced now.
func (s *Server) keyDue(ctx context.Context, t register.Terminal) (bool, error) {
	due, err := s.Register.KeyDue(ctx, t, s.KeyLife)
	if err != nil || !due || s.KeyStays == nil {
		return due, err
	}
	stays, err := s.KeyStays(ctx, t.Key)
	return !stays, err
}

// keyOrder returns the signed order for a terminal whose key is due, and nil for any other.
func (s *Server) keyOrder(ctx context.Context, t register.Terminal) ([]byte, error) {
	due, err := s.keyDue(ctx, t)
	if err != nil || !due {
		return nil, err
	}
	ask := &protocol.KeyOrder{Version: protocol.Version, Terminal: t.Key, At: protocol.At(s.now())}
	order, err := s.Authority.SignKeyOrder(ask)
	if !errors.Is(err, authority.ErrKeyElsewhere) {
		return order, err
	}
	if s.OrderElsewhere != nil { // the key stays for longer; all else that the settings tell must not wait for it
		return s.OrderElsewhere(ctx, ask)
	}
	s.Log.Warn("a terminal's key is due to be replaced, which the authorisation key would have to order; it is elsewhere", "terminal", t.Key)
	return nil, nil
}

// maySucceed asks whether a terminal may have a certificate for another key than the one that it has proven in TLS. By its subject, which RFC 7030 §4.2.2 wants to be that
// of the present certificate, the new key has signed which one it replaces.
func (s *Server) maySucceed(ctx context.Context, t register.Terminal, request *authority.Request) error {
	refused := func(why string) error {
		return &refusal{http.StatusBadRequest, protocol.SignalMalformed, errors.New("request for another key than the certificate's: " + why)}
	}
	due, err := s.keyDue(ctx, t)
	switch {
	case err != nil:
		return err
	case !due: // a key is an identity: another one comes in by a voucher
		return refused("none was ordered")
	case request.Name != t.Key.Name():
		return refused("its subject does not name the key that it replaces")
	}
	return nil
}
