package screen

import (
	"time"

	"vindu/protocol/notice"
)

// cardCount is how many things a home is told before its first call, each for as long as the others (R24).
const cardCount = 4

// card returns which of them is shown at now, while they are.
func (s *Scene) card(now time.Time) (n int, ok bool) {
	left := s.NoticeEnds.Sub(now)
	if s.NoticeEnds.IsZero() || left <= 0 || s.Notice < cardCount {
		return 0, false
	}
	return min(max(int((s.Notice-left)/(s.Notice/cardCount)), 0), cardCount-1), true
}

// cards are what they say: a sentence each, and what there is to add.
func (l *Language) cards(s Scene) [cardCount][2]string {
	n, caller := l.Notice, first(s.Parties)
	say := func(text string) string {
		return notice.Fill(text, "organisation", caller.Organisation, "name", caller.Name)
	}
	how := [2]string{say(n.Nothing), say(n.NothingMore)}
	if s.Ask {
		how = [2]string{say(n.Asked), say(n.AskedMore)}
	}
	no := [2]string{say(n.No), say(n.NoPlug)}
	switch {
	case s.Ask: // how it is taken is below, and to say no nothing is needed
		no[1] = say(n.NoAsked)
	case s.Button: // what it does is below, in the same place on every card
		no[1] = ""
	}
	return [cardCount][2]string{{say(n.Title), say(n.Wishes)}, how, {say(n.Private), say(n.PrivateMore)}, no}
}

// told shows one card. What the button does is below it, as it is while it rings.
func (c *composer) told(l *layout, s Scene, card [2]string) {
	t := c.lang.text(s)
	no := c.button(s, t.SayNo)
	if s.Ask {
		no = t.Take
	}
	caller := fill(t.Calling, "name", first(s.Parties).Name) // always to be seen (R12)
	c.center(l,
		line{caller, regular, c.em(4.5), warm, 2},
		line{card[0], bold, c.em(9), white, 4},
		line{card[1], regular, c.em(5.4), soft, 7},
		line{no, regular, c.em(4.5), calm, 3},
	)
}
