// Signed statements: COSE_Sign1 (RFC 9052 §4.2) with ES256, exactly as package protocol makes them. The signature is
// verified by WebCrypto, which exists in secure contexts only: https, or http on localhost.

import { concat, equal, fromBase64, sha256, utf8 } from "./bytes";
import { head, Malformed } from "./cbor";

export const maxStatement = 2 << 10;

// Key is a terminal's public key and its name: the SHA-256 of its SubjectPublicKeyInfo.
export interface Key {
	readonly key: CryptoKey;
	readonly hash: Uint8Array;
}

export async function importKey(spki: string): Promise<Key> {
	const der = fromBase64(spki);
	const key = await crypto.subtle.importKey("spki", der, { name: "ECDSA", namedCurve: "P-256" }, false, ["verify"]);
	return { key, hash: await sha256(der) };
}

// OwnKey is a key pair of this page, for one call. Its private half cannot be taken out of the browser.
export interface OwnKey {
	readonly key: CryptoKey;
	readonly spki: Uint8Array;
	readonly hash: Uint8Array;
}

export async function newKey(): Promise<OwnKey> {
	const pair = await crypto.subtle.generateKey({ name: "ECDSA", namedCurve: "P-256" }, false, ["sign", "verify"]);
	const spki = new Uint8Array(await crypto.subtle.exportKey("spki", pair.publicKey));
	return { key: pair.privateKey, spki, hash: await sha256(spki) };
}

function bstr(bytes: Uint8Array): Uint8Array {
	return concat(head(2, bytes.length), bytes);
}

function tstr(text: string): Uint8Array {
	const bytes = utf8(text);
	return concat(head(3, bytes.length), bytes);
}

// protectedHeader is the only one that is accepted: {1 (alg): -7 (ES256), 3 (content type), 4 (kid)}.
function protectedHeader(contentType: string, kid: Uint8Array): Uint8Array {
	return concat(Uint8Array.of(0xa3, 0x01, 0x26, 0x03), tstr(contentType), Uint8Array.of(0x04), bstr(kid));
}

// sign makes a statement of the given kind by a key of this page.
export async function sign(payload: Uint8Array, contentType: string, key: OwnKey): Promise<Uint8Array> {
	const header = protectedHeader(contentType, key.hash);
	const toBeSigned = concat(Uint8Array.of(0x84), tstr("Signature1"), bstr(header), bstr(new Uint8Array(0)), bstr(payload));
	const signature = new Uint8Array(await crypto.subtle.sign({ name: "ECDSA", hash: "SHA-256" }, key.key, toBeSigned));
	const signed = concat(Uint8Array.of(0xd2, 0x84), bstr(header), Uint8Array.of(0xa0), bstr(payload), bstr(signature));
	if (signed.length > maxStatement) throw new Malformed("statement too large");
	return signed;
}

// open returns the payload of a statement of the given kind that was signed by key; it throws otherwise. There is one
// encoding of a statement, so what surrounds the payload and the signature is compared, not parsed.
export async function open(signed: Uint8Array, contentType: string, key: Key): Promise<Uint8Array> {
	if (signed.length > maxStatement) throw new Malformed("statement too large");
	const header = protectedHeader(contentType, key.hash);
	// Tag 18, array of four: protected header, empty unprotected header, payload, signature of 64 bytes.
	const front = concat(Uint8Array.of(0xd2, 0x84), bstr(header), Uint8Array.of(0xa0));
	const back = Uint8Array.of(0x58, 64);
	const tail = signed.length - 64;
	if (!equal(signed.subarray(0, front.length), front)) {
		throw new Malformed("of another kind, by another key, or not canonical");
	}
	if (tail - back.length <= front.length || !equal(signed.subarray(tail - back.length, tail), back)) {
		throw new Malformed("no signature where it belongs");
	}
	const wrapped = signed.subarray(front.length, tail - back.length);
	const payload = wrapped.subarray(lengthOfHead(wrapped));
	if (!equal(bstr(payload), wrapped)) throw new Malformed("payload is not one byte string");
	const toBeSigned = concat(Uint8Array.of(0x84), tstr("Signature1"), bstr(header), bstr(new Uint8Array(0)), wrapped);
	const good = await crypto.subtle.verify({ name: "ECDSA", hash: "SHA-256" }, key.key, signed.subarray(tail), toBeSigned);
	if (!good) throw new Malformed("signature does not verify");
	return payload.slice();
}

function lengthOfHead(item: Uint8Array): number {
	const info = (item[0] ?? 0) & 0x1f;
	return info < 24 ? 1 : info === 24 ? 2 : 3;
}
