package web

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"vindu/clinic/register"
	"vindu/clinic/series"
	"vindu/protocol"
)

// Series is how terminals were, in numbers; series.Keeper is one.
type Series interface {
	Fine(ctx context.Context, terminal protocol.KeyHash, from, to time.Time) ([]series.Sample, error)
	Hours(ctx context.Context, terminal protocol.KeyHash, from, to time.Time) ([]series.Hour, error)
}

// plotCalls bounds the calls of which the losses are drawn.
const plotCalls = 500

// plots are what is drawn of a terminal, in the order of the page. A signal is kept without its sign.
var plots = []struct {
	key  string
	kind series.Kind
	sign int64
}{
	{"signal", series.Signal, -1}, {"trip", series.Trip, 1}, {"heat", series.Heat, 1}, {"memory", series.Memory, 1}, {"outbox", series.Outbox, 1},
}

// unplotted stands for a figure that is not known: null, in JSON.
const unplotted = int64(-1) << 62

// figures are numbers in a row, some of which are not known.
type figures []int64

// MarshalJSON writes null for what is not known.
func (f figures) MarshalJSON() ([]byte, error) {
	b := []byte{'['}
	for i, v := range f {
		if i > 0 {
			b = append(b, ',')
		}
		if v == unplotted {
			b = append(b, "null"...)
		} else {
			b = strconv.AppendInt(b, v, 10)
		}
	}
	return append(b, ']'), nil
}

// plot is one chart: mean, and for hours what was least and most in them.
type plot struct {
	Key   string  `json:"key"`
	Name  string  `json:"name"`
	Unit  string  `json:"unit"`
	Mean  figures `json:"mean"`
	Least figures `json:"least,omitempty"`
	Most  figures `json:"most,omitempty"`
	Text  string  `json:"text"` // the same for who does not see it
}

// plotted is what the page's script draws: a value for each step from a time on, and what was lost in calls, each at its time.
type plotted struct {
	From   int64     `json:"from"` // seconds since 1970
	Step   int64     `json:"step"` // s
	Count  int       `json:"count"`
	Charts []plot    `json:"charts"`
	Calls  callsPlot `json:"calls"`
}

type callsPlot struct {
	Name string    `json:"name"`
	Unit string    `json:"unit"`
	Text string    `json:"text"`
	At   []int64   `json:"at"`   // s since 1970, ascending
	Lost []float64 `json:"lost"` // percent, of what the terminal received
}

// stretch is a time in which one terminal stood in a home.
type stretch struct {
	key      protocol.KeyHash
	from, to time.Time
}

// stood returns the terminals that stood in a home from one time to another, the first first: a key that was replaced in between is another terminal.
func (s *Server) stood(ctx context.Context, home string, from, to time.Time) ([]stretch, error) {
	stays, err := s.o.Custody.History(ctx, home)
	if err != nil {
		return nil, err
	}
	var list []stretch
	for _, stay := range slices.Backward(stays) {
		p := stretch{stay.Key, later(from, stay.Began), to}
		if !stay.Ended.IsZero() && stay.Ended.Before(to) {
			p.to = stay.Ended
		}
		if p.from.Before(p.to) {
			list = append(list, p)
		}
	}
	return list, nil
}

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

// hoursOf returns what the hours of a home's terminals came to.
func (s *Server) hoursOf(ctx context.Context, home string, from, to time.Time) ([]series.Hour, error) {
	stretches, err := s.stood(ctx, home, from, to)
	if err != nil {
		return nil, err
	}
	var list []series.Hour
	for _, p := range stretches {
		hours, err := s.o.Series.Hours(ctx, p.key, p.from, p.to)
		if err != nil {
			return nil, err
		}
		list = append(list, hours...)
	}
	return list, nil
}

// plot puts a home's numbers on a grid of time.
func (s *Server) plot(ctx context.Context, home register.Home, month bool, now time.Time) (plotted, error) {
	step, span := series.Step, series.KeepFine
	if month {
		step, span = time.Hour, series.KeepHours
	}
	from := now.Add(-span).Truncate(step)
	count := int(now.Sub(from)/step) + 1
	blank := func() figures {
		f := make(figures, count)
		for i := range f {
			f[i] = unplotted
		}
		return f
	}
	out := plotted{From: from.Unix(), Step: int64(step / time.Second), Count: count}
	for _, p := range plots {
		c := plot{Key: p.key, Name: s.words["figure."+p.key], Unit: s.words["figure."+p.key+".unit"], Mean: blank()}
		if month {
			c.Least, c.Most = blank(), blank()
		}
		out.Charts = append(out.Charts, c)
	}
	put := func(at time.Time, least, mean, most series.Values) {
		i := int(at.Sub(from) / step)
		if at.Before(from) || i >= count {
			return
		}
		for n, p := range plots {
			if mean[p.kind] == series.Unknown {
				continue
			}
			c := &out.Charts[n]
			if c.Mean[i] = p.sign * mean[p.kind]; month {
				low, high := p.sign*least[p.kind], p.sign*most[p.kind]
				c.Least[i], c.Most[i] = min(low, high), max(low, high)
			}
		}
	}
	if month {
		hours, err := s.hoursOf(ctx, home.ID, from, now)
		if err != nil {
			return out, err
		}
		for _, h := range hours {
			put(h.At, h.Least, h.Mean, h.Most)
		}
	} else {
		stretches, err := s.stood(ctx, home.ID, from, now)
		if err != nil {
			return out, err
		}
		for _, p := range stretches {
			samples, err := s.o.Series.Fine(ctx, p.key, p.from, p.to)
			if err != nil {
				return out, err
			}
			for _, x := range samples {
				put(x.At, x.Values, x.Values, x.Values)
			}
		}
	}
	for i := range out.Charts {
		out.Charts[i].describe(s.words)
	}
	return out, s.plotCalls(ctx, home.ID, from, &out.Calls)
}

// describe says in words what a chart shows.
func (p *plot) describe(w words) {
	low, high := p.Mean, p.Mean
	if p.Least != nil {
		low, high = p.Least, p.Most
	}
	least, most, known := int64(0), int64(0), false
	for i := range low {
		if low[i] == unplotted {
			continue
		}
		if !known {
			least, most, known = low[i], high[i], true
		}
		least, most = min(least, low[i]), max(most, high[i])
	}
	if p.Text = w["figure.none"]; known {
		key := "figure.range"
		if least == most {
			key = "figure.one"
		}
		p.Text = strings.TrimSpace(w.say(key, names{"least": signed(least), "most": signed(most), "unit": p.Unit})) // events that wait have no unit
	}
}

// signed writes a number as typeset: with a minus that is none of a range.
func signed(v int64) string { return strings.Replace(strconv.FormatInt(v, 10), "-", "−", 1) }

// plotCalls adds what the terminal did not receive in each call.
func (s *Server) plotCalls(ctx context.Context, home string, from time.Time, out *callsPlot) error {
	list, err := s.o.Calls.HomeCalls(ctx, home, from, plotCalls)
	if err != nil {
		return err
	}
	*out = callsPlot{Name: s.words["figure.lost"], Unit: s.words["figure.lost.unit"], At: []int64{}, Lost: []float64{}, Text: s.words["figure.none"]}
	most := 0.0
	for _, r := range slices.Backward(list) {
		if r.TerminalHalf == nil || r.TerminalHalf.Quality.PacketsReceived == 0 {
			continue
		}
		q := r.TerminalHalf.Quality
		lost := 100 * float64(q.PacketsLost) / float64(q.PacketsLost+q.PacketsReceived)
		lost = float64(int(lost*10+0.5)) / 10
		out.At, out.Lost, most = append(out.At, r.Began.Unix()), append(out.Lost, lost), max(most, lost)
	}
	if len(out.At) > 0 {
		out.Text = s.words.say("figure.lost.text", names{"count": strconv.Itoa(len(out.At)), "most": s.words.decimal(most, 1)})
	}
	return nil
}

// series answers the script of a home's page.
func (s *Server) series(w http.ResponseWriter, r *http.Request, v visitor) {
	home, err := s.o.Custody.Home(r.Context(), r.PathValue("home"))
	if errors.Is(err, register.ErrNotFound) {
		s.refuse(w, http.StatusNotFound, protocol.BrowserFailed, s.words["error.404"])
		return
	}
	var out plotted
	if err == nil {
		out, err = s.plot(r.Context(), home, r.URL.Query().Get("span") == "month", time.Now())
	}
	if err = errors.Join(err, s.looked(r, v, r.PathValue("home"))); err != nil {
		s.o.Log.Error("a home's numbers cannot be told", "error", err)
		s.refuse(w, http.StatusInternalServerError, protocol.BrowserFailed, s.words["error.500"])
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(out); err != nil && r.Context().Err() == nil {
		s.o.Log.Debug("a home's numbers were not told to their end", "error", err)
	}
}

// figureRow is one number of the table on a home's page.
type figureRow struct{ Name, Now, Least, Mean, Most string }

// figuresView is a home's numbers in words, and where its script gets those to draw.
type figuresView struct {
	Rows   []figureRow
	Source string
}

// figuresDay is what the table's least, mean and most are of.
const figuresDay = 24 * time.Hour

// figuresOf says how a home's terminal is in numbers, and how it was in the last day; nil where none are kept, or there is no terminal.
func (s *Server) figuresOf(r *http.Request, home register.Home, now time.Time) (*figuresView, error) {
	if s.o.Series == nil || (home.Terminal == protocol.KeyHash{}) {
		return nil, nil
	}
	hours, err := s.hoursOf(r.Context(), home.ID, now.Add(-figuresDay), now)
	if err != nil {
		return nil, err
	}
	current := series.Values{series.Unknown, series.Unknown, series.Unknown, series.Unknown, series.Unknown}
	if state := s.o.Fleet.State(home.Terminal); state.Online && state.Health != nil {
		current[series.Outbox] = int64(min(state.Health.Pending, 1<<30))
		if f := state.Health.Figures; f != nil {
			for kind, n := range map[series.Kind]uint64{series.Signal: f.Signal, series.Trip: f.Trip, series.Heat: f.Heat, series.Memory: f.Memory} {
				if n > 0 {
					current[kind] = int64(n)
				}
			}
		}
	}
	v := &figuresView{Source: "/operator/homes/" + home.ID + "/series"}
	for _, p := range plots {
		unit := s.words["figure."+p.key+".unit"]
		say := func(n int64, known bool) string {
			if !known {
				return "–"
			}
			return signed(p.sign*n) + " " + unit
		}
		least, most, sum, count := int64(0), int64(0), int64(0), int64(0)
		for _, h := range hours {
			if h.Mean[p.kind] == series.Unknown {
				continue
			}
			if count == 0 {
				least, most = h.Least[p.kind], h.Most[p.kind]
			}
			least, most, sum, count = min(least, h.Least[p.kind]), max(most, h.Most[p.kind]), sum+h.Mean[p.kind], count+1
		}
		row := figureRow{Name: s.words["figure."+p.key], Now: say(current[p.kind], current[p.kind] != series.Unknown)}
		if p.sign < 0 {
			least, most = most, least
		}
		row.Least, row.Most, row.Mean = say(least, count > 0), say(most, count > 0), say(sum/max(count, 1), count > 0)
		if p.kind == series.Signal && current[p.kind] == series.Unknown && count == 0 {
			row.Now = s.words["figure.signal.none"]
		}
		v.Rows = append(v.Rows, row)
	}
	return v, nil
}
