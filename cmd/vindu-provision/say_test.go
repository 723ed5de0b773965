package main

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"vindu/protocol"
)

func TestWrap(t *testing.T) {
	for name, test := range map[string]struct {
		text  string
		width int
		want  []string
	}{
		"fits":               {"as it  is", 20, []string{"as it  is"}},
		"between words":      {"put the cable back, then run this again", 22, []string{"put the cable back,", "then run this again"}},
		"letters, not bytes": {"skjermen står på øya nå", 23, []string{"skjermen står på øya nå"}},
		"a long path":        {"see /a/very/long/path/of/a/page.html there", 20, []string{"see", "/a/very/long/path/of/a/page.html", "there"}},
		"lines stay":         {"one\n\n    ABCD\n", 30, []string{"one", "", "    ABCD", ""}},
		"no width is told":   {strings.Repeat("word ", 40), 0, []string{strings.Repeat("word ", 40)}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := wrap(test.text, test.width); !slices.Equal(got, test.want) {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

// TestNarrow: on a screen of 80 columns nothing that is told breaks within a word, and what goes on begins below what it goes on from.
func TestNarrow(t *testing.T) {
	var out bytes.Buffer
	say := &teller{w: &out, width: func() int { return 80 }, colour: true}
	say.attention("The terminal does not answer any more. Put the cable back, or wait until the terminal has started: this goes on by itself.")
	say.failure(noTerminal, false)
	say.checks([]protocol.Check{
		{Name: "network.tls", State: protocol.CheckPassed, Figure: "0 ms"},
		{Name: "camera.sharpness", State: protocol.CheckSkipped, Code: protocol.CaptureTestPicture},
		{Name: "camera.motion", State: protocol.CheckFailed, Code: protocol.CaptureNoCamera, Figure: "0"},
	})
	plain := strings.NewReplacer("\x1b[0m", "", "\x1b["+bad+"m", "", "\x1b["+good+"m", "", "\x1b["+warned+"m", "", "\x1b["+bold+"m", "").Replace(out.String())
	for line := range strings.Lines(plain) {
		if n := len([]rune(strings.TrimSuffix(line, "\n"))); n > 80 {
			t.Errorf("%d columns: %s", n, line)
		}
	}
	for _, want := range []string{"or wait until\n      the terminal has started", "service socket,\n        then run", "port 443: 0 ms"} {
		if !strings.Contains(plain, want) {
			t.Errorf("not told as %q:\n%s", want, plain)
		}
	}
}

// TestProgressMakesWay: what is told while a bar is drawn has a line of its own.
func TestProgressMakesWay(t *testing.T) {
	var out bytes.Buffer
	say := &teller{w: &out, fancy: true}
	bar := say.progress()
	bar.show(nil, 16, "screen")
	drawn := out.Len()
	say.attention("The terminal does not answer any more.")
	if got := out.String()[drawn:]; !strings.Contains(got, "\x1b[2K") && !strings.HasPrefix(got, "\r") || strings.Index(got, "\r") > strings.Index(got, ">>") {
		t.Errorf("after the bar: %q", got)
	}
	bar.end()
	if say.shown != nil {
		t.Error("the bar that ended is still to be cleared")
	}
}
