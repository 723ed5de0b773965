package main

import (
	"os"
	"regexp"
	"strings"
	"testing"

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
	for _, m := range regexp.MustCompile(`"(vindu_[a-z0-9_]+[a-z0-9])"`).FindAllStringSubmatch(source, -1) {
		told[m[1]] = true
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
	if len(told) < 12 || len(asked) < 8 {
		t.Errorf("%d metrics told, %d asked for", len(told), len(asked))
	}
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
