package broker

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// A broker that cannot start sets its folder aside each time. What is set aside must not fill the disk, and nothing else is touched.
func TestFewAreSetAside(t *testing.T) {
	state := t.TempDir()
	b := &NATS{config: Config{Dir: filepath.Join(state, "broker")}}
	others := []string{"broker.conf", "brokers.damaged-1"}
	for _, name := range others {
		if err := os.WriteFile(filepath.Join(state, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, day := range []string{"01", "02", "03", "04", "05"} {
		if err := os.MkdirAll(filepath.Join(state, "broker.damaged-202601"+day+"T000000.000", "jetstream"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(b.config.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	aside, err := b.setAside()
	if err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(state)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	want := append([]string{"broker.damaged-20260104T000000.000", "broker.damaged-20260105T000000.000", filepath.Base(aside)}, others...)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("left are %v, want %v", got, want)
	}
}
