package link

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"sync"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/eclipse/paho.mqtt.golang/packets"

	"vindu/device/progress"
	"vindu/protocol"
)

var (
	errHurry   = errors.New("asked to connect anew")
	errRefused = errors.New("the broker refused the subscription")
	errGone    = errors.New("the connection broke")
)

// session is one connection that came up.
type session struct {
	calls chan outgoing
	over  chan struct{} // closed when the session is over
}

type outgoing struct {
	message []byte
	done    chan error // gets one value
}

// incoming is what the connection's goroutine hands over to the session's.
type incoming struct {
	topic   string
	payload []byte
}

// connection makes one connection and keeps it until it breaks or ctx ends. The library's goroutines end
// soon after: its connection is closed, and it has no way to wait for them.
func (l *Link) connection(ctx context.Context, calls chan<- *protocol.CallIn, commands chan<- *protocol.Command) error {
	l.cfg.Root.Step(l.cfg.Connect)
	if err := l.prepare(ctx); err != nil {
		return err
	}
	config := l.cfg.TLS()
	if config == nil {
		return protocol.WithCode(protocol.IdentityNone, errors.New("the terminal is not enrolled"))
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	limit := l.cfg.Connect
	if l.isEager() { // what hangs now was begun on a network that is no more
		limit = min(limit, eagerLimit)
	}
	l.cfg.Root.Step(limit)
	dialCtx, cancelDial := context.WithTimeout(ctx, limit)
	defer cancelDial()
	conn, err := l.dial(dialCtx, config)
	if err != nil {
		return err
	}
	defer conn.Close()

	presence := protocol.Presence{Version: protocol.Version, Session: protocol.NewNonce(), Since: protocol.At(l.cfg.Now()), Software: l.cfg.Software}
	gone, err := protocol.Encode(&presence)
	if err != nil {
		return fmt.Errorf("encode presence: %w", err)
	}
	presence.Online, presence.Beat = true, firstBeat()

	in := make(chan incoming)
	ended := make(chan struct{})
	defer close(ended)
	lost := make(chan error, 1)
	options := mqtt.NewClientOptions().
		SetClientID(l.cfg.Terminal.Name()).
		SetProtocolVersion(4).
		SetCleanSession(true).
		SetAutoReconnect(false).
		SetConnectRetry(false).
		SetOrderMatters(true).
		SetKeepAlive(l.cfg.KeepAlive).
		SetPingTimeout(l.cfg.KeepAlive).
		SetConnectTimeout(l.cfg.Connect).
		SetWriteTimeout(writeTimeout).
		SetBinaryWill(protocol.OutTopic(l.cfg.Terminal, protocol.OutPresence), gone, 0, true).
		SetDefaultPublishHandler(func(_ mqtt.Client, m mqtt.Message) {
			select {
			case in <- incoming{m.Topic(), m.Payload()}: // the session is never busy for longer than a write takes
			case <-ended:
			}
		}).
		SetConnectionLostHandler(func(_ mqtt.Client, err error) { lost <- err }).
		SetCustomOpenConnectionFn(func(*url.URL, mqtt.ClientOptions) (net.Conn, error) { return conn, nil })
	options.Servers = []*url.URL{{Scheme: "tls", Host: l.cfg.Address}} // only a name: the connection is open already
	client := mqtt.NewClient(options)

	stop := context.AfterFunc(dialCtx, func() { conn.Close() })
	if err := wait(dialCtx, client.Connect(), conn); err != nil {
		return fmt.Errorf("connect to the clinic's broker: %w", err)
	}
	defer client.Disconnect(0)
	s := &session{calls: make(chan outgoing, queueOut), over: make(chan struct{})}
	run := running{Link: l, session: s, client: client, conn: conn, saying: saying{presence: presence}, gone: gone}
	if err := run.begin(dialCtx); err != nil {
		return err
	}
	if !stop() {
		return fmt.Errorf("connect to the clinic's broker: %w", context.Cause(dialCtx))
	}
	// From here on ctx ends the session in an orderly way; a write that hangs then ends by its own deadline.
	return run.run(ctx, in, lost, calls, commands)
}

func (l *Link) prepare(ctx context.Context) error {
	if l.cfg.Prepare == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, l.cfg.Connect)
	defer cancel()
	return l.cfg.Prepare(ctx, l.State().Cause)
}

// dial opens TCP and TLS.
func (l *Link) dial(ctx context.Context, config *tls.Config) (*boundedConn, error) {
	raw, err := l.cfg.Dial(ctx)
	if err != nil {
		return nil, protocol.WithCode(protocol.LinkUnreachable, fmt.Errorf("connect to the clinic at %s: %w", l.cfg.Address, err))
	}
	secured := tls.Client(raw, config)
	if err := secured.HandshakeContext(ctx); err != nil {
		raw.Close()
		return nil, fmt.Errorf("connect to the clinic at %s: %w", l.cfg.Address, err)
	}
	if config.NextProtos != nil && secured.ConnectionState().NegotiatedProtocol != protocol.ALPNMQTT {
		secured.Close()
		return nil, protocol.WithCode(protocol.LinkUnreachable,
			fmt.Errorf("connect to the clinic at %s: the server there does not speak %q", l.cfg.Address, protocol.ALPNMQTT))
	}
	return newBoundedConn(secured, l.cfg.Silence, func() { l.malformed.Add(1) }), nil
}

// wait waits for what the broker has to answer. If it fails, the connection's own error says more than the library's.
func wait(ctx context.Context, token mqtt.Token, conn *boundedConn) error {
	select {
	case <-token.Done():
		if err := token.Error(); err != nil {
			return because(err, conn.cause())
		}
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// because adds why err happened, if that is known and err does not say it.
func because(err, cause error) error {
	if cause == nil || errors.Is(err, cause) {
		return err
	}
	return fmt.Errorf("%w: %w", err, cause)
}

// causeOf finds the register's entry for why the link is down.
func causeOf(err error) protocol.Code {
	var coded *protocol.Error
	switch {
	case errors.Is(err, errHurry):
		return ""
	case errors.As(err, &coded):
		return coded.Code
	case protocol.HandshakeCode(err) != "":
		return protocol.HandshakeCode(err)
	case errors.Is(err, errRefused), errors.Is(err, packets.ErrorRefusedNotAuthorised), errors.Is(err, packets.ErrorRefusedBadUsernameOrPassword),
		errors.Is(err, packets.ErrorRefusedIDRejected):
		return protocol.LinkRefused
	}
	return protocol.LinkUnreachable
}

// running is a session with what its goroutine needs.
type running struct {
	*Link
	session *session
	client  mqtt.Client
	conn    *boundedConn
	saying  saying
	gone    []byte

	sentSeq uint64 // of the event that waits for its acknowledgement; 0 if none
	acked   uint64
}

// begin subscribes, says that the terminal is here, and opens the link to others.
func (r *running) begin(ctx context.Context) error {
	token := r.client.Subscribe(protocol.InFilter(r.cfg.Terminal), 0, nil)
	if err := wait(ctx, token, r.conn); err != nil {
		return fmt.Errorf("subscribe at the clinic's broker: %w", err)
	}
	if granted := token.(*mqtt.SubscribeToken).Result()[protocol.InFilter(r.cfg.Terminal)]; granted != 0 {
		return fmt.Errorf("subscribe at the clinic's broker: code %#x: %w", granted, errRefused)
	}
	return r.say(true)
}

// publish hands a message to the operating system.
func (r *running) publish(channel string, retained bool, message []byte) error {
	r.cfg.Root.Step(writeTimeout) // a line that takes nothing is no hung program
	token := r.client.Publish(protocol.OutTopic(r.cfg.Terminal, channel), 0, retained, message)
	timer := time.NewTimer(writeTimeout)
	defer timer.Stop()
	select {
	case <-token.Done():
		if err := token.Error(); err != nil {
			return fmt.Errorf("publish %s: %w", channel, because(err, r.conn.cause()))
		}
		return nil
	case <-timer.C:
		return fmt.Errorf("publish %s: not written within %v: %w", channel, writeTimeout, errGone)
	}
}

// run is the session until it is over.
func (r *running) run(ctx context.Context, in <-chan incoming, lost <-chan error, calls chan<- *protocol.CallIn, commands chan<- *protocol.Command) error {
	over := sync.OnceFunc(func() {
		r.mu.Lock()
		r.current = nil
		r.mu.Unlock()
		close(r.session.over)
	})
	defer over()
	r.mu.Lock()
	r.current = r.session
	r.trip = Trip{From: time.Now()}
	r.mu.Unlock()
	r.connections.Add(1)
	r.setState(State{Up: true})
	r.log.Info("clinic is connected")
	signal(r.newHealth) // the new connection has not heard it

	repeat := time.NewTimer(r.repeatIn())
	defer repeat.Stop()
	resend := time.NewTimer(0)
	defer resend.Stop()
	unanswered := time.NewTimer(time.Hour)
	defer unanswered.Stop()
	unanswered.Stop()
	tick, stop := r.cfg.Root.Tick(progress.Every)
	defer stop()
	var doubted uint64 // the number that has to be answered
	for {
		r.cfg.Root.Alive()
		var err error
		select {
		case <-tick:
		case m := <-in:
			r.take(m, calls, commands)
			if err = r.drive(resend, false); err == nil && r.saying.news {
				err = r.say(false)
			}
		case p := <-r.session.calls:
			err = r.publish(protocol.OutCall, false, p.message)
			p.done <- err
		case <-r.newHealth:
			if h := r.newestHealth(); h != nil {
				err = r.publish(protocol.OutHealth, true, h)
			}
		case <-r.cfg.Outbox.Added():
			err = r.drive(resend, false)
		case <-resend.C:
			err = r.drive(resend, true)
		case <-repeat.C:
			// Not retained: the broker has it, and need not write it to its disk again for each of thousands.
			err = r.say(false)
			repeat.Reset(r.repeatIn())
		case cause := <-r.conn.lost:
			err = because(errGone, cause)
		case cause := <-lost: // no answer to a ping
			err = because(because(errGone, cause), r.conn.cause())
		case <-r.doubt:
			if err = r.say(false); doubted <= r.saying.presence.Heard {
				doubted = r.saying.presence.Beat
				unanswered.Reset(doubtFor)
			}
		case <-unanswered.C:
			if doubted > r.saying.presence.Heard {
				err = fmt.Errorf("no answer within %v: %w", doubtFor, errGone)
			}
		case <-r.hurry:
			err = errHurry
		case <-ctx.Done():
			over()
			return errors.Join(ctx.Err(), r.goodbye())
		}
		if errors.Is(err, errHurry) {
			over()
			return errors.Join(err, r.goodbye())
		}
		if err != nil {
			return err
		}
	}
}
