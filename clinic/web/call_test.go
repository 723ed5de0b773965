package web

import (
	"os"
	"strings"
	"testing"
)

const callTable = "testdata/call.txt"

// TestCallTable holds the state machine of a call to a table of every state and event: what becomes of it and what is
// done. The table is committed and meant to be read; -update writes it anew.
func TestCallTable(t *testing.T) {
	b := modules(t)
	got := strings.Join(eval[[]string](b, `(() => {
		const {idle, next} = vindu.call;
		const up = (kind, more) => ({type: "update", update: {call: "c1", kind, ...more}});
		const proven = (decision, code = "") => ({type: "proven", attempt: 1, decision, code, sdp: "s"});
		const ring = {type: "ring", home: "h", ask: false}, ask = {...ring, ask: true}, started = {type: "started", attempt: 1, call: "c1"}, confirmed = {type: "confirmed", attempt: 1};
		const media = {type: "media", attempt: 1, media: "both"}, connected = {type: "connected", attempt: 1};
		const draw = {type: "draw", drawn: true}, open = {type: "draw", drawn: false}, curtain = (drawn, closed) => ({type: "curtain", attempt: 1, drawn, closed});
		const theirs = curtain(true, 9), closed = curtain(false, 9), back = curtain(false, 0);
		const paths = {
			"idle": [],
			"asking": [ask],
			"confirming": [ring],
			"confirming, media there": [ring, media],
			"calling, call not named": [ring, confirmed],
			"calling": [ring, confirmed, started],
			"calling, media there": [ring, confirmed, started, media],
			"ringing": [ring, confirmed, started, proven("ringing")],
			"ringing, media there": [ring, confirmed, started, media, proven("ringing")],
			"ringing, connected": [ring, confirmed, started, media, proven("ringing"), connected],
			"connecting, media not there": [ring, confirmed, started, proven("ringing"), proven("answered")],
			"connecting": [ring, confirmed, started, media, proven("ringing"), proven("answered")],
			"talking": [ring, confirmed, started, media, proven("ringing"), connected, proven("answered")],
			"talking, own curtain": [ring, confirmed, started, media, proven("ringing"), connected, proven("answered"), draw],
			"talking, the home's curtain": [ring, confirmed, started, media, proven("ringing"), connected, proven("answered"), theirs],
			"talking, both curtains": [ring, confirmed, started, media, proven("ringing"), connected, proven("answered"), draw, theirs],
			"talking, opening": [ring, confirmed, started, media, proven("ringing"), connected, proven("answered"), draw, closed, open],
			"ended, not confirmed": [ring, {type: "failed", attempt: 1, code: "browser.passkey_cancelled"}],
			"ended, call not named": [ring, confirmed, {type: "hangUp"}],
			"ended": [ring, confirmed, started, {type: "hangUp"}],
		};
		const events = {
			"ring": ring, "ring, browser asks": ask, "media": media, "confirmed": confirmed, "denied": {type: "denied", attempt: 1},
			"started": started, "started late, of an earlier ring": {type: "started", attempt: 0, call: "c0"},
			"not started": {type: "notStarted", attempt: 1, code: "signalling.terminal_offline", refused: true},
			"not started, for all that is known": {type: "notStarted", attempt: 1, code: "signalling.clinic_lost", refused: false},
			"update: answer": up("answer", {answer: "…"}), "update: candidate": up("candidate", {}), "update: state": up("state", {}),
			"update: end": up("end", {code: "end.patient_hung_up", end: "…"}), "update: end, of another call": up("end", {call: "c2", code: "end.patient_hung_up"}),
			"proven: ringing": proven("ringing"), "proven: answered": proven("answered"), "proven: declined": proven("declined", "answer.declined"),
			"failed": {type: "failed", attempt: 1, code: "proof.answer"}, "failed, of an earlier ring": {type: "failed", attempt: 0, code: "ice.failed"},
			"draw the curtain": draw, "open the curtain": open, "update: curtain": up("curtain", {curtain: "…"}), "curtain of the home": theirs, "curtain of the home, not closed yet": curtain(true, 0),
			"closed in the home": closed, "back in the home": back, "curtain, of an earlier ring": {...back, attempt: 0},
			"connected": connected, "hang up": {type: "hangUp"}, "clinic lost": {type: "clinicLost"}, "signed out": {type: "signedOut", code: "browser.signed_out"}, "page closed": {type: "leave"},
		};
		const spell = (e) => e.do + ({hangUp: () => " " + e.call + " " + e.code, giveUp: () => " " + e.code, send: () => (e.picture ? " picture" : "") + (e.sound ? " sound" : ""),
			prove: () => " " + e.update.call, proveCurtain: () => " " + e.update.call, cover: () => e.covered ? "" : " no more"}[e.do] ?? (() => ""))();
		const lines = [];
		for (const [name, path] of Object.entries(paths)) {
			lines.push(name + ":");
			const s = path.reduce((s, e) => next(s, e)[0], idle);
			const frozen = JSON.stringify(s);
			for (const [event, e] of Object.entries(events)) {
				const [t, effects] = next(s, e);
				const what = [t.phase === s.phase ? "" : "→ " + t.phase + (t.outcome ? " (" + t.outcome + ")" : ""), effects.map(spell).join(", ")].filter((x) => x).join(": ");
				if (what || JSON.stringify(t) !== frozen) lines.push("\t" + event + "  " + (what || "noted"));
				if (JSON.stringify(s) !== frozen) lines.push("\tTHE STATE WAS CHANGED IN PLACE");
			}
		}
		return lines;
	})()`), "\n") + "\n"
	if *update {
		if err := os.WriteFile(callTable, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(callTable)
	if err != nil {
		t.Fatal(err)
	}
	gotLines, wantLines := strings.Split(got, "\n"), strings.Split(string(want), "\n")
	state := ""
	for i := range max(len(gotLines), len(wantLines)) {
		g, w := at(gotLines, i), at(wantLines, i)
		if !strings.HasPrefix(w, "\t") {
			state = w
		}
		if g != w {
			t.Fatalf("%s line %d, in %s\n got %q\nwant %q", callTable, i+1, state, g, w)
		}
	}
}

func at(lines []string, i int) string {
	if i < len(lines) {
		return lines[i]
	}
	return "(nothing)"
}

// TestCallInvariants walks the state machine at random and looks for what must never happen.
func TestCallInvariants(t *testing.T) {
	b := modules(t)
	if broken := eval[[]string](b, `(() => {
		const {covered, idle, next, running} = vindu.call;
		let seed = 12345;
		const random = (n) => { seed = (Math.imul(seed, 1103515245) + 12345) & 0x7fffffff; return (seed >> 8) % n };
		const pick = (list) => list[random(list.length)];
		const broken = new Set();
		const reached = new Set();
		for (let walk = 0; walk < 4000; walk++) {
			let s = idle, confirmed = false, proven = false, answered = false, open = false, veiled = false;
			for (let i = 0; i < 25; i++) {
				const attempt = s.attempt - (random(10) === 0 ? 1 : 0), call = pick(["c1", "c1", "c1", "c2"]);
				const e = pick([
					{type: "ring", home: "h", ask: random(3) === 0}, {type: "confirmed", attempt}, {type: "media", attempt, media: pick(["both", "sound", "picture", "none"])},
					{type: "started", attempt, call: "c1"}, {type: "update", update: {call, kind: "answer"}}, {type: "update", update: {call, kind: "candidate", candidate: {}}},
					{type: "proven", attempt, decision: pick(["ringing", "ringing", "answered", "answered", "busy"]), code: "answer.busy", sdp: "s"},
					{type: "connected", attempt}, {type: "draw", drawn: random(2) === 0}, {type: "curtain", attempt, drawn: random(2) === 0, closed: random(2)},
					...(random(4) ? [] : [{type: "denied", attempt}, {type: "notStarted", attempt, code: "x.y", refused: random(2) === 0}, {type: "update", update: {call, kind: "end", code: "a.b", end: pick(["", "e"])}},
						{type: "failed", attempt, code: "ice.lost"}, {type: "hangUp"}, {type: "clinicLost"}, {type: "leave"}]),
				]);
				const current = !("attempt" in e) || e.attempt === s.attempt;
				const [t, effects] = next(s, e);
				if (t.attempt !== s.attempt) { confirmed = proven = answered = veiled = false; open = true; }
				if (current && e.type === "confirmed" && running(s)) confirmed = true;
				if (current && e.type === "proven" && running(s) && s.call && e.decision !== "busy") { proven = true; answered ||= e.decision === "answered"; }
				let closed = !running(s) && !running(t);
				for (const f of effects) {
					const say = (what) => broken.add(what + ": " + JSON.stringify([s.phase, e, f]));
					if (["post", "connect", "send", "show", "hangUp", "giveUp"].includes(f.do) && e.type !== "started" && !confirmed) say("before it was confirmed");
					if (["connect", "send", "show"].includes(f.do) && !proven) say("before proof");
					if (["connect", "send", "show", "candidate", "confirm", "post", "media"].includes(f.do) && closed) say("after the end");
					if ((f.do === "show" || (f.do === "send" && f.sound)) && !answered) say("before the answer");
					if ((f.do === "show" || f.do === "send") && t.media === "unknown") say("without knowing what there is to send");
					if (f.do === "cover") { if (f.covered === veiled) say("covered twice, or opened twice"); veiled = f.covered; }
					if (f.do === "tellCurtain" && (e.type !== "draw" || t.curtain.mine === s.curtain.mine)) say("a curtain that nobody has touched");
					if (f.do === "close") { if (!open) say("closed twice"); open = false; closed = true; }
				}
				if (running(s) && !running(t) && !effects.some((f) => f.do === "close")) broken.add("not closed: " + JSON.stringify([s, e]));
				if (running(s) && !running(t) && s.call && e.type !== "update" && !(e.type === "proven") && !effects.some((f) => f.do === "hangUp" && f.call === s.call)) broken.add("clinic not told: " + JSON.stringify([s, e]));
				if (running(s) && !running(t) && s.phase === "calling" && !s.call && e.type !== "started" && !(e.type === "notStarted" && e.refused) && !effects.some((f) => f.do === "giveUp")) broken.add("the call may have begun: " + JSON.stringify([s, e]));
				if (running(t) && veiled !== covered(t.curtain)) broken.add("drawn, and not covered: " + JSON.stringify([s, e]));
				if (e.type === "draw" && (t.curtain.theirs !== s.curtain.theirs || t.curtain.closed !== s.curtain.closed)) broken.add("the home's curtain was touched: " + JSON.stringify([s, e]));
				if (e.type === "curtain" && t.curtain.mine !== s.curtain.mine) broken.add("the own curtain was touched: " + JSON.stringify([s, e]));
				if (!running(t) && open) broken.add("left open: " + JSON.stringify([s, e]));
				reached.add(t.phase);
				s = t;
			}
		}
		if (reached.size !== 8) broken.add("only reached " + [...reached]);
		return [...broken].slice(0, 5);
	})()`); len(broken) > 0 {
		t.Errorf("broken:\n%s", strings.Join(broken, "\n"))
	}
}
