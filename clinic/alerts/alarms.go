package alerts

import (
	"context"

	"vindu/clinic/register"
	"vindu/protocol"
)

// Alarms knows what looked like an attack until somebody has settled it; register.Register does.
type Alarms interface {
	// Alarms returns those that are open, and at most settled of the others.
	Alarms(ctx context.Context, settled int) ([]register.Alarm, error)
}

// happened reports whether an alert is of something that happened, which the register keeps as an alarm, and not of a condition.
func (a *alert) happened() bool {
	f := protocol.Explain(a.code)
	return f.Severity == protocol.Alarm && !f.Lasts
}

// alarms returns what is open of the register's alarms, as alerts. They are told at once, since what has happened does not pass, and are over when somebody has settled them, whatever
// becomes of the terminal; no mark silences them. A terminal may have no home by now, and a passkey's hash stands in its place where it is a passkey that was copied.
func (s *Service) alarms(ctx context.Context) ([]alert, error) {
	if s.c.Alarms == nil {
		return nil, nil
	}
	list, err := s.c.Alarms.Alarms(ctx, 0)
	if err != nil {
		return nil, err
	}
	begun := make([]alert, 0, len(list))
	for _, a := range list {
		if f := (alert{terminal: a.Terminal, home: a.Home, code: a.Code, since: a.First}); a.SettledBy == "" && f.happened() {
			begun = append(begun, f)
		}
	}
	return begun, nil
}
