package register

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"vindu/clinic/audit"
)

func TestProvider(t *testing.T) {
	c := open(t)
	var ids []string
	for _, label := range []string{"Home 17", "Home 18", "Home 19"} {
		h, err := c.EnsureHome(t.Context(), "Kari", label)
		if err != nil || h.Provider != "" {
			t.Fatalf("%+v, %v", h, err)
		}
		ids = append(ids, h.ID)
	}
	set := func(home, provider string) error { return c.SetProvider(t.Context(), "Kari", home, provider) }
	for name, tc := range map[string]struct {
		home, provider string
		want           error
	}{
		"no such home": {"1", "Vestnett", ErrNotFound},
		"two lines":    {ids[0], "Vest\nnett", ErrText},
		"a blank":      {ids[0], " ", ErrText},
		"too long":     {ids[0], strings.Repeat("ø", MaxProvider+1), ErrText},
	} {
		if err := set(tc.home, tc.provider); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for i, provider := range []string{"Ås Fiber", "Vestnett", "Vestnett", strings.Repeat("ø", MaxProvider), "", "", "Vestnett"} {
		home := ids[i%len(ids)]
		if err := set(home, provider); err != nil {
			t.Fatal(err)
		}
		if h, err := c.Home(t.Context(), home); err != nil || h.Provider != provider {
			t.Errorf("%+v, %v; want %q", h, err, provider)
		}
	}
	if err := set(ids[2], "Ås Fiber"); err != nil {
		t.Fatal(err)
	}
	if list, err := c.Providers(t.Context(), 10); err != nil || !slices.Equal(list, []string{"Vestnett", "Ås Fiber"}) {
		t.Errorf("%q, %v", list, err)
	}
	if list, err := c.Providers(t.Context(), 1); err != nil || !slices.Equal(list, []string{"Vestnett"}) {
		t.Errorf("%q, %v", list, err)
	}
	homes, err := c.Homes(t.Context())
	if err != nil || homes[0].Provider != "Vestnett" || homes[1].Provider != "" || homes[2].Provider != "Ås Fiber" {
		t.Errorf("%+v, %v", homes, err)
	}

	// Each change is on the audit log, with what was there before; what changes nothing is not.
	entries, err := c.log.Entries(t.Context(), -1, 1000)
	if err != nil {
		t.Fatal(err)
	}
	var told []string
	for _, e := range slices.Backward(entries) {
		if e.What == audit.ProviderSet && e.Subject == "home "+ids[2] {
			told = append(told, e.Who+": "+e.Detail["before"]+" > "+e.Detail["provider"])
		}
	}
	if want := []string{"Kari:  > Vestnett", "Kari: Vestnett > ", "Kari:  > Ås Fiber"}; !slices.Equal(told, want) {
		t.Errorf("told %q, want %q", told, want)
	}
	before := len(entries)
	if err := set(ids[2], "Ås Fiber"); err != nil {
		t.Fatal(err)
	}
	if entries, err = c.log.Entries(t.Context(), -1, 1000); err != nil || len(entries) != before {
		t.Errorf("what changes nothing is told: %d entries after %d, %v", len(entries), before, err)
	}
}
