package sheet

import (
	"bytes"
	"flag"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"vindu/protocol"
	"vindu/protocol/notice"
)

var update = flag.Bool("update", false, "write the golden pages")

func record(state string) *protocol.HandOver {
	h := &protocol.HandOver{
		Version: protocol.Version, ID: protocol.Nonce{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}, Terminal: protocol.KeyHash{0xa5, 0x5a, 0xc3, 0x3c, 0x42},
		Organisation: "Vestfold kommune", Home: "Bolig 17, Storgata", Technician: protocol.Party{Name: "Ola Vik", Role: "technician", Organisation: "Vestfold kommune"},
		Software: "vindu-agent 0.1.0+0123456789ab", KeyGrade: "hardware", At: protocol.At(time.Date(2026, 11, 21, 13, 5, 0, 0, time.UTC)),
	}
	for i, name := range []string{
		"camera.brightness", "camera.sharpness", "camera.motion", "microphone.level", "loudspeaker.chirp", "screen", "panel", "wifi.signal",
		"network.address", "clinic.latency", "clinic.loss", "network.udp", "network.tls", "relay.allocation", "time.offset", "call.robot",
	} {
		c := protocol.Check{Name: name, State: protocol.CheckPassed, Figure: []string{"412", "38 ms", "-41 dBFS"}[i%3]}
		switch name {
		case "panel":
			c = protocol.Check{Name: name, State: protocol.CheckSkipped, Code: protocol.PanelMissing}
		case "network.udp":
			if state == protocol.CheckFailed {
				c = protocol.Check{Name: name, State: state, Code: protocol.EgressUDP}
			}
		}
		h.Checks = append(h.Checks, c)
	}
	return h
}

// TestGolden compares whole pages. Look at a changed page in a browser, and at its print, before it is written by -update.
func TestGolden(t *testing.T) {
	oslo := time.FixedZone("CET", 3600)
	for name, s := range map[string]Sheet{
		"nb":        {Record: record(""), Zone: oslo, Telephone: "33 00 00 00"},
		"nn":        {Record: record(""), Zone: oslo},
		"en":        {Record: record(""), Zone: oslo},
		"nb-failed": {Record: record(protocol.CheckFailed), Zone: oslo},
	} {
		t.Run(name, func(t *testing.T) {
			var page bytes.Buffer
			if err := Write(&page, name[:2], s); err != nil {
				t.Fatal(err)
			}
			file := filepath.Join("testdata", name+".html")
			if *update {
				if err := os.WriteFile(file, page.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(page.Bytes(), want) {
				t.Errorf("%s is not what is made now; look at it and run with -update", file)
			}
		})
	}
}

// TestHostileText: what comes from a register or a device is text on the page, whatever it is.
func TestHostileText(t *testing.T) {
	h := record("")
	h.Organisation, h.Home, h.Software = `<script>alert(1)</script>`, `"><img src=x>`, `</style>&`
	h.Checks[0].Name, h.Checks[0].Figure = "<b>", "<i>"
	for _, language := range Languages {
		var page bytes.Buffer
		if err := Write(&page, language, Sheet{Record: h, Telephone: "<a href=x>"}); err != nil {
			t.Fatal(err)
		}
		for _, tag := range []string{"<script", "<img", "<b>", "<i>", "<a "} {
			if strings.Contains(page.String(), tag) {
				t.Errorf("%s: the page has %s", language, tag)
			}
		}
		if strings.Count(page.String(), "</style>") != 1 {
			t.Errorf("%s: the style was ended", language)
		}
	}
}

// TestFigures: a home does not read the terminal's English.
func TestFigures(t *testing.T) {
	for _, c := range []struct{ figure, nb, nn string }{
		{"50 of 50 back", "50 av 50 tilbake", "50 av 50 tilbake"},
		{"pictures out 94 in 77", "bilder ut 94, inn 77", "bilete ut 94, inn 77"},
		{"0.0 %", "0,0 %", "0,0 %"},
		{"-0.4 s", "-0,4 s", "-0,4 s"},
		{"192.0.2.7 eth0", "192.0.2.7 eth0", "192.0.2.7 eth0"},
		{"over UDP", "over UDP", "over UDP"},
		{"", "", ""},
	} {
		for language, want := range map[string]string{"nb": c.nb, "nn": c.nn, "en": c.figure} {
			texts, err := load(language)
			if err != nil {
				t.Fatal(err)
			}
			if got := texts.figure(c.figure); got != want {
				t.Errorf("%s: %q is %q, want %q", language, c.figure, got, want)
			}
		}
	}
}

func TestLanguages(t *testing.T) {
	first, err := load(Languages[0])
	if err != nil {
		t.Fatal(err)
	}
	if got, want := slices.Sorted(slices.Values(Languages)), slices.Sorted(slices.Values(notice.Languages())); !slices.Equal(got, want) {
		t.Errorf("the page speaks %v, what it says of calls is in %v", got, want)
	}
	for _, tag := range Languages {
		w, err := load(tag)
		if err != nil {
			t.Fatal(err)
		}
		for what, keys := range map[string][2]map[string]string{"text": {first.Text, w.Text}, "check": {first.Check, w.Check}} {
			if a, b := slices.Sorted(maps.Keys(keys[0])), slices.Sorted(maps.Keys(keys[1])); !slices.Equal(a, b) {
				t.Errorf("%s: keys of %s differ: %v and %v", tag, what, a, b)
			}
		}
		if len(w.Months) != 12 {
			t.Errorf("%s: %d months", tag, len(w.Months))
		}
	}
	if err := Write(new(bytes.Buffer), "fr", Sheet{Record: record("")}); err == nil || !strings.Contains(err.Error(), "nb, nn, en") {
		t.Errorf("French: %v", err)
	}
	for tag, want := range map[string]string{"nb": "nb", "nn": "nn", "nn-NO": "nn", "en": "en", "en-GB": "en", "": "nb"} {
		if got := Language(tag); got != want {
			t.Errorf("Language(%q) = %q, want %q", tag, got, want)
		}
	}
}
