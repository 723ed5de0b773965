package call_test

import (
	"testing"
	"testing/synctest"
	"time"

	"vindu/device/call"
	"vindu/protocol"
)

// bell remembers for how long it was told to ring last.
type bell struct{ ring, told time.Duration }

func (b *bell) Start(ring, told time.Duration) { b.ring, b.told = ring, told }
func (*bell) Stop()                            {}

// TestNotice: before a home's first call the people there are told what this is, for its time and before any device is open (R24). A call that
// is not answered does not count as the first, another home is told again, and a restart forgets nothing.
func TestNotice(t *testing.T) {
	const notice, ring = 40 * time.Second, 5 * time.Second
	synctest.Test(t, func(t *testing.T) {
		x := newTerminal(t)
		x.policy.Notice, x.policy.Home = notice, "17"
		heard := new(bell)
		x.bell = heard
		x.start()
		// rings checks how a call rings; unless it is answered, the person says no after half of that.
		rings := func(step string, told, answered bool) {
			t.Helper()
			before := len(x.media.Opened())
			began, longest := time.Now(), ring
			if told {
				longest += notice
			}
			m, s := x.invite()
			x.say(s, call.MediaConnected)
			x.say(s, call.MediaSeen)
			last := x.view.Last()
			if want := began.Add(longest); last.Scene != call.SceneRinging || !last.AnswersAt.Equal(want) {
				t.Errorf("%s: %v, answers at %v, want %v", step, last.Scene, last.AnswersAt, want)
			}
			if told && (last.Notice != notice || !last.NoticeEnds.Equal(began.Add(notice))) || !told && !last.NoticeEnds.IsZero() {
				t.Errorf("%s: told %v until %v", step, last.Notice, last.NoticeEnds)
			}
			if want := (bell{longest, longest - ring}); *heard != want {
				t.Errorf("%s: it rings for %+v, want %+v", step, *heard, want)
			}
			if !answered {
				x.wait(longest / 2)
				x.run.HangUp()
				x.wait(10 * time.Second)
				return
			}
			x.wait(longest - time.Nanosecond)
			if n := len(x.media.Opened()); n != before {
				t.Errorf("%s: a device is open while it rings", step)
			}
			x.wait(time.Nanosecond)
			if !s.IsOpen(call.Camera) {
				t.Errorf("%s: not answered", step)
			}
			x.deliver(x.clinic.HangUp(t, m, protocol.EndCallerHungUp))
			x.wait(10 * time.Second)
		}
		rings("declined", true, false)
		x.policy.Urgent = true
		_ = x.end()
		x.start()
		rings("urgent", false, true)
		x.policy.Urgent = false
		_ = x.end()
		x.start()
		rings("the first", true, true)
		rings("the second", false, true)
		_ = x.end()
		x.start()
		rings("after a restart", false, true)
		_ = x.end()
		x.policy.Home = "18"
		x.start()
		rings("in another home", true, true)
		rings("the second there", false, true)
		_ = x.end()
	})
	t.Run("taken", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			x := newTerminal(t)
			x.policy = asking
			x.policy.Notice = notice
			x.start()
			m, s := x.invite()
			x.say(s, call.MediaConnected)
			x.say(s, call.MediaSeen)
			if last := x.view.Last(); last.NoticeEnds.IsZero() || !last.TakeBy.Equal(time.Now().Add(30*time.Second+notice)) {
				t.Errorf("while it asks %+v is shown", last)
			}
			x.run.Take(m.Call)
			synctest.Wait()
			if last := x.view.Last(); last.Scene != call.SceneInCall || !last.NoticeEnds.IsZero() {
				t.Errorf("after it was taken %+v is shown", last)
			}
			_ = x.end()
		})
	})
	t.Run("a test call", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			x := newTerminal(t)
			x.policy.Notice = notice
			x.start()
			began := time.Now()
			m, _ := x.clinic.TestCall(t, began)
			x.deliver(m)
			if last := x.view.Last(); !last.AnswersAt.Equal(began.Add(ring)) || !last.NoticeEnds.IsZero() {
				t.Errorf("%+v is shown", last)
			}
			_ = x.end()
		})
	})
}
