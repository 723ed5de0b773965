// One RTCPeerConnection and what the call needs of it. It is made and its offer prepared before the click; nothing is
// gathered or sent until begin. No track is attached before send, nor before certificate and encryption of the connection were looked at: no picture and no
// sound can leave by any other.

import * as api from "./api";
import { equal, sha256, toBase64 } from "./bytes";
import { Code } from "./call";
import { Candidate } from "./invitation";

export interface Watcher {
	connected(): void;
	failed(code: Code): void;
	weak(weak: boolean): void; // the path is interrupted, and may come back
}

export interface Options {
	readonly servers: RTCIceServer[];
	readonly relayOnly: boolean;
}

const maxQueued = 64;
const gatherFor = 30; // ms for which candidates are collected into one request
const together = 8; // candidates in one statement, and
const longest = 1_400; // so many characters of theirs: a statement is bounded
const graceForPath = 8_000;
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
	private fromTerminal: RTCIceCandidateInit[] = [];
	private accepted = false;
	private everConnected = false;
	private sending = 0;
	private grace = 0;
	readonly refusals: { readonly url: string; readonly code: number }[] = [];
	private outgoing: { readonly stream: MediaStream; readonly picture: boolean; readonly sound: boolean } | undefined;
	private expected: Uint8Array | undefined;

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

	// named tells which call this is; candidates may go out from here on, signed for it.
	named(call: string, sign: (number: number, list: readonly Candidate[]) => Promise<Uint8Array>): void {
		this.call = call;
		this.sign = sign;
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

	private async attach(): Promise<void> {
		if (!this.outgoing) return;
		const { stream, picture, sound } = this.outgoing;
		await Promise.all([
			picture ? this.picture.sender.replaceTrack(stream.getVideoTracks()[0] ?? null) : undefined,
			sound ? this.sound.sender.replaceTrack(stream.getAudioTracks()[0] ?? null) : undefined,
		]);
	}

	stats(): Promise<RTCStatsReport> {
		return this.pc.getStats();
	}

	close(): void {
		this.watcher = undefined;
		window.clearTimeout(this.grace);
		window.clearTimeout(this.sending);
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
		while (this.sign && this.toClinic.length > 0) {
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

	private whyNot(): Code {
		return this.dtls()?.state === "failed" || this.pc.iceConnectionState === "connected" ? "dtls.failed" : "ice.failed";
	}

	private dtls(): RTCDtlsTransport | null {
		return this.sound.sender.transport;
	}

	private async changed(): Promise<void> {
		switch (this.pc.connectionState) {
			case "connected":
				window.clearTimeout(this.grace);
				this.watcher?.weak(false);
				if (this.everConnected) return;
				if (!(await this.certified())) return this.watcher?.failed("proof.fingerprint");
				if (!(await this.sealed())) return this.watcher?.failed("dtls.not_as_agreed");
				this.everConnected = true;
				this.attach().catch(() => this.watcher?.failed("browser.failed"));
				this.watcher?.connected();
				return;
			case "disconnected":
				this.watcher?.weak(true);
				this.arm(graceForPath);
				return;
			case "failed":
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
