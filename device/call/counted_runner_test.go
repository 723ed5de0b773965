package call_test

import (
	"testing"
	"testing/synctest"
	"time"

	"vindu/protocol"
)

// TestCopiedBeforeTheFirstCall: what the authorisation says of a passkey's counter holds for a terminal that has never seen the passkey.
func TestCopiedBeforeTheFirstCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newTerminal(t)
		x.start()
		for counter, want := range map[uint32]protocol.Code{41: protocol.AuthCounter, 42: protocol.AuthCounter} {
			d := x.clinic.Draft(t, time.Now())
			d.Authorisation.Credentials[0].Counter = 42
			x.clinic.Passkey.Counter = counter
			m := d.Message(t)
			x.deliver(m)
			sent := x.sender.Sent()
			if last := sent[len(sent)-1]; last.Refusal != want || last.Call != m.Call {
				t.Errorf("at %d: sent %+v", counter, last)
			}
		}
		d := x.clinic.Draft(t, time.Now())
		d.Authorisation.Credentials[0].Counter = 42
		x.clinic.Passkey.Counter = 43
		x.deliver(d.Message(t))
		equal(t, "answers", x.answers(), []protocol.Decision{protocol.Ringing})
		_ = x.end()
	})
}
