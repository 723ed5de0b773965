// Made from clinic/web/ts by esbuild: see TestPageScript.
"use strict";
(() => {
  // ts/bytes.ts
  function hex(bytes) {
    return Array.from(bytes, (b) => b.toString(16).padStart(2, "0")).join("");
  }

  // ts/live.ts
  var beat = 2e3;
  var patience = 1e4;
  var retryFrom = 500;
  var retryTo = 1e4;
  var pause = 1e3;
  function typed(e) {
    const fields = [e, ...e.querySelectorAll("*")].filter((f) => f.matches("input:not([type=hidden]), textarea"));
    return fields.some((f) => f.value !== f.defaultValue);
  }
  function held(e) {
    const focus = document.activeElement;
    return focus !== null && focus !== document.body && e.contains(focus) || typed(e) || e.matches("details[open], [data-keep]") || e.querySelector("details[open], [data-keep]") !== null;
  }
  var key = (e) => e instanceof HTMLElement ? e.dataset["key"] ?? e.id : e.id;
  function morph(old, fresh) {
    if (old.isEqualNode(fresh)) return old;
    if (old.matches("[data-keep]") && fresh.matches("[data-keep]")) return old;
    if (!held(old)) {
      const put = document.importNode(fresh, true);
      old.replaceWith(put);
      return put;
    }
    if (old.matches("input, textarea, select")) return old;
    for (const a of Array.from(fresh.attributes)) if (a.name !== "open" && old.getAttribute(a.name) !== a.value) old.setAttribute(a.name, a.value);
    for (const a of Array.from(old.attributes)) if (a.name !== "open" && !fresh.hasAttribute(a.name)) old.removeAttribute(a.name);
    if (old.children.length === 0 && fresh.children.length === 0) {
      if (old.textContent !== fresh.textContent) old.textContent = fresh.textContent;
      return old;
    }
    const left = Array.from(old.children);
    let at = old.firstElementChild;
    for (const want of Array.from(fresh.children)) {
      const i = left.findIndex((e) => e.tagName === want.tagName && key(e) === key(want));
      const have = i < 0 ? void 0 : left.splice(i, 1)[0];
      if (!have) {
        old.insertBefore(document.importNode(want, true), at);
        continue;
      }
      if (have !== at && !held(have)) old.insertBefore(have, at);
      at = morph(have, want).nextElementSibling;
    }
    for (const e of left) if (!typed(e)) e.remove();
    return old;
  }
  function load() {
    return new Promise((resolve, reject) => {
      const x = new XMLHttpRequest();
      x.responseType = "document";
      x.timeout = patience;
      x.onload = () => {
        if (x.status >= 500) reject(new Error(`the clinic answers ${x.status}`));
        else resolve(x.status === 200 && new URL(x.responseURL).pathname === location.pathname ? x.responseXML : null);
      };
      x.onerror = x.ontimeout = () => reject(new Error("the clinic does not answer"));
      x.open("GET", location.href);
      x.send();
    });
  }
  var Live = class {
    id = hex(crypto.getRandomValues(new Uint8Array(16)));
    banner = document.getElementById("banner");
    source;
    heard = 0;
    retry = retryFrom;
    again = 0;
    due = 0;
    // timer of the next fetch
    loading = false;
    rest = 0;
    // not before this instant
    start() {
      window.addEventListener("pageshow", (e) => {
        if (e.persisted) location.reload();
      });
      document.addEventListener("visibilitychange", () => document.visibilityState === "visible" ? this.open() : this.close());
      window.addEventListener("pagehide", () => this.close());
      window.setInterval(() => {
        if (this.source && performance.now() - this.heard > 3 * beat) this.broken();
      }, beat);
      this.open();
    }
    open() {
      this.close();
      this.heard = performance.now();
      const source = new EventSource(`/operator/events?page=${this.id}`);
      this.source = source;
      const on = (type, handle) => source.addEventListener(type, () => {
        this.heard = performance.now();
        handle();
      });
      on("hello", () => {
        this.retry = retryFrom;
        this.changed();
      });
      on("beat", () => void 0);
      on("changed", () => this.changed());
      source.onerror = () => {
        if (source === this.source) this.broken();
      };
    }
    close() {
      window.clearTimeout(this.again);
      this.source?.close();
      this.source = void 0;
    }
    broken() {
      this.close();
      this.say("gone");
      this.again = window.setTimeout(() => {
        this.open();
        this.changed();
      }, this.retry * (0.5 + Math.random() / 2));
      this.retry = Math.min(this.retry * 2, retryTo);
    }
    changed() {
      window.clearTimeout(this.due);
      this.due = window.setTimeout(() => void this.refresh(), Math.max(0, this.rest - performance.now()));
    }
    async refresh() {
      if (this.loading) {
        this.rest = performance.now() + pause;
        this.changed();
        return;
      }
      this.loading = true;
      const began = performance.now();
      try {
        const fresh = await load();
        const main = document.getElementById("main");
        const wanted = fresh?.getElementById("main");
        if (!fresh || !wanted || !main) {
          this.close();
          if (main && typed(main)) this.say("lost");
          else location.reload();
          return;
        }
        morph(main, wanted);
        document.title = fresh.title;
        if (this.source) this.say("");
        document.body.dataset["live"] = String(Number(document.body.dataset["live"] ?? "0") + 1);
      } catch {
        this.say("gone");
      } finally {
        this.loading = false;
        this.rest = performance.now() + Math.max(pause, 10 * (performance.now() - began));
      }
    }
    say(what) {
      this.banner.hidden = what === "";
      this.banner.textContent = what === "" ? "" : this.banner.dataset[what] ?? "";
    }
  };
  new Live().start();
})();
