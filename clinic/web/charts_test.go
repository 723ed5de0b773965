package web

import "testing"

// TestDotted: a value that no line leads to or from is drawn as a dot, and so are the latest and all where there are few.
func TestDotted(t *testing.T) {
	got := eval[[]string](modules(t), `(() => {
		const many = Array.from({length: 40}, (_, i) => i === 20 || i === 22 ? null : i); // 21 stands alone
		return [[], [null, null], [null, 7, null], [1, 2, null, 4], many, many.concat([null, null])].map((v) => vindu.charts.dotted(v).join(" "));
	})()`)
	for i, want := range []string{"", "", "1", "0 1 3", "21 39", "21 39"} {
		if got[i] != want {
			t.Errorf("%d: %q, want %q", i, got[i], want)
		}
	}
}

// TestRangeOfOne: what was the same all the time, or once, is said as one value.
func TestRangeOfOne(t *testing.T) {
	w, err := loadWords("en")
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct {
		unit string
		mean figures
		want string
	}{
		{"ms", figures{unplotted, 1, unplotted}, "1 ms"},
		{"ms", figures{1, 1}, "1 ms"},
		{"", figures{0}, "0"},
		{"ms", figures{1, 3, 2}, "1 to 3 ms"},
		{"ms", figures{unplotted}, "not known in this time"},
	} {
		p := plot{Unit: x.unit, Mean: x.mean}
		if p.describe(w); p.Text != x.want {
			t.Errorf("%v: %q, want %q", x.mean, p.Text, x.want)
		}
	}
}
