package web

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"vindu/clinic/calls"
	"vindu/protocol"
)

// fact is a line of a record.
type fact struct {
	Name, Value string
	Mono        bool // something to compare character by character
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
	Next    string
	Facts   []fact
	Journal string
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
	view := s.words.record(record)
	view.frame = s.frame(s.words.say("record.title", names{"home": record.HomeLabel}), &v)
	s.render(w, r, http.StatusOK, "record", view)
}

func (w words) record(r calls.Record) recordView {
	f := protocol.Explain(r.Outcome)
	v := recordView{Line: w.recent(r, time.Now())}
	who := r.Person.Party
	full := fmt.Sprintf("%s, %s, %s", who.Name, who.Role, who.Organisation)
	add := func(key, value string, mono bool) { v.Facts = append(v.Facts, fact{w[key], value, mono}) }
	add("record.began", w.full(r.Began), false)
	if r.Outcome != "" {
		v.Who, v.Next = w["record.who."+string(f.Who)], f.Next
		if !r.EndedAt.IsZero() {
			add("record.ended", w.full(r.EndedAt), false)
		}
		n := names{"home": r.HomeLabel, "began": w.full(r.Began), "who": full, "sentence": v.Line.Sentence}
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
	signed := w["record.signed_end.no"]
	if len(r.TerminalEnd) > 0 {
		signed = w["record.signed_end.yes"]
	}
	add("record.signed_end", signed, false)
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
		v.Stages = append(v.Stages, fact{name, fmt.Sprintf("+%s s", strconv.FormatFloat(float64(s.After)/1000, 'f', 2, 64)), true})
	}
	encryption := w["record.path.none"]
	if h.Crypto.SRTP != "" || h.Crypto.Suite != "" {
		encryption = h.Crypto.SRTP + " · " + h.Crypto.Suite
	}
	path := w["record.path.none"]
	if h.LocalPath != "" {
		path = h.LocalPath + " – " + h.RemotePath
	}
	q := h.Quality
	n := func(x uint64) string { return strconv.FormatUint(x, 10) }
	v.Facts = []fact{
		{w["record.encryption"], encryption, true},
		{w["record.path"], path, false},
		{w["record.camera"], w.device(h.Camera, h.CameraOpen, h.CameraClosed), false},
		{w["record.microphone"], w.device(h.Sound, h.MicOpen, h.MicClosed), false},
		{w["record.quality"], w.say("record.quality.text", names{
			"rtt": n(q.RTT), "lost": n(q.PacketsLost), "received": n(q.PacketsReceived), "decoded": n(q.FramesDecoded), "sent": n(q.FramesSent),
			"freezes": n(q.Freezes), "concealed": n(q.Concealed),
		}), false},
	}
	return v
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
