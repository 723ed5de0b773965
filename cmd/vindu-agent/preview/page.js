// The terminal's screen in a page: picture by long polling, state by server-sent events, the far end's sound on demand.
const byId = (id) => document.getElementById(id);
const canvas = byId("screen");
const status = byId("status");
const hangUp = byId("hang-up");
const press = byId("press");
const listen = byId("listen");
const notes = byId("notes");

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// A new picture is asked for when the last one is on the screen, so that a slow browser gets fewer and never lags.
async function watch() {
	const context = canvas.getContext("2d");
	let seen = 0;
	for (;;) {
		try {
			const response = await fetch(`/screen?after=${seen}`);
			if (response.status === 200) {
				const picture = await createImageBitmap(await response.blob());
				if (canvas.width !== picture.width || canvas.height !== picture.height) {
					canvas.width = picture.width;
					canvas.height = picture.height;
				}
				context.drawImage(picture, 0, 0);
				picture.close();
				seen = response.headers.get("Vindu-Frame") ?? "0";
			} else if (response.status !== 204) {
				seen = 0;
				await pause(1000);
			}
		} catch {
			seen = 0;
			await pause(1000);
		}
	}
}

function show(state) {
	if (status.textContent !== state.text) status.textContent = state.text;
	hangUp.disabled = !state.hang_up;
	press.disabled = !state.press;
	const said = state.notes.join("\n");
	if (notes.dataset.said !== said) {
		notes.dataset.said = said;
		notes.replaceChildren(...state.notes.map((note) => Object.assign(document.createElement("li"), { textContent: note })));
	}
}

const events = new EventSource("/state");
events.addEventListener("message", (e) => show(JSON.parse(e.data)));
events.addEventListener("error", () => show({ text: status.dataset.gone, hang_up: false, press: false, notes: [] }));

for (const [button, path] of [[hangUp, "/hang-up"], [press, "/press"]]) {
	button.addEventListener("click", async () => {
		try {
			await fetch(path, { method: "POST" });
		} catch {
			status.textContent = status.dataset.gone;
		}
	});
}

// Sound comes as 48 kHz mono 16-bit samples without end. What has waited for long, because the page was in the background, is skipped.
const bytesPerSecond = 96000;
let listening = null;

async function play(stop) {
	const audio = new AudioContext({ sampleRate: 48000, latencyHint: "interactive" });
	stop.addEventListener("abort", () => audio.close());
	const reader = (await fetch("/sound", { signal: stop })).body.getReader();
	let at = 0;
	let odd = null;
	for (;;) {
		const { value, done } = await reader.read();
		if (done) return;
		let bytes = value;
		if (odd !== null) {
			bytes = new Uint8Array(value.length + 1);
			bytes[0] = odd;
			bytes.set(value, 1);
			odd = null;
		}
		if (bytes.length % 2) odd = bytes[bytes.length - 1];
		if (bytes.length > 0.5 * bytesPerSecond) bytes = bytes.subarray((bytes.length - 0.2 * bytesPerSecond) & ~1);
		const count = bytes.length >> 1;
		if (count === 0) continue;
		const view = new DataView(bytes.buffer, bytes.byteOffset, count * 2);
		const buffer = audio.createBuffer(1, count, 48000);
		const samples = buffer.getChannelData(0);
		for (let i = 0; i < count; i++) samples[i] = view.getInt16(2 * i, true) / 32768;
		const now = audio.currentTime;
		if (at < now) at = now + 0.06;
		if (at > now + 0.6) continue;
		const source = audio.createBufferSource();
		source.buffer = buffer;
		source.connect(audio.destination);
		source.start(at);
		at += buffer.duration;
	}
}

listen.addEventListener("click", async () => {
	if (listening) {
		listening.abort();
		return;
	}
	listening = new AbortController();
	listen.setAttribute("aria-pressed", "true");
	try {
		await play(listening.signal);
	} catch {
		// the terminal stopped, or nobody listens any more
	}
	listening = null;
	listen.setAttribute("aria-pressed", "false");
});

if (canvas) watch();
