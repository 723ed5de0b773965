package web

import (
	"context"
	"errors"
	"net/http"
	"reflect"
	"sync"
	"time"

	"vindu/clinic/alerts"
	"vindu/clinic/fleet"
	"vindu/clinic/register"
	"vindu/clinic/setup"
	"vindu/protocol"
)

// news tells open pages of operators that what they show has changed; they then fetch themselves anew (ts/live.ts).
type news struct {
	mu      sync.Mutex
	posted  *posting
	changed chan struct{}
}

// posting is what the operator's pages are made of and what has to be seen at once: no clocks, no numbers that only grow, no measurements, no calls. They change with every beat of
// every terminal, and are renewed once a minute.
type posting struct {
	homes  []register.Home
	states []fleet.State
	alarms []register.Alarm
	orders map[protocol.KeyHash]setup.Order
	marks  map[protocol.KeyHash]map[protocol.Code]alerts.Mark
}

func newNews() *news { return &news{changed: make(chan struct{})} }

// post says what is to be shown now.
func (n *news) post(s *posting) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if reflect.DeepEqual(n.posted, s) {
		return
	}
	n.posted = s
	close(n.changed)
	n.changed = make(chan struct{})
}

// next returns a channel that is closed at the next change.
func (n *news) next() <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.changed
}

// overview reads what operators see.
func (s *Server) overview(ctx context.Context) (*posting, error) {
	homes, err := s.o.Custody.Homes(ctx)
	alarms, alarmsErr := s.o.Custody.Alarms(ctx, settledListed)
	orders, ordersErr := s.o.Setup.Latest(ctx)
	if err := errors.Join(err, alarmsErr, ordersErr); err != nil {
		return nil, err
	}
	v := &posting{homes: homes, alarms: alarms, orders: orders}
	if s.o.Marks != nil {
		if v.marks, err = s.o.Marks.Marks(ctx); err != nil {
			return nil, err
		}
	}
	for _, h := range homes {
		if (h.Terminal == protocol.KeyHash{}) {
			continue
		}
		state := s.o.Fleet.State(h.Terminal)
		state.Heard, state.RoundTrip, state.Malformed = time.Time{}, time.Time{}, 0
		if state.Health != nil {
			h := *state.Health
			h.At, h.Uptime, h.Pending, h.Dropped, h.Malformed, h.Figures = 0, 0, 0, 0, 0, nil
			state.Health = &h
		}
		v.states = append(v.states, state)
	}
	return v, nil
}

const (
	// watched is for how many beats a stream goes on without a look whether its person may still see the page.
	watched = 15
	// renewed is after how many beats a page is fetched anew for what no posting has.
	renewed = 2 * watched
)

// live is the stream of an operator's open page: it says that something has changed, not what.
func (s *Server) live(w http.ResponseWriter, r *http.Request, v visitor) {
	st, delist, ok := s.admit(w, r, v)
	if !ok {
		return
	}
	defer delist()
	changed := s.news.next()
	out := startStream(w)
	tick := time.NewTicker(beat)
	defer tick.Stop()
	expiry := time.NewTimer(time.Until(v.expires))
	defer expiry.Stop()
	for beats := 0; out.err == nil; {
		select {
		case <-r.Context().Done():
			return
		case <-s.closing:
			return
		case <-st.done:
			return
		case <-expiry.C:
			return
		case <-changed:
			changed = s.news.next()
			out.send("changed", "", struct{}{})
		case <-tick.C:
			if beats++; beats%watched == 0 && !s.still(r, v) {
				return
			}
			if beats%renewed == 0 {
				out.send("changed", "", struct{}{})
				continue
			}
			out.send("beat", "", struct{}{})
		}
	}
}

// still reports whether the visitor's session holds, and the person has the duty, as when v was found.
func (s *Server) still(r *http.Request, v visitor) bool {
	now, err := s.visitor(r)
	return err == nil && now.person.Duty == v.person.Duty
}
