package tpm

import (
	"os"
	"path/filepath"
	"testing"

	"vindu/device/identity"
	"vindu/device/state/statetest"
	"vindu/protocol"
)

// TestUnused: a terminal whose key is in a file says so for as long as its board has a TPM, also in the next run; one without a TPM says nothing.
func TestUnused(t *testing.T) {
	folder := t.TempDir()
	nowhere := filepath.Join(folder, "tpmrm0")
	node := func(name, status string) string {
		path := filepath.Join(folder, name, "tpm@0")
		if err := os.MkdirAll(path, 0o700); err != nil {
			t.Fatal(err)
		}
		if status != "" {
			if err := os.WriteFile(filepath.Join(path, "status"), []byte(status+"\x00"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return filepath.Join(folder, name, "tpm@*")
	}
	kernel := filepath.Join(folder, "class-tpm0")
	if err := os.WriteFile(kernel, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		device string
		signs  []string
		want   protocol.Code
	}{
		{"no TPM", Auto, []string{nowhere}, ""},
		{"the kernel knows one", Auto, []string{kernel + "*"}, protocol.IdentityTPMUnused},
		{"the device tree has one", Auto, []string{node("a", "")}, protocol.IdentityTPMUnused},
		{"the device tree has one in use", Auto, []string{node("b", "okay")}, protocol.IdentityTPMUnused},
		{"the device tree has one that is switched off", Auto, []string{node("c", "disabled")}, ""},
		{"none is wanted", None, []string{kernel}, ""},
		{"the configuration names one", nowhere, []string{}, protocol.IdentityTPMUnused},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := on(t, statetest.New())
			if _, err := (identity.FileKeys{}).Open(dir); err != nil { // made while no TPM came
				t.Fatal(err)
			}
			keys := Keys{Device: c.device, auto: nowhere, signs: c.signs}
			store, err := keys.Open(dir)
			if err != nil || store.Grade() != identity.GradeFile {
				t.Fatalf("%v, %v", store, err)
			}
			if got := store.Condition(); got != c.want {
				t.Errorf("condition %q, want %q", got, c.want)
			}
			next, err := keys.Next(dir)
			if err != nil || next.Condition() != c.want {
				t.Errorf("the next key: %v, %v", next, err)
			}
		})
	}
	t.Run("it comes later", func(t *testing.T) {
		store, err := Keys{Device: Auto, auto: nowhere, signs: []string{}}.Open(on(t, statetest.New()))
		if err != nil || store.Condition() != "" {
			t.Fatalf("%v, %v", store, err)
		}
		if err := os.WriteFile(nowhere, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if got := store.Condition(); got != protocol.IdentityTPMUnused {
			t.Errorf("condition %q", got)
		}
	})
}
