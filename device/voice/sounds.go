package voice

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// maxKept is how many samples are kept at most of sentences that are not kept for good, besides the last one made and those that are waited for: some 40 s of speech, 4 MB.
const maxKept = 2 << 20

// lookEvery is how often it is looked whether the synthesiser still works, when nothing is asked of it: a terminal without a voice is to be known of before a call.
const lookEvery = time.Hour

// maxWanted is how many sentences wait to be made at most.
const maxWanted = 64

// sounds makes sentences and keeps them, in memory alone. One is made at a time, those that are waited for first. Its methods may be called from any goroutine.
type sounds struct {
	by      Synthesiser
	log     *slog.Logger
	wake    chan struct{}
	missing atomic.Bool // the last one could not be made

	mu     sync.Mutex
	kept   map[key]*sound
	used   uint64 // counts uses, for the least recent
	size   int    // samples, of what is not kept for good
	wanted []key
	always map[key]bool // what is made at the start, and never forgotten
	made   chan struct{}
	making key         // which is being made; the zero key: none is
	stale  bool        // and was forgotten meanwhile
	waited map[key]int // by how many a sentence is waited for
}

type key struct{ language, text string }

type sound struct {
	samples []int16
	used    uint64
}

func newSounds(by Synthesiser, log *slog.Logger) *sounds {
	return &sounds{by: by, log: log, wake: make(chan struct{}, 1), kept: map[key]*sound{}, made: make(chan struct{}), waited: map[key]int{}}
}

// keep has these made, and kept for good instead of those of another language.
func (s *sounds) keep(language string, texts []string) {
	s.mu.Lock()
	s.always = map[key]bool{}
	for _, t := range texts {
		s.always[key{language, t}] = true
	}
	s.mu.Unlock()
	s.forget()
	s.want(language, texts...)
}

// want has these made when there is time.
func (s *sounds) want(language string, texts ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range texts {
		s.ask(key{language, t}, false)
	}
}

// ask puts a sentence among those that are wanted, first if it is urgent. s.mu is held.
func (s *sounds) ask(k key, urgent bool) {
	if s.kept[k] != nil {
		return
	}
	if s.making == k {
		s.stale = false
		return
	}
	for i, w := range s.wanted {
		if w == k {
			if !urgent {
				return
			}
			s.wanted = append(s.wanted[:i], s.wanted[i+1:]...)
			break
		}
	}
	if urgent {
		s.wanted = append([]key{k}, s.wanted...)
	} else {
		s.wanted = append(s.wanted, k)
	}
	if len(s.wanted) > maxWanted {
		s.wanted = s.wanted[:maxWanted]
	}
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// get waits for a sentence until ctx ends; nil if it was not made by then.
func (s *sounds) get(ctx context.Context, language, text string) []int16 {
	k := key{language, text}
	for first := true; ; first = false {
		s.mu.Lock()
		if kept := s.kept[k]; kept != nil {
			s.used++
			kept.used = s.used
			s.mu.Unlock()
			return kept.samples
		}
		if first {
			s.ask(k, true)
			s.waited[k]++
			defer s.leave(k)
		}
		made := s.made
		s.mu.Unlock()
		select {
		case <-ctx.Done():
			return nil
		case <-made:
		}
	}
}

// leave notes that one less waits for a sentence.
func (s *sounds) leave(k key) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waited[k]--; s.waited[k] <= 0 {
		delete(s.waited, k)
	}
}

// forget lets go of what is not kept for good: names.
func (s *sounds) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k := range s.kept {
		if !s.always[k] {
			delete(s.kept, k)
		}
	}
	s.size = 0
	s.stale = !s.always[s.making]
	wanted := s.wanted[:0:0]
	for _, k := range s.wanted {
		if s.always[k] {
			wanted = append(wanted, k)
		}
	}
	s.wanted = wanted
}

// run makes what is wanted until ctx ends.
func (s *sounds) run(ctx context.Context) {
	wait := retryFirst
	for ctx.Err() == nil {
		k, ok := s.take()
		if !ok {
			t := time.NewTimer(jittered(lookEvery))
			select {
			case <-ctx.Done():
			case <-s.wake:
			case <-t.C:
				s.look()
			}
			t.Stop()
			continue
		}
		samples, err := s.by.Speak(ctx, k.language, k.text)
		kept := s.end()
		if err == nil && len(samples) == 0 {
			err = errors.New("the synthesiser returned nothing")
		}
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			if s.missing.Swap(false) {
				s.log.Info("the voice is back")
			}
			wait = retryFirst
			if kept {
				s.put(k, samples)
			}
			continue
		}
		if !s.isAlways(k) { // whether that is the sentence's fault, one that worked will tell
			s.log.Info("a sentence could not be made", "error", err)
			s.look()
			continue
		}
		if !s.missing.Swap(true) {
			s.log.Warn("there is no voice: the terminal chimes, and its screen says what it would have said", "error", err)
		}
		s.mu.Lock()
		s.wanted = append(s.wanted, k)
		s.mu.Unlock()
		t := time.NewTimer(jittered(wait))
		wait = min(2*wait, retryLast)
		select {
		case <-ctx.Done():
		case <-t.C:
		case <-s.wake:
		}
		t.Stop()
	}
}

// look has one of the sentences that are kept for good made anew, to see whether the synthesiser works.
func (s *sounds) look() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k := range s.always {
		if !slices.Contains(s.wanted, k) {
			s.wanted = append(s.wanted, k)
		}
		return
	}
}

func (s *sounds) isAlways(k key) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.always[k]
}

func (s *sounds) take() (key, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.wanted) == 0 {
		return key{}, false
	}
	k := s.wanted[0]
	s.wanted = s.wanted[1:]
	s.making, s.stale = k, false
	return k, true
}

// end notes that nothing is being made, and tells whether what was is still wanted.
func (s *sounds) end() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	wanted := !s.stale
	s.making, s.stale = key{}, false
	return wanted
}

// put keeps a sentence, in place of those that were used least recently.
func (s *sounds) put(k key, samples []int16) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.used++
	if old := s.kept[k]; old != nil && !s.always[k] {
		s.size -= len(old.samples)
	}
	s.kept[k] = &sound{samples, s.used}
	if !s.always[k] {
		s.size += len(samples)
	}
	for s.size > maxKept {
		var oldest key
		least := s.used + 1
		for other, v := range s.kept {
			if used := v.used; other != k && !s.always[other] && s.waited[other] == 0 && used < least {
				oldest, least = other, used
			}
		}
		if least > s.used { // all others are kept for good, or waited for
			break
		}
		s.size -= len(s.kept[oldest].samples)
		delete(s.kept, oldest)
	}
	close(s.made)
	s.made = make(chan struct{})
}
