package outbox

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"vindu/protocol"
)

// event is how a clinic tells events apart.
type event struct {
	epoch protocol.Nonce
	seq   uint64
}

// TestDelivery runs the outbox against a clinic over a line that loses, doubles and delays messages in both
// directions, with restarts of the terminal and of the connection at random. In the end the clinic has each event exactly once.
func TestDelivery(t *testing.T) {
	kinds := []string{protocol.EventOpening, protocol.EventNotice, protocol.EventEnd, protocol.EventCall}
	rapid.Check(t, func(r *rapid.T) {
		b := newBox(t, true)
		defer b.close()
		committed := map[event]string{} // at the clinic
		var appended []string
		var toClinic []protocol.Event
		var toTerminal []protocol.Ack
		send := func() {
			if e := b.next(0); e != nil {
				toClinic = append(toClinic, *e)
			}
		}
		receive := func(e protocol.Event, answer bool) {
			id := event{e.Epoch, e.Seq}
			if had, again := committed[id]; again && had != string(e.Body) {
				r.Fatalf("event %d came with another content", e.Seq)
			}
			committed[id] = string(e.Body)
			if answer {
				toTerminal = append(toTerminal, protocol.Ack{Version: 1, Epoch: e.Epoch, Seq: e.Seq})
			}
		}
		acknowledge := func(a protocol.Ack) {
			if _, err := b.Ack(a); err != nil {
				r.Fatal(err)
			}
		}
		for range rapid.IntRange(1, 60).Draw(r, "steps") {
			switch rapid.SampledFrom([]string{"append", "append", "send", "send", "deliver", "deliver", "lose", "double", "ack", "ack", "lose ack", "late ack", "restart", "reconnect"}).Draw(r, "step") {
			case "append":
				kind := rapid.SampledFrom(kinds).Draw(r, "kind")
				body := encode(t, kind, len(appended))
				if err := b.Append(kind, body); err != nil {
					r.Fatal(err)
				}
				appended = append(appended, string(body))
			case "send":
				send()
			case "deliver":
				if len(toClinic) > 0 {
					receive(toClinic[0], true)
					toClinic = toClinic[1:]
				}
			case "lose":
				if len(toClinic) > 0 {
					toClinic = toClinic[1:]
				}
			case "double":
				if len(toClinic) > 0 {
					receive(toClinic[0], true)
				}
			case "ack":
				if len(toTerminal) > 0 {
					acknowledge(toTerminal[0])
					toTerminal = toTerminal[1:]
				}
			case "lose ack":
				if len(toTerminal) > 0 {
					toTerminal = toTerminal[1:]
				}
			case "late ack":
				if len(toTerminal) > 0 {
					acknowledge(toTerminal[len(toTerminal)-1])
				}
			case "restart":
				b.close()
				b.open()
			case "reconnect":
				toClinic, toTerminal = nil, nil
			}
		}
		for b.Status().Pending > 0 {
			send()
			receive(toClinic[len(toClinic)-1], true)
			acknowledge(toTerminal[len(toTerminal)-1])
		}
		var epoch protocol.Nonce
		for id := range committed {
			epoch = id.epoch
		}
		if len(committed) != len(appended) {
			r.Fatalf("the clinic has %d events of %d", len(committed), len(appended))
		}
		for i, body := range appended {
			if committed[event{epoch, uint64(i + 1)}] != body {
				r.Fatal(fmt.Sprintf("event %d is not what was appended as number %d", i+1, i+1))
			}
		}
	})
}
