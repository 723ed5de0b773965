package fleet

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"vindu/protocol"
)

const (
	connectTimeout = 10 * time.Second
	keepAlive      = 15 * time.Second
	pingTimeout    = 5 * time.Second
	minBackoff     = 100 * time.Millisecond
	maxBackoff     = 10 * time.Second
	steady         = time.Minute // a connection that lasted this long starts the backoff anew
	farewell       = 500         // ms in which DISCONNECT is sent
)

// connect keeps a connection until ctx is done. It backs off with full jitter.
func (f *Fleet) connect(ctx context.Context) {
	for attempt := 0; ; attempt++ {
		began := time.Now()
		err := f.session(ctx)
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > steady {
			attempt = 0
		}
		wait := rand.N(min(maxBackoff, minBackoff<<min(attempt, 10)))
		f.log.Warn("connection to the message broker lost or not made; trying again", "error", err, "wait", wait)
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

// session connects once and returns when the connection is over.
func (f *Fleet) session(ctx context.Context) error {
	lost := make(chan error, 1)
	var conn net.Conn
	options, err := f.options(func(c net.Conn) { conn = c })
	if err != nil {
		return err
	}
	options.SetConnectionLostHandler(func(_ mqtt.Client, err error) { lost <- err })
	client := mqtt.NewClient(options)
	defer client.Disconnect(farewell)
	if err := await(ctx, client.Connect(), connectTimeout); err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	if err := conn.SetDeadline(time.Time{}); err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	f.unbroken.Add(1)
	handler := func(_ mqtt.Client, m mqtt.Message) { f.receive(m.Topic(), m.Payload(), m.Retained()) }
	if err := await(ctx, client.Subscribe(protocol.AllOut, 0, handler), connectTimeout); err != nil {
		return fmt.Errorf("subscribe: %w", err)
	}
	f.setClient(client)
	defer f.setClient(nil)
	f.log.Info("connected to the message broker")
	select {
	case <-ctx.Done():
		return nil
	case err := <-lost:
		return err
	}
}

func (f *Fleet) setClient(c mqtt.Client) {
	f.mu.Lock()
	f.client = c
	f.mu.Unlock()
	f.board.changed()
}

// options are those of one connection. opened is told of the network connection, which has a deadline until the broker has accepted the
// session: the client library would wait for that for ever.
func (f *Fleet) options(opened func(net.Conn)) (*mqtt.ClientOptions, error) {
	certificate, err := f.config.Certificate()
	if err != nil {
		return nil, fmt.Errorf("certificate of the clinic: %w", err)
	}
	if certificate.Leaf == nil {
		return nil, errors.New("certificate of the clinic: not parsed")
	}
	address := f.config.Address()
	dialer := tls.Dialer{
		NetDialer: &net.Dialer{Timeout: connectTimeout},
		Config: &tls.Config{
			Certificates: []tls.Certificate{*certificate}, RootCAs: f.config.Roots, ServerName: f.config.ServerName,
			MinVersion: tls.VersionTLS13, NextProtos: []string{protocol.ALPNMQTT},
		},
	}
	return mqtt.NewClientOptions().AddBroker("tls://" + address).
		SetClientID(protocol.HashSPKI(certificate.Leaf.RawSubjectPublicKeyInfo).Name()).
		SetProtocolVersion(4).SetCleanSession(true).SetOrderMatters(true).
		SetAutoReconnect(false).SetConnectRetry(false).
		SetConnectTimeout(connectTimeout).SetWriteTimeout(sendTimeout).
		SetKeepAlive(keepAlive).SetPingTimeout(pingTimeout).
		SetCustomOpenConnectionFn(func(*url.URL, mqtt.ClientOptions) (net.Conn, error) {
			ctx, cancel := context.WithTimeout(context.Background(), connectTimeout)
			defer cancel()
			c, err := dialer.DialContext(ctx, "tcp", address)
			if err != nil {
				return nil, err
			}
			if err := c.SetDeadline(time.Now().Add(connectTimeout)); err != nil {
				return nil, errors.Join(err, c.Close())
			}
			opened(c)
			return c, nil
		}), nil
}

// publish sends with QoS 0 and returns when the message is written.
func (f *Fleet) publish(ctx context.Context, topic string, payload []byte) error {
	f.mu.Lock()
	client := f.client
	f.mu.Unlock()
	if client == nil {
		return protocol.WithCode(protocol.SignalBroker, ErrDown)
	}
	if err := await(ctx, client.Publish(topic, 0, false, payload), sendTimeout); err != nil {
		return protocol.WithCode(protocol.SignalBroker, fmt.Errorf("%w: %w", ErrDown, err))
	}
	return nil
}

func await(ctx context.Context, token mqtt.Token, timeout time.Duration) error {
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case <-token.Done():
		return token.Error()
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return fmt.Errorf("no reply within %v", timeout)
	}
}

// askForReports asks terminals that seem to be there, but were not heard, for their health.
func (f *Fleet) askForReports(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case key := <-f.reports:
			err := f.Command(ctx, key, protocol.CommandReport)
			// What the broker retains comes before it has confirmed the subscription, which is when the connection counts.
			for wait := minBackoff; errors.Is(err, ErrDown) && wait < connectTimeout; wait *= 2 {
				select {
				case <-ctx.Done():
					return
				case <-time.After(wait/2 + rand.N(wait)):
				}
				err = f.Command(ctx, key, protocol.CommandReport)
			}
			if err != nil && ctx.Err() == nil {
				f.log.Debug("terminal not asked for its health", "terminal", key, "error", err)
			}
		}
	}
}
