// The browser's passkeys (WebAuthn Level 3 §5.1): options as the clinic writes them, in; what goes back to it, out. What a browser cannot do,
// and what its person did not, is a Problem with the key of its sentence.

export class Problem extends Error {
	constructor(readonly key: string) {
		super(key);
	}
}

interface Descriptor {
	readonly id: string;
	readonly type: "public-key";
	readonly transports?: AuthenticatorTransport[];
}

export interface Creation {
	readonly rp: { readonly id: string; readonly name: string };
	readonly user: { readonly id: string; readonly name: string; readonly displayName: string };
	readonly challenge: string;
	readonly pubKeyCredParams: PublicKeyCredentialParameters[];
	readonly timeout?: number;
	readonly excludeCredentials?: readonly Descriptor[];
	readonly authenticatorSelection?: AuthenticatorSelectionCriteria;
	readonly attestation?: AttestationConveyancePreference;
}

export interface Request {
	readonly challenge: string;
	readonly timeout?: number;
	readonly rpId: string;
	readonly allowCredentials?: readonly Descriptor[];
	readonly userVerification?: UserVerificationRequirement;
}

// Answer is what the clinic is sent: base64url throughout. Outputs of extensions are left out, for none were asked for.
export interface Answer {
	readonly id: string;
	readonly rawId: string;
	readonly type: string;
	readonly response: Readonly<Record<string, string | string[] | null>>;
}

export function fromBase64URL(text: string): Uint8Array {
	return Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (c) => c.charCodeAt(0));
}

export function toBase64URL(bytes: ArrayBuffer | Uint8Array): string {
	const all = bytes instanceof Uint8Array ? bytes : new Uint8Array(bytes);
	return btoa(Array.from(all, (b) => String.fromCharCode(b)).join("")).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

// unavailable says why this browser cannot use passkeys on this page; null if it can.
export function unavailable(): Problem | null {
	if (!window.isSecureContext) return new Problem("passkey.bad.insecure");
	if (typeof PublicKeyCredential !== "function" || !navigator.credentials) return new Problem("passkey.bad.none");
	return null;
}

const descriptors = (list: readonly Descriptor[] = []): PublicKeyCredentialDescriptor[] =>
	list.map((d) => ({ id: fromBase64URL(d.id), type: d.type, ...(d.transports ? { transports: d.transports } : {}) }));

const defaultTimeout = 120_000;

// ask has the browser ask its person. Browsers do not tell why nothing was confirmed, so that no site can find out which passkeys there are: but they
// take their time for it if nobody did anything.
async function ask(timeout: number | undefined, f: () => Promise<Credential | null>): Promise<PublicKeyCredential> {
	const cannot = unavailable();
	if (cannot) throw cannot;
	const began = performance.now();
	let made: Credential | null;
	try {
		made = await f();
	} catch (cause) {
		switch (cause instanceof DOMException ? cause.name : "") {
			case "NotAllowedError":
			case "AbortError":
				throw new Problem(performance.now() - began >= (timeout ?? defaultTimeout) - 500 ? "passkey.bad.timeout" : "passkey.bad.cancelled");
			case "InvalidStateError":
				throw new Problem("passkey.bad.here");
			case "SecurityError":
				throw new Problem("passkey.bad.address");
			case "ConstraintError":
				throw new Problem("passkey.bad.unverified");
			case "NotSupportedError":
				throw new Problem("passkey.bad.kind");
		}
		throw new Problem("passkey.bad.failed");
	}
	if (!(made instanceof PublicKeyCredential)) throw new Problem("passkey.bad.failed");
	return made;
}

// create makes a passkey.
export async function create(o: Creation): Promise<Answer> {
	const made = await ask(o.timeout, () =>
		navigator.credentials.create({
			publicKey: {
				...o,
				user: { ...o.user, id: fromBase64URL(o.user.id) },
				challenge: fromBase64URL(o.challenge),
				excludeCredentials: descriptors(o.excludeCredentials),
			},
		}),
	);
	const response = made.response as AuthenticatorAttestationResponse & { getTransports?: () => string[] };
	return {
		id: made.id,
		rawId: toBase64URL(made.rawId),
		type: made.type,
		response: {
			clientDataJSON: toBase64URL(response.clientDataJSON),
			attestationObject: toBase64URL(response.attestationObject),
			transports: response.getTransports?.() ?? [],
		},
	};
}

// get uses a passkey.
export async function get(o: Request): Promise<Answer> {
	const used = await ask(o.timeout, () =>
		navigator.credentials.get({
			publicKey: { ...o, challenge: fromBase64URL(o.challenge), allowCredentials: descriptors(o.allowCredentials) },
		}),
	);
	const response = used.response as AuthenticatorAssertionResponse;
	return {
		id: used.id,
		rawId: toBase64URL(used.rawId),
		type: used.type,
		response: {
			clientDataJSON: toBase64URL(response.clientDataJSON),
			authenticatorData: toBase64URL(response.authenticatorData),
			signature: toBase64URL(response.signature),
			userHandle: response.userHandle ? toBase64URL(response.userHandle) : null,
		},
	};
}
