package voice

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"vindu/device/screen"
	"vindu/protocol"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	anne   = protocol.Party{Name: "Anne Berg", Role: "nurse", Organisation: "Home care"}
	per    = protocol.Party{Name: "Per Aasen", Role: "relative", Organisation: "Home care"}
	refuse = errors.New("there is none")
)

// maker makes sound whose first samples tell of which text, of a second for each ten letters.
type maker struct {
	mu    sync.Mutex
	texts []string
	takes time.Duration
	err   error
}

func (m *maker) Speak(ctx context.Context, language, text string) ([]int16, error) {
	m.mu.Lock()
	m.texts = append(m.texts, text)
	n, takes, err := len(m.texts), m.takes, m.err
	m.mu.Unlock()
	if takes > 0 {
		select {
		case <-time.After(takes):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if err != nil {
		return nil, err
	}
	samples := make([]int16, 4800*len(text))
	samples[0] = int16(n - 1)
	return samples, nil
}

func (m *maker) set(takes time.Duration, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.takes, m.err = takes, err
}

func (m *maker) made(text string) (n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, t := range m.texts {
		if t == text {
			n++
		}
	}
	return n
}

// listener is a mouth that remembers what it said, and when it began.
type listener struct {
	by    *maker
	began time.Time
	mu    sync.Mutex
	heard []string // "1.2 text", with "…" if it was interrupted
	none  bool
}

func (l *listener) Say(ctx context.Context, samples []int16) error {
	if l.none {
		return refuse
	}
	l.by.mu.Lock()
	text := l.by.texts[samples[0]]
	l.by.mu.Unlock()
	at := time.Since(l.began).Round(100 * time.Millisecond).String()
	defer func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.heard = append(l.heard, at+" "+text)
	}()
	select {
	case <-time.After(time.Duration(len(samples)) * time.Second / 48000):
		return nil
	case <-ctx.Done():
		text += "…"
		return ctx.Err()
	}
}

func (l *listener) clear() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.heard, l.began = nil, time.Now()
}

func (l *listener) texts() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.heard)
}

// spoken runs f with a voice in English that has made what it always needs.
func spoken(t *testing.T, f func(v *Voice, m *maker, l *listener)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		lang, err := screen.LoadLanguage("en")
		if err != nil {
			t.Fatal(err)
		}
		m := &maker{}
		l := &listener{by: m, began: time.Now()}
		v := New(m, l, lang, slog.New(slog.DiscardHandler))
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- v.Run(ctx) }()
		synctest.Wait()
		f(v, m, l)
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func ringing(s time.Duration) screen.Scene {
	return screen.Scene{Kind: screen.Ringing, Parties: []protocol.Party{anne}, AnswersAt: time.Now().Add(s), Button: true}
}

func inCall(with ...protocol.Party) screen.Scene {
	return screen.Scene{Kind: screen.InCall, Parties: with, Camera: true, Microphone: true}
}

func (l *listener) want(t *testing.T, want ...string) {
	t.Helper()
	if got := l.texts(); !slices.Equal(got, want) {
		t.Errorf("heard\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestCourse: a call from its ring to its end, in the words of the screen, and silence at rest.
func TestCourse(t *testing.T) {
	spoken(t, func(v *Voice, _ *maker, l *listener) {
		v.Show(screen.Scene{Kind: screen.Ready}, time.Now())
		pass(time.Minute)
		l.want(t)
		l.clear()
		v.Show(ringing(20*time.Second), time.Now())
		pass(20 * time.Second)
		l.want(t, "1.2s Anne Berg is calling. Nurse, Home care.", "5.3s The call starts by itself.", "8s Press the button to say no.")
		l.clear()
		v.Show(inCall(anne), time.Now())
		pass(20 * time.Second)
		l.want(t, "0s You are talking with Anne Berg, nurse.", "4s Camera and microphone are on.")
		l.clear()
		v.Show(inCall(anne, per), time.Now())
		pass(10 * time.Second)
		v.Show(inCall(anne), time.Now())
		pass(10 * time.Second)
		l.want(t, "0s Per Aasen, relative, is now in the call.", "10s Per Aasen has left the call.")
		l.clear()
		v.Show(screen.Scene{Kind: screen.Ended, Parties: []protocol.Party{anne}, HungUp: true}, time.Now())
		pass(time.Second)
		v.Show(screen.Scene{Kind: screen.Ready}, time.Now())
		pass(time.Hour)
		l.want(t, "0s The call has ended.", "2.1s Anne Berg hung up.", "4s The camera is off.")
	})
}

// TestLongRing: while it rings on, it is said again who calls.
func TestLongRing(t *testing.T) {
	spoken(t, func(v *Voice, _ *maker, l *listener) {
		s := ringing(40 * time.Second)
		s.Button = false
		v.Show(s, time.Now())
		pass(3 * time.Second)
		s.CallCode = "482 193"
		v.Show(s, time.Now()) // the same ring
		pass(36 * time.Second)
		l.want(t, "1.2s Anne Berg is calling. Nurse, Home care.", "5.3s The call starts by itself.", "8s You do not have to do anything.",
			"23.3s Anne Berg is calling. Nurse, Home care.")
	})
}

// TestFirstCall: before the very first call it is told what this is, each thing while it is on the screen, by a clock that is not the voice's, and then who calls.
func TestFirstCall(t *testing.T) {
	spoken(t, func(v *Voice, _ *maker, l *listener) {
		clock := time.Now().Add(-time.Hour)
		s := screen.Scene{
			Kind: screen.Ringing, Parties: []protocol.Party{anne}, AnswersAt: clock.Add(130 * time.Second), Notice: 120 * time.Second, NoticeEnds: clock.Add(120 * time.Second),
		}
		v.Show(s, clock)
		pass(129 * time.Second)
		var begun []string
		for _, h := range l.texts() {
			at, _, _ := strings.Cut(h, " ")
			begun = append(begun, at)
		}
		if want := []string{"0s", "30s", "1m0s", "1m30s", "2m1.2s", "2m5.3s"}; !slices.Equal(begun, want) || !strings.Contains(l.texts()[4], "Anne Berg is calling") {
			t.Errorf("begun at %v, want %v: %q", begun, want, l.texts())
		}
	})
}

// TestCovered: with a closed shutter it is said before the microphone opens that only the voice goes.
func TestCovered(t *testing.T) {
	spoken(t, func(v *Voice, _ *maker, l *listener) {
		s := ringing(20 * time.Second)
		s.Covered = true
		v.Show(s, time.Now())
		pass(10 * time.Second)
		l.want(t, "1.2s Anne Berg is calling. Nurse, Home care.", "5.3s The camera is covered. You can only be heard.")
	})
}

// TestCoveredMeanwhile: a shutter that is closed while it rings is told, too, once. That before a first call it waits for the end of what is told then is not tried here.
func TestCoveredMeanwhile(t *testing.T) {
	spoken(t, func(v *Voice, _ *maker, l *listener) {
		s := ringing(20 * time.Second)
		v.Show(s, time.Now())
		pass(12 * time.Second)
		l.clear()
		s.Covered = true
		v.Show(s, time.Now())
		v.Show(s, time.Now())
		pass(7 * time.Second)
		l.want(t, "0s The camera is covered. You can only be heard.")
	})
}

// TestCurtain: whose curtain is drawn is said when it is, and what is on when it is open again.
func TestCurtain(t *testing.T) {
	spoken(t, func(v *Voice, _ *maker, l *listener) {
		v.Show(inCall(anne), time.Now())
		pass(7 * time.Second)
		l.clear()
		drawn := inCall(anne)
		drawn.Camera, drawn.Microphone, drawn.Curtain = false, false, screen.DrawnHere
		v.Show(drawn, time.Now())
		pass(12 * time.Second)
		v.Show(inCall(anne), time.Now())
		pass(12 * time.Second)
		l.want(t, "1s You have drawn the curtain. Nobody sees or hears anybody. Camera and microphone are off.", "13s Camera and microphone are on.")
	})
}

// TestInterrupted: the call's beginning and end are not held up by what was being said, and nothing of it is said later.
func TestInterrupted(t *testing.T) {
	spoken(t, func(v *Voice, _ *maker, l *listener) {
		v.Show(ringing(0), time.Now())
		pass(time.Second)
		v.Show(inCall(anne), time.Now())
		pass(time.Second)
		v.Show(screen.Scene{Kind: screen.Ended, SaidNo: true}, time.Now())
		pass(time.Second)
		v.Show(screen.Scene{Kind: screen.Ready}, time.Now())
		pass(time.Minute)
		l.want(t, "0s Anne Berg is calling. Nurse, Home care.…", "1s You are talking with Anne Berg, nurse.…", "2s You said no to the call.", "4.6s The camera is off.", "6.5s You can be called later.")
	})
}

// TestWhatIsOn: in a call it is said what is on when that changes and stays so, but not for each moment.
func TestWhatIsOn(t *testing.T) {
	spoken(t, func(v *Voice, _ *maker, l *listener) {
		on, off := inCall(anne), inCall(anne)
		off.Camera = false
		v.Show(off, time.Now()) // known only a moment later
		pass(time.Second)
		v.Show(on, time.Now())
		pass(19 * time.Second)
		l.clear()
		v.Show(off, time.Now())
		pass(500 * time.Millisecond)
		v.Show(on, time.Now())
		pass(20 * time.Second)
		l.want(t)
		l.clear()
		v.Show(off, time.Now())
		pass(20 * time.Second)
		l.want(t, "1s Microphone is on. Camera is off.")
		l.clear()
		for range 10 { // a loose plug
			v.Show(on, time.Now())
			pass(time.Second)
			v.Show(off, time.Now())
			pass(time.Second)
		}
		if n := len(l.texts()); n > 2 {
			t.Errorf("said %d times in 20 s: %v", n, l.texts())
		}
	})
}

// TestSlow: a sentence that is not ready does not hold up those after it, and is said when it is; one that comes too late is not.
func TestSlow(t *testing.T) {
	spoken(t, func(v *Voice, m *maker, l *listener) {
		m.set(3*time.Second, nil)
		v.Show(ringing(30*time.Second), time.Now())
		pass(15 * time.Second)
		l.want(t, "2.7s The call starts by itself.", "5.5s Press the button to say no.", "8.3s Anne Berg is calling. Nurse, Home care.")
		v.Show(screen.Scene{Kind: screen.Ended}, time.Now())
		pass(10 * time.Second)
		v.Show(screen.Scene{Kind: screen.Ready}, time.Now())
		m.set(fresh+time.Second, nil)
		l.clear()
		v.Show(inCall(per), time.Now())
		pass(time.Minute)
		l.want(t, "1.5s Camera and microphone are on.")
	})
}

// TestGone: the end of a call is said although the synthesiser went away; that it did is known, and over when it is back.
func TestGone(t *testing.T) {
	spoken(t, func(v *Voice, m *maker, l *listener) {
		if v.Missing() {
			t.Error("missing at the start")
		}
		m.set(0, refuse)
		pass(2 * lookEvery)
		if !v.Missing() {
			t.Error("nobody noticed that it is gone")
		}
		l.clear()
		v.Show(ringing(10*time.Second), time.Now())
		pass(10 * time.Second)
		v.Show(inCall(anne), time.Now())
		pass(10 * time.Second)
		v.Show(screen.Scene{Kind: screen.Ended, HungUp: true, Parties: []protocol.Party{anne}}, time.Now())
		pass(10 * time.Second)
		l.want(t, "2.7s The call starts by itself.", "5.5s Press the button to say no.", "11.5s Camera and microphone are on.", "20s The call has ended.", "22.1s The camera is off.")
		m.set(0, nil)
		pass(retryLast * 2)
		if v.Missing() {
			t.Error("it is back, and nobody noticed")
		}
	})
}

// TestOneSentenceFails: a name that cannot be said is not a voice that is missing.
func TestOneSentenceFails(t *testing.T) {
	spoken(t, func(v *Voice, m *maker, _ *listener) {
		m.set(0, refuse)
		v.Speak("…")
		synctest.Wait()
		m.set(0, nil)
		pass(time.Second)
		if v.sounds.isAlways(key{"en", "…"}) {
			t.Fatal("test needs another sentence")
		}
		pass(retryFirst * 2)
		if v.Missing() {
			t.Error("missing")
		}
	})
}

// TestNamesAreForgotten: at rest no sound of a name is left; those without names are made once.
func TestNamesAreForgotten(t *testing.T) {
	spoken(t, func(v *Voice, m *maker, _ *listener) {
		for range 3 {
			v.Show(ringing(10*time.Second), time.Now())
			pass(10 * time.Second)
			v.Show(inCall(anne), time.Now())
			pass(10 * time.Second)
			v.Show(screen.Scene{Kind: screen.Ended}, time.Now())
			pass(10 * time.Second)
			v.Show(screen.Scene{Kind: screen.Ready}, time.Now())
			synctest.Wait()
			for k := range v.sounds.kept {
				if strings.Contains(k.text, "Anne") {
					t.Errorf("%q is kept", k.text)
				}
			}
		}
		if n := m.made("The call has ended."); n != 1 {
			t.Errorf("the end was made %d times", n)
		}
		if n := m.made("Anne Berg is calling. Nurse, Home care."); n != 3 {
			t.Errorf("the name was made %d times", n)
		}
	})
}

// TestForgottenWhileMade: what is forgotten while it is being made is not kept, unless it is wanted again; and nothing is made twice at a time.
func TestForgottenWhileMade(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, again := range []bool{false, true} {
			made, hold := 0, make(chan struct{})
			s := newSounds(makes(func() []int16 { made++; <-hold; return []int16{1} }), slog.New(slog.DiscardHandler))
			ctx, stop := context.WithCancel(t.Context())
			done := make(chan struct{})
			go func() { s.run(ctx); close(done) }()
			s.want("en", "Anne")
			synctest.Wait()
			s.want("en", "Anne") // it is being made
			s.forget()
			if again {
				s.want("en", "Anne")
			}
			close(hold)
			synctest.Wait()
			if got := s.kept[key{"en", "Anne"}] != nil; got != again || made != 1 {
				t.Errorf("wanted again %v: kept %v, made %d times", again, got, made)
			}
			stop()
			<-done
		}
	})
}

type makes func() []int16

func (m makes) Speak(context.Context, string, string) ([]int16, error) { return m(), nil }

// TestSpeak: a notice is said when nothing else is, and a call comes first.
func TestSpeak(t *testing.T) {
	spoken(t, func(v *Voice, _ *maker, l *listener) {
		v.Speak("This screen is from the clinic.", "You can always say no.")
		pass(4 * time.Second)
		v.Show(ringing(0), time.Now())
		pass(time.Minute)
		l.want(t, "0s This screen is from the clinic.", "3.3s You can always say no.…", "4s Anne Berg is calling. Nurse, Home care.", "8.1s The call starts by itself.", "10.8s Press the button to say no.",
			"25.7s Anne Berg is calling. Nurse, Home care.", "41.7s Anne Berg is calling. Nurse, Home care.", "57.8s Anne Berg is calling. Nurse, Home care.")
	})
}

// TestNoMouth: without a loudspeaker nothing happens, and no time is lost.
func TestNoMouth(t *testing.T) {
	spoken(t, func(v *Voice, _ *maker, l *listener) {
		l.none = true
		v.Show(ringing(5*time.Second), time.Now())
		v.Show(inCall(anne), time.Now())
		v.Show(screen.Scene{Kind: screen.Ended}, time.Now())
		synctest.Wait()
		l.want(t)
	})
	var none *Voice
	none.Show(screen.Scene{}, time.Now())
	none.Speak("nothing")
	none.Hush()
	none.SetLanguage(nil)
	if none.Missing() {
		t.Error("a voice that is not wanted is missing")
	}
}

// TestLanguage: from the change on the other language is spoken, and only its sentences are kept.
func TestLanguage(t *testing.T) {
	spoken(t, func(v *Voice, m *maker, l *listener) {
		nb, err := screen.LoadLanguage("nb")
		if err != nil {
			t.Fatal(err)
		}
		v.SetLanguage(nb)
		pass(time.Second)
		l.clear()
		v.Show(screen.Scene{Kind: screen.Ended}, time.Now())
		pass(10 * time.Second)
		l.want(t, "0s Samtalen er slutt.", "2s Kameraet er av.")
		if v.sounds.kept[key{"en", "The call has ended."}] != nil {
			t.Error("English is kept")
		}
	})
}

// TestBounded: what is kept has a bound, and what is always needed is not thrown away for it.
func TestBounded(t *testing.T) {
	s := newSounds(nil, slog.New(slog.DiscardHandler))
	s.always = map[key]bool{{"en", "end"}: true}
	s.put(key{"en", "end"}, make([]int16, maxKept/2))
	s.waited[key{"en", "b"}] = 1
	for _, text := range []string{"a", "b", "c", "d", "e"} {
		s.put(key{"en", text}, make([]int16, maxKept/4))
	}
	if s.size != maxKept || s.kept[key{"en", "end"}] == nil || s.kept[key{"en", "a"}] != nil || s.kept[key{"en", "e"}] == nil {
		t.Errorf("%d samples of %d sentences", s.size, len(s.kept))
	}
	s.put(key{"en", "huge"}, make([]int16, maxKept))
	if s.size != maxKept*5/4 || len(s.kept) != 3 || s.kept[key{"en", "end"}] == nil || s.kept[key{"en", "b"}] == nil {
		t.Errorf("%d samples of %d sentences", s.size, len(s.kept))
	}
	s.put(key{"en", "huge"}, make([]int16, maxKept/2)) // made anew
	if s.size != maxKept*3/4 {
		t.Errorf("%d samples of %d sentences", s.size, len(s.kept))
	}
	s.forget()
	if s.size != 0 || len(s.kept) != 1 {
		t.Errorf("%d samples of %d sentences after all were forgotten", s.size, len(s.kept))
	}
}

// pass lets time pass in a bubble.
func pass(d time.Duration) { time.Sleep(d) } // allowed: in a bubble
