package call

import (
	"testing"
	"time"

	"vindu/protocol"
)

// TestCountedByTheClinic: a copy of a passkey gets nowhere at a terminal that has lost its memory of calls, or never saw the passkey: the authorisation says how far it had counted.
func TestCountedByTheClinic(t *testing.T) {
	for _, test := range []struct {
		name             string
		here             uint32 // in the terminal's memory; 0: none
		counted, counter uint32
		want             protocol.Code
	}{
		{"new here, further than the clinic knows", 0, 7, 8, ""},
		{"new here, as far as the clinic knows", 0, 7, 7, protocol.AuthCounter},
		{"new here, less far", 0, 7, 3, protocol.AuthCounter},
		{"new here, does not count any more", 0, 7, 0, protocol.AuthCounter},
		{"does not count", 0, 0, 0, ""},
		{"begins to count", 0, 0, 1, ""},
		{"further here than the clinic knows", 9, 7, 10, ""},
		{"between the clinic's and here", 9, 7, 8, protocol.AuthCounter},
		{"between here and the clinic's", 5, 7, 6, protocol.AuthCounter},
		{"further than both", 5, 7, 8, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			now := time.Now().Truncate(time.Millisecond)
			m, err := loadMemory(&document{})
			if err != nil {
				t.Fatal(err)
			}
			if test.here > 0 {
				m.doc.Passkeys = []passkeyCounter{{protocol.Hash{1}, test.here}}
			}
			p := &Proof{
				Invitation: &protocol.Invitation{Nonce: protocol.NewNonce(), Issued: protocol.At(now), Expires: protocol.At(now.Add(time.Minute))},
				Passkey:    protocol.Hash{1}, Counter: test.counter, Counted: test.counted,
			}
			if code, err := m.use(p, time.Time{}, now); code != test.want {
				t.Errorf("%q, %v; want %q", code, err, test.want)
			}
			if n := len(m.doc.Used); (n == 1) != (test.want == "") {
				t.Errorf("%d invitations are noted as used", n)
			}
		})
	}
}
