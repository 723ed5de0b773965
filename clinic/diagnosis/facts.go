package diagnosis

import (
	"slices"
	"strings"

	"vindu/protocol"
)

// Limits beyond which a figure becomes a fact.
const (
	muchLost   = 50    // ‰ of what should have arrived, over the call
	fadedLoss  = 200   // ‰, in the last of the series
	fadedFor   = 5     // s, the last of the series
	slowTrip   = 400   // ms, median: people begin to talk at the same time (ITU-T G.114)
	manyStops  = 5     // freezes of the picture
	manyMoves  = 3     // times that the path was lost and another looked for
	muchHeat   = 85    // °C: a terminal that is said to be too hot where its board names no limit
	longEnough = 5     // values that a series needs to say anything
	longTalk   = 5_000 // ms, after which what has not come does not come
)

// Facts are what evidence comes to in plain words, sorted.
func Facts(e Evidence) []string {
	facts := []string{"outcome=" + string(e.Outcome), "outcome:" + e.Outcome.Stage()}
	add := func(when bool, f string) {
		if when {
			facts = append(facts, f)
		}
	}
	add(e.Clinic != "", "clinic="+string(e.Clinic))
	add(e.Rang, "rang")
	add(e.Talked, "talked")
	add(e.NeverLeft, "never left")
	add(e.RelayOnly, "relay only")
	add(protocol.Explain(e.Outcome).Severity == protocol.Note, "as it should be")
	add(protocol.Explain(e.Outcome).Severity == protocol.Alarm, "alarm")
	add(!protocol.Known(e.Outcome), "unheard of")
	for _, c := range e.Held {
		facts = append(facts, "held="+string(c))
	}
	half(add, "terminal", e.Terminal)
	half(add, "caller", e.Caller)
	add(slices.Contains(facts, "terminal.loss=much") || slices.Contains(facts, "caller.loss=much"), "loss=much")
	slices.Sort(facts)
	return slices.Compact(facts)
}

// half adds what an end has told.
func half(add func(bool, string), end string, h *protocol.CallRecord) {
	if h == nil {
		add(true, end+"=missing")
		return
	}
	say := func(when bool, f string) { add(when, end+"."+f) }
	add(true, end+"="+string(h.Outcome))
	reached, moves := map[string]bool{}, 0
	for _, s := range h.Stages {
		reached[s.Stage] = true
		if s.Stage == "restart" {
			moves++
		}
		say(true, "reached="+s.Stage)
	}
	say(moves >= manyMoves, "path=moves")
	connected := reached["connected"] || reached["dtls"]
	say(h.LocalPath == "relay" || h.RemotePath == "relay", "path=relay")
	say(h.Duration >= longTalk && (h.Sound == "none" || h.Sound == ""), "sound=none")
	if !connected {
		path(say, h)
		return
	}
	q := h.Quality
	if h.Duration >= longTalk && q != (protocol.Quality{}) { // a page that was closed in the call may not have looked at its figures
		say(q.PacketsReceived == 0, "received=nothing")
		say(q.PacketsReceived > 0 && q.FramesDecoded == 0, "picture=none")
		say(q.FramesSent == 0, "sent=no picture")
	}
	say(q.PacketsLost*1000 > muchLost*(q.PacketsLost+q.PacketsReceived), "loss=much")
	say(h.Duration >= longTalk && q.RTT > slowTrip, "delay=long") // the first checks of a path take what the ends take to begin
	say(q.Freezes >= manyStops, "picture=stops")
	say(q.Heat >= muchHeat, "heat=much")
	if s := h.Series; s != nil && len(s.RTT) >= longEnough {
		last := max(1, min(len(s.Loss), int(fadedFor/max(s.Every, 1))))
		say(mean(s.Loss[len(s.Loss)-last:]) >= fadedLoss, "end=lossy")
		say(mean(s.In[len(s.In)-last:]) == 0, "end=silent")
	}
}

// path adds what became of the search for a path that found none.
func path(say func(bool, string), h *protocol.CallRecord) {
	for _, g := range h.Gather {
		switch {
		case g.Code == 400 || g.Code == 401 || g.Code == 403 || g.Code == 437 || g.Code == 441:
			say(true, "relay=refused")
		case g.Code == 486 || g.Code == 508:
			say(true, "relay=full")
		case g.Way != "stun":
			say(true, "relay."+g.Way+"=unreachable")
		}
	}
	if len(h.Pairs) == 0 {
		say(true, "pairs=none")
		return
	}
	var asked, answered, heard uint64
	relay, far, six, four := false, false, false, false
	for _, p := range h.Pairs {
		asked, answered, heard = asked+p.Asked, answered+p.Answered, heard+p.Heard
		relay = relay || p.Local.Kind == "relay"
		far = far || p.Remote.Kind == "relay"
		six = six || strings.HasPrefix(p.Local.Network, "v6")
		four = four || strings.HasPrefix(p.Local.Network, "v4")
	}
	say(!relay, "relay=none")
	say(!far, "far relay=none")
	say(asked > 0 && answered == 0 && heard == 0, "heard=nothing")
	say(answered == 0 && heard > 0, "heard=one way")
	say(answered > 0, "heard=answers")
	say(six && !four, "network=six only")
}

func mean(list []uint64) uint64 {
	var sum uint64
	for _, v := range list {
		sum += v
	}
	return sum / uint64(max(len(list), 1))
}
