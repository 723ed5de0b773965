package main

import (
	"context"
	"slices"
	"sync"

	"vindu/clinic/register"
	"vindu/protocol"
)

// shelf is the register as the pages' part of the server reads it.
type shelf struct {
	*register.Register
	c *clinicServer
}

// Homes implements web.Register.
func (s shelf) Homes(ctx context.Context) ([]register.Home, error) {
	homes, err := s.Register.Homes(ctx)
	if f := s.c.tapped().home; f != nil {
		for i := range homes {
			f(&homes[i])
		}
	}
	return homes, err
}

// keeper has the passkeys of everybody.
type keeper struct {
	mu   sync.Mutex
	list []protocol.Credential
}

// Credentials implements grants.Passkeys.
func (k *keeper) Credentials(context.Context, string) ([]protocol.Credential, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.list), nil
}

func (k *keeper) set(list ...protocol.Credential) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.list = list
}

// rights is who may call whom, as the server's parts ask for it.
type rights struct{ c *clinicServer }

// Current implements calls.Authorisations and web.Authorisations.
func (r rights) Current(ctx context.Context, person string) ([]byte, *protocol.Authorisation, error) {
	signed, a, err := r.c.grants.Current(ctx, person)
	if err != nil {
		return nil, nil, protocol.WithCode(protocol.AuthNone, err)
	}
	if f := r.c.tapped().authorisation; f != nil {
		signed, a = f(signed, a)
	}
	return signed, a, nil
}

// Covers implements calls.Authorisations.
func (r rights) Covers(context.Context, *protocol.Authorisation, string) (bool, error) {
	return true, nil
}

// Covered implements web.Authorisations: this clinic offers all homes to everybody.
func (r rights) Covered(ctx context.Context, _ *protocol.Authorisation) (map[string]bool, error) {
	homes, err := r.c.register.Homes(ctx)
	all := map[string]bool{}
	for _, h := range homes {
		all[h.ID] = true
	}
	return all, err
}
