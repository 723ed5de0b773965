// The panel of a call: pictures, the state in words, who takes part, the buttons.

import { covered, Curtains, drawable, Phase, State } from "./call";
import { Home } from "./events";
import { notes } from "./lists";
import { Words } from "./words";

function get<T extends HTMLElement>(id: string): T {
	const found = document.getElementById(id);
	if (!found) throw new Error(`the page has no element ${id}`);
	return found as T;
}

export interface Called {
	readonly label: string;
	readonly code: string;
}

// Member is one of those who take part in a call, or are about to.
interface Member {
	readonly name: string; // and role
	readonly state: string;
	readonly here: boolean;
}

// Unheard is an attempt of which the clinic never said that it is a call: it was not asked for one, or did not answer; "": any other.
export type Unheard = "" | "unreached" | "unanswered";

// Picture says what there is of the home's picture: not there yet, there, not there although it should be, or no more.
export type Picture = "awaited" | "live" | "none" | "gone";

export class Panel {
	readonly far = get<HTMLVideoElement>("far");
	readonly self = get<HTMLVideoElement>("self");
	readonly hangUp = get<HTMLButtonElement>("hang-up");
	readonly mute = get<HTMLButtonElement>("mute");
	readonly camera = get<HTMLButtonElement>("camera");
	readonly draw = get<HTMLButtonElement>("curtain");
	private readonly controls = get("controls");
	private readonly root = get("call");
	private readonly title = get("call-title");
	private readonly status = get("status");
	private readonly next = get("next");
	private readonly verified = get("verified");
	private readonly same = get("call-code");
	private readonly party = get("party");
	private readonly roster = get("roster");
	private readonly comings = get("comings");
	private readonly placeholder = get("placeholder");
	private readonly caption = get("self-caption");
	private readonly selfBox = get("self-box");
	private readonly homeNotes = get("call-notes");
	private readonly receipt = get("receipt");
	private readonly hint = get("hint");
	private readonly weakness = get("weak");
	private readonly ending = get("ends");
	private readonly grade = get("line");
	private readonly judged = get("verdict");

	private interrupted = false;
	private still = false;
	private phase: Phase = "idle";
	private seen: Picture = "awaited";
	private curtain: Curtains = { mine: false, theirs: false, closed: 0 };
	private there = new Set<string>(); // names of those who are in the call

	constructor(private readonly words: Words) {}

	// show brings the panel in line with the call's state.
	show(s: State, called: Called, proven: boolean, unheard: Unheard): void {
		const live = s.phase !== "idle" && s.phase !== "ended";
		this.root.dataset["phase"] = s.phase;
		document.body.dataset["call"] = live ? "on" : "off";
		this.put(this.title, s.phase === "idle" ? this.words.say("call.title") : this.words.say("call.title.with", { home: called.label }));
		this.put(this.status, this.sentence(s, called, unheard));
		this.put(this.next, unheard ? this.words.say("call.next.lost") : s.phase === "ended" ? this.words.explain(s.outcome).next : s.phase === "ringing" ? this.words.say("call.next.ringing") : "");
		this.put(this.verified, this.words.say("call.verified", { home: called.label, code: called.code }));
		this.verified.hidden = !(live && proven);
		if (!live || !proven) this.code("");
		this.party.hidden = !live;
		this.members(live ? [{ name: this.roster.dataset["you"] ?? "", state: "you", here: true }, { name: called.label, state: s.phase, here: s.phase === "talking" }] : [], live);
		if (s.phase !== "talking") this.seen = "awaited";
		this.phase = s.phase;
		this.curtain = s.curtain;
		this.root.dataset["curtain"] = covered(s.curtain) ? "drawn" : "open";
		this.put(this.draw, this.words.say(s.curtain.mine ? "call.curtain.open" : "call.curtain.draw")); // what a press does: a name that changes needs no aria-pressed
		this.draw.dataset["drawn"] = String(s.curtain.mine);
		this.draw.disabled = !drawable(s);
		this.cover();
		this.line();
		this.controls.hidden = !live;
		if (live) {
			this.put(this.receipt, "");
			this.put(this.judged, "");
			this.root.dataset["outcome"] = "";
		} else {
			this.root.dataset["outcome"] = s.phase === "ended" ? this.words.explain(s.outcome).kind : "";
			this.interrupted = this.still = false;
			this.line();
			this.quality("");
			this.put(this.ending, "");
			this.homeNotes.replaceChildren();
			this.put(this.hint, "");
		}
	}

	// verdict says what the clinic makes of a call that failed, and what the caller can do now, in place of what the page knew to say.
	verdict(sentence: string, now: string): void {
		this.put(this.next, now);
		this.put(this.judged, sentence);
	}

	// members shows who takes part, by name and role, and says who comes and who goes. Of who has opened the call nothing is said.
	private members(members: readonly Member[], live: boolean): void {
		const there = new Set(members.filter((m) => m.here && m.state !== "you").map((m) => m.name));
		const came = [...there].filter((name) => !this.there.has(name)).map((name) => this.words.say("call.joined", { name }));
		const went = [...this.there].filter((name) => !there.has(name)).map((name) => this.words.say("call.left", { name }));
		this.there = there;
		if (came.length + went.length > 0) this.put(this.comings, [...came, ...went].join(" "));
		else if (live && there.size === 0) this.put(this.comings, "");
		const lines = members.map((m) => {
			const li = document.createElement("li");
			li.dataset["here"] = String(m.here);
			li.textContent = `${m.name} ${this.words.say(`call.roster.${m.state}`)}`;
			return li;
		});
		if (lines.map((l) => l.outerHTML).join("") !== this.roster.innerHTML) this.roster.replaceChildren(...lines);
	}

	// code shows the digits that are on the home's screen too; "" takes them away.
	code(digits: string): void {
		this.put(this.same, digits === "" ? "" : this.words.say("call.code", { code: digits }));
	}

	focus(): void {
		this.title.focus({ preventScroll: true });
		if (this.root.getBoundingClientRect().top < 0 || window.innerWidth < 900) this.root.scrollIntoView({ block: "start" });
	}

	// own shows the caller's own picture, or takes it away.
	own(stream: MediaStream | null, camera: boolean): void {
		this.self.srcObject = stream;
		this.selfBox.hidden = stream === null;
		this.self.hidden = !camera;
	}

	buttons(s: { readonly muted: boolean; readonly cameraOff: boolean; readonly hasSound: boolean; readonly hasPicture: boolean }): void {
		this.put(this.mute, this.words.say(s.muted ? "call.unmute" : "call.mute"));
		this.put(this.camera, this.words.say(s.cameraOff ? "call.camera.on" : "call.camera.off"));
		this.mute.disabled = !s.hasSound;
		this.camera.disabled = !s.hasPicture;
		const said = [
			!s.hasPicture ? this.words.say("call.self.no_camera") : s.cameraOff ? this.words.say("call.self.camera_off") : "",
			!s.hasSound ? this.words.say("call.self.no_microphone") : s.muted ? this.words.say("call.self.muted") : "",
		].filter((x) => x !== "");
		this.put(this.caption, [this.words.say("call.self"), ...said].join(" · "));
		this.selfBox.dataset["off"] = String(s.cameraOff || !s.hasPicture);
	}

	// tell says something about this computer that the caller has to know; it stays while the call runs.
	tell(key: string): void {
		this.put(this.hint, key === "" ? "" : this.words.say(key));
	}

	// ends says when the right to the call ends; it stays while the call runs.
	ends(at: number): void {
		this.put(this.ending, this.words.say("call.ends", { time: clock(at) }));
	}

	weak(weak: boolean): void {
		this.interrupted = weak;
		this.line();
	}

	// paused says that no picture comes, though sound does.
	paused(paused: boolean): void {
		this.still = paused;
		this.line();
	}

	// quality says in words how good the line is; "" says nothing.
	quality(word: "" | "good" | "fair" | "poor"): void {
		this.grade.dataset["line"] = word;
		this.put(this.grade, word === "" ? "" : this.words.say(`call.line.${word}`));
	}

	// line says what is wrong with the line: that nothing comes before that no picture does.
	private line(): void {
		this.put(this.weakness, this.interrupted ? this.words.say("call.weak") : this.still && !covered(this.curtain) ? this.words.say("call.paused") : "");
	}

	picture(seen: Picture): void {
		if (this.seen === seen) return;
		this.seen = seen;
		this.cover();
	}

	// cover says in words what there is in place of a picture.
	private cover(): void {
		if (covered(this.curtain)) {
			this.placeholder.hidden = false;
			this.put(this.placeholder, this.veil());
			return;
		}
		const talking = this.phase === "talking";
		this.placeholder.hidden = talking && this.seen === "live";
		const key = talking && this.seen !== "live" && this.seen !== "awaited" ? this.seen : this.phase;
		this.put(this.placeholder, this.words.say(`call.picture.${key}`));
	}

	// veil says whose curtain is drawn. That camera and microphone in the home are closed is said only where its terminal has proven it.
	private veil(): string {
		const { mine, theirs, closed } = this.curtain;
		const whose = mine && theirs ? "both" : mine ? "mine" : theirs ? "theirs" : "lifting";
		const said = [this.words.say(`call.curtain.${whose}`)];
		if (whose !== "lifting") said.push(closed ? this.words.say("call.curtain.closed", { time: clock(closed) }) : this.words.say(this.phase === "talking" ? "call.curtain.closing" : "call.curtain.before"));
		return said.join(" ");
	}

	// home says what is special about the home's equipment, such as a test picture in place of a camera.
	home(h: Home | undefined): void {
		this.homeNotes.replaceChildren(...(h ? notes(h) : []));
	}

	// closed says when nobody could see or hear the home any more; 0: nobody ever could.
	closed(last: number): void {
		this.put(this.receipt, last ? this.words.say("call.receipt", { time: clock(last) }) : this.words.say("call.receipt.never"));
	}

	// unproven says that what came in place of the receipt is none.
	unproven(): void {
		this.put(this.receipt, this.words.explain("proof.end").sentence);
	}

	private sentence(s: State, called: Called, unheard: Unheard): string {
		if (unheard) return this.words.say(`call.status.${unheard}`);
		const names = { home: called.label };
		if (s.phase === "talking" && covered(s.curtain)) {
			const { mine, theirs } = s.curtain;
			return this.words.say(mine ? "call.status.curtain.mine" : theirs ? "call.status.curtain.theirs" : "call.status.curtain.lifting", names);
		}
		if (s.phase === "ended") return this.words.say("call.status.ended", { sentence: this.words.explain(s.outcome).sentence });
		return this.words.say(`call.status.${s.phase}`, names);
	}

	private put(element: HTMLElement, text: string): void {
		if (element.textContent !== text) element.textContent = text;
		if (element.dataset["optional"] !== undefined) element.hidden = text === "";
	}
}

function clock(at: number): string {
	return new Date(at).toLocaleTimeString(document.documentElement.lang, { hourCycle: "h23" });
}
