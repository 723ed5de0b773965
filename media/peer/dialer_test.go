package peer

import (
	"context"
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

// slowDialer knows no context and comes back when it likes.
type slowDialer struct {
	takes time.Duration
	conn  net.Conn
}

func (d slowDialer) Dial(string, string) (net.Conn, error) {
	time.Sleep(d.takes) // allowed: time in a bubble of synctest is the test's own
	return d.conn, nil
}

func TestDialerIsBounded(t *testing.T) {
	for name, c := range map[string]struct {
		takes, life, want time.Duration
		err               error
	}{
		"in time":                       {time.Second, time.Hour, time.Second, nil},
		"the server does not answer":    {time.Minute, time.Hour, dialLimit, context.DeadlineExceeded},
		"the call is hung up meanwhile": {5 * time.Second, 2 * time.Second, 2 * time.Second, context.Canceled},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				near, far := net.Pipe()
				defer near.Close()
				alive, end := context.WithCancel(t.Context())
				defer time.AfterFunc(c.life, end).Stop()
				defer end()
				began := time.Now()
				conn, err := (&limitedDialer{slowDialer{c.takes, near}, alive}).Dial("tcp", "turn.invalid:443")
				if took := time.Since(began); took != c.want || !errors.Is(err, c.err) {
					t.Errorf("%v after %v, want %v after %v", err, took, c.err, c.want)
				}
				if c.err == nil {
					conn.Close()
				}
				// What comes too late is not left open.
				if _, err := far.Read(make([]byte, 1)); err == nil {
					t.Error("the connection is open")
				}
			})
		})
	}
}
