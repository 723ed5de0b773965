package main

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

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
	for _, want := range []string{"ip.no_carrier", "heat.hot", "83 °C", protocol.Explain(protocol.HeatHot).Next, "speaker     none", "+ 1"} {
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
