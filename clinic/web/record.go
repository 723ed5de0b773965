package web

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
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
	Facts   []fact
	Charts  []chart
}

// chart is one figure through a call.
type chart struct {
	Name   string // with how much it was at the most, or the least
	Points string // of an SVG polyline, 300 wide and 40 high
}

type recordView struct {
	frame
	Overseen string // to an operator: what is left out here, and why
	Back     string // where the page leads back to
	Line     recentView
	Who      string
	What     string // the sentence: what, where, who acts, how sure
	Because  string // what it rests on
	Now      string // what the caller can do now
	For      string // whom Next is for, if it is not said before
	Next     string
	Facts    []fact
	Journal  string
	Proof    proofView
	Course   []moment
	Apart    string // what is to be known of its times
	Halves   []halfView
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
	view.Back = "/"
	view.Proof = s.words.proof(record, passkeys, s.o.RelyingParty)
	view.frame = s.frame(s.words.say("record.title", names{"home": record.HomeLabel}), &v)
	s.render(w, r, http.StatusOK, "record", view)
}

func (w words) record(r calls.Record) recordView {
	f := w.explain(r.Outcome)
	v := recordView{Line: w.recent(r, time.Now())}
	who := r.Person.Party
	full := fmt.Sprintf("%s, %s, %s", who.Name, who.Role, who.Organisation)
	if who.Name == "" { // to operators
		full = w.who(who)
	}
	add := func(key, value string, mono bool) {
		v.Facts = append(v.Facts, fact{Name: w[key], Value: value, Mono: mono})
	}
	add("record.began", w.full(r.Began), false)
	if r.Outcome != "" {
		d := r.Diagnosis.In(w["lang"])
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
		n := names{"home": r.HomeLabel, "began": w.full(r.Began), "who": full, "sentence": f.Sentence}
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
	v.Course, v.Apart = w.course(r)
	if p := r.Present.With; p != nil {
		add("record.present.with", w.with(*p), false)
	}
	if text, ok := w["record.present.home."+r.Present.Home]; ok {
		add("record.present.home", text, false)
	}
	for _, c := range r.Curtains {
		if text, ok := w["record.curtain."+string(c.By)+"."+c.What]; ok {
			add("record.curtain", local(c.At).Format("15:04:05")+" "+text, false)
		}
	}
	v.Halves = []halfView{w.half("record.half.caller", r.CallerHalf), w.half("record.half.terminal", r.TerminalHalf)}
	return v
}

// with says who was with the caller, by number.
func (w words) with(p calls.With) string {
	var said []string
	for _, n := range []struct {
		number int
		key    string
	}{{p.Colleagues, "record.present.colleagues"}, {p.Students, "record.present.students"}, {p.Others, "record.present.others"}} {
		if n.number > 0 {
			said = append(said, w.say(n.key, names{"number": strconv.Itoa(n.number)}))
		}
	}
	if len(said) == 0 {
		return w["record.present.nobody"]
	}
	return strings.Join(said, ", ")
}

func (w words) half(title string, h *protocol.CallRecord) halfView {
	v := halfView{Title: w[title], Missing: h == nil}
	if h == nil {
		return v
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
	}
	if flowed(h) {
		v.Facts = append(v.Facts, fact{Name: w["record.quality"], Value: w.say("record.quality.text", names{
			"rtt": n(q.RTT), "lost": n(q.PacketsLost), "received": n(q.PacketsReceived), "decoded": n(q.FramesDecoded), "sent": n(q.FramesSent),
			"freezes": n(q.Freezes), "concealed": n(q.Concealed),
		})})
	}
	v.Facts = append(v.Facts, w.numbers(q)...)
	v.Facts = append(v.Facts, w.tried(h)...)
	if s := h.Series; s != nil && len(s.RTT) > 0 {
		worst := func(list []uint64) string { return n(slices.Max(list)) }
		least := func(list []uint64) string { return n(slices.Min(list)) }
		v.Facts = append(v.Facts, fact{Name: w["record.series"], Value: w.say("record.series.text", names{
			"every": n(s.Every), "rtt": worst(s.RTT), "loss": w.decimal(float64(slices.Max(s.Loss))/10, 1), "jitter": worst(s.Jitter),
			"out": least(s.Out), "in": least(s.In), "frames": least(s.Frames),
		})})
		v.Charts = w.charts(s)
	}
	return v
}

// flowed reports whether an end had anything to measure: its noughts are figures of a call that was answered, or in which something came or went, and of no other.
func flowed(h *protocol.CallRecord) bool {
	q := h.Quality
	return h.Duration > 0 || q.RTT > 0 || q.PacketsReceived > 0 || q.PacketsLost > 0 || q.FramesSent > 0 || q.FramesDecoded > 0
}

// numbers are what an end knows besides: the grade of its sound, its picture's pauses and coders, its echo, and the board.
func (w words) numbers(q protocol.Quality) []fact {
	var facts []fact
	add := func(known bool, key, text string, n names) {
		if known {
			facts = append(facts, fact{Name: w[key], Value: w.say(text, n)})
		}
	}
	hundredths := func(v uint64) string { return w.decimal(float64(v)/100, 1) }
	n := func(x uint64) string { return strconv.FormatUint(x, 10) }
	add(q.Grade > 0, "record.grade", "record.grade.text", names{"grade": hundredths(q.Grade), "worst": hundredths(q.Worst)})
	add(q.Frozen > 0, "record.frozen", "record.frozen.text", names{"seconds": w.decimal(float64(q.Frozen)/1000, 1)})
	add(q.ERLE > 0, "record.erle", "record.erle.text", names{"db": n(q.ERLE)})
	add(q.CodecOut != "" || q.CodecIn != "", "record.codec", "record.codec.text", names{"out": cmp.Or(q.CodecOut, "–"), "in": cmp.Or(q.CodecIn, "–")})
	add(q.CPU > 0, "record.cpu", "record.cpu.text", names{"percent": n(q.CPU / 10)})
	add(q.Heat > 0, "record.heat", "record.heat.text", names{"degrees": n(q.Heat)})
	return facts
}

// charts draw a series, each figure from 0 to its most.
func (w words) charts(s *protocol.Series) []chart {
	var all []chart
	for _, c := range []struct {
		key  string
		of   []uint64
		by   float64 // what the figure is divided by to be in its unit
		best bool    // of a high figure the least is worth a word
	}{
		{"record.chart.rtt", s.RTT, 1, false}, {"record.chart.loss", s.Loss, 10, false}, {"record.chart.jitter", s.Jitter, 1, false}, {"record.chart.out", s.Out, 1, true}, {"record.chart.in", s.In, 1, true}, {"record.chart.frames", s.Frames, 1, true},
		{"record.chart.frozen", s.Frozen, 10, false}, {"record.chart.concealed", s.Concealed, 10, false}, {"record.chart.grade", s.Grade, 100, true}, {"record.chart.erle", s.ERLE, 1, true}, {"record.chart.cpu", s.CPU, 10, false}, {"record.chart.heat", s.Heat, 1, false},
	} {
		if len(c.of) < 2 {
			continue
		}
		most, worth := slices.Max(c.of), slices.Max(c.of)
		if c.best {
			worth = slices.Min(c.of)
		}
		var b strings.Builder
		for i, v := range c.of {
			fmt.Fprintf(&b, "%.1f,%.1f ", 300*float64(i)/float64(len(c.of)-1), 39-38*float64(v)/float64(max(most, 1)))
		}
		all = append(all, chart{Points: strings.TrimSpace(b.String()), Name: w.say(c.key, names{"worth": w.decimal(float64(worth)/c.by, -1)})})
	}
	return all
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
		return local(t.Time()).Format("15:04:05")
	}
	return name + " · " + w.say("record.open", names{"from": clock(from), "to": clock(to)})
}
