// The forms that make or use a passkey: the sign-in page, an invitation, a further passkey, and the touch that is asked for before something that matters.

import { create, get, Problem, unavailable, type Creation, type Request } from "./webauthn";
import { Words } from "./words";

const patience = 15_000;

// Said is a refusal of the clinic, in words.
class Said extends Error {
	constructor(
		readonly sentence: string,
		readonly next: string,
	) {
		super(sentence);
	}
}

async function post<T>(path: string, body: unknown): Promise<T> {
	const controller = new AbortController();
	setTimeout(() => controller.abort(), patience);
	let response: Response;
	let reply: unknown;
	try {
		response = await fetch(path, {
			method: "POST",
			headers: { "Content-Type": "application/json" },
			body: JSON.stringify(body),
			signal: controller.signal,
		});
		reply = await response.json();
	} catch {
		throw new Problem("passkey.bad.lost");
	}
	if (!response.ok) {
		const { sentence, next } = reply as { sentence?: string; next?: string };
		if (!sentence) throw new Problem("passkey.bad.lost");
		throw new Said(sentence, next ?? "");
	}
	return reply as T;
}

class Ceremony {
	private readonly button: HTMLButtonElement;
	private readonly status: HTMLElement;
	private readonly words = Words.read();

	constructor(private readonly form: HTMLFormElement) {
		this.button = form.querySelector("button") as HTMLButtonElement;
		this.status = form.querySelector("[role=status]") as HTMLElement;
		const cannot = unavailable();
		if (cannot) {
			this.button.disabled = true;
			this.problem(cannot);
		}
		form.addEventListener("submit", (event) => {
			event.preventDefault();
			if (!this.button.disabled) void this.run();
		});
	}

	private say(text: string): void {
		this.status.textContent = text;
		this.status.hidden = text === "";
	}

	private problem(cause: unknown): void {
		if (cause instanceof Said) {
			this.say(`${cause.sentence} ${cause.next}`);
			return;
		}
		const key = cause instanceof Problem ? cause.key : "passkey.bad.failed";
		this.say(`${this.words.say(key)} ${this.words.say(`${key}.next`, { origin: this.form.dataset["origin"] ?? location.origin })}`);
	}

	private async run(): Promise<void> {
		const { passkey, begin, finish } = this.form.dataset;
		this.button.disabled = true;
		this.say(this.words.say("passkey.working"));
		try {
			const options = await post<Creation & Request>(begin ?? "", {});
			const credential = passkey === "create" ? await create(options) : await get(options);
			const name = this.form.querySelector<HTMLInputElement>("input[name=name]")?.value ?? "";
			const { next } = await post<{ next?: string }>(finish ?? "", { name, credential });
			this.say(this.words.say("passkey.done"));
			this.go(next);
		} catch (cause) {
			this.problem(cause);
			this.button.disabled = false;
		}
	}

	private go(next: string | undefined): void {
		const again = this.form.dataset["again"];
		if (again) (document.getElementById(again) as HTMLFormElement).submit();
		else if (next) location.assign(next);
		else location.reload();
	}
}

for (const form of document.querySelectorAll<HTMLFormElement>("form[data-passkey]")) new Ceremony(form);
document.body.dataset["ready"] = "yes";
