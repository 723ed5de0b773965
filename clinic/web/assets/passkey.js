// Made from clinic/web/ts by esbuild: see TestPageScript.
"use strict";
(() => {
  // ts/webauthn.ts
  var Problem = class extends Error {
    constructor(key) {
      super(key);
      this.key = key;
    }
    key;
  };
  function fromBase64URL(text) {
    return Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (c) => c.charCodeAt(0));
  }
  function toBase64URL(bytes) {
    const all = bytes instanceof Uint8Array ? bytes : new Uint8Array(bytes);
    return btoa(Array.from(all, (b) => String.fromCharCode(b)).join("")).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
  }
  function unavailable() {
    if (!window.isSecureContext) return new Problem("passkey.bad.insecure");
    if (typeof PublicKeyCredential !== "function" || !navigator.credentials) return new Problem("passkey.bad.none");
    return null;
  }
  var descriptors = (list = []) => list.map((d) => ({ id: fromBase64URL(d.id), type: d.type, ...d.transports ? { transports: d.transports } : {} }));
  var defaultTimeout = 12e4;
  async function ask(timeout, f) {
    const cannot = unavailable();
    if (cannot) throw cannot;
    const began = performance.now();
    let made;
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
  async function create(o) {
    const made = await ask(
      o.timeout,
      () => navigator.credentials.create({
        publicKey: {
          ...o,
          user: { ...o.user, id: fromBase64URL(o.user.id) },
          challenge: fromBase64URL(o.challenge),
          excludeCredentials: descriptors(o.excludeCredentials)
        }
      })
    );
    const response = made.response;
    return {
      id: made.id,
      rawId: toBase64URL(made.rawId),
      type: made.type,
      response: {
        clientDataJSON: toBase64URL(response.clientDataJSON),
        attestationObject: toBase64URL(response.attestationObject),
        transports: response.getTransports?.() ?? []
      }
    };
  }
  async function get(o) {
    const used = await ask(
      o.timeout,
      () => navigator.credentials.get({
        publicKey: { ...o, challenge: fromBase64URL(o.challenge), allowCredentials: descriptors(o.allowCredentials) }
      })
    );
    const response = used.response;
    return {
      id: used.id,
      rawId: toBase64URL(used.rawId),
      type: used.type,
      response: {
        clientDataJSON: toBase64URL(response.clientDataJSON),
        authenticatorData: toBase64URL(response.authenticatorData),
        signature: toBase64URL(response.signature),
        userHandle: response.userHandle ? toBase64URL(response.userHandle) : null
      }
    };
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
      const text = this.page.words[key] ?? key;
      return text.replace(/\{(\w+)\}/g, (_, name) => names[name] ?? "");
    }
    explain(code) {
      return this.page.failures[code] ?? this.page.failures["unknown.unknown"] ?? { sentence: code, next: "", kind: "bad" };
    }
  };

  // ts/passkey.ts
  var patience = 15e3;
  var Said = class extends Error {
    constructor(sentence, next) {
      super(sentence);
      this.sentence = sentence;
      this.next = next;
    }
    sentence;
    next;
  };
  async function post(path, body) {
    const controller = new AbortController();
    setTimeout(() => controller.abort(), patience);
    let response;
    let reply;
    try {
      response = await fetch(path, {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify(body),
        signal: controller.signal
      });
      reply = await response.json();
    } catch {
      throw new Problem("passkey.bad.lost");
    }
    if (!response.ok) {
      const { sentence, next } = reply;
      if (!sentence) throw new Problem("passkey.bad.lost");
      throw new Said(sentence, next ?? "");
    }
    return reply;
  }
  var Ceremony = class {
    constructor(form) {
      this.form = form;
      this.button = form.querySelector("button");
      this.status = form.querySelector("[role=status]");
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
    form;
    button;
    status;
    words = Words.read();
    say(text) {
      this.status.textContent = text;
      this.status.hidden = text === "";
    }
    problem(cause) {
      if (cause instanceof Said) {
        this.say(`${cause.sentence} ${cause.next}`);
        return;
      }
      const key = cause instanceof Problem ? cause.key : "passkey.bad.failed";
      this.say(`${this.words.say(key)} ${this.words.say(`${key}.next`, { origin: this.form.dataset["origin"] ?? location.origin })}`);
    }
    async run() {
      const { passkey, begin, finish } = this.form.dataset;
      this.button.disabled = true;
      this.say(this.words.say("passkey.working"));
      try {
        const options = await post(begin ?? "", {});
        const credential = passkey === "create" ? await create(options) : await get(options);
        const name = this.form.querySelector("input[name=name]")?.value ?? "";
        const { next } = await post(finish ?? "", { name, credential });
        this.say(this.words.say("passkey.done"));
        this.go(next);
      } catch (cause) {
        this.problem(cause);
        this.button.disabled = false;
      }
    }
    go(next) {
      const again = this.form.dataset["again"];
      if (again) document.getElementById(again).submit();
      else if (next) location.assign(next);
      else location.reload();
    }
  };
  for (const form of document.querySelectorAll("form[data-passkey]")) new Ceremony(form);
  document.body.dataset["ready"] = "yes";
})();
