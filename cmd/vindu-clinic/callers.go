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

// Covered implements web.Authorisations.
func (c callers) Covered(ctx context.Context, a *protocol.Authorisation) (map[string]bool, error) {
	homes := map[string]bool{}
	for _, h := range a.Scope.Homes {
		homes[h] = true
	}
	if len(a.Scope.Groups) == 0 {
		return homes, nil
	}
	groups, err := c.Groups(ctx)
	if err != nil {
		return nil, err
	}
	for _, g := range a.Scope.Groups {
		for _, h := range groups[g] {
			homes[h] = true
		}
	}
	return homes, nil
}

// rightsEnded is called when a person may do less than before.
func (s *server) rightsEnded(ctx context.Context, person string) {
	s.calls.RevokePerson(person, func(home string, passkey []byte) (protocol.Code, error) {
		return s.mayStay(ctx, person, home, passkey)
	})
	s.pages.RightsChanged(person)
}

// mayStay returns why a call that runs has to end; "" if it may go on.
func (s *server) mayStay(ctx context.Context, person, home string, passkey []byte) (protocol.Code, error) {
	usable, err := s.passkeys.Usable(ctx, person, passkey)
	switch {
	case err != nil:
		return "", err
	case !usable:
		return protocol.EndPasskeyRemoved, nil
	}
	permits, err := s.grants.Permits(ctx, person, home)
	if err != nil {
		return "", err
	}
	if !permits {
		return protocol.EndWithdrawn, nil
	}
	_, a, err := s.grants.Current(ctx, person)
	if err != nil {
		return "", err
	}
	if _, known := a.Credential(passkey); !known {
		return protocol.EndPasskeyRemoved, nil
	}
	return "", nil
}
