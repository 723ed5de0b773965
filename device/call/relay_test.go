package call_test

import (
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"vindu/device/call/calltest"
	"vindu/protocol"
)

// TestRelays: whoever owns the broker or the clinic's web server can put servers of their own into an invite, which would learn where the home is; the terminal looks for
// a path by none but those that its clinic's authorisation key has signed for, and tells the clinic of the others.
func TestRelays(t *testing.T) {
	const ours, udp, theirs = "turns:clinic.example:443?transport=tcp", "turn:192.0.2.1:3478?transport=udp", "turn:evil.example:3478"
	server := func(urls ...string) protocol.ICEServer {
		return protocol.ICEServer{URLs: urls, Username: "1:u", Credential: "secret"}
	}
	for _, test := range []struct {
		name    string
		known   []string
		offered []protocol.ICEServer
		want    []protocol.ICEServer
		alarm   bool
	}{
		{"the clinic's", []string{udp, ours}, []protocol.ICEServer{server(udp, ours)}, []protocol.ICEServer{server(udp, ours)}, false},
		{"none offered", []string{ours}, nil, nil, false},
		{"another's", []string{ours}, []protocol.ICEServer{server(theirs)}, nil, true},
		{"another's beside the clinic's", []string{ours}, []protocol.ICEServer{server(theirs), server(ours)}, []protocol.ICEServer{server(ours)}, true},
		{"another's within the clinic's", []string{ours}, []protocol.ICEServer{server(ours, theirs)}, []protocol.ICEServer{server(ours)}, true},
		{"the clinic's name on another port", []string{ours}, []protocol.ICEServer{server("turns:clinic.example:4443?transport=tcp")}, nil, true},
		{"none signed for", nil, []protocol.ICEServer{server(ours)}, nil, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				x := newTerminal(t)
				x.relays = test.known
				x.start()
				m, _ := x.clinic.Invite(t, time.Now())
				m.Invite.ICE = test.offered
				x.deliver(m)
				if got := x.session().Offer.ICE; !reflect.DeepEqual(got, test.want) {
					t.Errorf("the session looks for a path by %+v, want %+v", got, test.want)
				}
				notices := calltest.Events[*protocol.Notice](x.outbox)
				if told := len(notices) == 1 && notices[0].Code == protocol.AuthRelay && notices[0].Call == m.Call; told != test.alarm || len(notices) > 1 {
					t.Errorf("notices: %+v, want one: %v", notices, test.alarm)
				}
				_ = x.end()
			})
		})
	}
}
