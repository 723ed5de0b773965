package alerts

import (
	"database/sql"
	"net/http"
	"testing"
	"time"

	"vindu/clinic/register"
	"vindu/protocol"
)

// TestAlarms: what looks like an attack is told at once, wherever it is, and until somebody has settled it.
func TestAlarms(t *testing.T) {
	b := newBench(t)
	r, err := register.New(t.Context(), b.config.Store, b.config.Audit)
	if err != nil {
		t.Fatal(err)
	}
	terminal := b.terminal()
	if err := b.config.Store.Write(t.Context(), func(tx *sql.Tx) error {
		_, err := tx.ExecContext(t.Context(), "INSERT INTO homes (id, label, created) VALUES ('100000017', 'Home 17, Storgata', 1)")
		if err == nil {
			_, err = tx.ExecContext(t.Context(), "INSERT INTO terminals (key, spki, home, enrolled) VALUES (?, ?, '100000017', 1)", terminal[:], []byte("a key"))
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	b.config.Alarms = r
	b.restart()
	raise := func(code protocol.Code, terminal protocol.KeyHash) {
		t.Helper()
		if err := r.Raise(t.Context(), code, terminal, "Home 17, Storgata"); err != nil {
			t.Fatal(err)
		}
	}
	settle := func() {
		t.Helper()
		list, err := r.Alarms(t.Context(), 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range list {
			if err := r.Settle(t.Context(), "person 7", a.N, "a laptop of ours"); err != nil {
				t.Fatal(err)
			}
		}
	}
	const twice, copied = " identity.two_connections 100000017", " authorisation.passkey_copied "
	b.set(true, b.now)
	b.after("well", time.Hour)
	// Somebody has said to know: of an alarm that says nothing.
	if err := b.service.Mark(t.Context(), "person 7", b.terminal(), protocol.IdentityTwice, b.now, b.now.Add(24*time.Hour), ""); err != nil {
		t.Fatal(err)
	}
	raise(protocol.IdentityTwice, b.terminal())
	b.after("two connections", 0, "raised"+twice)
	raise(protocol.IdentityTwice, b.terminal())
	b.after("again", time.Hour)
	b.restart()
	b.after("after a restart", time.Minute)
	b.set(false, b.now)
	b.after("the terminal is gone", time.Minute)
	raise(protocol.AuthCounter, protocol.KeyHash{99})
	b.status = http.StatusInternalServerError
	b.after("a copied passkey, and the webhook is away", 0)
	b.status = http.StatusOK
	b.after("it is back", time.Minute, "raised"+copied)
	settle()
	b.after("settled, although the terminal is away", time.Minute, "cleared"+twice, "cleared"+copied)
	raise(protocol.IdentityTwice, b.terminal())
	b.after("anew", time.Second, "raised"+twice)
	b.set(true, b.now, protocol.CaptureNoCamera)
	settle()
	b.after("settled, and no camera", 5*time.Minute, "cleared"+twice, "raised capture.no_camera 100000017")
	b.after("and that was all", time.Hour)
}
