package web

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"vindu/clinic/calls"
	"vindu/clinic/passkey"
	"vindu/protocol"
)

// fact is a line of a record.
type fact struct {
	Name, Value string
	Mono        bool   // something to compare character by character
	Details     string // what a technician wants to know besides
	Whole       string // what Value is short for
}

// halfView is one end's half of a record.
type halfView struct {
	Title   string
	Missing bool
	Stages  []fact
	Facts   []fact
}

type recordView struct {
	frame
	Line    recentView
	Who     string
	What    string // the sentence: what, where, who acts, how sure
	Because string // what it rests on
	Now     string // what the caller can do now
	For     string // whom Next is for, if it is not said before
	Next    string
	Facts   []fact
	Journal string
	Proof   proofView
	Halves  []halfView
}

func (s *Server) recordPage(w http.ResponseWriter, r *http.Request, v visitor) {
	id, err := protocol.ParseCallID(r.PathValue("call"))
	if err != nil {
		s.fail(w, r, http.StatusNotFound, "error.404")
		return
	}
	record, err := s.o.Calls.Record(r.Context(), v.person.ID, id)
	if errors.Is(err, calls.ErrNotFound) {
		s.fail(w, r, http.StatusNotFound, "error.404")
		return
	}
	if err != nil {
		s.broken(w, r, err)
		return
	}
	var passkeys []passkey.Passkey
	if s.o.Passkeys != nil {
		if passkeys, err = s.o.Passkeys.List(r.Context(), v.person.ID); err != nil {
			s.broken(w, r, err)
			return
		}
	}
	view := s.words.record(record)
	view.Proof = s.words.proof(record, passkeys, s.o.RelyingParty)
	view.frame = s.frame(s.words.say("record.title", names{"home": record.HomeLabel}), &v)
	s.render(w, r, http.StatusOK, "record", view)
}

func (w words) record(r calls.Record) recordView {
	f := protocol.Explain(r.Outcome)
	v := recordView{Line: w.recent(r, time.Now())}
	who := r.Person.Party
	full := fmt.Sprintf("%s, %s, %s", who.Name, who.Role, who.Organisation)
	add := func(key, value string, mono bool) {
		v.Facts = append(v.Facts, fact{Name: w[key], Value: value, Mono: mono})
	}
	add("record.began", w.full(r.Began), false)
	if r.Outcome != "" {
		d := r.Diagnosis
		v.Next = cmp.Or(d.Next, f.Next)
		switch {
		case d.What == "", d.Who == protocol.Nobody && d.What+"." == f.Sentence:
			v.Who = w["record.who."+string(f.Who)] // the sentence to the caller says it all
		case d.Who == protocol.Nobody:
			v.What = d.What + "."
		default:
			v.What, v.Now, v.Because, v.For = d.Sentence(), d.Now, w.say("record.because", names{"because": d.Because}), w["record.next."+string(d.Who)]
		}
		if v.Now == v.Next {
			v.Next = ""
		}
		if !r.EndedAt.IsZero() {
			add("record.ended", w.full(r.EndedAt), false)
		}
		n := names{"home": r.HomeLabel, "began": w.full(r.Began), "who": full, "sentence": cmp.Or(r.Sentence, f.Sentence)}
		key := "record.journal.failed"
		if d := talking(r); d > 0 {
			n["duration"] = spell(d)
			key = "record.journal.talked"
			add("record.duration", spell(d), false)
		}
		// After its own death the clinic cannot tell whether the two talked, until one of them has.
		if r.Outcome != protocol.SignalLostClinic || key == "record.journal.talked" || r.TerminalHalf != nil || r.CallerHalf != nil {
			v.Journal = w.say(key, n)
		}
	}
	add("record.caller", full, false)
	add("record.home", r.HomeLabel, false)
	add("record.terminal", r.Terminal.Code(), true)
	add("record.number", r.Call.String(), true)
	v.Halves = []halfView{w.half("record.half.caller", r.CallerHalf), w.half("record.half.terminal", r.TerminalHalf)}
	return v
}

func (w words) half(title string, h *protocol.CallRecord) halfView {
	v := halfView{Title: w[title], Missing: h == nil}
	if h == nil {
		return v
	}
	for _, s := range h.Stages {
		name, ok := w["record.stage."+s.Stage]
		if !ok {
			name = s.Stage
		}
		v.Stages = append(v.Stages, fact{Name: name, Value: fmt.Sprintf("+%s s", strconv.FormatFloat(float64(s.After)/1000, 'f', 2, 64)), Mono: true})
	}
	encryption := w["record.encryption.none"]
	if h.Crypto.SRTP != "" || h.Crypto.Suite != "" {
		encryption = h.Crypto.SRTP + " · " + h.Crypto.Suite
	}
	q := h.Quality
	n := func(x uint64) string { return strconv.FormatUint(x, 10) }
	v.Facts = []fact{
		{Name: w["record.encryption"], Value: encryption, Mono: true},
		w.path(h.LocalPath, h.RemotePath),
		{Name: w["record.camera"], Value: w.device(h.Camera, h.CameraOpen, h.CameraClosed)},
		{Name: w["record.microphone"], Value: w.device(h.Sound, h.MicOpen, h.MicClosed)},
		{Name: w["record.quality"], Value: w.say("record.quality.text", names{
			"rtt": n(q.RTT), "lost": n(q.PacketsLost), "received": n(q.PacketsReceived), "decoded": n(q.FramesDecoded), "sent": n(q.FramesSent),
			"freezes": n(q.Freezes), "concealed": n(q.Concealed),
		})},
	}
	v.Facts = append(v.Facts, w.tried(h)...)
	if s := h.Series; s != nil && len(s.RTT) > 0 {
		worst := func(list []uint64) string { return n(slices.Max(list)) }
		least := func(list []uint64) string { return n(slices.Min(list)) }
		v.Facts = append(v.Facts, fact{Name: w["record.series"], Value: w.say("record.series.text", names{
			"every": n(s.Every), "rtt": worst(s.RTT), "loss": strconv.FormatFloat(float64(slices.Max(s.Loss))/10, 'f', 1, 64), "jitter": worst(s.Jitter),
			"out": least(s.Out), "in": least(s.In), "frames": least(s.Frames),
		})})
	}
	return v
}

// tried says what was tried to find a path, and what came of it: of addresses the kind of network, for more was never told.
func (w words) tried(h *protocol.CallRecord) []fact {
	var facts []fact
	end := func(e protocol.PathEnd) string { return e.Kind + " " + e.Network + " " + e.Transport }
	for _, p := range h.Pairs {
		facts = append(facts, fact{Name: w["record.tried"], Value: w.say("record.tried.text", names{
			"local": end(p.Local), "remote": end(p.Remote), "state": p.State,
			"asked": strconv.FormatUint(p.Asked, 10), "answered": strconv.FormatUint(p.Answered, 10), "heard": strconv.FormatUint(p.Heard, 10),
		})})
	}
	for _, g := range h.Gather {
		facts = append(facts, fact{Name: w["record.unserved"], Mono: true, Value: fmt.Sprintf("%s: %d", g.Way, g.Code)})
	}
	return facts
}

// path says which way picture and sound took, by the types of the two ends' ICE candidates (RFC 8445 §4). Where both used an address of
// their own, there was no router to get through between them.
func (w words) path(local, remote string) fact {
	f := fact{Name: w["record.path"], Value: w["record.path.none"]}
	if local == "" {
		return f
	}
	f.Details = local + " – " + remote
	switch {
	case local == "relay" || remote == "relay":
		f.Value = w["record.path.relay"]
	case local == "host" && remote == "host":
		f.Value = w["record.path.network"]
	default:
		f.Value = w["record.path.direct"]
	}
	return f
}

// device says of which kind a device was and when it was open.
func (w words) device(kind string, from, to protocol.Time) string {
	name, ok := w["record.kind."+kind]
	if !ok {
		name = kind
	}
	if from == 0 {
		return name + " · " + w["record.never_open"]
	}
	clock := func(t protocol.Time) string {
		if t == 0 {
			return "…"
		}
		return t.Time().In(time.Local).Format("15:04:05")
	}
	return name + " · " + w.say("record.open", names{"from": clock(from), "to": clock(to)})
}
