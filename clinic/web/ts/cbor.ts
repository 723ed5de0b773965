// CBOR in the core deterministic encoding (RFC 8949 §4.2.1), as package protocol speaks it: integers, bytes, text, truths,
// arrays and maps with integer keys; shortest lengths, ascending keys, nothing indefinite, no tags, no floats. Whatever
// else is refused with a Malformed.

import { concat, utf8 } from "./bytes";

export class Malformed extends Error {}

export type Item = number | boolean | Uint8Array | string | Item[] | Map<number, Item>;

const maxDepth = 8;

// decode reads exactly one item from all of bytes.
export function decode(bytes: Uint8Array): Item {
	const reader = new Reader(bytes);
	const item = reader.item(0);
	if (!reader.done()) throw new Malformed("bytes after the item");
	return item;
}

class Reader {
	private at = 0;
	constructor(private readonly bytes: Uint8Array) {}

	done(): boolean {
		return this.at === this.bytes.length;
	}

	item(depth: number): Item {
		const start = this.byte();
		const major = start >> 5;
		if (start === 0xf4 || start === 0xf5) return start === 0xf5;
		if (major > 5) throw new Malformed("neither tags nor other simple values are spoken here");
		const n = this.argument(start & 0x1f);
		switch (major) {
			case 0:
				return n;
			case 1:
				return -1 - n;
			case 2:
				return this.take(n).slice();
			case 3:
				return this.text(n);
			case 4:
				return this.array(n, depth);
			default:
				return this.map(n, depth);
		}
	}

	private text(n: number): string {
		try {
			return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(this.take(n));
		} catch (cause) {
			if (cause instanceof Malformed) throw cause;
			throw new Malformed("text is not UTF-8");
		}
	}

	private array(n: number, depth: number): Item[] {
		this.enter(n, depth);
		const items: Item[] = [];
		for (let i = 0; i < n; i++) items.push(this.item(depth + 1));
		return items;
	}

	private map(n: number, depth: number): Map<number, Item> {
		this.enter(2 * n, depth);
		const items = new Map<number, Item>();
		let last: Uint8Array | undefined;
		for (let i = 0; i < n; i++) {
			const from = this.at;
			const key = this.item(depth + 1);
			if (typeof key !== "number") throw new Malformed("a key is not an integer");
			const encoded = this.bytes.subarray(from, this.at);
			if (last && !before(last, encoded)) throw new Malformed("keys do not ascend");
			last = encoded;
			items.set(key, this.item(depth + 1));
		}
		return items;
	}

	// enter refuses what cannot fit before any of it is read.
	private enter(items: number, depth: number): void {
		if (depth + 1 > maxDepth) throw new Malformed("nested too deeply");
		if (items > this.bytes.length - this.at) throw new Malformed("cut short");
	}

	private argument(info: number): number {
		if (info < 24) return info;
		if (info > 27) throw new Malformed("indefinite or reserved length");
		const size = 1 << (info - 24);
		let n = 0;
		for (const b of this.take(size)) n = n * 256 + b;
		if (n > Number.MAX_SAFE_INTEGER) throw new Malformed("integer beyond all reason");
		if (n < (size === 1 ? 24 : 256 ** (size / 2))) throw new Malformed("longer encoding than needed");
		return n;
	}

	private byte(): number {
		return this.take(1)[0] as number;
	}

	private take(n: number): Uint8Array {
		if (n > this.bytes.length - this.at) throw new Malformed("cut short");
		this.at += n;
		return this.bytes.subarray(this.at - n, this.at);
	}
}

// before compares encodings byte by byte.
function before(a: Uint8Array, b: Uint8Array): boolean {
	for (let i = 0; i < a.length && i < b.length; i++) {
		const x = a[i] as number;
		const y = b[i] as number;
		if (x !== y) return x < y;
	}
	return a.length < b.length;
}

// head encodes the start of an item.
export function head(major: number, n: number): Uint8Array {
	if (!Number.isSafeInteger(n) || n < 0) throw new Malformed("not a number that can be encoded");
	if (n < 24) return Uint8Array.of((major << 5) | n);
	const size = n < 0x100 ? 1 : n < 0x10000 ? 2 : n < 0x100000000 ? 4 : 8;
	const bytes = new Uint8Array(1 + size);
	bytes[0] = (major << 5) | (24 + Math.log2(size));
	for (let i = size; i > 0; i--, n = Math.floor(n / 256)) bytes[i] = n % 256;
	return bytes;
}

// Field is what a statement's field may hold, when it is written.
export type Field = number | boolean | Uint8Array | string | readonly Field[] | Fields;

// Fields are a map with the keys 1 to n.
export class Fields {
	readonly list: readonly Field[];
	constructor(...list: Field[]) {
		this.list = list;
	}
}

// encode writes one item as package protocol does.
export function encode(f: Field): Uint8Array {
	if (typeof f === "number") return f < 0 ? head(1, -1 - f) : head(0, f);
	if (typeof f === "boolean") return Uint8Array.of(f ? 0xf5 : 0xf4);
	if (typeof f === "string") return concat(head(3, utf8(f).length), utf8(f));
	if (f instanceof Uint8Array) return concat(head(2, f.length), f);
	if (f instanceof Fields) return concat(head(5, f.list.length), ...f.list.flatMap((x, i) => [head(0, i + 1), encode(x)]));
	return concat(head(4, f.length), ...f.map(encode));
}
