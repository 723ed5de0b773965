package main

import (
	"io"
	"net/http"
	"os"
	"regexp"
	"slices"
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
	// What the example alerts and the dashboard do with a metric fits its type.
	types := map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (vindu_[a-z0-9_]+) ([a-z]+)$`).FindAllStringSubmatch(text, -1) {
		types[m[1]] = m[2]
		if (m[2] == "counter") != strings.HasSuffix(m[1], "_total") {
			t.Errorf("%s is a %s", m[1], m[2])
		}
	}
	expressions := monitoringExpressions(t)
	for _, e := range expressions {
		if wrong := misused(e, types); wrong != "" {
			t.Errorf("%s: %s", e, wrong)
		}
	}
	if len(expressions) < 35 {
		t.Errorf("only %d expressions were looked at", len(expressions))
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

// monitoringExpressions are what the example alerts and the dashboard ask of Prometheus.
func monitoringExpressions(t *testing.T) (list []string) {
	t.Helper()
	for file, pattern := range map[string]string{
		"../../docs/monitoring/alerts.yml":   `(?s)\n +expr: (.*?)\n +(?:for|labels):`,
		"../../docs/monitoring/grafana.json": `"expr": "((?:[^"\\]|\\.)*)"`,
	} {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		found := regexp.MustCompile(pattern).FindAllStringSubmatch(string(b), -1)
		if want := strings.Count(string(b), "expr"); len(found) != want {
			t.Errorf("%s: %d expressions of %d were found", file, len(found), want)
		}
		for _, m := range found {
			list = append(list, m[1])
		}
	}
	return list
}

// misused says what an expression does with a metric that does not fit its type: what only grows, and begins anew, is asked for its increase, and what goes up and down never is.
func misused(expression string, types map[string]string) string {
	for _, m := range regexp.MustCompile(`(?:([a-z_]+)\()?(vindu_[a-z0-9_]+)`).FindAllStringSubmatch(expression, -1) {
		function, name := m[1], m[2]
		grows := types[name] == "counter"
		for _, suffix := range []string{"_bucket", "_sum", "_count"} {
			grows = grows || types[strings.TrimSuffix(name, suffix)] == "histogram" && strings.HasSuffix(name, suffix)
		}
		switch asked := slices.Contains([]string{"rate", "irate", "increase"}, function); {
		case !grows && types[name] != "gauge":
			return name + " has no type"
		case grows && !asked:
			return name + " only grows, and is not asked for its increase"
		case !grows && asked:
			return name + " goes up and down: " + function + " takes each way down for a new beginning"
		}
	}
	return ""
}

func TestMisused(t *testing.T) {
	types := map[string]string{"vindu_dropped": "gauge", "vindu_lost_total": "counter", "vindu_grade": "histogram"}
	for expression, wrong := range map[string]bool{
		"increase(vindu_dropped[1d]) > 0": true, "delta(vindu_dropped[1d]) > 0": false, "sum(vindu_dropped) / vindu_dropped": false, "vindu_dropped": false,
		"vindu_lost_total > 0": true, "sum(vindu_lost_total)": true, "delta(vindu_lost_total[1d])": true, "sum(increase(vindu_lost_total[1h])) / rate(vindu_lost_total[1h])": false,
		"rate(vindu_lost_total[1h]) + vindu_lost_total": true, "histogram_quantile(0.9, sum by (le) (rate(vindu_grade_bucket[1d])))": false, "vindu_grade_sum": true, "vindu_grade": true, "vindu_other": true,
	} {
		if got := misused(expression, types); (got != "") != wrong {
			t.Errorf("%s: %q", expression, got)
		}
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
