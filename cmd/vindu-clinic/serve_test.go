package main

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

// pipes is a listener whose connections are in memory, so that a bubble's time holds for them.
type pipes struct {
	connections chan net.Conn
	closed      chan struct{}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.connections:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error { close(p.closed); return nil }

func (p *pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)} }

func servePipes(t *testing.T, handler http.HandlerFunc, request func(net.Conn)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(context.Background())
		l := &pipes{make(chan net.Conn), make(chan struct{})}
		done := make(chan error, 1)
		go func() { done <- serveHTTP(ctx, handler, l, nil, slog.New(slog.DiscardHandler)) }()
		near, far := net.Pipe()
		l.connections <- far
		if _, err := io.WriteString(near, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		request(near)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		near.Close()
		synctest.Wait()
	})
}

// A peer that asks and does not read what comes must not hold a handler for ever.
func TestSlowReader(t *testing.T) {
	over := make(chan error, 1)
	servePipes(t, func(w http.ResponseWriter, _ *http.Request) {
		_, err := w.Write(make([]byte, 1<<20))
		over <- err
	}, func(net.Conn) {
		time.Sleep(2 * writeTimeout) // allowed: of the bubble
		synctest.Wait()
		select {
		case err := <-over:
			if err == nil {
				t.Error("written to nobody")
			}
		default:
			t.Error("the handler still waits")
		}
	})
}

// A stream of events that sets its own deadlines goes on beyond the others.
func TestStreamOutlastsTimeouts(t *testing.T) {
	servePipes(t, func(w http.ResponseWriter, r *http.Request) {
		c := http.NewResponseController(w)
		for r.Context().Err() == nil {
			if c.SetWriteDeadline(time.Now().Add(5*time.Second)) != nil {
				return
			}
			if _, err := io.WriteString(w, "x"); err != nil || c.Flush() != nil {
				return
			}
			time.Sleep(2 * time.Second) // allowed: of the bubble
		}
	}, func(near net.Conn) {
		began := time.Now()
		response, err := http.ReadResponse(bufio.NewReader(near), nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(response.Body, make([]byte, 60)); err != nil {
			t.Errorf("the stream broke off after %v: %v", time.Since(began), err)
		}
		near.Close()
	})
}
