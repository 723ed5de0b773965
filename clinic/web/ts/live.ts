// The operator's pages, kept as the clinic has them: when something changes, the page is fetched anew and what differs is exchanged in
// place. What somebody types, has opened or has in focus stays.

import { hex } from "./bytes";

const beat = 2_000; // the clinic says something at least this often
const patience = 10_000; // for the page
const retryFrom = 500;
const retryTo = 10_000;
const pause = 1_000; // between two fetches at least, and ten times as long as the last one took

type Field = HTMLInputElement | HTMLTextAreaElement;

function typed(e: Element): boolean {
	const fields = [e, ...e.querySelectorAll("*")].filter((f) => f.matches("input:not([type=hidden]), textarea")) as Field[];
	return fields.some((f) => f.value !== f.defaultValue);
}

// held tells whether somebody is at work in e.
function held(e: Element): boolean {
	const focus = document.activeElement;
	return (focus !== null && focus !== document.body && e.contains(focus)) || typed(e) || e.matches("details[open], [data-keep]") || e.querySelector("details[open], [data-keep]") !== null;
}

const key = (e: Element): string => (e instanceof HTMLElement ? (e.dataset["key"] ?? e.id) : e.id);

// morph makes old like fresh, and returns what stands in its place.
export function morph(old: Element, fresh: Element): Element {
	if (old.isEqualNode(fresh)) return old;
	if (old.matches("[data-keep]") && fresh.matches("[data-keep]")) return old; // a script has filled it, and keeps it
	if (!held(old)) {
		const put = document.importNode(fresh, true);
		old.replaceWith(put);
		return put;
	}
	if (old.matches("input, textarea, select")) return old;
	for (const a of Array.from(fresh.attributes)) if (a.name !== "open" && old.getAttribute(a.name) !== a.value) old.setAttribute(a.name, a.value);
	for (const a of Array.from(old.attributes)) if (a.name !== "open" && !fresh.hasAttribute(a.name)) old.removeAttribute(a.name);
	if (old.children.length === 0 && fresh.children.length === 0) {
		if (old.textContent !== fresh.textContent) old.textContent = fresh.textContent;
		return old;
	}
	const left = Array.from(old.children);
	let at = old.firstElementChild;
	for (const want of Array.from(fresh.children)) {
		const i = left.findIndex((e) => e.tagName === want.tagName && key(e) === key(want));
		const have = i < 0 ? undefined : left.splice(i, 1)[0];
		if (!have) {
			old.insertBefore(document.importNode(want, true), at);
			continue;
		}
		if (have !== at && !held(have)) old.insertBefore(have, at); // what is held keeps its place: to move it would take the focus away
		at = morph(have, want).nextElementSibling;
	}
	for (const e of left) if (!typed(e)) e.remove(); // else it goes when the form is sent
	return old;
}

// load fetches this page; null if the clinic has another one for us by now, such as that for signing in.
function load(): Promise<Document | null> {
	return new Promise((resolve, reject) => {
		const x = new XMLHttpRequest();
		x.responseType = "document"; // parsed without running anything
		x.timeout = patience;
		x.onload = () => {
			if (x.status >= 500) reject(new Error(`the clinic answers ${x.status}`));
			else resolve(x.status === 200 && new URL(x.responseURL).pathname === location.pathname ? x.responseXML : null);
		};
		x.onerror = x.ontimeout = () => reject(new Error("the clinic does not answer"));
		x.open("GET", location.href);
		x.send();
	});
}

class Live {
	private readonly id = hex(crypto.getRandomValues(new Uint8Array(16)));
	private readonly banner = document.getElementById("banner") as HTMLElement;
	private source: EventSource | undefined;
	private heard = 0;
	private retry = retryFrom;
	private again = 0;
	private due = 0; // timer of the next fetch
	private loading = false;
	private rest = 0; // not before this instant

	start(): void {
		window.addEventListener("pageshow", (e) => {
			if (e.persisted) location.reload(); // what was kept of the page is out of date
		});
		document.addEventListener("visibilitychange", () => (document.visibilityState === "visible" ? this.open() : this.close()));
		window.addEventListener("pagehide", () => this.close());
		window.setInterval(() => {
			if (this.source && performance.now() - this.heard > 3 * beat) this.broken();
		}, beat);
		this.open();
	}

	private open(): void {
		this.close();
		this.heard = performance.now();
		const source = new EventSource(`/operator/events?page=${this.id}`);
		this.source = source;
		const on = (type: string, handle: () => void): void =>
			source.addEventListener(type, () => {
				this.heard = performance.now();
				handle();
			});
		on("hello", () => {
			this.retry = retryFrom;
			this.changed(); // while nobody listened
		});
		on("beat", () => undefined);
		on("changed", () => this.changed());
		source.onerror = () => {
			if (source === this.source) this.broken();
		};
	}

	private close(): void {
		window.clearTimeout(this.again);
		this.source?.close();
		this.source = undefined;
	}

	private broken(): void {
		this.close();
		this.say("gone");
		this.again = window.setTimeout(() => {
			this.open();
			this.changed(); // also tells whether we are still signed in
		}, this.retry * (0.5 + Math.random() / 2));
		this.retry = Math.min(this.retry * 2, retryTo);
	}

	private changed(): void {
		window.clearTimeout(this.due);
		this.due = window.setTimeout(() => void this.refresh(), Math.max(0, this.rest - performance.now()));
	}

	private async refresh(): Promise<void> {
		if (this.loading) {
			this.rest = performance.now() + pause;
			this.changed();
			return;
		}
		this.loading = true;
		const began = performance.now();
		try {
			const fresh = await load();
			const main = document.getElementById("main");
			const wanted = fresh?.getElementById("main");
			if (!fresh || !wanted || !main) {
				this.close();
				if (main && typed(main)) this.say("lost");
				else location.reload();
				return;
			}
			morph(main, wanted);
			document.title = fresh.title;
			if (this.source) this.say("");
			document.body.dataset["live"] = String(Number(document.body.dataset["live"] ?? "0") + 1);
		} catch {
			this.say("gone"); // the stream breaks too, or says that something has changed once more
		} finally {
			this.loading = false;
			this.rest = performance.now() + Math.max(pause, 10 * (performance.now() - began));
		}
	}

	private say(what: "" | "gone" | "lost"): void {
		this.banner.hidden = what === "";
		this.banner.textContent = what === "" ? "" : (this.banner.dataset[what] ?? "");
	}
}

new Live().start();
