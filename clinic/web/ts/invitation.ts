// The invitation: what the caller proves to a terminal by one touch of a passkey. The page writes it from what it knows itself; the passkey signs its
// SHA-256 (WebAuthn's challenge), and the terminal believes nothing that is not in it. What the caller says later is signed by the call's own key.

import { concat, fromBase64, fromHex, sha256 } from "./bytes";
import { encode, Fields } from "./cbor";
import { newKey, OwnKey, sign } from "./cose";
import { fingerprint } from "./sdp";

const typeEnd = "vindu/end.v1";
export const life = 90_000; // ms for which an invitation holds: the touch is in it

// Authorisation is the person's, as the clinic keeps it; the terminal verifies it.
export interface Authorisation {
	readonly signed: Uint8Array;
	readonly party: { readonly name: string; readonly role: string; readonly organisation: string };
	readonly passkeys: readonly Uint8Array[]; // ids
	readonly rp: string;
	readonly lag: number; // ms by which the clinic's clock is ahead of this computer's
}

// Wish is what is known before the touch.
export interface Wish {
	readonly call: string; // hexadecimal
	readonly terminal: Uint8Array; // SHA-256 of its public key
	readonly offer: string;
	readonly errand: string;
	readonly relayOnly: boolean;
	readonly urgent: boolean;
}

export interface Invitation {
	readonly bytes: Uint8Array;
	readonly key: OwnKey;
}

export async function write(wish: Wish, by: Authorisation, now = Date.now()): Promise<Invitation> {
	const key = await newKey();
	const issued = now + by.lag;
	const { name, role, organisation } = by.party;
	const bytes = encode(
		new Fields(
			1, fromHex(wish.call), wish.terminal, fingerprint(wish.offer), await sha256(wish.offer), [new Fields(name, role, organisation)], wish.errand, issued, issued + life,
			crypto.getRandomValues(new Uint8Array(16)), key.spki, await sha256(by.signed), wish.relayOnly, wish.urgent,
		),
	);
	return { bytes, key };
}

// Assertion is the passkey's proof, in the spelling of the clinic's API.
export interface Assertion {
	readonly credential: Uint8Array;
	readonly authenticator_data: Uint8Array;
	readonly client_data: Uint8Array;
	readonly signature: Uint8Array;
}

export class NotConfirmed extends Error {
	constructor(readonly code: "browser.no_passkey" | "browser.passkey_cancelled", cause: string) {
		super(cause);
	}
}

// confirm asks the person to touch the passkey.
export async function confirm(i: Invitation, by: Authorisation, signal: AbortSignal): Promise<Assertion> {
	if (!("credentials" in navigator) || typeof PublicKeyCredential === "undefined") throw new NotConfirmed("browser.no_passkey", "no WebAuthn");
	let made: Credential | null;
	try {
		made = await navigator.credentials.get({
			signal,
			publicKey: {
				challenge: (await sha256(i.bytes)) as BufferSource,
				rpId: by.rp,
				allowCredentials: by.passkeys.map((id) => ({ type: "public-key", id: id as BufferSource })),
				userVerification: "required",
				timeout: life - 30_000,
			},
		});
	} catch (cause) {
		// NotAllowedError: cancelled, timed out, or no such passkey here; browsers do not tell which.
		const cancelled = cause instanceof DOMException && (cause.name === "NotAllowedError" || cause.name === "AbortError");
		throw new NotConfirmed(cancelled ? "browser.passkey_cancelled" : "browser.no_passkey", String(cause));
	}
	const c = made as PublicKeyCredential;
	const r = c.response as AuthenticatorAssertionResponse;
	return {
		credential: new Uint8Array(c.rawId), authenticator_data: new Uint8Array(r.authenticatorData), client_data: new Uint8Array(r.clientDataJSON), signature: new Uint8Array(r.signature),
	};
}

// end is the caller's signed end of a call. talked is in milliseconds.
export async function end(i: Invitation, wish: Wish, reason: string, talked: number, by: Authorisation, now = Date.now()): Promise<Uint8Array> {
	const fields = new Fields(1, fromHex(wish.call), wish.terminal, await sha256(i.bytes), "caller", reason, Math.max(0, Math.round(talked)), 0, 0, now + by.lag);
	return sign(encode(fields), typeEnd, i.key);
}

// code is the six digits that both ends show, of the invitation and the terminal's certificate; package protocol has the same.
export async function code(invitation: Uint8Array, certificate: Uint8Array): Promise<string> {
	const label = new TextEncoder().encode("vindu/call-code.v1");
	const sum = await sha256(concat(label, await sha256(invitation), certificate));
	const n = new DataView(sum.buffer).getBigUint64(0) % 1_000_000n;
	const digits = n.toString().padStart(6, "0");
	return `${digits.slice(0, 3)} ${digits.slice(3)}`;
}

export function parseAuthorisation(a: { now: number; rp: string; authorisation: string; party: Authorisation["party"]; passkeys: readonly string[] }, asked: number): Authorisation {
	return { signed: fromBase64(a.authorisation), party: a.party, passkeys: a.passkeys.map(fromBase64), rp: a.rp, lag: a.now - Math.round((asked + Date.now()) / 2) };
}
