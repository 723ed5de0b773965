package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"time"

	"vindu/clinic/authority"
	"vindu/clinic/broker"
	"vindu/clinic/config"
	"vindu/clinic/enrol"
	"vindu/clinic/fleet"
	"vindu/clinic/frontdoor"
	"vindu/protocol"
)

func serve(ctx context.Context, c *call) (err error) {
	path := c.flags.String("config", "", "the configuration file that init wrote")
	if err := c.parse("config"); err != nil {
		return err
	}
	conf, err := config.Load(*path)
	if err != nil {
		return err
	}
	var handler slog.Handler = slog.NewTextHandler(c.stderr, conf.Log.Options())
	if conf.Log.Format == "json" {
		handler = slog.NewJSONHandler(c.stderr, conf.Log.Options())
	}
	log := slog.New(handler)
	unlock, err := lock(conf.State)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	clinic, err := openState(ctx, conf, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, clinic.close()) }()
	if err := clinic.store.Check(ctx); err != nil {
		return err
	}
	s, err := newServer(ctx, clinic, log)
	if err != nil {
		return err
	}
	return s.run(ctx)
}

// server is the clinic that serves.
type server struct {
	*clinic
	log    *slog.Logger
	leaf   *authority.Leaf // the server's certificate for terminals
	front  net.Listener
	broker *broker.NATS
	fleet  *fleet.Fleet
	door   *frontdoor.Door
	enrol  *enrol.Server

	refusals *refusals
}

// newServer constructs everything and listens; nothing runs yet.
func newServer(ctx context.Context, c *clinic, log *slog.Logger) (*server, error) {
	s := &server{clinic: c, log: log, leaf: c.authority.Server(c.config.Terminals.Name)}
	s.refusals = newRefusals(c.audit, log)
	var err error
	if s.broker, err = broker.New(broker.Config{
		Dir:     filepath.Join(c.config.State, folderBroker),
		TLS:     &tls.Config{MinVersion: tls.VersionTLS13, GetCertificate: s.leaf.GetCertificate, ClientCAs: c.authority.Pool()},
		Clinic:  authority.IsClinic,
		Admit:   s.admit,
		Refused: s.refusals.add,
	}, log.With("part", "broker")); err != nil {
		return nil, err
	}
	if s.fleet, err = fleet.New(ctx, fleet.Config{
		Address: s.brokerAddress, ServerName: c.config.Terminals.Name, Roots: c.authority.Pool(),
		Certificate: c.authority.Client().Certificate, Store: c.store, Audit: c.audit,
	}, log.With("part", "fleet")); err != nil {
		return nil, err
	}
	s.enrol = enrol.New(enrol.Config{Organisation: c.config.Organisation, Authority: c.authority, Register: c.register, Log: log.With("part", "enrol")})
	if s.front, err = listen(ctx, "front.listen", c.config.Front.Listen); err != nil {
		return nil, err
	}
	s.door = frontdoor.New(s.front, frontdoor.Config{
		TerminalsName: c.config.Terminals.Name, Broker: s.dialBroker, Limits: frontdoor.DefaultLimits,
	}, log.With("part", "frontdoor"))
	return s, nil
}

// admitTimeout bounds the look into the register when a terminal connects.
const admitTimeout = 5 * time.Second

func (s *server) admit(key protocol.KeyHash, certificate *x509.Certificate) error {
	ctx, cancel := context.WithTimeout(context.Background(), admitTimeout)
	defer cancel()
	if proven, err := s.authority.Terminal(certificate); err != nil || proven != key {
		return fmt.Errorf("certificate of %s: %w", key.Code(), errors.Join(authority.ErrCertificate, err))
	}
	_, err := s.register.Admit(ctx, key)
	return err
}

func (s *server) brokerAddress() string {
	if a := s.broker.Addr(); a != nil {
		return a.String()
	}
	return ""
}

func (s *server) dialBroker(ctx context.Context) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "tcp", s.brokerAddress())
}

// run runs everything until ctx ends.
func (s *server) run(ctx context.Context) error {
	s.log.Info("starting", "software", software(), "organisation", s.config.Organisation, "state", s.config.State)
	return runStages(ctx, s.log, []stage{
		{name: "audit of refusals", run: s.refusals.run},
		{name: "broker", run: s.broker.Run, ready: s.broker.Ready()},
		{name: "fleet", run: s.fleet.Run},
		{name: "revocation", run: s.watchRevoked},
		{name: "enrolment", run: func(ctx context.Context) error {
			return serveHTTP(ctx, s.enrol, s.door.Terminals(), enrol.TLS(s.leaf), s.log.With("part", "enrol"))
		}},
		{name: "front door", run: s.door.Run},
	}, s.ready)
}

func (s *server) ready() {
	s.log.Info("ready", "front", s.front.Addr().String(), "terminals_address", s.config.Terminals.Address, "terminals_name", s.config.Terminals.Name)
}

func (s *server) watchRevoked(ctx context.Context) error {
	return s.register.WatchRevoked(ctx, s.broker.Kick)
}

// Bounds of HTTP servers. What a request may take longer for, its handler says.
const (
	headerTimeout   = 5 * time.Second
	readTimeout     = 15 * time.Second
	idleTimeout     = 2 * time.Minute
	maxHeader       = 16 << 10
	shutdownTimeout = 3 * time.Second
)

// serveHTTP serves handler on l until ctx ends, over TLS if there is a configuration for it.
func serveHTTP(ctx context.Context, handler http.Handler, l net.Listener, config *tls.Config, log *slog.Logger) error {
	h := &http.Server{
		Handler: handler, TLSConfig: config, ReadHeaderTimeout: headerTimeout, ReadTimeout: readTimeout, IdleTimeout: idleTimeout,
		MaxHeaderBytes: maxHeader, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug), // strangers' broken handshakes
	}
	stopped := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
		defer cancel()
		err := h.Shutdown(ctx)
		if errors.Is(err, context.DeadlineExceeded) { // somebody was in the middle of something
			err = h.Close()
		}
		stopped <- err
	})
	var err error
	if config != nil {
		err = h.ServeTLS(l, "", "")
	} else {
		err = h.Serve(l)
	}
	if errors.Is(err, net.ErrClosed) { // the front door stopped first
		<-ctx.Done()
	}
	if !stop() {
		return <-stopped
	}
	return fmt.Errorf("serve %s: %w", l.Addr(), err)
}
