package protocol

import (
	"bytes"
	"slices"
	"time"
)

const typeAuthorisation = "vindu/authorisation.v1"

// Bounds of an Authorisation.
const (
	MaxAuthorisation     = 8 << 10 // bytes, signed
	MaxAuthorisationLife = 31 * 24 * time.Hour
	MaxCredentials       = 8
	MaxScope             = 64 // homes, and groups
	maxName              = 64 // bytes of an opaque id or of a group's name
)

// Authorisation says who may call which homes, by which passkeys and until when (R14, R27). The clinic's authorisation key signs it; terminals
// verify it without asking anybody.
type Authorisation struct {
	Version     uint         `cbor:"1,keyasint"`
	ID          Nonce        `cbor:"2,keyasint"`
	Person      string       `cbor:"3,keyasint"` // the clinic's number for the person
	Party       Party        `cbor:"4,keyasint"` // as all who take part will see it
	Employment  string       `cbor:"5,keyasint"` // such as "employed", "agency", "relative"
	Group       string       `cbor:"6,keyasint"` // of callers: which rule of a home's Policy holds
	Credentials []Credential `cbor:"7,keyasint"`
	Scope       Scope        `cbor:"8,keyasint"`
	From        Time         `cbor:"9,keyasint"`
	To          Time         `cbor:"10,keyasint"`
}

// Scope names homes, each by its number or by a group to which it belongs. A home in neither is not in it: there is no word for all homes.
type Scope struct {
	Homes  []string `cbor:"1,keyasint,omitempty"`
	Groups []string `cbor:"2,keyasint,omitempty"`
}

// Contains reports whether a home with this number, in these groups, is in the scope.
func (s Scope) Contains(home string, groups []string) bool {
	return home != "" && slices.Contains(s.Homes, home) ||
		slices.ContainsFunc(groups, func(g string) bool { return g != "" && slices.Contains(s.Groups, g) })
}

func (s Scope) valid() error {
	if len(s.Homes)+len(s.Groups) == 0 {
		return malformed("scope is empty")
	}
	if err := checkNames("scope's home", s.Homes); err != nil {
		return err
	}
	return checkNames("scope's group", s.Groups)
}

// checkNames wants each name once, in ascending order, so that one set has one encoding.
func checkNames(what string, names []string) error {
	if len(names) > MaxScope {
		return malformed("%d times %s, at most %d", len(names), what, MaxScope)
	}
	for i, n := range names {
		if err := checkName(what, n); err != nil {
			return err
		}
		if i > 0 && names[i-1] >= n {
			return malformed("%s: not each once, in ascending order", what)
		}
	}
	return nil
}

func checkName(what, name string) error {
	if len(name) > maxName {
		return malformed("%s has %d bytes, at most %d", what, len(name), maxName)
	}
	return checkText(what, name, true)
}

func (a *Authorisation) valid() error {
	if err := checkVersion(a.Version); err != nil {
		return err
	}
	if (a.ID == Nonce{}) {
		return malformed("authorisation lacks an id")
	}
	if a.From <= 0 || a.To <= a.From || a.To-a.From > Time(MaxAuthorisationLife.Milliseconds()) {
		return malformed("authorisation is not valid for any, or for too long a time")
	}
	if len(a.Credentials) == 0 || len(a.Credentials) > MaxCredentials {
		return malformed("authorisation has %d passkeys, has to have 1 to %d", len(a.Credentials), MaxCredentials)
	}
	for i, c := range a.Credentials {
		if err := c.valid(); err != nil {
			return err
		}
		if slices.ContainsFunc(a.Credentials[:i], func(o Credential) bool { return bytes.Equal(o.ID, c.ID) }) {
			return malformed("authorisation names a passkey twice")
		}
	}
	for _, f := range [...]struct{ name, text string }{{"person", a.Person}, {"employment", a.Employment}, {"group of callers", a.Group}} {
		if err := checkName(f.name, f.text); err != nil {
			return err
		}
	}
	if err := a.Party.valid(); err != nil {
		return err
	}
	return a.Scope.valid()
}

// Credential returns the passkey with this id.
func (a *Authorisation) Credential(id []byte) (Credential, bool) {
	for _, c := range a.Credentials {
		if bytes.Equal(c.ID, id) {
			return c, true
		}
	}
	return Credential{}, false
}

func (*Authorisation) contentType() string { return typeAuthorisation }
