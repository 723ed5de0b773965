package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/schollz/progressbar/v3"

	"vindu/protocol"
	"vindu/provisioning/sheet"
)

// teller tells people what happens, in words that also stand without colour.
type teller struct {
	w      io.Writer
	colour bool
	fancy  bool // progress is a bar that moves
	number int  // of the last step
}

// Styles of a terminal (ECMA-48 §8.3.117), bold throughout: for poor light.
const (
	bold   = "1"
	good   = "1;32"
	warned = "1;33"
	bad    = "1;31"
)

func (t *teller) style(style, s string) string {
	if !t.colour {
		return s
	}
	return "\x1b[" + style + "m" + s + "\x1b[0m"
}

func (t *teller) line(s string) { fmt.Fprintln(t.w, s) }

const steps = 7

// step begins one of the steps of a set-up.
func (t *teller) step(title string) {
	t.number++
	t.line("")
	t.line(t.style(bold, fmt.Sprintf("[%d/%d] %s", t.number, steps, title)))
}

func (t *teller) ok(format string, args ...any) {
	t.line("  " + t.style(good, "OK") + "  " + fmt.Sprintf(format, args...))
}

func (t *teller) note(format string, args ...any) { t.line("      " + fmt.Sprintf(format, args...)) }

// attention is for what the person has to do now.
func (t *teller) attention(format string, args ...any) {
	t.line("  " + t.style(warned, ">>  "+fmt.Sprintf(format, args...)))
}

func (t *teller) failure(f failure, detail bool) {
	t.line("")
	t.line(t.style(bad, "FAILED  ") + t.style(bold, f.Sentence))
	if f.Next != "" {
		t.line("To do:  " + f.Next)
	}
	line := "        " + f.Code
	if detail && f.Detail != "" {
		line += ": " + f.Detail
	}
	t.line(line)
}

// checks lists what was found: what failed with what to do, the rest in few lines.
func (t *teller) checks(checks []protocol.Check) {
	var passed, absent []string
	for _, c := range checks {
		name := sheet.CheckName("en", c.Name)
		entry := protocol.Explain(c.Code)
		switch c.State {
		case protocol.CheckFailed:
			t.line("  " + t.style(bad, "NOT OK  ") + t.style(bold, strings.TrimSpace(name+"  "+c.Figure)))
			t.line("          " + entry.Sentence)
			t.line("          " + t.style(warned, "To do: "+entry.Next))
		case protocol.CheckSkipped:
			absent = append(absent, name+": "+entry.Sentence)
		default:
			passed = append(passed, strings.TrimSpace(name+" "+c.Figure))
		}
	}
	for _, text := range passed {
		t.ok("%s", text)
	}
	for _, text := range absent {
		t.line("  --  " + text)
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
	p.bar.ChangeMax(max(total, 1))
	p.bar.Describe(name)
	_ = p.bar.Set(min(len(done), max(total, 1))) // it is drawn, or it is not
}

func (p *progress) end() {
	if p.bar != nil {
		_ = p.bar.Clear() // as above
	}
}
