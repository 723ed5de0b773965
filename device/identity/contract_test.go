package identity_test

import (
	"testing"

	"vindu/device/identity"
	"vindu/device/identity/identitytest"
)

func TestFileKeys(t *testing.T) {
	identitytest.TestKeys(t, identity.GradeFile, func(*testing.T) identity.Keys {
		return identity.FileKeys{Traits: func() []identity.Trait {
			return []identity.Trait{{Name: "device-tree serial", Value: "1000000012345678"}}
		}}
	})
}
