package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"vindu/device/clock"
	"vindu/device/identity"
	"vindu/device/screen"
	"vindu/device/state"
	"vindu/protocol"
)

const (
	languageFile = "language" // what a technician chose; the configuration's until then
	maxLanguage  = 32
	lockedPoll   = 100 * time.Millisecond // for the folder, while another opens it for a moment
	lockedTime   = 10 * time.Second
)

// Self is what the terminal is now, for who sets it up.
type Self struct {
	Identity   *identity.Identity // for its key and grant; it is changed by Keep alone
	Clock      *clock.Clock
	Online     bool
	Conditions []protocol.Code
	Language   string
}

// Self returns false while the terminal does not know who it is: at its start, while its key is away, and once it is taken out of use.
func (a *Agent) Self() (Self, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.home == nil || a.situation.keyAway || a.situation.returning || a.situation.returned {
		return Self{}, false
	}
	s := a.situation
	return Self{a.home.id, a.home.clock, s.online, slices.Clone(s.conditions), a.language}, true
}

// Returned tells whether the terminal is being, or was, taken out of use.
func (a *Agent) Returned() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.situation.returning || a.situation.returned
}

// Away tells whether, and why, the terminal cannot be what it is: its key or its enrolment is not there.
func (a *Agent) Away() (protocol.Code, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.situation.keyAway || len(a.situation.conditions) == 0 {
		return "", false
	}
	return a.situation.conditions[0], true
}

// Keep makes the terminal that of g, whether it is set up already or not; when it returns nil, that survives a power cut. A terminal that
// runs begins anew with it. The same certificate again changes nothing.
func (a *Agent) Keep(ctx context.Context, g *identity.Grant) error {
	err := a.with(ctx, func(h *home, restart func()) error {
		if own := h.id.Certificate(); own != nil && own.Equal(g.Chain[0]) {
			return nil
		}
		if err := Keep(h.dir, h.id, g); err != nil {
			return err
		}
		a.mu.Lock()
		a.home = h
		a.mu.Unlock()
		restart()
		return nil
	})
	if err == nil {
		select {
		case a.kept <- struct{}{}: // who waits for an enrolment need not find it by itself
		default:
		}
	}
	return err
}

// SetLanguage sets what the screen speaks, now and from the next start on.
func (a *Agent) SetLanguage(ctx context.Context, tag string) error {
	lang, err := screen.LoadLanguage(tag)
	if err != nil {
		return err
	}
	return a.with(ctx, func(h *home, _ func()) error {
		if err := h.dir.Write(languageFile, []byte(tag)); err != nil {
			return err
		}
		a.speak(lang)
		return nil
	})
}

func (a *Agent) speak(lang *screen.Language) {
	a.mu.Lock()
	a.language = lang.Tag
	a.mu.Unlock()
	a.screen.SetLanguage(lang)
	a.voice.SetLanguage(lang)
}

// recall has the screen speak what was chosen, if it was.
func (a *Agent) recall(dir *state.Dir) {
	b, err := dir.Read(languageFile, maxLanguage)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	lang, err2 := screen.LoadLanguage(strings.TrimSpace(string(b)))
	if err := errors.Join(err, err2); err != nil {
		a.log.Warn("the language that was chosen cannot be used", "error", err)
		return
	}
	a.speak(lang)
}

// Reset gives up what the terminal is: its key, its enrolment and all else are destroyed as when it is taken out of use, and then it can be set up as one from the
// factory. When it returns nil, that happens, through power cuts too. A terminal from the factory stays as it is.
func (a *Agent) Reset(ctx context.Context) error {
	mark := func(h *home, restart func()) error {
		if err := markAnew(h.dir); err != nil {
			return err
		}
		a.log.Warn("the terminal is given up")
		restart()
		return nil
	}
	return a.alone(ctx, mark, func() error {
		dir, err := state.Open(a.cfg.State)
		if err != nil {
			return err
		}
		a.mu.Lock()
		away := a.situation.keyAway
		a.mu.Unlock()
		if away || identity.Enrolled(dir) {
			a.log.Warn("the terminal is given up")
			err = markAnew(dir)
			defer a.wake()
		}
		return errors.Join(err, dir.Close())
	})
}

// with has f work on the state folder: the one that the running terminal holds, or, while it is not set up, opened for f alone.
func (a *Agent) with(ctx context.Context, f func(h *home, restart func()) error) error {
	return a.alone(ctx, f, func() error {
		h, err := openHome(a.cfg.State, a.parts.Keys, a.log)
		if err != nil {
			return err
		}
		return errors.Join(f(h, func() {}), h.close())
	})
}

// alone does running if the terminal runs, and idle if nobody holds the folder.
func (a *Agent) alone(ctx context.Context, running func(h *home, restart func()) error, idle func() error) error {
	ctx, cancel := context.WithTimeout(ctx, lockedTime)
	defer cancel()
	for {
		if done, err := a.withLive(running); done {
			return err
		}
		err := state.ErrLocked
		if a.opening.TryLock() {
			err = idle()
			a.opening.Unlock()
		}
		if !errors.Is(err, state.ErrLocked) {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for the state folder: %w", err)
		case <-time.After(lockedPoll):
		}
	}
}

// withLive does f if the terminal runs, which does not close its folder meanwhile.
func (a *Agent) withLive(f func(h *home, restart func()) error) (done bool, err error) {
	a.using.RLock()
	defer a.using.RUnlock()
	a.mu.Lock()
	h, restart := a.home, a.restart
	a.mu.Unlock()
	if restart == nil {
		return false, nil
	}
	return true, f(h, restart)
}

// Report puts an event into the terminal's outbox; it waits for the terminal to run until ctx ends.
func (a *Agent) Report(ctx context.Context, kind string, body []byte) error {
	for {
		a.using.RLock()
		a.mu.Lock()
		events := a.events
		a.mu.Unlock()
		if events != nil {
			err := events.Append(kind, body)
			a.using.RUnlock()
			return err
		}
		a.using.RUnlock()
		select {
		case <-ctx.Done():
			return fmt.Errorf("the terminal does not run: %w", ctx.Err())
		case <-time.After(lockedPoll):
		}
	}
}

// AwaitPress asks on the screen for a press of the button, for a technician, and returns what pressed returns. It ends with
// protocol.AnswerBusy as soon as something else is on the screen, such as a call: who presses then means that. Without a screen that
// a person can see nobody is asked.
func (a *Agent) AwaitPress(ctx context.Context, who protocol.Party, pressed func(context.Context) error) error {
	if !a.parts.HasScreen() {
		return protocol.WithCode(protocol.ScreenNone, errors.New("there is no screen that could ask for the button"))
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	busy := protocol.WithCode(protocol.AnswerBusy, errors.New("the screen shows something else, such as a call"))
	a.change(func(s *situation) { s.pressing, s.covered = &who, func() { cancel(busy) } })
	defer a.change(func(s *situation) {
		if s.pressing == &who { // and not somebody else's, who came later
			s.pressing, s.covered = nil, nil
		}
	})
	err := pressed(ctx)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err == nil {
		a.mu.Lock()
		a.pressed = time.Now()
		a.mu.Unlock()
	}
	return err
}

// AwaitHold asks on the screen for a long press of the button, by which a key that is away is given up, and shows code beside it. It returns what held returns.
func (a *Agent) AwaitHold(ctx context.Context, code string, held func(context.Context) error) error {
	a.change(func(s *situation) { s.resetting = code })
	defer a.change(func(s *situation) { s.resetting = "" })
	return held(ctx)
}
