package call_test

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"vindu/device/progress"
	"vindu/protocol"
)

// TestHung: calls report that they get on while nothing happens and while one runs, and do not while a record that has to be written first waits for a disk that hangs.
func TestHung(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		board, disk := new(progress.Board), make(chan struct{})
		x := newTerminal(t)
		x.root = board.Root("calls")
		x.start()
		x.wait(time.Hour)
		m, _ := x.talk()
		x.wait(10 * time.Minute)
		if late := board.Late(); len(late) > 0 {
			t.Errorf("late with nothing to do but a call: %v", late)
		}
		x.outbox.Before = func(kind string) {
			if kind == protocol.EventCall {
				<-disk
			}
		}
		x.deliver(x.clinic.HangUp(t, m, protocol.EndCallerHungUp))
		x.wait(progress.Within + progress.Every)
		if late := board.Late(); !slices.Equal(late, []string{"calls"}) {
			t.Errorf("late with a disk that hangs: %v", late)
		}
		close(disk)
		x.wait(2 * time.Second)
		if late := board.Late(); len(late) > 0 {
			t.Errorf("late when it gets on: %v", late)
		}
		if err := x.end(); err != nil {
			t.Error(err)
		}
	})
}
