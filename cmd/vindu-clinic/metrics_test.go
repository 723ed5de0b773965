package main

import (
	"os"
	"regexp"
	"testing"
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
