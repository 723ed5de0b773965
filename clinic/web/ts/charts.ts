// Charts of a terminal's numbers by uPlot: two days by five minutes, or thirty days by hours with what was least and most in each. All share one cursor.

import uPlot from "./uplot/uPlot.esm.js";

const every = 300_000; // how often they are fetched anew
const height = 130;
const retry = 20_000;

interface Plot {
	key: string;
	name: string;
	unit: string;
	mean: (number | null)[];
	least?: (number | null)[];
	most?: (number | null)[];
	text: string;
}

export interface Plotted {
	from: number;
	step: number;
	count: number;
	charts: Plot[];
	calls: { name: string; unit: string; text: string; at: number[]; lost: number[] };
}

interface Drawn {
	figure: HTMLElement;
	output: HTMLOutputElement;
	caption: HTMLElement;
	area: HTMLElement;
	chart: uPlot | undefined;
}

function number(v: number): string {
	const text = (Math.round(v * 10) / 10).toString().replace("-", "−");
	return document.documentElement.lang === "en" ? text : text.replace(".", ","); // browsers do not all know Nynorsk
}

const two = (n: number): string => n.toString().padStart(2, "0");

// at says when something was, as the axis does not.
function at(seconds: number): string {
	const d = new Date(seconds * 1000);
	return `${d.getDate()}.${d.getMonth() + 1}. ${two(d.getHours())}:${two(d.getMinutes())}`;
}

const few = 12; // values of which a line is hardly to be seen: an hour's, in two days

// dotted are the values, by number, that a line does not show: all where there are few, and else those that stand alone. The latest is always one.
export function dotted(values: readonly (number | null)[]): number[] {
	const known = values.flatMap((v, i) => (v === null ? [] : [i]));
	const has = (i: number): boolean => (values[i] ?? null) !== null;
	return known.filter((i, n) => known.length <= few || n === known.length - 1 || (!has(i - 1) && !has(i + 1)));
}

export class Charts {
	private readonly plots: HTMLElement;
	private readonly said: HTMLElement;
	private readonly buttons: HTMLButtonElement[];
	private readonly drawn = new Map<string, Drawn>();
	private readonly colour: { line: string; band: string; ink: string; grid: string };
	private span = "days";
	private asked = 0; // the latest request; an earlier one's answer is not drawn
	private timer = 0;

	constructor(private readonly box: HTMLElement) {
		this.plots = box.querySelector(".plots") as HTMLElement;
		this.said = box.querySelector("[role=status]") as HTMLElement;
		this.buttons = Array.from(box.querySelectorAll("button"));
		const style = getComputedStyle(box);
		this.colour = { line: style.getPropertyValue("--deep"), band: style.getPropertyValue("--band"), ink: style.getPropertyValue("--soft"), grid: style.getPropertyValue("--line") };
	}

	start(): void {
		for (const b of this.buttons) b.addEventListener("click", () => this.choose(b.value));
		document.addEventListener("visibilitychange", () => {
			if (document.visibilityState === "visible") void this.fetch();
		});
		new ResizeObserver(() => this.fit()).observe(this.plots);
		this.choose("days");
		this.box.hidden = false;
	}

	private choose(span: string): void {
		this.span = span;
		for (const b of this.buttons) b.setAttribute("aria-pressed", String(b.value === span));
		void this.fetch();
	}

	private async fetch(): Promise<void> {
		const mine = ++this.asked;
		window.clearTimeout(this.timer);
		try {
			const answer = await fetch(`${this.box.dataset["source"]}?span=${this.span}`, { headers: { Accept: "application/json" } });
			if (!answer.ok) throw new Error(`the clinic answers ${answer.status}`);
			const data = (await answer.json()) as Plotted;
			if (mine !== this.asked) return;
			this.draw(data);
			this.said.textContent = "";
			this.again(every);
		} catch {
			if (mine !== this.asked) return;
			this.said.textContent = this.box.dataset["failed"] ?? "";
			this.again(retry);
		}
	}

	private again(after: number): void {
		this.timer = window.setTimeout(() => {
			if (document.visibilityState === "visible") void this.fetch();
		}, after);
	}

	private draw(data: Plotted): void {
		const times = Array.from({ length: data.count }, (_, i) => data.from + i * data.step);
		const range: [number, number] = [data.from, data.from + data.count * data.step];
		for (const p of data.charts) {
			if (p.least && p.most) this.plot(p, [times, p.least, p.most, p.mean], range);
			else this.plot(p, [times, p.mean], range);
		}
		const { calls } = data;
		this.plot({ key: "lost", name: calls.name, unit: calls.unit, mean: calls.lost, text: calls.text }, [calls.at, calls.lost], range);
		this.box.dataset["drawn"] = this.span;
	}

	private place(key: string): Drawn {
		const had = this.drawn.get(key);
		if (had) return had;
		const figure = document.createElement("figure");
		const caption = document.createElement("span");
		const output = document.createElement("output");
		const head = document.createElement("figcaption");
		const area = document.createElement("div");
		head.append(caption, output);
		area.setAttribute("role", "img");
		figure.dataset["figure"] = key;
		figure.append(head, area);
		this.plots.append(figure);
		const made: Drawn = { figure, output, caption, area, chart: undefined };
		this.drawn.set(key, made);
		return made;
	}

	private plot(p: Plot, data: uPlot.AlignedData, range: [number, number]): void {
		const d = this.place(p.key);
		d.caption.textContent = p.unit ? `${p.name} (${p.unit})` : p.name;
		d.area.setAttribute("aria-label", `${p.name}: ${p.text}`);
		d.output.textContent = p.text;
		d.chart?.destroy();
		d.chart = undefined;
		if (!p.mean.some((v) => v !== null)) {
			d.figure.dataset["empty"] = "yes"; // its words say so; there is nothing to draw
			return;
		}
		delete d.figure.dataset["empty"];
		const dots = p.key === "lost";
		const band = data.length > 2;
		const line: uPlot.Series = { stroke: this.colour.line, width: 1.5, points: { show: true, size: dots ? 7 : 5, fill: this.colour.line } };
		if (dots) line.paths = () => null;
		else line.points = { ...line.points, filter: dotted(p.mean) };
		const edge: uPlot.Series = { stroke: "transparent", width: 0, points: { show: false } };
		const axis = { stroke: this.colour.ink, grid: { stroke: this.colour.grid, width: 1 }, ticks: { stroke: this.colour.grid, width: 1 }, font: '12px "Atkinson Hyperlegible", sans-serif' };
		const options: uPlot.Options = {
			width: this.width(),
			height,
			legend: { show: false },
			cursor: { sync: { key: "home" }, drag: { x: false, y: false }, y: false },
			scales: { x: { time: true, range: () => range }, y: { range: (_u, least, most) => Charts.scale(p.key, least, most) } },
			series: band ? [{}, edge, edge, line] : [{}, line],
			axes: [
				{ ...axis, size: 44, space: 60 },
				{ ...axis, size: 46, values: (_u, splits) => splits.map((v) => number(v)) },
			],
			hooks: { setCursor: [(u) => this.point(p, d, u, band)] },
		};
		const x = options.axes?.[0];
		if (x) x.values = this.span === "days" ? [[3600, "{HH}:{mm}", null, null, "\n{D}.{M}.", null, null, null, 1]] : [[86_400, "{D}.{M}.", null, null, null, null, null, null, 1]];
		if (band) options.bands = [{ series: [2, 1], fill: this.colour.band }];
		d.chart = new uPlot(options, data, d.area);
	}

	// scale has room around what is drawn, and begins with 0 where less cannot be.
	private static scale(key: string, least: number | null, most: number | null): [number, number] {
		if (least === null || most === null) return [0, 1];
		const room = Math.max((most - least) * 0.1, 2);
		if (key === "signal") return [least - room, Math.min(most + room, 0)];
		if (key === "memory") return [0, 100];
		if (key === "heat") return [Math.max(least - room, 0), most + room];
		return [0, most + Math.max(room, most * 0.1)];
	}

	// point says what is under the cursor; without one, what the whole chart comes to.
	private point(p: Plot, d: Drawn, u: uPlot, band: boolean): void {
		const i = u.cursor.idx;
		const time = i === null || i === undefined ? undefined : u.data[0][i];
		if (i === null || i === undefined || time === undefined || (u.cursor.left ?? -1) < 0) {
			d.output.textContent = p.text;
			return;
		}
		const value = u.data[band ? 3 : 1]?.[i];
		const known = value !== null && value !== undefined;
		let text = known ? `${number(value)} ${p.unit}` : "–";
		if (band && known) text += ` (${number(u.data[1]?.[i] ?? value)} – ${number(u.data[2]?.[i] ?? value)})`;
		d.output.textContent = `${at(time)}: ${text}`;
	}

	private width(): number {
		const one = this.plots.querySelector("figure");
		return Math.max(Math.floor(one?.clientWidth ?? this.plots.clientWidth), 200);
	}

	private fit(): void {
		const width = this.width();
		for (const d of this.drawn.values()) if (d.chart && d.chart.width !== width) d.chart.setSize({ width, height });
	}
}
