// A call, as the caller's page sees it: a pure state machine. next says what becomes of a state at an event, and what
// is to be done about it; page.ts does it and reports back by events.
//
//	idle ──ring──► asking ──media──► confirming ──passkey──► calling ──proven: ringing──► ringing ──proven: answered──► connecting ──connected──► talking
//	  │ (only where the browser          ▲    │ not confirmed     │ unproven, end, failed      │                             │                      │
//	  │  has to ask first)               │    ▼                   ▼                            ▼                             ▼                      ▼
//	  └───────────────ring───────────────┘  ended ◄────────────────────────────────── hang-up by either side, end, path or clinic lost ─────────────┘
//
// Invariants, kept by a test over random events: nobody is asked before the call was confirmed; nothing is sent or connected before an answer was proven; sound is sent
// and the far end shown only after "answered" was proven; after "ended" nothing is sent, shown or connected until the next ring.
//
// Curtains: either end draws its own, and opens that alone. While one is drawn, and until the home has said that camera and microphone are back, nothing of this end goes out
// and nothing of the far end is shown or heard. The call, its path and its times go on.
//
// See first, be seen second: the picture goes out while the terminal rings, the sound when it has answered, and the far
// end is shown when it is known what it gets to see.

export type Code = string;

export type Phase = "idle" | "asking" | "confirming" | "calling" | "ringing" | "connecting" | "talking" | "ended";

// What this computer can send: unknown until the browser has said.
export type Media = "unknown" | "both" | "picture" | "sound" | "none";

// Update is what the clinic passes on about a call.
export interface Update {
	readonly call: string;
	readonly kind: "answer" | "candidate" | "restart" | "end" | "state" | "curtain";
	readonly answer?: string; // base64 of the signed answer
	readonly restart?: string; // base64 of the terminal's signed answer to an offer for another path; sdp goes with it
	readonly sdp?: string;
	readonly candidate?: { readonly line: string; readonly mid: string; readonly mline: number };
	readonly end?: string; // base64 of the terminal's signed end
	readonly curtain?: string; // base64 of what the terminal has signed of its curtain
	readonly code?: Code;
}

export interface State {
	readonly phase: Phase;
	readonly attempt: number; // counts rings; what comes back late from an earlier attempt is known by it
	readonly home: string;
	readonly call: string; // empty until the clinic has named the call
	readonly held: readonly Update[]; // updates that overtook the clinic's reply
	readonly media: Media;
	readonly answered: boolean; // proven
	readonly connected: boolean; // picture and sound could flow
	readonly curtain: Curtains;
	readonly outcome: Code; // of an ended call
}

// Curtains are whose are drawn. closed is since when camera and microphone in the home are, for one, as its terminal has proven; 0: it has not, or they are back.
export interface Curtains {
	readonly mine: boolean;
	readonly theirs: boolean;
	readonly closed: number;
}

// covered says that nothing may be sent, shown or heard.
export function covered(c: Curtains): boolean {
	return c.mine || c.theirs || c.closed !== 0;
}

export type Event =
	| { readonly type: "ring"; readonly home: string; readonly ask: boolean }
	| { readonly type: "media"; readonly attempt: number; readonly media: Exclude<Media, "unknown"> }
	| { readonly type: "denied"; readonly attempt: number }
	| { readonly type: "confirmed"; readonly attempt: number } // by the person's passkey
	| { readonly type: "started"; readonly attempt: number; readonly call: string }
	| { readonly type: "notStarted"; readonly attempt: number; readonly code: Code; readonly refused: boolean } // refused: by the clinic, for certain
	| { readonly type: "update"; readonly update: Update }
	| { readonly type: "proven"; readonly attempt: number; readonly decision: string; readonly code: Code; readonly sdp: string }
	| { readonly type: "failed"; readonly attempt: number; readonly code: Code } // proof, path, encryption, browser
	| { readonly type: "connected"; readonly attempt: number }
	| { readonly type: "draw"; readonly drawn: boolean } // the own curtain
	| { readonly type: "curtain"; readonly attempt: number; readonly drawn: boolean; readonly closed: number } // the home's, proven
	| { readonly type: "hangUp" }
	| { readonly type: "clinicLost" }
	| { readonly type: "signedOut"; readonly code: Code }
	| { readonly type: "leave" }; // the page is closed

export type Effect =
	| { readonly do: "media" } // ask for camera and microphone
	| { readonly do: "confirm" } // have the passkey sign the invitation
	| { readonly do: "post" } // send the offer to the clinic
	| { readonly do: "prove"; readonly update: Update }
	| { readonly do: "connect"; readonly sdp: string }
	| { readonly do: "candidate"; readonly update: Update }
	| { readonly do: "move"; readonly update: Update } // take the answer to an offer for another path, if it is proven
	| { readonly do: "send"; readonly picture: boolean; readonly sound: boolean }
	| { readonly do: "show" }
	| { readonly do: "cover"; readonly covered: boolean } // stop what goes out and what is shown, or go on
	| { readonly do: "tellCurtain" } // tell the home, signed, whether the own curtain is drawn
	| { readonly do: "proveCurtain"; readonly update: Update }
	| { readonly do: "hangUp"; readonly call: string; readonly code: Code } // tell the clinic
	| { readonly do: "giveUp"; readonly code: Code } // the same of the attempt's call, of which the clinic has not answered that it began
	| { readonly do: "receipt"; readonly update: Update } // check the terminal's signed end
	| { readonly do: "close" }; // stop camera, microphone and connection, send the record

export const idle: State = {
	phase: "idle", attempt: 0, home: "", call: "", held: [], media: "unknown", answered: false, connected: false,
	curtain: { mine: false, theirs: false, closed: 0 }, outcome: "",
};

const maxHeld = 64;

type Step = readonly [State, readonly Effect[]];

export function next(s: State, e: Event): Step {
	if ("attempt" in e && e.attempt !== s.attempt) return stale(s, e);
	switch (e.type) {
		case "ring":
			return ring(s, e.home, e.ask);
		case "media":
			return media(s, e.media);
		case "denied":
			return running(s) ? end(s, "browser.permission_denied") : [s, []];
		case "confirmed":
			return s.phase === "confirming" ? [{ ...s, phase: "calling" }, [{ do: "post" }]] : [s, []];
		case "started":
			return started(s, e.call);
		case "notStarted":
			return s.phase === "calling" && s.call === "" ? end(s, e.code, !e.refused) : [s, []];
		case "update":
			return update(s, e.update);
		case "proven":
			return proven(s, e.decision, e.code, e.sdp);
		case "failed":
			return running(s) ? end(s, e.code) : [s, []];
		case "connected":
			return connected(s);
		case "draw":
			return drawable(s) ? curtain(s, { ...s.curtain, mine: e.drawn }, e.drawn !== s.curtain.mine) : [s, []];
		case "curtain":
			return s.answered ? curtain(s, { ...s.curtain, theirs: e.drawn, closed: e.closed }, false) : [s, []];
		case "hangUp":
			return running(s) ? end(s, "end.caller_hung_up") : [s, []];
		case "clinicLost":
			return running(s) && s.phase !== "asking" && s.phase !== "confirming" ? end(s, "signalling.clinic_lost") : [s, []];
		case "signedOut":
			return running(s) ? end(s, e.code) : [s, []];
		case "leave":
			return running(s) ? end(s, "end.page_closed") : [s, []];
	}
}

// running says whether there is a call to end.
export function running(s: State): boolean {
	return s.phase !== "idle" && s.phase !== "ended";
}

// drawable says whether there is anybody from whom to draw a curtain.
export function drawable(s: State): boolean {
	return s.phase === "ringing" || s.phase === "connecting" || s.phase === "talking";
}

// curtain covers before it tells: what is drawn is drawn, whatever becomes of the word of it.
function curtain(s: State, to: Curtains, tell: boolean): Step {
	const effects: Effect[] = [];
	if (covered(to) !== covered(s.curtain)) effects.push({ do: "cover", covered: covered(to) });
	if (tell) effects.push({ do: "tellCurtain" });
	return [{ ...s, curtain: to }, effects];
}

// stale: a call that the clinic has started although it was given up meanwhile has to be ended there.
function stale(s: State, e: Event): Step {
	return e.type === "started" ? [s, [{ do: "hangUp", call: e.call, code: "end.caller_hung_up" }]] : [s, []];
}

function ring(s: State, home: string, ask: boolean): Step {
	if (running(s)) return [s, []];
	const fresh: State = { ...idle, attempt: s.attempt + 1, home };
	return ask
		? [{ ...fresh, phase: "asking" }, [{ do: "media" }]]
		: [{ ...fresh, phase: "confirming" }, [{ do: "confirm" }, { do: "media" }]];
}

function media(s: State, media: Media): Step {
	if (s.media !== "unknown" || !running(s)) return [s, []];
	const t = { ...s, media };
	switch (s.phase) {
		case "asking":
			return [{ ...t, phase: "confirming" }, [{ do: "confirm" }]];
		case "ringing":
			return [t, [{ do: "send", picture: true, sound: false }]];
		case "connecting":
		case "talking":
			return [t, [{ do: "send", picture: true, sound: true }, { do: "show" }]];
		default:
			return [t, []];
	}
}

function started(s: State, call: string): Step {
	if (s.phase !== "calling") return [s, s.phase === "ended" ? [{ do: "hangUp", call, code: s.outcome }] : []];
	if (s.call !== "") return [s, []];
	let step: Step = [{ ...s, call, held: [] }, []];
	for (const u of s.held) step = then(step, { type: "update", update: u });
	return step;
}

function then([s, effects]: Step, e: Event): Step {
	const [t, more] = next(s, e);
	return [t, [...effects, ...more]];
}

function update(s: State, u: Update): Step {
	if (!running(s)) return [s, u.kind === "end" && u.end && u.call === s.call ? [{ do: "receipt", update: u }] : []];
	if (s.phase === "calling" && s.call === "") return [{ ...s, held: [...s.held, u].slice(-maxHeld) }, []];
	if (u.call !== s.call) return [s, []];
	switch (u.kind) {
		case "answer":
			return [s, [{ do: "prove", update: u }]];
		case "candidate":
			return [s, [{ do: "candidate", update: u }]];
		case "restart":
			return [s, s.connected ? [{ do: "move", update: u }] : []];
		case "curtain":
			return [s, [{ do: "proveCurtain", update: u }]];
		case "state":
			return [s, []]; // the clinic's word; only what is proven counts here
		case "end": {
			const [t, effects] = end(s, u.code || "unknown.unknown", false);
			return [t, u.end ? [...effects, { do: "receipt", update: u }] : effects];
		}
	}
}

function proven(s: State, decision: string, code: Code, sdp: string): Step {
	if (!running(s) || s.call === "") return [s, []];
	const known = s.media !== "unknown";
	const connect: Effect[] = s.phase === "calling" ? [{ do: "connect", sdp }] : [];
	switch (decision) {
		case "ringing":
			if (s.phase !== "calling") return [s, []];
			return [{ ...s, phase: "ringing" }, known ? [...connect, { do: "send", picture: true, sound: false }] : connect];
		case "answered":
			if (s.answered) return [s, []];
			return [
				{ ...s, answered: true, phase: s.connected ? "talking" : "connecting" },
				known ? [...connect, { do: "send", picture: true, sound: true }, { do: "show" }] : connect,
			];
		default:
			return s.answered ? [s, []] : end(s, code, false);
	}
}

function connected(s: State): Step {
	if (s.phase === "ringing") return [{ ...s, connected: true }, []];
	if (s.phase === "connecting") return [{ ...s, connected: true, phase: "talking" }, []];
	return [s, []];
}

// end gives up whatever runs. The clinic is told unless it was the one that told us.
function end(s: State, outcome: Code, tell = true): Step {
	const effects: Effect[] = [{ do: "close" }];
	if (tell && s.call !== "") effects.push({ do: "hangUp", call: s.call, code: outcome });
	else if (tell && s.phase === "calling") effects.push({ do: "giveUp", code: outcome }); // it may have begun: the home must not ring for nobody
	return [{ ...s, phase: "ended", held: [], outcome, answered: false, connected: false, curtain: idle.curtain }, effects];
}
