package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"

	"vindu/clinic/audit"
	"vindu/clinic/authority"
	"vindu/clinic/config"
)

func initialise(ctx context.Context, c *call) error {
	conf := config.Default()
	dir := c.flags.String("dir", "", "the folder to make the clinic in")
	c.flags.StringVar(&conf.Organisation, "organisation", "", "the clinic's name, as patients and staff know it")
	c.flags.StringVar(&conf.Terminals.Address, "address", "", "host:port by which terminals reach the clinic")
	c.flags.StringVar(&conf.Terminals.Name, "name", conf.Terminals.Name, "the name under which terminals know the server; needs no DNS, never changes")
	c.flags.StringVar(&conf.Front.Listen, "listen", "", "host:port of the front door (default: -address if that is loopback, else its port on all addresses)")
	c.flags.StringVar(&conf.Web.Plain, "plain", "", "loopback host:port of pages without TLS (default: localhost:8080)")
	c.flags.StringVar(&conf.Relay.Listen, "relay", "", "host:port of TURN over UDP (default: port 3478, on loopback if -address is)")
	c.flags.BoolVar(&conf.Relay.Local, "local", false, "relay to loopback and private addresses too (default: if -address is loopback)")
	c.flags.StringVar(&conf.Log.Format, "log", conf.Log.Format, "format of the server's log: text or json")
	by := c.by()
	if err := c.parse("dir", "organisation", "address"); err != nil {
		return err
	}
	if err := complete(&conf); err != nil {
		return err
	}
	text, err := conf.Render()
	if err != nil {
		return err
	}
	folder, err := filepath.Abs(*dir)
	if err != nil {
		return fmt.Errorf("make clinic: %w", err)
	}
	path := filepath.Join(folder, config.FileName)
	if _, err := os.Stat(path); err == nil {
		return fmt.Errorf("make clinic: there is one in %s; name another folder, or serve that one", folder)
	}
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return fmt.Errorf("make clinic: %w; check that the path belongs to you", err)
	}
	conf.State = folder
	keys := filepath.Join(folder, folderAuthority)
	// The configuration is written last: until it is there, init may be run again.
	if err := authority.Create(keys, conf.Organisation); err != nil && !errors.Is(err, authority.ErrExists) {
		return err
	}
	clinic, err := openState(ctx, conf, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	err = clinic.audit.Append(ctx, audit.Entry{Who: *by, What: audit.ClinicCreated, Subject: conf.Organisation})
	if err == nil {
		_, err = clinic.authority.EnsureTrust(conf.RelyingParty(""))
	}
	if err = errors.Join(err, clinic.close()); err != nil {
		return err
	}
	if err := writeNew(path, text); err != nil {
		return fmt.Errorf("write configuration: %w", err)
	}
	fmt.Fprintf(c.stderr, `The clinic of %s is made in %s.
  configuration   %s
  root key        %s: keep it offline and take it away from here; the server does not need it
  to run it       vindu-clinic serve -config %[3]q
  a terminal      vindu-clinic voucher -dir %[2]q -home "…"
  administrator   vindu-clinic person -dir %[2]q -person "…" -role "…" -duty administrator
  a clinician     vindu-clinic person -dir %[2]q -person "…" -role "…" -duty clinician -invite
  who calls whom  vindu-clinic grant give -dir %[2]q -person "…" -role "…" -homes "…" -reason "…"
`, conf.Organisation, folder, path, authority.RootKeyPath(keys))
	return nil
}

// complete fills in what follows from the address for terminals.
func complete(conf *config.Config) error {
	host, port, err := net.SplitHostPort(conf.Terminals.Address)
	if err != nil {
		return fmt.Errorf("%w: -address %q has to be host:port", errUsage, conf.Terminals.Address)
	}
	loopback := config.Loopback(host)
	if conf.Front.Listen == "" {
		conf.Front.Listen = ":" + port
		if loopback {
			conf.Front.Listen = conf.Terminals.Address
		}
	}
	if conf.Web.Plain == "" {
		conf.Web.Plain = "localhost:8080"
	}
	if conf.Relay.Listen == "" {
		conf.Relay.Listen = config.Default().Relay.Listen
		if loopback {
			conf.Relay.Listen = net.JoinHostPort(host, "3478")
		}
	}
	conf.Relay.Local = conf.Relay.Local || loopback
	return nil
}

func writeNew(path string, content []byte) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%w; another init runs", err)
	}
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	folder, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}
