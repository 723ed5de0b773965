package calls

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"vindu/protocol"
)

// A page whose request's reply was lost ends the call by the name that it gave it, whenever its hang-up comes.
func TestGiveUp(t *testing.T) {
	ctx := context.Background()
	for name, play := range map[string]func(*testing.T, *world){
		"after the invitation": func(t *testing.T, w *world) {
			r, id := w.caller.request(t, w.terminal)
			s, err := w.Start(ctx, r)
			if err != nil || s.Call != id {
				t.Fatalf("%v, %v", s.Call, err)
			}
			<-w.link.sent
			if err := w.HangUp(ctx, person, id, protocol.SignalLostClinic, nil); err != nil {
				t.Fatal(err)
			}
			w.told(t, s, protocol.SignalLostClinic)
			w.ended(t, id, protocol.SignalLostClinic)
		},
		"before the request": func(t *testing.T, w *world) {
			r, id := w.caller.request(t, w.terminal)
			if err := w.HangUp(ctx, person, id, protocol.EndCallerHungUp, nil); err != nil {
				t.Fatal(err)
			}
			var failed *Failure
			if _, err := w.Start(ctx, r); !errors.As(err, &failed) || failed.Code != protocol.EndCallerHungUp || failed.Call != id {
				t.Fatalf("the call began all the same: %v", err)
			}
			w.untold(t)
			w.recorded(t, id, protocol.EndCallerHungUp) // every attempt is on the record
		},
		"another's hang-up keeps nothing from beginning": func(t *testing.T, w *world) {
			r, id := w.caller.request(t, w.terminal)
			if err := w.HangUp(ctx, "other", id, protocol.EndCallerHungUp, nil); err != nil {
				t.Fatal(err)
			}
			if _, err := w.Start(ctx, r); err != nil {
				t.Fatal(err)
			}
		},
		"forgotten in time": func(t *testing.T, w *world) {
			for i := range maxGivenUpPerPerson + 1 {
				if err := w.HangUp(ctx, person, protocol.NewCallID(), protocol.EndCallerHungUp, nil); (err != nil) != (i == maxGivenUpPerPerson) {
					t.Fatalf("hang-up %d of a call that is not known: %v", i+1, err)
				}
			}
			pass(protocol.MaxInvitationLife + clockSlack + tick)
			synctest.Wait()
			w.mu.Lock()
			defer w.mu.Unlock()
			if len(w.givenUp) != 0 {
				t.Errorf("%d are kept", len(w.givenUp))
			}
		},
		"a name is used once": func(t *testing.T, w *world) {
			r, id := w.caller.request(t, w.terminal)
			s, err := w.Start(ctx, r)
			if err != nil {
				t.Fatal(err)
			}
			<-w.link.sent
			r.Person.ID = "other"
			if _, err := w.Start(ctx, r); !errors.Is(err, ErrBadRequest) {
				t.Fatalf("a call of the same name: %v", err)
			}
			w.untold(t)
			if rec, err := w.Record(ctx, person, id); err != nil || rec.Outcome != "" {
				t.Errorf("the first call: %+v, %v", rec.Outcome, err)
			}
			w.answer(t, s, protocol.Ringing, nil)
			w.expect(t, KindAnswer, Ringing)
		},
	} {
		t.Run(name, func(t *testing.T) { inWorld(t, play) })
	}
}

// A hang-up that comes while the invitation is on its way does not overtake it: the terminal would know nothing of the call yet, and ring.
func TestGiveUpDuringInvitation(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		reached, release := make(chan struct{}), make(chan struct{})
		w.link.set(func() {
			w.link.hold = func(m *protocol.CallIn) {
				if m.Kind == protocol.KindInvite {
					close(reached)
					<-release
				}
			}
		})
		r, id := w.caller.request(t, w.terminal)
		started := make(chan Started, 1)
		go func() {
			s, err := w.Start(context.Background(), r)
			if err != nil {
				t.Error(err)
			}
			started <- s
		}()
		<-reached
		if err := w.HangUp(context.Background(), person, id, protocol.SignalLostClinic, nil); err != nil {
			t.Fatal(err)
		}
		pass(time.Second)
		w.untold(t)
		close(release)
		s := <-started
		if m := <-w.link.sent; m.Kind != protocol.KindInvite {
			t.Fatalf("first the terminal got %s", m.Kind)
		}
		w.told(t, s, protocol.SignalLostClinic)
		w.ended(t, id, protocol.SignalLostClinic)
	})
}

// Who hangs up and rings again at once does not find the terminal busy with the call before.
func TestRingAgain(t *testing.T) {
	for name, finish := range map[string]func(*testing.T, *world, Started){
		"the terminal proves its end": func(t *testing.T, w *world, s Started) { w.end(t, s, protocol.EndCallerHungUp) },
		"the terminal says nothing":   func(t *testing.T, w *world, _ Started) { pass(time.Minute) },
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				first := w.talk(t)
				if err := w.HangUp(context.Background(), person, first.Call, protocol.EndCallerHungUp, nil); err != nil {
					t.Fatal(err)
				}
				w.told(t, first, protocol.EndCallerHungUp)
				again := make(chan error, 1)
				go func() {
					_, err := w.Start(context.Background(), w.request(t))
					again <- err
				}()
				synctest.Wait()
				w.untold(t)
				finish(t, w, first)
				if m := <-w.link.sent; m.Kind != protocol.KindInvite {
					t.Errorf("the terminal got %s", m.Kind)
				}
				if err := <-again; err != nil {
					t.Error(err)
				}
			})
		})
	}
}
