package enrol

import (
	"bytes"
	"errors"
	"net/http"
	"reflect"
	"testing"

	"vindu/clinic/register"
	"vindu/protocol"
)

var servers = []protocol.ICEServer{{URLs: []string{"turn:192.0.2.1:3478?transport=udp"}, Username: "u", Credential: "p"}}

// What the robot says depends on the call that is asked for.
var (
	callRuns  = protocol.CallID{1}
	callOther = protocol.CallID{2} // there is another
	callFails = protocol.CallID{3}
)

func robot(t register.Terminal, id protocol.CallID, path string) (*protocol.TestCall, error) {
	if path == protocol.RelayedPath {
		return &protocol.TestCall{Version: 1, Call: id, Pictures: 7}, nil
	}
	switch id {
	case callOther:
		return nil, protocol.WithCode(protocol.LinkTooMany, errors.New("there is another"))
	case callFails:
		return nil, errors.New("disk full")
	}
	return &protocol.TestCall{Version: 1, Call: id, Pictures: uint64(len(t.HomeLabel))}, nil
}

func TestRelay(t *testing.T) {
	c := start(t)
	key, chain := c.enrolled(t)
	a := do(t, c.client(t, key, chain...), "GET", c.url+protocol.PathRelay, nil, "", nil)
	got := new(protocol.RelayServers)
	if err := protocol.Decode([]byte(a.body), got); a.status != http.StatusOK || err != nil || !reflect.DeepEqual(got.Servers, servers) {
		t.Errorf("%d, %v: %+v", a.status, err, got)
	}
	if a := do(t, c.client(t, nil), "GET", c.url+protocol.PathRelay, nil, "", nil); a.status != http.StatusForbidden || a.code != protocol.IdentityNone {
		t.Errorf("a stranger: %d %s", a.status, a.code)
	}
}

func TestTestCall(t *testing.T) {
	c := start(t)
	key, chain := c.enrolled(t)
	own := c.client(t, key, chain...)
	ask := func(id protocol.CallID) []byte {
		b, err := protocol.Encode(&protocol.TestCallRequest{Version: 1, Call: id})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	a := do(t, own, "POST", c.url+protocol.PathTestCall, nil, "application/cbor", ask(callRuns))
	got := new(protocol.TestCall)
	if err := protocol.Decode([]byte(a.body), got); a.status != http.StatusOK || err != nil || got.Call != callRuns || got.Pictures != uint64(len("Home 17, Storgata")) {
		t.Errorf("%d, %v: %+v", a.status, err, got)
	}
	rehearsal, err := protocol.Encode(&protocol.TestCallRequest{Version: 1, Call: callRuns, Path: protocol.RelayedPath})
	if err != nil {
		t.Fatal(err)
	}
	a = do(t, own, "POST", c.url+protocol.PathTestCall, nil, "application/cbor", rehearsal)
	if err := protocol.Decode([]byte(a.body), got); err != nil || got.Pictures != 7 {
		t.Errorf("by the relay: %v: %+v", err, got)
	}
	for _, test := range []struct {
		name   string
		client *http.Client
		body   []byte
		status int
		code   protocol.Code
	}{
		{"a stranger", c.client(t, nil), ask(callRuns), http.StatusForbidden, protocol.IdentityNone},
		{"another runs", own, ask(callOther), http.StatusTooManyRequests, protocol.LinkTooMany},
		{"the clinic cannot", own, ask(callFails), http.StatusServiceUnavailable, protocol.LinkClinicFailed},
		{"nothing", own, nil, http.StatusBadRequest, protocol.SignalMalformed},
		{"garbage", own, []byte("ring me"), http.StatusBadRequest, protocol.SignalMalformed},
		{"too much", own, bytes.Repeat([]byte{0}, maxQuestion+1), http.StatusBadRequest, protocol.SignalMalformed},
	} {
		t.Run(test.name, func(t *testing.T) {
			if a := do(t, test.client, "POST", c.url+protocol.PathTestCall, nil, "application/cbor", test.body); a.status != test.status || a.code != test.code {
				t.Errorf("%d %s: %s", a.status, a.code, a.body)
			}
		})
	}
	if err := c.Register.Revoke(t.Context(), "Kari", mustHash(t, key), "lost"); err != nil {
		t.Fatal(err)
	}
	if a := do(t, own, "POST", c.url+protocol.PathTestCall, nil, "application/cbor", ask(callRuns)); a.status != http.StatusForbidden || a.code != protocol.LinkRefused {
		t.Errorf("a revoked terminal: %d %s", a.status, a.code)
	}
}
