package fleet

import (
	"bytes"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"vindu/protocol"
)

// A terminal that sends without end is in nobody's way: another's event and call message find their places, its events count as whole, and the log stays
// short.
func TestOneTerminalFillsNoQueue(t *testing.T) {
	var log bytes.Buffer
	sign := func(*protocol.Ack) ([]byte, error) { return nil, errors.New("nobody is connected") }
	f, err := New(t.Context(), Config{Store: openStore(t, filepath.Join(t.TempDir(), "clinic.db")), SignAck: sign}, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	hostile, honest := protocol.KeyHash{6}, protocol.KeyHash{7}
	call := encode(t, &protocol.CallOut{Version: protocol.Version, Call: protocol.NewCallID(), Kind: protocol.KindRefusal, Refusal: protocol.AuthExpired})
	e := encode(t, event(t, first, 1))
	flood := func() {
		for range 2 * workQueue {
			f.receive(protocol.OutTopic(hostile, protocol.OutEvent), e, false)
			f.receive(protocol.OutTopic(hostile, protocol.OutCall), call, false)
		}
	}
	flood()
	before := f.unbrokenOf(honest)
	waiting, messages := len(f.work), len(f.messages)
	f.receive(protocol.OutTopic(honest, protocol.OutEvent), e, false)
	f.receive(protocol.OutTopic(honest, protocol.OutCall), call, false)
	if len(f.work) != waiting+1 || len(f.messages) != messages+1 {
		t.Errorf("%d events and %d call messages of one terminal leave no place for another's", waiting, messages)
	}
	flood()
	if f.unbrokenOf(honest) != before {
		t.Error("what is missed of one terminal is missed of another")
	}
	if n := strings.Count(log.String(), "dropped"); n == 0 || n > 100 {
		t.Errorf("%d lines in the log", n)
	}
	// Stored, they make room.
	var batch []work
	for len(f.work) > 0 {
		batch = append(batch, <-f.work)
	}
	f.storeBatch(t.Context(), batch)
	if len(f.shares.waiting) != 0 {
		t.Errorf("places that are not given back: %v", f.shares.waiting)
	}
}
