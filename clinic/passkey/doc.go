// Package passkey keeps the passkeys of the clinic's people (R10): WebAuthn Level 3, by github.com/go-webauthn/webauthn.
//
// A person registers the first one under an invitation: a link that an administrator hands over, good once and for a short time, of which
// only the SHA-256 is stored. Further ones are added by whoever is signed in. Nothing is deleted (R17): what is removed keeps its row, and its
// identifier never comes in again.
//
// What is asked of a passkey, at registration and at each use: it is discoverable, it verifies its person (PIN, finger, face), and its key is
// of a kind that protocol.Credential accepts (ES256, EdDSA, RS256). No attestation is asked for. Each use is verified twice, by go-webauthn and by
// protocol.Assertion.Verify: a passkey that a terminal would refuse is refused here already, where a person can be told.
//
// A signature counter that does not go up (WebAuthn §6.1.1) disables the passkey, for there may be a copy of it; it is written into the audit log and
// is an alarm (R18).
//
// # Ceremonies
//
// A challenge is 12 random bytes, the second in which it expires, and 16 bytes of an HMAC-SHA-256 of both and of what it is for, by a key of this process. So a
// ceremony that was begun takes no memory, and strangers who begin many displace nobody's. One that has led to a proof is remembered until it would
// expire: one challenge, one use; there are at most maxUsed of these.
package passkey
