package call

import (
	"strings"
	"testing"

	"vindu/protocol"
)

func TestCheckFingerprint(t *testing.T) {
	want := protocol.Fingerprint{1, 2, 3}
	good, other := want.String(), protocol.Fingerprint{4}.String()
	for _, test := range []struct {
		name, offer string
		ok          bool
	}{
		{"session level", "v=0\r\na=fingerprint:sha-256 " + good + "\r\nm=audio 9\r\n", true},
		{"each section", "v=0\r\nm=audio 9\r\na=fingerprint:sha-256 " + good + "\r\nm=video 9\r\na=fingerprint:sha-256 " + good, true},
		{"lower case and LF", "a=fingerprint:SHA-256 " + strings.ToLower(good) + "\n", true},
		{"none", "v=0\r\nm=audio 9\r\n", false},
		{"another", "a=fingerprint:sha-256 " + other, false},
		{"another beside the right one", "a=fingerprint:sha-256 " + good + "\r\na=fingerprint:sha-256 " + other, false},
		{"another hash beside the right one", "a=fingerprint:sha-256 " + good + "\r\na=fingerprint:sha-1 AB:CD", false},
		{"cut short", "a=fingerprint:sha-256 " + good[:20], false},
		{"empty", "", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			if err := checkFingerprint(protocol.SDP(test.offer), want); (err == nil) != test.ok {
				t.Errorf("got %v", err)
			}
		})
	}
}

func FuzzCheckFingerprint(f *testing.F) {
	want := protocol.Fingerprint{1, 2, 3}
	f.Add("a=fingerprint:sha-256 " + want.String() + "\r\n")
	f.Add("a=fingerprint:sha-1 00\r\na=fingerprint:")
	f.Fuzz(func(t *testing.T, offer string) {
		if checkFingerprint(protocol.SDP(offer), want) == nil && !strings.Contains(strings.ToUpper(offer), want.String()) {
			t.Fatal("accepted an offer that does not name the certificate")
		}
	})
}
