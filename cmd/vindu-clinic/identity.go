package main

import (
	"context"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"vindu/clinic/oidc"
	"vindu/clinic/web"
)

// newIdentityProvider makes the identity provider that is configured, if one is, and has the pages offer it. Nothing is asked of it yet: one that is down keeps nothing from
// starting.
func (s *server) newIdentityProvider(ctx context.Context, o *web.Options) (err error) {
	c := s.config.OIDC
	if c.Issuer == "" {
		return nil
	}
	key, err := readSigner(c.Key)
	if err != nil {
		return fmt.Errorf("oidc.key: %w", err)
	}
	s.provider, err = oidc.New(oidc.Config{
		Issuer: c.Issuer, ClientID: c.ClientID, Key: key, KeyID: c.KeyID, Redirect: s.site().Origins[0] + web.SignInBack, Scopes: c.Scopes, Assurance: c.Assurance,
		Log: s.log.With("part", "oidc"),
	})
	if err != nil {
		return fmt.Errorf("oidc: %w", err)
	}
	links, err := oidc.NewLinks(ctx, s.store, s.audit, filepath.Join(s.config.State, fileIdentityKey))
	if err != nil {
		return err
	}
	o.Provider, o.ProviderName, o.Identities = s.provider, c.Name, links
	return nil
}

// readSigner reads a private key from a PEM file that nobody else can read.
func readSigner(path string) (crypto.Signer, error) {
	if err := private(path, 0o077); err != nil {
		return nil, err
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("%w; make one as the configuration says", err)
	}
	block, _ := pem.Decode(b)
	if block == nil {
		return nil, fmt.Errorf("%s is not a PEM file", path)
	}
	var key any
	switch block.Type {
	case "PRIVATE KEY":
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	default:
		err = fmt.Errorf("it holds a %s, not a private key", block.Type)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, errors.New("this key cannot sign")
	}
	return signer, nil
}
