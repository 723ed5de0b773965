package peer

import (
	"slices"
	"testing"

	"github.com/pion/webrtc/v4"
)

func TestNetwork(t *testing.T) {
	for address, want := range map[string]string{
		"10.1.2.3": "v4.private", "172.16.0.1": "v4.private", "172.32.0.1": "v4.public", "192.168.1.1": "v4.private", "100.64.0.1": "v4.shared",
		"100.128.0.1": "v4.public", "127.0.0.1": "v4.local", "169.254.1.1": "v4.local", "8.8.8.8": "v4.public", "::ffff:10.0.0.1": "v4.private",
		"::1": "v6.local", "fe80::1": "v6.local", "fe80::1%eth0": "v6.local", "fd00::1": "v6.private", "2001:db8::1": "v6.public",
		"9f7e0e4c.local": "hidden", "": "unknown", "example.org": "unknown",
	} {
		if got := network(address); got != want {
			t.Errorf("%q: %q, want %q", address, got, want)
		}
	}
}

func TestEndTellsNoAddress(t *testing.T) {
	got := end(webrtc.ICECandidateStats{IP: "203.0.113.7", Port: 4711, CandidateType: webrtc.ICECandidateTypeRelay, Protocol: "udp", RelayProtocol: "tls", URL: "turns:clinic.example"})
	if want := (End{"relay", "v4.public", "tls"}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if kinds := []string{"v4.public", "relay", "tls"}; !slices.Contains(kinds, got.Network) {
		t.Errorf("%+v", got)
	}
}
