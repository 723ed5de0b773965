package authority

import (
	"testing"
	"time"
)

// In the issuing CA's last month no leaf can be made any more. The server must not go dark before it has to.
func TestLeafServesToItsEnd(t *testing.T) {
	a, _ := load(t)
	now := a.Expires().Add(-serverLife / 2)
	a.now = func() time.Time { return now }
	leaf := a.Server("terminals.vindu.invalid")
	first, err := leaf.Certificate()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		at   time.Time
		want bool
	}{
		"a new one is due":      {first.Leaf.NotAfter.Add(-serverLife / 4), true},
		"its last second":       {first.Leaf.NotAfter.Add(-time.Second), true},
		"a second after it":     {first.Leaf.NotAfter.Add(time.Second), false},
		"the end of the CA too": {a.Expires().Add(time.Hour), false},
	} {
		now = c.at
		if got, err := leaf.Certificate(); (err == nil) != c.want || c.want && got != first {
			t.Errorf("%s: %v, want one: %v", name, err, c.want)
		}
	}
}
