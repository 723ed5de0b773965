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
	"slices"
	"time"

	"vindu/clinic/alerts"
	"vindu/clinic/authority"
	"vindu/clinic/broker"
	"vindu/clinic/calls"
	"vindu/clinic/config"
	"vindu/clinic/enrol"
	"vindu/clinic/fleet"
	"vindu/clinic/frontdoor"
	"vindu/clinic/ledger"
	"vindu/clinic/metrics"
	"vindu/clinic/oidc"
	"vindu/clinic/passkey"
	"vindu/clinic/register"
	"vindu/clinic/relay"
	"vindu/clinic/robot"
	"vindu/clinic/series"
	"vindu/clinic/web"
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
	web.SetZone(conf.Clock())
	held, err := lock(conf.State)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, held.Close()) }()
	clinic, err := openState(ctx, conf, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, clinic.close()) }()
	if err := announce(held, clinic.setup.Trust().Pin); err != nil {
		return err
	}
	if err := clinic.store.Check(ctx); err != nil {
		return err
	}
	s, err := newServer(ctx, clinic, log)
	if err == nil {
		err = s.ensureTrust()
	}
	if err != nil {
		return errors.Join(err, s.closeListeners())
	}
	return s.run(ctx)
}

// server is the clinic that serves.
type server struct {
	*clinic
	log  *slog.Logger
	leaf *authority.Leaf // the server's certificate for terminals

	front net.Listener
	plain []net.Listener // pages without TLS, on loopback
	udp   net.PacketConn // of the relay; nil if it has none
	files *files         // certificate of pages over TLS; nil if there are none

	broker   *broker.NATS
	refusals *refusals
	alarms   *alarms
	alerts   *alerts.Service
	ledger   *ledger.Ledger
	fleet    *fleet.Fleet
	series   *series.Keeper
	relay    *relay.Relay
	calls    *calls.Service
	records  *calls.Records
	numbers  []net.Listener // where Prometheus asks; none if nobody may
	metrics  *metrics.Handler
	robot    *robot.Robot
	door     *frontdoor.Door
	enrol    *enrol.Server
	pages    *web.Server
	passkeys *passkey.Service
	provider *oidc.Provider // where persons can sign in besides; nil: nowhere
}

// newServer constructs everything and listens; nothing runs yet. On error the caller closes the listeners that it returns.
func newServer(ctx context.Context, c *clinic, log *slog.Logger) (*server, error) {
	part := func(name string) *slog.Logger { return log.With("part", name) }
	s := &server{clinic: c, log: log, leaf: c.authority.Server(c.config.Terminals.Name)}
	if err := s.listen(ctx); err != nil {
		return s, err
	}
	if c.config.Web.Certificate != "" {
		var err error
		if s.files, err = newFiles(c.config.Web.Certificate, c.config.Web.Key, part("web")); err != nil {
			return s, err
		}
	}
	s.door = frontdoor.New(s.front, frontdoor.Config{
		TerminalsName: c.config.Terminals.Name, Broker: s.dialBroker, Limits: frontdoor.DefaultLimits,
	}, part("frontdoor"))
	if err := s.newRelay(ctx, part("relay")); err != nil {
		return s, err
	}
	s.refusals, s.alarms = newRefusals(c.audit.Append, log), newAlarms(c.register.Raise, log)
	var err error
	if s.broker, err = broker.New(broker.Config{
		Dir:      filepath.Join(c.config.State, folderBroker),
		TLS:      &tls.Config{MinVersion: tls.VersionTLS13, GetCertificate: s.leaf.GetCertificate, ClientCAs: c.authority.Pool()},
		Clinic:   authority.IsClinic,
		Admit:    s.admit,
		Refused:  s.refusals.add,
		Replaced: func(key protocol.KeyHash) { s.fleet.Replaced(key) },
	}, part("broker")); err != nil {
		return s, err
	}
	records, err := calls.OpenRecords(ctx, c.store, c.audit, part("calls"))
	if err != nil {
		return s, err
	}
	records.Alarm = c.register.RaiseTx
	if s.ledger, err = ledger.New(ctx, ledger.Config{Store: c.store, Calls: records, Mandates: c.setup, Alarms: c.register, Log: part("ledger")}); err != nil {
		return s, err
	}
	if s.fleet, err = fleet.New(ctx, fleet.Config{
		Address: s.brokerAddress, ServerName: c.config.Terminals.Name, Roots: c.authority.Pool(),
		Certificate: c.authority.Client().Certificate, Store: c.store, Audit: c.audit, Sinks: []fleet.Sink{records, c.setup, s.ledger}, SignAck: c.authority.SignAck, Twice: s.alarms.twice,
	}, part("fleet")); err != nil {
		return s, err
	}
	records.Held, s.records = s.fleet.Held, records
	if s.series, err = series.New(ctx, c.store, s.fleet, part("series")); err != nil {
		return s, err
	}
	if err := s.newMetrics(ctx, part("metrics")); err != nil {
		return s, err
	}
	if err := s.newAlerts(ctx, part("alerts")); err != nil {
		return s, err
	}
	site := s.site()
	s.calls = calls.New(calls.Config{
		Records: records, Link: s.fleet, Register: c.register, Authority: c.authority, Authorisations: callers{c.grants}, RelyingParty: site, Relay: s.relay, Log: part("calls"),
	})
	if s.robot, err = robot.New(robot.Config{
		Calls: s.calls, Organisation: c.config.Organisation, Relay: s.relay.Servers, Permits: s.relay.Permits, Loopback: c.config.Relay.Local, Log: part("robot"),
	}); err != nil {
		return s, err
	}
	s.enrol = enrol.New(enrol.Config{
		Organisation: c.config.Organisation, Authority: c.authority, Register: c.register, Relay: s.relay.TerminalServers, TestCall: s.robot.Call,
		KeyLife: c.config.Terminals.KeyLife(), KeyStays: c.setup.Leaving, OrderElsewhere: c.orderElsewhere, Withdrawn: c.setup.Withdrawn, Policy: c.grants.Policy,
		Coming: s.coming, Rehearse: c.config.Rehearsals.Window(), Report: s.fleet.Report, Log: part("enrol"),
	})
	if err := s.newPasskeys(ctx); err != nil {
		return s, err
	}
	pages := web.Options{
		Sessions: c.sessions, Register: c.register, Fleet: s.fleet, Calls: s.calls, Relay: s.relay, Custody: c.register, Setup: c.setup, Ledger: s.ledger, Conditions: s.fleet, Series: s.series, Marks: s.alerts,
		Announcements: c.register, Tell: s.tellSettings, Rehearsals: c.config.Rehearsals.Window(),
		Rehearse: func(ctx context.Context, terminal protocol.KeyHash) error {
			return s.fleet.Command(ctx, terminal, protocol.CommandRehearse)
		},
		Passkeys: s.passkeys, Staff: c.register, Rights: c.grants, Authorisations: callers{c.grants}, RelyingParty: site, Organisation: c.config.Organisation, Hosts: c.config.Web.Names, Log: part("web"),
	}
	if err := s.newIdentityProvider(ctx, &pages); err != nil {
		return s, err
	}
	s.pages, err = web.New(pages)
	return s, err
}

func (s *server) listen(ctx context.Context) (err error) {
	if s.front, err = listen(ctx, "front.listen", s.config.Front.Listen); err != nil {
		return err
	}
	if s.config.Web.Plain != "" {
		s.plain, err = listenLoopback(ctx, "web.plain", s.config.Web.Plain)
	}
	return err
}

// closeListeners is for a server that does not run; one that does closes them itself.
func (s *server) closeListeners() error {
	var errs []error
	for _, l := range slices.Concat(s.plain, s.numbers, []net.Listener{s.front}) {
		if l != nil {
			errs = append(errs, l.Close())
		}
	}
	if s.udp != nil {
		errs = append(errs, s.udp.Close())
	}
	return errors.Join(errs...)
}

// admitTimeout bounds the look into the register when a terminal connects.
const admitTimeout = 5 * time.Second

func (s *server) admit(key protocol.KeyHash, certificate *x509.Certificate) error {
	ctx, cancel := context.WithTimeout(context.Background(), admitTimeout)
	defer cancel()
	if proven, err := s.authority.Terminal(certificate); err != nil || proven != key {
		return fmt.Errorf("%w: certificate of %s: %w", broker.ErrRefused, key.Code(), errors.Join(authority.ErrCertificate, err))
	}
	switch _, err := s.register.AdmitBy(ctx, key, certificate); {
	case errors.Is(err, register.ErrRevoked), errors.Is(err, register.ErrNotFound):
		return fmt.Errorf("%w: %w", broker.ErrRefused, err)
	case err != nil: // a slow database is no revocation
		return err
	}
	if _, err := s.register.Shown(ctx, key, certificate); err != nil { // it is noticed, not kept out; and it comes again
		s.log.Error("certificate of a terminal that connected was not compared with those before it", "terminal", key, "error", err)
	}
	return nil
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
	part := func(name string) *slog.Logger { return s.log.With("part", name) }
	stages := []stage{
		{name: "audit log's head", run: s.headLog},
		{name: "audit of refusals", run: s.refusals.run},
		{name: "alarms", run: s.alarms.run},
		{name: "broker", run: s.broker.Run, ready: s.broker.Ready()},
		{name: "fleet", run: s.fleet.Run},
		{name: "alerts", run: s.alerts.Run},
		{name: "terminals' numbers", run: s.series.Run},
		{name: "relay", run: s.relay.Run},
		{name: "calls", run: s.calls.Run},
		{name: "robot", run: s.robot.Run},
		{name: "revocation", run: func(ctx context.Context) error { return watchRevoked(ctx, s.register.WatchRevoked, s.revoked) }},
		{name: "orders", run: func(ctx context.Context) error { return s.setup.Deliver(ctx, s.fleet) }},
		{name: "trust", run: s.watchTrust},
		{name: "changes to people", run: s.watchPeople},
		{name: "authorisations and policies", run: func(ctx context.Context) error { return s.grants.Run(ctx, s.tellSettings) }},
		{name: "rights to call", run: func(ctx context.Context) error {
			return s.grants.Watch(ctx, func(person string) { s.rightsEnded(ctx, person) })
		}},
		{name: "authority's end", run: func(ctx context.Context) error {
			return watchExpiry(ctx, s.authority.Expires(), s.authority.RootExpires(), s.log)
		}},
		{name: "enrolment", run: func(ctx context.Context) error {
			return serveHTTP(ctx, s.enrol, s.door.Terminals(), enrol.TLS(s.leaf), part("enrol"))
		}},
	}
	if s.provider != nil {
		stages = append(stages, stage{name: "identity provider", run: s.provider.Run})
	}
	for _, l := range s.plain {
		stages = append(stages, stage{name: "pages on " + l.Addr().String(), run: func(ctx context.Context) error {
			return serveHTTP(ctx, s.pages, l, nil, part("web"))
		}})
	}
	for _, l := range s.numbers {
		stages = append(stages, stage{name: "metrics on " + l.Addr().String(), run: func(ctx context.Context) error {
			return serveHTTP(ctx, s.metrics, l, nil, part("metrics"))
		}})
	}
	if s.files != nil {
		stages = append(stages, stage{name: "pages' certificate", run: s.files.run}, stage{name: "pages over TLS", run: func(ctx context.Context) error {
			return serveHTTP(ctx, s.pages, s.door.Browsers(), s.files.config(), part("web"))
		}})
	} else if err := s.door.Browsers().Close(); err != nil {
		return err
	}
	// Stopped first: no new connections, and the pages' event streams end, so that their servers can.
	stages = append(stages, stage{name: "pages", run: s.pages.Run}, stage{name: "front door", run: s.door.Run})
	return runStages(ctx, s.log, stages, s.ready)
}

func (s *server) ready() {
	attributes := []any{"front", s.front.Addr().String(), "terminals_address", s.config.Terminals.Address, "terminals_name", s.config.Terminals.Name}
	if len(s.plain) > 0 {
		attributes = append(attributes, "pages", plainURL(s.config.Web.Plain, s.plain[0].Addr()))
	}
	if s.files != nil {
		attributes = append(attributes, "pages_tls", "https://"+s.config.Web.Names[0])
	}
	if s.udp != nil {
		attributes = append(attributes, "relay", s.udp.LocalAddr().String())
	}
	s.log.Info("ready", attributes...)
}

// plainURL names the pages by the configured host and the port that was listened on.
func plainURL(configured string, addr net.Addr) string {
	host, _, err := net.SplitHostPort(configured)
	if err != nil {
		return "http://" + addr.String()
	}
	_, port, err := net.SplitHostPort(addr.String())
	if err != nil {
		return "http://" + addr.String()
	}
	return "http://" + net.JoinHostPort(host, port)
}

// revoked cuts a terminal off.
func (s *server) revoked(key protocol.KeyHash) {
	s.calls.Revoke(key)
	s.broker.Kick(key)
	s.relay.Revoke(key)
}

// Bounds of HTTP servers. What a request may take longer for, its handler says.
const (
	headerTimeout   = 5 * time.Second
	readTimeout     = 15 * time.Second
	writeTimeout    = 30 * time.Second // else who does not read holds a handler, and over HTTP/2 hundreds, for ever; event streams set their own
	idleTimeout     = 2 * time.Minute
	maxHeader       = 16 << 10
	shutdownTimeout = 3 * time.Second
)

// serveHTTP serves handler on l until ctx ends, over TLS if there is a configuration for it.
func serveHTTP(ctx context.Context, handler http.Handler, l net.Listener, config *tls.Config, log *slog.Logger) error {
	h := &http.Server{
		Handler: handler, TLSConfig: config, ReadHeaderTimeout: headerTimeout, ReadTimeout: readTimeout, WriteTimeout: writeTimeout,
		IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug), // strangers' broken handshakes
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
	// If the front door stopped first, ctx has ended or is about to. To wait for ctx and then ask stop would be a race with the start of the function.
	if errors.Is(err, net.ErrClosed) || !stop() {
		return <-stopped
	}
	return fmt.Errorf("serve %s: %w", l.Addr(), err)
}
