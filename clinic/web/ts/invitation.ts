// The invitation: what the caller proves to a terminal by one touch of a passkey. The page writes it from what it knows itself; the passkey signs its
// SHA-256 (WebAuthn's challenge), and the terminal believes nothing that is not in it. What the caller says later is signed by the call's own key.

import { concat, equal, fromBase64, fromHex, sha256 } from "./bytes";
import { encode, Fields } from "./cbor";
import { newKey, OwnKey, sign } from "./cose";
import { fingerprint } from "./sdp";

const typeEnd = "vindu/end.v1";
const typeCurtain = "vindu/curtain.v1";
const typeCandidates = "vindu/candidates.v1";
const typeRestart = "vindu/restart.v1";
export const life = 90_000; // ms for which an invitation holds: the touch is in it

// Authorisation is the person's, as the clinic keeps it; the terminal verifies it.
export interface Authorisation {
	readonly id: string;
	readonly signed: Uint8Array;
	readonly to: number; // until when it holds, ms since the epoch, by the clinic's clock
	readonly party: { readonly name: string; readonly role: string; readonly organisation: string };
	readonly passkeys: readonly Uint8Array[]; // ids
	readonly rp: string;
	readonly lag: number; // ms by which the clinic's clock is ahead of this computer's
	readonly clock: number; // by which this computer's clock was ahead of the time that had passed since the page was loaded
}

const drift = 2_000; // ms

// clockAhead differs from one moment to another if this computer's clock was set meanwhile, or the computer slept.
const clockAhead = (): number => Date.now() - performance.now();

// outdated tells whether an authorisation has to be asked for again: it is over, or this computer's clock has been changed since.
export function outdated(a: Authorisation): boolean {
	return Date.now() + a.lag >= a.to || Math.abs(clockAhead() - a.clock) > drift;
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

// Candidate is one of a connection's (RFC 8840); an empty line ends them.
export interface Candidate {
	readonly line: string;
	readonly mid: string;
	readonly mline: number;
}

// Assertion is the passkey's proof, in the spelling of the clinic's API.
export interface Assertion {
	readonly credential: Uint8Array;
	readonly authenticator_data: Uint8Array;
	readonly client_data: Uint8Array;
	readonly signature: Uint8Array;
}

export class NotConfirmed extends Error {
	constructor(
		readonly code: "browser.no_passkey" | "browser.passkey_cancelled" | "browser.confirmed_late" | "browser.no_such_passkey" | "browser.passkey_unverified",
		cause: string,
	) {
		super(cause);
	}
}

const timeout = life - 30_000;
const verified = 0x04; // of an assertion's flags (WebAuthn §6.1)

// canConfirm tells whether this browser knows passkeys at all.
export function canConfirm(): boolean {
	return "credentials" in navigator && typeof PublicKeyCredential !== "undefined";
}

// confirm asks the person to touch the passkey. What the terminal would refuse is said here: then nobody is called.
export async function confirm(i: Invitation, by: Authorisation, signal: AbortSignal): Promise<Assertion> {
	if (!canConfirm()) throw new NotConfirmed("browser.no_passkey", "no WebAuthn");
	const began = performance.now();
	let made: Credential | null;
	try {
		made = await navigator.credentials.get({
			signal,
			publicKey: {
				challenge: (await sha256(i.bytes)) as BufferSource,
				rpId: by.rp,
				allowCredentials: by.passkeys.map((id) => ({ type: "public-key", id: id as BufferSource })),
				userVerification: "required",
				timeout,
			},
		});
	} catch (cause) {
		// NotAllowedError: cancelled, timed out, or no such passkey here; browsers do not tell which, but take their time if nobody did anything.
		const cancelled = cause instanceof DOMException && (cause.name === "NotAllowedError" || cause.name === "AbortError");
		const late = performance.now() - began >= timeout - 500;
		throw new NotConfirmed(!cancelled ? "browser.no_passkey" : late ? "browser.confirmed_late" : "browser.passkey_cancelled", String(cause));
	}
	const c = made as PublicKeyCredential;
	const r = c.response as AuthenticatorAssertionResponse;
	const id = new Uint8Array(c.rawId);
	if (!by.passkeys.some((known) => equal(known, id))) throw new NotConfirmed("browser.no_such_passkey", "another passkey");
	if (((new Uint8Array(r.authenticatorData)[32] ?? 0) & verified) === 0) throw new NotConfirmed("browser.passkey_unverified", "the person was not verified");
	return {
		credential: id, authenticator_data: new Uint8Array(r.authenticatorData), client_data: new Uint8Array(r.clientDataJSON), signature: new Uint8Array(r.signature),
	};
}

// end is the caller's signed end of a call. talked is in milliseconds.
export async function end(i: Invitation, wish: Wish, reason: string, talked: number, by: Authorisation, now = Date.now()): Promise<Uint8Array> {
	const fields = new Fields(1, fromHex(wish.call), wish.terminal, await sha256(i.bytes), "caller", reason, Math.max(0, Math.round(talked)), 0, 0, now + by.lag);
	return sign(encode(fields), typeEnd, i.key);
}

// curtain is what the caller says of the own curtain, signed: nobody else draws or opens it. number grows in a call.
export async function curtain(i: Invitation, wish: Wish, number: number, drawn: boolean, by: Authorisation, now = Date.now()): Promise<Uint8Array> {
	const fields = new Fields(1, fromHex(wish.call), wish.terminal, await sha256(i.bytes), "caller", drawn, number, 0, 0, now + by.lag);
	return sign(encode(fields), typeCurtain, i.key);
}

// candidates are addresses at which this page may be reached, signed: the terminal looks for no path to any others. number grows in a call.
export async function candidates(i: Invitation, wish: Wish, number: number, list: readonly Candidate[]): Promise<Uint8Array> {
	const fields = new Fields(1, fromHex(wish.call), wish.terminal, await sha256(i.bytes), number, list.map((c) => new Fields(c.line, c.mid, c.mline)));
	return sign(encode(fields), typeCandidates, i.key);
}

// restart is an offer for another path in a call that runs. number grows in a call.
export async function restart(i: Invitation, wish: Wish, number: number, offer: string, by: Authorisation, now = Date.now()): Promise<Uint8Array> {
	const fields = new Fields(1, fromHex(wish.call), wish.terminal, await sha256(i.bytes), "caller", number, await sha256(offer), now + by.lag);
	return sign(encode(fields), typeRestart, i.key);
}

// code is the six digits that both ends show, of the invitation and the terminal's certificate; package protocol has the same.
export async function code(invitation: Uint8Array, certificate: Uint8Array): Promise<string> {
	const label = new TextEncoder().encode("vindu/call-code.v1");
	const sum = await sha256(concat(label, await sha256(invitation), certificate));
	const n = new DataView(sum.buffer).getBigUint64(0) % 1_000_000n;
	const digits = n.toString().padStart(6, "0");
	return `${digits.slice(0, 3)} ${digits.slice(3)}`;
}

interface Told {
	readonly now: number;
	readonly id: string;
	readonly to: number;
	readonly rp: string;
	readonly authorisation: string;
	readonly party: Authorisation["party"];
	readonly passkeys: readonly string[];
}

// parseAuthorisation takes the clinic's reply to what was asked took ms ago: half of that ago the clinic's clock said now.
export function parseAuthorisation(a: Told, took: number): Authorisation {
	return {
		id: a.id, signed: fromBase64(a.authorisation), to: a.to, party: a.party, passkeys: a.passkeys.map(fromBase64), rp: a.rp,
		lag: a.now - Math.round(Date.now() - took / 2), clock: clockAhead(),
	};
}
