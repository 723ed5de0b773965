package tpm

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"

	"vindu/device/identity"
	"vindu/protocol"
)

// firmwareSigns tell of a TPM that no driver has taken: the TPM2 table of ACPI, and the nodes tpm@… of a device tree, on a bus or below one.
var firmwareSigns = []string{
	"/sys/firmware/acpi/tables/TPM2*", "/proc/device-tree/tpm@*", "/proc/device-tree/*/tpm@*", "/proc/device-tree/*/*/tpm@*", "/proc/device-tree/*/*/*/tpm@*",
}

// inFile is a key in a file where there should be one in a TPM, if the device has one.
type inFile struct {
	identity.Keystore
	keys Keys
}

// file returns what is kept in a file as one that knows of the TPM.
func (k Keys) file(store identity.Keystore, err error) (identity.Keystore, error) {
	if err != nil || store == nil || k.path() == "" {
		return store, err
	}
	return inFile{store, k}, nil
}

// Condition implements identity.Keystore. It looks anew each time: a TPM may come, or be switched on, long after the key was made.
func (f inFile) Condition() protocol.Code {
	if code := f.Keystore.Condition(); code != "" {
		return code
	}
	if !f.keys.isAuto() || f.keys.there() {
		return protocol.IdentityTPMUnused
	}
	return ""
}

// there tells whether this device has a TPM, working or not: its device file, one that the kernel knows, or one that the firmware names and does not
// say is switched off.
func (k Keys) there() bool {
	if _, err := os.Stat(k.path()); err == nil {
		return true
	}
	signs := k.signs
	if signs == nil {
		signs = append(append(signs, kernelSigns...), firmwareSigns...)
	}
	for _, pattern := range signs {
		found, err := filepath.Glob(pattern)
		if err != nil {
			continue
		}
		for _, path := range found {
			if !strings.HasPrefix(filepath.Base(path), "tpm@") || enabled(path) {
				return true
			}
		}
	}
	return false
}

// enabled reads whether a node of a device tree is in use (Devicetree Specification §2.3.4).
func enabled(node string) bool {
	status, err := os.ReadFile(filepath.Join(node, "status"))
	status = bytes.TrimRight(status, "\x00")
	return err != nil || string(status) == "okay" || string(status) == "ok"
}
