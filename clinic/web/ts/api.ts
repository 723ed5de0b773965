// Requests to the clinic. Cookies go with them by themselves; other sites' requests are refused by the server.

import { Authorisation, parseAuthorisation } from "./invitation";

export class Refused extends Error {
	constructor(readonly status: number, readonly code: string) {
		super(`the clinic refused: ${status} ${code}`);
	}
}

const patience = 10_000;

function inTime(limit = patience): AbortSignal {
	const controller = new AbortController();
	setTimeout(() => controller.abort(), limit);
	return controller.signal;
}

async function post(path: string, body: unknown, keepalive = false, limit = patience): Promise<Response> {
	let response: Response;
	try {
		response = await fetch(path, {
			method: "POST",
			headers: { "Content-Type": "application/json" },
			body: JSON.stringify(body),
			keepalive,
			signal: inTime(limit),
		});
	} catch {
		throw new Refused(0, "signalling.clinic_lost");
	}
	if (!response.ok) throw new Refused(response.status, response.headers.get("Vindu-Failure") ?? "browser.failed");
	return response;
}

export interface Request {
	readonly home: string;
	readonly page: string;
	readonly offer: string;
	readonly invitation: string; // base64; it names the call and the terminal
	readonly assertion: { readonly credential: string; readonly authenticator_data: string; readonly client_data: string; readonly signature: string }; // base64
}

export async function start(request: Request): Promise<void> {
	await post("/api/calls", request);
}

// authorisation is the person's own, as it is now.
export async function authorisation(): Promise<Authorisation> {
	const asked = performance.now();
	const response = await fetch("/api/authorisation", { signal: inTime() });
	if (!response.ok) throw new Refused(response.status, response.headers.get("Vindu-Failure") ?? "");
	return parseAuthorisation((await response.json()) as Parameters<typeof parseAuthorisation>[0], performance.now() - asked);
}

// candidates sends some that are signed (base64), which the terminal verifies.
export async function candidates(call: string, signed: string): Promise<void> {
	await post(`/api/calls/${call}/candidates`, { candidates: signed });
}

// restart sends an offer for another path that is signed (base64), which the terminal verifies. The next one is better than one that is late.
export async function restart(call: string, signed: string, offer: string): Promise<void> {
	await post(`/api/calls/${call}/restart`, { restart: signed, sdp: offer }, false, 3_000);
}

// curtain passes on what is signed (base64) of the own curtain.
export async function curtain(call: string, signed: string): Promise<void> {
	await post(`/api/calls/${call}/curtain`, { curtain: signed });
}

export interface With {
	readonly colleagues: number;
	readonly students: number;
	readonly others: number;
}

// present notes on the call's record who is with the caller, null: nothing was said, and who is in the room in the home.
export async function present(call: string, who: With | null, home: string): Promise<void> {
	await post(`/api/calls/${call}/present`, { with: who, home });
}

// announce has a home told when this person calls, by its clock; "": it is told of nothing.
export async function announce(home: string, at: string): Promise<void> {
	await post(`/api/homes/${home}/announcement`, { at });
}

// rehearse has a home's terminal asked to rehearse; it is refused where it is known that the terminal would not.
export async function rehearse(home: string): Promise<void> {
	await post(`/api/homes/${home}/rehearsal`, {});
}

// hangUp ends a call, also one of which the clinic has not answered, or not yet, that it began.
// signed is the caller's signed end, base64, where there is one.
export async function hangUp(call: string, reason: string, signed: string): Promise<void> {
	await insist(`/api/calls/${call}/hang-up`, { reason, end: signed }, [500, 1_000, 2_000, 5_000, 15_000]);
}

// record sends the browser's half of the record.
export async function record(call: string, half: unknown): Promise<void> {
	await insist(`/api/calls/${call}/record`, half, [2_000, 5_000, 15_000, 30_000]);
}

// attempt sends the half of an attempt of which the clinic was never asked to make a call.
export async function attempt(call: string, home: string, half: unknown): Promise<void> {
	await insist(`/api/calls/${call}/attempt`, { home, half }, [2_000, 5_000, 15_000, 30_000]);
}

// Verdict is what the clinic says of a call that is over.
export interface Verdict {
	readonly sentence: string;
	readonly now: string;
	readonly complete: boolean; // nothing more is to come
}

export async function verdict(call: string): Promise<Verdict> {
	const response = await fetch(`/api/calls/${call}/verdict`, { signal: inTime() });
	if (!response.ok) throw new Refused(response.status, "");
	return (await response.json()) as Verdict;
}

// insist posts again, after pauses, if the clinic is not there just now.
async function insist(path: string, body: unknown, pauses: readonly number[]): Promise<void> {
	for (const pause of [...pauses, 0]) {
		try {
			await post(path, body, true);
			return;
		} catch (cause) {
			if (pause === 0 || (cause instanceof Refused && cause.status >= 400 && cause.status < 500)) throw cause;
		}
		await new Promise((resolve) => setTimeout(resolve, pause * (0.5 + Math.random() / 2)));
	}
}

// beacon sends what the page still has to say while it is being closed.
export function beacon(call: string, what: "hang-up" | "record" | "attempt", body: unknown): void {
	navigator.sendBeacon(`/api/calls/${call}/${what}`, new Blob([JSON.stringify(body)], { type: "application/json" }));
}

export async function iceServers(): Promise<RTCIceServer[]> {
	const response = await fetch("/api/ice", { signal: inTime() });
	if (!response.ok) throw new Refused(response.status, "");
	return ((await response.json()) as { servers: RTCIceServer[] }).servers;
}

// signedOut tells why the session does not hold any more; "" if it does, null if the clinic does not answer.
export async function signedOut(): Promise<string | null> {
	try {
		const response = await fetch("/api/session", { signal: inTime() });
		return response.ok ? "" : response.status === 401 ? (response.headers.get("Vindu-Failure") ?? "browser.signed_out") : null;
	} catch {
		return null;
	}
}
