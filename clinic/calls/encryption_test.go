package calls

import (
	"context"
	"database/sql"
	"strings"
	"testing"

	"vindu/protocol"
)

// TestEncryption: a call that was not encrypted as it has to be is an alarm (R8), whichever end tells.
func TestEncryption(t *testing.T) {
	good := protocol.Crypto{Suite: "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", SRTP: "AEAD_AES_256_GCM"}
	for name, c := range map[string]struct {
		change func(*protocol.CallRecord)
		by     protocol.Side
		want   string
	}{
		"as it has to be":              {func(*protocol.CallRecord) {}, protocol.SideTerminal, ""},
		"as the caller tells":          {func(*protocol.CallRecord) {}, protocol.SideCaller, ""},
		"the caller tells nothing":     {func(r *protocol.CallRecord) { r.Crypto = protocol.Crypto{} }, protocol.SideCaller, ""},
		"nothing, nothing was open":    {func(r *protocol.CallRecord) { r.Crypto, r.CameraOpen = protocol.Crypto{}, 0 }, protocol.SideTerminal, ""},
		"nothing, with an open camera": {func(r *protocol.CallRecord) { r.Crypto = protocol.Crypto{} }, protocol.SideTerminal, "no encryption is told"},
		"another profile":              {func(r *protocol.CallRecord) { r.Crypto.SRTP = "AES128_CM_HMAC_SHA1_80" }, protocol.SideTerminal, "AES128_CM_HMAC_SHA1_80"},
		"another profile, at the page": {func(r *protocol.CallRecord) { r.Crypto.SRTP = "AES128_CM_HMAC_SHA1_80" }, protocol.SideCaller, "as the caller tells"},
		"another suite":                {func(r *protocol.CallRecord) { r.Crypto.Suite = "TLS_RSA_WITH_NULL_SHA" }, protocol.SideTerminal, "TLS_RSA_WITH_NULL_SHA"},
		"somebody else":                {func(r *protocol.CallRecord) { r.Crypto.Remote[3] ^= 1 }, protocol.SideTerminal, "another certificate"},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				var raised []string
				w.records.Alarm = func(_ context.Context, _ *sql.Tx, code protocol.Code, terminal protocol.KeyHash, detail string) (bool, error) {
					if terminal != w.terminal || code != protocol.DTLSWeak {
						t.Errorf("%s about %v", code, terminal)
					}
					raised = append(raised, detail)
					return true, nil
				}
				s := w.talk(t)
				inv := new(protocol.Invitation)
				if err := protocol.Decode(s.Invitation, inv); err != nil {
					t.Fatal(err)
				}
				half := &protocol.CallRecord{Version: 1, Call: s.Call, By: c.by, Began: 1, Outcome: protocol.EndCallerHungUp, Crypto: good, CameraOpen: 5}
				half.Crypto.Remote = inv.Caller
				c.change(half)
				if c.by == protocol.SideCaller {
					half.CameraOpen = 0
					if err := w.Report(context.Background(), person, s.Call, half); err != nil {
						t.Fatal(err)
					}
				} else {
					w.report(t, half)
					w.report(t, half)
				}
				if (c.want == "") != (len(raised) == 0) || len(raised) > 1 || c.want != "" && !strings.Contains(raised[0], c.want) {
					t.Errorf("raised %q, want %q", raised, c.want)
				}
			})
		})
	}
}
