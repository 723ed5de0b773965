package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"vindu/device/identity"
	"vindu/device/identity/identitytest"
	"vindu/device/outbox"
	"vindu/device/state"
	"vindu/protocol"
)

// courierSelf is the terminal that tells.
var courierSelf = protocol.KeyHash{7}

// desk is a clinic's end of reports by HTTPS.
type desk struct {
	fails, loses atomic.Bool // loses: it commits, and its answer is lost
	lies         atomic.Bool // somebody else answers, who has committed nothing
	clinic       *identitytest.Clinic

	mu      sync.Mutex
	reports int
	health  int
	got     map[uint64]int
}

// counts returns how many reports and messages of health came, and how often each event.
func (d *desk) counts() (reports, health int, got map[uint64]int) {
	synctest.Wait()
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.reports, d.health, maps.Clone(d.got)
}

func (d *desk) Report(_ context.Context, _ *identity.Grant, r *protocol.Report) ([][]byte, error) {
	if _, err := protocol.Encode(r); err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.reports++
	if d.fails.Load() {
		return nil, errors.New("no way")
	}
	if r.Health != nil {
		d.health++
	}
	var epoch protocol.Nonce
	var last uint64
	for _, e := range r.Events {
		d.got[e.Seq]++
		epoch, last = e.Epoch, e.Seq
	}
	if d.loses.Load() {
		return nil, errors.New("the answer is lost")
	}
	if last == 0 {
		return nil, nil
	}
	by := *d.clinic
	if d.lies.Load() {
		by.Service = by.Authority
	}
	return [][]byte{by.Ack(courierSelf, epoch, last)}, nil
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
		d := &desk{got: map[uint64]int{}, clinic: identitytest.New(t, time.Now)}
		refused := 0
		var up atomic.Bool
		up.Store(true)
		c := &courier{up: up.Load, grant: func() *identity.Grant { return nil }, outbox: box, to: d, said: func(string, ...any) {},
			self: func() protocol.KeyHash { return courierSelf }, service: d.clinic.Services, refused: func(error) { refused++ },
			health: func() *protocol.Health {
				none := protocol.DeviceState{Kind: "none"}
				return &protocol.Health{Version: 1, At: protocol.At(time.Now()), Software: "x", Camera: none, Microphone: none, Speaker: none, Screen: none, Conditions: []protocol.Condition{}}
			}}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- c.run(ctx) }()
		<-time.After(time.Hour)
		add(200)
		if n, _, _ := d.counts(); n != 0 {
			t.Error("told by https while the broker was there")
		}
		up.Store(false)
		down := time.Now()
		<-time.After(courierAfter - courierAfter/courierLooks)
		if n, _, _ := d.counts(); n != 0 {
			t.Errorf("told after %v", time.Since(down))
		}
		<-time.After(3 * courierAfter / courierLooks)
		_, health, got := d.counts()
		if len(got) != 200 || health != 1 || box.Status().Pending != 0 {
			t.Errorf("%d events, %d times health, %d left", len(got), health, box.Status().Pending)
		}
		for seq, n := range got {
			if n != 1 {
				t.Errorf("event %d came %d times", seq, n)
			}
		}
		// An answer that is lost: the same comes again, by the same numbers, and no other.
		add(3)
		d.loses.Store(true)
		<-time.After(10 * time.Minute)
		d.loses.Store(false)
		<-time.After(time.Hour)
		before, _, got := d.counts()
		if len(got) != 203 || got[201] < 2 || box.Status().Pending != 0 {
			t.Errorf("%d events, the lost one %d times, %d left", len(got), got[201], box.Status().Pending)
		}
		if refused != 0 {
			t.Errorf("%d of the clinic's acknowledgements were refused", refused)
		}
		// One that is not the clinic's: nothing is forgotten.
		add(1)
		d.lies.Store(true)
		<-time.After(2 * time.Hour)
		synctest.Wait()
		if n := box.Status().Pending; n != 1 || refused == 0 {
			t.Errorf("%d left, %d refused", n, refused)
		}
		d.lies.Store(false)
		<-time.After(time.Hour)
		before, _, _ = d.counts()
		if n := box.Status().Pending; n != 0 {
			t.Errorf("%d left", n)
		}
		// A clinic that is away altogether is not asked more often than it can bear.
		d.fails.Store(true)
		<-time.After(10 * time.Hour)
		if n, _, _ := d.counts(); n-before < 15 || n-before > 60 {
			t.Errorf("asked %d times in ten hours", n-before)
		}
		d.fails.Store(false)
		up.Store(true)
		<-time.After(5 * time.Minute)
		before, _, _ = d.counts()
		<-time.After(time.Hour)
		if n, _, _ := d.counts(); n != before {
			t.Error("told by https although the broker is back")
		}
		// A broker that is there and holds back what the terminal tells, or from whom no acknowledgement comes.
		add(3)
		<-time.After(courierAfter - courierAfter/courierLooks)
		if n, _, _ := d.counts(); n != before {
			t.Error("told by https while the broker had time to")
		}
		<-time.After(3 * courierAfter / courierLooks)
		if n, _, _ := d.counts(); n != before+1 || box.Status().Pending != 0 {
			t.Errorf("held back: told %d times, %d left", n-before, box.Status().Pending)
		}
		<-time.After(time.Hour)
		if n, _, _ := d.counts(); n != before+1 {
			t.Error("told by https although nothing waits")
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
