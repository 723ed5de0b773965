package web

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"vindu/clinic/calls"
	"vindu/protocol"
)

const (
	// beat is how often a stream says something when there is nothing to say; a page takes three silent ones for a loss.
	beat = 2 * time.Second
	// writeDeadline is how long a browser may take to accept an event.
	writeDeadline = 10 * time.Second
	// maxStreams bounds the open pages of one person, maxAllStreams those of all.
	maxStreams    = 12
	maxAllStreams = 5000
)

// afterwards are the times, counted in beats, at which the list of calls is sent again after something has happened to one: the
// halves of its record come a little later.
var afterwards = []int{0, 1, 3}

type streamKey struct{ person, page string }

// stream is an open page's. poked asks it to send the list of calls.
type stream struct {
	page    string
	session string
	poked   chan struct{}
	righted chan struct{} // asks it to look what its person may see
	done    chan struct{} // closed when a newer stream of the same page takes its place, or its session has ended
}

// enlist registers a stream; false if there are too many.
func (s *Server) enlist(k streamKey, session string) (*stream, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if old, ok := s.streams[k]; ok {
		close(old.done)
		delete(s.streams, k)
	}
	own := 0
	for other := range s.streams {
		if other.person == k.person {
			own++
		}
	}
	if own >= maxStreams || len(s.streams) >= maxAllStreams {
		return nil, false
	}
	st := &stream{page: k.page, session: session, poked: make(chan struct{}, 1), righted: make(chan struct{}, 1), done: make(chan struct{})}
	s.streams[k] = st
	return st, true
}

// admit begins the stream of the page that asks for one, or refuses it. The caller calls delist when the stream is over.
func (s *Server) admit(w http.ResponseWriter, r *http.Request, v visitor) (st *stream, delist func(), ok bool) {
	page := r.URL.Query().Get("page")
	if !pagePattern.MatchString(page) {
		s.refuse(w, http.StatusBadRequest, protocol.SignalMalformed, "")
		return nil, nil, false
	}
	key := streamKey{v.person.ID, page}
	if st, ok = s.enlist(key, v.session); !ok {
		s.refuse(w, http.StatusServiceUnavailable, protocol.BrowserFailed, "")
		return nil, nil, false
	}
	return st, func() { s.delist(key, st) }, true
}

func (s *Server) delist(k streamKey, st *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.streams[k] == st {
		delete(s.streams, k)
	}
}

// dismiss ends the streams of a session.
func (s *Server) dismiss(session string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k, st := range s.streams {
		if st.session == session {
			close(st.done)
			delete(s.streams, k)
		}
	}
}

// Dismiss ends the open pages' streams of a person whose sessions or passkeys changed: each asks anew, and is told if it may not. It does not block.
func (s *Server) Dismiss(person string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k, st := range s.streams {
		if k.person == person {
			close(st.done)
			delete(s.streams, k)
		}
	}
}

// poke has all pages of person show the list of calls anew.
func (s *Server) poke(person string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k, st := range s.streams {
		if k.person != person {
			continue
		}
		select {
		case st.poked <- struct{}{}:
		default: // it will look anyway
		}
	}
}

// updateView is a calls.Update as scripts get it.
type updateView struct {
	Call      string         `json:"call"`
	Kind      calls.Kind     `json:"kind"`
	Answer    []byte         `json:"answer,omitempty"`
	SDP       protocol.SDP   `json:"sdp,omitempty"`
	Restart   []byte         `json:"restart,omitempty"`
	Candidate *candidateView `json:"candidate,omitempty"`
	End       []byte         `json:"end,omitempty"`
	Curtain   []byte         `json:"curtain,omitempty"`
	Code      protocol.Code  `json:"code,omitempty"`
}

type candidateView struct {
	Line  protocol.CandidateLine `json:"line"`
	Mid   string                 `json:"mid"`
	MLine uint16                 `json:"mline"`
}

func viewUpdate(u calls.Update) updateView {
	v := updateView{Call: u.Call.String(), Kind: u.Kind, Answer: u.Answer, SDP: u.SDP, Restart: u.Restart, End: u.End, Curtain: u.Curtain, Code: u.Code}
	if u.Candidate != nil {
		v.Candidate = &candidateView{u.Candidate.Line, u.Candidate.Mid, u.Candidate.MLine}
	}
	return v
}

// writer writes server-sent events (HTML Standard §9.2), each within writeDeadline.
type writer struct {
	w   http.ResponseWriter
	c   *http.ResponseController
	err error // the first
}

func (w *writer) send(event, id string, data any) {
	if w.err != nil {
		return
	}
	b, err := json.Marshal(data)
	if err != nil {
		w.err = err
		return
	}
	if id != "" {
		id = "id: " + id + "\n"
	}
	if w.err = w.c.SetWriteDeadline(time.Now().Add(writeDeadline)); w.err != nil {
		return
	}
	if _, w.err = fmt.Fprintf(w.w, "event: %s\n%sdata: %s\n\n", event, id, b); w.err == nil {
		w.err = w.c.Flush()
	}
}

// startStream begins a response of events.
func startStream(w http.ResponseWriter) *writer {
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no")
	out := &writer{w: w, c: http.NewResponseController(w)}
	out.send("hello", "", struct{}{})
	return out
}

// events is a page's stream. It begins with the whole truth, so that nothing depends on what an earlier one delivered,
// except for updates of calls, which go on after the one that the page has seen last.
func (s *Server) events(w http.ResponseWriter, r *http.Request, v visitor) {
	after := uint64(0)
	if text := r.URL.Query().Get("after"); text != "" {
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			s.refuse(w, http.StatusBadRequest, protocol.SignalMalformed, "")
			return
		}
		after = n
	}
	st, delist, ok := s.admit(w, r, v)
	if !ok {
		return
	}
	defer delist()
	mine, err := s.scope(r.Context(), v.person.ID)
	if err != nil {
		s.broken(w, r, err)
		return
	}
	updates, cancel := s.o.Calls.Subscribe(v.person.ID, st.page, after)
	defer cancel()

	out := startStream(w)
	tick := time.NewTicker(beat)
	defer tick.Stop()
	expiry := time.NewTimer(time.Until(v.expires))
	defer expiry.Stop()
	told := s.words.seen(mine, time.Now())
	out.send("rights", "", told)
	var version uint64
	var changed <-chan struct{}
	// tell says of the homes that may be seen what has changed after version.
	tell := func() {
		var homes []homeView
		homes, version, changed = s.board.since(version)
		if homes = mine.only(homes); len(homes) > 0 {
			out.send("homes", "", homes)
		}
	}
	// look asks anew what may be seen. Where that cannot be found out, nothing may.
	look := func() {
		if mine, err = s.scope(r.Context(), v.person.ID); err != nil {
			out.err = err
			return
		}
		if now := s.words.seen(mine, time.Now()); !now.equal(told) {
			told, version = now, 0
			out.send("rights", "", told)
			tell()
		}
	}
	tell()
	due, beats := slices.Clone(afterwards[:1]), 0
	for out.err == nil {
		if i := slices.Index(due, 0); i >= 0 {
			due = slices.Delete(due, i, i+1)
			if recent, err := s.recents(r, v); err == nil {
				out.send("recent", "", recent)
			}
			continue
		}
		select {
		case <-r.Context().Done():
			return
		case <-s.closing:
			return
		case <-st.done:
			return
		case <-expiry.C:
			return
		case u, ok := <-updates:
			if !ok {
				return // it could not keep up: the page comes back and goes on where it was
			}
			out.send("call", strconv.FormatUint(u.Seq, 10), viewUpdate(u))
			if u.Kind == calls.KindEnd {
				s.poke(v.person.ID)
			}
		case <-changed:
			tell()
		case <-st.righted:
			look()
		case <-st.poked:
			due = slices.Clone(afterwards)
		case <-tick.C:
			if beats++; beats%watched == 0 && !s.still(r, v) {
				return
			}
			if beats%rightsEvery == 0 {
				look()
			}
			out.send("beat", "", struct{}{})
			for i := range due {
				due[i]--
			}
		}
	}
}
