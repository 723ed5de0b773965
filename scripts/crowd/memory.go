package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"vindu/scripts/stack"
	"vindu/scripts/steady"
)

// memory is what the clinic has of the machine. Watch has one goroutine; the rest is for when it has ended.
type memory struct {
	began time.Time
	lasts time.Duration // the time of faults

	rss, heap, goroutines, files, threads steady.Series
	counters                              map[string]counter
	starts, late                          int // processes of the clinic that were seen, and those that were begun in the second half
	evident                               atomic.Bool
}

// Counters of the clinic.
const (
	repeated = "vindu_events_repeated_total"
	reported = "vindu_events_reported_total"
)

// counter adds a counter of the clinic's up over its restarts: what it counted between the last look and its end is lost.
type counter struct{ sum, last float64 }

func (m *memory) begin(lasts time.Duration) {
	m.began, m.lasts, m.counters = time.Now(), lasts, map[string]counter{}
}

// often is how often memory is looked at.
func (m *memory) often() time.Duration { return max(m.lasts/1000, 250*time.Millisecond) }

func (m *memory) watch(ctx context.Context, s *stack.Stack) {
	for pid := 0; wait(ctx, m.often()); {
		if now := s.ClinicPID(); now > 0 && now != pid {
			pid = now
			if m.starts++; m.lasts >= shortest && time.Since(m.began) > m.lasts*11/20 {
				m.late++
			}
		}
		p, err := steady.Look(pid)
		if err != nil {
			continue // it was killed
		}
		told, err := s.Metrics(ctx)
		if err != nil || told["vindu_goroutines"] == 0 { // it has no time for all of its figures
			continue
		}
		now := time.Now()
		m.rss.Add(now, p.RSS)
		m.files.Add(now, p.Files)
		m.threads.Add(now, p.Threads)
		m.heap.Add(now, told["vindu_memory_heap_bytes"])
		m.goroutines.Add(now, told["vindu_goroutines"])
		for _, name := range []string{repeated, reported} {
			c := m.counters[name]
			if v := told[name]; v >= c.last {
				c.sum, c.last = c.sum+v-c.last, v
			} else {
				c.sum, c.last = c.sum+v, v
			}
			m.counters[name] = c
		}
		m.evident.Store(m.counters[repeated].sum > 0 && m.counters[reported].sum > 0)
	}
}

func (m *memory) counted(name string) float64 { return m.counters[name].sum }

// half is the second half of the time of faults, in which the clinic was not killed.
func (m *memory) half(s steady.Series) steady.Series {
	s = s.Since(m.began.Add(m.lasts * 11 / 20))
	for i := range s {
		if s[i].At.After(m.began.Add(m.lasts)) {
			return s[:i]
		}
	}
	return s
}

// The bounds of growth in an hour. They are held against nothing shorter than shortest: a program that was just started grows.
const (
	mostRSS        = 8 << 20
	mostHeap       = 2 << 20
	mostGoroutines = 250 // of some 900: how many terminals are connected swings by a tenth. One left by each fault would be eight thousand
	mostFiles      = 250
	mostThreads    = 4
	shortest       = 20 * time.Minute
	window         = 3 * time.Minute // of the heap's floors; the collector runs every two minutes at the latest
)

// judge says what grew.
func (m *memory) judge() error {
	if m.lasts < shortest {
		return nil
	}
	var wrong []error
	if m.late > 0 {
		wrong = append(wrong, fmt.Errorf("the clinic was begun %d times in the half in which its memory is watched", m.late))
	}
	for _, s := range m.slopes() {
		if s.slope > s.most {
			wrong = append(wrong, fmt.Errorf("the clinic's %s grow by %.1f %s an hour, more than %.1f", s.name, s.slope/s.unit, s.in, s.most/s.unit))
		}
	}
	return errors.Join(wrong...)
}

type slope struct {
	name, in                       string
	slope, most, unit, least, peak float64
}

func (m *memory) slopes() []slope {
	var all []slope
	for _, s := range []struct {
		name, in   string
		of         steady.Series
		most, unit float64
	}{
		{"resident pages", "MiB", m.half(m.rss), mostRSS, 1 << 20},
		{"bytes alive after a collection", "MiB", m.half(m.heap).Floors(window), mostHeap, 1 << 20},
		{"goroutines", "", m.half(m.goroutines), mostGoroutines, 1},
		{"descriptors", "", m.half(m.files), mostFiles, 1},
		{"threads", "", m.half(m.threads), mostThreads, 1},
	} {
		least, peak := s.of.Bounds()
		all = append(all, slope{s.name, s.in, s.of.Slope(), s.most, s.unit, least, peak})
	}
	return all
}

func (m *memory) summary(b *strings.Builder) {
	for _, s := range m.slopes() {
		fmt.Fprintf(b, "clinic, second half: %s %.1f to %.1f %s, %+.2f an hour (bound %.1f)\n", s.name, s.least/s.unit, s.peak/s.unit, s.in, s.slope/s.unit, s.most/s.unit)
	}
}
