package session_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"vindu/protocol"
	"vindu/provisioning/session"
	"vindu/provisioning/session/sessiontest"
)

type log struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *log) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// bench is a terminal with its server, a cable and a laptop. It lives in a synctest bubble.
type bench struct {
	t        *testing.T
	host     *sessiontest.Terminal
	who      session.Technician
	laptop   *sessiontest.End
	terminal *sessiontest.End
	log      *log
}

func newBench(t *testing.T) *bench {
	t.Helper()
	clinic, laptop := sessiontest.Key(), sessiontest.Key()
	b := &bench{t: t, host: sessiontest.NewTerminal(clinic), log: new(log)}
	b.who = session.Technician{
		Key: laptop, Mandate: sessiontest.Mandate(clinic, laptop, time.Now().Add(-time.Hour), time.Now().Add(8*time.Hour)), Now: time.Now,
	}
	b.laptop, b.terminal = sessiontest.Cable()
	return b
}

// serve runs the terminal until the test ends.
func (b *bench) serve() {
	server := session.NewServer(b.host, slog.New(slog.NewTextHandler(b.log, nil)))
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- server.Run(ctx, func(context.Context) (io.ReadWriteCloser, error) {
			b.terminal.Reopen()
			return b.terminal, nil
		})
	}()
	b.t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			b.t.Error(err)
		}
	})
}

// with runs f with a client, as one run of the tool, and returns what f does.
func (b *bench) with(f func(ctx context.Context, c *session.Client) error) error {
	b.laptop.Reopen()
	c := session.NewClient(b.laptop, b.who, slog.New(slog.NewTextHandler(b.log, nil)))
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	err := f(ctx, c)
	stop()
	if err := <-done; err != nil {
		b.t.Error(err)
	}
	return err
}

// open is with a session that is open.
func (b *bench) open(f func(ctx context.Context, c *session.Client) error) error {
	return b.with(func(ctx context.Context, c *session.Client) error {
		if err := c.Open(ctx); err != nil {
			return err
		}
		return f(ctx, c)
	})
}

func (b *bench) setUp() {
	b.host.Lock()
	defer b.host.Unlock()
	b.host.State = session.SetUp
}

// presses has somebody press the button, a while after the screen asks.
func (b *bench) presses(after time.Duration) {
	b.host.Lock()
	defer b.host.Unlock()
	b.host.Press = func(ctx context.Context) error {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(after):
			return nil
		}
	}
}

// did returns what was asked of the terminal so far.
func (b *bench) did() []string {
	b.host.Lock()
	defer b.host.Unlock()
	return slices.Clone(b.host.Log)
}

func voucher() *protocol.Voucher {
	return &protocol.Voucher{
		Version: 1, ID: protocol.NewNonce(), Secret: bytes.Repeat([]byte{0xa5}, 32), Address: "clinic.example:443", ServerName: "terminals.clinic.example",
		Root: []byte("root"), Expires: protocol.At(time.Now().Add(time.Hour)),
	}
}

// technician is what the tool does from box to hand-over; each run does what is left to do, as its own questions tell it.
func (b *bench) technician(v *protocol.Voucher, record *protocol.HandOver) func(context.Context, *session.Client) error {
	return func(ctx context.Context, c *session.Client) error {
		g, err := c.Greet(ctx)
		if err != nil {
			return err
		}
		if err := c.Open(ctx); err != nil {
			return err
		}
		if g.State == session.SetUp {
			if err := c.Authorise(ctx, nil); err != nil {
				return err
			}
		}
		if err := errors.Join(c.SetNetwork(ctx, wifi), c.SetLanguage(ctx, "nn")); err != nil {
			return err
		}
		if g.State == session.Factory {
			if err := c.Enrol(ctx, v); err != nil {
				return err
			}
		}
		if err := c.Authorise(ctx, nil); err != nil {
			return err
		}
		checks, err := c.Check(ctx, session.CheckOptions{}, nil)
		if err != nil {
			return err
		}
		h := *record
		h.Terminal, h.Checks, h.At = c.Terminal(), checks, protocol.At(time.Now())
		_, err = c.HandOver(ctx, &h)
		return err
	}
}

func record() *protocol.HandOver {
	return &protocol.HandOver{
		Version: 1, ID: protocol.NewNonce(), Organisation: "Nordbyen clinic", Home: "Home 17, Storgata", Technician: sessiontest.Person,
		Software: "vindu-agent test", KeyGrade: "file",
	}
}

// done says what is left undone of technician.
func (b *bench) done(v *protocol.Voucher, h *protocol.HandOver) error {
	b.host.Lock()
	defer b.host.Unlock()
	switch t := b.host; {
	case t.State != session.SetUp, len(t.Spent) != 1, t.Spent[0] != v.ID:
		return fmt.Errorf("state %s, vouchers %v", t.State, t.Spent)
	case len(t.Networks) != 1, t.Networks[0].Password != password, t.Language != "nn":
		return fmt.Errorf("networks %v, language %s", t.Networks, t.Language)
	case len(t.HandedOver) != 1, t.HandedOver[0].ID != h.ID, len(t.HandedOver[0].Checks) != 3:
		return fmt.Errorf("handed over %v", t.HandedOver)
	}
	return nil
}
