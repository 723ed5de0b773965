package identity_test

import (
	"bytes"
	"testing"
	"time"

	"vindu/device/identity"
	"vindu/device/identity/identitytest"
	"vindu/device/state/statetest"
	"vindu/protocol"
)

// believer is a terminal that has a trust and a policy, each with the serial number 5.
func believer(t *testing.T) (*statetest.Disk, *identitytest.Clinic, *identity.Identity) {
	t.Helper()
	disk, clinic := statetest.New(), identitytest.New(t, time.Now)
	i := load(t, disk)
	clinic.Trust, clinic.Policy = clinic.SignTrust(5, clinic), clinic.SignPolicy(5, i.Key())
	if err := i.Keep(clinic.Grant(address, i.Signer().Public())); err != nil {
		t.Fatal(err)
	}
	if i.Trust() == nil || i.Trust().Serial != 5 || i.Policy() == nil || i.Policy().Serial != 5 {
		t.Fatalf("after enrolment %+v, %+v", i.Trust(), i.Policy())
	}
	return disk, clinic, i
}

// TestFirstTrustLater: a terminal that was set up before there was any trust takes the first one over by the key that it pinned.
func TestFirstTrustLater(t *testing.T) {
	disk, clinic := statetest.New(), identitytest.New(t, time.Now)
	i := load(t, disk)
	if err := i.Keep(clinic.Grant(address, i.Signer().Public())); err != nil || i.Trust() != nil || i.Policy() != nil {
		t.Fatalf("%v, %v, %v", err, i.Trust(), i.Policy())
	}
	clinic.Trust, clinic.Policy = clinic.SignTrust(1, clinic), clinic.SignPolicy(1, i.Key())
	if refused, err := i.KeepSettings(clinic.Settings()); err != nil || len(refused) != 0 {
		t.Fatal(refused, err)
	}
	steps := disk.Steps()
	if refused, err := i.KeepSettings(clinic.Settings()); err != nil || len(refused) != 0 || disk.Steps() != steps {
		t.Errorf("told again: %v, %v, %d writes", refused, err, disk.Steps()-steps)
	}
	clinic.Trust, clinic.Policy = clinic.SignTrust(1, clinic), clinic.SignPolicy(1, i.Key()) // the same, signed anew
	if refused, err := i.KeepSettings(clinic.Settings()); err != nil || len(refused) != 0 || disk.Steps() != steps {
		t.Errorf("signed anew: %v, %v, %d writes", refused, err, disk.Steps()-steps)
	}
	clinic.Trust, clinic.Policy = nil, nil // a clinic that forgets them takes nothing away
	if refused, err := i.KeepSettings(clinic.Settings()); err != nil || len(refused) != 0 {
		t.Error(refused, err)
	}
	i = load(t, disk.After(statetest.Everything))
	if i.Trust() == nil || i.Trust().Serial != 1 || i.Policy() == nil || i.Policy().Serial != 1 {
		t.Errorf("after a restart %+v, %+v", i.Trust(), i.Policy())
	}
}

// TestRefusedTrustAndPolicy: what is not proven, or goes back, changes nothing, is told with its code, and does not keep the rest from being kept.
func TestRefusedTrustAndPolicy(t *testing.T) {
	other := identitytest.New(t, time.Now)
	for _, test := range []struct {
		name   string
		code   protocol.Code
		change func(s *protocol.Settings, c *identitytest.Clinic, i *identity.Identity)
	}{
		{"trust of another clinic", protocol.AuthTrust, func(s *protocol.Settings, _ *identitytest.Clinic, _ *identity.Identity) {
			s.Trust = other.SignTrust(6, other)
		}},
		{"own trust, signed by another clinic", protocol.AuthTrust, func(s *protocol.Settings, c *identitytest.Clinic, _ *identity.Identity) {
			s.Trust = c.SignTrust(6, other)
		}},
		{"trust in a key, signed by itself", protocol.AuthTrust, func(s *protocol.Settings, c *identitytest.Clinic, _ *identity.Identity) {
			next := c.NewAuthority()
			s.Trust = next.SignTrust(6, next)
		}},
		{"trust in a key, which settings name too", protocol.AuthTrust, func(s *protocol.Settings, c *identitytest.Clinic, _ *identity.Identity) {
			next := c.NewAuthority()
			s.Trust, s.Authorities = next.SignTrust(6, next), next.Settings().Authorities
		}},
		{"trust signed by the clinic's server", protocol.AuthTrust, func(s *protocol.Settings, c *identitytest.Clinic, _ *identity.Identity) {
			server := *c
			server.Authority = c.Service
			s.Trust = c.SignTrust(6, &server)
		}},
		{"older trust", protocol.AuthTrust, func(s *protocol.Settings, c *identitytest.Clinic, _ *identity.Identity) { s.Trust = c.SignTrust(4, c) }},
		{"another trust with the same number", protocol.AuthTrust, func(s *protocol.Settings, c *identitytest.Clinic, _ *identity.Identity) {
			s.Trust = c.SignTrust(5, c, func(t *protocol.Trust) { t.RelyingParty.Origins = []string{"https://evil.clinic.example"} })
		}},
		{"damaged trust", protocol.AuthTrust, func(s *protocol.Settings, _ *identitytest.Clinic, _ *identity.Identity) {
			s.Trust = bytes.Clone(s.Trust)
			s.Trust[len(s.Trust)/2] ^= 1
		}},
		{"policy in the trust's place", protocol.AuthTrust, func(s *protocol.Settings, c *identitytest.Clinic, i *identity.Identity) {
			s.Trust = c.SignPolicy(6, i.Key())
		}},
		{"policy of another clinic", protocol.AuthPolicy, func(s *protocol.Settings, _ *identitytest.Clinic, i *identity.Identity) {
			s.Policy = other.SignPolicy(6, i.Key())
		}},
		{"policy signed by the clinic's server", protocol.AuthPolicy, func(s *protocol.Settings, c *identitytest.Clinic, i *identity.Identity) {
			server := *c
			server.Authority = c.Service
			s.Policy = server.SignPolicy(6, i.Key())
		}},
		{"policy of another terminal", protocol.AuthPolicy, func(s *protocol.Settings, c *identitytest.Clinic, _ *identity.Identity) {
			s.Policy = c.SignPolicy(6, other.Enrolled(address).Key())
		}},
		{"older policy", protocol.AuthPolicy, func(s *protocol.Settings, c *identitytest.Clinic, i *identity.Identity) {
			s.Policy = c.SignPolicy(4, i.Key())
		}},
		{"another policy with the same number", protocol.AuthPolicy, func(s *protocol.Settings, c *identitytest.Clinic, i *identity.Identity) {
			s.Policy = c.SignPolicy(5, i.Key(), func(p *protocol.Policy) { p.Home = "18" })
		}},
		{"trust in the policy's place", protocol.AuthPolicy, func(s *protocol.Settings, c *identitytest.Clinic, _ *identity.Identity) { s.Policy = c.SignTrust(6, c) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			disk, clinic, i := believer(t)
			trust, policy := i.Trust(), i.Policy()
			s := clinic.Settings()
			test.change(s, clinic, i)
			s.Home = "Home 18"
			refused, err := i.KeepSettings(s)
			if err != nil || len(refused) != 1 || protocol.CodeOf(refused[0]) != test.code {
				t.Errorf("refused %v, %v; want %s", refused, err, test.code)
			}
			if i.Trust() != trust || i.Policy() != policy || i.Settings().Home != "Home 18" || !bytes.Equal(i.Authorities()[0], clinic.Settings().Authorities[0]) {
				t.Errorf("it has %+v, %+v, %+v", i.Trust(), i.Policy(), i.Settings())
			}
			i = load(t, disk.After(statetest.Everything))
			if refused, err := i.KeepSettings(clinic.Settings()); err != nil || len(refused) != 0 || i.Trust().Serial != 5 || i.Policy().Serial != 5 {
				t.Errorf("after a restart: %v, %v, %+v, %+v", refused, err, i.Trust(), i.Policy())
			}
		})
	}
}

// TestRefusedAtEnrolment: a first trust and policy that the pinned key has not signed are not there, and are told of with the next settings.
func TestRefusedAtEnrolment(t *testing.T) {
	clinic, other := identitytest.New(t, time.Now), identitytest.New(t, time.Now)
	i := load(t, statetest.New())
	clinic.Trust, clinic.Policy = other.SignTrust(1, other), other.SignPolicy(1, i.Key())
	if err := i.Keep(clinic.Grant(address, i.Signer().Public())); err != nil || i.Trust() != nil || i.Policy() != nil {
		t.Fatalf("%v: %+v, %+v", err, i.Trust(), i.Policy())
	}
	if refused, err := i.KeepSettings(clinic.Settings()); err != nil || len(refused) != 2 || i.Trust() != nil || i.Policy() != nil {
		t.Errorf("%v, %v", refused, err)
	}
}

// TestAuthorityFollows: an authorisation key names the one that follows it. From then on that one holds, and the one before no more; what the one before
// signed while it held stays good.
func TestAuthorityFollows(t *testing.T) {
	disk, before, i := believer(t)
	next := before.NewAuthority()
	next.Trust = next.SignTrust(6, before)
	s := next.Settings()
	s.Authorities = before.Settings().Authorities // what is not signed says nothing any more
	if refused, err := i.KeepSettings(s); err != nil || len(refused) != 0 {
		t.Fatal(refused, err)
	}
	steps := disk.Steps()
	if refused, err := i.KeepSettings(next.Settings()); err != nil || len(refused) != 0 || disk.Steps() != steps {
		t.Errorf("told again: %v, %v, %d writes", refused, err, disk.Steps()-steps)
	}
	i = load(t, disk.After(statetest.Everything))
	if i.Trust().Serial != 6 || i.Policy() == nil || i.Policy().Serial != 5 || !bytes.Equal(i.Authorities()[0], next.Settings().Authorities[0]) ||
		!bytes.Equal(i.Settings().Authorities[0], next.Settings().Authorities[0]) {
		t.Fatalf("after a restart %+v, %+v", i.Trust(), i.Policy())
	}
	if refused, err := i.KeepSettings(next.Settings()); err != nil || len(refused) != 0 {
		t.Errorf("told again after a restart: %v, %v", refused, err)
	}
	for name, by := range map[string]*identitytest.Clinic{"before": before, "next": next} {
		s := next.Settings()
		s.Trust, s.Policy = next.SignTrust(7, by), by.SignPolicy(6, i.Key())
		refused, err := i.KeepSettings(s)
		if want := map[string]int{"before": 2, "next": 0}[name]; err != nil || len(refused) != want {
			t.Errorf("what the key %s has signed: %v, %v", name, refused, err)
		}
		if by == next && (i.Trust().Serial != 7 || i.Policy().Serial != 6) {
			t.Errorf("what the next key has signed is not there: %+v, %+v", i.Trust(), i.Policy())
		}
	}
}

// TestTrustPowerCut: old or new, both of them, never none.
func TestTrustPowerCut(t *testing.T) {
	for _, loss := range statetest.Losses {
		for cut, done := 0, false; !done; cut++ {
			disk, clinic, i := believer(t)
			next := clinic.NewAuthority()
			next.Trust, next.Policy = next.SignTrust(6, clinic), next.SignPolicy(6, i.Key())
			disk.CutBefore(disk.Steps() + cut)
			_, err := i.KeepSettings(next.Settings())
			done = err == nil
			found := load(t, disk.After(loss))
			if found.Trust() == nil || found.Policy() == nil || found.Trust().Serial != found.Policy().Serial || done && found.Trust().Serial != 6 {
				t.Errorf("%s lost, cut before step %d: %+v, %+v", loss, cut, found.Trust(), found.Policy())
			}
		}
	}
}

// TestPolicyOfTheKeyBefore: it is good until the clinic has signed one for the key that followed.
func TestPolicyOfTheKeyBefore(t *testing.T) {
	disk, clinic, i := believer(t)
	next, err := identity.FileKeys{}.Next(openDir(t, disk))
	if err != nil {
		t.Fatal(err)
	}
	if err := i.Turn(next.Signer().Public(), clinic.Issue(next.Signer().Public())); err != nil {
		t.Fatal(err)
	}
	turned := load(t, disk.After(statetest.Everything))
	if turned.Key() == i.Key() {
		t.Fatal("it has the key before")
	}
	if turned.Trust().Serial != 5 || turned.Policy() == nil || turned.Policy().Terminal != i.Key() {
		t.Fatalf("after the turn %+v", turned.Policy())
	}
	for _, step := range []struct {
		name    string
		policy  []byte
		refused int
		serial  uint64
	}{
		{"the same again", clinic.Policy, 0, 5},
		{"an older one for the new key", clinic.SignPolicy(4, turned.Key()), 1, 5},
		{"a newer one for the key before", clinic.SignPolicy(6, i.Key()), 1, 5},
		{"the same one for the new key", clinic.SignPolicy(5, turned.Key()), 0, 5},
		{"that of the key before again", clinic.Policy, 1, 5},
		{"a newer one", clinic.SignPolicy(6, turned.Key()), 0, 6},
	} {
		s := clinic.Settings()
		s.Policy = step.policy
		if refused, err := turned.KeepSettings(s); err != nil || len(refused) != step.refused || turned.Policy().Serial != step.serial {
			t.Errorf("%s: %v, %v, %+v", step.name, refused, err, turned.Policy())
		}
	}
	if turned.Policy().Terminal != turned.Key() {
		t.Error("the policy is still that of the key before")
	}
}

// TestFetchNow: the settings come at once when the clinic says so, and who says so over and over gets them every few seconds only. What is refused is told.
func TestFetchNow(t *testing.T) {
	renewing(t, true, func(t *testing.T, r *identity.Renewer, c *clinicLine) {
		pass(time.Minute)
		other := identitytest.New(t, time.Now)
		own := *c.clinic.Load()
		own.Trust, own.Policy = own.SignTrust(2, &own), other.SignPolicy(2, c.i.Key())
		c.clinic.Store(&own)
		before := len(c.fetched.all())
		r.FetchNow()
		pass(time.Second)
		if n := len(c.fetched.all()) - before; n != 1 {
			t.Errorf("fetched %d times", n)
		}
		if c.i.Trust() == nil || len(c.refused) != 1 || protocol.CodeOf(<-c.refused) != protocol.AuthPolicy {
			t.Errorf("trust %+v", c.i.Trust())
		}
		before = len(c.fetched.all())
		for range 600 {
			r.FetchNow()
			pass(100 * time.Millisecond)
		}
		if n := len(c.fetched.all()) - before; n < 10 || n > 13 {
			t.Errorf("fetched %d times in a minute", n)
		}
		if n := len(c.renewals.all()); n != 0 {
			t.Errorf("renewed %d times", n)
		}
	})
}
