package identity

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"vindu/protocol"
)

// Clinic is what renewal needs of the clinic; package provisioning is its implementation.
type Clinic interface {
	// Renew asks for a new certificate for the same key, authenticated by the current one, which may have expired.
	Renew(ctx context.Context, g *Grant) ([]*x509.Certificate, error)
	// Time returns the clinic's time as it signed it for this question, and what the round trip took.
	Time(ctx context.Context, g *Grant) (time.Time, time.Duration, error)
	// Replace asks for a certificate for the key of next, which is to replace the terminal's, authenticated by the current certificate.
	Replace(ctx context.Context, g *Grant, next crypto.Signer) ([]*x509.Certificate, error)
	// Settings fetches the settings, with the time that the round trip took.
	Settings(ctx context.Context, g *Grant) (*protocol.Settings, time.Duration, error)
}

// When a renewal happens, and how often the clinic's time is asked for.
const (
	renewAfter   = 2.0 / 3   // of the certificate's life: day 20 of 30
	renewSpread  = 1.0 / 40  // of its life, at random on top: 18 hours of 30 days, so that a fleet set up in one day does not renew in one minute, and nine days are left for a clinic that is away
	refreshEvery = time.Hour // for the clock: a wrong one is healed within the hour
	retryFirst   = 10 * time.Second
	retryMost    = time.Hour
	fetchedEvery = 5 * time.Second // the settings, when the clinic says that there are new ones: that is not signed either
	askedEvery   = time.Minute     // a command to renew is not signed: repeated, it must not wear the storage out or keep the link restarting
)

// Renewer keeps the certificate fresh, and the clock compared with the clinic's.
type Renewer struct {
	Identity *Identity
	Clinic   Clinic
	// Time asks for the clinic's time (package clock), before anything that is due is judged by it; if it fails nothing else is asked for. nil: nobody does.
	Time func(ctx context.Context) error
	// Renewed is called after each renewal; nil if nobody wants to know.
	Renewed func()
	Log     *slog.Logger
	// Refused is told of each trust or policy that came with settings and was not taken over: err has the code. nil: nobody.
	Refused func(err error)
	// Rotation replaces the key when the clinic orders it; nil: never.
	Rotation *Rotation
	// Every is how often the time and the settings are asked for; 0 means hourly.
	Every time.Duration

	now   chan struct{}
	fetch chan struct{}
}

// NewRenewer returns a renewer for Run.
func NewRenewer(i *Identity, clinic Clinic, log *slog.Logger) *Renewer {
	return &Renewer{Identity: i, Clinic: clinic, Log: log, now: make(chan struct{}, 1), fetch: make(chan struct{}, 1)}
}

// RenewNow asks Run to renew at once (protocol.CommandRenew).
func (r *Renewer) RenewNow() {
	select {
	case r.now <- struct{}{}:
	default: // asked already
	}
}

// FetchNow asks Run to fetch the settings at once (protocol.CommandSettings), or a few seconds after the last time.
func (r *Renewer) FetchNow() {
	select {
	case r.fetch <- struct{}{}:
	default: // asked already
	}
}

// RenewAt returns when a certificate is due: after two thirds of its life, and then at an instant within a fortieth of its life
// that spread in [0,1) chooses.
func RenewAt(c *x509.Certificate, spread float64) time.Time {
	life := c.NotAfter.Sub(c.NotBefore)
	return c.NotBefore.Add(time.Duration((renewAfter + renewSpread*spread) * float64(life)))
}

// Run works until ctx ends and returns nil. While the terminal is not enrolled it waits.
func (r *Renewer) Run(ctx context.Context) error {
	if r.Every == 0 {
		r.Every = refreshEvery
	}
	spread := rand.Float64()
	var refreshed time.Time // by the monotonic clock
	failures := 0
	asked := false
	var obeyed, fetched time.Time // when that was last done at once, and settings were fetched at once
	for {
		changed := r.Identity.Changed()
		wait := r.Every
		if g := r.Identity.Grant(); g != nil {
			err := r.work(ctx, g, spread, &asked, &refreshed)
			if errors.Is(err, errTurned) {
				<-ctx.Done() // who holds this begins anew
			}
			if ctx.Err() != nil {
				return nil
			}
			if err != nil {
				// Full jitter from the second half of the bound on: soon is as good as later, all at once is not.
				bound := min(retryMost, retryFirst<<min(failures, 16))
				wait = bound/2 + rand.N(bound/2)
				failures++
				r.Log.Warn("certificate and settings are not up to date", "error", err, "code", protocol.CodeOf(err), "retry_in", wait.Round(time.Second))
			} else {
				failures = 0
				wait = r.rest(spread, refreshed)
			}
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-changed:
		case <-r.now:
			timer.Reset(askedEvery - time.Since(obeyed))
			select {
			case <-timer.C:
			case <-ctx.Done():
			}
			asked, obeyed = true, time.Now()
		case <-r.fetch:
			timer.Reset(fetchedEvery - time.Since(fetched))
			select {
			case <-timer.C:
			case <-ctx.Done():
			}
			refreshed, fetched = time.Time{}, time.Now()
		case <-ctx.Done():
			timer.Stop()
			return nil
		}
		timer.Stop()
	}
}

// rest returns how long nothing is due.
func (r *Renewer) rest(spread float64, refreshed time.Time) time.Duration {
	wait := r.Every*9/10 + rand.N(r.Every/5) - time.Since(refreshed) // spread, as terminals that started together ask together
	if c := r.Identity.Certificate(); c != nil {
		wait = min(wait, RenewAt(c, spread).Sub(r.Identity.now()))
	}
	return max(wait, time.Second)
}

// work renews and refreshes what is due. asked is obeyed once: what fails after the renewal asks for no other.
func (r *Renewer) work(ctx context.Context, g *Grant, spread float64, asked *bool, refreshed *time.Time) error {
	due := refreshed.IsZero() || time.Since(*refreshed) >= r.Every*9/10
	if due && r.Time != nil {
		if err := r.Time(ctx); err != nil {
			return err
		}
	}
	if *asked || !r.Identity.now().Before(RenewAt(g.Chain[0], spread)) {
		chain, err := r.Clinic.Renew(ctx, g)
		if err != nil {
			return r.refused(err)
		}
		if err := r.Identity.KeepChain(chain); err != nil {
			return fmt.Errorf("renew the certificate: %w", err)
		}
		*asked = false
		r.Log.Info("certificate renewed", "until", chain[0].NotAfter, "serial", chain[0].SerialNumber.Text(16))
		if r.Renewed != nil {
			r.Renewed()
		}
		if g = r.Identity.Grant(); g == nil {
			return nil
		}
	}
	if !due {
		return nil
	}
	settings, _, err := r.Clinic.Settings(ctx, g)
	if err != nil {
		return r.refused(err)
	}
	refused, err := r.Identity.KeepSettings(settings)
	for _, err := range refused {
		r.Log.Error("what the clinic's settings say is refused, the one before holds", "error", err, "code", protocol.CodeOf(err))
		if r.Refused != nil {
			r.Refused(err)
		}
	}
	if err != nil {
		return err
	}
	*refreshed = time.Now()
	if r.Rotation == nil {
		return nil
	}
	if g = r.Identity.Grant(); g == nil {
		return nil
	}
	return r.Rotation.answered(ctx, r.Identity, r.Clinic, g, settings.KeyOrder, r.Log)
}

func (r *Renewer) refused(err error) error {
	if r.Rotation == nil {
		return err
	}
	return r.Rotation.refused(r.Identity, err, r.Log)
}
