// The quality of a call through its time. However long the call is, a series has at most so many values: when it is full, each two become one. It is the same as
// package protocol's Sampler.

export interface Sample {
	readonly rtt: number;
	readonly loss: number;
	readonly jitter: number;
	readonly out: number;
	readonly in: number;
	readonly frames: number;
}

export interface Columns {
	every: number;
	rtt: number[];
	loss: number[];
	jitter: number[];
	out: number[];
	in: number[];
	frames: number[];
}

const most = 240;
const columns = ["rtt", "loss", "jitter", "out", "in", "frames"] as const;
const worst: readonly string[] = ["loss", "jitter"]; // of which the larger tells more than the mean

export class Sampler {
	private readonly series: Columns = { every: 1, rtt: [], loss: [], jitter: [], out: [], in: [], frames: [] };
	private pending: Sample[] = [];

	// add takes the next second.
	add(x: Sample): void {
		this.pending.push(x);
		if (this.pending.length < this.series.every) return;
		this.flush();
		if (this.series.rtt.length >= most) this.halve();
	}

	private flush(): void {
		for (const c of columns) this.series[c].push(join(c, this.pending.map((p) => p[c])));
		this.pending = [];
	}

	private halve(): void {
		this.series.every *= 2;
		for (const c of columns) {
			const old = this.series[c];
			this.series[c] = Array.from({ length: Math.floor(old.length / 2) }, (_, i) => join(c, old.slice(2 * i, 2 * i + 2)));
		}
	}

	// result is undefined if nothing was gathered.
	result(): Columns | undefined {
		if (this.pending.length > 0 && this.series.rtt.length < most) this.flush();
		return this.series.rtt.length > 0 ? this.series : undefined;
	}
}

function join(column: string, list: readonly number[]): number {
	const value = worst.includes(column) ? Math.max(...list) : list.reduce((a, b) => a + b, 0) / list.length;
	return Math.max(0, Math.floor(value));
}
