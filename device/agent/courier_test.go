package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"vindu/device/identity"
	"vindu/device/outbox"
	"vindu/device/state"
	"vindu/protocol"
)

// desk is a clinic's end of reports by HTTPS.
type desk struct {
	fails   bool
	loses   bool // it commits, and its answer is lost
	reports []time.Time
	health  int
	got     map[uint64]int
}

func (d *desk) Report(_ context.Context, _ *identity.Grant, r *protocol.Report) ([]protocol.Ack, error) {
	if _, err := protocol.Encode(r); err != nil {
		return nil, err
	}
	d.reports = append(d.reports, time.Now())
	if d.fails {
		return nil, errors.New("no way")
	}
	if r.Health != nil {
		d.health++
	}
	ack := protocol.Ack{Version: protocol.Version}
	for _, e := range r.Events {
		d.got[e.Seq]++
		ack.Epoch, ack.Seq = e.Epoch, e.Seq
	}
	if d.loses {
		return nil, errors.New("the answer is lost")
	}
	if ack.Seq == 0 {
		return nil, nil
	}
	return []protocol.Ack{ack}, nil
}

// TestCourier: when the broker has been away for five minutes all that waits goes by HTTPS, once, and not before; and nothing goes that way when it is back.
func TestCourier(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir, err := state.Open(filepath.Join(t.TempDir(), "state"))
		if err != nil {
			t.Fatal(err)
		}
		defer dir.Close()
		box, err := outbox.Open(dir, 1<<20, time.Now, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		defer box.Close()
		add := func(n int) {
			for i := range n {
				body, err := protocol.Encode(&protocol.Notice{Version: 1, Code: protocol.PowerRestarted, At: 5, Detail: fmt.Sprint(i)})
				if err == nil {
					err = box.Append(protocol.EventNotice, body)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
		}
		d := &desk{got: map[uint64]int{}}
		up := true
		c := &courier{up: func() bool { return up }, grant: func() *identity.Grant { return nil }, outbox: box, to: d, said: func(string, ...any) {},
			health: func() *protocol.Health {
				none := protocol.DeviceState{Kind: "none"}
				return &protocol.Health{Version: 1, At: protocol.At(time.Now()), Software: "x", Camera: none, Microphone: none, Speaker: none, Screen: none, Conditions: []protocol.Condition{}}
			}}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- c.run(ctx) }()
		<-time.After(time.Hour)
		add(200)
		synctest.Wait()
		if len(d.reports) != 0 {
			t.Error("told by https while the broker was there")
		}
		up = false
		down := time.Now()
		<-time.After(courierAfter - courierLook)
		synctest.Wait()
		if len(d.reports) != 0 {
			t.Errorf("told after %v", time.Since(down))
		}
		<-time.After(3 * courierLook)
		synctest.Wait()
		if len(d.got) != 200 || d.health != 1 || box.Status().Pending != 0 {
			t.Errorf("%d events, %d times health, %d left", len(d.got), d.health, box.Status().Pending)
		}
		for seq, n := range d.got {
			if n != 1 {
				t.Errorf("event %d came %d times", seq, n)
			}
		}
		// An answer that is lost: the same comes again, by the same numbers, and no other.
		add(3)
		d.loses = true
		<-time.After(10 * time.Minute)
		d.loses = false
		<-time.After(time.Hour)
		synctest.Wait()
		if len(d.got) != 203 || d.got[201] < 2 || box.Status().Pending != 0 {
			t.Errorf("%d events, the lost one %d times, %d left", len(d.got), d.got[201], box.Status().Pending)
		}
		// A clinic that is away altogether is not asked more often than it can bear.
		d.fails = true
		before := len(d.reports)
		<-time.After(10 * time.Hour)
		synctest.Wait()
		if n := len(d.reports) - before; n < 15 || n > 60 {
			t.Errorf("asked %d times in ten hours", n)
		}
		d.fails, up = false, true
		<-time.After(5 * time.Minute)
		synctest.Wait()
		before = len(d.reports)
		<-time.After(time.Hour)
		synctest.Wait()
		if len(d.reports) != before {
			t.Error("told by https although the broker is back")
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
