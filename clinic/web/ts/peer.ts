// One RTCPeerConnection and what the call needs of it. It is made and its offer prepared before the click; nothing is
// gathered or sent until begin. No track is attached before send, nor before certificate and encryption of the connection were looked at: no picture and no
// sound can leave by any other. When nothing comes any more it looks for another path, with the same certificates.

import * as api from "./api";
import { equal, sha256, toBase64 } from "./bytes";
import { Code } from "./call";
import { Candidate } from "./invitation";

export interface Watcher {
	connected(): void;
	failed(code: Code): void;
	weak(weak: boolean): void; // the path is interrupted, and may come back
	looks(): void; // another path is looked for
}

export interface Options {
	readonly servers: RTCIceServer[];
	readonly relayOnly: boolean;
}

const maxQueued = 64;
const gatherFor = 30; // ms for which candidates are collected into one request
const together = 8; // candidates in one statement, and
const longest = 1_400; // so many characters of theirs: a statement is bounded
const graceForPath = 6_000; // with what it takes to notice, the other end may say nothing for 10 s
const graceForMove = 12_000; // more, once the terminal has answered that it looks for another path, too
const silent = 2_500; // ms in which nothing came: Chromium calls that disconnected only later
const lookAgain = 2_000; // ms after an offer for another path that was not answered, and
const lookLater = 5_000; // after one that was, and led to none: a fifth more or less, by chance
const maxLooks = 32; // in a call: the terminal takes no more
const graceForFirstPath = 15_000;

export class Peer {
	readonly remote = new MediaStream();
	call = "";
	private readonly pc: RTCPeerConnection;
	private readonly sound: RTCRtpTransceiver;
	private readonly picture: RTCRtpTransceiver;
	private readonly made: Promise<RTCSessionDescriptionInit>;
	private watcher: Watcher | undefined;
	private toClinic: Candidate[] = [];
	private sign: ((number: number, list: readonly Candidate[]) => Promise<Uint8Array>) | undefined;
	private statements = 0;
	private posting = Promise.resolve();
	private ask: ((number: number, offer: string) => Promise<void>) | undefined;
	private away = false; // nothing comes
	private answered = false; // and the terminal looks for another path, too
	private looks = 0;
	private taken = 0; // the offer for another path that was answered last
	private asking = false; // an offer is on its way: what was found waits, since it belongs to it
	private again = 0;
	private heard = { bytes: 0, at: 0 };
	private fromTerminal: RTCIceCandidateInit[] = [];
	private accepted = false;
	private everConnected = false;
	private sending = 0;
	private grace = 0;
	readonly refusals: { readonly url: string; readonly code: number }[] = [];
	private outgoing: { readonly stream: MediaStream; readonly picture: boolean; readonly sound: boolean } | undefined;
	private expected: Uint8Array | undefined;
	private covered = false;

	constructor(options: Options) {
		this.pc = new RTCPeerConnection({
			iceServers: options.servers,
			iceTransportPolicy: options.relayOnly ? "relay" : "all",
			bundlePolicy: "max-bundle",
			rtcpMuxPolicy: "require",
		});
		this.sound = this.pc.addTransceiver("audio", { direction: "sendrecv" });
		this.picture = this.pc.addTransceiver("video", { direction: "sendrecv", sendEncodings: [{ maxBitrate: 2_000_000 }] });
		prefer(this.sound, /^audio\/opus$/i);
		prefer(this.picture, /^video\/(vp8|h264|rtx)$/i);
		this.pc.ontrack = (e) => this.remote.addTrack(e.track);
		this.pc.onicecandidate = (e) => this.found(e.candidate);
		this.pc.onicecandidateerror = (e) => {
			if (e instanceof RTCPeerConnectionIceErrorEvent) this.unserved(e.url, e.errorCode);
		};
		this.pc.onconnectionstatechange = () => void this.changed();
		this.made = this.pc.createOffer();
		this.made.catch(() => undefined); // reported by offer and begin
	}

	// offer is ready, or nearly, since the connection was made.
	async offer(): Promise<string> {
		return (await this.made).sdp ?? "";
	}

	// begin starts to gather candidates.
	begin(watcher: Watcher): void {
		this.watcher = watcher;
		this.made.then((offer) => this.pc.setLocalDescription(offer)).catch(() => this.watcher?.failed("browser.failed"));
	}

	// unserved notes a server that gave no candidate. They are few, and each is asked only a few times.
	private unserved(url: string, code: number): void {
		if (this.refusals.length < maxQueued) this.refusals.push({ url, code });
	}

	// named tells which call this is; candidates may go out from here on, signed for it, and offers for other paths.
	named(call: string, sign: (number: number, list: readonly Candidate[]) => Promise<Uint8Array>, ask: (number: number, offer: string) => Promise<void>): void {
		this.call = call;
		this.sign = sign;
		this.ask = ask;
		this.flush();
	}

	// accept takes a proven answer. Its certificate is the only one that may speak.
	async accept(sdp: string, certificate: Uint8Array): Promise<void> {
		this.expected = certificate;
		this.arm(graceForFirstPath);
		await this.pc.setRemoteDescription({ type: "answer", sdp });
		this.accepted = true;
		const waiting = this.fromTerminal;
		this.fromTerminal = [];
		for (const c of waiting) void this.add(c);
	}

	// moved takes a proven answer to the offer for another path with that number.
	async moved(number: number, sdp: string): Promise<void> {
		if (number !== this.looks || number <= this.taken || this.pc.signalingState !== "have-local-offer") return;
		this.taken = number;
		await this.pc.setRemoteDescription({ type: "answer", sdp });
		this.accepted = true;
		const waiting = this.fromTerminal;
		this.fromTerminal = [];
		for (const c of waiting) void this.add(c);
		if (!this.away) return;
		if (!this.answered) this.arm(graceForMove);
		this.answered = true;
		this.lookIn(lookLater);
	}

	async candidate(c: Candidate): Promise<void> {
		const init: RTCIceCandidateInit = { candidate: c.line, sdpMid: c.mid, sdpMLineIndex: c.mline };
		if (this.accepted) await this.add(init);
		else if (this.fromTerminal.length < maxQueued) this.fromTerminal.push(init);
	}

	// send sends from here on, as soon as the connection is as it has to be.
	async send(stream: MediaStream, picture: boolean, sound: boolean): Promise<void> {
		this.outgoing = { stream, picture, sound };
		if (this.everConnected) await this.attach();
	}

	// cover stops what goes out, or lets it go on as send has said. The connection stays.
	async cover(covered: boolean): Promise<void> {
		this.covered = covered;
		if (this.everConnected) await this.attach();
	}

	private async attach(): Promise<void> {
		if (!this.outgoing) return;
		const { stream, picture, sound } = this.outgoing;
		const track = (list: MediaStreamTrack[]): MediaStreamTrack | null => (this.covered ? null : (list[0] ?? null));
		await Promise.all([
			picture ? this.picture.sender.replaceTrack(track(stream.getVideoTracks())) : undefined,
			sound ? this.sound.sender.replaceTrack(track(stream.getAudioTracks())) : undefined,
		]);
	}

	async stats(): Promise<RTCStatsReport> {
		const report = await this.pc.getStats();
		this.listen(report);
		return report;
	}

	close(): void {
		this.watcher = undefined;
		window.clearTimeout(this.grace);
		window.clearTimeout(this.sending);
		window.clearTimeout(this.again);
		window.removeEventListener("online", this.online);
		this.pc.close();
		for (const t of this.remote.getTracks()) {
			t.stop();
			this.remote.removeTrack(t);
		}
	}

	private async add(c: RTCIceCandidateInit): Promise<void> {
		try {
			await this.pc.addIceCandidate(c);
		} catch {
			// One that this browser cannot use; others remain, and if none works the path fails by itself.
		}
	}

	private found(c: RTCIceCandidate | null): void {
		this.toClinic.push({ line: c?.candidate ?? "", mid: c?.sdpMid ?? "0", mline: c?.sdpMLineIndex ?? 0 });
		if (this.call !== "" && this.sending === 0) this.sending = window.setTimeout(() => this.flush(), gatherFor);
	}

	private flush(): void {
		window.clearTimeout(this.sending);
		this.sending = 0;
		this.posting = this.posting.then(() => this.post());
	}

	// post sends what waits, one statement after the other: the terminal takes their numbers only as they grow.
	private async post(): Promise<void> {
		while (this.sign && !this.asking && this.toClinic.length > 0) {
			try {
				await api.candidates(this.call, toBase64(await this.sign(++this.statements, batch(this.toClinic))));
			} catch {
				// The path fails by itself if they were needed.
			}
		}
	}

	private arm(after: number): void {
		window.clearTimeout(this.grace);
		this.grace = window.setTimeout(() => this.watcher?.failed(this.everConnected ? "ice.lost" : this.whyNot()), after);
	}

	// listen notices silence. A terminal that has nothing to say still asks whether this end is there, each second (RFC 7675).
	private listen(report: RTCStatsReport): void {
		if (!this.everConnected || !this.watcher) return;
		let bytes = 0;
		report.forEach((s: { type: string; bytesReceived?: number; requestsReceived?: number; responsesReceived?: number }) => {
			if (s.type === "candidate-pair") bytes += (s.bytesReceived ?? 0) + (s.requestsReceived ?? 0) + (s.responsesReceived ?? 0);
		});
		const now = performance.now();
		if (bytes !== this.heard.bytes) {
			this.heard = { bytes, at: now };
			if (this.away && this.pc.connectionState === "connected") this.back();
		} else if (now - this.heard.at > silent) this.lost();
	}

	private readonly online = (): void => {
		if (this.everConnected && this.watcher) this.lost();
	};

	// lost: nothing comes any more. Another path is looked for until there is one, or the time is over.
	private lost(): void {
		if (this.away) return;
		this.away = true;
		this.answered = false;
		this.watcher?.weak(true);
		this.arm(graceForPath);
		void this.look();
	}

	private back(): void {
		this.away = false;
		window.clearTimeout(this.grace);
		window.clearTimeout(this.again);
		this.watcher?.weak(false);
	}

	private lookIn(wait: number): void {
		window.clearTimeout(this.again);
		this.again = window.setTimeout(() => void this.look(), wait * (0.8 + 0.4 * Math.random()));
	}

	// look offers another path (an ICE restart). Certificate, encryption and what is sent stay as they are.
	private async look(): Promise<void> {
		if (!this.ask || this.looks >= maxLooks) return;
		const number = ++this.looks;
		this.lookIn(lookAgain);
		this.asking = true;
		this.accepted = false; // the terminal's next candidates belong to its next answer
		this.toClinic = [];
		this.fromTerminal = [];
		try {
			const offer = await this.pc.createOffer({ iceRestart: true });
			await this.pc.setLocalDescription(offer);
			this.watcher?.looks();
			await this.ask(number, offer.sdp ?? "");
		} catch {
			// The next one may get through.
		}
		if (number !== this.looks) return;
		this.asking = false;
		this.posting = this.post();
	}

	private whyNot(): Code {
		return this.dtls()?.state === "failed" || this.pc.iceConnectionState === "connected" ? "dtls.failed" : "ice.failed";
	}

	private dtls(): RTCDtlsTransport | null {
		return this.sound.sender.transport;
	}

	private async changed(): Promise<void> {
		switch (this.pc.connectionState) {
			case "connected":
				if (this.everConnected) return this.back();
				window.clearTimeout(this.grace);
				if (!(await this.certified())) return this.watcher?.failed("proof.fingerprint");
				if (!(await this.sealed())) return this.watcher?.failed("dtls.not_as_agreed");
				this.everConnected = true;
				this.heard = { bytes: 0, at: performance.now() };
				window.addEventListener("online", this.online);
				this.attach().catch(() => this.watcher?.failed("browser.failed"));
				this.watcher?.connected();
				return;
			case "disconnected":
				if (this.everConnected) return this.lost();
				this.watcher?.weak(true);
				this.arm(graceForPath);
				return;
			case "failed":
				if (this.everConnected && this.dtls()?.state !== "failed") return this.lost(); // for as long as another path may be found
				this.watcher?.failed(this.everConnected ? "ice.lost" : this.whyNot());
				return;
			default:
				return;
		}
	}

	// certified looks once more, at the certificate that the other end has really shown. The browser has compared it with
	// the proven session description already (RFC 8827 §6.5).
	private async certified(): Promise<boolean> {
		const shown = this.dtls()?.getRemoteCertificates?.()[0];
		return !shown || (!!this.expected && equal(await sha256(new Uint8Array(shown)), this.expected));
	}

	// sealed asks for one of the AEAD profiles (RFC 7714) and suites, the only ones that terminals speak.
	private async sealed(): Promise<boolean> {
		let good = true;
		(await this.pc.getStats()).forEach((s: { type: string; srtpCipher?: string; dtlsCipher?: string }) => {
			if (s.type !== "transport") return;
			if (s.srtpCipher && !/GCM/.test(s.srtpCipher)) good = false;
			if (s.dtlsCipher && !/GCM|CHACHA20/.test(s.dtlsCipher)) good = false;
		});
		return good;
	}
}

// batch takes from what waits as much as one statement holds.
export function batch(waiting: Candidate[]): Candidate[] {
	let n = 0;
	for (let size = 0; n < Math.min(waiting.length, together); n++) {
		size += waiting[n]?.line.length ?? 0;
		if (n > 0 && size > longest) break;
	}
	return waiting.splice(0, n);
}

function prefer(t: RTCRtpTransceiver, wanted: RegExp): void {
	const all = RTCRtpReceiver.getCapabilities(t.receiver.track.kind)?.codecs ?? [];
	const codecs = all.filter((c) => wanted.test(c.mimeType));
	if (codecs.length > 0 && "setCodecPreferences" in t) t.setCodecPreferences(codecs);
}
