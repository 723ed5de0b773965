// Package protocol is what the two ends of vindu say to each other: signed
// statements, messages on the link, topics, vouchers and failure codes. It does no
// I/O, starts no goroutine, and imports nothing else of vindu, so that terminal,
// clinic and technician's tool cannot drift apart.
//
// # Encoding
//
// Everything on the link is CBOR in the core deterministic encoding of RFC 8949
// §4.2.1: maps with integer keys in ascending order, shortest lengths, nothing
// indefinite, no tags, no floats. Decode refuses every other encoding of the same value: it
// decodes strictly (no unknown or repeated key, bounded size and depth) and then
// compares its own encoding of the result byte for byte with what came.
//
// # Statements
//
// An Invitation, an Answer, an End, Candidates and an Ack, among others, are COSE_Sign1 messages (RFC 9052 §4.2) with
// ES256 (RFC 9053 §2.1). The protected header names the statement's kind as content
// type and the signer's key (SHA-256 of its SubjectPublicKeyInfo) as kid, so that a signature over one kind can
// never pass for another.
//
// # Compatibility
//
// Version 1 of a message never changes meaning; a field may be added only together with a new version
// number. Peers refuse versions that they do not know with ErrVersion.
package protocol
