package broker

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// Strangers' broken handshakes do not fill the log, and what comes later is still said.
func TestLogIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b bytes.Buffer
		l := newLogger(slog.New(slog.NewTextHandler(&b, nil)), nil)
		for range 10_000 {
			l.Errorf("%s - TLS handshake error: %v", "client", "EOF")
		}
		if n := strings.Count(b.String(), "handshake"); n != 50*complaints {
			t.Errorf("%d lines", n)
		}
		time.Sleep(10 * time.Second) // allowed: of the bubble
		l.Warnf("something else")
		if !strings.Contains(b.String(), "something else") {
			t.Error("what came later is not in the log")
		}
	})
}
