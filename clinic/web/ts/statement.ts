// The statements that a terminal makes to a caller, decoded as strictly as package protocol does.

import { isZero, utf8 } from "./bytes";
import { decode, Item, Malformed } from "./cbor";

export const typeAnswer = "vindu/answer.v1";
export const typeEnd = "vindu/end.v1";
export const typeRestart = "vindu/restart.v1";
export const typeCurtain = "vindu/curtain.v1";

export type Decision = "ringing" | "answered" | "declined" | "busy" | "quiet" | "shutter" | "refused";
// What has no place in a text for people; the same list as in package protocol (unprintable in codec.go).
const unprintable =
	/[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\u{e0000}-\u{e007f}]/u;
const decisions: readonly string[] = ["ringing", "answered", "declined", "busy", "quiet", "shutter", "refused"];

export interface Answer {
	readonly call: Uint8Array;
	readonly terminal: Uint8Array;
	readonly invitation: Uint8Array;
	readonly key: Uint8Array; // SHA-256 of the terminal's DTLS certificate
	readonly answer: Uint8Array; // SHA-256 of the session description
	readonly decision: Decision;
	readonly software: string;
	readonly at: number;
}

export interface End {
	readonly call: Uint8Array;
	readonly terminal: Uint8Array;
	readonly invitation: Uint8Array;
	readonly by: string;
	readonly reason: string;
	readonly duration: number; // ms
	readonly cameraClosed: number; // ms since the epoch; 0 if it never was open
	readonly microphoneClosed: number;
	readonly at: number;
}

export interface Restart {
	readonly call: Uint8Array;
	readonly terminal: Uint8Array;
	readonly invitation: Uint8Array;
	readonly by: string;
	readonly number: number; // of the offer that it answers
	readonly sdp: Uint8Array; // SHA-256 of the session description
	readonly at: number;
}

export function decodeRestart(payload: Uint8Array): Restart {
	const f = new Fields(payload, 8);
	return {
		call: f.bytes(2, 16),
		terminal: f.bytes(3, 32),
		invitation: f.bytes(4, 32),
		by: f.text(5),
		number: f.natural(6),
		sdp: f.bytes(7, 32),
		at: f.time(8),
	};
}

export function decodeAnswer(payload: Uint8Array): Answer {
	const f = new Fields(payload, 9);
	const a: Answer = {
		call: f.bytes(2, 16),
		terminal: f.bytes(3, 32),
		invitation: f.bytes(4, 32),
		key: f.bytes(5, 32),
		answer: f.bytes(6, 32),
		decision: f.text(7) as Decision,
		software: f.text(8),
		at: f.time(9),
	};
	if (!decisions.includes(a.decision)) throw new Malformed("unknown decision");
	const connects = a.decision === "ringing" || a.decision === "answered";
	if (isZero(a.key) === connects || isZero(a.answer) === connects) throw new Malformed("keys and decision do not fit");
	return a;
}

export function decodeEnd(payload: Uint8Array): End {
	const f = new Fields(payload, 10);
	const e: End = {
		call: f.bytes(2, 16),
		terminal: f.bytes(3, 32),
		invitation: f.bytes(4, 32),
		by: f.text(5),
		reason: f.text(6),
		duration: f.natural(7),
		cameraClosed: f.natural(8),
		microphoneClosed: f.natural(9),
		at: f.time(10),
	};
	if (!/^[a-z]{1,20}\.[a-z_]{1,40}$/.test(e.reason)) throw new Malformed("reason is not a code");
	return e;
}

// Curtain is what an end says of its own; the terminal also since when camera and microphone are closed for a curtain, whosever it is.
export interface Curtain {
	readonly call: Uint8Array;
	readonly terminal: Uint8Array;
	readonly invitation: Uint8Array;
	readonly by: string;
	readonly drawn: boolean;
	readonly number: number;
	readonly closed: number; // ms since the epoch; 0: they are not
	readonly at: number;
}

export function decodeCurtain(payload: Uint8Array): Curtain {
	const f = new Fields(payload, 10);
	const camera = f.natural(8);
	const microphone = f.natural(9);
	const c: Curtain = {
		call: f.bytes(2, 16), terminal: f.bytes(3, 32), invitation: f.bytes(4, 32), by: f.text(5), drawn: f.truth(6), number: f.natural(7), closed: Math.max(camera, microphone), at: f.time(10),
	};
	if (c.by !== "terminal" && c.by !== "caller") throw new Malformed("a curtain of nobody who has one");
	if (c.number < 1 || c.number > 0xffffffff) throw new Malformed("no number of a statement");
	if ((camera === 0) !== (microphone === 0) || c.closed > c.at || (c.by !== "terminal" && c.closed !== 0)) throw new Malformed("closed as nobody can say");
	return c;
}

// Fields reads a map with the keys 1 to n, no more and no fewer; key 1 is the version.
class Fields {
	private readonly map: Map<number, Item>;

	constructor(payload: Uint8Array, n: number) {
		const item = decode(payload);
		if (!(item instanceof Map) || item.size !== n) throw new Malformed("not the fields of this statement");
		this.map = item;
		for (let i = 1; i <= n; i++) if (!item.has(i)) throw new Malformed(`field ${i} is missing`);
		if (item.get(1) !== 1) throw new Malformed("unknown version");
	}

	bytes(key: number, length: number): Uint8Array {
		const v = this.map.get(key);
		if (!(v instanceof Uint8Array) || v.length !== length) throw new Malformed(`field ${key} is not ${length} bytes`);
		return v;
	}

	text(key: number): string {
		const v = this.map.get(key);
		if (typeof v !== "string" || v === "" || utf8(v).length > 256 || unprintable.test(v)) {
			throw new Malformed(`field ${key} is not a text`);
		}
		return v;
	}

	truth(key: number): boolean {
		const v = this.map.get(key);
		if (typeof v !== "boolean") throw new Malformed(`field ${key} is neither true nor false`);
		return v;
	}

	natural(key: number): number {
		const v = this.map.get(key);
		if (typeof v !== "number" || v < 0) throw new Malformed(`field ${key} is not a number`);
		return v;
	}

	time(key: number): number {
		const v = this.natural(key);
		if (v === 0) throw new Malformed(`field ${key} is not a time`);
		return v;
	}
}
