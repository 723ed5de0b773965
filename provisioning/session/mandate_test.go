package session_test

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"vindu/protocol"
	"vindu/provisioning/session"
	"vindu/provisioning/session/sessiontest"
)

func TestMandates(t *testing.T) {
	const hour = time.Hour
	for _, c := range []struct {
		name   string
		change func(b *bench)
		want   protocol.Code // "": it is let in
	}{
		{"valid", func(*bench) {}, ""},
		{"none", func(b *bench) { b.who.Mandate = nil }, protocol.AuthTechnician},
		{"expired", func(b *bench) { b.mandate(-8*hour, -time.Second) }, protocol.AuthTechnician},
		{"expired by a floor of the time", func(b *bench) { b.mandate(-8*hour, -time.Second); b.host.TimeKnown = false }, protocol.AuthTechnician},
		{"still to begin", func(b *bench) { b.mandate(hour, 2*hour) }, protocol.AuthTechnician},
		{"still to begin, but the terminal knows no time", func(b *bench) { b.mandate(hour, 2*hour); b.host.TimeKnown = false }, ""},
		{"of another clinic", func(b *bench) {
			b.who.Mandate = sessiontest.Mandate(sessiontest.Key(), b.who.Key, time.Now().Add(-hour), time.Now().Add(hour))
		}, protocol.AuthTechnician},
		{"for another laptop", func(b *bench) {
			b.who.Mandate = sessiontest.Mandate(b.host.Clinic, sessiontest.Key(), time.Now().Add(-hour), time.Now().Add(hour))
		}, protocol.AuthTechnician},
		{"by the laptop itself", func(b *bench) {
			b.who.Mandate = sessiontest.Mandate(b.who.Key, b.who.Key, time.Now().Add(-hour), time.Now().Add(hour))
		}, protocol.AuthTechnician},
		{"withdrawn", func(b *bench) { b.takeBack() }, protocol.AuthWithdrawn},
		{"another one withdrawn", func(b *bench) { b.host.TakenBack = []protocol.Nonce{protocol.NewNonce()} }, ""},
		{"a bit turned", func(b *bench) { b.who.Mandate[len(b.who.Mandate)-1] ^= 1 }, protocol.AuthTechnician},
		{"of another kind", func(b *bench) {
			m, err := protocol.Sign(&protocol.Clock{Version: 1, Nonce: protocol.NewNonce(), At: 1}, b.host.Clinic)
			if err != nil {
				b.t.Fatal(err)
			}
			b.who.Mandate = m
		}, protocol.AuthTechnician},
		{"taken out of use", func(b *bench) { b.host.State = session.Returned }, protocol.IdentityReturned},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				b.setUp()
				b.presses(time.Second)
				c.change(b)
				b.serve()
				err := b.open(func(ctx context.Context, c *session.Client) error { return c.Authorise(ctx, nil) })
				if protocol.CodeOf(err) != c.want {
					t.Errorf("got %v with code %q, want %q", err, protocol.CodeOf(err), c.want)
				}
				if prompted := b.host.Prompts > 0; prompted != (c.want == "") || len(b.did()) > 0 {
					t.Errorf("prompted %v, did %v", prompted, b.did())
				}
			})
		})
	}
}

func (b *bench) mandate(from, to time.Duration) {
	b.who.Mandate = sessiontest.Mandate(b.host.Clinic, b.who.Key, time.Now().Add(from), time.Now().Add(to))
}

// everything asks for all that there is, and returns the codes of the refusals by request.
func everything(ctx context.Context, c *session.Client) map[string]protocol.Code {
	one := func(err error) protocol.Code { return protocol.CodeOf(err) }
	two := func(_ any, err error) protocol.Code { return protocol.CodeOf(err) }
	h := record()
	h.Terminal, h.At = c.Terminal(), protocol.At(time.Now())
	return map[string]protocol.Code{
		"info": two(c.Info(ctx)), "network.set": one(c.SetNetwork(ctx, wifi)), "network.get": two(c.Network(ctx)), "network.scan": two(c.ScanNetworks(ctx)),
		"language.set": one(c.SetLanguage(ctx, "en")), "enrol": one(c.StartEnrol(ctx, voucher())), "enrol.status": two(c.EnrolStatus(ctx)),
		"csr": two(c.CSR(ctx)), "certificate.install": one(c.Install(ctx, &session.Grant{})), "check.start": two(c.StartCheck(ctx, session.CheckOptions{})),
		"check.status": two(c.CheckStatus(ctx)), "check.stop": one(c.StopCheck(ctx)), "handover": two(c.HandOver(ctx, h)),
	}
}

func TestNobodyPresses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.setUp()
		b.serve()
		err := b.open(func(ctx context.Context, c *session.Client) error {
			prompts, began := 0, time.Now()
			if err := c.Authorise(ctx, func() { prompts++ }); protocol.CodeOf(err) != protocol.AuthButton || time.Since(began) > session.ButtonTime+5*time.Second {
				t.Errorf("got %v after %v", err, time.Since(began))
			}
			if prompts != 1 || b.host.Prompts != 1 {
				t.Errorf("prompted %d times here, %d there", prompts, b.host.Prompts)
			}
			for request, code := range everything(ctx, c) {
				if want := map[bool]protocol.Code{false: protocol.AuthButton}[request == "check.stop"]; code != want {
					t.Errorf("%s: code %q", request, code)
				}
			}
			b.presses(time.Second)
			return c.Authorise(ctx, nil) // and a second time somebody does
		})
		if err != nil || len(b.did()) > 0 {
			t.Errorf("%v; did %v", err, b.did())
		}
	})
}

// A session from the factory may only ask how its enrolment went once the terminal is set up; what opens a camera needs that always.
func TestSetUpWithinTheSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.serve()
		err := b.open(func(ctx context.Context, c *session.Client) error {
			if _, err := c.StartCheck(ctx, session.CheckOptions{}); protocol.CodeOf(err) != protocol.IdentityNone {
				t.Errorf("a check from the factory: %v", err)
			}
			if err := c.Authorise(ctx, nil); err != nil || b.host.Prompts != 0 {
				t.Errorf("a press from the factory: %v", err)
			}
			if err := c.Enrol(ctx, voucher()); err != nil {
				return err
			}
			for request, code := range everything(ctx, c) {
				if open := request == "info" || request == "enrol.status" || request == "check.stop"; (code == "") != open || (!open && code != protocol.AuthButton) {
					t.Errorf("%s: code %q", request, code)
				}
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
		if want := []string{"Enrol", "Info"}; !slices.Equal(b.did(), want) {
			t.Errorf("did %v, want %v", b.did(), want)
		}
	})
}

func TestMandateEndsDuringTheSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.setUp()
		b.presses(time.Second)
		b.mandate(-time.Hour, 5*time.Minute)
		b.serve()
		err := b.open(func(ctx context.Context, c *session.Client) error {
			if err := c.Authorise(ctx, nil); err != nil {
				return err
			}
			if err := c.SetLanguage(ctx, "en"); err != nil {
				return err
			}
			<-time.After(6 * time.Minute)
			return c.SetLanguage(ctx, "nn")
		})
		if protocol.CodeOf(err) != protocol.AuthTechnician || b.host.Language != "en" {
			t.Errorf("got %v; the screen speaks %s", err, b.host.Language)
		}
	})
}

// takeBack has the terminal learn that the laptop's mandate was withdrawn.
func (b *bench) takeBack() {
	b.t.Helper()
	_, m, err := protocol.ParseMandate(protocol.MandateText(b.who.Mandate))
	if err != nil {
		b.t.Fatal(err)
	}
	b.host.Lock()
	defer b.host.Unlock()
	b.host.TakenBack = append(b.host.TakenBack, m.ID)
}

func TestMandateWithdrawnDuringTheSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.setUp()
		b.presses(time.Second)
		b.serve()
		err := b.open(func(ctx context.Context, c *session.Client) error {
			if err := c.Authorise(ctx, nil); err != nil {
				return err
			}
			if err := c.SetLanguage(ctx, "en"); err != nil {
				return err
			}
			b.takeBack()
			return c.SetLanguage(ctx, "nn")
		})
		if protocol.CodeOf(err) != protocol.AuthWithdrawn || b.host.Language != "en" {
			t.Errorf("got %v; the screen speaks %s", err, b.host.Language)
		}
	})
}
