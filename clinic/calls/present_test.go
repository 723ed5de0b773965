package calls

import (
	"context"
	"errors"
	"testing"

	"vindu/protocol"
)

// TestPresent: who is there goes on the record of a call that runs, of the own alone, in closed words.
func TestPresent(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		s := w.talk(t)
		ctx := context.Background()
		if err := w.Present(ctx, person, s.Call, Present{With: &With{Students: 2}}); err != nil {
			t.Fatal(err)
		}
		if err := w.Present(ctx, person, s.Call, Present{With: &With{Colleagues: 1}, Home: "helper"}); err != nil {
			t.Fatal(err)
		}
		for name, p := range map[string]Present{"a name": {Home: "Per Aasen"}, "fewer than nobody": {With: &With{Others: -1}}, "a crowd": {With: &With{Others: 21}}} {
			if err := w.Present(ctx, person, s.Call, p); !errors.Is(err, ErrBadRequest) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if err := w.Present(ctx, "somebody else", s.Call, Present{Home: "alone"}); !errors.Is(err, ErrNotFound) {
			t.Errorf("another person: %v", err)
		}
		many := error(nil)
		for range 20 {
			if many = w.Present(ctx, person, s.Call, Present{With: &With{Colleagues: 1}, Home: "helper"}); many != nil {
				break
			}
		}
		if !errors.Is(many, ErrTooMany) {
			t.Errorf("very often: %v", many)
		}
		w.end(t, s, protocol.EndPatientHungUp)
		w.ended(t, s.Call, protocol.EndPatientHungUp)
		if err := w.Present(ctx, person, s.Call, Present{Home: "alone"}); !errors.Is(err, ErrBadRequest) {
			t.Errorf("after the end: %v", err)
		}
		if p := w.recorded(t, s.Call, protocol.EndPatientHungUp).Present; p.With == nil || *p.With != (With{Colleagues: 1}) || p.Home != "helper" || p.At.IsZero() {
			t.Errorf("recorded %+v", p)
		}
	})
}
