package main

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"vindu/protocol"
)

// Revocation acts within 5 s, also for twenty stolen terminals in calls that do not prove their end.
func TestRevokedTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		var cut atomic.Int32
		watch := func(_ context.Context, revoked func(protocol.KeyHash)) error {
			for i := range 20 {
				revoked(protocol.KeyHash{byte(i)})
			}
			return nil
		}
		err := watchRevoked(t.Context(), watch, func(protocol.KeyHash) {
			time.Sleep(time.Second) // allowed: time in a bubble of synctest is the test's own
			cut.Add(1)
		})
		if err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); cut.Load() != 20 || took > 5*time.Second {
			t.Errorf("%d of 20 were cut off after %v", cut.Load(), took)
		}
	})
}

func TestExpiryIsAnnounced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		ctx, cancel := context.WithTimeout(t.Context(), 3*expiryCheck+time.Hour)
		defer cancel()
		if err := watchExpiry(ctx, time.Now().Add(expiryNotice+2*expiryCheck-time.Minute), time.Now().Add(rootNotice+expiryCheck-time.Minute), slog.New(slog.NewTextHandler(&out, nil))); err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(out.String(), "root is about to end"); n != 3 {
			t.Errorf("said of the root %d times in three days, want on all but the first look: %s", n, out.String())
		}
		if n := strings.Count(out.String(), "issuing CA is about to end"); n != 2 {
			t.Errorf("said %d times in three days, want twice, on the last two: %s", n, out.String())
		}
	})
}
