// The clinician's page: wires the state machine of a call to the browser, the clinic and the screen.

import * as api from "./api";
import { fromBase64, hex, toBase64 } from "./bytes";
import { covered, Effect, Event, idle, next, running, State, Update } from "./call";
import { importKey, Key } from "./cose";
import { Home, Rights, Stream } from "./events";
import * as invitation from "./invitation";
import { canConfirm, outdated } from "./invitation";
import { askable, forget, keepHomes, row, showHomes, showRecent } from "./lists";
import * as media from "./media";
import { Called, Panel, Unheard } from "./panel";
import { Peer } from "./peer";
import { Present } from "./present";
import { Expected, proveAnswer, proveCurtain, proveEnd, proveRestart, Unproven } from "./proof";
import { Half, Recorder } from "./record";
import { Words } from "./words";

// Attempt is what belongs to one ring and is thrown away with it.
interface Attempt {
	readonly number: number;
	readonly call: string; // the name that its call gets
	readonly home: string;
	readonly called: Called;
	readonly peer: Peer;
	readonly recorder: Recorder;
	readonly key: Promise<Key> | undefined; // of the home's terminal, from when the page was loaded
	readonly abort: AbortController; // of the question for the passkey
	by?: invitation.Authorisation;
	wish?: invitation.Wish;
	invitation?: invitation.Invitation;
	assertion?: invitation.Assertion;
	expected?: Expected;
	sdp: string; // of the first proven answer
	certificate?: Uint8Array;
	own?: media.Own;
	proofs: Promise<void>; // answers are proven in the order in which they came
	kept?: Promise<boolean>; // once the clinic was asked for the call: whether it has a record of it
	heard: number; // the number of what the home has said last of its curtain
	curtains: number; // how often this page has spoken of the own
	told: boolean; // whether the home knows it to be drawn
	telling: boolean;
	over: boolean;
	watch: number; // looks whether pictures come
	ends: number; // waits for the end of the authorisation
}

const refreshICE = 20 * 60_000; // credentials of the relay have to outlive the longest call
const firstPicture = 5_000; // ms within which it is expected
const lastPicture = 3_000; // ms after which a picture is not the home's any more
const look = 500;
const unrecorded = [400, 401, 403, 413]; // what the clinic refuses before it is a call
const judgeAfter = [2_000, 6_000]; // ms in which the terminal's half of the record is likely to come
const warnBefore = 2 * 60_000; // that the authorisation ends in a call
const lapseGrace = 2_000; // for the terminal to end such a call and to say so
const curtainEvery = 600; // ms between two words of the own curtain: the clinic passes on two a second
const clockOff = 60_000; // by which this computer's clock is wrong enough to be spoken of

class Page {
	private state: State = idle;
	private attempt: Attempt | undefined;
	private warm: Peer | undefined; // its offer is ready before the click
	private servers: RTCIceServer[] = [];
	private authorisation: invitation.Authorisation | string = "signalling.clinic_lost"; // or why there is none
	private lag = 0; // ms by which the clinic's clock is ahead of this computer's
	private muted = false;
	private cameraOff = false;
	private leaving = false;
	private gone = false; // the connection to the clinic is broken off
	private permission: media.Permission = "prompt";
	private readonly id = hex(crypto.getRandomValues(new Uint8Array(16)));
	private readonly homes = new Map<string, Home>();
	private readonly keys = new Map<string, Promise<Key>>();
	private readonly words = Words.read();
	private readonly panel = new Panel(this.words);
	private readonly present = new Present(this.words, api.present);
	private readonly relayOnly = document.getElementById("relay-only") as HTMLInputElement;
	private readonly urgent = document.getElementById("urgent") as HTMLInputElement;
	private readonly banner = document.getElementById("banner") as HTMLElement;
	private readonly right = document.getElementById("right") as HTMLElement;
	private readonly stream = new Stream(this.id, {
		rights: (rights) => this.mayDo(rights),
		homes: (homes) => {
			if (!showHomes(homes, this.homes) && this.state.phase === "idle") location.reload(); // another home or terminal has come
			if (running(this.state)) this.panel.home(this.homes.get(this.state.home));
		},
		recent: showRecent,
		update: (update) => this.handle({ type: "update", update }),
		connected: () => {
			this.gone = false;
			delete document.body.dataset["gone"];
			this.say("");
		},
		gone: () => {
			this.gone = true;
			document.body.dataset["gone"] = "yes"; // what was heard of the homes is from before
			this.say("page.gone");
		},
		lost: () => this.handle({ type: "clinicLost" }),
		signedOut: (code) => {
			this.say("page.signed_out");
			this.handle({ type: "signedOut", code });
		},
	});

	start(): void {
		for (const button of document.querySelectorAll<HTMLButtonElement>("button.ring")) {
			const home = button.closest<HTMLElement>("[data-home]");
			if (!home || button.disabled) continue;
			const spki = home.dataset["spki"] ?? "";
			if (spki) this.keys.set(home.dataset["home"] ?? "", importKey(spki));
			button.addEventListener("click", () => this.ring(home.dataset["home"] ?? ""));
		}
		for (const form of document.querySelectorAll<HTMLFormElement>("form[data-announce]")) {
			form.addEventListener("submit", (e) => {
				e.preventDefault(); // a page that is loaded again would end a call
				void this.announce(form, e.submitter?.getAttribute("name") === "back");
			});
		}
		for (const r of document.querySelectorAll<HTMLElement>("[data-home]")) askable(r);
		for (const form of document.querySelectorAll<HTMLFormElement>("form[data-rehearse]")) {
			form.addEventListener("submit", (e) => {
				e.preventDefault(); // so, too
				void this.rehearse(form);
			});
		}
		this.panel.hangUp.addEventListener("click", () => this.handle({ type: "hangUp" }));
		this.panel.mute.addEventListener("click", () => this.toggle("muted"));
		this.panel.camera.addEventListener("click", () => this.toggle("cameraOff"));
		this.panel.draw.addEventListener("click", () => this.handle({ type: "draw", drawn: !this.state.curtain.mine }));
		this.relayOnly.addEventListener("change", () => this.prepare());
		window.addEventListener("pagehide", () => this.leave());
		window.addEventListener("pageshow", (e) => {
			if (e.persisted) location.reload(); // what was kept of the page is out of date
		});
		document.addEventListener("visibilitychange", () => this.seen());
		document.addEventListener("click", (e) => this.follow(e), true);
		this.stream.open();
		void this.refresh();
		window.setInterval(() => void this.refresh(), refreshICE);
		navigator.mediaDevices?.addEventListener?.("devicechange", () => void this.look());
		this.panel.show(this.state, { label: "", code: "" }, false, "");
		void this.look().finally(() => (document.body.dataset["ready"] = "yes"));
	}

	// announce has a home told when this person calls, or told of nothing; the home's notes then say so.
	private async announce(form: HTMLFormElement, back: boolean): Promise<void> {
		const said = form.querySelector<HTMLElement>(".said") as HTMLElement;
		const at = form.querySelector<HTMLInputElement>("input[name=at]") as HTMLInputElement;
		said.textContent = "";
		try {
			await api.announce(form.dataset["announce"] ?? "", back ? "" : at.value);
			at.value = "";
			said.textContent = this.words.say(back ? "page.untold" : "page.told");
		} catch {
			said.textContent = this.words.say("page.not_told");
		}
	}

	// rehearse has a home's terminal asked; the result comes with the home's notes.
	private async rehearse(form: HTMLFormElement): Promise<void> {
		const said = form.querySelector<HTMLElement>(".said") as HTMLElement;
		said.textContent = "";
		try {
			await api.rehearse(form.dataset["rehearse"] ?? "");
			said.textContent = this.words.say("page.rehearses");
		} catch (e) {
			const code = e instanceof api.Refused ? e.code : "";
			const why: Record<string, string> = { "signalling.terminal_offline": "page.rehearse_offline", "answer.busy": "page.rehearse_busy", "link.too_many_requests": "page.rehearse_soon" };
			said.textContent = this.words.say(why[code] ?? "page.rehearse_not");
		}
	}

	// refresh gets credentials for the relay and prepares an offer with them.
	private async refresh(): Promise<void> {
		try {
			this.servers = await api.iceServers();
		} catch {
			// Without a relay a direct path may still be found.
		}
		await this.authorise();
		if (!running(this.state)) this.prepare();
	}

	// authorise learns by what right this person calls; it is part of what the passkey signs.
	private async authorise(): Promise<void> {
		try {
			this.authorisation = await api.authorisation();
			this.lag = this.authorisation.lag;
			void this.look();
		} catch (cause) {
			this.authorisation = (cause instanceof api.Refused && cause.code) || "signalling.clinic_lost";
		}
	}

	// mayDo shows what the person may do by now: a home that may not be called any more goes from the page.
	private mayDo(rights: Rights): void {
		this.right.textContent = rights.text;
		this.right.hidden = rights.text === "";
		keepHomes(rights.homes, (home) => {
			this.homes.delete(home);
			this.keys.delete(home);
		});
		const empty = document.getElementById("no-homes") as HTMLElement;
		empty.hidden = rights.id === "" || document.querySelector("[data-home]") !== null;
		if (rights.id === "") this.authorisation = "authorisation.none";
		else if (typeof this.authorisation === "string" || this.authorisation.id !== rights.id) void this.authorise();
	}

	private prepare(): void {
		this.warm?.close();
		this.warm = this.newPeer();
	}

	private newPeer(): Peer {
		return new Peer({ servers: this.servers, relayOnly: this.relayOnly.checked });
	}

	// look says before a call what this computer lacks for one.
	private async look(): Promise<void> {
		this.permission = await media.permission();
		const { camera, microphone } = await media.present();
		const key = this.permission === "denied" ? "own.denied" : camera && microphone ? "" : camera ? "own.no_microphone" : microphone ? "own.no_camera" : "own.nothing";
		const said = [
			canConfirm() ? "" : this.words.say("own.no_passkey"),
			Math.abs(this.lag) < clockOff ? "" : this.words.say(this.lag > 0 ? "own.clock_behind" : "own.clock_ahead", { minutes: String(Math.round(Math.abs(this.lag) / 60_000)) }),
			key === "" ? "" : this.words.say(key),
		].filter((x) => x !== "");
		const own = document.getElementById("own") as HTMLElement;
		own.hidden = said.length === 0;
		own.textContent = said.join(" ");
	}

	private ring(home: string): void {
		const known = this.homes.get(home);
		if (known && known.terminal !== row(home)?.dataset["terminal"]) {
			location.reload(); // it has another terminal, whose key this page does not have
			return;
		}
		this.handle({ type: "ring", home, ask: this.permission !== "granted" });
	}

	private handle(e: Event): void {
		const [state, effects] = next(this.state, e);
		const before = this.state;
		this.state = state;
		if (e.type === "ring" && state.attempt !== before.attempt) this.begin();
		for (const effect of effects) this.perform(effect);
		this.note(before, state);
		this.draw(before, state);
	}

	private begin(): void {
		this.muted = false;
		this.cameraOff = false;
		const peer = this.warm ?? this.newPeer();
		this.warm = undefined;
		this.attempt = {
			number: this.state.attempt, call: hex(crypto.getRandomValues(new Uint8Array(16))), home: this.state.home, peer, recorder: new Recorder(), abort: new AbortController(), sdp: "", over: false, proofs: Promise.resolve(), watch: 0, ends: 0,
			heard: 0, curtains: 0, told: false, telling: false,
			key: this.keys.get(this.state.home), called: named(this.state.home),
		};
	}

	private note(before: State, after: State): void {
		const r = this.attempt?.recorder;
		if (!r) return;
		if (after.call !== "" && before.call === "") r.stage("invited");
		if (after.phase === "ringing") r.stage("ringing");
		if (after.answered) r.stage("answered");
		if (after.connected) r.stage("connected");
	}

	private draw(before: State, after: State): void {
		const called = this.called();
		this.present.show(after.phase === "talking" ? after.call : "");
		this.panel.show(after, called, this.attempt?.certificate !== undefined, this.unheard(after));
		this.panel.buttons({
			muted: this.muted, cameraOff: this.cameraOff,
			hasSound: after.media === "unknown" || after.media === "both" || after.media === "sound",
			hasPicture: after.media === "unknown" || after.media === "both" || after.media === "picture",
		});
		const live = running(after);
		for (const b of document.querySelectorAll<HTMLButtonElement>("button.ring")) b.disabled = live || b.dataset["never"] === "yes";
		const r = row(after.home);
		r?.classList.toggle("called", live); // what is special about it is said in the panel meanwhile
		if (r) askable(r);
		if (live && !running(before)) forget(after.home);
		if (live && !running(before)) {
			this.panel.home(this.homes.get(after.home));
			this.panel.focus();
		}
		if (!live && running(before)) this.focusBack();
		if (after.media !== before.media) this.panel.tell(after.media === "unknown" || after.media === "both" ? "" : `own.${missing(after.media)}`);
	}

	// focusBack keeps the keyboard where it was: on the home, once its call is over.
	private focusBack(): void {
		if (document.activeElement === document.body || document.activeElement?.closest("#call")) {
			row(this.state.home)?.querySelector<HTMLButtonElement>("button.ring")?.focus({ preventScroll: true });
		}
	}

	// unheard: that a call ended, and what became of its line, is not said where there was none for all that is known.
	private unheard(s: State): Unheard {
		if (s.outcome !== "signalling.clinic_lost" || s.call !== "") return "";
		return this.attempt?.kept ? "unanswered" : "unreached";
	}

	private called(): Called {
		return this.attempt?.called ?? { label: "", code: "" };
	}

	private perform(effect: Effect): void {
		const a = this.attempt;
		if (effect.do === "hangUp") return this.hangUp(effect.call, effect.code);
		if (!a) return;
		switch (effect.do) {
			case "media":
				return void this.openMedia(a);
			case "confirm":
				return void this.confirm(a);
			case "post":
				return void this.post(a);
			case "prove":
				a.proofs = a.proofs.then(() => this.prove(a, effect.update));
				return;
			case "connect":
				return void a.peer.accept(effect.sdp, a.certificate ?? new Uint8Array()).catch(() => this.failed(a, "browser.failed"));
			case "candidate":
				if (effect.update.candidate) void a.peer.candidate(effect.update.candidate);
				return;
			case "move":
				a.proofs = a.proofs.then(() => this.move(a, effect.update));
				return;
			case "send":
				if (a.own) void a.peer.send(a.own.stream, effect.picture, effect.sound).catch(() => this.failed(a, "browser.failed"));
				return;
			case "show":
				return this.show(a);
			case "cover":
				return this.cover(a, effect.covered);
			case "tellCurtain":
				return void this.tellCurtain(a);
			case "proveCurtain":
				a.proofs = a.proofs.then(() => this.proveCurtain(a, effect.update));
				return;
			case "giveUp":
				return this.hangUp(a.call, effect.code);
			case "receipt":
				return void this.receipt(a, effect.update);
			case "close":
				return this.close(a);
		}
	}

	private hangUp(call: string, code: string): void {
		if (this.leaving) return api.beacon(call, "hang-up", { reason: code, end: "" }); // there is no time to sign; the clinic ends it
		const a = this.attempt?.call === call ? this.attempt : undefined;
		const signed = a?.invitation && a.wish && a.by ? invitation.end(a.invitation, a.wish, code, a.recorder.talked(), a.by).then(toBase64) : Promise.resolve("");
		signed.then((end) => api.hangUp(call, code, end)).catch(() => undefined); // the clinic ends the call when it misses the page
	}

	// confirm writes the invitation and has the passkey sign it.
	private async confirm(a: Attempt): Promise<void> {
		try {
			// Where the connection is broken off nobody has to use a passkey to learn whether the clinic is there.
			if (this.gone || typeof this.authorisation === "string" || outdated(this.authorisation)) await this.authorise();
			if (typeof this.authorisation === "string") return this.failed(a, this.authorisation);
			const key = await a.key;
			if (!key) return this.failed(a, "browser.failed");
			a.by = this.authorisation;
			a.wish = { call: a.call, terminal: key.hash, offer: await a.peer.offer(), errand: "", relayOnly: this.relayOnly.checked, urgent: this.urgent.checked };
			this.waitForEnd(a, a.by);
			a.invitation = await invitation.write(a.wish, a.by);
			a.assertion = await invitation.confirm(a.invitation, a.by, a.abort.signal);
			this.handle({ type: "confirmed", attempt: a.number });
		} catch (cause) {
			this.failed(a, cause instanceof invitation.NotConfirmed ? cause.code : "browser.failed");
		}
	}

	// waitForEnd says before it happens that the call ends with the authorisation. The terminal ends it then by itself; where that cannot be heard of, the page does.
	private waitForEnd(a: Attempt, by: invitation.Authorisation): void {
		const look = (): void => {
			const left = by.to - by.lag - Date.now();
			if (a.over) return;
			if (left <= -lapseGrace) return this.failed(a, "end.authorisation_over");
			if (left <= warnBefore) this.panel.ends(by.to);
			a.ends = window.setTimeout(look, Math.min(left > warnBefore ? left - warnBefore : left + lapseGrace, warnBefore));
		};
		if (by.to - by.lag > Date.now()) look(); // else it is for the terminal to refuse
	}

	private failed(a: Attempt, code: string): void {
		this.handle({ type: "failed", attempt: a.number, code });
	}

	private async post(a: Attempt): Promise<void> {
		try {
			const { wish, invitation: written } = a;
			if (!wish || !written || !a.assertion) throw new Error("not confirmed");
			const { credential, authenticator_data, client_data, signature } = a.assertion;
			const starting = api.start({
				home: a.home, page: this.id, offer: wish.offer, invitation: toBase64(written.bytes),
				assertion: { credential: toBase64(credential), authenticator_data: toBase64(authenticator_data), client_data: toBase64(client_data), signature: toBase64(signature) },
			});
			a.kept = starting.then(() => true, (cause) => !(cause instanceof api.Refused && unrecorded.includes(cause.status)));
			a.recorder.follow(() => a.peer.stats(), (paused) => {
				if (this.attempt !== a || a.over) return;
				this.panel.paused(paused);
				this.panel.quality(covered(this.state.curtain) ? "" : a.recorder.line());
			});
			a.peer.begin({
				connected: () => {
					this.handle({ type: "connected", attempt: a.number });
				},
				failed: (code) => this.failed(a, code),
				weak: (weak) => this.panel.weak(weak),
				looks: () => a.recorder.stage("restart"),
			});
			await starting;
			const key = await a.key;
			if (!key) throw new Error("the home has no terminal");
			a.expected = { key, call: a.call, invitation: written.bytes };
			a.peer.named(a.call, (number, list) => invitation.candidates(written, wish, number, list), (number, offer) => this.ask(a, number, offer));
			this.handle({ type: "started", attempt: a.number, call: a.call });
		} catch (cause) {
			const said = cause instanceof api.Refused ? cause : undefined;
			if (said && said.status >= 400) void this.authorise(); // it may have changed
			this.handle({
				type: "notStarted", attempt: a.number, code: said?.code || "browser.failed", refused: said !== undefined && said.status >= 400 && said.status < 500,
			});
		}
	}

	private async openMedia(a: Attempt): Promise<void> {
		try {
			const own = await media.open();
			if (a.over || a.number !== this.state.attempt || !running(this.state)) {
				own.stream.getTracks().forEach((t) => t.stop());
				return;
			}
			a.own = own;
			const picture = own.stream.getVideoTracks().length > 0;
			a.recorder.opened(picture, own.stream.getAudioTracks().length > 0);
			this.apply(a);
			this.panel.own(own.stream, picture);
			this.handle({ type: "media", attempt: a.number, media: own.has });
		} catch {
			this.handle({ type: "denied", attempt: a.number });
		}
		void this.look();
	}

	private async prove(a: Attempt, update: Update): Promise<void> {
		if (!a.expected) return;
		try {
			const sdp = update.sdp || a.sdp;
			const answer = await proveAnswer(fromBase64(update.answer ?? ""), sdp, a.expected);
			if (answer.decision === "ringing" || answer.decision === "answered") {
				if (a.sdp && sdp !== a.sdp) throw new Unproven("proof.fingerprint", "a second session description");
				a.sdp = sdp;
				a.certificate = answer.key;
				this.panel.code(await invitation.code(a.expected.invitation, answer.key));
			}
			this.handle({ type: "proven", attempt: a.number, decision: answer.decision, code: outcomes[answer.decision] ?? "", sdp });
		} catch (cause) {
			this.failed(a, cause instanceof Unproven ? cause.code : "proof.answer");
		}
	}

	// ask offers the terminal another path, signed by the call's key as everything is that the caller says.
	private async ask(a: Attempt, number: number, offer: string): Promise<void> {
		if (a.over || !a.invitation || !a.wish || !a.by) return;
		await api.restart(a.call, toBase64(await invitation.restart(a.invitation, a.wish, number, offer, a.by)), offer);
	}

	private async move(a: Attempt, update: Update): Promise<void> {
		if (!a.expected || !a.certificate || a.over) return;
		const sdp = update.sdp ?? "";
		try {
			const answer = await proveRestart(fromBase64(update.restart ?? ""), sdp, a.expected, a.certificate);
			await a.peer.moved(answer.number, sdp);
		} catch {
			document.body.dataset["refused"] = a.call;
			a.recorder.stage("restart_refused"); // what is not the terminal's changes nothing: the call stays on the path that it has
		}
	}

	private show(a: Attempt): void {
		const far = this.panel.far;
		far.srcObject = covered(this.state.curtain) ? null : a.peer.remote;
		far.play().catch(() => undefined); // it plays as soon as the first picture is there
		// What stands still is not what is in the home now: it is covered until the next picture comes.
		let last = performance.now();
		let patience = firstPicture;
		const seen = (): void => {
			if (a.over) return;
			last = performance.now();
			patience = lastPicture;
			a.recorder.stage("picture");
			this.panel.picture("live");
			far.requestVideoFrameCallback(seen);
		};
		far.requestVideoFrameCallback(seen);
		this.panel.picture("awaited");
		a.watch = window.setInterval(() => {
			if (covered(this.state.curtain)) patience = firstPicture; // as at the beginning
			if (document.visibilityState !== "visible" || covered(this.state.curtain)) last = performance.now(); // nothing is drawn, so nothing is missed
			else if (performance.now() - last > patience) this.panel.picture(patience === firstPicture ? "none" : "gone");
		}, look);
	}

	// cover takes both pictures and both sounds away at once, or brings them back.
	private cover(a: Attempt, on: boolean): void {
		const far = this.panel.far;
		if (on) far.srcObject = null;
		this.apply(a);
		a.recorder.cover(on);
		void a.peer.cover(on).catch(() => this.failed(a, "browser.failed"));
		if (on || !this.state.answered) return;
		this.panel.picture("awaited");
		far.srcObject = a.peer.remote;
		far.play().catch(() => undefined);
	}

	// tellCurtain tells the home of the own curtain until it was passed on, and of no more than the latest.
	private async tellCurtain(a: Attempt): Promise<void> {
		if (a.telling) return;
		a.telling = true;
		while (!a.over && a.invitation && a.wish && a.by && a.told !== this.state.curtain.mine) {
			const drawn = this.state.curtain.mine;
			try {
				await api.curtain(a.call, toBase64(await invitation.curtain(a.invitation, a.wish, ++a.curtains, drawn, a.by)));
				a.told = drawn;
			} catch {
				// The own side is covered, whatever the home knows.
			}
			await new Promise((resolve) => setTimeout(resolve, curtainEvery));
		}
		a.telling = false;
	}

	private async proveCurtain(a: Attempt, update: Update): Promise<void> {
		if (!a.expected || !update.curtain) return;
		try {
			const c = await proveCurtain(fromBase64(update.curtain), a.expected, a.heard);
			a.heard = c.number;
			this.handle({ type: "curtain", attempt: a.number, drawn: c.drawn, closed: c.closed });
		} catch {
			// What proves nothing changes nothing.
		}
	}

	private async receipt(a: Attempt, update: Update): Promise<void> {
		if (!a.expected || !update.end) return;
		try {
			const end = await proveEnd(fromBase64(update.end), a.expected);
			this.panel.closed(Math.max(end.cameraClosed, end.microphoneClosed));
		} catch {
			// An end that proves nothing ends the call all the same, but promises nothing; and somebody has made it.
			this.panel.unproven();
			api.hangUp(a.expected.call, "proof.end", "").catch(() => undefined);
		}
	}

	private close(a: Attempt): void {
		a.own?.stream.getTracks().forEach((t) => t.stop());
		this.panel.own(null, false);
		this.panel.far.srcObject = null;
		window.clearInterval(a.watch);
		window.clearTimeout(a.ends);
		a.over = true;
		a.abort.abort();
		a.recorder.closed();
		const call = a.call;
		for (const r of a.peer.refusals) a.recorder.path.failed(r.url, r.code);
		if (this.leaving) {
			const half = a.recorder.half(this.state.outcome);
			if (a.kept) api.beacon(call, "record", half);
			else api.beacon(call, "attempt", { home: a.home, half });
			a.peer.close();
			return;
		}
		const outcome = this.state.outcome;
		void a.recorder.last(a.peer.stats()).then(() => {
			a.peer.close();
			const half = a.recorder.half(outcome);
			void this.tell(a, half).catch(() => undefined); // the clinic's own record says what is missing
			if (!running(this.state)) void this.refresh();
		});
	}

	// tell gives the clinic this page's half of the record.
	private async tell(a: Attempt, half: Half): Promise<void> {
		if (!a.kept) await api.attempt(a.call, a.home, half);
		else if (await a.kept) await api.record(a.call, half);
		else return; // it is in the audit log
		await this.judge(a);
	}

	// judge shows what the clinic makes of a call that failed, and again when the terminal's half should have come.
	private async judge(a: Attempt): Promise<void> {
		for (const wait of [0, ...judgeAfter]) {
			if (wait > 0) await new Promise((resolve) => setTimeout(resolve, wait));
			if (a.number !== this.state.attempt || this.state.phase !== "ended") return;
			try {
				const verdict = await api.verdict(a.call);
				if (a.number !== this.state.attempt || this.state.phase !== "ended") return;
				if (verdict.sentence !== "") this.panel.verdict(verdict.sentence, verdict.now);
				if (verdict.complete) return;
			} catch {
				// What the page knows itself stands.
			}
		}
	}

	private toggle(what: "muted" | "cameraOff"): void {
		this[what] = !this[what];
		if (this.attempt) this.apply(this.attempt);
		this.draw(this.state, this.state);
	}

	private apply(a: Attempt): void {
		a.own?.stream.getAudioTracks().forEach((t) => (t.enabled = !this.muted && !covered(this.state.curtain)));
		a.own?.stream.getVideoTracks().forEach((t) => (t.enabled = !this.cameraOff && !covered(this.state.curtain)));
	}

	// follow opens links beside a running call, which leaving the page would end.
	private follow(e: MouseEvent): void {
		const link = e.target instanceof Element ? e.target.closest<HTMLAnchorElement>("a[href^='/']") : null;
		if (!link) return;
		if (running(this.state)) link.target = "_blank";
		else link.removeAttribute("target");
	}

	private leave(): void {
		this.leaving = true;
		this.handle({ type: "leave" });
		this.stream.close();
	}

	// seen lets go of the stream while nobody looks, so that many open tabs do not use up the browser's connections.
	private seen(): void {
		if (document.visibilityState === "visible") this.stream.open();
		else if (!running(this.state)) this.stream.close();
	}

	private say(key: string): void {
		this.banner.hidden = key === "";
		this.banner.textContent = key === "" ? "" : this.words.say(key);
	}
}

const outcomes: Readonly<Record<string, string>> = {
	declined: "answer.declined", busy: "answer.busy", quiet: "answer.quiet_hours", shutter: "answer.shutter_closed", refused: "answer.refused",
};

function named(home: string): Called {
	const r = row(home);
	return { label: r?.dataset["label"] ?? "", code: r?.dataset["code"] ?? "" };
}

function missing(has: string): string {
	return has === "picture" ? "no_microphone" : has === "sound" ? "no_camera" : "nothing";
}

new Page().start();
