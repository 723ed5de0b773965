package main

import (
	"context"
	"fmt"
	"net"

	"vindu/clinic/passkey"
	"vindu/protocol"
)

// newPasskeys makes the passkeys of the pages that are listened for.
func (s *server) newPasskeys(ctx context.Context) (err error) {
	c := s.passkeyConfig(s.log)
	c.Site, c.Changed = s.site(), s.grants.Changed
	if net.ParseIP(c.Site.ID) != nil { // WebAuthn §5.1.3: browsers make none for an address
		s.log.Warn("no passkeys: the pages have an address and no name; see web.names", "address", c.Site.ID)
		c.Site = protocol.RelyingParty{}
	}
	if s.passkeys, err = passkey.New(ctx, c); err != nil {
		return fmt.Errorf("web.names, web.passkey_site: %w", err)
	}
	return nil
}

// site is the relying party of the pages, as they are listened for.
func (s *server) site() protocol.RelyingParty {
	plain := ""
	if len(s.plain) > 0 {
		plain = s.plain[0].Addr().String()
	}
	return s.config.RelyingParty(plain)
}
