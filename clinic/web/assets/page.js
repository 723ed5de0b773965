// Made from clinic/web/ts by esbuild: see TestPageScript.
"use strict";
(() => {
  // ts/bytes.ts
  function fromBase64(text2) {
    return Uint8Array.from(atob(text2), (c) => c.charCodeAt(0));
  }
  function toBase64(bytes) {
    let text2 = "";
    for (const b of bytes) text2 += String.fromCharCode(b);
    return btoa(text2);
  }
  function fromHex(text2) {
    return Uint8Array.from(text2.match(/../g) ?? [], (pair) => parseInt(pair, 16));
  }
  function hex(bytes) {
    return Array.from(bytes, (b) => b.toString(16).padStart(2, "0")).join("");
  }
  function equal(a, b) {
    return a.length === b.length && a.every((x, i) => x === b[i]);
  }
  function isZero(bytes) {
    return bytes.every((b) => b === 0);
  }
  function concat(...parts) {
    const all = new Uint8Array(parts.reduce((sum2, p) => sum2 + p.length, 0));
    let at = 0;
    for (const p of parts) {
      all.set(p, at);
      at += p.length;
    }
    return all;
  }
  function utf8(text2) {
    return new TextEncoder().encode(text2);
  }
  async function sha256(data) {
    const bytes = typeof data === "string" ? utf8(data) : data;
    return new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  }

  // ts/cbor.ts
  var Malformed = class extends Error {
  };
  var maxDepth = 8;
  function decode(bytes) {
    const reader = new Reader(bytes);
    const item = reader.item(0);
    if (!reader.done()) throw new Malformed("bytes after the item");
    return item;
  }
  var Reader = class {
    constructor(bytes) {
      this.bytes = bytes;
    }
    bytes;
    at = 0;
    done() {
      return this.at === this.bytes.length;
    }
    item(depth) {
      const start2 = this.byte();
      const major = start2 >> 5;
      if (start2 === 244 || start2 === 245) return start2 === 245;
      if (major > 5) throw new Malformed("neither tags nor other simple values are spoken here");
      const n = this.argument(start2 & 31);
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
    text(n) {
      try {
        return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(this.take(n));
      } catch (cause) {
        if (cause instanceof Malformed) throw cause;
        throw new Malformed("text is not UTF-8");
      }
    }
    array(n, depth) {
      this.enter(n, depth);
      const items = [];
      for (let i = 0; i < n; i++) items.push(this.item(depth + 1));
      return items;
    }
    map(n, depth) {
      this.enter(2 * n, depth);
      const items = /* @__PURE__ */ new Map();
      let last;
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
    enter(items, depth) {
      if (depth + 1 > maxDepth) throw new Malformed("nested too deeply");
      if (items > this.bytes.length - this.at) throw new Malformed("cut short");
    }
    argument(info) {
      if (info < 24) return info;
      if (info > 27) throw new Malformed("indefinite or reserved length");
      const size = 1 << info - 24;
      let n = 0;
      for (const b of this.take(size)) n = n * 256 + b;
      if (n > Number.MAX_SAFE_INTEGER) throw new Malformed("integer beyond all reason");
      if (n < (size === 1 ? 24 : 256 ** (size / 2))) throw new Malformed("longer encoding than needed");
      return n;
    }
    byte() {
      return this.take(1)[0];
    }
    take(n) {
      if (n > this.bytes.length - this.at) throw new Malformed("cut short");
      this.at += n;
      return this.bytes.subarray(this.at - n, this.at);
    }
  };
  function before(a, b) {
    for (let i = 0; i < a.length && i < b.length; i++) {
      const x = a[i];
      const y = b[i];
      if (x !== y) return x < y;
    }
    return a.length < b.length;
  }
  function head(major, n) {
    if (!Number.isSafeInteger(n) || n < 0) throw new Malformed("not a number that can be encoded");
    if (n < 24) return Uint8Array.of(major << 5 | n);
    const size = n < 256 ? 1 : n < 65536 ? 2 : n < 4294967296 ? 4 : 8;
    const bytes = new Uint8Array(1 + size);
    bytes[0] = major << 5 | 24 + Math.log2(size);
    for (let i = size; i > 0; i--, n = Math.floor(n / 256)) bytes[i] = n % 256;
    return bytes;
  }
  var Fields = class {
    list;
    constructor(...list) {
      this.list = list;
    }
  };
  function encode(f) {
    if (typeof f === "number") return f < 0 ? head(1, -1 - f) : head(0, f);
    if (typeof f === "boolean") return Uint8Array.of(f ? 245 : 244);
    if (typeof f === "string") return concat(head(3, utf8(f).length), utf8(f));
    if (f instanceof Uint8Array) return concat(head(2, f.length), f);
    if (f instanceof Fields) return concat(head(5, f.list.length), ...f.list.flatMap((x, i) => [head(0, i + 1), encode(x)]));
    return concat(head(4, f.length), ...f.map(encode));
  }

  // ts/cose.ts
  var maxStatement = 2 << 10;
  async function importKey(spki) {
    const der = fromBase64(spki);
    const key = await crypto.subtle.importKey("spki", der, { name: "ECDSA", namedCurve: "P-256" }, false, ["verify"]);
    return { key, hash: await sha256(der) };
  }
  async function newKey() {
    const pair = await crypto.subtle.generateKey({ name: "ECDSA", namedCurve: "P-256" }, false, ["sign", "verify"]);
    const spki = new Uint8Array(await crypto.subtle.exportKey("spki", pair.publicKey));
    return { key: pair.privateKey, spki, hash: await sha256(spki) };
  }
  function bstr(bytes) {
    return concat(head(2, bytes.length), bytes);
  }
  function tstr(text2) {
    const bytes = utf8(text2);
    return concat(head(3, bytes.length), bytes);
  }
  function protectedHeader(contentType, kid) {
    return concat(Uint8Array.of(163, 1, 38, 3), tstr(contentType), Uint8Array.of(4), bstr(kid));
  }
  async function sign(payload, contentType, key) {
    const header = protectedHeader(contentType, key.hash);
    const toBeSigned = concat(Uint8Array.of(132), tstr("Signature1"), bstr(header), bstr(new Uint8Array(0)), bstr(payload));
    const signature = new Uint8Array(await crypto.subtle.sign({ name: "ECDSA", hash: "SHA-256" }, key.key, toBeSigned));
    const signed = concat(Uint8Array.of(210, 132), bstr(header), Uint8Array.of(160), bstr(payload), bstr(signature));
    if (signed.length > maxStatement) throw new Malformed("statement too large");
    return signed;
  }
  async function open(signed, contentType, key) {
    if (signed.length > maxStatement) throw new Malformed("statement too large");
    const header = protectedHeader(contentType, key.hash);
    const front = concat(Uint8Array.of(210, 132), bstr(header), Uint8Array.of(160));
    const back = Uint8Array.of(88, 64);
    const tail = signed.length - 64;
    if (!equal(signed.subarray(0, front.length), front)) {
      throw new Malformed("of another kind, by another key, or not canonical");
    }
    if (tail - back.length <= front.length || !equal(signed.subarray(tail - back.length, tail), back)) {
      throw new Malformed("no signature where it belongs");
    }
    const wrapped = signed.subarray(front.length, tail - back.length);
    const payload = wrapped.subarray(lengthOfHead(wrapped));
    if (!equal(bstr(payload), wrapped)) throw new Malformed("payload is not one byte string");
    const toBeSigned = concat(Uint8Array.of(132), tstr("Signature1"), bstr(header), bstr(new Uint8Array(0)), wrapped);
    const good = await crypto.subtle.verify({ name: "ECDSA", hash: "SHA-256" }, key.key, signed.subarray(tail), toBeSigned);
    if (!good) throw new Malformed("signature does not verify");
    return payload.slice();
  }
  function lengthOfHead(item) {
    const info = (item[0] ?? 0) & 31;
    return info < 24 ? 1 : info === 24 ? 2 : 3;
  }

  // ts/sdp.ts
  function boundTo(sdp, fingerprint2) {
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
        if (hash.toLowerCase() !== "sha-256" || digest.toUpperCase() !== fingerprint2.toUpperCase()) return false;
        if (inSession) session = true;
        here = true;
      }
    }
    return !inSession && here;
  }
  function fingerprint(sdp) {
    const found = new Set([...sdp.matchAll(/^a=fingerprint:sha-256 ([0-9A-F:]{95})\r?$/gim)].map((m) => (m[1] ?? "").toUpperCase()));
    const [one] = found;
    if (found.size !== 1 || one === void 0 || !boundTo(sdp, one)) throw new Error("the offer does not promise one certificate");
    return Uint8Array.from(one.split(":"), (pair) => parseInt(pair, 16));
  }
  function spell(digest) {
    return Array.from(digest, (b) => b.toString(16).padStart(2, "0").toUpperCase()).join(":");
  }

  // ts/invitation.ts
  var typeEnd = "vindu/end.v1";
  var typeCurtain = "vindu/curtain.v1";
  var typeCandidates = "vindu/candidates.v1";
  var typeRestart = "vindu/restart.v1";
  var life = 9e4;
  var drift = 2e3;
  var clockAhead = () => Date.now() - performance.now();
  function outdated(a) {
    return Date.now() + a.lag >= a.to || Math.abs(clockAhead() - a.clock) > drift;
  }
  async function write(wish, by, now = Date.now()) {
    const key = await newKey();
    const issued = now + by.lag;
    const { name, role, organisation } = by.party;
    const bytes = encode(
      new Fields(
        1,
        fromHex(wish.call),
        wish.terminal,
        fingerprint(wish.offer),
        await sha256(wish.offer),
        [new Fields(name, role, organisation)],
        wish.errand,
        issued,
        issued + life,
        crypto.getRandomValues(new Uint8Array(16)),
        key.spki,
        await sha256(by.signed),
        wish.relayOnly,
        wish.urgent
      )
    );
    return { bytes, key };
  }
  var NotConfirmed = class extends Error {
    constructor(code2, cause) {
      super(cause);
      this.code = code2;
    }
    code;
  };
  var timeout = life - 3e4;
  var verified = 4;
  function canConfirm() {
    return "credentials" in navigator && typeof PublicKeyCredential !== "undefined";
  }
  async function confirm(i, by, signal) {
    if (!canConfirm()) throw new NotConfirmed("browser.no_passkey", "no WebAuthn");
    const began = performance.now();
    let made;
    try {
      made = await navigator.credentials.get({
        signal,
        publicKey: {
          challenge: await sha256(i.bytes),
          rpId: by.rp,
          allowCredentials: by.passkeys.map((id2) => ({ type: "public-key", id: id2 })),
          userVerification: "required",
          timeout
        }
      });
    } catch (cause) {
      const cancelled = cause instanceof DOMException && (cause.name === "NotAllowedError" || cause.name === "AbortError");
      const late2 = performance.now() - began >= timeout - 500;
      throw new NotConfirmed(!cancelled ? "browser.no_passkey" : late2 ? "browser.confirmed_late" : "browser.passkey_cancelled", String(cause));
    }
    const c = made;
    const r = c.response;
    const id = new Uint8Array(c.rawId);
    if (!by.passkeys.some((known2) => equal(known2, id))) throw new NotConfirmed("browser.no_such_passkey", "another passkey");
    if (((new Uint8Array(r.authenticatorData)[32] ?? 0) & verified) === 0) throw new NotConfirmed("browser.passkey_unverified", "the person was not verified");
    return {
      credential: id,
      authenticator_data: new Uint8Array(r.authenticatorData),
      client_data: new Uint8Array(r.clientDataJSON),
      signature: new Uint8Array(r.signature)
    };
  }
  async function end(i, wish, reason, talked, by, now = Date.now()) {
    const fields = new Fields(1, fromHex(wish.call), wish.terminal, await sha256(i.bytes), "caller", reason, Math.max(0, Math.round(talked)), 0, 0, now + by.lag);
    return sign(encode(fields), typeEnd, i.key);
  }
  async function curtain(i, wish, number, drawn, by, now = Date.now()) {
    const fields = new Fields(1, fromHex(wish.call), wish.terminal, await sha256(i.bytes), "caller", drawn, number, 0, 0, now + by.lag);
    return sign(encode(fields), typeCurtain, i.key);
  }
  async function candidates(i, wish, number, list) {
    const fields = new Fields(1, fromHex(wish.call), wish.terminal, await sha256(i.bytes), number, list.map((c) => new Fields(c.line, c.mid, c.mline)));
    return sign(encode(fields), typeCandidates, i.key);
  }
  async function restart(i, wish, number, offer, by, now = Date.now()) {
    const fields = new Fields(1, fromHex(wish.call), wish.terminal, await sha256(i.bytes), "caller", number, await sha256(offer), now + by.lag);
    return sign(encode(fields), typeRestart, i.key);
  }
  async function code(invitation, certificate) {
    const label = new TextEncoder().encode("vindu/call-code.v1");
    const sum2 = await sha256(concat(label, await sha256(invitation), certificate));
    const n = new DataView(sum2.buffer).getBigUint64(0) % 1000000n;
    const digits = n.toString().padStart(6, "0");
    return `${digits.slice(0, 3)} ${digits.slice(3)}`;
  }
  function parseAuthorisation(a, took) {
    return {
      id: a.id,
      signed: fromBase64(a.authorisation),
      to: a.to,
      party: a.party,
      passkeys: a.passkeys.map(fromBase64),
      rp: a.rp,
      lag: a.now - Math.round(Date.now() - took / 2),
      clock: clockAhead()
    };
  }

  // ts/api.ts
  var Refused = class extends Error {
    constructor(status, code2) {
      super(`the clinic refused: ${status} ${code2}`);
      this.status = status;
      this.code = code2;
    }
    status;
    code;
  };
  var patience = 1e4;
  function inTime(limit = patience) {
    const controller = new AbortController();
    setTimeout(() => controller.abort(), limit);
    return controller.signal;
  }
  async function post(path, body, keepalive = false, limit = patience) {
    let response;
    try {
      response = await fetch(path, {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify(body),
        keepalive,
        signal: inTime(limit)
      });
    } catch {
      throw new Refused(0, "signalling.clinic_lost");
    }
    if (!response.ok) throw new Refused(response.status, response.headers.get("Vindu-Failure") ?? "browser.failed");
    return response;
  }
  async function start(request) {
    await post("/api/calls", request);
  }
  async function authorisation() {
    const asked = performance.now();
    const response = await fetch("/api/authorisation", { signal: inTime() });
    if (!response.ok) throw new Refused(response.status, response.headers.get("Vindu-Failure") ?? "");
    return parseAuthorisation(await response.json(), performance.now() - asked);
  }
  async function candidates2(call, signed) {
    await post(`/api/calls/${call}/candidates`, { candidates: signed });
  }
  async function restart2(call, signed, offer) {
    await post(`/api/calls/${call}/restart`, { restart: signed, sdp: offer }, false, 3e3);
  }
  async function curtain2(call, signed) {
    await post(`/api/calls/${call}/curtain`, { curtain: signed });
  }
  async function present(call, who, home) {
    await post(`/api/calls/${call}/present`, { with: who, home });
  }
  async function announce(home, at) {
    await post(`/api/homes/${home}/announcement`, { at });
  }
  async function rehearse(home) {
    await post(`/api/homes/${home}/rehearsal`, {});
  }
  async function hangUp(call, reason, signed) {
    await insist(`/api/calls/${call}/hang-up`, { reason, end: signed }, [500, 1e3, 2e3, 5e3, 15e3]);
  }
  async function record(call, half) {
    await insist(`/api/calls/${call}/record`, half, [2e3, 5e3, 15e3, 3e4]);
  }
  async function attempt(call, home, half) {
    await insist(`/api/calls/${call}/attempt`, { home, half }, [2e3, 5e3, 15e3, 3e4]);
  }
  async function verdict(call) {
    const response = await fetch(`/api/calls/${call}/verdict`, { signal: inTime() });
    if (!response.ok) throw new Refused(response.status, "");
    return await response.json();
  }
  async function insist(path, body, pauses) {
    for (const pause of [...pauses, 0]) {
      try {
        await post(path, body, true);
        return;
      } catch (cause) {
        if (pause === 0 || cause instanceof Refused && cause.status >= 400 && cause.status < 500) throw cause;
      }
      await new Promise((resolve) => setTimeout(resolve, pause * (0.5 + Math.random() / 2)));
    }
  }
  function beacon(call, what, body) {
    navigator.sendBeacon(`/api/calls/${call}/${what}`, new Blob([JSON.stringify(body)], { type: "application/json" }));
  }
  async function iceServers() {
    const response = await fetch("/api/ice", { signal: inTime() });
    if (!response.ok) throw new Refused(response.status, "");
    return (await response.json()).servers;
  }
  async function signedOut() {
    try {
      const response = await fetch("/api/session", { signal: inTime() });
      return response.ok ? "" : response.status === 401 ? response.headers.get("Vindu-Failure") ?? "browser.signed_out" : null;
    } catch {
      return null;
    }
  }

  // ts/call.ts
  function covered(c) {
    return c.mine || c.theirs || c.closed !== 0;
  }
  var idle = {
    phase: "idle",
    attempt: 0,
    home: "",
    call: "",
    held: [],
    media: "unknown",
    answered: false,
    connected: false,
    curtain: { mine: false, theirs: false, closed: 0 },
    outcome: ""
  };
  var maxHeld = 64;
  function next(s, e) {
    if ("attempt" in e && e.attempt !== s.attempt) return stale(s, e);
    switch (e.type) {
      case "ring":
        return ring(s, e.home, e.ask);
      case "media":
        return media(s, e.media);
      case "denied":
        return running(s) ? end2(s, "browser.permission_denied") : [s, []];
      case "confirmed":
        return s.phase === "confirming" ? [{ ...s, phase: "calling" }, [{ do: "post" }]] : [s, []];
      case "started":
        return started(s, e.call);
      case "notStarted":
        return s.phase === "calling" && s.call === "" ? end2(s, e.code, !e.refused) : [s, []];
      case "update":
        return update(s, e.update);
      case "proven":
        return proven(s, e.decision, e.code, e.sdp);
      case "failed":
        return running(s) ? end2(s, e.code) : [s, []];
      case "connected":
        return connected(s);
      case "draw":
        return drawable(s) ? curtain3(s, { ...s.curtain, mine: e.drawn }, e.drawn !== s.curtain.mine) : [s, []];
      case "curtain":
        return s.answered ? curtain3(s, { ...s.curtain, theirs: e.drawn, closed: e.closed }, false) : [s, []];
      case "hangUp":
        return running(s) ? end2(s, "end.caller_hung_up") : [s, []];
      case "clinicLost":
        return running(s) && s.phase !== "asking" && s.phase !== "confirming" ? end2(s, "signalling.clinic_lost") : [s, []];
      case "signedOut":
        return running(s) ? end2(s, e.code) : [s, []];
      case "leave":
        return running(s) ? end2(s, "end.page_closed") : [s, []];
    }
  }
  function running(s) {
    return s.phase !== "idle" && s.phase !== "ended";
  }
  function drawable(s) {
    return s.phase === "ringing" || s.phase === "connecting" || s.phase === "talking";
  }
  function curtain3(s, to, tell) {
    const effects = [];
    if (covered(to) !== covered(s.curtain)) effects.push({ do: "cover", covered: covered(to) });
    if (tell) effects.push({ do: "tellCurtain" });
    return [{ ...s, curtain: to }, effects];
  }
  function stale(s, e) {
    return e.type === "started" ? [s, [{ do: "hangUp", call: e.call, code: "end.caller_hung_up" }]] : [s, []];
  }
  function ring(s, home, ask) {
    if (running(s)) return [s, []];
    const fresh = { ...idle, attempt: s.attempt + 1, home };
    return ask ? [{ ...fresh, phase: "asking" }, [{ do: "media" }]] : [{ ...fresh, phase: "confirming" }, [{ do: "confirm" }, { do: "media" }]];
  }
  function media(s, media2) {
    if (s.media !== "unknown" || !running(s)) return [s, []];
    const t = { ...s, media: media2 };
    switch (s.phase) {
      case "asking":
        return [{ ...t, phase: "confirming" }, [{ do: "confirm" }]];
      case "ringing":
        return [t, [{ do: "send", picture: true, sound: false }]];
      case "connecting":
      case "talking":
        return [t, [{ do: "send", picture: true, sound: true }, { do: "show" }]];
      default:
        return [t, []];
    }
  }
  function started(s, call) {
    if (s.phase !== "calling") return [s, s.phase === "ended" ? [{ do: "hangUp", call, code: s.outcome }] : []];
    if (s.call !== "") return [s, []];
    let step = [{ ...s, call, held: [] }, []];
    for (const u of s.held) step = then(step, { type: "update", update: u });
    return step;
  }
  function then([s, effects], e) {
    const [t, more] = next(s, e);
    return [t, [...effects, ...more]];
  }
  function update(s, u) {
    if (!running(s)) return [s, u.kind === "end" && u.end && u.call === s.call ? [{ do: "receipt", update: u }] : []];
    if (s.phase === "calling" && s.call === "") return [{ ...s, held: [...s.held, u].slice(-maxHeld) }, []];
    if (u.call !== s.call) return [s, []];
    switch (u.kind) {
      case "answer":
        return [s, [{ do: "prove", update: u }]];
      case "candidate":
        return [s, [{ do: "candidate", update: u }]];
      case "restart":
        return [s, s.connected ? [{ do: "move", update: u }] : []];
      case "curtain":
        return [s, [{ do: "proveCurtain", update: u }]];
      case "state":
        return [s, []];
      // the clinic's word; only what is proven counts here
      case "end": {
        const [t, effects] = end2(s, u.code || "unknown.unknown", false);
        return [t, u.end ? [...effects, { do: "receipt", update: u }] : effects];
      }
    }
  }
  function proven(s, decision, code2, sdp) {
    if (!running(s) || s.call === "") return [s, []];
    const known2 = s.media !== "unknown";
    const connect = s.phase === "calling" ? [{ do: "connect", sdp }] : [];
    switch (decision) {
      case "ringing":
        if (s.phase !== "calling") return [s, []];
        return [{ ...s, phase: "ringing" }, known2 ? [...connect, { do: "send", picture: true, sound: false }] : connect];
      case "answered":
        if (s.answered) return [s, []];
        return [
          { ...s, answered: true, phase: s.connected ? "talking" : "connecting" },
          known2 ? [...connect, { do: "send", picture: true, sound: true }, { do: "show" }] : connect
        ];
      default:
        return s.answered ? [s, []] : end2(s, code2, false);
    }
  }
  function connected(s) {
    if (s.phase === "ringing") return [{ ...s, connected: true }, []];
    if (s.phase === "connecting") return [{ ...s, connected: true, phase: "talking" }, []];
    return [s, []];
  }
  function end2(s, outcome, tell = true) {
    const effects = [{ do: "close" }];
    if (tell && s.call !== "") effects.push({ do: "hangUp", call: s.call, code: outcome });
    else if (tell && s.phase === "calling") effects.push({ do: "giveUp", code: outcome });
    return [{ ...s, phase: "ended", held: [], outcome, answered: false, connected: false, curtain: idle.curtain }, effects];
  }

  // ts/events.ts
  var patience2 = 6e3;
  var beat = 2e3;
  var retryFrom = 300;
  var retryTo = 5e3;
  var Stream = class {
    constructor(page, listener) {
      this.page = page;
      this.listener = listener;
    }
    page;
    listener;
    source;
    seq = "";
    retry = retryFrom;
    heard = 0;
    reported = false;
    wanted = false;
    watch = 0;
    again = 0;
    open() {
      if (this.wanted) return;
      this.wanted = true;
      this.heard = performance.now();
      this.connect();
      this.watch = window.setInterval(() => this.look(), beat / 2);
    }
    close() {
      this.wanted = false;
      this.source?.close();
      window.clearInterval(this.watch);
      window.clearTimeout(this.again);
    }
    connect() {
      this.source?.close();
      const source = new EventSource(`/events?page=${this.page}&after=${this.seq}`);
      this.source = source;
      const on = (type, handle) => source.addEventListener(type, (e) => {
        this.heard = performance.now();
        handle(e.data);
      });
      on("hello", () => {
        this.retry = retryFrom;
        this.reported = false;
        this.listener.connected();
      });
      on("beat", () => void 0);
      on("rights", (data) => this.listener.rights(JSON.parse(data)));
      on("homes", (data) => this.listener.homes(JSON.parse(data)));
      on("recent", (data) => this.listener.recent(JSON.parse(data)));
      source.addEventListener("call", (e) => {
        this.heard = performance.now();
        this.seq = e.lastEventId;
        this.listener.update(JSON.parse(e.data));
      });
      source.onerror = () => this.broken(source);
    }
    broken(source) {
      if (source !== this.source || !this.wanted) return;
      source.close();
      this.listener.gone();
      window.clearTimeout(this.again);
      this.again = window.setTimeout(() => void this.reconnect(), this.retry * (0.5 + Math.random() / 2));
      this.retry = Math.min(this.retry * 2, retryTo);
    }
    async reconnect() {
      const why = await signedOut();
      if (why) {
        this.close();
        this.listener.signedOut(why);
        return;
      }
      if (this.wanted) this.connect();
    }
    look() {
      const silent2 = performance.now() - this.heard;
      if (silent2 > patience2 && !this.reported) {
        this.reported = true;
        this.listener.lost();
      }
      if (silent2 > 2 * beat && this.source?.readyState === EventSource.OPEN) this.broken(this.source);
    }
  };

  // ts/lists.ts
  function slot(root, name) {
    const found = root.querySelector(`[data-slot="${name}"]`);
    if (!found) throw new Error(`the page has no slot ${name}`);
    return found;
  }
  function copy(template) {
    const content = document.querySelector(`template#${template}`)?.content.firstElementChild;
    if (!content) throw new Error(`the page has no template ${template}`);
    return content.cloneNode(true);
  }
  function row(home) {
    return Array.from(document.querySelectorAll("[data-home]")).find((e) => e.dataset["home"] === home);
  }
  function put(element, text2) {
    if (element.textContent !== text2) element.textContent = text2;
  }
  function showHomes(homes, known2) {
    let all = true;
    for (const h of homes) {
      const before2 = known2.get(h.home);
      known2.set(h.home, h);
      const r = row(h.home);
      if (!r || r.dataset["terminal"] !== h.terminal) all = false;
      if (!r) continue;
      if (h.terminal === "") {
        const ring2 = r.querySelector("button.ring");
        if (ring2) {
          ring2.disabled = true;
          ring2.dataset["never"] = "yes";
        }
      }
      if (before2 && (before2.state !== h.state || rehearsed(before2) !== rehearsed(h))) forget(h.home);
      r.dataset["state"] = h.state;
      askable(r);
      put(slot(r, "word"), h.word);
      put(slot(r, "detail"), h.detail);
      slot(r, "notes").replaceChildren(...notes(h));
    }
    return all;
  }
  function rehearsed(h) {
    return h.notes.filter((n) => n.kind === "rehearsal").map((n) => n.text).join(" ");
  }
  function forget(home) {
    const said = row(home)?.querySelector("form[data-rehearse] .said");
    if (said) put(said, "");
  }
  function askable(r) {
    const ask = r.querySelector("form[data-rehearse] button");
    if (ask) ask.disabled = r.classList.contains("called") || !["ready", "attention"].includes(r.dataset["state"] ?? "");
  }
  function keepHomes(homes, gone) {
    for (const e of document.querySelectorAll("[data-home]")) {
      const home = e.dataset["home"] ?? "";
      if (homes.includes(home)) continue;
      e.remove();
      gone(home);
    }
  }
  function notes(h) {
    return h.notes.map((n) => {
      const li = document.createElement("li");
      li.dataset["kind"] = n.kind;
      li.textContent = n.next ? `${n.text} ${n.next}` : n.text;
      return li;
    });
  }
  function showRecent(calls) {
    const list = document.getElementById("recent-calls");
    if (!list) return;
    list.replaceChildren(...calls.map(recent));
    const empty = document.getElementById("no-calls");
    if (empty) empty.hidden = calls.length > 0;
  }
  function recent(c) {
    const li = copy("recent-call");
    li.dataset["kind"] = c.kind;
    const when = slot(li, "when");
    when.dateTime = c.began;
    put(when, c.when);
    const link = slot(li, "home");
    link.href = `/calls/${c.call}`;
    put(link, c.home);
    put(slot(li, "sentence"), c.sentence);
    put(slot(li, "duration"), c.duration);
    return li;
  }

  // ts/media.ts
  var Denied = class extends Error {
  };
  var sound = { echoCancellation: true, noiseSuppression: true, autoGainControl: true };
  var picture = { width: { ideal: 640 }, height: { ideal: 480 }, frameRate: { ideal: 30, max: 30 } };
  async function permission() {
    const states2 = await Promise.all(
      ["camera", "microphone"].map(async (name) => {
        try {
          return (await navigator.permissions.query({ name })).state;
        } catch {
          return "prompt";
        }
      })
    );
    return states2.includes("denied") ? "denied" : states2.includes("prompt") ? "prompt" : "granted";
  }
  async function present2() {
    const devices2 = await navigator.mediaDevices?.enumerateDevices() ?? [];
    const has = (kind) => devices2.some((d) => d.kind === kind);
    return { camera: has("videoinput"), microphone: has("audioinput") };
  }
  async function open2() {
    const media2 = navigator.mediaDevices;
    if (!media2) return { stream: new MediaStream(), has: "none" };
    try {
      return own(await media2.getUserMedia({ audio: sound, video: picture }));
    } catch (cause) {
      if (refused(cause)) throw new Denied(String(cause));
    }
    const tracks = [];
    for (const constraints of [{ audio: sound }, { video: picture }]) {
      try {
        tracks.push(...(await media2.getUserMedia(constraints)).getTracks());
      } catch (cause) {
        if (refused(cause)) {
          tracks.forEach((t) => t.stop());
          throw new Denied(String(cause));
        }
      }
    }
    return own(new MediaStream(tracks));
  }
  function refused(cause) {
    return cause instanceof DOMException && (cause.name === "NotAllowedError" || cause.name === "SecurityError");
  }
  function own(stream) {
    const seen = stream.getVideoTracks().length > 0;
    const heard2 = stream.getAudioTracks().length > 0;
    return { stream, has: seen && heard2 ? "both" : seen ? "picture" : heard2 ? "sound" : "none" };
  }

  // ts/panel.ts
  function get(id) {
    const found = document.getElementById(id);
    if (!found) throw new Error(`the page has no element ${id}`);
    return found;
  }
  var Panel = class {
    // names of those who are in the call
    constructor(words) {
      this.words = words;
    }
    words;
    far = get("far");
    self = get("self");
    hangUp = get("hang-up");
    mute = get("mute");
    camera = get("camera");
    draw = get("curtain");
    controls = get("controls");
    root = get("call");
    title = get("call-title");
    status = get("status");
    next = get("next");
    verified = get("verified");
    same = get("call-code");
    party = get("party");
    roster = get("roster");
    comings = get("comings");
    placeholder = get("placeholder");
    caption = get("self-caption");
    selfBox = get("self-box");
    homeNotes = get("call-notes");
    receipt = get("receipt");
    hint = get("hint");
    weakness = get("weak");
    ending = get("ends");
    grade = get("line");
    judged = get("verdict");
    interrupted = false;
    still = false;
    phase = "idle";
    seen = "awaited";
    curtain = { mine: false, theirs: false, closed: 0 };
    there = /* @__PURE__ */ new Set();
    // show brings the panel in line with the call's state.
    show(s, called, proven2, unheard) {
      const live = s.phase !== "idle" && s.phase !== "ended";
      this.root.dataset["phase"] = s.phase;
      document.body.dataset["call"] = live ? "on" : "off";
      this.put(this.title, s.phase === "idle" ? this.words.say("call.title") : this.words.say("call.title.with", { home: called.label }));
      this.put(this.status, this.sentence(s, called, unheard));
      this.put(this.next, unheard ? this.words.say("call.next.lost") : s.phase === "ended" ? this.words.explain(s.outcome).next : s.phase === "ringing" ? this.words.say("call.next.ringing") : "");
      this.put(this.verified, this.words.say("call.verified", { home: called.label, code: called.code }));
      this.verified.hidden = !(live && proven2);
      if (!live || !proven2) this.code("");
      this.party.hidden = !live;
      this.members(live ? [{ name: this.roster.dataset["you"] ?? "", state: "you", here: true }, { name: called.label, state: s.phase, here: s.phase === "talking" }] : [], live);
      if (s.phase !== "talking") this.seen = "awaited";
      this.phase = s.phase;
      this.curtain = s.curtain;
      this.root.dataset["curtain"] = covered(s.curtain) ? "drawn" : "open";
      this.put(this.draw, this.words.say(s.curtain.mine ? "call.curtain.open" : "call.curtain.draw"));
      this.draw.dataset["drawn"] = String(s.curtain.mine);
      this.draw.disabled = !drawable(s);
      this.cover();
      this.line();
      this.controls.hidden = !live;
      if (live) {
        this.put(this.receipt, "");
        this.put(this.judged, "");
        this.root.dataset["outcome"] = "";
      } else {
        this.root.dataset["outcome"] = s.phase === "ended" ? this.words.explain(s.outcome).kind : "";
        this.interrupted = this.still = false;
        this.line();
        this.quality("");
        this.put(this.ending, "");
        this.homeNotes.replaceChildren();
        this.put(this.hint, "");
      }
    }
    // verdict says what the clinic makes of a call that failed, and what the caller can do now, in place of what the page knew to say.
    verdict(sentence, now) {
      this.put(this.next, now);
      this.put(this.judged, sentence);
    }
    // members shows who takes part, by name and role, and says who comes and who goes. Of who has opened the call nothing is said.
    members(members, live) {
      const there = new Set(members.filter((m) => m.here && m.state !== "you").map((m) => m.name));
      const came = [...there].filter((name) => !this.there.has(name)).map((name) => this.words.say("call.joined", { name }));
      const went = [...this.there].filter((name) => !there.has(name)).map((name) => this.words.say("call.left", { name }));
      this.there = there;
      if (came.length + went.length > 0) this.put(this.comings, [...came, ...went].join(" "));
      else if (live && there.size === 0) this.put(this.comings, "");
      const lines = members.map((m) => {
        const li = document.createElement("li");
        li.dataset["here"] = String(m.here);
        li.textContent = `${m.name} ${this.words.say(`call.roster.${m.state}`)}`;
        return li;
      });
      if (lines.map((l) => l.outerHTML).join("") !== this.roster.innerHTML) this.roster.replaceChildren(...lines);
    }
    // code shows the digits that are on the home's screen too; "" takes them away.
    code(digits) {
      this.put(this.same, digits === "" ? "" : this.words.say("call.code", { code: digits }));
    }
    focus() {
      this.title.focus({ preventScroll: true });
      if (this.root.getBoundingClientRect().top < 0 || window.innerWidth < 900) this.root.scrollIntoView({ block: "start" });
    }
    // own shows the caller's own picture, or takes it away.
    own(stream, camera) {
      this.self.srcObject = stream;
      this.selfBox.hidden = stream === null;
      this.self.hidden = !camera;
    }
    buttons(s) {
      this.put(this.mute, this.words.say(s.muted ? "call.unmute" : "call.mute"));
      this.put(this.camera, this.words.say(s.cameraOff ? "call.camera.on" : "call.camera.off"));
      this.mute.disabled = !s.hasSound;
      this.camera.disabled = !s.hasPicture;
      const said = [
        !s.hasPicture ? this.words.say("call.self.no_camera") : s.cameraOff ? this.words.say("call.self.camera_off") : "",
        !s.hasSound ? this.words.say("call.self.no_microphone") : s.muted ? this.words.say("call.self.muted") : ""
      ].filter((x) => x !== "");
      this.put(this.caption, [this.words.say("call.self"), ...said].join(" · "));
      this.selfBox.dataset["off"] = String(s.cameraOff || !s.hasPicture);
    }
    // tell says something about this computer that the caller has to know; it stays while the call runs.
    tell(key) {
      this.put(this.hint, key === "" ? "" : this.words.say(key));
    }
    // ends says when the right to the call ends; it stays while the call runs.
    ends(at) {
      this.put(this.ending, this.words.say("call.ends", { time: clock(at) }));
    }
    weak(weak) {
      this.interrupted = weak;
      this.line();
    }
    // paused says that no picture comes, though sound does.
    paused(paused) {
      this.still = paused;
      this.line();
    }
    // quality says in words how good the line is; "" says nothing.
    quality(word) {
      this.grade.dataset["line"] = word;
      this.put(this.grade, word === "" ? "" : this.words.say(`call.line.${word}`));
    }
    // line says what is wrong with the line: that nothing comes before that no picture does.
    line() {
      this.put(this.weakness, this.interrupted ? this.words.say("call.weak") : this.still && !covered(this.curtain) ? this.words.say("call.paused") : "");
    }
    picture(seen) {
      if (this.seen === seen) return;
      this.seen = seen;
      this.cover();
    }
    // cover says in words what there is in place of a picture.
    cover() {
      if (covered(this.curtain)) {
        this.placeholder.hidden = false;
        this.put(this.placeholder, this.veil());
        return;
      }
      const talking = this.phase === "talking";
      this.placeholder.hidden = talking && this.seen === "live";
      const key = talking && this.seen !== "live" && this.seen !== "awaited" ? this.seen : this.phase;
      this.put(this.placeholder, this.words.say(`call.picture.${key}`));
    }
    // veil says whose curtain is drawn. That camera and microphone in the home are closed is said only where its terminal has proven it.
    veil() {
      const { mine, theirs, closed } = this.curtain;
      const whose = mine && theirs ? "both" : mine ? "mine" : theirs ? "theirs" : "lifting";
      const said = [this.words.say(`call.curtain.${whose}`)];
      if (whose !== "lifting") said.push(closed ? this.words.say("call.curtain.closed", { time: clock(closed) }) : this.words.say(this.phase === "talking" ? "call.curtain.closing" : "call.curtain.before"));
      return said.join(" ");
    }
    // home says what is special about the home's equipment, such as a test picture in place of a camera.
    home(h) {
      this.homeNotes.replaceChildren(...h ? notes(h) : []);
    }
    // closed says when nobody could see or hear the home any more; 0: nobody ever could.
    closed(last) {
      this.put(this.receipt, last ? this.words.say("call.receipt", { time: clock(last) }) : this.words.say("call.receipt.never"));
    }
    // unproven says that what came in place of the receipt is none.
    unproven() {
      this.put(this.receipt, this.words.explain("proof.end").sentence);
    }
    sentence(s, called, unheard) {
      if (unheard) return this.words.say(`call.status.${unheard}`);
      const names = { home: called.label };
      if (s.phase === "talking" && covered(s.curtain)) {
        const { mine, theirs } = s.curtain;
        return this.words.say(mine ? "call.status.curtain.mine" : theirs ? "call.status.curtain.theirs" : "call.status.curtain.lifting", names);
      }
      if (s.phase === "ended") return this.words.say("call.status.ended", { sentence: this.words.explain(s.outcome).sentence });
      return this.words.say(`call.status.${s.phase}`, names);
    }
    put(element, text2) {
      if (element.textContent !== text2) element.textContent = text2;
      if (element.dataset["optional"] !== void 0) element.hidden = text2 === "";
    }
  };
  function clock(at) {
    return new Date(at).toLocaleTimeString(document.documentElement.lang, { hourCycle: "h23" });
  }

  // ts/peer.ts
  var maxQueued = 64;
  var gatherFor = 30;
  var together = 8;
  var longest = 1400;
  var graceForPath = 6e3;
  var graceForMove = 12e3;
  var silent = 2500;
  var lookAgain = 2e3;
  var lookLater = 5e3;
  var maxLooks = 32;
  var graceForFirstPath = 15e3;
  var Peer = class {
    remote = new MediaStream();
    call = "";
    pc;
    sound;
    picture;
    made;
    watcher;
    toClinic = [];
    sign;
    statements = 0;
    posting = Promise.resolve();
    ask;
    away = false;
    // nothing comes
    answered = false;
    // and the terminal looks for another path, too
    looks = 0;
    taken = 0;
    // the offer for another path that was answered last
    asking = false;
    // an offer is on its way: what was found waits, since it belongs to it
    again = 0;
    heard = { bytes: 0, at: 0 };
    fromTerminal = [];
    accepted = false;
    everConnected = false;
    sending = 0;
    grace = 0;
    refusals = [];
    outgoing;
    expected;
    covered = false;
    constructor(options) {
      this.pc = new RTCPeerConnection({
        iceServers: options.servers,
        iceTransportPolicy: options.relayOnly ? "relay" : "all",
        bundlePolicy: "max-bundle",
        rtcpMuxPolicy: "require"
      });
      this.sound = this.pc.addTransceiver("audio", { direction: "sendrecv" });
      this.picture = this.pc.addTransceiver("video", { direction: "sendrecv", sendEncodings: [{ maxBitrate: 2e6 }] });
      prefer(this.sound, /^audio\/opus$/i);
      prefer(this.picture, /^video\/(vp8|h264|rtx)$/i);
      this.pc.ontrack = (e) => this.remote.addTrack(e.track);
      this.pc.onicecandidate = (e) => this.found(e.candidate);
      this.pc.onicecandidateerror = (e) => {
        if (e instanceof RTCPeerConnectionIceErrorEvent) this.unserved(e.url, e.errorCode);
      };
      this.pc.onconnectionstatechange = () => void this.changed();
      this.made = this.pc.createOffer();
      this.made.catch(() => void 0);
    }
    // offer is ready, or nearly, since the connection was made.
    async offer() {
      return (await this.made).sdp ?? "";
    }
    // begin starts to gather candidates.
    begin(watcher) {
      this.watcher = watcher;
      this.made.then((offer) => this.pc.setLocalDescription(offer)).catch(() => this.watcher?.failed("browser.failed"));
    }
    // unserved notes a server that gave no candidate. They are few, and each is asked only a few times.
    unserved(url, code2) {
      if (this.refusals.length < maxQueued) this.refusals.push({ url, code: code2 });
    }
    // named tells which call this is; candidates may go out from here on, signed for it, and offers for other paths.
    named(call, sign2, ask) {
      this.call = call;
      this.sign = sign2;
      this.ask = ask;
      this.flush();
    }
    // accept takes a proven answer. Its certificate is the only one that may speak.
    async accept(sdp, certificate) {
      this.expected = certificate;
      this.arm(graceForFirstPath);
      await this.pc.setRemoteDescription({ type: "answer", sdp });
      this.accepted = true;
      const waiting = this.fromTerminal;
      this.fromTerminal = [];
      for (const c of waiting) void this.add(c);
    }
    // moved takes a proven answer to the offer for another path with that number.
    async moved(number, sdp) {
      if (number !== this.looks || number <= this.taken || this.pc.signalingState !== "have-local-offer") return;
      this.taken = number;
      await this.pc.setRemoteDescription({ type: "answer", sdp });
      this.accepted = true;
      const waiting = this.fromTerminal;
      this.fromTerminal = [];
      for (const c of waiting) void this.add(c);
      if (!this.away) return;
      if (!this.answered) this.arm(graceForMove);
      this.answered = true;
      this.lookIn(lookLater);
    }
    async candidate(c) {
      const init = { candidate: c.line, sdpMid: c.mid, sdpMLineIndex: c.mline };
      if (this.accepted) await this.add(init);
      else if (this.fromTerminal.length < maxQueued) this.fromTerminal.push(init);
    }
    // send sends from here on, as soon as the connection is as it has to be.
    async send(stream, picture2, sound2) {
      this.outgoing = { stream, picture: picture2, sound: sound2 };
      if (this.everConnected) await this.attach();
    }
    // cover stops what goes out, or lets it go on as send has said. The connection stays.
    async cover(covered2) {
      this.covered = covered2;
      if (this.everConnected) await this.attach();
    }
    async attach() {
      if (!this.outgoing) return;
      const { stream, picture: picture2, sound: sound2 } = this.outgoing;
      const track = (list) => this.covered ? null : list[0] ?? null;
      await Promise.all([
        picture2 ? this.picture.sender.replaceTrack(track(stream.getVideoTracks())) : void 0,
        sound2 ? this.sound.sender.replaceTrack(track(stream.getAudioTracks())) : void 0
      ]);
    }
    async stats() {
      const report = await this.pc.getStats();
      this.listen(report);
      return report;
    }
    close() {
      this.watcher = void 0;
      window.clearTimeout(this.grace);
      window.clearTimeout(this.sending);
      window.clearTimeout(this.again);
      window.removeEventListener("online", this.online);
      this.pc.close();
      for (const t of this.remote.getTracks()) {
        t.stop();
        this.remote.removeTrack(t);
      }
    }
    async add(c) {
      try {
        await this.pc.addIceCandidate(c);
      } catch {
      }
    }
    found(c) {
      this.toClinic.push({ line: c?.candidate ?? "", mid: c?.sdpMid ?? "0", mline: c?.sdpMLineIndex ?? 0 });
      if (this.call !== "" && this.sending === 0) this.sending = window.setTimeout(() => this.flush(), gatherFor);
    }
    flush() {
      window.clearTimeout(this.sending);
      this.sending = 0;
      this.posting = this.posting.then(() => this.post());
    }
    // post sends what waits, one statement after the other: the terminal takes their numbers only as they grow.
    async post() {
      while (this.sign && !this.asking && this.toClinic.length > 0) {
        try {
          await candidates2(this.call, toBase64(await this.sign(++this.statements, batch(this.toClinic))));
        } catch {
        }
      }
    }
    arm(after) {
      window.clearTimeout(this.grace);
      this.grace = window.setTimeout(() => this.watcher?.failed(this.everConnected ? "ice.lost" : this.whyNot()), after);
    }
    // listen notices silence. A terminal that has nothing to say still asks whether this end is there, each second (RFC 7675).
    listen(report) {
      if (!this.everConnected || !this.watcher) return;
      let bytes = 0;
      report.forEach((s) => {
        if (s.type === "candidate-pair") bytes += (s.bytesReceived ?? 0) + (s.requestsReceived ?? 0) + (s.responsesReceived ?? 0);
      });
      const now = performance.now();
      if (bytes !== this.heard.bytes) {
        this.heard = { bytes, at: now };
        if (this.away && this.pc.connectionState === "connected") this.back();
      } else if (now - this.heard.at > silent) this.lost();
    }
    online = () => {
      if (this.everConnected && this.watcher) this.lost();
    };
    // lost: nothing comes any more. Another path is looked for until there is one, or the time is over.
    lost() {
      if (this.away) return;
      this.away = true;
      this.answered = false;
      this.watcher?.weak(true);
      this.arm(graceForPath);
      void this.look();
    }
    back() {
      this.away = false;
      window.clearTimeout(this.grace);
      window.clearTimeout(this.again);
      this.watcher?.weak(false);
    }
    lookIn(wait) {
      window.clearTimeout(this.again);
      this.again = window.setTimeout(() => void this.look(), wait * (0.8 + 0.4 * Math.random()));
    }
    // look offers another path (an ICE restart). Certificate, encryption and what is sent stay as they are.
    async look() {
      if (!this.ask || this.looks >= maxLooks) return;
      const number = ++this.looks;
      this.lookIn(lookAgain);
      this.asking = true;
      this.accepted = false;
      this.toClinic = [];
      this.fromTerminal = [];
      try {
        const offer = await this.pc.createOffer({ iceRestart: true });
        await this.pc.setLocalDescription(offer);
        this.watcher?.looks();
        await this.ask(number, offer.sdp ?? "");
      } catch {
      }
      if (number !== this.looks) return;
      this.asking = false;
      this.posting = this.post();
    }
    whyNot() {
      return this.dtls()?.state === "failed" || this.pc.iceConnectionState === "connected" ? "dtls.failed" : "ice.failed";
    }
    dtls() {
      return this.sound.sender.transport;
    }
    async changed() {
      switch (this.pc.connectionState) {
        case "connected":
          if (this.everConnected) return this.back();
          window.clearTimeout(this.grace);
          if (!await this.certified()) return this.watcher?.failed("proof.fingerprint");
          if (!await this.sealed()) return this.watcher?.failed("dtls.not_as_agreed");
          this.everConnected = true;
          this.heard = { bytes: 0, at: performance.now() };
          window.addEventListener("online", this.online);
          this.attach().catch(() => this.watcher?.failed("browser.failed"));
          this.watcher?.connected();
          return;
        case "disconnected":
          if (this.everConnected) return this.lost();
          this.watcher?.weak(true);
          this.arm(graceForPath);
          return;
        case "failed":
          if (this.everConnected && this.dtls()?.state !== "failed") return this.lost();
          this.watcher?.failed(this.everConnected ? "ice.lost" : this.whyNot());
          return;
        default:
          return;
      }
    }
    // certified looks once more, at the certificate that the other end has really shown. The browser has compared it with
    // the proven session description already (RFC 8827 §6.5).
    async certified() {
      const shown = this.dtls()?.getRemoteCertificates?.()[0];
      return !shown || !!this.expected && equal(await sha256(new Uint8Array(shown)), this.expected);
    }
    // sealed asks for one of the AEAD profiles (RFC 7714) and suites, the only ones that terminals speak.
    async sealed() {
      let good = true;
      (await this.pc.getStats()).forEach((s) => {
        if (s.type !== "transport") return;
        if (s.srtpCipher && !/GCM/.test(s.srtpCipher)) good = false;
        if (s.dtlsCipher && !/GCM|CHACHA20/.test(s.dtlsCipher)) good = false;
      });
      return good;
    }
  };
  function batch(waiting) {
    let n = 0;
    for (let size = 0; n < Math.min(waiting.length, together); n++) {
      size += waiting[n]?.line.length ?? 0;
      if (n > 0 && size > longest) break;
    }
    return waiting.splice(0, n);
  }
  function prefer(t, wanted) {
    const all = RTCRtpReceiver.getCapabilities(t.receiver.track.kind)?.codecs ?? [];
    const codecs = all.filter((c) => wanted.test(c.mimeType));
    if (codecs.length > 0 && "setCodecPreferences" in t) t.setCodecPreferences(codecs);
  }

  // ts/present.ts
  function get2(id) {
    const found = document.getElementById(id);
    if (!found) throw new Error(`the page has no element ${id}`);
    return found;
  }
  var counted = ["colleagues", "students", "others"];
  var Present = class {
    // note is asked to put on the record what was filled in.
    constructor(words, note) {
      this.words = words;
      this.note = note;
      this.form.addEventListener("submit", (e) => {
        e.preventDefault();
        void this.tell();
      });
      this.nobody.addEventListener("change", () => {
        if (this.nobody.checked) this.numbers.forEach((n) => n.value = "0");
      });
      for (const n of this.numbers) n.addEventListener("input", () => this.nobody.checked = false);
    }
    words;
    note;
    form = get2("present");
    nobody = get2("with-nobody");
    home = get2("home-present");
    said = get2("present-said");
    numbers = counted.map((name) => get2(`with-${name}`));
    call = "";
    // show asks anew in each call that is answered, and is gone with it.
    show(call) {
      if (call === this.call) return;
      this.call = call;
      this.form.hidden = call === "";
      this.form.reset();
      this.said.textContent = "";
    }
    who() {
      const [colleagues = 0, students = 0, others = 0] = this.numbers.map((n) => Number(n.value) || 0);
      return colleagues + students + others > 0 || this.nobody.checked ? { colleagues, students, others } : null;
    }
    async tell() {
      const call = this.call;
      const who = this.who();
      if (call === "" || who === null && this.home.value === "") return;
      let said = "call.present.noted";
      try {
        await this.note(call, who, this.home.value);
      } catch {
        said = "call.present.not_noted";
      }
      if (call === this.call) this.said.textContent = this.words.say(said);
    }
  };

  // ts/statement.ts
  var typeAnswer = "vindu/answer.v1";
  var typeEnd2 = "vindu/end.v1";
  var typeRestart2 = "vindu/restart.v1";
  var typeCurtain2 = "vindu/curtain.v1";
  var unprintable = /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\u{e0000}-\u{e007f}]/u;
  var decisions = ["ringing", "answered", "declined", "busy", "quiet", "shutter", "refused"];
  function decodeRestart(payload) {
    const f = new Fields2(payload, 8);
    return {
      call: f.bytes(2, 16),
      terminal: f.bytes(3, 32),
      invitation: f.bytes(4, 32),
      by: f.text(5),
      number: f.natural(6),
      sdp: f.bytes(7, 32),
      at: f.time(8)
    };
  }
  function decodeAnswer(payload) {
    const f = new Fields2(payload, 9);
    const a = {
      call: f.bytes(2, 16),
      terminal: f.bytes(3, 32),
      invitation: f.bytes(4, 32),
      key: f.bytes(5, 32),
      answer: f.bytes(6, 32),
      decision: f.text(7),
      software: f.text(8),
      at: f.time(9)
    };
    if (!decisions.includes(a.decision)) throw new Malformed("unknown decision");
    const connects = a.decision === "ringing" || a.decision === "answered";
    if (isZero(a.key) === connects || isZero(a.answer) === connects) throw new Malformed("keys and decision do not fit");
    return a;
  }
  function decodeEnd(payload) {
    const f = new Fields2(payload, 10);
    const e = {
      call: f.bytes(2, 16),
      terminal: f.bytes(3, 32),
      invitation: f.bytes(4, 32),
      by: f.text(5),
      reason: f.text(6),
      duration: f.natural(7),
      cameraClosed: f.natural(8),
      microphoneClosed: f.natural(9),
      at: f.time(10)
    };
    if (!/^[a-z]{1,20}\.[a-z_]{1,40}$/.test(e.reason)) throw new Malformed("reason is not a code");
    return e;
  }
  function decodeCurtain(payload) {
    const f = new Fields2(payload, 10);
    const camera = f.natural(8);
    const microphone = f.natural(9);
    const c = {
      call: f.bytes(2, 16),
      terminal: f.bytes(3, 32),
      invitation: f.bytes(4, 32),
      by: f.text(5),
      drawn: f.truth(6),
      number: f.natural(7),
      closed: Math.max(camera, microphone),
      at: f.time(10)
    };
    if (c.by !== "terminal" && c.by !== "caller") throw new Malformed("a curtain of nobody who has one");
    if (c.number < 1 || c.number > 4294967295) throw new Malformed("no number of a statement");
    if (camera === 0 !== (microphone === 0) || c.closed > c.at || c.by !== "terminal" && c.closed !== 0) throw new Malformed("closed as nobody can say");
    return c;
  }
  var Fields2 = class {
    map;
    constructor(payload, n) {
      const item = decode(payload);
      if (!(item instanceof Map) || item.size !== n) throw new Malformed("not the fields of this statement");
      this.map = item;
      for (let i = 1; i <= n; i++) if (!item.has(i)) throw new Malformed(`field ${i} is missing`);
      if (item.get(1) !== 1) throw new Malformed("unknown version");
    }
    bytes(key, length) {
      const v = this.map.get(key);
      if (!(v instanceof Uint8Array) || v.length !== length) throw new Malformed(`field ${key} is not ${length} bytes`);
      return v;
    }
    text(key) {
      const v = this.map.get(key);
      if (typeof v !== "string" || v === "" || utf8(v).length > 256 || unprintable.test(v)) {
        throw new Malformed(`field ${key} is not a text`);
      }
      return v;
    }
    truth(key) {
      const v = this.map.get(key);
      if (typeof v !== "boolean") throw new Malformed(`field ${key} is neither true nor false`);
      return v;
    }
    natural(key) {
      const v = this.map.get(key);
      if (typeof v !== "number" || v < 0) throw new Malformed(`field ${key} is not a number`);
      return v;
    }
    time(key) {
      const v = this.natural(key);
      if (v === 0) throw new Malformed(`field ${key} is not a time`);
      return v;
    }
  };

  // ts/proof.ts
  var Unproven = class extends Error {
    constructor(code2, cause) {
      super(cause);
      this.code = code2;
    }
    code;
  };
  async function proveAnswer(signed, sdp, expected) {
    let answer;
    try {
      answer = decodeAnswer(await open(signed, typeAnswer, expected.key));
      await aboutThisCall(answer, expected);
    } catch (cause) {
      throw new Unproven("proof.answer", String(cause));
    }
    if (answer.decision === "ringing" || answer.decision === "answered") {
      if (!equal(answer.answer, await sha256(sdp))) throw new Unproven("proof.fingerprint", "another session description");
      if (!boundTo(sdp, spell(answer.key))) throw new Unproven("proof.fingerprint", "another certificate");
    }
    return answer;
  }
  async function proveEnd(signed, expected) {
    try {
      const end4 = decodeEnd(await open(signed, typeEnd2, expected.key));
      await aboutThisCall(end4, expected);
      if (end4.by !== "terminal") throw new Error("by another side");
      return end4;
    } catch (cause) {
      throw new Unproven("proof.answer", String(cause));
    }
  }
  async function proveRestart(signed, sdp, expected, certificate) {
    let restart3;
    try {
      restart3 = decodeRestart(await open(signed, typeRestart2, expected.key));
      await aboutThisCall(restart3, expected);
      if (restart3.by !== "terminal") throw new Error("by another side");
    } catch (cause) {
      throw new Unproven("proof.answer", String(cause));
    }
    if (!equal(restart3.sdp, await sha256(sdp))) throw new Unproven("proof.fingerprint", "another session description");
    if (!boundTo(sdp, spell(certificate))) throw new Unproven("proof.fingerprint", "another certificate");
    return restart3;
  }
  async function proveCurtain(signed, expected, after) {
    try {
      const curtain4 = decodeCurtain(await open(signed, typeCurtain2, expected.key));
      await aboutThisCall(curtain4, expected);
      if (curtain4.by !== "terminal") throw new Error("by another side");
      if (curtain4.number <= after) throw new Error("no news");
      return curtain4;
    } catch (cause) {
      throw new Unproven("proof.answer", String(cause));
    }
  }
  async function aboutThisCall(s, expected) {
    if (hex(s.call) !== expected.call) throw new Error("about another call");
    if (!equal(s.terminal, expected.key.hash)) throw new Error("about another terminal");
    if (!equal(s.invitation, await sha256(expected.invitation))) throw new Error("about another invitation");
  }

  // ts/grade.ts
  var base = 93.2;
  var bpl = 25.1;
  var devices = 46.5;
  function rating(delay, concealed) {
    const loss = 100 * Math.min(Math.max(concealed, 0), 1);
    return base - late(delay) - 95 * loss / (loss + bpl);
  }
  function late(delay) {
    if (!(delay > 100)) return 0;
    const x = Math.log2(delay / 100);
    const sixth = (v) => Math.pow(1 + Math.pow(v, 6), 1 / 6);
    return 25 * (sixth(x) - 3 * sixth(x / 3) + 2);
  }
  function score(r) {
    if (r <= 0) return 1;
    if (r >= 100) return 4.5;
    return Math.max(1 + 0.035 * r + r * (r - 60) * (100 - r) * 7e-6, 1);
  }

  // ts/path.ts
  var maxPairs = 40;
  var maxErrors = 12;
  var kinds = ["host", "srflx", "prflx", "relay"];
  var states = ["frozen", "waiting", "in-progress", "failed", "succeeded"];
  var Path = class {
    pairs = /* @__PURE__ */ new Map();
    errors = [];
    // read takes what the statistics say of each pair; a browser forgets those that have failed, so the last that was said of one stays.
    read(all) {
      const byId = (id) => all.find((s) => s.id === id);
      for (const p of all) {
        if (p.type !== "candidate-pair" || this.pairs.size >= maxPairs && !this.pairs.has(p.id)) continue;
        const local = byId(p["localCandidateId"]);
        const remote = byId(p["remoteCandidateId"]);
        const state = String(p["state"]);
        if (!local || !remote || !states.includes(state)) continue;
        this.pairs.set(p.id, {
          local: end3(local),
          remote: end3(remote),
          state,
          asked: count(p["requestsSent"]),
          answered: count(p["responsesReceived"]),
          heard: count(p["requestsReceived"])
        });
      }
    }
    // failed notes a server that gave no candidate.
    failed(url, code2) {
      if (code2 < 300 || code2 > 799 || this.errors.length >= maxErrors) return;
      const way = /^stuns?:/i.test(url) ? "stun" : /^turns:/i.test(url) ? "tls" : /transport=tcp/i.test(url) ? "tcp" : "udp";
      if (this.errors.every((e) => e.way !== way || e.code !== code2)) this.errors.push({ way, code: code2 });
    }
    tried() {
      return [...this.pairs.values()];
    }
    gather() {
      return [...this.errors];
    }
  };
  function end3(c) {
    const kind = String(c["candidateType"]);
    const relay = String(c["relayProtocol"] ?? "");
    const transport = relay || String(c["protocol"] ?? "udp");
    return {
      kind: kinds.includes(kind) ? kind : "prflx",
      network: network(c["address"] ?? c["ip"]),
      transport: transport === "tls" || transport === "tcp" ? transport : "udp"
    };
  }
  function count(v) {
    return typeof v === "number" && v > 0 ? Math.round(v) : 0;
  }
  function network(address) {
    if (typeof address !== "string" || address === "") return "hidden";
    if (/\.local$/i.test(address)) return "hidden";
    const four = /^(\d+)\.(\d+)\.\d+\.\d+$/.exec(address);
    if (four) {
      const [a, b] = [Number(four[1]), Number(four[2])];
      if (a === 10 || a === 172 && b >= 16 && b < 32 || a === 192 && b === 168) return "v4.private";
      if (a === 100 && b >= 64 && b < 128) return "v4.shared";
      if (a === 127 || a === 169 && b === 254) return "v4.local";
      return "v4.public";
    }
    const six = address.replace(/^\[|\]$/g, "").toLowerCase();
    if (!six.includes(":")) return "unknown";
    if (six === "::1" || /^fe[89ab]/.test(six)) return "v6.local";
    return /^f[cd]/.test(six) ? "v6.private" : "v6.public";
  }

  // ts/series.ts
  var most = 240;
  var always = ["rtt", "loss", "jitter", "out", "in", "frames"];
  var known = ["frozen", "concealed", "grade", "erle"];
  var columns = [...always, ...known];
  var worst = ["loss", "jitter", "frozen", "concealed"];
  var bounds = { frozen: 1e3, concealed: 1e3, grade: 450, erle: 120 };
  var Sampler = class {
    series = { every: 1, rtt: [], loss: [], jitter: [], out: [], in: [], frames: [], frozen: [], concealed: [], grade: [], erle: [] };
    pending = [];
    // add takes the next second.
    add(x) {
      this.pending.push(x);
      if (this.pending.length < this.series.every) return;
      this.flush();
      if (this.series.rtt.length >= most) this.halve();
    }
    flush() {
      for (const c of columns) this.series[c].push(join(c, this.pending.map((p) => Math.min(p[c], bounds[c] ?? Infinity))));
      this.pending = [];
    }
    halve() {
      this.series.every *= 2;
      for (const c of columns) {
        const old = this.series[c];
        this.series[c] = Array.from({ length: Math.floor(old.length / 2) }, (_, i) => join(c, old.slice(2 * i, 2 * i + 2)));
      }
    }
    // result is undefined if nothing was gathered.
    result() {
      if (this.pending.length > 0 && this.series.rtt.length < most) this.flush();
      if (this.series.rtt.length === 0) return void 0;
      const { frozen, concealed, grade, erle, ...rest } = this.series;
      const told = Object.entries({ frozen, concealed, grade, erle }).filter(([, values]) => values.some((v) => v > 0));
      return { ...rest, ...Object.fromEntries(told) };
    }
  };
  function join(column, list) {
    if (column === "grade") return Math.floor(list.reduce((a, b) => a === 0 || b !== 0 && b < a ? b : a, 0));
    const value = worst.includes(column) ? Math.max(...list) : list.reduce((a, b) => a + b, 0) / list.length;
    return Math.max(0, Math.floor(value));
  }

  // ts/record.ts
  var coders = ["VP8", "VP9", "H264", "H265", "AV1"];
  var satisfied = 403;
  var some = 360;
  var slow = 8;
  var standing = 0.1;
  var judged = 5;
  var every = 1e3;
  var patience3 = 3;
  var Recorder = class {
    began = Date.now();
    clock = performance.now();
    stages = [];
    rtts = [];
    quality = {
      rtt: 0,
      jitter: 0,
      packets_lost: 0,
      packets_received: 0,
      frames_sent: 0,
      frames_decoded: 0,
      freezes: 0,
      concealed: 0,
      bytes_sent: 0,
      bytes_received: 0
    };
    suite = "";
    srtp = "";
    localPath = "";
    remotePath = "";
    camera = 0;
    microphone = 0;
    end = 0;
    timer = 0;
    before;
    // the reading before
    path = new Path();
    sampler = new Sampler();
    grades = [];
    sound;
    recent = [];
    word = "";
    covered = false;
    away = { pictures: 0, freezes: 0, concealed: 0, frozen: 0 };
    // what was counted because of curtains
    latest = { ...this.away };
    left;
    // while a curtain is drawn, and until pictures come again
    sampled;
    // stage notes the first time that a stage is reached.
    stage(stage) {
      if (this.stages.every((s) => s.stage !== stage)) this.stages.push({ stage, after: Math.round(performance.now() - this.clock) });
    }
    // talked is for how long the call has been answered, in milliseconds.
    talked() {
      const answered = this.stages.find((s) => s.stage === "answered");
      return answered ? Math.round(performance.now() - this.clock) - answered.after : 0;
    }
    opened(camera, microphone) {
      if (camera) this.camera = Date.now();
      if (microphone) this.microphone = Date.now();
    }
    // follow reads the statistics now and then, so that there is a last reading even when the page is torn down.
    // It says whether the picture stands still while sound comes.
    follow(stats, paused) {
      let readings = 0;
      const read = () => void this.last(stats(), readings++ % 2 === 0 ? paused : void 0);
      read();
      this.timer = window.setInterval(read, every);
    }
    async last(stats, paused) {
      try {
        const report = await stats;
        this.read(report);
        if (!this.covered) paused?.(this.stands(report));
      } catch {
      }
    }
    read(report) {
      const all = [];
      report.forEach((s) => all.push(s));
      const byId = (id) => all.find((s) => s.id === id);
      const q = this.quality;
      if (!this.reached("connected")) this.path.read(all);
      const transport = all.find((s) => s.type === "transport");
      if (transport) {
        this.suite = text(transport["dtlsCipher"]) || this.suite;
        this.srtp = text(transport["srtpCipher"]).replace(/^SRTP_/, "") || this.srtp;
        q.bytes_sent = natural(transport["bytesSent"]);
        q.bytes_received = natural(transport["bytesReceived"]);
        const pair = byId(transport["selectedCandidatePairId"]);
        if (pair) {
          this.localPath = text(byId(pair["localCandidateId"])?.["candidateType"]);
          this.remotePath = text(byId(pair["remoteCandidateId"])?.["candidateType"]);
          if (typeof pair["currentRoundTripTime"] === "number") this.rtts.push(pair["currentRoundTripTime"] * 1e3);
          q.rtt = median(this.rtts);
        }
      }
      const inbound = all.filter((s) => s.type === "inbound-rtp");
      if (inbound.length > 0) {
        q.packets_lost = sum(inbound, "packetsLost");
        q.packets_received = sum(inbound, "packetsReceived");
        q.frames_decoded = sum(inbound, "framesDecoded");
        const lasting = this.without({
          pictures: q.frames_decoded,
          freezes: sum(inbound, "freezeCount"),
          concealed: sum(inbound, "concealedSamples"),
          frozen: heard(inbound).frozen
        });
        q.freezes = lasting.freezes;
        q.concealed = natural(lasting.concealed / 48);
        q.frozen = natural(1e3 * lasting.frozen) || q.frozen;
        q.jitter = natural(1e3 * Math.max(...inbound.filter((s) => s["kind"] === "audio").map((s) => Number(s["jitter"] ?? 0)), 0));
      }
      const coder = (type) => {
        const stream = all.find((s) => s.type === type && s["kind"] === "video");
        const name = text(byId(stream?.["codecId"])?.["mimeType"]).replace(/^video\//i, "").toUpperCase();
        return coders.includes(name) ? name : "";
      };
      q.codec_out = coder("outbound-rtp") || q.codec_out;
      q.codec_in = coder("inbound-rtp") || q.codec_in;
      const own2 = all.find((s) => s.type === "media-source" && s["kind"] === "audio");
      q.erle = Math.min(natural(own2?.["echoReturnLossEnhancement"]), 120) || q.erle;
      if (inbound.length > 0 && this.reached("connected") && !this.covered && !this.left) this.sample(q, heard(inbound));
      q.frames_sent = sum(all.filter((s) => s.type === "outbound-rtp"), "framesSent") || q.frames_sent;
    }
    // cover has nothing counted that a curtain keeps away, nor the second in which it opens.
    cover(covered2) {
      this.covered = covered2;
      this.before = this.sampled = this.sound = void 0;
      this.recent = [];
      this.word = "";
      if (covered2 && !this.left) this.left = { then: this.latest, pictures: this.latest.pictures, since: 0 };
      if (this.left) this.left.since = 0;
    }
    // without is a reading of what only grows without what curtains have added to it: the browser takes one for a freeze, and for sound that is missing.
    without(now) {
      this.latest = now;
      const left = this.left;
      if (left && this.covered) left.pictures = now.pictures;
      if (left && !this.covered && (now.pictures > left.pictures || ++left.since > patience3)) {
        for (const key of ["freezes", "concealed", "frozen"]) this.away[key] += now[key] - left.then[key];
        this.left = void 0;
      }
      const { pictures, freezes, concealed, frozen } = this.left?.then ?? now;
      const away = this.away;
      return { pictures, freezes: freezes - away.freezes, concealed: concealed - away.concealed, frozen: frozen - away.frozen };
    }
    // stands tells whether no picture has come since the reading before, though sound has and there were pictures earlier.
    stands(report) {
      const all = [];
      report.forEach((s) => all.push(s));
      const of = (kind, field) => sum(all.filter((s) => s.type === "inbound-rtp" && s["kind"] === kind), field);
      const now = { pictures: of("video", "framesDecoded"), sounds: of("audio", "packetsReceived") };
      const before2 = this.before;
      this.before = now;
      return !!before2 && now.pictures > 0 && now.pictures === before2.pictures && now.sounds > before2.sounds;
    }
    reached(stage) {
      return this.stages.some((s) => s.stage === stage);
    }
    // sample adds what has come since the reading before to the series.
    sample(q, heard2) {
      const now = { at: performance.now(), out: q.bytes_sent, in: q.bytes_received, lost: q.packets_lost, received: q.packets_received, frames: q.frames_decoded };
      const b = this.sampled;
      const seconds = b ? (now.at - b.at) / 1e3 : 0;
      if (b && seconds < 0.5) return;
      const h = this.sound;
      this.sampled = now;
      this.sound = heard2;
      if (!b || !h) return;
      const rtt = natural(this.rtts[this.rtts.length - 1]);
      const concealed = Math.min(Math.max(0, heard2.concealed - h.concealed) / Math.max(1, heard2.samples - h.samples), 1);
      const grade = heard2.samples > h.samples ? this.grade(rtt, heard2, h, concealed) : 0;
      const lost = Math.max(0, now.lost - b.lost);
      const due = lost + Math.max(0, now.received - b.received);
      const rate = (n) => natural(n / 125 / seconds);
      this.lately({ grade, frames: (now.frames - b.frames) / seconds, frozen: (heard2.frozen - h.frozen) / seconds });
      this.sampler.add({
        rtt,
        loss: due > 0 ? Math.round(1e3 * lost / due) : 0,
        jitter: q.jitter,
        out: rate(now.out - b.out),
        in: rate(now.in - b.in),
        frames: natural((now.frames - b.frames) / seconds),
        frozen: natural(1e3 * (heard2.frozen - h.frozen) / seconds),
        concealed: natural(1e3 * concealed),
        grade,
        erle: q.erle ?? 0
      });
      if (this.grades.length > 0) {
        const sorted = [...this.grades].sort((a, b2) => a - b2);
        q.grade = Math.round(sorted.reduce((a, b2) => a + b2, 0) / sorted.length);
        q.grade_worst = sorted[Math.floor(sorted.length / 10)];
      }
    }
    // lately judges the last seconds: by the sound's grade, and by whether the picture moves.
    lately(second) {
      this.recent = [...this.recent, second].slice(-judged);
      if (this.recent.length < judged) return;
      const mean = (list) => list.reduce((a, b) => a + b, 0) / Math.max(1, list.length);
      const heard2 = this.recent.map((s) => s.grade).filter((g) => g > 0);
      const sound2 = heard2.length > 0 ? mean(heard2) : satisfied;
      const still = mean(this.recent.map((s) => s.frames)) < slow || mean(this.recent.map((s) => s.frozen)) > standing;
      this.word = sound2 < some || still ? "poor" : sound2 < satisfied ? "fair" : "good";
    }
    // line is how good the line has been in the last seconds; "" until that is known.
    line() {
      return this.word;
    }
    // grade is that of the second between two readings, in hundredths.
    grade(rtt, now, before2, concealed) {
      const waited = now.emitted > before2.emitted ? 1e3 * (now.delay - before2.delay) / (now.emitted - before2.emitted) : 0;
      const grade = Math.round(100 * score(rating(rtt / 2 + waited + devices, concealed)));
      this.grades.push(grade);
      return grade;
    }
    // closed notes that camera and microphone were closed, and with them the call.
    closed() {
      window.clearInterval(this.timer);
      this.stage("ended");
      this.end = Date.now();
    }
    half(outcome) {
      const after = (stage) => this.stages.find((s) => s.stage === stage)?.after;
      const answered = after("answered");
      const series = this.sampler.result();
      const pairs = this.reached("connected") ? [] : this.path.tried();
      const gather = this.reached("connected") ? [] : this.path.gather();
      return {
        ...pairs.length > 0 ? { pairs } : {},
        ...gather.length > 0 ? { gather } : {},
        ...series ? { series } : {},
        version: 1,
        by: "caller",
        began: this.began,
        outcome,
        duration: answered === void 0 ? 0 : (after("ended") ?? 0) - answered,
        stages: this.stages,
        crypto: { suite: this.suite, srtp: this.srtp },
        local_path: this.localPath,
        remote_path: this.remotePath,
        camera: this.camera ? "browser" : "none",
        sound: this.microphone ? "browser" : "none",
        quality: this.quality,
        camera_open: this.camera,
        camera_closed: this.camera && this.end,
        microphone_open: this.microphone,
        microphone_closed: this.microphone && this.end
      };
    }
  };
  function text(v) {
    return typeof v === "string" ? v : "";
  }
  function natural(v) {
    return typeof v === "number" && v > 0 ? Math.round(v) : 0;
  }
  function sum(list, field) {
    return list.reduce((n, s) => n + natural(s[field]), 0);
  }
  function heard(inbound) {
    const add = (kind, field) => inbound.filter((s) => s["kind"] === kind).reduce((n, s) => n + (typeof s[field] === "number" ? s[field] : 0), 0);
    return {
      samples: add("audio", "totalSamplesReceived"),
      concealed: add("audio", "concealedSamples") - add("audio", "silentConcealedSamples"),
      delay: add("audio", "jitterBufferDelay"),
      emitted: add("audio", "jitterBufferEmittedCount"),
      frozen: add("video", "totalFreezesDuration")
    };
  }
  function median(list) {
    const sorted = [...list].sort((a, b) => a - b);
    return natural(sorted[Math.floor(sorted.length / 2)]);
  }

  // ts/words.ts
  var Words = class _Words {
    constructor(page) {
      this.page = page;
    }
    page;
    static read() {
      return new _Words(JSON.parse(document.getElementById("words")?.textContent ?? ""));
    }
    // say fills {names} in.
    say(key, names = {}) {
      const text2 = this.page.words[key] ?? key;
      return text2.replace(/\{(\w+)\}/g, (_, name) => names[name] ?? "");
    }
    explain(code2) {
      return this.page.failures[code2] ?? this.page.failures["unknown.unknown"] ?? { sentence: code2, next: "", kind: "bad" };
    }
  };

  // ts/page.ts
  var refreshICE = 20 * 6e4;
  var firstPicture = 5e3;
  var lastPicture = 3e3;
  var look = 500;
  var unrecorded = [400, 401, 403, 413];
  var judgeAfter = [2e3, 6e3];
  var warnBefore = 2 * 6e4;
  var lapseGrace = 2e3;
  var curtainEvery = 600;
  var clockOff = 6e4;
  var Page = class {
    state = idle;
    attempt;
    warm;
    // its offer is ready before the click
    servers = [];
    authorisation = "signalling.clinic_lost";
    // or why there is none
    lag = 0;
    // ms by which the clinic's clock is ahead of this computer's
    muted = false;
    cameraOff = false;
    leaving = false;
    gone = false;
    // the connection to the clinic is broken off
    permission = "prompt";
    id = hex(crypto.getRandomValues(new Uint8Array(16)));
    homes = /* @__PURE__ */ new Map();
    keys = /* @__PURE__ */ new Map();
    words = Words.read();
    panel = new Panel(this.words);
    present = new Present(this.words, present);
    relayOnly = document.getElementById("relay-only");
    urgent = document.getElementById("urgent");
    banner = document.getElementById("banner");
    right = document.getElementById("right");
    stream = new Stream(this.id, {
      rights: (rights) => this.mayDo(rights),
      homes: (homes) => {
        if (!showHomes(homes, this.homes) && this.state.phase === "idle") location.reload();
        if (running(this.state)) this.panel.home(this.homes.get(this.state.home));
      },
      recent: showRecent,
      update: (update2) => this.handle({ type: "update", update: update2 }),
      connected: () => {
        this.gone = false;
        delete document.body.dataset["gone"];
        this.say("");
      },
      gone: () => {
        this.gone = true;
        document.body.dataset["gone"] = "yes";
        this.say("page.gone");
      },
      lost: () => this.handle({ type: "clinicLost" }),
      signedOut: (code2) => {
        this.say("page.signed_out");
        this.handle({ type: "signedOut", code: code2 });
      }
    });
    start() {
      for (const button of document.querySelectorAll("button.ring")) {
        const home = button.closest("[data-home]");
        if (!home || button.disabled) continue;
        const spki = home.dataset["spki"] ?? "";
        if (spki) this.keys.set(home.dataset["home"] ?? "", importKey(spki));
        button.addEventListener("click", () => this.ring(home.dataset["home"] ?? ""));
      }
      for (const form of document.querySelectorAll("form[data-announce]")) {
        form.addEventListener("submit", (e) => {
          e.preventDefault();
          void this.announce(form, e.submitter?.getAttribute("name") === "back");
        });
      }
      for (const r of document.querySelectorAll("[data-home]")) askable(r);
      for (const form of document.querySelectorAll("form[data-rehearse]")) {
        form.addEventListener("submit", (e) => {
          e.preventDefault();
          void this.rehearse(form);
        });
      }
      this.panel.hangUp.addEventListener("click", () => this.handle({ type: "hangUp" }));
      this.panel.mute.addEventListener("click", () => this.toggle("muted"));
      this.panel.camera.addEventListener("click", () => this.toggle("cameraOff"));
      this.panel.draw.addEventListener("click", () => this.handle({ type: "draw", drawn: !this.state.curtain.mine }));
      this.relayOnly.addEventListener("change", () => this.prepare());
      window.addEventListener("pagehide", () => this.leave());
      window.addEventListener("pageshow", (e) => {
        if (e.persisted) location.reload();
      });
      document.addEventListener("visibilitychange", () => this.seen());
      document.addEventListener("click", (e) => this.follow(e), true);
      this.stream.open();
      void this.refresh();
      window.setInterval(() => void this.refresh(), refreshICE);
      navigator.mediaDevices?.addEventListener?.("devicechange", () => void this.look());
      this.panel.show(this.state, { label: "", code: "" }, false, "");
      void this.look().finally(() => document.body.dataset["ready"] = "yes");
    }
    // announce has a home told when this person calls, or told of nothing; the home's notes then say so.
    async announce(form, back) {
      const said = form.querySelector(".said");
      const at = form.querySelector("input[name=at]");
      said.textContent = "";
      try {
        await announce(form.dataset["announce"] ?? "", back ? "" : at.value);
        at.value = "";
        said.textContent = this.words.say(back ? "page.untold" : "page.told");
      } catch {
        said.textContent = this.words.say("page.not_told");
      }
    }
    // rehearse has a home's terminal asked; the result comes with the home's notes.
    async rehearse(form) {
      const said = form.querySelector(".said");
      said.textContent = "";
      try {
        await rehearse(form.dataset["rehearse"] ?? "");
        said.textContent = this.words.say("page.rehearses");
      } catch (e) {
        const code2 = e instanceof Refused ? e.code : "";
        const why = { "signalling.terminal_offline": "page.rehearse_offline", "answer.busy": "page.rehearse_busy", "link.too_many_requests": "page.rehearse_soon" };
        said.textContent = this.words.say(why[code2] ?? "page.rehearse_not");
      }
    }
    // refresh gets credentials for the relay and prepares an offer with them.
    async refresh() {
      try {
        this.servers = await iceServers();
      } catch {
      }
      await this.authorise();
      if (!running(this.state)) this.prepare();
    }
    // authorise learns by what right this person calls; it is part of what the passkey signs.
    async authorise() {
      try {
        this.authorisation = await authorisation();
        this.lag = this.authorisation.lag;
        void this.look();
      } catch (cause) {
        this.authorisation = cause instanceof Refused && cause.code || "signalling.clinic_lost";
      }
    }
    // mayDo shows what the person may do by now: a home that may not be called any more goes from the page.
    mayDo(rights) {
      this.right.textContent = rights.text;
      this.right.hidden = rights.text === "";
      keepHomes(rights.homes, (home) => {
        this.homes.delete(home);
        this.keys.delete(home);
      });
      const empty = document.getElementById("no-homes");
      empty.hidden = rights.id === "" || document.querySelector("[data-home]") !== null;
      if (rights.id === "") this.authorisation = "authorisation.none";
      else if (typeof this.authorisation === "string" || this.authorisation.id !== rights.id) void this.authorise();
    }
    prepare() {
      this.warm?.close();
      this.warm = this.newPeer();
    }
    newPeer() {
      return new Peer({ servers: this.servers, relayOnly: this.relayOnly.checked });
    }
    // look says before a call what this computer lacks for one.
    async look() {
      this.permission = await permission();
      const { camera, microphone } = await present2();
      const key = this.permission === "denied" ? "own.denied" : camera && microphone ? "" : camera ? "own.no_microphone" : microphone ? "own.no_camera" : "own.nothing";
      const said = [
        canConfirm() ? "" : this.words.say("own.no_passkey"),
        Math.abs(this.lag) < clockOff ? "" : this.words.say(this.lag > 0 ? "own.clock_behind" : "own.clock_ahead", { minutes: String(Math.round(Math.abs(this.lag) / 6e4)) }),
        key === "" ? "" : this.words.say(key)
      ].filter((x) => x !== "");
      const own2 = document.getElementById("own");
      own2.hidden = said.length === 0;
      own2.textContent = said.join(" ");
    }
    ring(home) {
      const known2 = this.homes.get(home);
      if (known2 && known2.terminal !== row(home)?.dataset["terminal"]) {
        location.reload();
        return;
      }
      this.handle({ type: "ring", home, ask: this.permission !== "granted" });
    }
    handle(e) {
      const [state, effects] = next(this.state, e);
      const before2 = this.state;
      this.state = state;
      if (e.type === "ring" && state.attempt !== before2.attempt) this.begin();
      for (const effect of effects) this.perform(effect);
      this.note(before2, state);
      this.draw(before2, state);
    }
    begin() {
      this.muted = false;
      this.cameraOff = false;
      const peer = this.warm ?? this.newPeer();
      this.warm = void 0;
      this.attempt = {
        number: this.state.attempt,
        call: hex(crypto.getRandomValues(new Uint8Array(16))),
        home: this.state.home,
        peer,
        recorder: new Recorder(),
        abort: new AbortController(),
        sdp: "",
        over: false,
        proofs: Promise.resolve(),
        watch: 0,
        ends: 0,
        heard: 0,
        curtains: 0,
        told: false,
        telling: false,
        key: this.keys.get(this.state.home),
        called: named(this.state.home)
      };
    }
    note(before2, after) {
      const r = this.attempt?.recorder;
      if (!r) return;
      if (after.call !== "" && before2.call === "") r.stage("invited");
      if (after.phase === "ringing") r.stage("ringing");
      if (after.answered) r.stage("answered");
      if (after.connected) r.stage("connected");
    }
    draw(before2, after) {
      const called = this.called();
      this.present.show(after.phase === "talking" ? after.call : "");
      this.panel.show(after, called, this.attempt?.certificate !== void 0, this.unheard(after));
      this.panel.buttons({
        muted: this.muted,
        cameraOff: this.cameraOff,
        hasSound: after.media === "unknown" || after.media === "both" || after.media === "sound",
        hasPicture: after.media === "unknown" || after.media === "both" || after.media === "picture"
      });
      const live = running(after);
      for (const b of document.querySelectorAll("button.ring")) b.disabled = live || b.dataset["never"] === "yes";
      const r = row(after.home);
      r?.classList.toggle("called", live);
      if (r) askable(r);
      if (live && !running(before2)) forget(after.home);
      if (live && !running(before2)) {
        this.panel.home(this.homes.get(after.home));
        this.panel.focus();
      }
      if (!live && running(before2)) this.focusBack();
      if (after.media !== before2.media) this.panel.tell(after.media === "unknown" || after.media === "both" ? "" : `own.${missing(after.media)}`);
    }
    // focusBack keeps the keyboard where it was: on the home, once its call is over.
    focusBack() {
      if (document.activeElement === document.body || document.activeElement?.closest("#call")) {
        row(this.state.home)?.querySelector("button.ring")?.focus({ preventScroll: true });
      }
    }
    // unheard: that a call ended, and what became of its line, is not said where there was none for all that is known.
    unheard(s) {
      if (s.outcome !== "signalling.clinic_lost" || s.call !== "") return "";
      return this.attempt?.kept ? "unanswered" : "unreached";
    }
    called() {
      return this.attempt?.called ?? { label: "", code: "" };
    }
    perform(effect) {
      const a = this.attempt;
      if (effect.do === "hangUp") return this.hangUp(effect.call, effect.code);
      if (!a) return;
      switch (effect.do) {
        case "media":
          return void this.openMedia(a);
        case "confirm":
          return void this.confirm(a);
        case "post":
          return void this.post(a);
        case "prove":
          a.proofs = a.proofs.then(() => this.prove(a, effect.update));
          return;
        case "connect":
          return void a.peer.accept(effect.sdp, a.certificate ?? new Uint8Array()).catch(() => this.failed(a, "browser.failed"));
        case "candidate":
          if (effect.update.candidate) void a.peer.candidate(effect.update.candidate);
          return;
        case "move":
          a.proofs = a.proofs.then(() => this.move(a, effect.update));
          return;
        case "send":
          if (a.own) void a.peer.send(a.own.stream, effect.picture, effect.sound).catch(() => this.failed(a, "browser.failed"));
          return;
        case "show":
          return this.show(a);
        case "cover":
          return this.cover(a, effect.covered);
        case "tellCurtain":
          return void this.tellCurtain(a);
        case "proveCurtain":
          a.proofs = a.proofs.then(() => this.proveCurtain(a, effect.update));
          return;
        case "giveUp":
          return this.hangUp(a.call, effect.code);
        case "receipt":
          return void this.receipt(a, effect.update);
        case "close":
          return this.close(a);
      }
    }
    hangUp(call, code2) {
      if (this.leaving) return beacon(call, "hang-up", { reason: code2, end: "" });
      const a = this.attempt?.call === call ? this.attempt : void 0;
      const signed = a?.invitation && a.wish && a.by ? end(a.invitation, a.wish, code2, a.recorder.talked(), a.by).then(toBase64) : Promise.resolve("");
      signed.then((end4) => hangUp(call, code2, end4)).catch(() => void 0);
    }
    // confirm writes the invitation and has the passkey sign it.
    async confirm(a) {
      try {
        if (this.gone || typeof this.authorisation === "string" || outdated(this.authorisation)) await this.authorise();
        if (typeof this.authorisation === "string") return this.failed(a, this.authorisation);
        const key = await a.key;
        if (!key) return this.failed(a, "browser.failed");
        a.by = this.authorisation;
        a.wish = { call: a.call, terminal: key.hash, offer: await a.peer.offer(), errand: "", relayOnly: this.relayOnly.checked, urgent: this.urgent.checked };
        this.waitForEnd(a, a.by);
        a.invitation = await write(a.wish, a.by);
        a.assertion = await confirm(a.invitation, a.by, a.abort.signal);
        this.handle({ type: "confirmed", attempt: a.number });
      } catch (cause) {
        this.failed(a, cause instanceof NotConfirmed ? cause.code : "browser.failed");
      }
    }
    // waitForEnd says before it happens that the call ends with the authorisation. The terminal ends it then by itself; where that cannot be heard of, the page does.
    waitForEnd(a, by) {
      const look2 = () => {
        const left = by.to - by.lag - Date.now();
        if (a.over) return;
        if (left <= -lapseGrace) return this.failed(a, "end.authorisation_over");
        if (left <= warnBefore) this.panel.ends(by.to);
        a.ends = window.setTimeout(look2, Math.min(left > warnBefore ? left - warnBefore : left + lapseGrace, warnBefore));
      };
      if (by.to - by.lag > Date.now()) look2();
    }
    failed(a, code2) {
      this.handle({ type: "failed", attempt: a.number, code: code2 });
    }
    async post(a) {
      try {
        const { wish, invitation: written } = a;
        if (!wish || !written || !a.assertion) throw new Error("not confirmed");
        const { credential, authenticator_data, client_data, signature } = a.assertion;
        const starting = start({
          home: a.home,
          page: this.id,
          offer: wish.offer,
          invitation: toBase64(written.bytes),
          assertion: { credential: toBase64(credential), authenticator_data: toBase64(authenticator_data), client_data: toBase64(client_data), signature: toBase64(signature) }
        });
        a.kept = starting.then(() => true, (cause) => !(cause instanceof Refused && unrecorded.includes(cause.status)));
        a.recorder.follow(() => a.peer.stats(), (paused) => {
          if (this.attempt !== a || a.over) return;
          this.panel.paused(paused);
          this.panel.quality(covered(this.state.curtain) ? "" : a.recorder.line());
        });
        a.peer.begin({
          connected: () => {
            this.handle({ type: "connected", attempt: a.number });
          },
          failed: (code2) => this.failed(a, code2),
          weak: (weak) => this.panel.weak(weak),
          looks: () => a.recorder.stage("restart")
        });
        await starting;
        const key = await a.key;
        if (!key) throw new Error("the home has no terminal");
        a.expected = { key, call: a.call, invitation: written.bytes };
        a.peer.named(a.call, (number, list) => candidates(written, wish, number, list), (number, offer) => this.ask(a, number, offer));
        this.handle({ type: "started", attempt: a.number, call: a.call });
      } catch (cause) {
        const said = cause instanceof Refused ? cause : void 0;
        if (said && said.status >= 400) void this.authorise();
        this.handle({
          type: "notStarted",
          attempt: a.number,
          code: said?.code || "browser.failed",
          refused: said !== void 0 && said.status >= 400 && said.status < 500
        });
      }
    }
    async openMedia(a) {
      try {
        const own2 = await open2();
        if (a.over || a.number !== this.state.attempt || !running(this.state)) {
          own2.stream.getTracks().forEach((t) => t.stop());
          return;
        }
        a.own = own2;
        const picture2 = own2.stream.getVideoTracks().length > 0;
        a.recorder.opened(picture2, own2.stream.getAudioTracks().length > 0);
        this.apply(a);
        this.panel.own(own2.stream, picture2);
        this.handle({ type: "media", attempt: a.number, media: own2.has });
      } catch {
        this.handle({ type: "denied", attempt: a.number });
      }
      void this.look();
    }
    async prove(a, update2) {
      if (!a.expected) return;
      try {
        const sdp = update2.sdp || a.sdp;
        const answer = await proveAnswer(fromBase64(update2.answer ?? ""), sdp, a.expected);
        if (answer.decision === "ringing" || answer.decision === "answered") {
          if (a.sdp && sdp !== a.sdp) throw new Unproven("proof.fingerprint", "a second session description");
          a.sdp = sdp;
          a.certificate = answer.key;
          this.panel.code(await code(a.expected.invitation, answer.key));
        }
        this.handle({ type: "proven", attempt: a.number, decision: answer.decision, code: outcomes[answer.decision] ?? "", sdp });
      } catch (cause) {
        this.failed(a, cause instanceof Unproven ? cause.code : "proof.answer");
      }
    }
    // ask offers the terminal another path, signed by the call's key as everything is that the caller says.
    async ask(a, number, offer) {
      if (a.over || !a.invitation || !a.wish || !a.by) return;
      await restart2(a.call, toBase64(await restart(a.invitation, a.wish, number, offer, a.by)), offer);
    }
    async move(a, update2) {
      if (!a.expected || !a.certificate || a.over) return;
      const sdp = update2.sdp ?? "";
      try {
        const answer = await proveRestart(fromBase64(update2.restart ?? ""), sdp, a.expected, a.certificate);
        await a.peer.moved(answer.number, sdp);
      } catch {
        document.body.dataset["refused"] = a.call;
        a.recorder.stage("restart_refused");
      }
    }
    show(a) {
      const far = this.panel.far;
      far.srcObject = covered(this.state.curtain) ? null : a.peer.remote;
      far.play().catch(() => void 0);
      let last = performance.now();
      let patience4 = firstPicture;
      const seen = () => {
        if (a.over) return;
        last = performance.now();
        patience4 = lastPicture;
        a.recorder.stage("picture");
        this.panel.picture("live");
        far.requestVideoFrameCallback(seen);
      };
      far.requestVideoFrameCallback(seen);
      this.panel.picture("awaited");
      a.watch = window.setInterval(() => {
        if (covered(this.state.curtain)) patience4 = firstPicture;
        if (document.visibilityState !== "visible" || covered(this.state.curtain)) last = performance.now();
        else if (performance.now() - last > patience4) this.panel.picture(patience4 === firstPicture ? "none" : "gone");
      }, look);
    }
    // cover takes both pictures and both sounds away at once, or brings them back.
    cover(a, on) {
      const far = this.panel.far;
      if (on) far.srcObject = null;
      this.apply(a);
      a.recorder.cover(on);
      void a.peer.cover(on).catch(() => this.failed(a, "browser.failed"));
      if (on || !this.state.answered) return;
      this.panel.picture("awaited");
      far.srcObject = a.peer.remote;
      far.play().catch(() => void 0);
    }
    // tellCurtain tells the home of the own curtain until it was passed on, and of no more than the latest.
    async tellCurtain(a) {
      if (a.telling) return;
      a.telling = true;
      while (!a.over && a.invitation && a.wish && a.by && a.told !== this.state.curtain.mine) {
        const drawn = this.state.curtain.mine;
        try {
          await curtain2(a.call, toBase64(await curtain(a.invitation, a.wish, ++a.curtains, drawn, a.by)));
          a.told = drawn;
        } catch {
        }
        await new Promise((resolve) => setTimeout(resolve, curtainEvery));
      }
      a.telling = false;
    }
    async proveCurtain(a, update2) {
      if (!a.expected || !update2.curtain) return;
      try {
        const c = await proveCurtain(fromBase64(update2.curtain), a.expected, a.heard);
        a.heard = c.number;
        this.handle({ type: "curtain", attempt: a.number, drawn: c.drawn, closed: c.closed });
      } catch {
      }
    }
    async receipt(a, update2) {
      if (!a.expected || !update2.end) return;
      try {
        const end4 = await proveEnd(fromBase64(update2.end), a.expected);
        this.panel.closed(Math.max(end4.cameraClosed, end4.microphoneClosed));
      } catch {
        this.panel.unproven();
        hangUp(a.expected.call, "proof.end", "").catch(() => void 0);
      }
    }
    close(a) {
      a.own?.stream.getTracks().forEach((t) => t.stop());
      this.panel.own(null, false);
      this.panel.far.srcObject = null;
      window.clearInterval(a.watch);
      window.clearTimeout(a.ends);
      a.over = true;
      a.abort.abort();
      a.recorder.closed();
      const call = a.call;
      for (const r of a.peer.refusals) a.recorder.path.failed(r.url, r.code);
      if (this.leaving) {
        const half = a.recorder.half(this.state.outcome);
        if (a.kept) beacon(call, "record", half);
        else beacon(call, "attempt", { home: a.home, half });
        a.peer.close();
        return;
      }
      const outcome = this.state.outcome;
      void a.recorder.last(a.peer.stats()).then(() => {
        a.peer.close();
        const half = a.recorder.half(outcome);
        void this.tell(a, half).catch(() => void 0);
        if (!running(this.state)) void this.refresh();
      });
    }
    // tell gives the clinic this page's half of the record.
    async tell(a, half) {
      if (!a.kept) await attempt(a.call, a.home, half);
      else if (await a.kept) await record(a.call, half);
      else return;
      await this.judge(a);
    }
    // judge shows what the clinic makes of a call that failed, and again when the terminal's half should have come.
    async judge(a) {
      for (const wait of [0, ...judgeAfter]) {
        if (wait > 0) await new Promise((resolve) => setTimeout(resolve, wait));
        if (a.number !== this.state.attempt || this.state.phase !== "ended") return;
        try {
          const verdict2 = await verdict(a.call);
          if (a.number !== this.state.attempt || this.state.phase !== "ended") return;
          if (verdict2.sentence !== "") this.panel.verdict(verdict2.sentence, verdict2.now);
          if (verdict2.complete) return;
        } catch {
        }
      }
    }
    toggle(what) {
      this[what] = !this[what];
      if (this.attempt) this.apply(this.attempt);
      this.draw(this.state, this.state);
    }
    apply(a) {
      a.own?.stream.getAudioTracks().forEach((t) => t.enabled = !this.muted && !covered(this.state.curtain));
      a.own?.stream.getVideoTracks().forEach((t) => t.enabled = !this.cameraOff && !covered(this.state.curtain));
    }
    // follow opens links beside a running call, which leaving the page would end.
    follow(e) {
      const link = e.target instanceof Element ? e.target.closest("a[href^='/']") : null;
      if (!link) return;
      if (running(this.state)) link.target = "_blank";
      else link.removeAttribute("target");
    }
    leave() {
      this.leaving = true;
      this.handle({ type: "leave" });
      this.stream.close();
    }
    // seen lets go of the stream while nobody looks, so that many open tabs do not use up the browser's connections.
    seen() {
      if (document.visibilityState === "visible") this.stream.open();
      else if (!running(this.state)) this.stream.close();
    }
    say(key) {
      this.banner.hidden = key === "";
      this.banner.textContent = key === "" ? "" : this.words.say(key);
    }
  };
  var outcomes = {
    declined: "answer.declined",
    busy: "answer.busy",
    quiet: "answer.quiet_hours",
    shutter: "answer.shutter_closed",
    refused: "answer.refused"
  };
  function named(home) {
    const r = row(home);
    return { label: r?.dataset["label"] ?? "", code: r?.dataset["code"] ?? "" };
  }
  function missing(has) {
    return has === "picture" ? "no_microphone" : has === "sound" ? "no_camera" : "nothing";
  }
  new Page().start();
})();
