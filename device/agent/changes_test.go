package agent

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"vindu/device/outbox"
	"vindu/device/state"
	"vindu/protocol"
)

// changeOf is the beginning, or with until the end, of a condition.
func changeOf(code protocol.Code, since, until int64) protocol.ConditionChange {
	return protocol.ConditionChange{Version: protocol.Version, Code: code, Since: protocol.Time(since), Until: protocol.Time(until)}
}

// drain takes all that waits.
func drain(c *changes) (list []protocol.ConditionChange) {
	for {
		x, ok := c.next()
		if !ok {
			return list
		}
		list = append(list, x)
	}
}

// TestChangesLeaveNothingWrong: whatever comes and goes while nothing can be written, what was written and waits leads to what holds, in the order in which it happened; each beginning
// and end that does not wait was counted; and there are never too many.
func TestChangesLeaveNothingWrong(t *testing.T) {
	if changesQueue <= 2*len(protocol.Register) {
		t.Fatalf("a queue of %d can be full of conditions that have not come and gone: there are %d codes", changesQueue, len(protocol.Register))
	}
	const seed = 6
	random := rand.New(rand.NewPCG(seed, seed))
	c, since, began := newChanges(), map[protocol.Code]int64{}, 0
	for now := int64(1); now <= 20*changesQueue; now++ {
		code := protocol.Register[random.IntN(len(protocol.Register))].Code
		if random.IntN(4) == 0 { // one that flaps
			code = protocol.EgressUDP
		}
		if from, holds := since[code]; holds {
			c.add(changeOf(code, from, now))
			delete(since, code)
		} else {
			c.add(changeOf(code, now, 0))
			since[code] = now
		}
		began++
		if len(c.waiting) > changesQueue {
			t.Fatalf("%d wait", len(c.waiting))
		}
	}
	kept := drain(c)
	if int(c.lost())+len(kept) != began || c.lost() == 0 || c.lost()%2 != 0 {
		t.Errorf("%d were kept and %d dropped of %d", len(kept), c.lost(), began)
	}
	holds, last := map[protocol.Code]int64{}, int64(0)
	for _, x := range kept {
		at := int64(max(x.Since, x.Until))
		if at <= last {
			t.Fatalf("%+v comes after what happened at %d", x, last)
		}
		last = at
		if x.Until == 0 {
			if _, already := holds[x.Code]; already {
				t.Fatalf("%+v begins while it holds", x)
			}
			holds[x.Code] = int64(x.Since)
			continue
		}
		if holds[x.Code] != int64(x.Since) {
			t.Fatalf("%+v ends what does not hold", x)
		}
		delete(holds, x.Code)
	}
	if len(holds) != len(since) {
		t.Errorf("%d hold by what was kept, and %d do", len(holds), len(since))
	}
	for code, from := range since {
		if holds[code] != from {
			t.Errorf("%s holds since %d by what was kept, and since %d", code, holds[code], from)
		}
	}
}

// TestChangesOfNoRegister: codes that the register does not have cannot fill the memory either.
func TestChangesOfNoRegister(t *testing.T) {
	c := newChanges()
	for i := range int64(2 * changesQueue) {
		c.add(changeOf(protocol.Code("x."+string(rune('a'+i%26))+string(rune('a'+i/26%26))+string(rune('a'+i/676))), i+1, 0))
	}
	if kept := drain(c); len(kept) != changesQueue || c.lost() != changesQueue || int64(kept[0].Since) != changesQueue+1 {
		t.Errorf("%d wait, from %d on, and %d were dropped", len(kept), kept[0].Since, c.lost())
	}
}

// TestLostChangesAreTold: a beginning and an end that the queue has cost, and what the outbox does not take, are in the number that the clinic is told; the rest is in the outbox.
func TestLostChangesAreTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir, err := state.Open(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		defer dir.Close()
		box, err := outbox.Open(dir, outbox.DefaultLimit, time.Now, quietLog)
		if err != nil {
			t.Fatal(err)
		}
		defer box.Close()
		said := new(lockedBuffer)
		x := &terminal{a: &Agent{log: slog.New(slog.NewTextHandler(said, nil))}, outbox: box, changes: newChanges()}
		for i := range int64(changesQueue/2 + 1) { // it flaps while nothing is written
			x.conditionChanged(changeOf(protocol.EgressUDP, 2*i+1, 0))
			x.conditionChanged(changeOf(protocol.EgressUDP, 2*i+1, 2*i+2))
		}
		if got := x.droppedEvents(); got != 2 {
			t.Errorf("%d are told as dropped", got)
		}
		if !strings.Contains(said.String(), string(protocol.EgressUDP)) {
			t.Errorf("the log says nothing of it: %s", said)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- x.reportChanges(ctx) }()
		synctest.Wait()
		x.conditionChanged(protocol.ConditionChange{Version: protocol.Version, Code: protocol.EgressUDP}) // since never: the outbox takes no such thing
		synctest.Wait()
		if s := box.Status(); s.Pending != changesQueue || s.Dropped != 0 {
			t.Errorf("in the outbox: %+v", s)
		}
		if got := x.droppedEvents(); got != 3 {
			t.Errorf("%d are told as dropped after one that the outbox did not take", got)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
