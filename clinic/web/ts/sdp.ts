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

// spell writes a digest as session descriptions do: "AB:CD:…".
export function spell(digest: Uint8Array): string {
	return Array.from(digest, (b) => b.toString(16).padStart(2, "0").toUpperCase()).join(":");
}
