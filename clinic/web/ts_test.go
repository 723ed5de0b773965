package web

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"vindu/protocol"
)

// modules opens a tab in which the TypeScript modules can be called as vindu.<module>.
func modules(t *testing.T) *tab {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, `<link rel="icon" href="data:,">`)
	}))
	t.Cleanup(server.Close)
	b := newTab(t, string(bundle(t, "ts/testing.ts", "vindu")))
	navigate(b, server.URL)
	return b
}

// What encrypted a call stays on its record when the home, or the clinic, ends it: the browser's last reading is then of a connection that is closed.
func TestCiphersStayOnTheRecord(t *testing.T) {
	got := eval[string](modules(t), `(() => {
		const r = new vindu.record.Recorder();
		const read = (ciphers) => r.read(new Map([["T", {type: "transport", id: "T", ...ciphers}]]));
		read({dtlsCipher: "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", srtpCipher: "AEAD_AES_256_GCM"});
		read({dtlsState: "closed"});
		const {suite, srtp} = r.half("end.terminal_hung_up").crypto;
		return srtp + " " + suite;
	})()`)
	if got != "AEAD_AES_256_GCM TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256" {
		t.Errorf("encrypted by %q", got)
	}
}

// The page grades sound as the terminal does: these are the figures of media/grade's own tests, from G.107 and G.114.
func TestGrade(t *testing.T) {
	got := eval[[]string](modules(t), `[[50, 0], [100, 0], [250, 0], [400, 0], [0, 0.1], [0, 1], [0, 7]].map(([ms, c]) => vindu.grade.rating(ms, c).toFixed(1))
		.concat([-5, 0, 50, 70, 93.2, 100].map((r) => vindu.grade.score(r).toFixed(2)))`)
	if want := "93.2 93.2 84.3 69.1 66.1 17.3 17.3 1.00 1.00 2.58 3.60 4.41 4.50"; strings.Join(got, " ") != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// What the browser counts comes to the figures of a record, second by second.
func TestQualityOnTheRecord(t *testing.T) {
	got := eval[protocol.CallRecord](modules(t), `(() => {
		const now = performance.now.bind(performance);
		let at = 0;
		performance.now = () => at;
		const r = new vindu.record.Recorder();
		r.stage("connected");
		for (let i = 0; i < 4; i++) {
			at = 1000 * i;
			r.read(new Map([
				["T", {type: "transport", id: "T", selectedCandidatePairId: "P", bytesSent: 125000 * i, bytesReceived: 250000 * i}],
				["P", {type: "candidate-pair", id: "P", currentRoundTripTime: 0.04}],
				["C", {type: "codec", id: "C", mimeType: "video/VP8"}], ["D", {type: "codec", id: "D", mimeType: "video/<script>"}],
				["M", {type: "media-source", id: "M", kind: "audio", echoReturnLossEnhancement: 21.4}],
				["V", {type: "inbound-rtp", id: "V", kind: "video", codecId: "C", framesDecoded: 30 * i, freezeCount: i > 1 ? 1 : 0, totalFreezesDuration: i > 1 ? 0.4 : 0}],
				["A", {type: "inbound-rtp", id: "A", kind: "audio", packetsReceived: 50 * i, totalSamplesReceived: 48000 * i, concealedSamples: i > 2 ? 9600 : 0,
					silentConcealedSamples: i > 2 ? 4800 : 0, jitterBufferDelay: 0.06 * 48000 * i, jitterBufferEmittedCount: 48000 * i}],
				["O", {type: "outbound-rtp", id: "O", kind: "video", codecId: "D", framesSent: 30 * i}],
			]));
		}
		performance.now = now;
		return {...r.half("end.caller_hung_up"), began: 1};
	})()`)
	q := got.Quality
	if q.Frozen != 400 || q.Freezes != 1 || q.ERLE != 21 || q.CodecIn != "VP8" || q.CodecOut != "" || q.Grade < 380 || q.Grade > 441 || q.Worst > q.Grade {
		t.Errorf("%+v", q)
	}
	s := got.Series
	if s == nil || fmt.Sprint(s.Frozen, s.Concealed, s.ERLE, s.CPU, s.Heat) != "[0 400 0] [0 0 100] [21 21 21] [] []" || len(s.Grade) != 3 || s.Grade[0] < 430 || s.Grade[2] > 350 {
		t.Errorf("%+v", s)
	}
}

// That the picture stands still is said while sound comes and pictures do not, and neither before the first picture nor when nothing comes at all.
func TestPictureThatStandsStill(t *testing.T) {
	got := eval[string](modules(t), `(async () => {
		const r = new vindu.record.Recorder();
		const said = [];
		for (const [pictures, sounds] of [[0, 0], [0, 50], [30, 100], [60, 150], [60, 200], [60, 200], [60, 250], [61, 300]]) {
			await r.last(Promise.resolve(new Map([
				["V", {type: "inbound-rtp", id: "V", kind: "video", framesDecoded: pictures}],
				["A", {type: "inbound-rtp", id: "A", kind: "audio", packetsReceived: sounds}],
			])), (paused) => said.push(paused ? "still" : "-"));
		}
		return said.join(" ");
	})()`)
	if got != "- - - - still - still -" {
		t.Errorf("said %q", got)
	}
}

type vectors struct {
	Answers []struct {
		Name, Call, SDP, Want, Decision, Key string
	}
	Ends []struct {
		Name, Call, Want, Reason string
		Duration                 int
	}
	Curtains []struct {
		Name, Want string
		Drawn      bool
		Closed     uint64
	}
	CBOR []struct {
		Name string
		OK   bool
	}
	Texts []struct {
		Name, Text string
		OK         bool
	}
}

// What the browser accepts and refuses is what Go does: both are held to the same vectors.
func TestVectors(t *testing.T) {
	raw, err := os.ReadFile("../../protocol/testdata/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var v vectors
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatal(err)
	}
	if len(v.Answers) < 20 || len(v.Ends) < 5 || len(v.Curtains) < 15 || len(v.CBOR) < 20 || len(v.Texts) < 40 {
		t.Fatal("vectors are missing")
	}
	b := modules(t)
	results := eval[struct{ Answers, Ends, Curtains, CBOR, Texts []string }](b, `(async () => {
		const v = `+string(raw)+`;
		const {proof, cose, bytes, cbor, sdp} = vindu;
		const expected = async (x) => ({key: await cose.importKey(x.spki), call: x.call, invitation: bytes.fromBase64(x.invitation)});
		const all = (list, f) => Promise.all(list.map(async (x) => { try { return await f(x) } catch (e) { return e.code ?? e.constructor.name } }));
		return {
			answers: await all(v.answers, async (x) => {
				const a = await proof.proveAnswer(bytes.fromBase64(x.answer), x.sdp, await expected(x));
				return ["ok", a.decision, sdp.spell(a.key)].join(" ");
			}),
			ends: await all(v.ends, async (x) => {
				const e = await proof.proveEnd(bytes.fromBase64(x.end), await expected(x));
				return ["ok", e.reason, e.duration].join(" ");
			}),
			curtains: await all(v.curtains, async (x) => {
				const c = await proof.proveCurtain(bytes.fromBase64(x.curtain), await expected(x), x.after);
				return ["ok", c.drawn, c.closed].join(" ");
			}),
			cbor: await all(v.cbor, async (x) => { cbor.decode(bytes.fromBase64(x.item ?? "")); return "ok" }),
			texts: await all(v.texts, async (x) => "ok " + (await proof.proveAnswer(bytes.fromBase64(x.answer), "", await expected(v.answers[0]))).software),
		};
	})()`)
	for i, a := range v.Answers {
		want := a.Want
		if want == "ok" {
			want = fmt.Sprintf("ok %s %s", a.Decision, a.Key)
		}
		if got := results.Answers[i]; got != want {
			t.Errorf("answer/%s: %s, want %s", a.Name, got, want)
		}
	}
	for i, e := range v.Ends {
		want := e.Want
		if want == "ok" {
			want = fmt.Sprintf("ok %s %d", e.Reason, e.Duration)
		}
		if got := results.Ends[i]; got != want {
			t.Errorf("end/%s: %s, want %s", e.Name, got, want)
		}
	}
	for i, c := range v.Curtains {
		want := c.Want
		if want == "ok" {
			want = fmt.Sprintf("ok %v %d", c.Drawn, c.Closed)
		}
		if got := results.Curtains[i]; got != want {
			t.Errorf("curtain/%s: %s, want %s", c.Name, got, want)
		}
	}
	for i, c := range v.CBOR {
		want := "ok"
		if !c.OK {
			want = "Malformed"
		}
		if got := results.CBOR[i]; got != want {
			// esbuild may rename a class; any refusal will do, but not an acceptance.
			if (got == "ok") != c.OK {
				t.Errorf("cbor/%s: %s, want %s", c.Name, got, want)
			}
		}
	}
	for i, x := range v.Texts {
		want := "proof.answer"
		if x.OK {
			want = "ok " + x.Text
		}
		if got := results.Texts[i]; got != want {
			t.Errorf("text/%s: %q, want %q", x.Name, got, want)
		}
	}
}

// What the browser counts because of a curtain, a long freeze and sound that it made up, is no part of the record.
func TestCurtainIsNoFault(t *testing.T) {
	got := eval[string](modules(t), `(async () => {
		const r = new vindu.record.Recorder();
		r.stage("connected");
		const read = (pictures, freezes, frozen, concealed) => r.last(Promise.resolve(new Map([
			["V", {type: "inbound-rtp", id: "V", kind: "video", framesDecoded: pictures, freezeCount: freezes, totalFreezesDuration: frozen}],
			["A", {type: "inbound-rtp", id: "A", kind: "audio", packetsReceived: pictures, concealedSamples: 48 * concealed}],
		])));
		const said = [];
		const say = () => { const q = r.half("x.y").quality; said.push([q.freezes, q.frozen ?? 0, q.concealed].join(" ")); };
		await read(30, 1, 0.5, 10); say();
		r.cover(true);
		await read(31, 1, 0.5, 900); await read(31, 1, 0.5, 5000); say();
		r.cover(false);
		await read(31, 1, 0.5, 5000); say();
		await read(33, 2, 60.5, 5100); say();
		await read(60, 3, 61.5, 5105); say();
		return said.join(", ");
	})()`)
	if got != "1 500 10, 1 500 10, 1 500 10, 1 500 10, 2 1500 15" {
		t.Errorf("recorded %q", got)
	}
}
