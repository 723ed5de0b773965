package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"vindu/device/agent"
	"vindu/device/screen"
	"vindu/device/state"
	"vindu/protocol"
)

// TestDiagnose prints what an agent has last told, without what could name somebody.
func TestDiagnose(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "agent.toml")
	config := "state = \"state\"\nlanguage = \"en\"\n"
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) (string, error) {
		var out strings.Builder
		err := command(context.Background(), append([]string{"diagnose", "-config", file}, args...), nil, &out, &out)
		return out.String(), err
	}
	if _, err := run(); err == nil || !strings.Contains(err.Error(), "has not told anything") {
		t.Fatalf("without a report: %v", err)
	}
	h := &protocol.Health{
		Version: protocol.Version, At: protocol.Time(1_800_000_000_000), Software: "vindu-agent 0.1.0", KeyGrade: "file",
		Camera: protocol.DeviceState{Kind: "v4l2", Name: "Karis kamera"}, Microphone: protocol.DeviceState{Kind: "alsa"}, Speaker: protocol.DeviceState{Kind: "none"},
		Screen: protocol.DeviceState{Kind: "drm"}, Conditions: []protocol.Condition{
			{Code: protocol.IPNoCarrier, Since: protocol.Time(1_799_999_000_000)},
			{Code: protocol.LinkUnreachable, Since: protocol.Time(1_799_999_100_000)},
			{Code: protocol.HeatHot, Since: protocol.Time(1_799_999_200_000), Figure: "83 °C"},
		},
	}
	b, err := protocol.Encode(h)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "state"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "state", "health"), b, 0o600); err != nil {
		t.Fatal(err)
	}
	text, err := run()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"ip.no_carrier", "heat.hot", "83 °C", protocol.Explain(protocol.HeatHot).Next, "A technician can act.", "loudspeaker none", "One more follows from these.", "The agent does not run"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in\n%s", want, text)
		}
	}
	if strings.Contains(text, "link.clinic_unreachable") {
		t.Errorf("what follows from another condition is shown:\n%s", text)
	}
	packed, err := run("-json")
	if err != nil {
		t.Fatal(err)
	}
	var got bundle
	if err := json.Unmarshal([]byte(packed), &got); err != nil || len(got.Conditions) != 3 || got.Devices["camera"] != "v4l2" {
		t.Errorf("%+v, %v", got, err)
	}
	if strings.Contains(text+packed, "Kari") {
		t.Error("the name of a device is told")
	}
}

// TestDiagnoseSaysWhetherItIsOfNow: what a dead agent has told, or one that cannot write, is not said as if it were how things are.
func TestDiagnoseSaysWhetherItIsOfNow(t *testing.T) {
	dir := t.TempDir()
	cfg := agent.Config{State: filepath.Join(dir, "state"), Language: "en"}
	none := protocol.DeviceState{Kind: "none"}
	h := &protocol.Health{Version: protocol.Version, At: protocol.Time(1_800_000_000_000), Software: "vindu-agent 0.1.0", KeyGrade: "file", Camera: none, Microphone: none, Speaker: none, Screen: none}
	b, err := protocol.Encode(h)
	if err != nil {
		t.Fatal(err)
	}
	folder, err := state.Open(cfg.State) // as a running agent has it
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(cfg.State, "health")
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	is := func(what string, running, silent bool, words ...string) {
		t.Helper()
		var packed, text strings.Builder
		var got bundle
		if err := errors.Join(diagnose(cfg, true, &packed), diagnose(cfg, false, &text), json.Unmarshal([]byte(packed.String()), &got)); err != nil {
			t.Fatal(err)
		}
		if got.Running != running || got.Silent != silent {
			t.Errorf("%s: running %v, silent %v", what, got.Running, got.Silent)
		}
		for _, w := range []string{"program is there", "runs, but has kept nothing", "does not run", "Nothing is wrong", "nothing was wrong"} {
			if strings.Contains(text.String(), w) != slices.Contains(words, w) {
				t.Errorf("%s: %q, in\n%s", what, w, text.String())
			}
		}
	}
	is("it runs", true, false, "program is there", "Nothing is wrong")
	long := time.Now().Add(-agent.TellsWithin - time.Minute)
	if err := os.Chtimes(file, long, long); err != nil {
		t.Fatal(err)
	}
	is("it writes nothing", true, true, "runs, but has kept nothing", "nothing was wrong")
	if err := folder.Close(); err != nil {
		t.Fatal(err)
	}
	is("it has ended", false, false, "does not run", "nothing was wrong")
	if err := os.Chtimes(file, time.Now(), time.Now()); err != nil {
		t.Fatal(err)
	}
	is("it has just ended", false, false, "does not run", "nothing was wrong")
	if folder, err = state.Open(cfg.State); err != nil {
		t.Fatalf("after it was looked at: %v", err)
	}
	if err := folder.Close(); err != nil {
		t.Error(err)
	}
}

// TestDiagnoseWords: what diagnose says is there in each language of the screen, and nothing is left over.
func TestDiagnoseWords(t *testing.T) {
	source, err := os.ReadFile("diagnose.go")
	if err != nil {
		t.Fatal(err)
	}
	asked := map[string]bool{}
	for _, m := range regexp.MustCompile(`w(?:\[|\.say\()"([a-z_.]+)"[\],]`).FindAllSubmatch(source, -1) {
		asked[string(m[1])] = true
	}
	for _, d := range []string{"camera", "microphone", "speaker", "screen"} {
		asked["device."+d] = true
	}
	for _, kind := range []string{"synthetic", "memory", "none", "other"} {
		asked["kind."+kind] = true
	}
	for _, f := range protocol.Register {
		asked["severity."+string(f.Severity)] = true
		if f.Who != protocol.Nobody {
			asked["who."+string(f.Who)] = true
		}
	}
	for _, language := range screen.Languages() {
		w, err := loadWords(language)
		if err != nil {
			t.Error(err)
			continue
		}
		for key := range asked {
			if w[key] == "" {
				t.Errorf("%s: %q is missing", language, key)
			}
		}
		for key := range w {
			if !asked[key] {
				t.Errorf("%s: nobody asks for %q", language, key)
			}
		}
		text := bundle{Software: "SOFTWARE", Running: true, Conditions: []finding{{Code: protocol.HeatHot, Who: protocol.Technician}, {Hidden: true}, {Hidden: true}}}.text(w, language, time.UTC)
		if !strings.Contains(text, "SOFTWARE") || !strings.Contains(text, "\n2 ") || strings.ContainsAny(text, "{}") {
			t.Errorf("%s: %s", language, text)
		}
	}
}

// TestDiagnoseZone: the zone of all times is said once, and they all are in it, also where the hour was changed between them; what is no device is not called one.
func TestDiagnoseZone(t *testing.T) {
	oslo, err := time.LoadLocation("Europe/Oslo")
	if err != nil {
		t.Fatal(err)
	}
	w, err := loadWords("en")
	if err != nil {
		t.Fatal(err)
	}
	text := bundle{
		Software: "vindu-agent 0.1.0", At: time.Date(2026, 10, 25, 12, 0, 0, 0, time.UTC), Devices: map[string]string{"camera": "synthetic", "microphone": "alsa", "speaker": "none", "screen": "memory"},
		Conditions: []finding{{Code: protocol.HeatHot, Since: time.Date(2026, 10, 24, 12, 0, 0, 0, time.UTC)}},
	}.text(w, "en", oslo)
	for _, want := range []string{
		"as of 2026-10-25 13:00:00 (all times here in UTC+01:00)\n", "since 2026-10-24 13:00:00\n",
		"camera      generated test signal, not a device\n", "microphone  alsa\n", "loudspeaker none\n", "screen      page on this computer, not a display\n",
	} {
		if strings.Count(text, want) != 1 {
			t.Errorf("no %q, or more than one, in\n%s", want, text)
		}
	}
	if strings.Count(text, "UTC") != 1 {
		t.Errorf("the zone is not said once:\n%s", text)
	}
}

// TestDiagnosePlanted plants a word wherever a driver, a firmware, or a file that was changed could have put it: what goes to who supports the terminal has it nowhere.
func TestDiagnosePlanted(t *testing.T) {
	device := protocol.DeviceState{Kind: "PLANTED", Name: "PLANTED"}
	h := &protocol.Health{
		Version: protocol.Version, At: 1_800_000_000_000, Software: "PLANTED 0.1.0", KeyGrade: "PLANTED", Camera: device, Microphone: device, Speaker: device, Screen: device,
		Figures: &protocol.Figures{Heat: 61, Memory: 40}, About: &protocol.About{Board: "PLANTED", Kernel: "6.12.20-PLANTED", Coders: []protocol.CoderCost{{Name: "PLANTED"}}}, Quiet: true,
		Conditions: []protocol.Condition{{Code: protocol.HeatHot, Since: 1, Figure: "83 °C"}, {Code: protocol.MemoryLow, Since: 1, Figure: "PLANTED 192.0.2.7"}, {Code: "planted.name", Since: 1}},
	}
	b, err := json.Marshal(bundleOf(h))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{"planted", "192.0.2"} {
		if strings.Contains(strings.ToLower(string(b)), p) {
			t.Errorf("%q is told: %s", p, b)
		}
	}
	got := bundleOf(h)
	if got.Kernel != "6.12.20" || got.Figures["temperature_celsius"] != 61 || len(got.Figures) != 2 || !got.Quiet || got.Conditions[0].Figure != "83 °C" || got.Conditions[2].Code != protocol.Unknown || got.Devices["camera"] != "other" {
		t.Errorf("%+v", got)
	}
}

// TestFiguresAreTold: every form of figure that probes have goes through.
func TestFiguresAreTold(t *testing.T) {
	for _, figure := range []string{"83 °C", "step 2", "8 % available", "21 % of a minute", "-78 dBm", "13 changes in an hour", "4 short boots", "status 302", "240 MiB free", "13 h left", "7 dropped", "12 h", "61 s", "2.4 s"} {
		if !figured.MatchString(figure) {
			t.Errorf("%q is not told", figure)
		}
	}
}
