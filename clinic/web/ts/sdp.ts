// What a session description says about keys (RFC 8122 §5).

// boundTo says whether every media section of sdp is bound to the one certificate with this SHA-256 fingerprint, and to
// nothing else. A fingerprint above the first section holds for those that have none of their own.
export function boundTo(sdp: string, fingerprint: string): boolean {
	let inSession = true;
	let session = false;
	let here = false;
	for (const line of sdp.split(/\r\n|\n|\r/)) {
		if (line.startsWith("m=")) {
			if (!inSession && !here) return false;
			inSession = false;
			here = session;
		} else if (/^a=fingerprint:/i.test(line)) {
			const [hash = "", digest = ""] = line.slice("a=fingerprint:".length).split(" ");
			if (hash.toLowerCase() !== "sha-256" || digest.toUpperCase() !== fingerprint.toUpperCase()) return false;
			if (inSession) session = true;
			here = true;
		}
	}
	return !inSession && here;
}

// fingerprint returns the one certificate that an offer of this browser promises.
export function fingerprint(sdp: string): Uint8Array {
	const found = new Set([...sdp.matchAll(/^a=fingerprint:sha-256 ([0-9A-F:]{95})\r?$/gim)].map((m) => (m[1] ?? "").toUpperCase()));
	const [one] = found;
	if (found.size !== 1 || one === undefined || !boundTo(sdp, one)) throw new Error("the offer does not promise one certificate");
	return Uint8Array.from(one.split(":"), (pair) => parseInt(pair, 16));
}

// spell writes a digest as session descriptions do: "AB:CD:…".
export function spell(digest: Uint8Array): string {
	return Array.from(digest, (b) => b.toString(16).padStart(2, "0").toUpperCase()).join(":");
}
