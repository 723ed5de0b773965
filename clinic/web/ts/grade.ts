// The grade of received sound, 1 to 4.5, by ITU-T G.107's E-model: the same as the terminal's package media/grade, which says what it is worth.

const base = 93.2;
const bpl = 25.1; // G.711 with concealment (G.113 appendix I)

// devices is what the ways to coder and ear take besides the jitter buffer and the line, in milliseconds, as the terminal reckons it.
export const devices = 46.5;

// rating is R of sound that takes delay milliseconds from mouth to ear, and of which the share concealed, 0 to 1, was made up.
export function rating(delay: number, concealed: number): number {
	const loss = 100 * Math.min(Math.max(concealed, 0), 1);
	return base - late(delay) - (95 * loss) / (loss + bpl);
}

// late is Idd (G.107 equations 7-27 and 7-28).
function late(delay: number): number {
	if (!(delay > 100)) return 0;
	const x = Math.log2(delay / 100);
	const sixth = (v: number): number => Math.pow(1 + Math.pow(v, 6), 1 / 6);
	return 25 * (sixth(x) - 3 * sixth(x / 3) + 2);
}

// score is the mean opinion score of a rating (G.107 equation B-4).
export function score(r: number): number {
	if (r <= 0) return 1;
	if (r >= 100) return 4.5;
	return Math.max(1 + 0.035 * r + r * (r - 60) * (100 - r) * 7e-6, 1);
}
