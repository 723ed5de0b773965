// Package voice says aloud what the screen shows: who calls, that it is answered, who joins and leaves, what is on, and that it is over and the camera is off (R24).
//
// The words are the screen's own (screen.Language.Aloud). A Synthesiser makes sound of them; a Mouth has the loudspeaker. Both come from outside.
//
// Guarantees:
//   - Show never blocks, and nothing waits for the voice: a sentence that is not ready in time is said later, or not at all. Chimes do not depend on it.
//   - Sentences that name nobody, the end's among them, are made when the terminal begins and kept, so that the end of a call is said although the synthesiser is gone.
//   - Sentences with names are made when the call they belong to rings, kept in memory alone, and forgotten when the screen is at rest again.
//   - A new call interrupts what is still being said of the one before; nothing else does but the end of the call.
//   - What nobody is to be disturbed by is not said: a scene at rest says nothing, by day or in quiet hours.
package voice

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"vindu/device/screen"
)

// Synthesiser makes sound of words: 48 kHz, one channel. language is a BCP 47 tag.
type Synthesiser interface {
	Speak(ctx context.Context, language, text string) ([]int16, error)
}

// Mouth plays what is said, one thing after the other.
type Mouth interface {
	// Say returns nil when all of it was played. When ctx ends it falls silent softly, and returns its error. It must not change samples.
	Say(ctx context.Context, samples []int16) error
}

const (
	// lead is how long it rings before anything is said: the chime says that something comes.
	lead = 1200 * time.Millisecond
	// patience is how long the sentences that are ready wait for one before them that is not.
	patience = 1500 * time.Millisecond
	// fresh is how long a sentence is worth saying.
	fresh = 12 * time.Second
	// again is after how much silence it is said once more who calls, while it rings.
	again = 12 * time.Second
	// settle is for how long camera and microphone have to be as they are before it is said, settled how long it is not said again.
	settle, settled = time.Second, 10 * time.Second
	// After a failure the synthesiser is asked again after a doubling time within these.
	retryFirst, retryLast = 5 * time.Second, 5 * time.Minute
	// gap is the pause after a sentence.
	gap = 150 * time.Millisecond
	// queued is how many announcements wait at most.
	queued = 16
)

// Voice says what is shown. Show, Speak, SetLanguage and Missing may be called from any goroutine.
type Voice struct {
	mouth  Mouth
	sounds *sounds
	log    *slog.Logger
	wake   chan struct{}
	lang   atomic.Pointer[screen.Language]

	mu     sync.Mutex
	scene  screen.Scene
	stop   context.CancelFunc // of what is being said
	queue  []announcement
	rested bool      // the screen is at rest, and names are still kept
	rang   time.Time // when it was last said who calls; zero: not in this call
	onSet  time.Time // when what is on in the call changed last; zero: nothing has to be said of it
	onSay  string    // what was said of it last in this call, and when
	onAt   time.Time
}

// announcement are sentences that belong together.
type announcement struct {
	language string
	says     []string
	devices  bool      // says of the scene then what of the call is on
	at       time.Time // not before
	after    time.Duration
	until    time.Time
	ringing  bool // only while it rings
}

// New makes a Voice. It says nothing before Run.
func New(s Synthesiser, m Mouth, lang *screen.Language, log *slog.Logger) *Voice {
	v := &Voice{mouth: m, sounds: newSounds(s, log), log: log, wake: make(chan struct{}, 1)}
	v.lang.Store(lang)
	return v
}

// SetLanguage has it speak lang from now on.
func (v *Voice) SetLanguage(lang *screen.Language) {
	if v == nil {
		return
	}
	v.lang.Store(lang)
	v.sounds.keep(lang.Tag, lang.AlwaysAloud())
}

// Missing tells whether the synthesiser does not work.
func (v *Voice) Missing() bool { return v != nil && v.sounds.missing.Load() }

// Speak says sentences after what is to be said already, unless a call comes first.
func (v *Voice) Speak(sentences ...string) {
	if v == nil || len(sentences) == 0 {
		return
	}
	lang := v.lang.Load()
	v.sounds.want(lang.Tag, sentences...)
	v.mu.Lock()
	defer v.mu.Unlock()
	v.add(announcement{language: lang.Tag, says: sentences, until: time.Now().Add(time.Duration(len(sentences)) * fresh)})
}

// Hush has it fall silent, and forget what it was to say.
func (v *Voice) Hush() {
	if v == nil {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.hush()
}

// hush does. v.mu is held.
func (v *Voice) hush() {
	v.queue = nil
	if v.stop != nil {
		v.stop()
	}
}

// add has something said. v.mu is held.
func (v *Voice) add(a announcement) {
	if len(v.queue) >= queued {
		v.queue = v.queue[1:]
	}
	v.queue = append(v.queue, a)
	v.poke()
}

func (v *Voice) poke() {
	select {
	case v.wake <- struct{}{}:
	default:
	}
}

// Show tells what is on the screen from now on. at is the time now by the clock that the scene goes by.
func (v *Voice) Show(s screen.Scene, at time.Time) {
	if v == nil {
		return
	}
	s.Parties, s.Faults = slices.Clone(s.Parties), slices.Clone(s.Faults)
	lang := v.lang.Load()
	now := time.Now()
	v.mu.Lock()
	defer v.mu.Unlock()
	was := v.scene
	v.scene = s
	if s.Kind == was.Kind {
		switch {
		case s.Kind == screen.InCall:
			v.change(lang, was, s, now)
		case s.Kind == screen.Ringing && s.Covered && !was.Covered: // before the microphone opens
			said := announcement{language: lang.Tag, says: []string{lang.Text.Covered}, until: now.Add(fresh), ringing: true}
			if told := s.NoticeEnds.Sub(at); told > 0 && !s.NoticeEnds.IsZero() {
				said.at = now.Add(told)
				said.until = said.at.Add(fresh)
			}
			v.sounds.want(lang.Tag, said.says...)
			v.add(said)
		}
		return
	}
	said := announcement{language: lang.Tag, says: lang.Aloud(s), until: now.Add(fresh)}
	switch s.Kind {
	case screen.Ringing:
		v.hush()
		said.ringing, v.rang = true, time.Time{}
		if !s.AnswersAt.IsZero() && s.AnswersAt.Sub(at) > 2*lead || s.Ask {
			said.after = lead
		}
		if told := s.NoticeEnds.Sub(at); told > 0 && !s.NoticeEnds.IsZero() {
			said.at = now.Add(told)
			said.until = said.at.Add(fresh)
			v.tell(lang, s, said.at)
		}
		v.sounds.want(lang.Tag, said.says...)
		// What comes next is made while it rings.
		then := screen.Scene{Kind: screen.InCall, Parties: s.Parties}
		v.sounds.want(lang.Tag, lang.Aloud(then)...)
		then.Kind, then.HungUp = screen.Ended, true
		v.sounds.want(lang.Tag, lang.Aloud(then)...)
	case screen.InCall:
		v.hush()
		said.devices = true
		v.onSet, v.onSay = time.Time{}, ""
	case screen.Ended:
		v.hush()
	case screen.Ready:
		v.rested = true // once all is said
		v.poke()
		return
	default:
		if was.Kind == screen.Ringing || was.Kind == screen.InCall {
			v.hush()
		}
		return
	}
	if len(said.says) > 0 {
		v.sounds.want(lang.Tag, said.says...)
		v.add(said)
	}
}

// tell says what the screen tells before a home's first call, each thing when it is shown. v.mu is held.
func (v *Voice) tell(lang *screen.Language, s screen.Scene, ends time.Time) {
	cards := lang.NoticeAloud(s)
	v.sounds.want(lang.Tag, cards...)
	each := s.Notice / time.Duration(len(cards))
	for i, card := range cards {
		at := ends.Add(each*time.Duration(i) - s.Notice)
		v.add(announcement{language: lang.Tag, says: []string{card}, at: at, until: at.Add(each), ringing: true})
	}
}

// change says what has changed in a call. v.mu is held.
func (v *Voice) change(lang *screen.Language, was, is screen.Scene, now time.Time) {
	say := func(text string) {
		v.sounds.want(lang.Tag, text)
		v.add(announcement{language: lang.Tag, says: []string{text}, until: now.Add(fresh)})
	}
	for _, p := range is.Parties {
		if !slices.Contains(was.Parties, p) {
			say(lang.CameAloud(p))
		}
	}
	for _, p := range was.Parties {
		if !slices.Contains(is.Parties, p) {
			say(lang.WentAloud(p))
		}
	}
	if is.Curtain != was.Curtain {
		v.onAt = time.Time{} // somebody did that: it does not flap
	}
	if v.onSay != "" && lang.DevicesAloud(is) != v.onSay {
		v.sounds.want(lang.Tag, lang.DevicesAloud(is))
		v.onSet = now
		v.poke()
	}
}

// Run speaks until ctx ends.
func (v *Voice) Run(ctx context.Context) error {
	lang := v.lang.Load()
	v.sounds.keep(lang.Tag, lang.AlwaysAloud())
	var making sync.WaitGroup
	defer making.Wait()
	making.Go(func() { v.sounds.run(ctx) })
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		own, stop := context.WithCancel(ctx)
		a, wait := v.next(time.Now(), stop)
		if a != nil {
			v.say(own, *a)
			stop()
			v.said(*a)
			continue
		}
		stop()
		timer.Reset(wait)
		select {
		case <-ctx.Done():
		case <-v.wake:
		case <-timer.C:
		}
	}
	return nil
}

// next takes the next announcement, which stop interrupts from then on, or tells for how long there is none.
func (v *Voice) next(now time.Time, stop context.CancelFunc) (*announcement, time.Duration) {
	v.mu.Lock()
	defer v.mu.Unlock()
	a, wait := v.due(now)
	if a != nil {
		v.stop = stop
	}
	return a, wait
}

func (v *Voice) due(now time.Time) (*announcement, time.Duration) {
	if len(v.queue) > 0 {
		a := v.queue[0]
		if wait := a.at.Sub(now); wait > 0 {
			return nil, wait
		}
		v.queue = v.queue[1:]
		return &a, 0
	}
	if v.rested {
		v.rested = false
		if v.scene.Kind == screen.Ready {
			v.sounds.forget()
		}
	}
	lang := v.lang.Load()
	switch v.scene.Kind {
	case screen.Ringing:
		if v.rang.IsZero() {
			break
		}
		if left := again - now.Sub(v.rang); left > 0 {
			return nil, left
		}
		return &announcement{language: lang.Tag, says: lang.Aloud(v.scene)[:1], until: now.Add(fresh), ringing: true}, 0
	case screen.InCall:
		if v.onSet.IsZero() {
			break
		}
		if left := max(settle-now.Sub(v.onSet), settled-now.Sub(v.onAt)); left > 0 {
			return nil, left
		}
		v.onSet = time.Time{}
		if lang.DevicesAloud(v.scene) != v.onSay {
			return &announcement{language: lang.Tag, devices: true, until: now.Add(fresh)}, 0
		}
	default:
	}
	return nil, time.Hour
}

// said notes that an announcement is over.
func (v *Voice) said(a announcement) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.stop = nil
	if a.ringing {
		v.rang = time.Now()
	}
}

// say says an announcement: the sentences that are ready in time in their order, and then those that were late. What is not begun in time is left out.
func (v *Voice) say(ctx context.Context, a announcement) {
	if a.after > 0 && !pause(ctx, a.after) {
		return
	}
	worth, lapse := context.WithDeadline(ctx, a.until)
	defer lapse()
	soon, hurry := context.WithTimeout(worth, patience)
	defer hurry()
	var late []string
	for _, text := range a.says {
		if sound := v.sounds.get(soon, a.language, text); sound == nil {
			late = append(late, text)
		} else if !v.speak(ctx, worth, sound) {
			return
		}
	}
	if a.devices {
		text := v.on()
		if sound := v.sounds.get(soon, a.language, text); sound == nil {
			late = append(late, text)
		} else if !v.speak(ctx, worth, sound) {
			return
		}
	}
	for _, text := range late {
		if sound := v.sounds.get(worth, a.language, text); sound != nil && !v.speak(ctx, worth, sound) {
			return
		}
	}
}

// on is what is on in the call now. It is taken as said.
func (v *Voice) on() string {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.onSay, v.onAt, v.onSet = v.lang.Load().DevicesAloud(v.scene), time.Now(), time.Time{}
	return v.onSay
}

// speak plays a sentence, if it is still worth it, and a pause; false if nothing more is to be said.
func (v *Voice) speak(ctx, worth context.Context, sound []int16) bool {
	if worth.Err() != nil {
		return false
	}
	if err := v.mouth.Say(ctx, sound); err != nil {
		v.log.Debug("not said to its end", "error", err)
		return false
	}
	return pause(ctx, gap)
}

func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// jittered is a time around d.
func jittered(d time.Duration) time.Duration { return d*3/4 + rand.N(d/2) }
