//go:build lab

package tpm

import (
	"os"
	"testing"

	"vindu/device/identity"
	"vindu/device/identity/identitytest"
	"vindu/device/state/statetest"
)

// TestRealKernel is the contract by way of the kernel's driver and its resource manager, at the path in VINDU_LAB_TPM. It
// leaves no key behind.
func TestRealKernel(t *testing.T) {
	path := os.Getenv("VINDU_LAB_TPM")
	if path == "" {
		t.Fatal("VINDU_LAB_TPM names no TPM")
	}
	identitytest.TestKeys(t, identity.GradeHardware, func(t *testing.T) identity.Keys {
		forget := func() {
			if err := at(path).Destroy(on(t, statetest.New())); err != nil {
				t.Fatal(err)
			}
		}
		forget()
		t.Cleanup(forget)
		return at(path)
	})
}
