package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"

	"vindu/clinic/audit"
	"vindu/clinic/authority"
	"vindu/clinic/config"
	"vindu/clinic/grants"
	"vindu/clinic/passkey"
	"vindu/clinic/register"
	"vindu/clinic/setup"
	"vindu/clinic/signing"
	"vindu/clinic/store"
	"vindu/clinic/web"
	"vindu/protocol"
)

// What is in the clinic's state folder.
const (
	folderAuthority = "authority"
	folderBroker    = "broker"
	fileDatabase    = "clinic.db"
	fileLock        = "serve.lock"
	fileIdentityKey = "identity.key"
)

// clinic is what every command works on.
type clinic struct {
	config    config.Config
	authority *authority.Authority
	store     *store.Store
	audit     *audit.Log
	register  *register.Register
	setup     *setup.Service
	requests  *signing.Requests
	sessions  *web.Sessions
	passkeys  *passkey.Service // without a site: for invitations and lists; a server has its own
	grants    *grants.Service
}

func open(ctx context.Context, path string, log *slog.Logger) (*clinic, error) {
	c, err := config.Load(path)
	if err != nil {
		return nil, err
	}
	return openState(ctx, c, log)
}

func openState(ctx context.Context, conf config.Config, log *slog.Logger) (_ *clinic, err error) {
	c := &clinic{config: conf}
	if c.authority, err = authority.Load(filepath.Join(conf.State, folderAuthority)); err != nil {
		return nil, err
	}
	if c.store, err = store.Open(ctx, filepath.Join(conf.State, fileDatabase), log); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.store.Close())
		}
	}()
	if c.audit, err = audit.New(ctx, c.store, c.authority.LogKey()); err != nil {
		return nil, err
	}
	if c.register, err = register.New(ctx, c.store, c.audit); err != nil {
		return nil, err
	}
	if c.requests, err = signing.New(ctx, c.store); err != nil {
		return nil, fmt.Errorf("open clinic: %w", err)
	}
	if c.setup, err = setup.New(ctx, setup.Config{
		Store: c.store, Audit: c.audit, Register: c.register, Authority: c.authority, Requests: c.requests,
		Address: conf.Terminals.Address, ServerName: conf.Terminals.Name, Organisation: conf.Organisation, Log: log.With("part", "setup"),
	}); err != nil {
		return nil, err
	}
	if c.sessions, err = web.NewSessions(ctx, c.store, c.audit); err != nil {
		return nil, fmt.Errorf("open clinic: %w", err)
	}
	if c.passkeys, err = passkey.New(ctx, c.passkeyConfig(log)); err != nil {
		return nil, fmt.Errorf("open clinic: %w", err)
	}
	if c.grants, err = grants.New(ctx, grants.Config{
		Store: c.store, Audit: c.audit, Register: c.register, Authority: c.authority, Passkeys: c.passkeys, Requests: c.requests, Life: conf.Authorisations.Life(), Log: log.With("part", "grants"),
	}); err != nil {
		return nil, fmt.Errorf("open clinic: %w", err)
	}
	return c, nil
}

func (c *clinic) passkeyConfig(log *slog.Logger) passkey.Config {
	return passkey.Config{
		Store: c.store, Audit: c.audit, Persons: c.register, Alarms: c.register, Organisation: c.config.Organisation, Log: log.With("part", "passkey"),
	}
}

// orderElsewhere implements enrol.Config.OrderElsewhere.
func (c *clinic) orderElsewhere(ctx context.Context, ask *protocol.KeyOrder) ([]byte, error) {
	body, err := protocol.Encode(ask)
	if err != nil {
		return nil, err
	}
	return c.requests.Ask(ctx, signing.KeyOrder, ask.Terminal.Name(), body, c.authority.Authorities()[0])
}

func (c *clinic) close() error { return c.store.Close() }

// dir adds the flag by which the commands beside the server find the clinic.
func (c *call) dir() *string {
	return c.flags.String("dir", "", "the clinic's folder, as given to init")
}

// openDir is open for such a command. Its log is for what goes wrong without being its error.
func (c *call) openDir(ctx context.Context, dir string) (*clinic, error) {
	return open(ctx, filepath.Join(dir, config.FileName), slog.New(slog.NewTextHandler(c.stderr, &slog.HandlerOptions{Level: slog.LevelWarn})))
}
