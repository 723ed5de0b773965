package screen

import (
	"testing"
	"time"

	"vindu/protocol"
)

// TestCards: each thing that a home is told before its first call is shown for as long as the others, and looked at anew when the next is due.
func TestCards(t *testing.T) {
	const whole = 40 * time.Second
	s := Scene{Kind: Ringing, Parties: []protocol.Party{{Name: "Anne"}}, Notice: whole, NoticeEnds: noon.Add(whole), AnswersAt: noon.Add(whole + 5*time.Second)}
	now, shown := noon, []int{}
	for range cardCount {
		card, ok := s.card(now)
		if !ok {
			t.Fatalf("none is shown after %v", now.Sub(noon))
		}
		shown = append(shown, card)
		wait := next(s, now)
		if before, _ := s.card(now.Add(wait - 2*time.Millisecond)); before != card {
			t.Errorf("card %d gives way to %d without being looked at", card, before)
		}
		now = now.Add(wait)
	}
	for i, card := range shown {
		if card != i {
			t.Fatalf("cards %v", shown)
		}
	}
	if card, ok := s.card(now); ok {
		t.Errorf("card %d is shown after the time", card)
	}
	if d := next(s, now); d <= 0 || d > time.Second+time.Millisecond {
		t.Errorf("the count-down is looked at after %v", d)
	}
	for name, none := range map[string]Scene{"known": {Kind: Ringing}, "over": {Notice: whole, NoticeEnds: noon}, "no time at all": {Notice: 1, NoticeEnds: noon.Add(1)}} {
		if _, ok := none.card(noon); ok {
			t.Errorf("%s: told", name)
		}
	}
	for _, early := range []time.Duration{-time.Hour, -time.Second} { // a clock that was set
		if card, ok := s.card(noon.Add(early)); !ok || card != 0 {
			t.Errorf("%v before: card %d, %v", early, card, ok)
		}
	}
}
