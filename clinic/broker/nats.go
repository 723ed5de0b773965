package broker

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"golang.org/x/time/rate"

	"vindu/protocol"
)

const (
	startTimeout     = 15 * time.Second
	handshakeSeconds = 10.0
	connectSeconds   = 5.0
	maxPending       = 16 << 20 // bytes that may wait for one connection before it is closed as too slow
	maxStore         = 1 << 30
	maxMemory        = 64 << 20
	complaints       = 1  // per second in the log, after the first 50
	maxAside         = 3  // damaged folders that are kept
	maxClosed        = 16 // connections that are over and remembered, for a monitoring page that is not served; the server's own bound is 10,000
	maxSubscriptions = 64 // of one connection; the server's own clients need some of them
)

// noHeldMessages refuses what is published with QoS 2: the server keeps it on the disk until it is released, before it asks whether it is permitted, and a
// terminal that releases nothing fills within seconds what all connections need.
const noHeldMessages = "mqtt { reject_qos2_publish: true }"

// allIn is the filter of every topic on which terminals are told something.
var allIn = strings.Replace(protocol.AllOut, "/out/", "/in/", 1)

// NATS is the embedded broker. Run owns the server; the map of connections is guarded by mu.
type NATS struct {
	config Config
	log    *slog.Logger
	ready  chan struct{}
	limit  *rate.Limiter // of complaints

	mu          sync.Mutex
	server      *server.Server
	addr        net.Addr
	connections map[protocol.KeyHash][]uint64
}

var _ Broker = (*NATS)(nil)

// New returns a broker that Run starts.
func New(config Config, log *slog.Logger) (*NATS, error) {
	if err := config.check(); err != nil {
		return nil, err
	}
	return &NATS{
		config: config, log: log,
		ready:       make(chan struct{}),
		limit:       rate.NewLimiter(complaints, 50*complaints),
		connections: make(map[protocol.KeyHash][]uint64),
	}, nil
}

// Ready is closed when connections are accepted.
func (b *NATS) Ready() <-chan struct{} { return b.ready }

// Addr returns where TLS connections are accepted; nil before Ready.
func (b *NATS) Addr() net.Addr {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.addr
}

// Run serves until ctx is done. It may be called once.
func (b *NATS) Run(ctx context.Context) error {
	if err := free(ctx, b.config.Listen); err != nil {
		return fmt.Errorf("start broker: %w", err)
	}
	s, failed, err := b.start(ctx)
	if err != nil && ctx.Err() == nil {
		aside, asideErr := b.setAside()
		if asideErr != nil {
			return fmt.Errorf("start broker: %w", errors.Join(err, asideErr))
		}
		b.log.Error("broker folder could not be used and was set aside; nothing that matters was in it", "error", err, "aside", aside)
		s, failed, err = b.start(ctx)
	}
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("start broker: %w", err)
	}
	b.log.Info("broker ready", "address", b.Addr().String())
	close(b.ready)
	select {
	case <-ctx.Done():
	case err = <-failed:
		err = fmt.Errorf("broker: %w", err)
	}
	b.mu.Lock()
	b.server = nil
	b.mu.Unlock()
	stop(s)
	return err
}

func stop(s *server.Server) {
	s.Shutdown()
	s.WaitForShutdown()
}

// free finds out whether the address can be listened on: the server would say it only in its log.
func free(ctx context.Context, address string) error {
	probe, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("listen for terminals: %w; see which program holds the port, or configure another", err)
	}
	return probe.Close()
}

// start returns a server that accepts connections and tells of what it cannot survive on the channel, or an error.
func (b *NATS) start(ctx context.Context) (*server.Server, <-chan error, error) {
	if err := os.MkdirAll(b.config.Dir, 0o700); err != nil {
		return nil, nil, fmt.Errorf("make the broker's folder: %w; check that it belongs to the server's user", err)
	}
	host, portText, err := net.SplitHostPort(b.config.Listen)
	if err != nil {
		return nil, nil, err
	}
	port, err := strconv.Atoi(portText)
	if err != nil {
		return nil, nil, fmt.Errorf("listen address %s: %w", b.config.Listen, err)
	}
	if port == 0 {
		port = -1 // the server's word for "any"
	}
	options := &server.Options{}
	if err := options.ProcessConfigString(noHeldMessages); err != nil { // the server has no field for it
		return nil, nil, err
	}
	options.ServerName, options.DontListen, options.NoSigs = "vindu-clinic", true, true
	options.MaxPayload, options.MaxPending, options.MaxSubs = MaxPayload, maxPending, maxSubscriptions
	options.MaxClosedClients = maxClosed
	options.JetStream, options.StoreDir, options.JetStreamMaxMemory, options.JetStreamMaxStore = true, b.config.Dir, maxMemory, maxStore
	options.CustomClientAuthentication = b
	options.MQTT.Host, options.MQTT.Port, options.MQTT.TLSConfig = host, port, mutual(b.config.TLS)
	options.MQTT.TLSTimeout, options.MQTT.AuthTimeout = handshakeSeconds, connectSeconds
	s, err := server.NewServer(options)
	if err != nil {
		return nil, nil, err
	}
	failed := make(chan error, 1)
	s.SetLoggerV2(newLogger(b.log, failed), false, false, false)
	b.mu.Lock()
	b.server = s
	b.mu.Unlock()
	s.Start()
	if err := b.await(ctx, s, failed); err != nil {
		stop(s)
		return nil, nil, err
	}
	addr, err := mqttAddr(s, host)
	if err != nil {
		stop(s)
		return nil, nil, err
	}
	b.mu.Lock()
	b.addr = addr
	b.mu.Unlock()
	return s, failed, nil
}

func (b *NATS) await(ctx context.Context, s *server.Server, failed <-chan error) error {
	for deadline := time.Now().Add(startTimeout); ; {
		select {
		case err := <-failed:
			return err
		case <-ctx.Done():
			return ctx.Err()
		default:
		}
		if s.ReadyForConnections(100 * time.Millisecond) {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("not ready after %v", startTimeout)
		}
	}
}

func mqttAddr(s *server.Server, host string) (net.Addr, error) {
	v, err := s.Varz(nil)
	if err != nil {
		return nil, err
	}
	return net.ResolveTCPAddr("tcp", net.JoinHostPort(host, strconv.Itoa(v.MQTT.Port)))
}

// setAside renames the broker's folder. Of those that were set aside before it keeps the latest ones: a server that is started again and
// again, on a full disk for one, must not fill it.
func (b *NATS) setAside() (string, error) {
	prefix := filepath.Clean(b.config.Dir) + ".damaged-"
	aside := prefix + time.Now().UTC().Format("20060102T150405.000")
	before, err := os.ReadDir(filepath.Dir(prefix)) // sorted
	if err != nil {
		return "", fmt.Errorf("look for broker folders that were set aside: %w", err)
	}
	before = slices.DeleteFunc(before, func(e fs.DirEntry) bool { return !strings.HasPrefix(e.Name(), filepath.Base(prefix)) })
	for _, e := range before[:max(len(before)-(maxAside-1), 0)] {
		if err := os.RemoveAll(filepath.Join(filepath.Dir(prefix), e.Name())); err != nil {
			return "", fmt.Errorf("remove a broker folder that was set aside before: %w", err)
		}
	}
	if err := os.Rename(b.config.Dir, aside); err != nil {
		return "", fmt.Errorf("set the broker's folder aside: %w", err)
	}
	return aside, nil
}

// Kick closes every connection of key.
func (b *NATS) Kick(key protocol.KeyHash) {
	b.mu.Lock()
	s, ids := b.server, b.connections[key]
	delete(b.connections, key)
	b.mu.Unlock()
	if s == nil {
		return
	}
	for _, id := range ids {
		if err := s.DisconnectClientByID(id); err == nil {
			b.log.Info("connection closed by the clinic", "terminal", key)
		}
	}
}

// Check decides on a connection that has sent CONNECT. It implements server.Authentication.
func (b *NATS) Check(c server.ClientAuthentication) bool {
	state := c.GetTLSConnectionState()
	if state == nil || len(state.VerifiedChains) == 0 || len(state.PeerCertificates) == 0 {
		b.complain("connection without a verified certificate refused", "from", c.RemoteAddress())
		return false
	}
	leaf := state.PeerCertificates[0]
	key := protocol.HashSPKI(leaf.RawSubjectPublicKeyInfo)
	clinic := b.config.Clinic(leaf)
	replaces, err := b.admit(c, key, leaf, clinic)
	serial := leaf.SerialNumber.Text(16)
	switch {
	case errors.Is(err, ErrRefused):
		b.complain("terminal refused", "terminal", key, "serial", serial, "error", err)
		if b.config.Refused != nil {
			b.config.Refused(Refusal{Key: key, Serial: serial, Err: err})
		}
		return false
	case err != nil:
		b.complain("terminal not let in, because it cannot be told whether it may; it tries again", "terminal", key, "serial", serial, "error", err)
		b.mu.Lock()
		s := b.server
		b.mu.Unlock()
		if s != nil {
			_ = s.DisconnectClientByID(c.GetID()) // before the server answers that it is not authorized; it may have gone by itself
		}
		return false
	}
	if replaces && !clinic && b.config.Replaced != nil {
		b.config.Replaced(key)
	}
	c.RegisterUser(&server.User{Username: key.Name(), Permissions: permissions(key, clinic), ConnectionDeadline: leaf.NotAfter})
	return true
}

// complain warns of what a peer did. Peers can do as much as they like: what is beyond complaints per second is for debugging alone.
func (b *NATS) complain(message string, attributes ...any) {
	level := slog.LevelWarn
	if !b.limit.Allow() {
		level = slog.LevelDebug
	}
	b.log.Log(context.Background(), level, message, attributes...)
}

// admit reports whether the connection takes the place of another.
func (b *NATS) admit(c server.ClientAuthentication, key protocol.KeyHash, leaf *x509.Certificate, clinic bool) (replaces bool, err error) {
	if !named(c, key.Name()) {
		return false, fmt.Errorf("%w: the client id is not the name of the certificate's key", ErrRefused)
	}
	// First the connection is noted, then the register asked: one that is revoked in between is kicked.
	replaces = b.note(key, c.GetID())
	if clinic {
		return replaces, nil
	}
	return replaces, b.config.Admit(key, leaf)
}

// named reports whether the client's id is name. The server has no call for this; it appends the id, quoted, to what the client
// prints as before it asks for authentication. Were that to change, everybody would be refused.
func named(c server.ClientAuthentication, name string) bool {
	s, ok := c.(fmt.Stringer)
	return ok && strings.HasSuffix(s.String(), ` - "`+name+`"`)
}

// note remembers a connection for Kick and forgets those that are gone. It reports whether another one is open.
func (b *NATS) note(key protocol.KeyHash, id uint64) (another bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	kept := []uint64{id}
	for _, old := range b.connections[key] {
		if b.server != nil && b.server.GetClient(old) != nil {
			kept = append(kept, old)
		}
	}
	b.connections[key] = kept
	return len(kept) > 1
}

// permissions translates topics to the server's subjects: "/" is ".", "+" is "*".
func permissions(key protocol.KeyHash, clinic bool) *server.Permissions {
	subject := strings.NewReplacer("/", ".", "+", "*").Replace
	publish, subscribe := []string{}, []string{subject(protocol.InFilter(key))}
	for _, channel := range []string{protocol.OutPresence, protocol.OutHealth, protocol.OutEvent, protocol.OutCall} {
		publish = append(publish, subject(protocol.OutTopic(key, channel)))
	}
	if clinic {
		publish, subscribe = []string{subject(allIn)}, []string{subject(protocol.AllOut)}
	}
	return &server.Permissions{
		Publish:   &server.SubjectPermission{Allow: publish},
		Subscribe: &server.SubjectPermission{Allow: subscribe},
	}
}

// logger passes the server's log on. What the server calls an error is mostly a peer's doing and needs nobody to act; each broken
// handshake is one, so that strangers could fill the disk with them. What is beyond complaints per second is for debugging alone.
type logger struct {
	log   *slog.Logger
	fatal chan<- error
	limit *rate.Limiter
}

func newLogger(log *slog.Logger, fatal chan<- error) *logger {
	return &logger{log, fatal, rate.NewLimiter(complaints, 50*complaints)}
}

func (l *logger) complain(format string, v []any) {
	level := slog.LevelWarn
	if !l.limit.Allow() {
		level = slog.LevelDebug
	}
	l.line(level, format, v)
}

func (l *logger) line(level slog.Level, format string, v []any) {
	l.log.Log(context.Background(), level, "broker", "message", fmt.Sprintf(format, v...))
}

func (l *logger) Noticef(format string, v ...any) { l.line(slog.LevelDebug, format, v) }
func (l *logger) Warnf(format string, v ...any)   { l.complain(format, v) }
func (l *logger) Errorf(format string, v ...any)  { l.complain(format, v) }
func (l *logger) Debugf(format string, v ...any)  { l.line(slog.LevelDebug, format, v) }
func (l *logger) Tracef(format string, v ...any)  { l.line(slog.LevelDebug, format, v) }

// Fatalf does not end the process: Run returns the error.
func (l *logger) Fatalf(format string, v ...any) {
	select {
	case l.fatal <- fmt.Errorf(format, v...):
	default:
	}
}
