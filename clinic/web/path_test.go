package web

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"vindu/protocol"
)

// What the page says of a path holds no address, and its series is the terminal's.
func TestPathAndSeries(t *testing.T) {
	b := modules(t)
	networks := eval[[]string](b, `["10.1.2.3", "172.31.0.1", "172.32.0.1", "192.168.1.1", "100.64.0.1", "127.0.0.1", "169.254.1.1", "203.0.113.7", "::1", "fe80::1", "fd00::1", "2001:db8::1",
		"9f7e0e4c-1.local", "", null, "clinic.example"].map((a) => vindu.path.network(a))`)
	want := []string{"v4.private", "v4.private", "v4.public", "v4.private", "v4.shared", "v4.local", "v4.local", "v4.public", "v6.local", "v6.local", "v6.private", "v6.public", "hidden", "hidden", "hidden", "unknown"}
	if !reflect.DeepEqual(networks, want) {
		t.Errorf("%q, want %q", networks, want)
	}
	said := eval[string](b, `(() => {
		const p = new vindu.path.Path();
		p.read([
			{type: "local-candidate", id: "L", candidateType: "relay", address: "203.0.113.7", port: 4711, protocol: "udp", relayProtocol: "tls", url: "turns:clinic.example"},
			{type: "remote-candidate", id: "R", candidateType: "srflx", address: "2001:db8::99", protocol: "udp"},
			{type: "candidate-pair", id: "P", localCandidateId: "L", remoteCandidateId: "R", state: "failed", requestsSent: 7, responsesReceived: 0, requestsReceived: 2},
		]);
		p.failed("turn:203.0.113.7:3478?transport=udp", 401);
		p.failed("turn:203.0.113.7:3478?transport=udp", 401);
		p.failed("stun:203.0.113.7", 0);
		return JSON.stringify([p.tried(), p.gather()]);
	})()`)
	if want := `[[{"local":{"kind":"relay","network":"v4.public","transport":"tls"},"remote":{"kind":"srflx","network":"v6.public","transport":"udp"},"state":"failed","asked":7,"answered":0,"heard":2}],[{"way":"udp","code":401}]]`; said != want {
		t.Errorf("%s, want %s", said, want)
	}
	for _, secret := range []string{"203.0.113", "2001:db8", "4711", "clinic.example"} {
		if strings.Contains(said, secret) {
			t.Errorf("%q is told", secret)
		}
	}
	for _, seconds := range []int{1, 240, 241, 1000} {
		var a protocol.Sampler
		for i := range uint64(seconds) {
			a.Add(protocol.Sample{RTT: i % 97, Loss: i % 89, Jitter: i % 83, Out: i % 79, In: i % 73, Frames: i % 31, Frozen: i * 7, Grade: i * i % 450})
		}
		got := eval[protocol.Series](b, fmt.Sprintf(`(() => {
			const s = new vindu.series.Sampler();
			for (let i = 0; i < %d; i++) s.add({rtt: i %% 97, loss: i %% 89, jitter: i %% 83, out: i %% 79, in: i %% 73, frames: i %% 31, frozen: i * 7, concealed: 0, grade: i * i %% 450, erle: 0});
			return s.result();
		})()`, seconds))
		if want := a.Series(); !reflect.DeepEqual(&got, want) {
			t.Errorf("%d s: page and terminal differ: %+v, want %+v", seconds, got, *want)
		}
	}
}
