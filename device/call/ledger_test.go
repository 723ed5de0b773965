package call_test

import (
	"crypto"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"vindu/device/call"
	"vindu/device/call/calltest"
	"vindu/protocol"
)

func TestNoRecordNoOpening(t *testing.T) {
	for name, full := range map[string]func(x *terminal){
		"outbox full": func(x *terminal) { x.outbox.Break(calltest.ErrFull) },
		"store full":  func(x *terminal) { x.store.Break(calltest.ErrFull) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				x := newTerminal(t)
				x.start()
				_, s := x.invite()
				x.say(s, call.MediaConnected)
				x.say(s, call.MediaSeen)
				full(x)
				x.wait(5 * time.Second)
				if s.IsOpen(call.Camera) {
					t.Error("the camera is open and nothing says so")
				}
				if last := x.view.Last(); last.Scene != call.SceneEnded || last.Reason != protocol.StorageFull {
					t.Errorf("shown: %+v", last)
				}
				_ = x.end()
			})
		})
	}
}

func TestStoreFullRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newTerminal(t)
		x.start()
		x.store.Break(calltest.ErrFull)
		m, _ := x.clinic.Invite(t, time.Now())
		x.deliver(m)
		if sent := x.sender.Sent(); len(sent) != 1 || sent[0].Refusal != protocol.StorageFull {
			t.Errorf("sent %+v", sent)
		}
		_ = x.end()
	})
}

// A session that opens a device of its own accord, or twice, is told no and leaves no trace in the ledger.
func TestLedgerIsALock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newTerminal(t)
		x.start()
		_, s := x.invite()
		if err := s.OpenDevice(call.Camera); err == nil {
			t.Error("the camera could be opened while it rings")
		}
		x.say(s, call.MediaConnected)
		x.say(s, call.MediaSeen)
		x.wait(5 * time.Second)
		if err := s.OpenDevice(call.Camera); err == nil {
			t.Error("the camera could be opened twice")
		}
		s.CloseDevice(call.Camera) // it was unplugged
		if err := s.OpenDevice(call.Camera); err != nil {
			t.Errorf("the camera could not be opened again in the call: %v", err)
		}
		x.run.HangUp()
		synctest.Wait()
		if err := s.OpenDevice(call.Camera); err == nil {
			t.Error("the camera could be opened after the end")
		}
		if n := len(calltest.Events[*protocol.Opening](x.outbox)); n != 6 {
			t.Errorf("%d entries in the ledger, want 6", n)
		}
		_ = x.end()
	})
}

// Who says no while an opening is being written down is not seen: the device is not opened any more.
func TestNoWhileTheOpeningIsWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newTerminal(t)
		var told atomic.Bool
		x.outbox.Before = func(kind string) {
			if kind == protocol.EventOpening && !told.Swap(true) {
				x.run.HangUp()
				<-time.After(100 * time.Millisecond) // the disk is slow
			}
		}
		var leave error
		x.media.NewSession = func(s *calltest.Session) {
			s.Opened = func(_ call.Device, err error) { leave = errors.Join(leave, err) }
		}
		x.start()
		_, s := x.invite()
		x.say(s, call.MediaConnected)
		x.say(s, call.MediaSeen)
		x.wait(6 * time.Second)
		if leave == nil {
			t.Error("the ledger gave leave to open although the person had said no")
		}
		if last := x.view.Last(); last.Scene != call.SceneEnded || last.Reason != protocol.EndPatientHungUp {
			t.Errorf("shown: %+v", last)
		}
		if err := x.end(); err != nil {
			t.Error(err)
		}
	})
}

// tired is a key that signs a number of times and then no more, as hardware may.
type tired struct {
	crypto.Signer
	left int
}

func (s *tired) Sign(random io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if s.left--; s.left < 0 {
		return nil, errors.New("the key does not answer")
	}
	return s.Signer.Sign(random, digest, opts)
}

// An answer that cannot be signed opens nothing, and the call ends.
func TestNoSignatureNoOpening(t *testing.T) {
	for left, sent := range [][]protocol.Decision{nil, {protocol.Ringing}} {
		t.Run(fmt.Sprintf("%d signatures", left), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				x := newTerminal(t)
				x.signer = &tired{x.clinic.Terminal, left}
				x.start()
				_, s := x.invite()
				x.say(s, call.MediaConnected)
				x.say(s, call.MediaSeen)
				x.wait(5 * time.Second)
				equal(t, "answers", x.answers(), sent)
				if openings := calltest.Events[*protocol.Opening](x.outbox); s.IsOpen(call.Camera) || len(openings) != 0 {
					t.Errorf("opened although nothing was answered: %+v", openings)
				}
				if last := x.view.Last(); last.Scene != call.SceneEnded || last.Reason != protocol.AnswerTimeout {
					t.Errorf("shown: %+v", last)
				}
				if records := calltest.Events[*protocol.CallRecord](x.outbox); len(records) != 1 || records[0].Outcome != protocol.AnswerTimeout || records[0].Duration != 0 {
					t.Errorf("records: %+v", records)
				}
				_ = x.end()
			})
		})
	}
}
