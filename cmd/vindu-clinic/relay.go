package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"vindu/clinic/frontdoor"
	"vindu/clinic/relay"
	"vindu/protocol"
)

const fileRelaySecret = "relay.key"

// newRelay constructs the relay on UDP, if it is configured, and behind the front door.
func (s *server) newRelay(ctx context.Context, log *slog.Logger) error {
	c := s.config
	secret, err := relaySecret(filepath.Join(c.State, fileRelaySecret))
	if err != nil {
		return err
	}
	rc := relay.Config{
		Listeners: []net.Listener{frontdoor.TLS(s.door.Relay(), s.relayTLS())},
		MinPort:   c.Relay.MinPort, MaxPort: c.Relay.MaxPort, Secret: secret,
	}
	if c.Relay.Local {
		rc.Permit = relay.Local()
	}
	if rc.Address, rc.Bind, err = s.relayAddress(ctx); err != nil {
		return err
	}
	frontHost, frontPort, err := net.SplitHostPort(c.Terminals.Address)
	if err != nil {
		return fmt.Errorf("terminals.address: %w", err)
	}
	if c.Relay.Listen != "" {
		udp, err := new(net.ListenConfig).ListenPacket(ctx, "udp", c.Relay.Listen)
		if err != nil {
			return explainListen("relay.listen", c.Relay.Listen, err)
		}
		s.udp = udp
		rc.Packets = []net.PacketConn{udp}
		_, port, err := net.SplitHostPort(udp.LocalAddr().String())
		if err != nil {
			return fmt.Errorf("relay.listen: %w", err)
		}
		url := "turn:" + net.JoinHostPort(rc.Address.String(), port) + "?transport=udp"
		rc.Browsers, rc.Terminals = append(rc.Browsers, url), append(rc.Terminals, url)
	}
	rc.Terminals = append(rc.Terminals, "turns:"+net.JoinHostPort(frontHost, frontPort)+"?transport=tcp")
	if s.files != nil { // browsers believe in the pages' certificate, not in the clinic's own CA
		_, port, err := net.SplitHostPort(s.front.Addr().String())
		if err != nil {
			return fmt.Errorf("front.listen: %w", err)
		}
		rc.Browsers = append(rc.Browsers, "turns:"+net.JoinHostPort(c.Web.Names[0], port)+"?transport=tcp")
	}
	s.relay, err = relay.New(rc, log)
	return err
}

// relayTLS shows browsers the pages' certificate and terminals the clinic's own.
func (s *server) relayTLS() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS13, NextProtos: []string{protocol.ALPNTURN}, GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		for _, name := range s.config.Web.Names {
			if s.files != nil && strings.EqualFold(name, hello.ServerName) {
				return s.files.get(hello)
			}
		}
		return s.leaf.GetCertificate(hello)
	}}
}

// relayAddress returns under which address the relay is reached and on which it may listen: zero for any.
func (s *server) relayAddress(ctx context.Context) (address, bind netip.Addr, err error) {
	if listen := s.config.Relay.Listen; listen != "" {
		host, _, err := net.SplitHostPort(listen)
		if err != nil {
			return address, bind, fmt.Errorf("relay.listen: %w", err)
		}
		if host == "localhost" {
			host = "127.0.0.1"
		}
		if a, err := netip.ParseAddr(host); err == nil && !a.IsUnspecified() {
			address, bind = a, a
		}
	}
	if s.config.Relay.Address != "" {
		address, err = netip.ParseAddr(s.config.Relay.Address)
		return address, bind, err
	}
	if address.IsValid() {
		return address, bind, nil
	}
	host, _, err := net.SplitHostPort(s.config.Terminals.Address)
	if err != nil {
		return address, bind, fmt.Errorf("terminals.address: %w", err)
	}
	found, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil || len(found) == 0 {
		return address, bind, fmt.Errorf("relay.address is not set, and terminals.address does not lead to one; set it to the address under which the relay is reached: %w", err)
	}
	return found[0].Unmap(), bind, nil
}

// relaySecret reads the secret that credentials are made with, or makes it.
func relaySecret(path string) ([]byte, error) {
	if err := private(path, 0o077); err != nil {
		return nil, fmt.Errorf("secret of the relay: %w", err)
	}
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		b = make([]byte, relay.MinSecret)
		rand.Read(b)
		b = []byte(hex.EncodeToString(b) + "\n")
		err = writeNew(path, b)
	}
	if err != nil {
		return nil, fmt.Errorf("secret of the relay: %w", err)
	}
	secret, err := hex.DecodeString(strings.TrimSpace(string(b)))
	if err != nil || len(secret) < relay.MinSecret {
		return nil, fmt.Errorf("secret of the relay: %s is damaged; remove it and a new one is made", path)
	}
	return secret, nil
}
