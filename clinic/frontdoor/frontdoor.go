// Package frontdoor puts everything that the clinic serves behind one TCP port.
//
// It reads the ClientHello of each connection (RFC 8446 §4.1.2) without answering it, decides by ALPN (RFC 7301) and
// SNI (RFC 6066 §3) whom the connection is for, and hands it on with every byte in place. TLS is terminated there, not
// here: the door has no keys.
//
//	ALPN holds "mqtt"                    to the broker's own TLS listener, byte for byte
//	ALPN holds "stun.turn" (RFC 7443)    Relay: TURN over TLS
//	SNI is the terminals' name           Terminals: enrolment
//	no ALPN at all                       Relay: browsers' TURN clients send none, their HTTP clients always do
//	anything else                        Browsers
//
// A connection has HelloTimeout to send its ClientHello, of at most maxHello bytes. Connections that have not, and connections in
// all, are bounded (Limits), also per address; what is beyond a bound is closed at once. Only where those that have not are too
// many in all, the oldest makes room: whoever means it has spoken within a round trip, who only holds places has not.
package frontdoor

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"vindu/protocol"
)

const (
	// HelloTimeout is how long a connection may take to say what it wants.
	HelloTimeout = 5 * time.Second
	// handTimeout is how long a connection waits for its server to accept it.
	handTimeout = 5 * time.Second
	// lingerTimeout is how long one direction may go on after the other has ended.
	lingerTimeout = 30 * time.Second
	// stallTimeout is how long one end of a connection to the broker may refuse what comes from the other.
	stallTimeout = 30 * time.Second
	// complainEvery bounds how often the log tells of connections that were turned away.
	complainEvery = time.Minute
)

// Limits bound what strangers can make the clinic hold.
type Limits struct {
	HalfOpen           int // connections whose ClientHello has not come
	HalfOpenPerAddress int // of them, from one IPv4 address or one IPv6 /64
	Open               int // connections in all
	OpenPerAddress     int // of them, from one IPv4 address or one IPv6 /64
}

// DefaultLimits let ten thousand terminals come back at once through a handful of routers, and leave others half of the door.
var DefaultLimits = Limits{HalfOpen: 2048, HalfOpenPerAddress: 512, Open: 32768, OpenPerAddress: 16384}

// Config says where connections go.
type Config struct {
	TerminalsName string                                      // SNI of terminals
	Broker        func(ctx context.Context) (net.Conn, error) // dials the broker's TLS listener
	Limits        Limits
}

// Door is the front door. Run serves it; it owns all goroutines.
type Door struct {
	listener                   net.Listener
	config                     Config
	log                        *slog.Logger
	terminals, browsers, relay *outlet

	mu            sync.Mutex
	open          map[net.Conn]netip.Prefix // all that the door, or one behind it, still holds
	openByAddress map[netip.Prefix]int
	halfOpen      list.List            // of waiting, the oldest first
	byAddress     map[netip.Prefix]int // of halfOpen
	turnedAway    int
	complained    map[string]time.Time // by message
}

// New makes a door on a TCP listener, which Run closes.
func New(l net.Listener, c Config, log *slog.Logger) *Door {
	return &Door{
		listener: l, config: c, log: log, open: map[net.Conn]netip.Prefix{}, openByAddress: map[netip.Prefix]int{}, byAddress: map[netip.Prefix]int{}, complained: map[string]time.Time{},
		terminals: newOutlet(l.Addr()), browsers: newOutlet(l.Addr()), relay: newOutlet(l.Addr()),
	}
}

// Terminals returns the listener of connections for the terminals' name. Like the others it accepts before any TLS was spoken.
func (d *Door) Terminals() net.Listener { return d.terminals }

// Browsers returns the listener of connections from browsers.
func (d *Door) Browsers() net.Listener { return d.browsers }

// Relay returns the listener of connections for TURN over TLS.
func (d *Door) Relay() net.Listener { return d.relay }

// Run serves until ctx ends, then closes the listener, the connections to the broker and those that nobody has accepted yet.
func (d *Door) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	defer func() {
		d.terminals.Close()
		d.browsers.Close()
		d.relay.Close()
	}()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { d.listener.Close() })
	defer stop()
	const shortest, longest = 5 * time.Millisecond, time.Second
	pause := shortest
	for {
		c, err := d.listener.Accept()
		if err == nil {
			pause = shortest
			if place := d.admit(c); place != nil {
				wg.Go(func() { d.serve(ctx, c, place) })
			} else {
				c.Close()
			}
			continue
		}
		if ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, net.ErrClosed) {
			return fmt.Errorf("front door %s: %w", d.listener.Addr(), err)
		}
		// Out of file descriptors, probably: it passes when connections end.
		d.log.Error("front door cannot accept connections; is the limit of open files too low?", "error", err)
		select {
		case <-ctx.Done():
		case <-time.After(pause/2 + rand.N(pause/2)):
		}
		pause = min(2*pause, longest)
	}
}

// waiting is a connection whose ClientHello has not come.
type waiting struct {
	c       net.Conn
	address netip.Prefix
	left    bool
}

// admit counts c in, or returns nil: it is one too many.
func (d *Door) admit(c net.Conn) *list.Element {
	address := addressOf(c)
	d.mu.Lock()
	defer d.mu.Unlock()
	l := d.config.Limits
	if d.byAddress[address] >= l.HalfOpenPerAddress || len(d.open) >= l.Open || d.openByAddress[address] >= l.OpenPerAddress {
		d.turnedAway++
		d.complain("connections turned away: more than the front door's limits at once", "turned_away", d.turnedAway,
			"half_open", d.halfOpen.Len(), "open", len(d.open))
		return nil
	}
	if d.halfOpen.Len() >= l.HalfOpen {
		d.leave(d.halfOpen.Front()).c.Close()
		d.turnedAway++
		d.complain("silent connections closed to make room: more than the front door's limits at once", "turned_away", d.turnedAway,
			"half_open", d.halfOpen.Len(), "open", len(d.open))
	}
	d.open[c] = address
	d.openByAddress[address]++
	d.byAddress[address]++
	return d.halfOpen.PushBack(&waiting{c: c, address: address})
}

// leave takes a place away from the waiting, once. The caller holds mu.
func (d *Door) leave(place *list.Element) *waiting {
	w := d.halfOpen.Remove(place).(*waiting)
	if w.left {
		return w
	}
	w.left = true
	if d.byAddress[w.address]--; d.byAddress[w.address] == 0 {
		delete(d.byAddress, w.address)
	}
	return w
}

// complain logs a message that strangers can provoke, once in complainEvery. The caller holds mu.
func (d *Door) complain(message string, args ...any) {
	if now := time.Now(); now.Sub(d.complained[message]) > complainEvery {
		d.complained[message] = now
		d.log.Warn(message, args...)
	}
}

func addressOf(c net.Conn) netip.Prefix {
	a, err := netip.ParseAddrPort(c.RemoteAddr().String())
	if err != nil {
		return netip.Prefix{}
	}
	bits := 64
	if a.Addr().Unmap().Is4() {
		bits = 32
	}
	p, err := a.Addr().Unmap().WithZone("").Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}

// spoken notes that a ClientHello came, or never will.
func (d *Door) spoken(place *list.Element) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.leave(place)
}

func (d *Door) forget(c net.Conn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	address, held := d.open[c]
	if !held {
		return
	}
	delete(d.open, c)
	if d.openByAddress[address]--; d.openByAddress[address] == 0 {
		delete(d.openByAddress, address)
	}
}

func (d *Door) serve(ctx context.Context, c net.Conn, place *list.Element) {
	close := sync.OnceValue(func() error {
		d.forget(c)
		return c.Close()
	})
	stop := context.AfterFunc(ctx, func() { close() })
	defer stop()
	hello, head, err := readHello(c)
	d.spoken(place)
	if err != nil {
		d.log.Debug("connection without a usable ClientHello", "bytes", len(head), "error", err)
		close()
		return
	}
	whole := &replayed{Conn: c, head: head, close: close}
	switch d.route(hello) {
	case toBroker:
		d.splice(ctx, whole)
	case toRelay:
		d.hand(ctx, d.relay, whole, stop)
	case toTerminals:
		d.hand(ctx, d.terminals, whole, stop)
	case toBrowsers:
		d.hand(ctx, d.browsers, whole, stop)
	}
}

type destination int

const (
	toBroker    destination = iota // the broker's own listener
	toRelay                        // TURN over TLS
	toTerminals                    // enrolment
	toBrowsers                     // pages
)

func (d *Door) route(h hello) destination {
	switch {
	case slices.Contains(h.alpn, protocol.ALPNMQTT):
		return toBroker
	case slices.Contains(h.alpn, protocol.ALPNTURN):
		return toRelay
	case strings.EqualFold(h.name, d.config.TerminalsName):
		return toTerminals
	case len(h.alpn) == 0:
		return toRelay
	}
	return toBrowsers
}

// hand gives c to the one who accepts on o; from then on it is theirs to close.
func (d *Door) hand(ctx context.Context, o *outlet, c *replayed, detach func() bool) {
	timeout := time.NewTimer(handTimeout)
	defer timeout.Stop()
	select {
	case o.connections <- c:
		detach()
	case <-o.closed:
		c.Close()
	case <-ctx.Done():
		c.Close()
	case <-timeout.C:
		d.mu.Lock()
		d.complain("connection closed: its server does not accept any")
		d.mu.Unlock()
		c.Close()
	}
}

// splice joins c with a new connection to the broker until both directions have ended.
func (d *Door) splice(ctx context.Context, c *replayed) {
	defer c.Close()
	dialing, cancel := context.WithTimeout(ctx, handTimeout)
	defer cancel()
	broker, err := d.config.Broker(dialing)
	if err != nil {
		if ctx.Err() == nil {
			d.mu.Lock()
			d.complain("terminal turned away: the broker does not accept connections", "error", err)
			d.mu.Unlock()
		}
		return
	}
	defer broker.Close()
	stop := context.AfterFunc(ctx, func() { broker.Close() })
	defer stop()
	err = broker.SetWriteDeadline(time.Now().Add(handTimeout))
	if err == nil {
		_, err = broker.Write(c.head)
	}
	if err == nil {
		err = broker.SetWriteDeadline(time.Time{})
	}
	if err != nil {
		d.log.Debug("connection to the broker broke", "error", err)
		return
	}
	var wg sync.WaitGroup
	wg.Go(func() { pump(broker, c.Conn) })
	wg.Go(func() { pump(c.Conn, broker) })
	wg.Wait()
}
