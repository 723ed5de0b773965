// The homes and the recent calls, kept up to date. The server has rendered them; here only words are exchanged.

import { Home, Recent } from "./events";

function slot(root: ParentNode, name: string): HTMLElement {
	const found = root.querySelector<HTMLElement>(`[data-slot="${name}"]`);
	if (!found) throw new Error(`the page has no slot ${name}`);
	return found;
}

export function copy(template: string): HTMLElement {
	const content = document.querySelector<HTMLTemplateElement>(`template#${template}`)?.content.firstElementChild;
	if (!content) throw new Error(`the page has no template ${template}`);
	return content.cloneNode(true) as HTMLElement;
}

export function row(home: string): HTMLElement | undefined {
	return Array.from(document.querySelectorAll<HTMLElement>("[data-home]")).find((e) => e.dataset["home"] === home);
}

function put(element: HTMLElement, text: string): void {
	if (element.textContent !== text) element.textContent = text;
}

// showHomes returns false if the page has been loaded before one of the homes, or its terminal, was there. A home that has lost its
// terminal cannot be rung any more.
export function showHomes(homes: readonly Home[], known: Map<string, Home>): boolean {
	let all = true;
	for (const h of homes) {
		const before = known.get(h.home);
		known.set(h.home, h);
		const r = row(h.home);
		if (!r || r.dataset["terminal"] !== h.terminal) all = false;
		if (!r) continue;
		if (h.terminal === "") {
			const ring = r.querySelector<HTMLButtonElement>("button.ring");
			if (ring) {
				ring.disabled = true;
				ring.dataset["never"] = "yes";
			}
		}
		if (before && (before.state !== h.state || rehearsed(before) !== rehearsed(h))) forget(h.home);
		r.dataset["state"] = h.state;
		askable(r);
		put(slot(r, "word"), h.word);
		put(slot(r, "detail"), h.detail);
		slot(r, "notes").replaceChildren(...notes(h));
	}
	return all;
}

// rehearsed is what is said of a home's rehearsals.
function rehearsed(h: Home): string {
	return h.notes.filter((n) => n.kind === "rehearsal").map((n) => n.text).join(" ");
}

// forget takes away what was answered to the wish for a rehearsal: the result has come, or it is not so any more.
export function forget(home: string): void {
	const said = row(home)?.querySelector<HTMLElement>("form[data-rehearse] .said");
	if (said) put(said, "");
}

// askable has a home asked to rehearse only where it might do so: it is online, and in no call.
export function askable(r: HTMLElement): void {
	const ask = r.querySelector<HTMLButtonElement>("form[data-rehearse] button");
	if (ask) ask.disabled = r.classList.contains("called") || !["ready", "attention"].includes(r.dataset["state"] ?? "");
}

// keepHomes takes the homes from the page that are not among those of these numbers, and tells of each.
export function keepHomes(homes: readonly string[], gone: (home: string) => void): void {
	for (const e of document.querySelectorAll<HTMLElement>("[data-home]")) {
		const home = e.dataset["home"] ?? "";
		if (homes.includes(home)) continue;
		e.remove();
		gone(home);
	}
}

export function notes(h: Home): HTMLElement[] {
	return h.notes.map((n) => {
		const li = document.createElement("li");
		li.dataset["kind"] = n.kind;
		li.textContent = n.next ? `${n.text} ${n.next}` : n.text;
		return li;
	});
}

export function showRecent(calls: readonly Recent[]): void {
	const list = document.getElementById("recent-calls");
	if (!list) return;
	list.replaceChildren(...calls.map(recent));
	const empty = document.getElementById("no-calls");
	if (empty) empty.hidden = calls.length > 0;
}

function recent(c: Recent): HTMLElement {
	const li = copy("recent-call");
	li.dataset["kind"] = c.kind;
	const when = slot(li, "when") as HTMLTimeElement;
	when.dateTime = c.began;
	put(when, c.when);
	const link = slot(li, "home") as HTMLAnchorElement;
	link.href = `/calls/${c.call}`;
	put(link, c.home);
	put(slot(li, "sentence"), c.sentence);
	put(slot(li, "duration"), c.duration);
	return li;
}
