// The stream of events from the clinic (server-sent events). It comes back by itself, goes on where it broke off, and
// notices when it has fallen silent.

import { signedOut } from "./api";
import { Update } from "./call";

// Home is how a home stands, in words.
export interface Home {
	readonly home: string;
	readonly terminal: string;
	readonly state: string; // ready, attention, busy, offline, none
	readonly word: string;
	readonly detail: string;
	readonly notes: readonly { readonly kind: string; readonly text: string; readonly next: string }[];
}

export interface Recent {
	readonly call: string;
	readonly began: string;
	readonly when: string;
	readonly home: string;
	readonly sentence: string;
	readonly duration: string;
	readonly kind: string;
}

// Rights are what the person may see and call, as the clinic knows it now.
export interface Rights {
	readonly id: string; // of the authorisation; empty: there is none
	readonly text: string;
	readonly homes: readonly string[]; // all
}

export interface Listener {
	rights(rights: Rights): void;
	homes(homes: readonly Home[]): void;
	recent(calls: readonly Recent[]): void;
	update(update: Update): void;
	connected(): void;
	lost(): void; // for longer than the clinic waits for us
	gone(): void; // broken off, trying again
	signedOut(code: string): void;
}

const patience = 6_000; // as long as the clinic waits for a page before it ends the page's call
const beat = 2_000; // the clinic says something at least this often
const retryFrom = 300;
const retryTo = 5_000;

export class Stream {
	private source: EventSource | undefined;
	private seq = "";
	private retry = retryFrom;
	private heard = 0;
	private reported = false;
	private wanted = false;
	private watch = 0;
	private again = 0;

	constructor(private readonly page: string, private readonly listener: Listener) {}

	open(): void {
		if (this.wanted) return;
		this.wanted = true;
		this.heard = performance.now();
		this.connect();
		this.watch = window.setInterval(() => this.look(), beat / 2);
	}

	close(): void {
		this.wanted = false;
		this.source?.close();
		window.clearInterval(this.watch);
		window.clearTimeout(this.again);
	}

	private connect(): void {
		this.source?.close();
		const source = new EventSource(`/events?page=${this.page}&after=${this.seq}`);
		this.source = source;
		const on = (type: string, handle: (data: string) => void): void =>
			source.addEventListener(type, (e) => {
				this.heard = performance.now();
				handle((e as MessageEvent<string>).data);
			});
		on("hello", () => {
			this.retry = retryFrom;
			this.reported = false;
			this.listener.connected();
		});
		on("beat", () => undefined);
		on("rights", (data) => this.listener.rights(JSON.parse(data) as Rights));
		on("homes", (data) => this.listener.homes(JSON.parse(data) as Home[]));
		on("recent", (data) => this.listener.recent(JSON.parse(data) as Recent[]));
		source.addEventListener("call", (e) => {
			this.heard = performance.now();
			this.seq = e.lastEventId;
			this.listener.update(JSON.parse((e as MessageEvent<string>).data) as Update);
		});
		source.onerror = () => this.broken(source);
	}

	private broken(source: EventSource): void {
		if (source !== this.source || !this.wanted) return;
		source.close();
		this.listener.gone();
		window.clearTimeout(this.again);
		this.again = window.setTimeout(() => void this.reconnect(), this.retry * (0.5 + Math.random() / 2));
		this.retry = Math.min(this.retry * 2, retryTo);
	}

	private async reconnect(): Promise<void> {
		const why = await signedOut();
		if (why) {
			this.close();
			this.listener.signedOut(why);
			return;
		}
		if (this.wanted) this.connect();
	}

	private look(): void {
		const silent = performance.now() - this.heard;
		if (silent > patience && !this.reported) {
			this.reported = true;
			this.listener.lost();
		}
		if (silent > 2 * beat && this.source?.readyState === EventSource.OPEN) this.broken(this.source);
	}
}
