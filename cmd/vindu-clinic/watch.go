package main

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"vindu/protocol"
)

// revokedAtOnce bounds how many terminals are cut off at the same time. One after the other would break the promise of 5 s: a terminal in a
// call has a second to prove that it is over, and a stolen one takes it.
const revokedAtOnce = 32

// watchRevoked has revoked called for every key that watch tells of, and returns when watch and all calls have.
func watchRevoked(ctx context.Context, watch func(context.Context, func(protocol.KeyHash)) error, revoked func(protocol.KeyHash)) error {
	var group sync.WaitGroup
	defer group.Wait()
	places := make(chan struct{}, revokedAtOnce)
	return watch(ctx, func(key protocol.KeyHash) {
		places <- struct{}{}
		group.Go(func() {
			defer func() { <-places }()
			revoked(key)
		})
	})
}

const (
	expiryCheck  = 24 * time.Hour
	expiryNotice = 180 * 24 * time.Hour
)

// watchExpiry says once a day that the issuing CA is about to end, from expiryNotice before.
func watchExpiry(ctx context.Context, ends time.Time, log *slog.Logger) error {
	tick := time.NewTicker(expiryCheck)
	defer tick.Stop()
	for {
		if left := time.Until(ends); left < expiryNotice {
			log.Error("the clinic's issuing CA is about to end, and with it every terminal's certificate: plan for a new one", "ends", ends, "days_left", int(left/(24*time.Hour)))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
