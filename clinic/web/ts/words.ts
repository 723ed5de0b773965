// What the page says. The server writes it into the page, in the person's language.

export interface Failure {
	readonly sentence: string;
	readonly next: string;
	readonly kind: string; // good, bad, alarm
}

interface Page {
	readonly words: Readonly<Record<string, string>>;
	readonly failures: Readonly<Record<string, Failure>>;
}

export class Words {
	private constructor(private readonly page: Page) {}

	static read(): Words {
		return new Words(JSON.parse(document.getElementById("words")?.textContent ?? "") as Page);
	}

	// say fills {names} in.
	say(key: string, names: Readonly<Record<string, string>> = {}): string {
		const text = this.page.words[key] ?? key;
		return text.replace(/\{(\w+)\}/g, (_, name: string) => names[name] ?? "");
	}

	explain(code: string): Failure {
		return this.page.failures[code] ?? this.page.failures["unknown.unknown"] ?? { sentence: code, next: "", kind: "bad" };
	}
}
