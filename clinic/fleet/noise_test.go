package fleet

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"vindu/protocol"
)

// A terminal gone mad fills neither the audit log nor the other one; another's first message is told all the same.
func TestMalformedMessagesAreToldOnce(t *testing.T) {
	var out bytes.Buffer
	f := &Fleet{log: slog.New(slog.NewTextHandler(&out, nil)), board: newBoard(), shares: newShares(), events: &events{}, work: make(chan work, 16)}
	for i := range 100 {
		f.receive(protocol.OutTopic(protocol.KeyHash{1}, protocol.OutHealth), []byte{0xff}, false)
		if i == 50 {
			f.receive(protocol.OutTopic(protocol.KeyHash{2}, protocol.OutCall), []byte{0xff}, false)
		}
	}
	if n := strings.Count(out.String(), "malformed message refused"); n != 2 {
		t.Errorf("said %d times, want once for each terminal", n)
	}
	if n := len(f.work); n != 2 {
		t.Errorf("%d entries for the audit log, want 2", n)
	}
	if got := f.Counters().Malformed; got != 101 {
		t.Errorf("counted %d, want 101", got)
	}
}
