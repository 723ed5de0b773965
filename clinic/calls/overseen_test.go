package calls

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"vindu/protocol"
)

// Operators see what became of everybody's calls to a home, and not who called, what about, or who was there.
func TestOverseen(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		ctx := context.Background()
		var last protocol.CallID
		for i, name := range []string{"Anne Plantet", "Åse Plantet", "Kari Plantet"} {
			half := attempted(protocol.BrowserDenied)
			by := Person{ID: fmt.Sprint("person-", i), Party: protocol.Party{Name: name, Role: "nurse", Organisation: "Kommunen"}}
			if err := w.Attempt(ctx, by, "17", half); err != nil {
				t.Fatal(err)
			}
			last = half.Call
			pass(time.Minute)
		}
		for column, value := range map[string]string{"proof": "Plantet proof", "caller_end": "Plantet end", "present": `{"home":"relatives"}`} {
			w.set(t, "UPDATE calls SET "+column+" = ? WHERE call = ?", []byte(value), last[:])
		}
		w.set(t, "UPDATE calls SET errand = 'Plantet errand', urgent = 1 WHERE call = ?", last[:])
		list, err := w.HomeCalls(ctx, "17", time.Time{}, 10)
		if err != nil || len(list) != 3 || list[0].Call != last || list[0].Diagnosis.Rule != "page-permission" {
			t.Fatalf("%v, %d calls", err, len(list))
		}
		one, err := w.HomeCall(ctx, last)
		if err != nil || one.Diagnosis.Rule != "page-permission" || one.Person.Party.Role != "nurse" || one.Home != "17" {
			t.Errorf("%v, %+v", err, one)
		}
		for _, r := range append(list, one) {
			if text := fmt.Sprintf("%+v", r); strings.Contains(text, "Plantet") || strings.Contains(text, "person-") || strings.Contains(text, "relatives") {
				t.Errorf("an operator is told: %s", text)
			}
		}
		if list, err := w.HomeCalls(ctx, "17", time.Now().Add(-90*time.Second), 10); err != nil || len(list) != 1 {
			t.Errorf("of the last minute: %v, %d", err, len(list))
		}
		if list, err := w.HomeCalls(ctx, "17", time.Time{}, 2); err != nil || len(list) != 2 || list[0].Call != last {
			t.Errorf("two: %v, %d", err, len(list))
		}
		if list, err := w.HomeCalls(ctx, "18", time.Time{}, 10); err != nil || len(list) != 0 {
			t.Errorf("of another home: %v, %d", err, len(list))
		}
		if _, err := w.HomeCall(ctx, protocol.NewCallID()); !errors.Is(err, ErrNotFound) {
			t.Errorf("of no call: %v", err)
		}
	})
}

// set changes a record by hand.
func (w *world) set(t *testing.T, query string, args ...any) {
	t.Helper()
	if err := w.records.store.Write(context.Background(), func(tx *sql.Tx) error { _, err := tx.Exec(query, args...); return err }); err != nil {
		t.Fatal(err)
	}
}
