// What was tried to find a path for picture and sound. Addresses are reduced to the kind of their network here, before anything leaves the page.

export interface End {
	readonly kind: string;
	readonly network: string;
	readonly transport: string;
}

export interface Pair {
	readonly local: End;
	readonly remote: End;
	readonly state: string;
	readonly asked: number;
	readonly answered: number;
	readonly heard: number;
}

export interface GatherError {
	readonly way: string;
	readonly code: number;
}

type Numbers = Readonly<Record<string, unknown>> & { readonly type: string; readonly id: string };

// Bounds of package protocol.
const maxPairs = 40;
const maxErrors = 12;

const kinds = ["host", "srflx", "prflx", "relay"];
const states = ["frozen", "waiting", "in-progress", "failed", "succeeded"];

export class Path {
	private readonly pairs = new Map<string, Pair>();
	private readonly errors: GatherError[] = [];

	// read takes what the statistics say of each pair; a browser forgets those that have failed, so the last that was said of one stays.
	read(all: readonly Numbers[]): void {
		const byId = (id: unknown): Numbers | undefined => all.find((s) => s.id === id);
		for (const p of all) {
			if (p.type !== "candidate-pair" || (this.pairs.size >= maxPairs && !this.pairs.has(p.id))) continue;
			const local = byId(p["localCandidateId"]);
			const remote = byId(p["remoteCandidateId"]);
			const state = String(p["state"]);
			if (!local || !remote || !states.includes(state)) continue;
			this.pairs.set(p.id, {
				local: end(local), remote: end(remote), state,
				asked: count(p["requestsSent"]), answered: count(p["responsesReceived"]), heard: count(p["requestsReceived"]),
			});
		}
	}

	// failed notes a server that gave no candidate.
	failed(url: string, code: number): void {
		if (code < 300 || code > 799 || this.errors.length >= maxErrors) return;
		const way = /^stuns?:/i.test(url) ? "stun" : /^turns:/i.test(url) ? "tls" : /transport=tcp/i.test(url) ? "tcp" : "udp";
		if (this.errors.every((e) => e.way !== way || e.code !== code)) this.errors.push({ way, code });
	}

	tried(): Pair[] {
		return [...this.pairs.values()];
	}

	gather(): GatherError[] {
		return [...this.errors];
	}
}

function end(c: Numbers): End {
	const kind = String(c["candidateType"]);
	const relay = String(c["relayProtocol"] ?? "");
	const transport = relay || String(c["protocol"] ?? "udp");
	return {
		kind: kinds.includes(kind) ? kind : "prflx",
		network: network(c["address"] ?? c["ip"]),
		transport: transport === "tls" || transport === "tcp" ? transport : "udp",
	};
}

function count(v: unknown): number {
	return typeof v === "number" && v > 0 ? Math.round(v) : 0;
}

// network says of an address no more than in what kind of network it is (RFC 1918, 3927, 4193, 4291, 6598, 8828).
export function network(address: unknown): string {
	if (typeof address !== "string" || address === "") return "hidden";
	if (/\.local$/i.test(address)) return "hidden";
	const four = /^(\d+)\.(\d+)\.\d+\.\d+$/.exec(address);
	if (four) {
		const [a, b] = [Number(four[1]), Number(four[2])];
		if (a === 10 || (a === 172 && b >= 16 && b < 32) || (a === 192 && b === 168)) return "v4.private";
		if (a === 100 && b >= 64 && b < 128) return "v4.shared";
		if (a === 127 || (a === 169 && b === 254)) return "v4.local";
		return "v4.public";
	}
	const six = address.replace(/^\[|\]$/g, "").toLowerCase();
	if (!six.includes(":")) return "unknown";
	if (six === "::1" || /^fe[89ab]/.test(six)) return "v6.local";
	return /^f[cd]/.test(six) ? "v6.private" : "v6.public";
}
