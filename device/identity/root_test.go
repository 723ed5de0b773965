package identity_test

import (
	"crypto/tls"
	"net"
	"slices"
	"testing"
	"time"

	"vindu/device/identity"
	"vindu/device/identity/identitytest"
	"vindu/device/state/statetest"
	"vindu/protocol"
)

// reaches tells whether the terminal accepts the server of a clinic, and that the terminal's own certificate.
func reaches(t *testing.T, i *identity.Identity, c *identitytest.Clinic) error {
	t.Helper()
	near, far := net.Pipe()
	defer near.Close()
	done := make(chan error, 1)
	go func() {
		defer far.Close()
		config := c.Server()
		config.ClientAuth = tls.RequireAnyClientCert // which root terminals hang below is the clinic's to know
		done <- tls.Server(far, config).HandshakeContext(t.Context())
	}()
	err := tls.Client(near, i.TLS()).HandshakeContext(t.Context())
	near.Close()
	<-done
	return err
}

// TestRootFollows: a terminal pins the root that its own one certified, at whatever point it hears of it, and goes on with the certificate it has.
func TestRootFollows(t *testing.T) {
	for _, renewedFirst := range []bool{false, true} {
		disk, clinic := statetest.New(), identitytest.New(t, time.Now)
		i := load(t, disk)
		if err := i.Keep(clinic.Grant(address, i.Signer().Public())); err != nil {
			t.Fatal(err)
		}
		next := clinic.Succeeded()
		if err := reaches(t, i, next); err != nil {
			t.Fatalf("the clinic with its new root is refused before it was heard of: %v", err)
		}
		if renewedFirst {
			if err := i.KeepChain(next.Issue(i.Signer().Public())); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := i.KeepSettings(next.Settings()); err != nil {
			t.Fatal(err)
		}
		steps := disk.Steps()
		if _, err := i.KeepSettings(next.Settings()); err != nil || disk.Steps() != steps {
			t.Errorf("told again: %v, %d writes", err, disk.Steps()-steps)
		}
		i = load(t, disk.After(statetest.Everything))
		if g := i.Grant(); g == nil || !g.Root.Equal(next.Root) || len(g.Settings.Roots) != 0 {
			t.Fatalf("renewed first %v: after a restart %+v", renewedFirst, g)
		}
		if err := reaches(t, i, next); err != nil {
			t.Errorf("the clinic is refused: %v", err)
		}
		if err := reaches(t, i, identitytest.New(t, time.Now)); err == nil {
			t.Error("another clinic is accepted")
		}
		if err := i.KeepChain(next.Issue(i.Signer().Public())); err != nil {
			t.Errorf("renewed after the change: %v", err)
		}
	}
}

func TestRootRefused(t *testing.T) {
	clinic := identitytest.New(t, time.Now)
	next, foreign := clinic.Succeeded().Settings().Roots, identitytest.New(t, time.Now).Succeeded().Settings().Roots
	ended := clinic.At(func() time.Time { return time.Now().AddDate(-30, 0, 0) }).Succeeded().Settings().Roots
	for name, roots := range map[string][][]byte{
		"another clinic's":                      foreign,
		"certified, but another":                {foreign[0], next[1], next[2]},
		"not certified":                         {next[0], next[0], next[2]},
		"a terminal's certificate":              {clinic.Issue(clinic.Authority.Public())[0].Raw, next[1], next[2]},
		"ended":                                 ended,
		"damaged":                               {{1}, next[1], next[2]},
		"the way back is not from the new root": {next[0], next[1], foreign[2]},
	} {
		i := clinic.Enrolled(address)
		before := i.Grant()
		s := clinic.Settings()
		s.Roots = slices.Clone(roots)
		if _, err := i.KeepSettings(s); protocol.CodeOf(err) != protocol.IdentityOtherClinic || i.Grant() != before {
			t.Errorf("%s: %v", name, err)
		}
	}
}
