package metrics

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func ask(h *Handler, method, path, authorization string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, nil)
	if authorization != "" {
		r.Header.Set("Authorization", authorization)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestToken(t *testing.T) {
	h := New("a-long-secret", slog.New(slog.DiscardHandler))
	for name, c := range map[string]struct {
		method, path, authorization string
		want                        int
	}{
		"right":        {"GET", "/metrics", "Bearer a-long-secret", http.StatusOK},
		"none":         {"GET", "/metrics", "", http.StatusUnauthorized},
		"wrong":        {"GET", "/metrics", "Bearer a-long-secreT", http.StatusUnauthorized},
		"empty":        {"GET", "/metrics", "Bearer ", http.StatusUnauthorized},
		"no scheme":    {"GET", "/metrics", "a-long-secret", http.StatusUnauthorized},
		"another path": {"GET", "/", "Bearer a-long-secret", http.StatusNotFound},
		"another verb": {"POST", "/metrics", "Bearer a-long-secret", http.StatusMethodNotAllowed},
	} {
		t.Run(name, func(t *testing.T) {
			if got := ask(h, c.method, c.path, c.authorization).Code; got != c.want {
				t.Errorf("status %d, want %d", got, c.want)
			}
		})
	}
	if got := ask(New("", slog.New(slog.DiscardHandler)), "GET", "/metrics", "Bearer ").Code; got != http.StatusUnauthorized {
		t.Errorf("without a token in the configuration: status %d", got)
	}
}

func TestWrite(t *testing.T) {
	var b strings.Builder
	Write(&b, []Family{
		{"vindu_b_seconds", "Setup.", Histogram, Buckets([]float64{0.5, 1}, []uint64{2, 1, 1}, 3.25)},
		One("vindu_aa", "Line one.\nLine \\ two.", Gauge, 1.5),
		{"vindu_calls_total", "Calls.", Counter, []Sample{
			{Labels: []Label{{"code", "ice.failed"}, {"who", "operator"}}, Value: 3},
			{Labels: []Label{{"home", "kari"}}, Value: 1},               // a label that could name somebody
			{Labels: []Label{{"code", "Kari Nordmann\"} 1"}}, Value: 1}, // a value that is none
		}},
		One("other_name", "Not ours.", Gauge, 1),
	})
	const want = `# HELP vindu_aa Line one.\nLine \\ two.
# TYPE vindu_aa gauge
vindu_aa 1.5
# HELP vindu_b_seconds Setup.
# TYPE vindu_b_seconds histogram
vindu_b_seconds_bucket{le="0.5"} 2
vindu_b_seconds_bucket{le="1"} 3
vindu_b_seconds_bucket{le="+Inf"} 4
vindu_b_seconds_sum 3.25
vindu_b_seconds_count 4
# HELP vindu_calls_total Calls.
# TYPE vindu_calls_total counter
vindu_calls_total{code="ice.failed",who="operator"} 3
# HELP vindu_metrics_left_out Samples that were not written because a label was not of a permitted kind.
# TYPE vindu_metrics_left_out gauge
vindu_metrics_left_out 3
`
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
}

func TestFailingCollector(t *testing.T) {
	h := New("s", slog.New(slog.DiscardHandler),
		func(context.Context) ([]Family, error) { return nil, errors.New("database is away") },
		func(context.Context) ([]Family, error) { return []Family{One("vindu_up", "Up.", Gauge, 1)}, nil })
	got := ask(h, "GET", "/metrics", "Bearer s").Body.String()
	for _, line := range []string{"\nvindu_up 1\n", "\nvindu_metrics_failed 1\n"} {
		if !strings.Contains(got, line) {
			t.Errorf("%q is missing in\n%s", line, got)
		}
	}
}
