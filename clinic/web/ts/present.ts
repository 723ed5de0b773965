// Who is present: the caller says who is with her, and what she was told of the home. No names, and nothing to do for the person at home.

import { With } from "./api";
import { Words } from "./words";

function get<T extends HTMLElement>(id: string): T {
	const found = document.getElementById(id);
	if (!found) throw new Error(`the page has no element ${id}`);
	return found as T;
}

const counted = ["colleagues", "students", "others"] as const;

export class Present {
	private readonly form = get<HTMLFormElement>("present");
	private readonly nobody = get<HTMLInputElement>("with-nobody");
	private readonly home = get<HTMLSelectElement>("home-present");
	private readonly said = get("present-said");
	private readonly numbers = counted.map((name) => get<HTMLInputElement>(`with-${name}`));
	private call = "";

	// note is asked to put on the record what was filled in.
	constructor(private readonly words: Words, private readonly note: (call: string, who: With | null, home: string) => Promise<void>) {
		this.form.addEventListener("submit", (e) => {
			e.preventDefault();
			void this.tell();
		});
		this.nobody.addEventListener("change", () => {
			if (this.nobody.checked) this.numbers.forEach((n) => (n.value = "0"));
		});
		for (const n of this.numbers) n.addEventListener("input", () => (this.nobody.checked = false));
	}

	// show asks anew in each call that is answered, and is gone with it.
	show(call: string): void {
		if (call === this.call) return;
		this.call = call;
		this.form.hidden = call === "";
		this.form.reset();
		this.said.textContent = "";
	}

	private who(): With | null {
		const [colleagues = 0, students = 0, others = 0] = this.numbers.map((n) => Number(n.value) || 0);
		return colleagues + students + others > 0 || this.nobody.checked ? { colleagues, students, others } : null;
	}

	private async tell(): Promise<void> {
		const call = this.call;
		const who = this.who();
		if (call === "" || (who === null && this.home.value === "")) return;
		let said = "call.present.noted";
		try {
			await this.note(call, who, this.home.value);
		} catch {
			said = "call.present.not_noted";
		}
		if (call === this.call) this.said.textContent = this.words.say(said);
	}
}
