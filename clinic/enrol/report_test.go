package enrol

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"testing"

	"vindu/protocol"
)

// TestReport: a terminal tells over its own mutual TLS what it cannot tell over MQTT, as itself and nobody else.
func TestReport(t *testing.T) {
	c := start(t)
	var from protocol.KeyHash
	var got *protocol.Report
	fails := error(nil)
	c.Report = func(_ context.Context, terminal protocol.KeyHash, r *protocol.Report) ([][]byte, error) {
		from, got = terminal, r
		return [][]byte{{byte(r.Events[0].Seq)}}, fails
	}
	c.Server.handle("POST "+protocol.PathReport, c.Server.report)
	key, chain := c.enrolled(t)
	body, err := protocol.Encode(&protocol.Notice{Version: 1, Code: protocol.PowerRestarted, At: 5})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := protocol.Encode(&protocol.Report{Version: 1, Events: []protocol.Event{{Version: 1, Epoch: protocol.Nonce{1}, Seq: 7, At: 5, Kind: protocol.EventNotice, Body: body}}})
	if err != nil {
		t.Fatal(err)
	}
	own := c.client(t, key, chain...)
	a := do(t, own, "POST", c.url+protocol.PathReport, nil, "application/cbor", raw)
	answer := new(protocol.Reported)
	if err := protocol.Decode([]byte(a.body), answer); a.status != http.StatusOK || err != nil || len(answer.Acks) != 1 || !bytes.Equal(answer.Acks[0], []byte{7}) {
		t.Errorf("%d, %v: %+v", a.status, err, answer)
	}
	if from != mustHash(t, key) || got == nil || len(got.Events) != 1 {
		t.Errorf("from %x: %+v", from, got)
	}
	got = nil
	for name, x := range map[string]struct {
		client *http.Client
		body   []byte
		status int
	}{
		"a stranger": {c.client(t, nil), raw, http.StatusForbidden},
		"no report":  {own, []byte("x"), http.StatusBadRequest},
		"too large":  {own, make([]byte, protocol.MaxMessage+1), http.StatusBadRequest},
	} {
		if a := do(t, x.client, "POST", c.url+protocol.PathReport, nil, "application/cbor", x.body); a.status != x.status || got != nil {
			t.Errorf("%s: %d, %+v", name, a.status, got)
		}
	}
	fails = errors.New("disk full")
	if a := do(t, own, "POST", c.url+protocol.PathReport, nil, "application/cbor", raw); a.status != http.StatusServiceUnavailable {
		t.Errorf("not stored: %d", a.status)
	}
}
