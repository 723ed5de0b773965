package calls

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"golang.org/x/time/rate"

	"vindu/protocol"
)

// Curtain is something that an end has proven of the curtains in a call.
type Curtain struct {
	By     protocol.Side `json:"by"`
	What   string        `json:"what"`
	At     time.Time     `json:"at"`     // when the clinic heard of it
	Signed []byte        `json:"signed"` // protocol.Curtain, by the terminal's key or the call's
}

// What an end says of curtains.
const (
	CurtainDrawn  = "drawn"
	CurtainOpened = "opened"
	CurtainClosed = "closed" // camera and microphone, for whosever curtain; only a terminal says so
	CurtainBack   = "back"   // they may be open again
)

const (
	curtainRate  = 2  // statements a second of each end that are passed on
	curtainBurst = 8  // a terminal says that it is drawn, and that all is closed
	curtainsKept = 64 // of a call, in its record
)

// curtains are what the two ends of a call have said of theirs.
type curtains struct {
	terminal, caller curtainEnd
	late             []byte // the terminal's latest, if there were too many
	course           []Curtain
}

// curtainEnd is what one end has said.
type curtainEnd struct {
	limit  *rate.Limiter
	number uint32
	drawn  bool
	closed bool
}

func newCurtains() curtains {
	return curtains{terminal: curtainEnd{limit: rate.NewLimiter(curtainRate, curtainBurst)}, caller: curtainEnd{limit: rate.NewLimiter(curtainRate, curtainBurst)}}
}

// proveCurtain checks a statement as the other end will, and notes it. Nobody's says anything of another's, and an old one says nothing. s.mu is held.
func (c *call) proveCurtain(signed []byte, by protocol.Side) error {
	end, spki := &c.curtains.caller, c.callerKey
	if by == protocol.SideTerminal {
		end, spki = &c.curtains.terminal, c.spki
	}
	key, err := protocol.ParseKey(spki)
	if err != nil {
		return err
	}
	said := new(protocol.Curtain)
	if err := protocol.Verify(signed, key, said); err != nil {
		return err
	}
	switch {
	case said.Call != c.id || said.Terminal != c.terminal || said.Invitation != c.invitation || said.By != by:
		return fmt.Errorf("curtain of another call or side: %w", protocol.ErrMalformed)
	case said.Number <= end.number:
		return fmt.Errorf("curtain %d after %d: %w", said.Number, end.number, protocol.ErrMalformed)
	case !end.limit.Allow():
		return fmt.Errorf("curtains: %w", ErrTooMany)
	}
	end.number = said.Number
	note := func(changed bool, what string) {
		if changed && len(c.curtains.course) < curtainsKept {
			c.curtains.course = append(c.curtains.course, Curtain{By: by, What: what, At: time.Now(), Signed: signed})
		}
	}
	note(said.Drawn && !end.drawn, CurtainDrawn)
	note(!said.Drawn && end.drawn, CurtainOpened)
	closed := said.CameraClosed != 0
	note(closed && !end.closed, CurtainClosed)
	note(!closed && end.closed, CurtainBack)
	end.drawn, end.closed = said.Drawn, closed
	return nil
}

// curtained passes what a terminal says of its curtain on to the page. Of more than a few a second the last is, as soon as it may. s.mu is held.
func (s *Service) curtained(c *call, signed []byte) {
	if c.spki == nil {
		return
	}
	if c.curtains.late = nil; c.curtains.terminal.limit.Tokens() < 1 {
		c.curtains.late = signed
		return
	}
	if err := c.proveCurtain(signed, protocol.SideTerminal); err != nil {
		s.complain("curtain was left aside", "call", c.id, "terminal", c.terminal, "error", err)
		return
	}
	s.update(c, Update{Kind: KindCurtain, Curtain: signed})
}

// Curtain passes what a page has signed of its curtain on to the terminal, which verifies it. What the terminal would not believe is an error that wraps ErrBadRequest, and
// more than a few a second one that wraps ErrTooMany. After the call's end it does nothing.
func (s *Service) Curtain(ctx context.Context, person string, id protocol.CallID, signed []byte) error {
	message := &protocol.CallIn{Version: protocol.Version, Call: id, Kind: protocol.KindCurtain, Curtain: &protocol.CallCurtain{Curtain: signed}}
	if _, err := protocol.Encode(message); err != nil {
		return fmt.Errorf("%w: %w", ErrBadRequest, err)
	}
	s.mu.Lock()
	c, err := s.own(person, id)
	over := err != nil || c.state == Ended
	if !over {
		err = c.proveCurtain(signed, protocol.SideCaller)
	}
	s.mu.Unlock()
	switch {
	case err != nil && !errors.Is(err, ErrTooMany) && !errors.Is(err, ErrNotFound):
		return fmt.Errorf("%w: %w", ErrBadRequest, err)
	case err != nil || over:
		return err
	}
	return s.link.Send(ctx, c.terminal, message)
}

// keep is the course as its record keeps it; nil if there was none.
func (c *curtains) keep() []byte {
	if len(c.course) == 0 {
		return nil
	}
	b, err := json.Marshal(c.course)
	if err != nil { // of such fields there is nothing that cannot be written
		return nil
	}
	return b
}

func readCurtains(b []byte) []Curtain {
	var course []Curtain
	if len(b) == 0 || json.Unmarshal(b, &course) != nil { // written by a newer version
		return nil
	}
	return course
}
