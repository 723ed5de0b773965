package main

import (
	"io"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"vindu/clinic/calls"
	"vindu/clinic/metrics"
	"vindu/protocol"
)

// TestMonitoringNames checks that the example alerts and the dashboard ask for metrics that there are, and that each there is of use in one of them.
func TestMonitoringNames(t *testing.T) {
	source := ""
	for _, file := range []string{"metrics.go", "../../clinic/metrics/metrics.go"} {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		source += string(b)
	}
	told := map[string]bool{}
	for _, name := range metricNames(source) {
		told[name] = true
	}
	told["vindu_metrics_left_out"] = true
	asked := map[string]bool{}
	for _, file := range []string{"../../docs/monitoring/alerts.yml", "../../docs/monitoring/grafana.json"} {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range regexp.MustCompile(`vindu_[a-z0-9_]+`).FindAllString(string(b), -1) {
			for _, suffix := range []string{"_bucket", "_sum", "_count"} { // of histograms
				name = strings.TrimSuffix(name, suffix)
			}
			asked[name] = true
			if !told[name] {
				t.Errorf("%s asks for %s, which is not told", file, name)
			}
		}
	}
	for name := range told {
		if !asked[name] {
			t.Errorf("%s is told, and neither an alert nor the dashboard asks for it", name)
		}
	}
	if len(told) < 12 || len(asked) < 8 {
		t.Errorf("%d metrics told, %d asked for", len(told), len(asked))
	}
}

// metricNames returns the names of metrics in a program's text.
func metricNames(source string) (names []string) {
	for _, m := range regexp.MustCompile(`"(vindu_[a-z0-9_]+[a-z0-9])"`).FindAllStringSubmatch(source, -1) {
		names = append(names, m[1])
	}
	return names
}

// TestMetricsAreWhole: of a clinic with a terminal that tells of itself nothing is left out: each family is there, and each word that a label can have is permitted.
func TestMetricsAreWhole(t *testing.T) {
	dir := newClinic(t)
	address := withMetrics(t, dir)
	s := start(t, dir)
	client, grant := letIn(t, dir, s.front())
	d := connect(t, s.front(), client, grant)
	d.is(t, true)
	none, now := protocol.DeviceState{Kind: "none"}, protocol.At(time.Now())
	if err := d.SetHealth(&protocol.Health{
		Version: protocol.Version, At: now, Software: "test", KeyGrade: "file", Camera: none, Microphone: none, Speaker: none, Screen: none,
		Conditions: []protocol.Condition{{Code: protocol.CaptureNoCamera, Since: now}},
		Rehearsed:  (*protocol.Rehearsal)(nil).With(now, false, protocol.RehearsalPart{Name: "call.direct", At: now, State: protocol.CheckPassed}),
	}); err != nil {
		t.Fatal(err)
	}
	if err := beside(t, dir).register.Raise(t.Context(), protocol.IdentityTwice, d.key, "seen twice"); err != nil {
		t.Fatal(err)
	}
	var text string
	until(t, "the terminal among the metrics", func() bool {
		text = askMetrics(t, address)
		return strings.Contains(text, "vindu_terminal_conditions{")
	})
	for _, line := range []string{
		"vindu_metrics_left_out 0", "vindu_metrics_failed 0", `vindu_homes{state="online"} 1`, `vindu_terminals_rehearsed{state="ready"} 1`, `vindu_terminals_rehearsed{state="failed"} 0`,
		`vindu_terminal_conditions{code="capture.no_camera",severity="serious",who="technician"} 1`, `vindu_alarms_open{code="identity.two_connections",severity="alarm",who="operator"} 1`,
	} {
		if !strings.Contains(text, "\n"+line+"\n") {
			t.Errorf("%s is missing in\n%s", line, text)
		}
	}
	source, err := os.ReadFile("metrics.go")
	if err != nil {
		t.Fatal(err)
	}
	names := metricNames(string(source))
	for _, name := range names {
		if !strings.Contains(text, "# HELP "+name+" ") {
			t.Errorf("%s is not told", name)
		}
	}
	if len(names) < 20 {
		t.Errorf("only %d metrics are known: %q", len(names), names)
	}
	// What no terminal here has: any code of the register can be a condition, an alarm, or why a call ended.
	every := metrics.Family{Name: "vindu_every_code", Type: metrics.Gauge}
	for _, f := range protocol.Register {
		every.Samples = append(every.Samples, metrics.Sample{Labels: about(f.Code)})
	}
	var b strings.Builder
	if metrics.Write(&b, []metrics.Family{every}); !strings.Contains(b.String(), "vindu_metrics_left_out 0\n") {
		t.Errorf("a code's labels are left out:\n%s", &b)
	}
}

// askMetrics is Prometheus.
func askMetrics(t *testing.T, address string) string {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+strings.Repeat("a", shortestToken))
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("%s, %v", response.Status, err)
	}
	return string(body)
}

// The quality of calls is told without a word of who called whom, and every histogram is whole.
func TestQualityMetrics(t *testing.T) {
	told := map[protocol.Side]calls.Heard{
		protocol.SideTerminal: {Talked: 60, Frozen: 1.5, Grade: calls.Spread{Bounds: []float64{3.6, 4.03}, Counts: []uint64{0, 1, 2}, Sum: 12.5}},
	}
	var b strings.Builder
	metrics.Write(&b, qualityMetrics(told))
	for _, line := range []string{
		`vindu_call_talked_seconds_total{role="terminal"} 60`, `vindu_call_frozen_seconds_total{role="terminal"} 1.5`,
		`vindu_call_grade_bucket{role="terminal",le="3.6"} 0`, `vindu_call_grade_bucket{role="terminal",le="4.03"} 1`, `vindu_call_grade_bucket{role="terminal",le="+Inf"} 3`,
		`vindu_call_grade_sum{role="terminal"} 12.5`, `vindu_call_grade_count{role="terminal"} 3`, `vindu_metrics_left_out 0`,
	} {
		if !strings.Contains(b.String(), line+"\n") {
			t.Errorf("%s is missing in\n%s", line, &b)
		}
	}
	if strings.Contains(b.String(), "vindu_call_erle_decibels_") {
		t.Error("a histogram of nothing is told")
	}
}
