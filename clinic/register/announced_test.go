package register

import (
	"errors"
	"slices"
	"testing"
	"time"

	"vindu/clinic/audit"
	"vindu/protocol"
)

// TestAnnounced: a home is told of one call, until a while after its time, and of none that nobody can mean.
func TestAnnounced(t *testing.T) {
	c := open(t)
	h, err := c.EnsureHome(t.Context(), "Kari", "Home 17")
	if err != nil {
		t.Fatal(err)
	}
	anne, err := c.EnsurePerson(t.Context(), "Kari", protocol.Party{Name: "Anne Berg", Role: "nurse", Organisation: "Solvik clinic"}, Clinician)
	if err != nil {
		t.Fatal(err)
	}
	three := c.clock.Truncate(time.Minute).Add(3 * time.Hour)
	told := func(want time.Time) {
		t.Helper()
		all, err := c.Announced(t.Context())
		got, ok := all[h.ID]
		if err != nil || ok == want.IsZero() || ok && (!got.At.Equal(want) || got.Party != anne.Party || got.Person != anne.ID) {
			t.Errorf("told %+v, %v; want %v", all, err, want)
		}
	}
	told(time.Time{})
	for name, test := range map[string]struct {
		home, person string
		at           time.Time
		want         error
	}{
		"a time that is over":   {h.ID, anne.ID, c.clock.Add(-time.Second), ErrTime},
		"a time in two days":    {h.ID, anne.ID, c.clock.Add(24*time.Hour + time.Second), ErrTime},
		"a home that is none":   {"123", anne.ID, three, ErrNotFound},
		"a person who is none":  {h.ID, "123", three, errAny},
		"to be taken from none": {"123", anne.ID, time.Time{}, ErrNotFound},
	} {
		if err := c.Announce(t.Context(), test.home, test.person, test.at); err == nil || test.want != errAny && !errors.Is(err, test.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	told(time.Time{})
	for _, at := range []time.Time{three.Add(-time.Hour), three} {
		if err := c.Announce(t.Context(), h.ID, anne.ID, at); err != nil {
			t.Error(err)
		}
		told(at)
	}
	was := c.clock
	c.clock = three.Add(past - time.Millisecond)
	told(three)
	c.clock = three.Add(past)
	told(time.Time{})
	c.clock = was
	told(three)
	if err := c.Announce(t.Context(), h.ID, anne.ID, time.Time{}); err != nil {
		t.Error(err)
	}
	told(time.Time{})
	if got := c.audited(t); !slices.Equal(got[len(got)-3:], []string{audit.CallAnnounced, audit.CallAnnounced, audit.CallAnnounced}) {
		t.Errorf("audit %v", got)
	}
}

var errAny = errors.New("any")
