package audit

import (
	"bytes"
	"context"
	"crypto/rand"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/mod/sumdb/note"

	"vindu/protocol"
)

// The server's log gets a head at the start, daily and at the end, and the heads are found there again in either form.
func TestHeadsInTheLog(t *testing.T) {
	for name, handler := range map[string]func(*bytes.Buffer) slog.Handler{
		"text": func(b *bytes.Buffer) slog.Handler { return slog.NewTextHandler(b, nil) },
		"json": func(b *bytes.Buffer) slog.Handler { return slog.NewJSONHandler(b, nil) },
	} {
		t.Run(name, func(t *testing.T) {
			l, verifier := open(t)
			l.fill(t, 0, 3)
			var text bytes.Buffer
			log := slog.New(handler(&text))
			log.Info("something else", "head", "x")
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan error)
				go func() { done <- l.Run(ctx, log) }()
				<-time.After(2*headEvery + time.Hour)
				cancel()
				if err := <-done; err != nil {
					t.Error(err)
				}
			})
			heads := FindHeads(text.Bytes())
			if len(heads) != 4 {
				t.Fatalf("%d heads in %s", len(heads), text.String())
			}
			if _, err := l.Verify(t.Context(), verifier, heads...); err != nil {
				t.Error(err)
			}
			if got := FindHeads(heads[0]); len(got) != 1 || !bytes.Equal(got[0], heads[0]) {
				t.Errorf("a head alone: %q", got)
			}
		})
	}
	if got := FindHeads([]byte("head=\"vindu-clinic-audit\\n1")); len(got) != 0 {
		t.Errorf("a line that was cut: %q", got)
	}
}

func TestVerifierKey(t *testing.T) {
	secret, public, err := note.GenerateKey(rand.Reader, logName)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := VerifierKey(protocol.Secret(secret)); err != nil || got != public {
		t.Errorf("%s, %v; want %s", got, err, public)
	}
	for _, bad := range []string{"", "PRIVATE+KEY+x", "PRIVATE+KEY+x+00000000+AAAA"} {
		if _, err := VerifierKey(protocol.Secret(bad)); err == nil {
			t.Errorf("%q is a key", bad)
		}
	}
}
