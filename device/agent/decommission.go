package agent

import (
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"

	"vindu/device/clock"
	"vindu/device/identity"
	"vindu/device/link"
	"vindu/device/screen"
	"vindu/device/state"
	"vindu/protocol"
)

// A terminal that is taken out of use goes through three phases, of which the file "returning" in its state folder is the mark, so that a power cut at any
// instant delays it and changes nothing:
//
//	ordered    the order was proven: no more calls, and the signed receipt is on its way to the clinic; after the word comes the order
//	destroying the receipt was acknowledged, or time is up: the key is destroyed, then all else
//	returned   there is nothing left but this file; the screen asks to return the terminal. An enrolment ends it
//
// The same mark says of a terminal that is given up, or changes hands, what is still to be done:
//
//	anew       all is destroyed, the key first, and then this file: it is as from the factory
//	changed    it becomes another clinic's: what was for the former one alone is destroyed before that enrolment is used
const (
	returnFile = "returning"
	ordered    = "ordered\n"
	destroying = "destroying\n"
	returned   = "returned\n"
	anew       = "anew\n"
	changed    = "changed\n"
	maxReturn  = protocol.MaxStatement + 64
)

// A receipt waits for the clinic's acknowledgement until then, in one run of the agent.
const (
	// receiptPatience is for a clinic that cannot be reached: it has ordered this, and the key is not to outlive its order for ever.
	receiptPatience = 24 * time.Hour
	// receiptRefused is for a clinic that refuses the terminal: it has cut it off, because it has the receipt, whose acknowledgement was lost, or wants none.
	receiptRefused = 15 * time.Minute
)

// errOutOfUse ends a call when an order to take the terminal out of use was proven.
var errOutOfUse = protocol.WithCode(protocol.EndOutOfUse, errors.New("the terminal is taken out of use"))

// noticeEvery bounds the events that forged orders can cause.
const noticeEvery = time.Minute

// errReturned ends terminal.run when nothing is left to do but to destroy everything.
var errReturned = errors.New("the terminal is taken out of use")

// phase reads the mark, with the order if there is one.
func phase(dir *state.Dir) (word string, order []byte, err error) {
	b, err := dir.Read(returnFile, maxReturn)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil, nil
	}
	if err != nil {
		return "", nil, err
	}
	switch s := string(b); {
	case s == destroying, s == returned, s == anew, s == changed:
		return s, nil, nil
	case strings.HasPrefix(s, ordered):
		return ordered, b[len(ordered):], nil
	}
	return "", nil, fmt.Errorf("%s/%s cannot be understood: remove it if the terminal is to stay in use", dir.Path(), returnFile)
}

// verifyOrder asks whether the clinic ordered this terminal to destroy itself. The code of the error is protocol.AuthOrder.
func verifyOrder(order []byte, authorities [][]byte, self protocol.KeyHash, now time.Time) error {
	refused := func(err error) error { return protocol.WithCode(protocol.AuthOrder, err) }
	err := errors.New("no authorisation key is known")
	for _, der := range authorities {
		parsed, parseErr := x509.ParsePKIXPublicKey(der)
		key, ok := parsed.(*ecdsa.PublicKey)
		if parseErr != nil || !ok {
			continue
		}
		d := new(protocol.Decommission)
		if err = protocol.Verify(order, key, d); err != nil {
			continue
		}
		switch {
		case d.Terminal != self:
			return refused(fmt.Errorf("the order is for the terminal %s", d.Terminal.Code()))
		case now.Before(d.Issued.Time().Add(-clock.Tolerance)), now.After(d.Expires.Time()):
			return refused(fmt.Errorf("the order is good from %s to %s", d.Issued.Time().Format(time.DateTime), d.Expires.Time().Format(time.DateTime)))
		}
		return nil
	}
	return refused(err)
}

// order takes an order to destroy everything. Refusing one that is not proven is an event for the clinic.
func (t *terminal) order(signed []byte) {
	err := verifyOrder(signed, t.id.Authorities(), t.id.Key(), t.clock.Now())
	if err == nil && !t.clock.Proven() {
		err = protocol.WithCode(protocol.AuthOrder, errors.New("the time is not known"))
	}
	if err != nil {
		level := slog.LevelError
		if !t.notice(protocol.CodeOf(err)) {
			level = slog.LevelDebug // of them there can be as many as somebody likes who has the broker
		}
		t.a.log.Log(context.Background(), level, "order to take the terminal out of use refused", "error", err, "code", protocol.CodeOf(err))
		return
	}
	select {
	case t.orders <- signed:
	default: // it has one, and is at it
	}
}

// notice tells the clinic, unless it was told just now. Only for the goroutine of commands.
func (t *terminal) notice(code protocol.Code) bool {
	if !t.noticed.IsZero() && time.Since(t.noticed) < noticeEvery {
		return false
	}
	t.noticed = time.Now()
	t.tell(code)
	return true
}

// refusedSettings tells the clinic that a trust or a policy was not taken over. Only for the goroutine of the renewer.
func (t *terminal) refusedSettings(err error) {
	code := protocol.CodeOf(err)
	if at, told := t.told[code]; told && time.Since(at) < noticeEvery {
		return
	}
	t.told[code] = time.Now()
	t.tell(code)
}

func (t *terminal) tell(code protocol.Code) {
	body, err := protocol.Encode(&protocol.Notice{Version: protocol.Version, At: protocol.At(t.clock.Now()), Code: code})
	if err == nil {
		err = t.outbox.Append(protocol.EventNotice, body)
	}
	if err != nil {
		t.a.log.Warn("notice not kept", "error", err, "code", code)
	}
}

// waitForOrder returns nil when an order was proven and its mark written; from then on the policy lets no call in. It has end end the calls.
func (t *terminal) waitForOrder(ctx context.Context, end func()) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case order := <-t.orders:
			if !t.mayLeave(order) {
				t.a.log.Warn("order to take the terminal out of use comes while it goes over to another key; the clinic gives it anew, for that one")
				continue
			}
			if err := t.dir.Write(returnFile, append([]byte(ordered), order...)); err != nil {
				t.a.log.Error("order to take the terminal out of use cannot be kept; the clinic sends it again", "error", err, "code", protocol.CodeOf(err))
				t.mayLeave(nil)
				continue
			}
			t.leave(order)
			end()
			return nil
		}
	}
}

// mayLeave notes that an order is about to be carried out, so that the terminal does not go over to another key, which the order is not for; false if it does so already. nil takes it back.
func (t *terminal) mayLeave(order []byte) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.turning {
		t.leaving = order
	}
	return !t.turning
}

// leave remembers that an order is being carried out.
func (t *terminal) leave(order []byte) {
	t.mu.Lock()
	t.leaving = order
	t.mu.Unlock()
	t.a.change(func(s *situation) { s.returning = true })
	t.a.log.Warn("the clinic takes this terminal out of use", "terminal", t.id.Key().Code())
}

// left returns the order that is being carried out, or nil.
func (t *terminal) left() []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.leaving
}

// giveReceipt sends the clinic the last that the key signs, and waits until that was acknowledged, ctx ends, or it has waited for long enough. It
// returns errReturned unless ctx ended before.
func (t *terminal) giveReceipt(ctx context.Context, order []byte) error {
	receipt, err := protocol.Sign(&protocol.Decommissioned{
		Version: protocol.Version, Terminal: t.id.Key(), Order: protocol.HashOf(order), KeyGrade: t.id.Grade(), At: protocol.At(t.clock.Now()),
	}, t.id.Signer())
	if err == nil {
		var body []byte
		if body, err = protocol.Encode(&protocol.ReceiptEvent{Version: protocol.Version, Receipt: receipt}); err == nil {
			err = t.outbox.Append(protocol.EventReceipt, body)
		}
	}
	if err != nil { // the key must go all the same
		t.a.log.Error("no receipt can be given", "error", err, "code", protocol.CodeOf(err))
		return errReturned
	}
	patience := time.NewTimer(receiptPatience)
	defer patience.Stop()
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	var refused refusal
	for t.outbox.Status().Pending > 0 {
		select {
		case <-ctx.Done():
			return nil
		case <-patience.C:
			t.a.log.Error("the clinic did not acknowledge the receipt; the key is destroyed all the same")
			return errReturned
		case <-tick.C:
		}
		if refused.forGood(t.link.State(), time.Now()) {
			t.a.log.Warn("the clinic has cut the terminal off and acknowledges nothing any more; the key is destroyed")
			return errReturned
		}
	}
	return errReturned
}

// refusal is since when the clinic has refused the terminal without letting it in; zero: it has not.
type refusal struct{ since time.Time }

// forGood tells whether it has for long enough. A way to the clinic that is away for once in between takes nothing back.
func (r *refusal) forGood(s link.State, now time.Time) bool {
	switch {
	case s.Up:
		r.since = time.Time{}
	case s.Cause != protocol.LinkRefused:
	case r.since.IsZero():
		r.since = now
	default:
		return now.Sub(r.since) >= receiptRefused
	}
	return false
}

// FinishReturn does what the mark of a terminal that was taken out of use or given up says is still to be done, and removes the mark, so that the terminal
// can be set up anew. It is for whoever is about to enrol it; without such a mark it does nothing. forget is Parts.Forget, or nil.
func FinishReturn(dir *state.Dir, keys identity.Keys, forget func() error) error {
	word, _, err := phase(dir)
	if err != nil {
		return err
	}
	switch word {
	case "":
		return nil
	case ordered:
		return outOfUse("it has still to give the clinic its receipt: start the agent")
	case anew:
		return GiveUp(dir, keys, forget)
	case changed:
		return forgetFormer(dir)
	case destroying:
		if err := destroy(dir, keys, forget); err != nil {
			return err
		}
	}
	return dir.Remove(returnFile)
}

func outOfUse(why string) error {
	return protocol.WithCode(protocol.IdentityReturned, fmt.Errorf("the terminal is taken out of use: %s", why))
}

// GiveUp destroys the key and all that the terminal was with it, so that it is as from the factory. What a power cut leaves is finished at the next start, or by
// FinishReturn. forget is Parts.Forget, or nil.
func GiveUp(dir *state.Dir, keys identity.Keys, forget func() error) error {
	if err := dir.Write(returnFile, []byte(anew)); err != nil {
		return fmt.Errorf("give the terminal's key up: %w", err)
	}
	if err := wipe(dir, keys, forget); err != nil {
		return fmt.Errorf("give the terminal's key up: %w", err)
	}
	return dir.Remove(returnFile)
}

// markAnew has GiveUp be done at the next opportunity. A terminal that is taken out of use owes its clinic more than that.
func markAnew(dir *state.Dir) error {
	word, _, err := phase(dir)
	if err == nil && word != "" && word != anew && word != changed {
		err = outOfUse("it destroys itself")
	}
	if err == nil {
		err = dir.Write(returnFile, []byte(anew))
	}
	return err
}

// destroy carries out the phase destroying.
func destroy(dir *state.Dir, keys identity.Keys, forget func() error) error {
	if err := dir.Write(returnFile, []byte(destroying)); err != nil {
		return fmt.Errorf("take the terminal out of use: %w", err)
	}
	if err := wipe(dir, keys, forget); err != nil {
		return fmt.Errorf("take the terminal out of use: %w", err)
	}
	return dir.Write(returnFile, []byte(returned))
}

// wipe destroys all but the mark, the key first.
func wipe(dir *state.Dir, keys identity.Keys, forget func() error) error {
	if err := identity.Destroy(dir, keys); err != nil {
		return err
	}
	if err := wipeFormer(dir); err != nil {
		return err
	}
	if err := dir.Wipe(languageFile); err != nil {
		return err
	}
	if forget != nil {
		return forget()
	}
	return nil
}

// wipeFormer destroys what is for one clinic alone: what waits for it, what it is to be told of, and the time by its clock.
func wipeFormer(dir *state.Dir) error {
	names := []string{callsFile, checksFile, clock.FileName, bootsFile, diskFile, healthFile}
	databases, err := filepath.Glob(filepath.Join(dir.Path(), "outbox.db*"))
	if err != nil {
		return err
	}
	for _, path := range databases {
		names = append(names, filepath.Base(path))
	}
	for _, name := range names {
		if err := dir.Wipe(name); err != nil {
			return err
		}
	}
	return nil
}

// forgetFormer carries out the phase changed.
func forgetFormer(dir *state.Dir) error {
	if err := wipeFormer(dir); err != nil {
		return fmt.Errorf("forget the former clinic: %w", err)
	}
	return dir.Remove(returnFile)
}

// Keep makes g what the terminal is enrolled by. If that is another clinic than before, nothing that waited for the former is left for the new one.
func Keep(dir *state.Dir, id *identity.Identity, g *identity.Grant) error {
	old := id.Grant()
	if old == nil || old.Root.Equal(g.Root) {
		return id.Keep(*g)
	}
	word, _, err := phase(dir)
	if err == nil && word != "" && word != changed {
		err = outOfUse("it destroys itself")
	}
	if err == nil {
		err = dir.Write(returnFile, []byte(changed))
	}
	if err != nil {
		return fmt.Errorf("change the clinic: %w", err)
	}
	if err := id.Keep(*g); err != nil {
		return errors.Join(err, dir.Remove(returnFile))
	}
	return nil
}

// returning finishes what an earlier run was to destroy, and shows a terminal that is out of use as such until it is enrolled anew or ctx ends; the folder is
// nobody's meanwhile. It returns the order if the receipt is still to be given, and nil at once if the terminal is in use.
func (a *Agent) returning(ctx context.Context) (order []byte, err error) {
	var failed string // what was said of it last
	for shown := ""; ; {
		a.opening.Lock()
		dir, err := state.Open(a.cfg.State)
		if err != nil {
			a.opening.Unlock()
			return nil, err
		}
		word, order, err := phase(dir)
		if err == nil {
			var failure error
			if word, failure = a.carryOut(dir, word); failure != nil && failure.Error() != failed {
				failed = failure.Error()
				a.log.Error("what the terminal was is not destroyed yet", "error", failure, "code", protocol.CodeOf(failure))
			}
		}
		_, grantErr := os.Stat(filepath.Join(a.cfg.State, grantFile))
		if err == nil && word == returned && grantErr == nil { // it was enrolled
			err, word = dir.Remove(returnFile), ""
		}
		err = errors.Join(err, dir.Close())
		a.opening.Unlock()
		if err != nil || word == "" || word == ordered {
			a.change(func(s *situation) { s.returning, s.returned = word == ordered, false })
			return order, err
		}
		a.mu.Lock()
		a.home = nil
		a.mu.Unlock()
		if word != shown {
			shown = word
			a.hush()
			a.change(func(s *situation) {
				*s = situation{conditions: []protocol.Code{protocol.StorageUnreadable}} // it is about to, and cannot
				if word == destroying || word == returned {
					*s = situation{started: true, returning: true, returned: word == returned}
				}
			})
		}
		select {
		case <-ctx.Done():
			return nil, nil
		case <-a.anew:
			if err := a.finishReturn(); err != nil {
				a.log.Error("the terminal cannot be made ready to be set up anew", "error", err, "code", protocol.CodeOf(err))
			}
		case <-time.After(enrolmentPoll + rand.N(enrolmentPoll/4)):
		}
	}
}

// carryOut does what the mark says, and returns the mark that then holds.
func (a *Agent) carryOut(dir *state.Dir, word string) (string, error) {
	switch word {
	case destroying:
		if err := destroy(dir, a.parts.Keys, a.parts.Forget); err != nil {
			return word, err
		}
		a.log.Warn("the terminal is out of use: its key and state are destroyed", "state", a.cfg.State)
		return returned, nil
	case anew:
		if err := GiveUp(dir, a.parts.Keys, a.parts.Forget); err != nil {
			return word, err
		}
		a.log.Warn("the terminal was given up: its key and state are destroyed, and it can be set up anew", "state", a.cfg.State)
		a.mu.Lock()
		a.home = nil
		a.mu.Unlock()
		a.change(func(s *situation) { *s = situation{resetting: s.resetting} })
		lang, err := screen.LoadLanguage(a.cfg.Language)
		if err == nil {
			a.speak(lang)
		}
		return "", err
	case changed:
		if err := forgetFormer(dir); err != nil {
			return word, err
		}
		a.log.Warn("the terminal belongs to another clinic now: what was for the former is destroyed", "state", a.cfg.State)
		return "", nil
	}
	return word, nil
}

func (a *Agent) finishReturn() error {
	a.opening.Lock()
	defer a.opening.Unlock()
	dir, err := state.Open(a.cfg.State)
	if err != nil {
		return err
	}
	return errors.Join(FinishReturn(dir, a.parts.Keys, a.parts.Forget), dir.Close())
}
