// Camera and microphone of this computer. They are opened by a ring and closed by the end of the call.

import { Media } from "./call";

export class Denied extends Error {}

export interface Own {
	readonly stream: MediaStream;
	readonly has: Exclude<Media, "unknown">;
}

const sound: MediaTrackConstraints = { echoCancellation: true, noiseSuppression: true, autoGainControl: true };
const picture: MediaTrackConstraints = { width: { ideal: 640 }, height: { ideal: 480 }, frameRate: { ideal: 30, max: 30 } };

export type Permission = "granted" | "prompt" | "denied";

// permission says whether the browser will ask, without asking.
export async function permission(): Promise<Permission> {
	const states = await Promise.all(
		["camera", "microphone"].map(async (name) => {
			try {
				return (await navigator.permissions.query({ name: name as PermissionName })).state;
			} catch {
				return "prompt"; // the browser does not tell
			}
		}),
	);
	return states.includes("denied") ? "denied" : states.includes("prompt") ? "prompt" : "granted";
}

// present says what is connected, without opening it.
export async function present(): Promise<{ camera: boolean; microphone: boolean }> {
	const devices = (await navigator.mediaDevices?.enumerateDevices()) ?? [];
	const has = (kind: MediaDeviceKind): boolean => devices.some((d) => d.kind === kind);
	return { camera: has("videoinput"), microphone: has("audioinput") };
}

// open opens what there is: both, one of them, or nothing. It throws Denied if the person or a policy said no.
export async function open(): Promise<Own> {
	const media = navigator.mediaDevices;
	if (!media) return { stream: new MediaStream(), has: "none" };
	try {
		return own(await media.getUserMedia({ audio: sound, video: picture }));
	} catch (cause) {
		if (refused(cause)) throw new Denied(String(cause));
	}
	// One of the two is missing or busy. Ask for each by itself.
	const tracks: MediaStreamTrack[] = [];
	for (const constraints of [{ audio: sound }, { video: picture }]) {
		try {
			tracks.push(...(await media.getUserMedia(constraints)).getTracks());
		} catch (cause) {
			if (refused(cause)) {
				tracks.forEach((t) => t.stop());
				throw new Denied(String(cause));
			}
		}
	}
	return own(new MediaStream(tracks));
}

function refused(cause: unknown): boolean {
	return cause instanceof DOMException && (cause.name === "NotAllowedError" || cause.name === "SecurityError");
}

function own(stream: MediaStream): Own {
	const seen = stream.getVideoTracks().length > 0;
	const heard = stream.getAudioTracks().length > 0;
	return { stream, has: seen && heard ? "both" : seen ? "picture" : heard ? "sound" : "none" };
}
