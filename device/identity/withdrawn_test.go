package identity_test

import (
	"slices"
	"testing"
	"time"

	"vindu/device/identity/identitytest"
	"vindu/device/state/statetest"
	"vindu/protocol"
)

// TestWithdrawnStays: settings are not signed. Who leaves a withdrawn mandate out of them, such as a server that was restored from a backup, or is owned, does not give it back.
func TestWithdrawnStays(t *testing.T) {
	clinic := identitytest.New(t, time.Now)
	disk := statetest.New()
	i := load(t, disk)
	if err := i.Keep(clinic.Grant(address, i.Signer().Public())); err != nil {
		t.Fatal(err)
	}
	tell := func(list ...protocol.Nonce) {
		t.Helper()
		s := clinic.Settings()
		s.Withdrawn = list
		if _, err := i.KeepSettings(s); err != nil {
			t.Fatal(err)
		}
	}
	tell(protocol.Nonce{1}, protocol.Nonce{2})
	tell()
	tell(protocol.Nonce{3}, protocol.Nonce{2})
	steps := disk.Steps()
	tell(protocol.Nonce{3}, protocol.Nonce{2})
	if disk.Steps() != steps {
		t.Error("the same was written twice")
	}
	want := []protocol.Nonce{{3}, {2}, {1}}
	if got := load(t, disk.After(statetest.Everything)).Settings().Withdrawn; !slices.Equal(got, want) {
		t.Errorf("withdrawn are %v, want %v", got, want)
	}
	many := make([]protocol.Nonce, protocol.MaxWithdrawn)
	for n := range many {
		many[n] = protocol.Nonce{9, byte(n), byte(n >> 8)}
	}
	tell(many[1:]...)
	if got := i.Settings().Withdrawn; len(got) != protocol.MaxWithdrawn || !slices.Contains(got, protocol.Nonce{3}) || !slices.Contains(got, many[9]) {
		t.Errorf("%d withdrawn are kept", len(got))
	}
}
