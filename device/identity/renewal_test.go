package identity_test

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"vindu/device/identity"
	"vindu/device/identity/identitytest"
	"vindu/device/state/statetest"
	"vindu/protocol"
)

var quiet = slog.New(slog.DiscardHandler)

// clinicLine is the clinic as the renewer sees it.
type clinicLine struct {
	i        *identity.Identity
	clinic   atomic.Pointer[identitytest.Clinic]
	down     atomic.Bool
	mute     atomic.Bool // tells no settings
	tries    atomic.Int64
	renewals instants
	fetched  instants
	refused  chan error // what of the settings was
}

// instants can be added to and read by several goroutines.
type instants struct {
	mu   sync.Mutex
	list []time.Time
}

func (i *instants) add() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.list = append(i.list, time.Now())
}

func (i *instants) all() []time.Time {
	i.mu.Lock()
	defer i.mu.Unlock()
	return slices.Clone(i.list)
}

var errDown = protocol.WithCode(protocol.LinkUnreachable, errors.New("no route"))

func (c *clinicLine) Renew(_ context.Context, g *identity.Grant) ([]*x509.Certificate, error) {
	c.tries.Add(1)
	if c.down.Load() {
		return nil, errDown
	}
	c.renewals.add()
	return c.clinic.Load().Issue(g.Chain[0].PublicKey), nil
}

func (c *clinicLine) Replace(_ context.Context, _ *identity.Grant, next crypto.Signer) ([]*x509.Certificate, error) {
	c.tries.Add(1)
	if c.down.Load() {
		return nil, errDown
	}
	return c.clinic.Load().Issue(next.Public()), nil
}

func (c *clinicLine) Time(context.Context, *identity.Grant) (time.Time, time.Duration, error) {
	return time.Now(), 0, nil
}

func (c *clinicLine) Settings(context.Context, *identity.Grant) (*protocol.Settings, time.Duration, error) {
	c.tries.Add(1)
	if c.down.Load() || c.mute.Load() {
		return nil, 0, errDown
	}
	c.fetched.add()
	return c.clinic.Load().Settings(), 100 * time.Millisecond, nil
}

// renewing runs f beside a renewer, in a bubble whose days pass at once.
func renewing(t *testing.T, enrolled bool, f func(t *testing.T, r *identity.Renewer, c *clinicLine)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		clinic := identitytest.New(t, time.Now)
		line := new(clinicLine)
		line.clinic.Store(clinic)
		if enrolled {
			line.i = clinic.Enrolled(address)
		} else {
			line.i = load(t, statetest.New())
		}
		r := identity.NewRenewer(line.i, line, quiet)
		line.refused = make(chan error, 100)
		r.Refused = func(err error) {
			select {
			case line.refused <- err:
			default:
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- r.Run(ctx) }()
		synctest.Wait()
		f(t, r, line)
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

const day = 24 * time.Hour

func pass(d time.Duration) {
	time.Sleep(d) // allowed: of the bubble
	synctest.Wait()
}

func TestRenewsFromDay20(t *testing.T) {
	renewing(t, true, func(t *testing.T, _ *identity.Renewer, c *clinicLine) {
		began := time.Now()
		pass(20*day - time.Hour)
		if len(c.renewals.all()) != 0 {
			t.Fatalf("renewed after %v", c.renewals.all()[0].Sub(began))
		}
		pass(2*day + 2*time.Hour)
		if len(c.renewals.all()) != 1 {
			t.Fatalf("renewed %d times by day 22", len(c.renewals.all()))
		}
		if until := c.i.Certificate().NotAfter; !until.After(began.Add(45 * day)) {
			t.Errorf("the new certificate is not in use: until %v", until)
		}
		pass(78 * day)
		if n := len(c.renewals.all()); n != 4 && n != 5 {
			t.Errorf("renewed %d times in 100 days", n)
		}
		if c.i.Condition() != "" {
			t.Errorf("condition %q", c.i.Condition())
		}
		if n := len(c.fetched.all()); n < 100*24*9/10 || n > 100*24*11/10 {
			t.Errorf("settings were fetched %d times in 100 days", n)
		}
	})
}

// TestSpread: a fleet that was set up on one day does not renew at one instant.
func TestSpread(t *testing.T) {
	clinic := identitytest.New(t, time.Now)
	c := clinic.Enrolled(address).Certificate()
	first, last := identity.RenewAt(c, 0), identity.RenewAt(c, 0.999)
	if first.Before(c.NotBefore.Add(20*day-time.Minute)) || last.Sub(first) < 17*time.Hour || last.After(c.NotBefore.Add(21*day-5*time.Hour)) {
		t.Errorf("renewals spread from %v to %v after the issue", first.Sub(c.NotBefore), last.Sub(c.NotBefore))
	}
}

// TestOffForAYear: the certificate has expired long ago, and renews as soon as the clinic is reached.
func TestOffForAYear(t *testing.T) {
	renewing(t, true, func(t *testing.T, _ *identity.Renewer, c *clinicLine) {
		c.down.Store(true)
		pass(365 * day)
		if c.i.Condition() != protocol.IdentityExpired {
			t.Errorf("condition %q", c.i.Condition())
		}
		if tries := c.tries.Load(); tries < 365*24/2 || tries > 365*24*3 {
			t.Errorf("%d tries in a year", tries)
		}
		c.down.Store(false)
		pass(time.Hour)
		if len(c.renewals.all()) != 1 || c.i.Condition() != "" {
			t.Errorf("%d renewals an hour later, condition %q", len(c.renewals.all()), c.i.Condition())
		}
	})
}

func TestRenewNow(t *testing.T) {
	renewing(t, true, func(t *testing.T, r *identity.Renewer, c *clinicLine) {
		r.RenewNow()
		synctest.Wait()
		if len(c.renewals.all()) != 1 {
			t.Errorf("renewed %d times", len(c.renewals.all()))
		}
		pass(day)
		if len(c.renewals.all()) != 1 {
			t.Errorf("renewed again: %d", len(c.renewals.all()))
		}
	})
}

// TestRenewNowWithoutSettings: that the settings cannot be fetched afterwards does not ask for another certificate with every retry.
func TestRenewNowWithoutSettings(t *testing.T) {
	renewing(t, true, func(t *testing.T, r *identity.Renewer, c *clinicLine) {
		c.mute.Store(true)
		pass(2 * time.Hour) // they are due
		r.RenewNow()
		pass(5 * time.Hour)
		if n := len(c.renewals.all()); n != 1 {
			t.Errorf("renewed %d times", n)
		}
	})
}

// TestRenewOverAndOver: the command to renew is not signed, and whoever repeats it gets no renewal for each.
func TestRenewOverAndOver(t *testing.T) {
	renewing(t, true, func(t *testing.T, r *identity.Renewer, c *clinicLine) {
		for _, down := range []bool{false, true} {
			c.down.Store(down)
			before := c.tries.Load()
			for range 600 {
				r.RenewNow()
				pass(time.Second)
			}
			if n := c.tries.Load() - before; n > 11 {
				t.Errorf("clinic down %v: %d tries in ten minutes", down, n)
			}
		}
		c.down.Store(false)
		before := len(c.renewals.all())
		r.RenewNow()
		pass(2 * time.Minute)
		if len(c.renewals.all()) == before {
			t.Error("not renewed within two minutes")
		}
	})
}

// TestEnrolledLater: Run waits for enrolment, and begins at once.
func TestEnrolledLater(t *testing.T) {
	renewing(t, false, func(t *testing.T, _ *identity.Renewer, c *clinicLine) {
		pass(3 * day)
		if n := c.tries.Load(); n != 0 {
			t.Errorf("%d tries without enrolment", n)
		}
		if err := c.i.Keep(c.clinic.Load().Grant(address, c.i.Signer().Public())); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if len(c.fetched.all()) != 1 {
			t.Errorf("settings were fetched %d times at once", len(c.fetched.all()))
		}
	})
}

// TestForeignAnswers: what the clinic may not change is refused, and renewal goes on trying.
func TestForeignAnswers(t *testing.T) {
	renewing(t, true, func(t *testing.T, r *identity.Renewer, c *clinicLine) {
		before := c.i.Grant()
		own := c.clinic.Swap(identitytest.New(t, time.Now))
		r.RenewNow()
		pass(day)
		if c.i.Grant() != before {
			t.Error("a foreign certificate or foreign settings were taken over")
		}
		c.clinic.Store(own)
		pass(2 * time.Hour)
		if c.i.Grant() == before {
			t.Error("not renewed after the clinic came back")
		}
	})
}

// TestTold: the clinic's time is asked for first, and hourly; while it cannot be learnt nothing else is asked for. Whoever
// asked hears of a renewal.
func TestTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		clinic := identitytest.New(t, time.Now)
		line := &clinicLine{i: clinic.Enrolled(address)}
		line.clinic.Store(clinic)
		r := identity.NewRenewer(line.i, line, quiet)
		var unknown atomic.Bool
		unknown.Store(true)
		var asked, renewed atomic.Int64
		r.Time = func(context.Context) error {
			if asked.Add(1); unknown.Load() {
				return errDown
			}
			return nil
		}
		r.Renewed = func() { renewed.Add(1) }
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- r.Run(ctx) }()
		r.RenewNow()
		pass(30 * time.Second)
		if asked.Load() < 2 || line.tries.Load() != 0 {
			t.Errorf("asked for the time %d times, for other things %d times", asked.Load(), line.tries.Load())
		}
		unknown.Store(false)
		pass(time.Minute)
		asked.Store(0)
		pass(10 * time.Hour)
		cancel()
		if err := <-done; err != nil || asked.Load() < 9 || asked.Load() > 11 || renewed.Load() != 1 {
			t.Errorf("asked for the time %d times in ten hours, renewed %d times, %v", asked.Load(), renewed.Load(), err)
		}
	})
}
