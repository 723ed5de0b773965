package calls

import (
	"context"
	"database/sql"
	"errors"
	"testing"

	"vindu/clinic/audit"
	"vindu/protocol"
)

// hook does something while an audit entry is written.
type hook func()

func (h hook) AppendTx(context.Context, *sql.Tx, audit.Entry) error { h(); return nil }

// The server stops while a call's record is being made: the terminal must not be asked to ring for a call that is over.
func TestStopDuringStart(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.records.audit = hook(w.stop)
		_, err := w.Start(t.Context(), w.request(t))
		var failed *Failure
		if !errors.As(err, &failed) || failed.Code != protocol.SignalLostClinic || !errors.Is(err, ErrStopped) {
			t.Errorf("error %v, want a failure with %s", err, protocol.SignalLostClinic)
		}
		select {
		case m := <-w.link.sent:
			t.Errorf("the terminal was sent %s", m.Kind)
		default:
		}
	})
}
