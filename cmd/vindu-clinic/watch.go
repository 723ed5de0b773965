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
	rootNotice   = 3 * 365 * 24 * time.Hour // a terminal that is away for so long still hears of the next one
)

// watchExpiry says once a day that the issuing CA or the root is about to end, from expiryNotice or rootNotice before.
func watchExpiry(ctx context.Context, issuing, root time.Time, log *slog.Logger) error {
	tick := time.NewTicker(expiryCheck)
	defer tick.Stop()
	for {
		if left := time.Until(issuing); left < expiryNotice {
			log.Error("the clinic's issuing CA is about to end, and with it every terminal's certificate: run vindu-clinic renew-ca and restart the server", "ends", issuing, "days_left", int(left/(24*time.Hour)))
		}
		if left := time.Until(root); left < rootNotice {
			log.Error("the clinic's root is about to end: run vindu-clinic renew-ca -root and restart the server, so that terminals hear of the next one", "ends", root, "days_left", int(left/(24*time.Hour)))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
