package main

import (
	"context"
	"errors"

	"vindu/clinic/grants"
	"vindu/protocol"
)

// callers is who may call which homes, as calls and pages ask for it.
type callers struct{ *grants.Service }

// Current implements calls.Authorisations and web.Authorisations.
func (c callers) Current(ctx context.Context, person string) ([]byte, *protocol.Authorisation, error) {
	signed, a, err := c.Service.Current(ctx, person)
	if errors.Is(err, grants.ErrNoGrant) || errors.Is(err, grants.ErrNoPasskey) || errors.Is(err, grants.ErrWaits) {
		err = protocol.WithCode(protocol.AuthNone, err)
	}
	return signed, a, err
}

// Covers implements calls.Authorisations.
func (c callers) Covers(ctx context.Context, a *protocol.Authorisation, home string) (bool, error) {
	groups, err := c.HomeGroups(ctx, home)
	if err != nil {
		return false, err
	}
	return a.Scope.Contains(home, groups), nil
}

// rightsEnded is called when a person may do less than before.
func (s *server) rightsEnded(ctx context.Context, person string) {
	s.calls.RevokePerson(person, func(home string, passkey []byte) (bool, error) {
		if permits, err := s.grants.Permits(ctx, person, home); err != nil || !permits {
			return false, err
		}
		_, a, err := s.grants.Current(ctx, person)
		if err != nil {
			return false, err
		}
		_, known := a.Credential(passkey)
		return known, nil
	})
}
