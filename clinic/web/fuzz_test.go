package web

import (
	"net/http/httptest"
	"strings"
	"testing"

	"vindu/protocol"
)

// FuzzRecord feeds the browser's half of a record: whatever is accepted can be kept, that is encoded.
func FuzzRecord(f *testing.F) {
	f.Add(`{"version":1,"by":"caller","began":1760000000000,"outcome":"end.caller_hung_up","duration":61500,"stages":[{"stage":"invited","after":31}],
		"crypto":{"suite":"x","srtp":"AEAD_AES_256_GCM"},"local_path":"host","remote_path":"relay","camera":"browser","sound":"browser",
		"quality":{"rtt":24},"camera_open":1,"camera_closed":2,"microphone_open":1,"microphone_closed":2}`)
	f.Add(`{"version":1,"by":"caller","began":1,"outcome":"browser.permission_denied"}{}`)
	f.Add(`{"version":1e400}`)
	f.Add(`[]`)
	f.Fuzz(func(t *testing.T, body string) {
		half := new(protocol.CallRecord)
		r := httptest.NewRequest("POST", "/", strings.NewReader(body))
		if read(httptest.NewRecorder(), r, half) != nil {
			return
		}
		half.Call = protocol.CallID{1}
		if half.Validate() != nil {
			return
		}
		b, err := protocol.Encode(half)
		if err != nil {
			t.Fatalf("accepted, but cannot be kept: %v", err)
		}
		if err := protocol.Decode(b, new(protocol.CallRecord)); err != nil {
			t.Fatal(err)
		}
	})
}
