// Package link is the terminal's one connection to its clinic: MQTT 3.1.1 over mutual TLS 1.3, told apart from
// everything else on the clinic's port by ALPN "mqtt".
//
// The link is down or up. While down it connects again and again, waiting between attempts for a random time up to
// a bound that doubles (full jitter), so that ten thousand terminals come back without a stampede. Up means:
// subscribed to the terminal's own topics, presence said. A will clears presence when the connection breaks. Sessions are
// clean and everything goes at QoS 0, because delivery leans on our own acknowledgements: events from the outbox are
// sent one at a time, in order, and again until the clinic acknowledges.
//
// Presence is said again every Config.Repeat, with a number that the clinic answers; what it says of the answer before tells the clinic, and Trip the terminal, that
// messages go through both ways.
//
// A connection over which nothing comes for Config.Silence (30 s) is dead and given up; the client's pings make a
// living clinic speak every 10 s. All writes have deadlines.
//
// From the clinic nothing is trusted but its TLS and what it signs: packets that are no answer to what this client does end the
// connection, too large messages are skipped without being held in memory, malformed ones and acknowledgements that the clinic's service
// key has not signed are counted; neither ends it. Calls and commands wait in bounded queues; when one is full, the newest is dropped
// and counted.
package link

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"vindu/device/outbox"
	"vindu/device/progress"
	"vindu/protocol"
)

var (
	// ErrDown is wrapped by PublishCall when the link is not up, or went down before the message was written.
	ErrDown = errors.New("link is down")
	// ErrBusy is wrapped by PublishCall when too many messages wait to be written.
	ErrBusy = errors.New("link is busy")
)

// Config says to whom the link leads and as whom it speaks. Zero durations mean the defaults.
type Config struct {
	Address  string             // host:port of the clinic's front door
	TLS      func() *tls.Config // asked for each connection, so that a renewed certificate is used; must offer ALPN "mqtt" and name the server
	Terminal protocol.KeyHash
	Software string
	// Prepare is called before each attempt to connect, with why the link is down ("" if it was not tried yet). If it fails, so has the attempt. nil: nothing
	// to prepare. It has as long as the attempt.
	Prepare func(ctx context.Context, cause protocol.Code) error
	Now     func() time.Time
	Outbox  *outbox.Outbox
	// Service returns the keys by which the clinic's server signs acknowledgements (protocol.Trust): asked for each, since trust may be followed by another.
	Service func() [][]byte
	// Refused is told of each acknowledgement that the clinic has not signed for this terminal, or that cannot be. It is called from Run's goroutine. nil: nobody is.
	Refused func(error)
	Root    *progress.Root // is told that Run gets on; nil: nobody is

	KeepAlive time.Duration // whole seconds; a ping is sent when nothing came or went for so long; default 10 s
	Silence   time.Duration // without a byte from the clinic for so long the connection is dead; default 30 s
	Connect   time.Duration // for one attempt to come up; default 20 s
	Resend    time.Duration // for the acknowledgement of an event, or up to a quarter less; default 15 s
	Repeat    time.Duration // presence is said again after so long or up to a quarter less, for the clinic to know the terminal is alive; default 25 s
	BackoffLo time.Duration // bound of the first wait; default 2 s
	BackoffHi time.Duration // bound of every later wait; default 60 s

	// Dial opens the connection below TLS; default TCP to Address.
	Dial func(ctx context.Context) (net.Conn, error)
}

func (c Config) withDefaults() Config {
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{
		{&c.KeepAlive, 10 * time.Second},
		{&c.Silence, 30 * time.Second},
		{&c.Connect, 20 * time.Second},
		{&c.Resend, 15 * time.Second},
		{&c.Repeat, 25 * time.Second},
		{&c.BackoffLo, 2 * time.Second},
		{&c.BackoffHi, time.Minute},
	} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	if c.Dial == nil {
		address := c.Address
		c.Dial = func(ctx context.Context) (net.Conn, error) {
			d := net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 10 * time.Second, Interval: 5 * time.Second, Count: 3}}
			return d.DialContext(ctx, "tcp", address)
		}
	}
	return c
}

// Handlers are called from Run's goroutines, each kind from one, in the order in which messages came. A slow one delays only its own kind.
// Nil ones are left out.
type Handlers struct {
	Call    func(*protocol.CallIn)
	Command func(*protocol.Command)
	State   func(State) // may skip states that did not last
}

// State of the link.
type State struct {
	Up    bool
	Since time.Time     // of Up, by Config.Now
	Cause protocol.Code // why it is down; "" while up and before the first attempt failed
	Err   error         // technical; nil while up
}

// Counters since New.
type Counters struct {
	Malformed   uint64 // messages that were refused: malformed, of another version, too large, on a wrong topic, or acknowledgements that are not the clinic's
	Overrun     uint64 // messages that were dropped because a queue was full
	Connections uint64 // times the link came up
}

const (
	queueOut = 64 // call messages to the clinic
	queueIn  = 64 // call messages from the clinic
	stable   = 30 * time.Second

	doubtFor   = 1500 * time.Millisecond // in which the clinic has to answer if the way to it is in doubt
	eagerFor   = 20 * time.Second        // after a doubt another connection is tried with little pause
	eagerWait  = 500 * time.Millisecond  // at most, before each
	eagerLimit = 4 * time.Second         // for each
)

// Link is made by New and works while Run runs. Its methods may be called from any goroutine.
type Link struct {
	cfg      Config
	handlers Handlers
	log      *slog.Logger

	malformed, overrun, connections atomic.Uint64

	mu        sync.Mutex
	state     State
	current   *session // nil while down
	trip      Trip
	health    []byte // newest, encoded; nil until SetHealth
	newHealth chan struct{}
	newState  chan struct{}
	hurry     chan struct{}
	doubt     chan struct{}
	eager     time.Time // until then
}

// New returns a link that is down.
func New(cfg Config, handlers Handlers, log *slog.Logger) *Link {
	return &Link{
		cfg: cfg.withDefaults(), handlers: handlers, log: log,
		state:     State{Since: cfg.Now()},
		newHealth: make(chan struct{}, 1),
		newState:  make(chan struct{}, 1),
		hurry:     make(chan struct{}, 1),
		doubt:     make(chan struct{}, 1),
	}
}

// Up tells whether the link is up.
func (l *Link) Up() bool { return l.State().Up }

// State returns the state of the link.
func (l *Link) State() State {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state
}

// Counters returns the counters.
func (l *Link) Counters() Counters {
	return Counters{l.malformed.Load(), l.overrun.Load(), l.connections.Load()}
}

// SetHealth publishes h, now or as soon as the link is up, and after every reconnection until the next SetHealth.
func (l *Link) SetHealth(h *protocol.Health) error {
	b, err := protocol.Encode(h)
	if err != nil {
		return fmt.Errorf("set health: %w", err)
	}
	l.mu.Lock()
	l.health = b
	l.mu.Unlock()
	signal(l.newHealth)
	return nil
}

// Reconnect makes the link connect anew: at once if it waits between attempts, and over a new connection if it is up.
// It is for a network that came back and for a certificate that was renewed.
func (l *Link) Reconnect() { signal(l.hurry) }

// Doubt has the link prove that the way to the clinic leads there and back: if the clinic does not answer within 1.5 s, the connection is given up, and another one
// made as soon as one can be. It is for a network that may have changed under a call. One that works is not touched.
func (l *Link) Doubt() {
	l.mu.Lock()
	l.eager = time.Now().Add(eagerFor)
	l.mu.Unlock()
	signal(l.doubt)
}

// isEager tells whether the way to the clinic was doubted a moment ago.
func (l *Link) isEager() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return time.Now().Before(l.eager)
}

// PublishCall writes m to the clinic. It returns when m is handed to the operating system, when ctx ends, or at once
// with an error wrapping ErrDown or ErrBusy. What one goroutine publishes arrives in order.
func (l *Link) PublishCall(ctx context.Context, m *protocol.CallOut) error {
	b, err := protocol.Encode(m)
	if err != nil {
		return fmt.Errorf("publish call message: %w", err)
	}
	l.mu.Lock()
	s := l.current
	l.mu.Unlock()
	if s == nil {
		return fmt.Errorf("publish call message %s: %w", m.Kind, ErrDown)
	}
	p := outgoing{b, make(chan error, 1)}
	select {
	case s.calls <- p:
	default:
		return fmt.Errorf("publish call message %s: %d wait already: %w", m.Kind, queueOut, ErrBusy)
	}
	select {
	case err := <-p.done:
		if err != nil {
			return fmt.Errorf("publish call message %s: %w: %w", m.Kind, ErrDown, err)
		}
		return nil
	case <-s.over:
		return fmt.Errorf("publish call message %s: %w", m.Kind, ErrDown)
	case <-ctx.Done():
		return fmt.Errorf("publish call message %s: %w", m.Kind, ctx.Err())
	}
}

// Run keeps the link up until ctx ends, says goodbye, and returns nil.
func (l *Link) Run(ctx context.Context) error {
	calls := make(chan *protocol.CallIn, queueIn)
	commands := make(chan *protocol.Command, 8)
	var handling sync.WaitGroup
	handling.Go(func() { handle(calls, l.handlers.Call) })
	handling.Go(func() { handle(commands, l.handlers.Command) })
	stateDone := make(chan struct{})
	handling.Go(func() { l.tellState(stateDone) })
	defer handling.Wait()
	defer close(calls)
	defer close(commands)
	defer close(stateDone)
	tick, stop := l.cfg.Root.Tick(progress.Every)
	defer stop()
	defer l.cfg.Root.End()

	for attempt := 0; ; attempt++ {
		began := time.Now()
		err := l.connection(ctx, calls, commands)
		if ctx.Err() != nil {
			l.setState(State{Err: context.Cause(ctx)})
			return nil
		}
		cause := causeOf(err)
		l.setState(State{Cause: cause, Err: err})
		if time.Since(began) >= stable {
			attempt = 0
		}
		wait := l.wait(attempt)
		if l.isEager() {
			wait = rand.N(eagerWait)
		}
		if errors.Is(err, errHurry) {
			attempt, wait = -1, 0
		}
		l.log.Info("clinic is not connected", "cause", cause, "error", err, "attempt", attempt+1, "retry_in", wait.Round(time.Millisecond))
		timer := time.NewTimer(wait)
		for waiting := true; waiting; {
			l.cfg.Root.Alive()
			select {
			case <-tick:
				continue
			case <-timer.C:
			case <-l.hurry:
				attempt = -1
			case <-l.doubt:
				attempt = -1
			case <-ctx.Done():
			}
			waiting = false
		}
		timer.Stop()
	}
}

// wait returns how long to wait after attempt (counted from 0): full jitter, so that terminals that lost the
// clinic at the same instant spread evenly.
func (l *Link) wait(attempt int) time.Duration {
	bound := l.cfg.BackoffHi
	if attempt < 16 {
		bound = min(bound, l.cfg.BackoffLo<<max(attempt, 0))
	}
	return rand.N(bound + 1)
}

func (l *Link) setState(s State) {
	s.Since = l.cfg.Now()
	l.mu.Lock()
	if l.state.Up == s.Up && !s.Up {
		s.Since = l.state.Since
	}
	l.state = s
	l.mu.Unlock()
	signal(l.newState)
}

func (l *Link) tellState(done <-chan struct{}) {
	for {
		select {
		case <-l.newState:
		case <-done:
			return
		}
		if l.handlers.State != nil {
			l.handlers.State(l.State())
		}
	}
}

func handle[M any](in <-chan M, handler func(M)) {
	for m := range in {
		if handler != nil {
			handler(m)
		}
	}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // pending already
	}
}
