// The browser's half of a call's record: when each stage was reached, how the path and its encryption came out, and what
// the quality was. It holds no content and no addresses.

import { Code } from "./call";
import { devices, rating, score } from "./grade";
import { GatherError, Pair, Path } from "./path";
import { Columns, Sampler } from "./series";

export interface Half {
	readonly version: 1;
	readonly by: "caller";
	readonly began: number;
	readonly outcome: Code;
	readonly duration: number;
	readonly stages: readonly { readonly stage: string; readonly after: number }[];
	readonly crypto: { readonly suite: string; readonly srtp: string };
	readonly local_path: string;
	readonly remote_path: string;
	readonly camera: string;
	readonly sound: string;
	readonly quality: Quality;
	readonly camera_open: number;
	readonly camera_closed: number;
	readonly microphone_open: number;
	readonly microphone_closed: number;
	readonly pairs?: readonly Pair[]; // what was tried, where no path was found
	readonly gather?: readonly GatherError[];
	readonly series?: Columns;
}

interface Quality {
	rtt: number;
	jitter: number;
	packets_lost: number;
	packets_received: number;
	frames_sent: number;
	frames_decoded: number;
	freezes: number;
	concealed: number;
	bytes_sent: number;
	bytes_received: number;
	frozen?: number | undefined; // these are left out where nothing is known
	grade?: number | undefined;
	grade_worst?: number | undefined;
	erle?: number | undefined;
	codec_out?: string | undefined;
	codec_in?: string | undefined;
}

const coders: readonly string[] = ["VP8", "VP9", "H264", "H265", "AV1"];

// Sound is what the browser has counted of received sound, and of the picture's pauses.
interface Sound {
	readonly samples: number;
	readonly concealed: number; // of them, without silence in the place of silence
	readonly delay: number; // s that samples have waited in the jitter buffer, in all
	readonly emitted: number;
	readonly frozen: number; // s
}

// Numbers are what of a stats report is used here (W3C webrtc-stats).
type Numbers = Readonly<Record<string, unknown>> & { readonly type: string; readonly id: string };

// Line is how good a line is, in words.
export type Line = "good" | "fair" | "poor";

// What makes a line good, and poor: the grades above which users are satisfied, and some are not (G.107 table B.1), and a picture that hardly moves.
const satisfied = 403;
const some = 360;
const slow = 8; // pictures a second
const standing = 0.1; // of the time
const judged = 5; // s

// Lasting are counters that only grow.
interface Lasting {
	pictures: number;
	freezes: number;
	concealed: number;
	frozen: number;
}

const every = 1_000;
const patience = 3; // readings after a curtain in which no picture comes, until what is missing is missed

export class Recorder {
	private readonly began = Date.now();
	private readonly clock = performance.now();
	private readonly stages: { stage: string; after: number }[] = [];
	private readonly rtts: number[] = [];
	private readonly quality: Quality = {
		rtt: 0, jitter: 0, packets_lost: 0, packets_received: 0, frames_sent: 0, frames_decoded: 0, freezes: 0, concealed: 0, bytes_sent: 0, bytes_received: 0,
	};
	private suite = "";
	private srtp = "";
	private localPath = "";
	private remotePath = "";
	private camera = 0;
	private microphone = 0;
	private end = 0;
	private timer = 0;
	private before: { readonly pictures: number; readonly sounds: number } | undefined; // the reading before
	readonly path = new Path();
	private readonly sampler = new Sampler();
	private readonly grades: number[] = [];
	private sound: Sound | undefined;
	private recent: { readonly grade: number; readonly frames: number; readonly frozen: number }[] = [];
	private word: "" | Line = "";
	private covered = false;
	private readonly away: Lasting = { pictures: 0, freezes: 0, concealed: 0, frozen: 0 }; // what was counted because of curtains
	private latest: Lasting = { ...this.away };
	private left: { readonly then: Lasting; pictures: number; since: number } | undefined; // while a curtain is drawn, and until pictures come again
	private sampled: { at: number; out: number; in: number; lost: number; received: number; frames: number } | undefined;

	// stage notes the first time that a stage is reached.
	stage(stage: string): void {
		if (this.stages.every((s) => s.stage !== stage)) this.stages.push({ stage, after: Math.round(performance.now() - this.clock) });
	}

	// talked is for how long the call has been answered, in milliseconds.
	talked(): number {
		const answered = this.stages.find((s) => s.stage === "answered");
		return answered ? Math.round(performance.now() - this.clock) - answered.after : 0;
	}

	opened(camera: boolean, microphone: boolean): void {
		if (camera) this.camera = Date.now();
		if (microphone) this.microphone = Date.now();
	}

	// follow reads the statistics now and then, so that there is a last reading even when the page is torn down.
	// It says whether the picture stands still while sound comes.
	follow(stats: () => Promise<RTCStatsReport>, paused: (paused: boolean) => void): void {
		let readings = 0; // within one second a slow picture may well stand
		const read = (): void => void this.last(stats(), readings++ % 2 === 0 ? paused : undefined);
		read();
		this.timer = window.setInterval(read, every);
	}

	async last(stats: Promise<RTCStatsReport>, paused?: (paused: boolean) => void): Promise<void> {
		try {
			const report = await stats;
			this.read(report);
			if (!this.covered) paused?.(this.stands(report));
		} catch {
			// The reading before it stands.
		}
	}

	read(report: RTCStatsReport): void {
		const all: Numbers[] = [];
		report.forEach((s: Numbers) => all.push(s));
		const byId = (id: unknown): Numbers | undefined => all.find((s) => s.id === id);
		const q = this.quality;
		if (!this.reached("connected")) this.path.read(all);
		const transport = all.find((s) => s.type === "transport");
		if (transport) {
			// A reading after the other end has closed has no ciphers any more.
			this.suite = text(transport["dtlsCipher"]) || this.suite;
			this.srtp = text(transport["srtpCipher"]).replace(/^SRTP_/, "") || this.srtp; // Chromium 156 writes SRTP_ before the profile's name
			q.bytes_sent = natural(transport["bytesSent"]);
			q.bytes_received = natural(transport["bytesReceived"]);
			const pair = byId(transport["selectedCandidatePairId"]);
			if (pair) {
				this.localPath = text(byId(pair["localCandidateId"])?.["candidateType"]);
				this.remotePath = text(byId(pair["remoteCandidateId"])?.["candidateType"]);
				if (typeof pair["currentRoundTripTime"] === "number") this.rtts.push(pair["currentRoundTripTime"] * 1000);
				q.rtt = median(this.rtts);
			}
		}
		const inbound = all.filter((s) => s.type === "inbound-rtp");
		if (inbound.length > 0) {
			q.packets_lost = sum(inbound, "packetsLost");
			q.packets_received = sum(inbound, "packetsReceived");
			q.frames_decoded = sum(inbound, "framesDecoded");
			const lasting = this.without({
				pictures: q.frames_decoded, freezes: sum(inbound, "freezeCount"), concealed: sum(inbound, "concealedSamples"), frozen: heard(inbound).frozen,
			});
			q.freezes = lasting.freezes;
			q.concealed = natural(lasting.concealed / 48);
			q.frozen = natural(1000 * lasting.frozen) || q.frozen;
			q.jitter = natural(1000 * Math.max(...inbound.filter((s) => s["kind"] === "audio").map((s) => Number(s["jitter"] ?? 0)), 0));
		}
		const coder = (type: string): string => {
			const stream = all.find((s) => s.type === type && s["kind"] === "video");
			const name = text(byId(stream?.["codecId"])?.["mimeType"]).replace(/^video\//i, "").toUpperCase();
			return coders.includes(name) ? name : "";
		};
		q.codec_out = coder("outbound-rtp") || q.codec_out;
		q.codec_in = coder("inbound-rtp") || q.codec_in;
		const own = all.find((s) => s.type === "media-source" && s["kind"] === "audio");
		q.erle = Math.min(natural(own?.["echoReturnLossEnhancement"]), 120) || q.erle;
		if (inbound.length > 0 && this.reached("connected") && !this.covered && !this.left) this.sample(q, heard(inbound));
		q.frames_sent = sum(all.filter((s) => s.type === "outbound-rtp"), "framesSent") || q.frames_sent;
	}

	// cover has nothing counted that a curtain keeps away, nor the second in which it opens.
	cover(covered: boolean): void {
		this.covered = covered;
		this.before = this.sampled = this.sound = undefined;
		this.recent = [];
		this.word = "";
		if (covered && !this.left) this.left = { then: this.latest, pictures: this.latest.pictures, since: 0 };
		if (this.left) this.left.since = 0;
	}

	// without is a reading of what only grows without what curtains have added to it: the browser takes one for a freeze, and for sound that is missing.
	private without(now: Lasting): Lasting {
		this.latest = now;
		const left = this.left;
		if (left && this.covered) left.pictures = now.pictures;
		if (left && !this.covered && (now.pictures > left.pictures || ++left.since > patience)) {
			for (const key of ["freezes", "concealed", "frozen"] as const) this.away[key] += now[key] - left.then[key];
			this.left = undefined;
		}
		const { pictures, freezes, concealed, frozen } = this.left?.then ?? now;
		const away = this.away;
		return { pictures, freezes: freezes - away.freezes, concealed: concealed - away.concealed, frozen: frozen - away.frozen };
	}

	// stands tells whether no picture has come since the reading before, though sound has and there were pictures earlier.
	private stands(report: RTCStatsReport): boolean {
		const all: Numbers[] = [];
		report.forEach((s: Numbers) => all.push(s));
		const of = (kind: string, field: string): number => sum(all.filter((s) => s.type === "inbound-rtp" && s["kind"] === kind), field);
		const now = { pictures: of("video", "framesDecoded"), sounds: of("audio", "packetsReceived") };
		const before = this.before;
		this.before = now;
		return !!before && now.pictures > 0 && now.pictures === before.pictures && now.sounds > before.sounds;
	}

	private reached(stage: string): boolean {
		return this.stages.some((s) => s.stage === stage);
	}

	// sample adds what has come since the reading before to the series.
	private sample(q: Quality, heard: Sound): void {
		const now = { at: performance.now(), out: q.bytes_sent, in: q.bytes_received, lost: q.packets_lost, received: q.packets_received, frames: q.frames_decoded };
		const b = this.sampled;
		const seconds = b ? (now.at - b.at) / 1000 : 0;
		if (b && seconds < 0.5) return; // the last reading of all, soon after one
		const h = this.sound;
		this.sampled = now;
		this.sound = heard;
		if (!b || !h) return;
		const rtt = natural(this.rtts[this.rtts.length - 1]);
		const concealed = Math.min(Math.max(0, heard.concealed - h.concealed) / Math.max(1, heard.samples - h.samples), 1);
		const grade = heard.samples > h.samples ? this.grade(rtt, heard, h, concealed) : 0;
		const lost = Math.max(0, now.lost - b.lost);
		const due = lost + Math.max(0, now.received - b.received);
		const rate = (n: number): number => natural(n / 125 / seconds); // kbit/s
		this.lately({ grade, frames: (now.frames - b.frames) / seconds, frozen: (heard.frozen - h.frozen) / seconds });
		this.sampler.add({
			rtt, loss: due > 0 ? Math.round((1000 * lost) / due) : 0, jitter: q.jitter,
			out: rate(now.out - b.out), in: rate(now.in - b.in), frames: natural((now.frames - b.frames) / seconds),
			frozen: natural((1000 * (heard.frozen - h.frozen)) / seconds), concealed: natural(1000 * concealed), grade, erle: q.erle ?? 0,
		});
		if (this.grades.length > 0) {
			const sorted = [...this.grades].sort((a, b) => a - b);
			q.grade = Math.round(sorted.reduce((a, b) => a + b, 0) / sorted.length);
			q.grade_worst = sorted[Math.floor(sorted.length / 10)];
		}
	}

	// lately judges the last seconds: by the sound's grade, and by whether the picture moves.
	private lately(second: { readonly grade: number; readonly frames: number; readonly frozen: number }): void {
		this.recent = [...this.recent, second].slice(-judged);
		if (this.recent.length < judged) return;
		const mean = (list: readonly number[]): number => list.reduce((a, b) => a + b, 0) / Math.max(1, list.length);
		const heard = this.recent.map((s) => s.grade).filter((g) => g > 0);
		const sound = heard.length > 0 ? mean(heard) : satisfied;
		const still = mean(this.recent.map((s) => s.frames)) < slow || mean(this.recent.map((s) => s.frozen)) > standing;
		this.word = sound < some || still ? "poor" : sound < satisfied ? "fair" : "good";
	}

	// line is how good the line has been in the last seconds; "" until that is known.
	line(): "" | Line {
		return this.word;
	}

	// grade is that of the second between two readings, in hundredths.
	private grade(rtt: number, now: Sound, before: Sound, concealed: number): number {
		const waited = now.emitted > before.emitted ? (1000 * (now.delay - before.delay)) / (now.emitted - before.emitted) : 0;
		const grade = Math.round(100 * score(rating(rtt / 2 + waited + devices, concealed)));
		this.grades.push(grade);
		return grade;
	}

	// closed notes that camera and microphone were closed, and with them the call.
	closed(): void {
		window.clearInterval(this.timer);
		this.stage("ended");
		this.end = Date.now();
	}

	half(outcome: Code): Half {
		const after = (stage: string): number | undefined => this.stages.find((s) => s.stage === stage)?.after;
		const answered = after("answered");
		const series = this.sampler.result();
		const pairs = this.reached("connected") ? [] : this.path.tried();
		const gather = this.reached("connected") ? [] : this.path.gather();
		return {
			...(pairs.length > 0 ? { pairs } : {}), ...(gather.length > 0 ? { gather } : {}), ...(series ? { series } : {}),
			version: 1, by: "caller", began: this.began, outcome,
			duration: answered === undefined ? 0 : (after("ended") ?? 0) - answered,
			stages: this.stages,
			crypto: { suite: this.suite, srtp: this.srtp },
			local_path: this.localPath, remote_path: this.remotePath,
			camera: this.camera ? "browser" : "none", sound: this.microphone ? "browser" : "none",
			quality: this.quality,
			camera_open: this.camera, camera_closed: this.camera && this.end,
			microphone_open: this.microphone, microphone_closed: this.microphone && this.end,
		};
	}
}

function text(v: unknown): string {
	return typeof v === "string" ? v : "";
}

// natural: a browser's counters may be missing, fractional, and (lost packets) negative.
function natural(v: unknown): number {
	return typeof v === "number" && v > 0 ? Math.round(v) : 0;
}

function sum(list: readonly Numbers[], field: string): number {
	return list.reduce((n, s) => n + natural(s[field]), 0);
}

// heard are the counters of received sound and of the picture's pauses.
function heard(inbound: readonly Numbers[]): Sound {
	const add = (kind: string, field: string): number =>
		inbound.filter((s) => s["kind"] === kind).reduce((n, s) => n + (typeof s[field] === "number" ? (s[field] as number) : 0), 0);
	return {
		samples: add("audio", "totalSamplesReceived"), concealed: add("audio", "concealedSamples") - add("audio", "silentConcealedSamples"),
		delay: add("audio", "jitterBufferDelay"), emitted: add("audio", "jitterBufferEmittedCount"), frozen: add("video", "totalFreezesDuration"),
	};
}

function median(list: readonly number[]): number {
	const sorted = [...list].sort((a, b) => a - b);
	return natural(sorted[Math.floor(sorted.length / 2)]);
}
