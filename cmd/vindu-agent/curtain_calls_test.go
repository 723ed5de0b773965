package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vindu/clinic/calls"
	"vindu/device/agent"
	"vindu/device/screen"
	"vindu/protocol"
)

// thumb presses keys of a terminal. What it presses is read by one of those who wait for a key, not by all, as of an input device: so it presses until it is seen.
type thumb struct {
	*bench
	keys *os.File
}

func newThumb(t *testing.T) (thumb, func(*agent.Config)) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "event0")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	keys, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { keys.Close() })
	return thumb{keys: keys}, func(c *agent.Config) { c.Devices.Button, c.Button.Curtain, c.Call.Notice = path, "KEY_F2", 0 }
}

func (x thumb) press(code byte, seen func() bool) {
	x.t.Helper()
	event := bytes.Repeat([]byte{0}, 24)
	event[16], event[18], event[20] = 1, code, 1
	for range 30 {
		_, err := x.keys.Write(event[24-inputEvent:])
		x.c.check(err)
		for end := time.Now().Add(2 * time.Second); time.Now().Before(end); <-time.After(5 * time.Millisecond) {
			if seen() {
				return
			}
		}
	}
	x.t.Fatalf("nobody has seen a press of %d: the screen shows %+v", code, x.terminal.shows())
}

const (
	keySpace, keyF2 = 57, 60

	// pageCovered is that nothing is shown, heard or sent by the page.
	pageCovered = `document.getElementById("far").srcObject === null && document.getElementById("self").srcObject.getTracks().every((t) => !t.enabled) && window.counted.live.getSenders().every((s) => s.track === null)`
	pageSees    = `document.getElementById("far").srcObject !== null && document.getElementById("far").videoWidth > 0 && !document.getElementById("placeholder").checkVisibility() && window.counted.live.getSenders().every((s) => s.track !== null && s.track.enabled)`
	packets     = `window.counted.live.getStats().then((all) => { let in_ = 0, out = 0; all.forEach((s) => { if (s.type === "inbound-rtp") in_ += s.packetsReceived; if (s.type === "outbound-rtp") out += s.packetsSent; }); return [in_, out]; })`
)

func (x thumb) draws() {
	x.t.Helper()
	evaluate[bool](x.page, `document.getElementById("curtain").click(), true`)
}

func (x thumb) says(text string) {
	x.t.Helper()
	x.page.until(fmt.Sprintf(`document.getElementById("placeholder").checkVisibility() && document.getElementById("placeholder").textContent.includes(%q)`, text))
	x.page.until(pageCovered)
}

// dark holds that for a while nothing of either end is captured, sent or received, that the screen shows no picture and says that all is off, and that the path stays.
func (x thumb) dark(long time.Duration, whose screen.Curtain) {
	x.t.Helper()
	x.c.await("closed devices", x.terminal.capture.shut)
	x.c.await("a screen that says so", func() bool {
		s := x.terminal.shows()
		return s.Kind == screen.InCall && s.Curtain == whose && !s.Camera && !s.Microphone
	})
	<-time.After(300 * time.Millisecond) // what was on its way
	taken, was := x.terminal.capture.taken(), evaluate[[]int](x.page, packets)
	<-time.After(long)
	if now := x.terminal.capture.taken(); now != taken || !x.terminal.capture.shut() {
		x.t.Errorf("behind a curtain camera and microphone: %v, then %v", taken, now)
	}
	if now := evaluate[[]int](x.page, packets); !slices.Equal(now, was) {
		x.t.Errorf("behind a curtain packets in and out: %v, then %v", was, now)
	}
	if s := x.terminal.shows(); s.Kind != screen.InCall || s.Curtain != whose || len(s.Faults) > 0 {
		x.t.Errorf("behind a curtain the screen shows %+v", s)
	}
	if evaluate[bool](x.page, `document.getElementById("weak").checkVisibility() || !(`+pageCovered+`)`) {
		x.t.Error("behind a curtain the page speaks of a weak line, or shows or sends something")
	}
	x.page.phase("talking")
}

// back waits until everything is as before the curtain.
func (x thumb) back() (lifting time.Duration) {
	x.t.Helper()
	x.c.await("a curtain that is about to open", func() bool { return x.terminal.shows().Curtain == screen.Lifting })
	since, opened := time.Now(), x.terminal.capture.taken()
	x.c.await("devices that open", func() bool { now := x.terminal.capture.taken(); return now[0] == opened[0]+1 && now[2] == opened[2]+1 })
	lifting = time.Since(since)
	x.page.until(pageSees)
	was := evaluate[[]int](x.page, packets)
	x.c.await("packets both ways", func() bool { now := evaluate[[]int](x.page, packets); return now[0] > was[0]+10 && now[1] > was[1]+10 })
	x.c.await("a screen without a curtain", func() bool {
		s := x.terminal.shows()
		return s.Curtain == screen.NoCurtain && s.Camera && s.Microphone
	})
	return lifting
}

// TestCurtainInCalls is curtains on the program that ships, called by a real page through the clinic's real parts: either end closes camera and microphone in the home and takes
// both pictures and sounds away at once, and opens its own alone; the call lasts; its record has both, and no fault.
func TestCurtainInCalls(t *testing.T) {
	x, configure := newThumb(t)
	x.bench = newBench(t, configure)
	call := x.talk()
	x.page.until(pageSees)

	pressed := time.Now()
	if !evaluate[bool](x.page, `document.getElementById("curtain").click(), `+`document.getElementById("far").srcObject === null && document.getElementById("self").srcObject.getTracks().every((t) => !t.enabled)`) {
		t.Error("a press does not cover the page at once")
	}
	x.c.await("closed devices", x.terminal.capture.shut)
	t.Logf("the caller's press: camera and microphone in the home closed after %v", time.Since(pressed).Round(time.Millisecond))
	x.says("You have drawn the curtain.")
	x.says("Camera and microphone in the home are closed since")
	x.dark(11*time.Second, screen.DrawnByCaller) // longer than a path may be silent

	x.press(keyF2, func() bool { return x.terminal.shows().Curtain == screen.DrawnHere })
	x.says("You and the home have drawn the curtain.")
	x.draws()
	x.says("The home has drawn the curtain.")
	x.dark(4*time.Second, screen.DrawnHere)
	for range 2 {
		x.draws()
	}
	x.dark(4*time.Second, screen.DrawnHere)
	x.press(keyF2, func() bool { return x.terminal.shows().Curtain == screen.Lifting })
	x.says("The curtain opens.")
	if lifting := x.back(); lifting < 2500*time.Millisecond {
		t.Errorf("it was said for %v that it opens", lifting)
	}

	before := x.terminal.capture.taken()
	x.c.await("pictures", func() bool { return x.terminal.capture.camera.read.Load() > before[1]+20 })
	x.draws()
	x.dark(time.Second, screen.DrawnByCaller)
	x.draws()
	x.back()

	pressed = time.Now()
	x.press(keyF2, func() bool { return x.terminal.shows().Curtain == screen.DrawnHere })
	x.c.await("closed devices", x.terminal.capture.shut)
	t.Logf("the patient's press: closed after %v", time.Since(pressed).Round(time.Millisecond))
	x.says("The home has drawn the curtain.")
	x.dark(time.Second, screen.DrawnHere)
	x.press(keySpace, func() bool { return x.terminal.shows().Kind == screen.Ended })
	x.page.phase("ended")
	x.idle()

	x.c.await("both halves", func() bool {
		r, err := x.c.calls.Record(t.Context(), x.c.person.ID, call)
		return err == nil && r.TerminalHalf != nil && r.CallerHalf != nil && r.TerminalEnd != nil
	})
	r, err := x.c.calls.Record(t.Context(), x.c.person.ID, call)
	x.c.check(err)
	if r.Outcome != protocol.EndPatientHungUp {
		t.Errorf("ended by %s: %s", r.Outcome, r.Diagnosis.Sentence())
	}
	if because := r.Diagnosis.Because; strings.Contains(because, "picture") || strings.Contains(because, "sound") || r.Diagnosis.Who != protocol.Nobody {
		t.Errorf("diagnosis %+v", r.Diagnosis)
	}
	var course []string
	for _, c := range r.Curtains {
		course = append(course, string(c.By)+" "+c.What)
	}
	if n := len(course); n < 10 || course[0] != "caller drawn" || course[1] != "terminal closed" || !slices.Contains(course, "terminal drawn") || !slices.Contains(course, "terminal "+calls.CurtainBack) {
		t.Errorf("recorded %v", course)
	}
	for side, half := range map[string]*protocol.CallRecord{"terminal": r.TerminalHalf, "caller": r.CallerHalf} {
		if s := half.Series; s != nil { // from when both ends send
			begun := false
			for i := range s.In {
				if begun = begun || s.In[i] > 0 && s.Out[i] > 0; begun && (s.In[i] == 0 || s.Out[i] == 0) {
					t.Errorf("%s: a second behind a curtain counts: %+v", side, s)
					break
				}
			}
		}
		if half.Quality.Freezes > 3 {
			t.Errorf("%s: %d freezes", side, half.Quality.Freezes)
		}
	}
	for _, n := range x.c.notices() {
		t.Errorf("notice %s: %s", n.Code, n.Detail)
	}
}
