// The quality of a call through its time. However long the call is, a series has at most so many values: when it is full, each two become one. It is the same as
// package protocol's Sampler.

export interface Sample {
	readonly rtt: number;
	readonly loss: number;
	readonly jitter: number;
	readonly out: number;
	readonly in: number;
	readonly frames: number;
	readonly frozen: number;
	readonly concealed: number;
	readonly grade: number;
	readonly erle: number;
}

export interface Columns {
	every: number;
	rtt: number[];
	loss: number[];
	jitter: number[];
	out: number[];
	in: number[];
	frames: number[];
	frozen?: number[]; // these are left out where they would be nothing but 0
	concealed?: number[];
	grade?: number[];
	erle?: number[];
}

const most = 240;
const always = ["rtt", "loss", "jitter", "out", "in", "frames"] as const;
const known = ["frozen", "concealed", "grade", "erle"] as const;
const columns = [...always, ...known] as const;
const worst: readonly string[] = ["loss", "jitter", "frozen", "concealed"]; // of which the larger tells more than the mean
const bounds: Readonly<Record<string, number>> = { frozen: 1000, concealed: 1000, grade: 450, erle: 120 };

type All = Record<(typeof columns)[number], number[]> & { every: number };

export class Sampler {
	private readonly series: All = { every: 1, rtt: [], loss: [], jitter: [], out: [], in: [], frames: [], frozen: [], concealed: [], grade: [], erle: [] };
	private pending: Sample[] = [];

	// add takes the next second.
	add(x: Sample): void {
		this.pending.push(x);
		if (this.pending.length < this.series.every) return;
		this.flush();
		if (this.series.rtt.length >= most) this.halve();
	}

	private flush(): void {
		for (const c of columns) this.series[c].push(join(c, this.pending.map((p) => Math.min(p[c], bounds[c] ?? Infinity))));
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
		if (this.series.rtt.length === 0) return undefined;
		const { frozen, concealed, grade, erle, ...rest } = this.series;
		const told = Object.entries({ frozen, concealed, grade, erle }).filter(([, values]) => values.some((v) => v > 0));
		return { ...rest, ...Object.fromEntries(told) };
	}
}

function join(column: string, list: readonly number[]): number {
	if (column === "grade") return Math.floor(list.reduce((a, b) => (a === 0 || (b !== 0 && b < a) ? b : a), 0)); // the least that is known
	const value = worst.includes(column) ? Math.max(...list) : list.reduce((a, b) => a + b, 0) / list.length;
	return Math.max(0, Math.floor(value));
}
