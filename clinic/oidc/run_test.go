package oidc

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// discovery answers in memory, so that time in a bubble goes on.
type discovery struct {
	asked atomic.Int64
	down  atomic.Bool
	hangs atomic.Bool
}

func (d *discovery) RoundTrip(r *http.Request) (*http.Response, error) {
	d.asked.Add(1)
	if d.hangs.Load() {
		<-r.Context().Done()
		return nil, r.Context().Err()
	}
	if d.down.Load() {
		return nil, errors.New("no way there")
	}
	body := `{"issuer":"https://id.example","authorization_endpoint":"https://id.example/authorize","token_endpoint":"https://id.example/token","jwks_uri":"https://id.example/keys"}`
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(body)), Request: r}, nil
}

// TestRun: a provider that is away is asked again ever less often, until it is back; what it said holds while it is away again, and one that hangs keeps nobody waiting for long.
func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		d := new(discovery)
		d.down.Store(true)
		p, err := New(Config{Issuer: "https://id.example", ClientID: "c", Key: key, Redirect: "https://clinic.example/back", Client: &http.Client{Transport: d, Timeout: requestLimit}})
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- p.Run(ctx) }()
		<-time.After(time.Hour) // of the bubble
		if n := d.asked.Load(); n < 8 || n > 30 {
			t.Errorf("asked %d times in an hour", n)
		}
		if _, _, err := p.Begin(t.Context()); !errors.Is(err, ErrProvider) {
			t.Errorf("while it is away: %v", err)
		}
		d.down.Store(false)
		<-time.After(2 * mostAgain)
		before := d.asked.Load()
		if _, _, err := p.Begin(t.Context()); err != nil || d.asked.Load() != before {
			t.Errorf("when it is back: %v, asked %d times", err, d.asked.Load()-before)
		}
		d.down.Store(true)
		<-time.After(3 * refresh)
		if d.asked.Load() == before {
			t.Error("not asked anew in a day and a half")
		}
		if _, _, err := p.Begin(t.Context()); err != nil {
			t.Errorf("away again: %v", err)
		}
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
		d.hangs.Store(true)
		fresh, err := New(p.c)
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if _, _, err := fresh.Begin(t.Context()); !errors.Is(err, ErrProvider) || time.Since(began) > requestLimit {
			t.Errorf("one that hangs: %v after %v", err, time.Since(began))
		}
	})
}
