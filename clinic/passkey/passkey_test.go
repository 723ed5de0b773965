package passkey

import (
	"bytes"
	"errors"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"vindu/clinic/audit"
	"vindu/clinic/register"
	"vindu/protocol"
	"vindu/protocol/passkeytest"
)

var kinds = []passkeytest.Kind{passkeytest.ES256, passkeytest.EdDSA, passkeytest.RS256}

// A person registers under an invitation, signs in and proves to be there still, with each kind of key (R10).
func TestPasskey(t *testing.T) {
	for _, kind := range kinds {
		t.Run(string(kind), func(t *testing.T) {
			o := newOffice(t)
			ctx := t.Context()
			a, token := passkeytest.New(t, kind), o.invite(o.anne)
			if i, err := o.Invited(ctx, token); err != nil || i.Person != o.anne || i.Path() != "/invited/"+token {
				t.Fatalf("%+v, %v", i, err)
			}
			c, err := o.BeginInvited(ctx, token)
			if err != nil {
				t.Fatal(err)
			}
			if c.AuthenticatorSelection.ResidentKey != "required" || c.AuthenticatorSelection.UserVerification != "required" || c.Attestation != "none" || len(c.Parameters) != 3 {
				t.Errorf("asks for %+v", c)
			}
			p, err := o.AddInvited(ctx, token, " Laptop ", creates(t, a, c))
			if err != nil || p.Person != o.anne || p.Name != "Laptop" || !bytes.Equal(p.ID, a.ID) {
				t.Fatalf("%+v, %v", p, err)
			}
			if got := o.changes(); !slices.Equal(got, []string{o.anne}) {
				t.Errorf("changed: %v", got)
			}
			credentials, err := o.Credentials(ctx, o.anne)
			made := []protocol.Credential{a.Credential(t)}
			made[0].Counter = 1
			if err != nil || !reflect.DeepEqual(credentials, made) {
				t.Fatalf("%x, %v, want %x", credentials, err, made)
			}
			for range 3 {
				p, err := o.SignIn(ctx, asserts(t, a, o.begun(), o.anne))
				if err != nil || p.Person != o.anne || p.Name != "Laptop" {
					t.Fatalf("%+v, %v", p, err)
				}
			}
			if used, err := o.Credentials(ctx, o.anne); err != nil || len(used) != 1 || used[0].Counter <= credentials[0].Counter {
				t.Errorf("after three uses: %x, %v", used, err)
			}
			r, err := o.BeginTouch(ctx, o.anne, "session")
			if err != nil || !slices.Equal(ids(r.AllowedCredentials), []string{string(a.ID)}) || r.UserVerification != "required" {
				t.Fatalf("%+v, %v", r, err)
			}
			if _, err := o.Touch(ctx, o.anne, "session", asserts(t, a, r, o.anne)); err != nil {
				t.Fatal(err)
			}
			list, err := o.List(ctx, o.anne)
			if err != nil || len(list) != 1 || list[0].Used.IsZero() || !list[0].Usable() || list[0].Synced {
				t.Errorf("%+v, %v", list, err)
			}
			o.invite(o.olav)
			summaries, err := o.Summaries(ctx)
			want := map[string]Summary{o.anne: {Usable: 1, Used: list[0].Used}, o.olav: {Invited: true}}
			if err != nil || !reflect.DeepEqual(summaries, want) {
				t.Errorf("%+v, %v, want %+v", summaries, err, want)
			}
			if got, want := o.audited(), []string{audit.PasskeyInvited, audit.PasskeyAdded, audit.PasskeyInvited}; !slices.Equal(got, want) {
				t.Errorf("audited %v, want %v", got, want)
			}
		})
	}
}

// An invitation is good once, for its time, until another takes its place or it is withdrawn.
func TestInvitation(t *testing.T) {
	o := newOffice(t)
	ctx := t.Context()
	refused := func(what, token string) {
		t.Helper()
		if _, err := o.Invited(ctx, token); !errors.Is(err, ErrInvitation) {
			t.Errorf("%s is shown: %v", what, err)
		}
		if _, err := o.BeginInvited(ctx, token); !errors.Is(err, ErrInvitation) {
			t.Errorf("%s begins: %v", what, err)
		}
		if _, err := o.AddInvited(ctx, token, "x", nil); !errors.Is(err, ErrInvitation) {
			t.Errorf("%s is used: %v", what, err)
		}
	}
	refused("an unknown one", "unknown")
	refused("an empty one", "")
	for _, life := range []time.Duration{0, -time.Second, MaxInvitationLife + 1} {
		if _, err := o.Invite(ctx, "x", o.anne, life, false); err == nil {
			t.Errorf("for %s", life)
		}
	}
	if _, err := o.Invite(ctx, "x", "1", time.Hour, false); !errors.Is(err, register.ErrNotFound) {
		t.Errorf("nobody is invited: %v", err)
	}
	former := o.invite(o.anne)
	token := o.invite(o.anne)
	refused("an overtaken one", former)
	if i, ok, err := o.Open(ctx, o.anne); err != nil || !ok || i.By != "person 1" || i.Token != "" {
		t.Errorf("%+v, %t, %v", i, ok, err)
	}
	if err := o.Withdraw(ctx, "x", o.anne); err != nil {
		t.Fatal(err)
	}
	refused("a withdrawn one", token)
	if err := o.Withdraw(ctx, "x", o.anne); !errors.Is(err, ErrInvitation) {
		t.Errorf("withdrawn twice: %v", err)
	}
	if _, ok, err := o.Open(ctx, o.anne); err != nil || ok {
		t.Errorf("%t, %v", ok, err)
	}
	token = o.invite(o.anne)
	c, err := o.BeginInvited(ctx, token)
	if err != nil {
		t.Fatal(err)
	}
	other, err := o.BeginInvited(ctx, o.invite(o.olav))
	if err != nil {
		t.Fatal(err)
	}
	a := passkeytest.New(t, passkeytest.ES256)
	if _, err := o.AddInvited(ctx, token, "x", creates(t, a, other)); !errors.Is(err, ErrCeremony) {
		t.Errorf("with a challenge of another's invitation: %v", err)
	}
	for _, name := range []string{"", " ", strings.Repeat("x", MaxName+1), "a\nb", "\xff"} {
		if _, err := o.AddInvited(ctx, token, name, creates(t, a, c)); !errors.Is(err, ErrName) {
			t.Errorf("named %q: %v", name, err)
		}
	}
	if _, err := o.AddInvited(ctx, token, "x", creates(t, a, c)); err != nil {
		t.Fatal(err)
	}
	refused("a used one", token)
	token = o.invite(o.anne)
	o.wait(InvitationLife)
	refused("an expired one", token)
	if list, err := o.Credentials(ctx, o.olav); err != nil || len(list) != 0 {
		t.Errorf("another has %v, %v", list, err)
	}
}

// Of any number who use an invitation at once, one does.
func TestInvitationAtOnce(t *testing.T) {
	o := newOffice(t)
	token := o.invite(o.anne)
	var responses [8][]byte
	for i := range responses {
		c, err := o.BeginInvited(t.Context(), token)
		if err != nil {
			t.Fatal(err)
		}
		responses[i] = creates(t, passkeytest.New(t, passkeytest.ES256), c)
	}
	errs := atOnce(len(responses), func(i int) error {
		_, err := o.AddInvited(t.Context(), token, "x", responses[i])
		return err
	})
	only(t, errs, ErrInvitation)
	if list, err := o.List(t.Context(), o.anne); err != nil || len(list) != 1 {
		t.Errorf("%d passkeys, %v", len(list), err)
	}
}

func atOnce(n int, f func(i int) error) []error {
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { errs[i] = f(i) })
	}
	wg.Wait()
	return errs
}

// only wants one success, and want for all others.
func only(t *testing.T, errs []error, want error) {
	t.Helper()
	good := 0
	for _, err := range errs {
		switch {
		case err == nil:
			good++
		case !errors.Is(err, want):
			t.Error(err)
		}
	}
	if good != 1 {
		t.Errorf("%d succeeded", good)
	}
}

// One challenge, one use: for what it was made for, in its time.
func TestChallenge(t *testing.T) {
	o := newOffice(t)
	ctx := t.Context()
	a := o.registered(o.anne, passkeytest.ES256)
	request := o.begun()
	response := asserts(t, a, request, o.anne)
	only(t, atOnce(8, func(int) error { _, err := o.SignIn(ctx, response); return err }), ErrCeremony)
	if _, err := o.SignIn(ctx, asserts(t, a, request, o.anne)); !errors.Is(err, ErrCeremony) {
		t.Errorf("a used challenge signed anew: %v", err)
	}
	touch, err := o.BeginTouch(ctx, o.anne, "one")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := o.SignIn(ctx, asserts(t, a, touch, o.anne)); !errors.Is(err, ErrCeremony) {
		t.Errorf("a touch signs in: %v", err)
	}
	if _, err := o.Touch(ctx, o.anne, "two", asserts(t, a, touch, o.anne)); !errors.Is(err, ErrCeremony) {
		t.Errorf("in another session: %v", err)
	}
	if _, err := o.Touch(ctx, o.olav, "one", asserts(t, a, touch, o.anne)); !errors.Is(err, ErrCeremony) {
		t.Errorf("for another person: %v", err)
	}
	if _, err := o.Touch(ctx, o.anne, "one", asserts(t, a, o.begun(), o.anne)); !errors.Is(err, ErrCeremony) {
		t.Errorf("a sign-in for a touch: %v", err)
	}
	olavs := o.registered(o.olav, passkeytest.ES256)
	if _, err := o.Touch(ctx, o.anne, "one", asserts(t, olavs, touch, o.olav)); !errors.Is(err, ErrOther) {
		t.Errorf("by another's passkey: %v", err)
	}
	if _, err := o.Touch(ctx, o.anne, "one", asserts(t, a, touch, o.anne)); err != nil {
		t.Errorf("an honest touch: %v", err)
	}
	another := newOffice(t)
	if _, err := o.SignIn(ctx, asserts(t, a, another.begun(), o.anne)); !errors.Is(err, ErrCeremony) {
		t.Errorf("made by another server: %v", err)
	}
	changed := o.begun()
	changed.Challenge[nonceBytes+timeBytes-1]++
	if _, err := o.SignIn(ctx, asserts(t, a, changed, o.anne)); !errors.Is(err, ErrCeremony) {
		t.Errorf("made to last: %v", err)
	}
	late := o.begun()
	o.wait(ceremonyLife)
	if _, err := o.SignIn(ctx, asserts(t, a, late, o.anne)); !errors.Is(err, ErrCeremony) {
		t.Errorf("too late: %v", err)
	}
}

// A challenge for one thing proves nothing for another, also of the same session.
func TestPurpose(t *testing.T) {
	c, now := newChallenges(), time.Now()
	purposes := []string{forSignIn, forTouch, forInvited, forAnother}
	for _, made := range purposes {
		for _, wanted := range purposes {
			if err := c.check(c.make(made, "x", now), wanted, "x", now); (err == nil) != (made == wanted) {
				t.Errorf("made for %s, used for %s: %v", made, wanted, err)
			}
		}
	}
	for _, short := range [][]byte{nil, make([]byte, challengeBytes-1), make([]byte, challengeBytes), make([]byte, challengeBytes+1)} {
		if err := c.check(short, forSignIn, "", now); !errors.Is(err, ErrCeremony) {
			t.Errorf("%d bytes: %v", len(short), err)
		}
	}
}

// What is remembered of ceremonies is bounded, and forgotten in time; ceremonies that are only begun take nothing.
func TestChallengesBounded(t *testing.T) {
	c := newChallenges()
	now := time.Now()
	for range maxUsed {
		if err := c.use(c.make(forSignIn, "", now), now); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.use(c.make(forSignIn, "", now), now); !errors.Is(err, ErrBusy) {
		t.Errorf("one more: %v", err)
	}
	now = now.Add(ceremonyLife)
	if err := c.use(c.make(forSignIn, "", now), now); err != nil || len(c.used) != 1 {
		t.Errorf("later: %v, %d remembered", err, len(c.used))
	}
}

// A passkey whose counter does not go up is disabled, which is written down and an alarm (R18).
func TestCopied(t *testing.T) {
	for _, c := range []struct {
		name   string
		before uint32 // of the last good use
		after  uint32
		copied bool
	}{
		{"up", 7, 8, false},
		{"up by much", 7, 1 << 31, false},
		{"the same", 7, 7, true},
		{"back", 7, 3, true},
		{"back to nothing", 7, 0, true},
		{"never counted", 0, 0, false},
		{"begins to count", 0, 1, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := newOffice(t)
			ctx := t.Context()
			a, token := passkeytest.New(t, passkeytest.ES256), o.invite(o.anne)
			a.Counter = 0
			creation, err := o.BeginInvited(ctx, token)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := o.AddInvited(ctx, token, "Laptop", creates(t, a, creation)); err != nil {
				t.Fatal(err)
			}
			use := func(counter uint32) error {
				_, err := o.SignIn(ctx, asserts(t, a, o.begun(), o.anne, func(u *passkeytest.Use) { u.Counter = counter }))
				return err
			}
			if err := use(c.before); err != nil {
				t.Fatal(err)
			}
			o.changes()
			err = use(c.after)
			alarms, alarmsErr := o.register.Alarms(ctx, 0)
			if alarmsErr != nil {
				t.Fatal(alarmsErr)
			}
			if !c.copied {
				if err != nil || len(alarms) != 0 {
					t.Errorf("%v, %d alarms", err, len(alarms))
				}
				return
			}
			if !errors.Is(err, ErrCopied) {
				t.Errorf("%v", err)
			}
			if len(alarms) != 1 || alarms[0].Code != protocol.AuthCounter || !strings.Contains(alarms[0].Detail, "“Laptop” of Anne Berg, nurse") {
				t.Errorf("alarms: %+v", alarms)
			}
			if got := o.changes(); !slices.Equal(got, []string{o.anne}) {
				t.Errorf("changed: %v", got)
			}
			for range 2 { // also who has the one that counts on
				if err := use(100); !errors.Is(err, ErrDisabled) {
					t.Errorf("afterwards: %v", err)
				}
			}
			if list, err := o.Credentials(ctx, o.anne); err != nil || len(list) != 0 {
				t.Errorf("%v, %v", list, err)
			}
			if list, err := o.List(ctx, o.anne); err != nil || len(list) != 1 || list[0].Disabled.IsZero() || list[0].Usable() {
				t.Errorf("%+v, %v", list, err)
			}
			if ok, err := o.Usable(ctx, o.anne, a.ID); ok || err != nil {
				t.Errorf("usable: %t, %v", ok, err)
			}
			want := []string{audit.PasskeyInvited, audit.PasskeyAdded, audit.PasskeyDisabled, audit.AlarmRaised, audit.PasskeyRefused}
			if got := o.audited(); !slices.Equal(got, want) {
				t.Errorf("audited %v, want %v", got, want)
			}
		})
	}
}

// Of two uses with the same counter at once, one is refused.
func TestCopiedAtOnce(t *testing.T) {
	o := newOffice(t)
	a := o.registered(o.anne, passkeytest.ES256)
	var responses [4][]byte
	for i := range responses {
		responses[i] = asserts(t, a, o.begun(), o.anne, func(u *passkeytest.Use) { u.Counter = 50 })
	}
	good := 0
	for _, err := range atOnce(len(responses), func(i int) error { _, err := o.SignIn(t.Context(), responses[i]); return err }) {
		switch {
		case err == nil:
			good++
		case !errors.Is(err, ErrCopied) && !errors.Is(err, ErrDisabled):
			t.Error(err)
		}
	}
	if good != 1 {
		t.Errorf("%d signed in", good)
	}
}

// A person has several passkeys and removes them, but not the last; an administrator does that too.
func TestRemove(t *testing.T) {
	o := newOffice(t)
	ctx := t.Context()
	first := o.registered(o.anne, passkeytest.ES256)
	c, err := o.BeginAnother(ctx, o.anne, "session")
	if err != nil || !slices.Equal(ids(c.CredentialExcludeList), []string{string(first.ID)}) {
		t.Fatalf("%+v, %v", c, err)
	}
	second := passkeytest.New(t, passkeytest.EdDSA)
	response := creates(t, second, c)
	if _, err := o.AddAnother(ctx, o.anne, "another session", "Key", response); !errors.Is(err, ErrCeremony) {
		t.Errorf("in another session: %v", err)
	}
	if _, err := o.AddAnother(ctx, o.olav, "session", "Key", response); !errors.Is(err, ErrCeremony) {
		t.Errorf("for another: %v", err)
	}
	if _, err := o.AddAnother(ctx, o.anne, "session", "Key", response); err != nil {
		t.Fatal(err)
	}
	if err := o.Remove(ctx, "person "+o.anne, o.anne, []byte("unknown"), false); !errors.Is(err, ErrNotFound) {
		t.Errorf("unknown: %v", err)
	}
	if err := o.Remove(ctx, "person "+o.olav, o.olav, first.ID, true); !errors.Is(err, ErrNotFound) {
		t.Errorf("another's: %v", err)
	}
	o.changes()
	errs := atOnce(2, func(i int) error {
		return o.Remove(ctx, "person "+o.anne, o.anne, [][]byte{first.ID, second.ID}[i], false)
	})
	only(t, errs, ErrLast)
	if got := o.changes(); !slices.Equal(got, []string{o.anne}) {
		t.Errorf("changed: %v", got)
	}
	gone, left := first, second
	if errs[0] != nil {
		gone, left = second, first
	}
	if _, err := o.SignIn(ctx, asserts(t, gone, o.begun(), o.anne)); !errors.Is(err, ErrUnknown) {
		t.Errorf("a removed one: %v", err)
	}
	if err := o.Remove(ctx, "person 1", o.anne, gone.ID, true); !errors.Is(err, ErrNotFound) {
		t.Errorf("removed twice: %v", err)
	}
	if ok, err := o.Usable(ctx, o.anne, left.ID); !ok || err != nil {
		t.Errorf("%t, %v", ok, err)
	}
	if ok, err := o.Usable(ctx, o.olav, left.ID); ok || err != nil {
		t.Errorf("by another: %t, %v", ok, err)
	}
	// What was removed does not come in again, whoever brings it.
	token := o.invite(o.olav)
	creation, err := o.BeginInvited(ctx, token)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := o.AddInvited(ctx, token, "x", creates(t, gone, creation)); !errors.Is(err, ErrRefused) {
		t.Errorf("registered anew: %v", err)
	}
	if err := o.Remove(ctx, "person 1", o.anne, left.ID, true); err != nil {
		t.Errorf("the last one, by an administrator: %v", err)
	}
	if _, err := o.BeginTouch(ctx, o.anne, "session"); !errors.Is(err, ErrNotFound) {
		t.Errorf("touch without a passkey: %v", err)
	}
	list, err := o.List(ctx, o.anne)
	if err != nil || len(list) != 2 || list[0].Removed.IsZero() || list[1].By != "person 1" && list[0].By != "person 1" {
		t.Errorf("%+v, %v", list, err)
	}
	want := []string{
		audit.PasskeyInvited, audit.PasskeyAdded, audit.PasskeyAdded, audit.PasskeyRemoved, audit.PasskeyRefused, audit.PasskeyInvited, audit.PasskeyRemoved,
	}
	if got := o.audited(); !slices.Equal(got, want) {
		t.Errorf("audited %v, want %v", got, want)
	}
}

// Recovery: a new invitation, with which the old passkeys go, or stay.
func TestRecovery(t *testing.T) {
	for _, removing := range []bool{false, true} {
		o := newOffice(t)
		ctx := t.Context()
		old := o.registered(o.anne, passkeytest.ES256)
		o.changes()
		if _, err := o.Invite(ctx, "person 1", o.anne, time.Hour, removing); err != nil {
			t.Fatal(err)
		}
		_, err := o.SignIn(ctx, asserts(t, old, o.begun(), o.anne))
		if removing != errors.Is(err, ErrUnknown) || !removing && err != nil {
			t.Errorf("removing %t: %v", removing, err)
		}
		if got := o.changes(); (len(got) == 1) != removing {
			t.Errorf("removing %t: changed %v", removing, got)
		}
	}
}

func TestTooMany(t *testing.T) {
	o := newOffice(t)
	ctx := t.Context()
	var begun []*Creation
	for range protocol.MaxCredentials + 1 {
		c, err := o.BeginAnother(ctx, o.anne, "s")
		if err != nil {
			t.Fatal(err)
		}
		begun = append(begun, c)
	}
	for i, c := range begun {
		_, err := o.AddAnother(ctx, o.anne, "s", "x", creates(t, passkeytest.New(t, passkeytest.EdDSA), c))
		if i < protocol.MaxCredentials && err != nil || i == protocol.MaxCredentials && !errors.Is(err, ErrTooMany) {
			t.Errorf("%d: %v", i, err)
		}
	}
	if _, err := o.BeginAnother(ctx, o.anne, "s"); !errors.Is(err, ErrTooMany) {
		t.Errorf("begun: %v", err)
	}
}

// Where the pages have no name there are no ceremonies.
func TestNoSite(t *testing.T) {
	o := newOffice(t)
	ctx := t.Context()
	s, err := New(ctx, Config{Store: o.store, Audit: o.audit, Persons: o.register, Alarms: o.register, Log: o.c.Log})
	if err != nil {
		t.Fatal(err)
	}
	i, err := s.Invite(ctx, "x", o.anne, time.Hour, false)
	if err != nil {
		t.Fatal(err)
	}
	_, signIn := s.BeginSignIn()
	_, signedIn := s.SignIn(ctx, nil)
	_, touch := s.BeginTouch(ctx, o.anne, "s")
	_, begin := s.BeginInvited(ctx, i.Token)
	_, add := s.AddInvited(ctx, i.Token, "x", nil)
	for _, err := range []error{signIn, signedIn, touch, begin, add} {
		if !errors.Is(err, ErrSite) {
			t.Error(err)
		}
	}
}
