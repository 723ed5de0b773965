package identity_test

import (
	"encoding/binary"
	"testing"
	"testing/synctest"
	"time"

	"vindu/device/identity"
	"vindu/device/identity/identitytest"
	"vindu/device/state/statetest"
	"vindu/protocol"
)

// invented is a full list of mandates that nobody ever issued.
func invented(round byte) []protocol.Nonce {
	list := make([]protocol.Nonce, protocol.MaxWithdrawn)
	for n := range list {
		binary.BigEndian.PutUint16(list[n][:], uint16(n))
		list[n][15] = round
	}
	return list
}

// rememberer is a terminal, and what its clinic's server tells it.
func rememberer(t *testing.T) (*statetest.Disk, *identity.Identity, func(i *identity.Identity, list ...protocol.Nonce) []error) {
	t.Helper()
	clinic, disk := identitytest.New(t, time.Now), statetest.New()
	i := load(t, disk)
	if err := i.Keep(clinic.Grant(address, i.Signer().Public())); err != nil {
		t.Fatal(err)
	}
	return disk, i, func(i *identity.Identity, list ...protocol.Nonce) []error {
		t.Helper()
		s := clinic.Settings()
		s.Withdrawn = list
		refused, err := i.KeepSettings(s)
		if err != nil {
			t.Fatal(err)
		}
		return refused
	}
}

// TestWithdrawnStays: settings are not signed. Who leaves a withdrawn mandate out of them, or names others until there is no room, such as a server that was restored from a
// backup, or is owned, does not give it back.
func TestWithdrawnStays(t *testing.T) {
	disk, i, tell := rememberer(t)
	stays := func(when string, list ...protocol.Nonce) {
		t.Helper()
		for where, i := range map[string]*identity.Identity{"at once": i, "after a restart": load(t, disk.After(statetest.Everything))} {
			for _, id := range list {
				if !i.Withdrawn(id) {
					t.Errorf("%s, %s: %x is good again", when, where, id[:2])
				}
			}
			if i.Withdrawn(protocol.Nonce{0xff}) {
				t.Errorf("%s, %s: all are refused", when, where)
			}
		}
	}
	tell(i, protocol.Nonce{1}, protocol.Nonce{2})
	stays("told", protocol.Nonce{1}, protocol.Nonce{2})
	tell(i)
	stays("left out", protocol.Nonce{1}, protocol.Nonce{2})
	tell(i, protocol.Nonce{3}, protocol.Nonce{2})
	steps := disk.Steps()
	if tell(i, protocol.Nonce{3}, protocol.Nonce{2}); disk.Steps() != steps {
		t.Error("the same was written twice")
	}
	var told []error
	for round := range byte(8) {
		told = append(told, tell(i, invented(round)...)...)
	}
	if len(told) == 0 || protocol.CodeOf(told[0]) != protocol.AuthWithdrawnMany {
		t.Errorf("the clinic is not told that there is no more room: %v", told)
	}
	stays("after many others", protocol.Nonce{1}, protocol.Nonce{2}, protocol.Nonce{3})
	// An honest clinic is obeyed all the same, for as long as it says so.
	tell(i, protocol.Nonce{4})
	stays("without room", protocol.Nonce{1}, protocol.Nonce{4})
	clinic := identitytest.New(t, time.Now)
	if err := i.Keep(clinic.Grant(address, i.Signer().Public())); err != nil {
		t.Fatal(err)
	}
	stays("enrolled again", protocol.Nonce{1}, protocol.Nonce{3})
}

// TestWithdrawnForgets: what this program has known for longer than any mandate is good makes room, by a clock that nobody sets.
func TestWithdrawnForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk, i, tell := rememberer(t)
		tell(i, protocol.Nonce{1})
		for round := range byte(3) {
			tell(i, invented(round)...)
		}
		<-time.After(20 * 24 * time.Hour)
		if tell(i, invented(3)[1:]...); !i.Withdrawn(invented(3)[1]) {
			t.Fatal("there is room for these")
		}
		if refused := tell(i, protocol.Nonce{2}); len(refused) == 0 {
			t.Error("a mandate of three weeks was forgotten")
		}
		<-time.After(19 * 24 * time.Hour)
		if refused := tell(load(t, disk.After(statetest.Everything)), protocol.Nonce{2}); len(refused) == 0 {
			t.Error("a program that began just now does not know for how long it has known")
		}
		if refused := tell(i, protocol.Nonce{2}); len(refused) != 0 {
			t.Error(refused)
		}
		for id, want := range map[protocol.Nonce]bool{{1}: false, {2}: true, invented(0)[0]: true, invented(3)[1]: true} {
			tell(i)
			if got := load(t, disk.After(statetest.Everything)).Withdrawn(id); got != want {
				t.Errorf("%x: withdrawn %v, want %v", id, got, want)
			}
		}
	})
}
