package main

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
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

// When the clinic stops, the front door may close its listeners before a server on them has heard of it: that is no failure.
func TestFrontDoorStopsFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := &lateContext{Context: context.Background(), done: make(chan struct{})}
		l := &once{pipes: pipes{make(chan net.Conn), make(chan struct{})}}
		done := make(chan error, 1)
		go func() { done <- serveHTTP(ctx, http.NotFoundHandler(), l, nil, slog.New(slog.DiscardHandler)) }()
		synctest.Wait()
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		close(ctx.done)
		synctest.Wait()
		ctx.tell()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// lateContext ends, and only later tells those who asked to be told.
type lateContext struct {
	context.Context
	done chan struct{}
	mu   sync.Mutex
	told []func()
}

func (l *lateContext) Done() <-chan struct{} { return l.done }

func (l *lateContext) Err() error {
	select {
	case <-l.done:
		return context.Canceled
	default:
		return nil
	}
}

// AfterFunc is what package context asks for before it starts a goroutine of its own.
func (l *lateContext) AfterFunc(f func()) func() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.told = append(l.told, f)
	return func() bool { return true }
}

func (l *lateContext) tell() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, f := range l.told {
		f()
	}
}

// once may be closed again.
type once struct {
	pipes
	closing sync.Once
}

func (o *once) Close() error {
	o.closing.Do(func() { close(o.closed) })
	return nil
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
