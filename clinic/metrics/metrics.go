// Package metrics answers Prometheus: the text exposition format 0.0.4, at GET /metrics.
//
// Names begin with vindu_, end in their unit, and counters in _total. No metric is about a person, a home or a call: the labels that there can be are few and
// their values words of a closed kind, such as a code of protocol.Register; what does not fit is not written, and counted in vindu_metrics_left_out.
// Whoever asks shows a token (RFC 6750 §2.1); without one in the configuration nothing is served.
package metrics

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Type is what a family of samples is.
type Type string

// The types.
const (
	Counter   Type = "counter"
	Gauge     Type = "gauge"
	Histogram Type = "histogram"
)

// Label is a name and its value.
type Label struct{ Name, Value string }

// Sample is one value. Suffix is "_bucket", "_sum" or "_count" of a histogram, else empty.
type Sample struct {
	Suffix string
	Labels []Label
	Value  float64
}

// Family is all samples of one name.
type Family struct {
	Name, Help string
	Type       Type
	Samples    []Sample
}

// One is a family of one sample without labels.
func One(name, help string, kind Type, value float64) Family {
	return Family{name, help, kind, []Sample{{Value: value}}}
}

// Collector returns families as they are now.
type Collector func(ctx context.Context) ([]Family, error)

// labels are the names that there can be. None of them can name somebody.
var labels = []string{"code", "severity", "who", "state", "role", "le", "version"}

var (
	namePattern  = regexp.MustCompile(`^vindu_[a-z][a-z0-9_]{1,60}$`)
	valuePattern = regexp.MustCompile(`^[a-zA-Z0-9_.+-]{1,60}$`)
)

// Handler serves what collectors tell to who shows token.
type Handler struct {
	token      [sha256.Size]byte
	open       bool
	collectors []Collector
	log        *slog.Logger
}

// patience bounds one reading of everything.
const patience = 10 * time.Second

// New makes a handler. An empty token opens it to nobody.
func New(token string, log *slog.Logger, collectors ...Collector) *Handler {
	return &Handler{token: sha256.Sum256([]byte(token)), open: token != "", collectors: collectors, log: log}
}

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/metrics" {
		http.NotFound(w, r)
		return
	}
	if r.Method != http.MethodGet {
		w.Header().Set("Allow", http.MethodGet)
		http.Error(w, "", http.StatusMethodNotAllowed)
		return
	}
	shown, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	sum := sha256.Sum256([]byte(shown))
	if subtle.ConstantTimeCompare(sum[:], h.token[:]) != 1 || !ok || !h.open {
		w.Header().Set("WWW-Authenticate", `Bearer realm="metrics"`)
		http.Error(w, "a token is needed", http.StatusUnauthorized)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), patience)
	defer cancel()
	var all []Family
	failed := 0
	for _, c := range h.collectors {
		families, err := c(ctx)
		if err != nil {
			failed++
			h.log.Error("metrics not collected", "error", err)
		}
		all = append(all, families...)
	}
	all = append(all, One("vindu_metrics_failed", "Collectors that could not tell anything in this reading.", Gauge, float64(failed)))
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	var b strings.Builder
	Write(&b, all)
	io.WriteString(w, b.String())
}

// Write writes families, sorted by name. What could name somebody is left out and counted.
func Write(w io.Writer, families []Family) {
	families = slices.SortedFunc(slices.Values(families), func(a, b Family) int { return strings.Compare(a.Name, b.Name) })
	out := 0
	for _, f := range families {
		if !namePattern.MatchString(f.Name) {
			out += len(f.Samples)
			continue
		}
		fmt.Fprintf(w, "# HELP %s %s\n# TYPE %s %s\n", f.Name, escape(f.Help), f.Name, f.Type)
		for _, s := range f.Samples {
			if !fits(s) {
				out++
				continue
			}
			io.WriteString(w, f.Name+s.Suffix)
			for i, l := range s.Labels {
				open := ","
				if i == 0 {
					open = "{"
				}
				fmt.Fprintf(w, `%s%s="%s"`, open, l.Name, l.Value)
			}
			if len(s.Labels) > 0 {
				io.WriteString(w, "}")
			}
			io.WriteString(w, " "+strconv.FormatFloat(s.Value, 'g', -1, 64)+"\n")
		}
	}
	fmt.Fprintf(w, "# HELP vindu_metrics_left_out Samples that were not written because a label was not of a permitted kind.\n# TYPE vindu_metrics_left_out gauge\nvindu_metrics_left_out %d\n", out)
}

func fits(s Sample) bool {
	if math.IsNaN(s.Value) || !slices.Contains([]string{"", "_bucket", "_sum", "_count"}, s.Suffix) {
		return false
	}
	return !slices.ContainsFunc(s.Labels, func(l Label) bool { return !slices.Contains(labels, l.Name) || !valuePattern.MatchString(l.Value) })
}

func escape(help string) string {
	return strings.NewReplacer(`\`, `\\`, "\n", `\n`).Replace(help)
}

// Buckets returns the samples of a histogram. counts are of those at most as large as each bound, and one more for all; not added up.
func Buckets(bounds []float64, counts []uint64, sum float64, of ...Label) []Sample {
	var samples []Sample
	var total uint64
	for i, n := range counts {
		total += n
		le := "+Inf"
		if i < len(bounds) {
			le = strconv.FormatFloat(bounds[i], 'g', -1, 64)
		}
		samples = append(samples, Sample{"_bucket", append(slices.Clone(of), Label{"le", le}), float64(total)})
	}
	return append(samples, Sample{"_sum", of, sum}, Sample{"_count", of, float64(total)})
}
