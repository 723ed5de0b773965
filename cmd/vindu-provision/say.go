package main

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/schollz/progressbar/v3"

	"vindu/protocol"
	"vindu/provisioning/sheet"
)

// teller tells people what happens, in words that also stand without colour.
type teller struct {
	w      io.Writer
	colour bool
	fancy  bool       // progress is a bar that moves
	width  func() int // columns of the screen; 0, or nil: lines are as long as they are
	number int        // of the last step
	shown  *progress  // the bar that is drawn, nil if there is none
}

// Styles of a terminal (ECMA-48 §8.3.117), bold throughout: for poor light.
const (
	bold   = "1"
	good   = "1;32"
	warned = "1;33"
	bad    = "1;31"
)

func (t *teller) style(style, s string) string {
	if !t.colour || style == "" || s == "" {
		return s
	}
	return "\x1b[" + style + "m" + s + "\x1b[0m"
}

func (t *teller) line(s string) {
	if t.shown != nil {
		_ = t.shown.bar.Clear() // it is drawn again below, by the next show
	}
	fmt.Fprintln(t.w, s)
}

// hang tells text behind a head, in lines that end between words and that all begin where the first one does. The text has a style of its own.
func (t *teller) hang(headStyle, head, style, text string) {
	indent := utf8.RuneCountInString(head)
	for i, row := range wrap(text, t.columns()-indent) {
		if i == 0 {
			t.line(t.style(headStyle, head) + t.style(style, row))
			continue
		}
		t.line(strings.Repeat(" ", indent) + t.style(style, row))
	}
}

func (t *teller) columns() int {
	if t.width == nil {
		return 0
	}
	return t.width()
}

// wrap cuts text into lines of at most width characters, between words; a word that is longer, such as a path, stays whole. A line that fits
// stays as it is, and so does all in a width of under twenty.
func wrap(text string, width int) []string {
	var rows []string
	for line := range strings.SplitSeq(text, "\n") {
		if width < 20 || utf8.RuneCountInString(line) <= width {
			rows = append(rows, line)
			continue
		}
		row, length := "", 0
		for _, word := range strings.Fields(line) {
			n := utf8.RuneCountInString(word)
			switch {
			case row == "":
				row, length = word, n
			case length+1+n > width:
				rows = append(rows, row)
				row, length = word, n
			default:
				row, length = row+" "+word, length+1+n
			}
		}
		rows = append(rows, row)
	}
	return rows
}

const steps = 7

// step begins one of the steps of a set-up.
func (t *teller) step(title string) {
	t.number++
	t.line("")
	t.line(t.style(bold, fmt.Sprintf("[%d/%d] %s", t.number, steps, title)))
}

func (t *teller) ok(format string, args ...any) {
	t.line("  " + t.style(good, "OK") + "  " + strings.Join(wrap(fmt.Sprintf(format, args...), t.columns()-len(margin)), "\n"+margin))
}

// margin is where most of what is told begins.
const margin = "      "

func (t *teller) note(format string, args ...any) {
	t.hang("", margin, "", fmt.Sprintf(format, args...))
}

// attention is for what the person has to do now.
func (t *teller) attention(format string, args ...any) {
	t.hang(warned, "  >>  ", warned, fmt.Sprintf(format, args...))
}

func (t *teller) failure(f failure, detail bool) {
	t.line("")
	t.hang(bad, "FAILED  ", bold, f.Sentence)
	if f.Next != "" {
		t.hang("", "To do:  ", "", f.Next)
	}
	line := f.Code
	if detail && f.Detail != "" {
		line += ": " + f.Detail
	}
	t.hang("", "        ", "", line)
}

// checks lists what was found: what failed with what to do, the rest in few lines.
func (t *teller) checks(checks []protocol.Check) {
	var passed, absent []string
	for _, c := range checks {
		name := sheet.CheckName("en", c.Name)
		entry := protocol.Explain(c.Code)
		text := name
		if c.Figure != "" {
			text += ": " + c.Figure
		}
		switch c.State {
		case protocol.CheckFailed:
			t.hang(bad, "  NOT OK  ", bold, text)
			t.hang("", "          ", "", entry.Sentence)
			t.hang("", "          ", warned, "To do: "+entry.Next)
		case protocol.CheckSkipped:
			absent = append(absent, name+": "+entry.Sentence)
		default:
			passed = append(passed, text)
		}
	}
	for _, text := range passed {
		t.ok("%s", text)
	}
	for _, text := range absent {
		t.hang("", "  --  ", "", text)
	}
}

// progress shows how far a check is.
type progress struct {
	t    *teller
	bar  *progressbar.ProgressBar
	told int
}

func (t *teller) progress() *progress { return &progress{t: t} }

// show is called with the number of those that are done, of how many, and what is looked at now.
func (p *progress) show(done []protocol.Check, total int, current string) {
	name := sheet.CheckName("en", current)
	if !p.t.fancy {
		for ; p.told < len(done); p.told++ {
			p.t.note("%d of %d  %s: %s", p.told+1, total, sheet.CheckName("en", done[p.told].Name), done[p.told].State)
		}
		return
	}
	if p.bar == nil {
		p.bar = progressbar.NewOptions(total, progressbar.OptionSetWriter(p.t.w), progressbar.OptionSetWidth(24), progressbar.OptionSetPredictTime(false),
			progressbar.OptionSetElapsedTime(false), progressbar.OptionShowCount(), progressbar.OptionClearOnFinish(), progressbar.OptionSetRenderBlankState(true),
			progressbar.OptionShowDescriptionAtLineEnd(), progressbar.OptionUseANSICodes(true),
			progressbar.OptionSetTheme(progressbar.Theme{Saucer: "#", SaucerPadding: ".", BarStart: "      [", BarEnd: "]"}))
	}
	p.t.shown = p
	p.bar.ChangeMax(max(total, 1))
	p.bar.Describe(name)
	_ = p.bar.Set(min(len(done), max(total, 1))) // it is drawn, or it is not
}

func (p *progress) end() {
	if p.bar != nil {
		_ = p.bar.Clear() // as above
	}
	p.t.shown = nil
}
