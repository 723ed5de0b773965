package web

import (
	"context"
	"reflect"
	"sync"
	"time"

	"vindu/clinic/fleet"
	"vindu/clinic/register"
	"vindu/protocol"
)

// How a home stands.
const (
	stateReady     = "ready"
	stateAttention = "attention"
	stateBusy      = "busy"
	stateOffline   = "offline"
	stateNone      = "none"
	// To callers alone: nothing is wrong, but the home rests, or its camera is covered.
	stateQuiet   = "quiet"
	stateCovered = "covered"
)

// homeView is a home as a page shows it, in words.
type homeView struct {
	ID       string     `json:"home"`
	Terminal string     `json:"terminal"` // the terminal's name
	Label    string     `json:"-"`
	Code     string     `json:"-"`
	SPKI     []byte     `json:"-"`
	State    string     `json:"state"`
	Word     string     `json:"word"`
	Detail   string     `json:"detail"`
	Notes    []noteView `json:"notes"`
}

// noteView is something about a home that a caller should know before ringing.
type noteView struct {
	Kind string `json:"kind"` // "test": something stands in for a device; "warn": somebody has to act
	Text string `json:"text"`
	Next string `json:"next"`
}

func (w words) home(h register.Home, s fleet.State, now time.Time) homeView {
	v := homeView{ID: h.ID, Label: h.Label, SPKI: h.SPKI, Notes: []noteView{}}
	if (h.Terminal == protocol.KeyHash{}) {
		v.State, v.Word, v.Detail = stateNone, w["home.none"], w["home.none.detail"]
		return v
	}
	v.Terminal, v.Code = h.Terminal.Name(), h.Terminal.Code()
	if s.Online && s.Health != nil {
		v.Notes = append(v.Notes, w.devices(s.Health)...)
		v.Notes = append(v.Notes, w.standing(s.Health)...)
		var raised []protocol.Code
		for _, c := range s.Health.Conditions {
			raised = append(raised, c.Code)
		}
		for _, c := range protocol.Showing(raised) {
			f := w.explain(c)
			if f.Who == protocol.Nobody || saidByDevices(c) {
				continue
			}
			v.Notes = append(v.Notes, noteView{"warn", f.Sentence, f.Next})
		}
	}
	v.State, v.Word, v.Detail = w.readiness(h, s, now)
	return v
}

// readiness says in a word whether a home with a terminal can be rung now, and in a few why not, or how that is known. It is the one place that does; the state gives the word its colour and its sign, and
// never tells alone.
func (w words) readiness(h register.Home, s fleet.State, now time.Time) (state, word, detail string) {
	if !s.Online {
		if s.Heard.IsZero() {
			return stateOffline, w["home.offline"], w["home.never"]
		}
		return stateOffline, w["home.offline"], w.say("home.heard", names{"time": w.when(s.Heard, now)})
	}
	if s.Health == nil {
		return stateReady, w["home.ready"], w["home.unreported"]
	}
	detail = w.say("home.since", names{"time": w.when(s.Since, now)})
	switch state, _ = standing(h, s); {
	case state == stateBusy:
		return state, w["home.busy"], w["home.busy.detail"]
	case state != stateReady:
		return state, w["home."+state], detail
	case s.Health.Quiet:
		return stateQuiet, w["home.quiet"], detail
	case s.Health.Covered:
		return stateCovered, w["home.covered"], detail
	}
	return stateReady, w["home.ready"], detail
}

// standing says what of the home's own doing a caller should know.
func (w words) standing(h *protocol.Health) (notes []noteView) {
	if h.Quiet {
		notes = append(notes, noteView{Kind: "warn", Text: w["home.quiet.note"]})
	}
	if h.Covered {
		notes = append(notes, noteView{Kind: "warn", Text: w["home.covered.note"]})
	}
	return notes
}

// devices says plainly what stands in for a device, and what is missing.
func (w words) devices(h *protocol.Health) []noteView {
	var notes []noteView
	add := func(kind, key string) { notes = append(notes, noteView{Kind: kind, Text: w[key]}) }
	switch h.Camera.Kind {
	case "synthetic":
		add("test", "home.test.picture")
	case "none":
		add("warn", "home.no.camera")
	}
	switch h.Microphone.Kind {
	case "synthetic":
		add("test", "home.test.sound")
	case "none":
		add("warn", "home.no.microphone")
	}
	if h.Speaker.Kind == "none" {
		add("warn", "home.no.speaker")
	}
	if h.Screen.Kind == "memory" {
		add("test", "home.memory.screen")
	}
	return notes
}

// saidByDevices are conditions that devices has said already, in words for a caller.
func saidByDevices(c protocol.Code) bool {
	switch c {
	case protocol.CaptureNoCamera, protocol.CaptureNoMicrophone, protocol.CaptureNoSpeaker, protocol.CaptureTestPicture, protocol.CaptureTestSound:
		return true
	}
	return false
}

// board holds the homes as pages of one language show them and tells pages what has changed.
type board struct {
	mu      sync.Mutex
	version uint64
	homes   []postedHome // by label
	changed chan struct{}
}

type postedHome struct {
	homeView
	version uint64
}

func newBoard() *board { return &board{changed: make(chan struct{})} }

// post replaces all homes; those that differ from before count as changed.
func (b *board) post(homes []homeView) {
	b.mu.Lock()
	defer b.mu.Unlock()
	before := make(map[string]postedHome, len(b.homes))
	for _, h := range b.homes {
		before[h.ID] = h
	}
	next := make([]postedHome, 0, len(homes))
	changed := false
	for _, h := range homes {
		p, ok := before[h.ID]
		if !ok || !reflect.DeepEqual(p.homeView, h) {
			p = postedHome{h, b.version + 1}
			changed = true
		}
		next = append(next, p)
	}
	b.homes = next
	if changed {
		b.version++
		close(b.changed)
		b.changed = make(chan struct{})
	}
}

// since returns the homes that changed after version, the version now, and a channel that is closed at the next change.
func (b *board) since(version uint64) ([]homeView, uint64, <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var homes []homeView
	for _, h := range b.homes {
		if h.version > version {
			homes = append(homes, h.homeView)
		}
	}
	return homes, b.version, b.changed
}

// Bounds on how often the homes are read anew: at most every settle, and at least every refresh, because a terminal that has
// fallen silent says nothing.
const (
	settle  = 200 * time.Millisecond
	refresh = 5 * time.Second
)

// rest is for how long nobody looks after a look that took so long: looking at ten thousand homes may keep a fifth of a processor busy, not a whole one.
func rest(took time.Duration) time.Duration { return min(max(settle, 4*took), refresh) }

// read looks at all homes now.
func (s *Server) read(ctx context.Context) ([]homeView, error) {
	homes, err := s.o.Register.Homes(ctx)
	if err != nil {
		return nil, err
	}
	alarmed := map[protocol.KeyHash]string{} // what callers are told
	if s.o.Custody != nil {
		alarms, err := s.o.Custody.Alarms(ctx, 0)
		if err != nil {
			return nil, err
		}
		for _, a := range alarms {
			if a.Code == protocol.IdentityClone || a.Code == protocol.IdentityTwice {
				alarmed[a.Terminal] = s.words["home.alarm"]
			} else if alarmed[a.Terminal] == "" {
				alarmed[a.Terminal] = s.words["home.alarm.other"]
			}
		}
	}
	now := time.Now()
	views := make([]homeView, 0, len(homes))
	for _, h := range homes {
		var state fleet.State
		if (h.Terminal != protocol.KeyHash{}) {
			state = s.o.Fleet.State(h.Terminal)
		}
		v := s.words.home(h, state, now)
		if state.Online && state.Health != nil { // of one that is not, what it rehearsed says nothing about ringing it
			v.Notes = append(v.Notes, s.words.rehearsalNotes(state.Health.Rehearsed, s.o.Rehearsals, now)...)
		}
		if text := alarmed[h.Terminal]; text != "" {
			v.Notes = append([]noteView{{Kind: "warn", Text: text}}, v.Notes...)
			if v.State == stateReady || v.State == stateQuiet || v.State == stateCovered {
				v.State, v.Word = stateAttention, s.words["home.attention"]
			}
		}
		views = append(views, v)
	}
	return views, s.told(ctx, views, now)
}

// pin puts all homes as they are now on the board of each language.
func (s *Server) pin(ctx context.Context) error {
	for _, t := range s.tongues {
		homes, err := t.read(ctx)
		if err != nil {
			return err
		}
		t.board.post(homes)
	}
	return nil
}

// follow keeps the boards up to date until ctx ends.
func (s *Server) follow(ctx context.Context) {
	changes, cancel := s.o.Fleet.Watch()
	defer cancel()
	tick := time.NewTicker(refresh)
	defer tick.Stop()
	for {
		for range len(changes) { // one look is for all of them
			<-changes
		}
		began := time.Now()
		if err := s.pin(ctx); err != nil && ctx.Err() == nil {
			s.o.Log.Error("homes cannot be read; pages show them as they were", "error", err)
		}
		if s.o.Custody != nil && s.o.Setup != nil {
			if v, err := s.overview(ctx); err == nil {
				s.news.post(v)
			} else if ctx.Err() == nil {
				s.o.Log.Error("terminals and alarms cannot be read; pages show them as they were", "error", err)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(rest(time.Since(began))):
		}
		select {
		case <-ctx.Done():
			return
		case <-changes:
		case <-tick.C:
		}
	}
}
