package screen

import (
	"strings"

	"vindu/protocol"
)

// Aloud returns the sentences that a voice says when a scene comes up, in their order: the words of the screen, but for what changes by the second, and codes. A call
// names its caller in the first one. What of a call is on is not among them (see DevicesAloud), because it is known only later. Scenes that nobody is to be disturbed by have none.
func (l *Language) Aloud(s Scene) []string {
	t := l.text(s)
	switch s.Kind {
	case Ringing:
		caller := first(s.Parties)
		said := []string{sentence(fill(t.Calling, "name", caller.Name)) + " " + sentence(capital(fill(t.From, "role", caller.Role, "organisation", caller.Organisation)))}
		for _, p := range rest(s.Parties) {
			said = append(said, sentence(p.Name+", "+p.Role))
		}
		if s.Urgent {
			said = append(said, t.Urgent)
		}
		if s.Covered {
			said = append(said, t.Covered)
		}
		switch {
		case s.Ask:
			return append(said, t.Take)
		case !s.AnswersAt.IsZero():
			said = append(said, t.ByItself)
		}
		if s.Button {
			return append(said, t.SayNo)
		}
		return append(said, t.NothingToDo)
	case InCall:
		var who []string
		for _, p := range s.Parties {
			who = append(who, p.Name+", "+p.Role)
		}
		return []string{sentence(t.TalkingWith + " " + strings.Join(who, "; "))}
	case Ended:
		return append(l.ended(s), l.later(s)...)
	case Starting, NotSetUp, Ready, Checking, Pressing, Returned, Lost, Resting:
	}
	return nil
}

// NoticeAloud are the things that are told before a home's first call, each as one text.
func (l *Language) NoticeAloud(s Scene) []string {
	var told []string
	for _, card := range l.cards(s) {
		told = append(told, strings.TrimSpace(sentence(card[0])+" "+card[1]))
	}
	return told
}

// DevicesAloud says what of a call is on, and before that whose curtain is drawn.
func (l *Language) DevicesAloud(s Scene) string {
	return sentence(strings.Join(append(l.curtain(s), l.devices(s)), " "))
}

// CameAloud and WentAloud say that somebody takes part in a call, and no longer does.
func (l *Language) CameAloud(p protocol.Party) string {
	return fill(l.Text.Came, "name", p.Name, "role", p.Role)
}

func (l *Language) WentAloud(p protocol.Party) string {
	return fill(l.Text.Went, "name", p.Name, "role", p.Role)
}

// AlwaysAloud are the sentences that name nobody, so that they can be made ready long before they are needed. The first are those that have to be said.
func (l *Language) AlwaysAloud() []string {
	t := l.Text
	return []string{
		t.Ended, t.CameraOffNow, t.YouSaidNo, t.CallLater, l.DevicesAloud(Scene{Camera: true, Microphone: true}), l.DevicesAloud(Scene{Microphone: true}), t.ByItself, t.SayNo, t.NothingToDo, l.Panel.SayNo,
	}
}

// sentence ends a text as sentences end: a voice pauses there.
func sentence(text string) string {
	if text == "" || strings.HasSuffix(text, ".") {
		return text
	}
	return text + "."
}
