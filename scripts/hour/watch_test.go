package main

import (
	"strings"
	"testing"
	"time"

	"vindu/scripts/steady"
)

// hour is one as it should be, with what spoils it.
func hour(spoil func(*watch, float64, *steady.Process)) *watch {
	w := &watch{began: time.Unix(1_800_000_000, 0), calls: 2, agent: program{begun: 1}, clinic: program{begun: 1}}
	var before steady.Process
	for n := range 360 {
		at := w.began.Add(time.Duration(n) * 10 * time.Second)
		p := steady.Process{RSS: 35 << 20, Files: 12, Threads: 10, Written: 50 * float64(n)}
		if n%24 < 5 { // in a call
			p.RSS *= 2
		}
		if spoil != nil {
			spoil(w, float64(n)/360, &p)
		}
		resting := n%24 >= 8
		w.agent.resting = appended(w.agent.resting, at, p.RSS, resting)
		w.agent.restingFiles = appended(w.agent.restingFiles, at, p.Files, resting)
		w.agent.restThreads = appended(w.agent.restThreads, at, p.Threads, resting)
		if resting && n > 0 {
			w.agent.written += p.Written - before.Written
			w.agent.rested += 10 * time.Second
		}
		before = p
		if n%24 == 6 && len(w.agent.goroutines) < 100 {
			w.agent.goroutines.Add(at, 36)
		}
	}
	return w
}

func appended(s steady.Series, at time.Time, v float64, yes bool) steady.Series {
	if yes {
		s.Add(at, v)
	}
	return s
}

func TestJudge(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(*watch, float64, *steady.Process)
		lasts time.Duration
		want  string // "": nothing is wrong
	}{
		"as it should be":      {nil, time.Hour, ""},
		"a MiB an hour":        {func(_ *watch, part float64, p *steady.Process) { p.RSS += part * (1 << 20) }, time.Hour, "resident pages"},
		"descriptors":          {func(_ *watch, part float64, p *steady.Process) { p.Files += float64(int(part * 20)) }, time.Hour, "descriptors"},
		"threads":              {func(_ *watch, part float64, p *steady.Process) { p.Threads += float64(int(part * 20)) }, time.Hour, "threads"},
		"it writes too much":   {func(_ *watch, part float64, p *steady.Process) { p.Written += part * 3e5 }, time.Hour, "MB in a day"},
		"it was begun anew":    {func(w *watch, _ float64, _ *steady.Process) { w.agent.begun = 2 }, time.Hour, "begun 2 times"},
		"a call failed":        {func(w *watch, _ float64, _ *steady.Process) { w.failures = 1 }, time.Hour, "1 of 2 calls"},
		"it never rested":      {func(w *watch, _ float64, _ *steady.Process) { w.calls = 200 }, time.Hour, "came to rest"},
		"too short for to see": {func(_ *watch, part float64, p *steady.Process) { p.RSS += part * (1 << 20) }, time.Minute, ""},
	} {
		t.Run(name, func(t *testing.T) {
			z := long
			z.For = c.lasts
			err := hour(c.spoil).judge(z)
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v", err)
			}
		})
	}
}
