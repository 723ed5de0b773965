package main

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"vindu/clinic/audit"
	"vindu/clinic/authority"
	"vindu/protocol"
)

// trustPoll is how often the server looks for keys and trusts that commands beside it have changed.
const trustPoll = time.Second

// ensureTrust has terminals told of this server's service key, of the site for which passkeys are made and of its relay, if they were told otherwise.
func (s *server) ensureTrust() error {
	plain := ""
	if len(s.plain) > 0 {
		plain = s.plain[0].Addr().String()
	}
	changed, err := s.authority.EnsureTrust(s.config.RelyingParty(plain), s.relay.TerminalURLs()...)
	if errors.Is(err, authority.ErrKeyElsewhere) {
		s.log.Error("terminals are still told of another site, service key or relay: passkeys of this site will not let anybody in, and relayed calls will fail, until the change is signed", "error", err)
		return nil
	}
	if err != nil {
		return err
	}
	if _, trust := s.authority.Trust(); changed {
		s.log.Info("terminals are told whom to believe anew", "serial", trust.Serial, "site", trust.RelyingParty.ID, "origins", trust.RelyingParty.Origins)
		return s.audit.Append(context.Background(), audit.Entry{Who: "clinic", What: audit.TrustChanged, Subject: s.config.Organisation, Detail: trustDetail(trust)})
	}
	return nil
}

// tellSettings has a terminal fetch its settings.
func (s *server) tellSettings(ctx context.Context, terminal protocol.KeyHash) error {
	return s.fleet.Command(ctx, terminal, protocol.CommandSettings)
}

// coming is the call that a home is told of, if any.
func (s *server) coming(ctx context.Context, home string) (*protocol.Coming, error) {
	all, err := s.register.Announced(ctx)
	a, ok := all[home]
	if err != nil || !ok {
		return nil, err
	}
	return &protocol.Coming{Name: a.Party.Name, Role: a.Party.Role, At: protocol.At(a.At)}, nil
}

// watchTrust takes over what commands beside the server change.
func (s *server) watchTrust(ctx context.Context) error {
	tick := time.NewTicker(trustPoll)
	defer tick.Stop()
	failed := false
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		changed, err := s.authority.Refresh()
		if err != nil && !failed {
			s.log.Error("keys cannot be read again; those from before are used on", "error", err)
		}
		if failed = err != nil; changed {
			_, trust := s.authority.Trust()
			s.log.Info("terminals are told whom to believe anew", "serial", trust.Serial)
		}
	}
}

func trustDetail(t *protocol.Trust) map[string]string {
	return map[string]string{"serial": strconv.FormatUint(t.Serial, 10), "site": t.RelyingParty.ID, "origins": strings.Join(t.RelyingParty.Origins, " "), "relays": strings.Join(t.Relays, " "),
		"authorisation_keys": strconv.Itoa(len(t.Authorities))}
}
