// The proof that an answer comes from the terminal of the home that was meant, and that its picture and sound can come
// from nobody else. Nothing is shown or sent before it holds.

import { equal, hex, sha256 } from "./bytes";
import { Key, open } from "./cose";
import { boundTo, spell } from "./sdp";
import { Answer, Curtain, decodeAnswer, decodeCurtain, decodeEnd, decodeRestart, End, Restart, typeAnswer, typeCurtain, typeEnd, typeRestart } from "./statement";

export class Unproven extends Error {
	constructor(readonly code: "proof.answer" | "proof.fingerprint", cause: string) {
		super(cause);
	}
}

// Expected is what the caller knows: whom it called, and what it sent.
export interface Expected {
	readonly key: Key; // of the terminal, known since the page was loaded
	readonly call: string; // hexadecimal
	readonly invitation: Uint8Array; // the signed bytes
}

export async function proveAnswer(signed: Uint8Array, sdp: string, expected: Expected): Promise<Answer> {
	let answer: Answer;
	try {
		answer = decodeAnswer(await open(signed, typeAnswer, expected.key));
		await aboutThisCall(answer, expected);
	} catch (cause) {
		throw new Unproven("proof.answer", String(cause));
	}
	if (answer.decision === "ringing" || answer.decision === "answered") {
		if (!equal(answer.answer, await sha256(sdp))) throw new Unproven("proof.fingerprint", "another session description");
		if (!boundTo(sdp, spell(answer.key))) throw new Unproven("proof.fingerprint", "another certificate");
	}
	return answer;
}

// proveEnd is the terminal's receipt: when nobody could see or hear any more.
export async function proveEnd(signed: Uint8Array, expected: Expected): Promise<End> {
	try {
		const end = decodeEnd(await open(signed, typeEnd, expected.key));
		await aboutThisCall(end, expected);
		if (end.by !== "terminal") throw new Error("by another side");
		return end;
	} catch (cause) {
		throw new Unproven("proof.answer", String(cause));
	}
}

// proveRestart is the terminal's answer to an offer for another path. certificate is the one that it has shown in this call, and goes on showing.
export async function proveRestart(signed: Uint8Array, sdp: string, expected: Expected, certificate: Uint8Array): Promise<Restart> {
	let restart: Restart;
	try {
		restart = decodeRestart(await open(signed, typeRestart, expected.key));
		await aboutThisCall(restart, expected);
		if (restart.by !== "terminal") throw new Error("by another side");
	} catch (cause) {
		throw new Unproven("proof.answer", String(cause));
	}
	if (!equal(restart.sdp, await sha256(sdp))) throw new Unproven("proof.fingerprint", "another session description");
	if (!boundTo(sdp, spell(certificate))) throw new Unproven("proof.fingerprint", "another certificate");
	return restart;
}

// proveCurtain is what the terminal says of its curtain. after is the number of its last statement: an older one says nothing.
export async function proveCurtain(signed: Uint8Array, expected: Expected, after: number): Promise<Curtain> {
	try {
		const curtain = decodeCurtain(await open(signed, typeCurtain, expected.key));
		await aboutThisCall(curtain, expected);
		if (curtain.by !== "terminal") throw new Error("by another side");
		if (curtain.number <= after) throw new Error("no news");
		return curtain;
	} catch (cause) {
		throw new Unproven("proof.answer", String(cause));
	}
}

async function aboutThisCall(s: Answer | End | Restart | Curtain, expected: Expected): Promise<void> {
	if (hex(s.call) !== expected.call) throw new Error("about another call");
	if (!equal(s.terminal, expected.key.hash)) throw new Error("about another terminal");
	if (!equal(s.invitation, await sha256(expected.invitation))) throw new Error("about another invitation");
}
