package calls

import (
	"context"
	"errors"
	"testing"
	"time"

	"vindu/protocol"
)

func attempted(outcome protocol.Code) *protocol.CallRecord {
	return &protocol.CallRecord{Version: protocol.Version, Call: protocol.NewCallID(), By: protocol.SideCaller, Began: 1, Outcome: outcome}
}

// An attempt that never left the page is on the record with its sentence, bounded, and for the person alone.
func TestAttempt(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		ctx := context.Background()
		by := Person{ID: person, Party: protocol.Party{Name: "Åse Bø", Role: "nurse", Organisation: "Kommunen"}}
		half := attempted(protocol.BrowserDenied)
		for range 2 { // a page that had no reply says it again
			if err := w.Attempt(ctx, by, "17", half); err != nil {
				t.Fatal(err)
			}
		}
		got, err := w.Record(ctx, person, half.Call)
		if err != nil {
			t.Fatal(err)
		}
		if !got.NeverLeft || got.Outcome != protocol.BrowserDenied || got.HomeLabel != "Home 17" || got.CallerHalf == nil || got.Diagnosis.Rule != "page-permission" {
			t.Errorf("%+v", got)
		}
		if list, err := w.Records(ctx, person, 5); err != nil || len(list) != 1 || !list[0].NeverLeft {
			t.Errorf("%d records, %v", len(list), err)
		}
		if _, err := w.Record(ctx, "other", half.Call); !errors.Is(err, ErrNotFound) {
			t.Errorf("another person reads it: %v", err)
		}
		stolen := attempted(protocol.BrowserFailed)
		stolen.Call = half.Call
		if err := w.Attempt(ctx, Person{ID: "other"}, "17", stolen); !errors.Is(err, ErrNotFound) {
			t.Errorf("another person writes into it: %v", err)
		}
		for _, outcome := range []protocol.Code{protocol.ProofAnswer, protocol.ICEFailed, protocol.AuthPasskey, "browser.of_tomorrow"} {
			if err := w.Attempt(ctx, by, "17", attempted(outcome)); !errors.Is(err, ErrBadRequest) {
				t.Errorf("%s: %v, want a refusal", outcome, err)
			}
		}
		if err := w.Attempt(ctx, by, "none", attempted(protocol.BrowserDenied)); !errors.Is(err, ErrNotFound) {
			t.Errorf("home that there is not: %v", err)
		}
		for range maxAttempts - 1 {
			if err := w.Attempt(ctx, by, "17", attempted(protocol.BrowserCancelled)); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Attempt(ctx, by, "17", attempted(protocol.BrowserCancelled)); !errors.Is(err, ErrTooMany) {
			t.Errorf("more than %d within an hour: %v", maxAttempts, err)
		}
		pass(61 * time.Minute)
		if err := w.Attempt(ctx, by, "17", attempted(protocol.BrowserCancelled)); err != nil {
			t.Errorf("an hour later: %v", err)
		}
	})
}

// The sentence rests on what held of the terminal during the call, and becomes better when a half comes.
func TestDiagnosed(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		ctx := context.Background()
		var asked [][2]time.Time
		w.records.Held = func(_ context.Context, terminal protocol.KeyHash, from, to time.Time) ([]protocol.Code, error) {
			if terminal != w.terminal {
				t.Errorf("asked of terminal %s", terminal.Code())
			}
			asked = append(asked, [2]time.Time{from, to})
			return []protocol.Code{protocol.EgressUDP}, nil
		}
		s := w.start(t)
		w.answer(t, s, protocol.Ringing, nil)
		if err := w.HangUp(ctx, person, s.Call, protocol.ICEFailed, nil); err != nil {
			t.Fatal(err)
		}
		pass(time.Minute)
		got, err := w.Record(ctx, person, s.Call)
		if err != nil || got.Diagnosis.Rule != "path-home-udp" {
			t.Fatalf("%+v, %v", got.Diagnosis, err)
		}
		if len(asked) == 0 || !asked[0][0].Equal(got.Began) || asked[0][1].Before(got.EndedAt) {
			t.Errorf("asked for %v, the call was from %v to %v", asked, got.Began, got.EndedAt)
		}
		half := &protocol.CallRecord{
			Version: protocol.Version, Call: s.Call, By: protocol.SideCaller, Began: 1, Outcome: protocol.ICEFailed, Gather: []protocol.GatherError{{Way: "udp", Code: 401}},
		}
		if err := w.Report(ctx, person, s.Call, half); err != nil {
			t.Fatal(err)
		}
		if got, err = w.Record(ctx, person, s.Call); err != nil || got.Diagnosis.Rule != "path-relay-password" {
			t.Errorf("%+v, %v", got.Diagnosis, err)
		}
		if n := w.records.Ended()[protocol.ICEFailed]; n != 1 {
			t.Errorf("%d calls counted", n)
		}
		w.records.Held = func(context.Context, protocol.KeyHash, time.Time, time.Time) ([]protocol.Code, error) {
			return nil, errors.New("database away")
		}
		if _, err := w.Record(ctx, person, s.Call); err == nil {
			t.Error("conditions that cannot be read are taken for none")
		}
	})
}
