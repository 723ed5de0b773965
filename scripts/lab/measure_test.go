package lab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// measurement is what was seen and heard at both ends at the same time.
type measurement struct {
	idle, guestCores float64 // cores
	shown, moved     Rate    // pictures of the bars that the browser showed, and those that differed from the one before
	painted          Rate    // pictures of the caller that the terminal painted
	bad              int     // pictures in which the bars were not as they should be
	bars             error   // what was wrong with the first of them
	positions        int     // of the bars
	small            int     // pictures of them that were smaller than the camera's, because the terminal was short of processor
	browser, room    Heard
}

func (m measurement) String() string {
	return fmt.Sprintf("idle %.2f cores, guest %.2f cores; browser showed %v (%v moved, %d positions, %d smaller, %d bad: %v); terminal painted %v; browser heard %v; room heard %v",
		m.idle, m.guestCores, m.shown, m.moved, m.positions, m.small, m.bad, m.bars, m.painted, m.browser, m.room)
}

// judgeContent compares what was seen and heard with what is promised, however little time the host had.
func (m measurement) judgeContent(t *testing.T) {
	t.Helper()
	if m.shown.Events < leastSeen || m.positions < leastSeen || m.bad > m.shown.Events {
		t.Errorf("the browser showed %d pictures of the bars at %d positions, want %d; %d others (%v)", m.shown.Events, m.positions, leastSeen, m.bad, m.bars)
	}
	if m.painted.Events < leastSeen {
		t.Errorf("the terminal painted %d pictures of the caller, want %d", m.painted.Events, leastSeen)
	}
	if !m.browser.Beeped() {
		t.Errorf("the browser, of the tone in the terminal's room: %v", m.browser)
	}
	if !m.room.Beeped() {
		t.Errorf("the terminal's room, of the caller's tone: %v", m.room)
	}
}

// slow compares the rates with what is promised. A terminal that is short of processor gives up the picture's size before
// its rate: pictures of each of its sizes count.
func (m measurement) slow() error {
	var slow []string
	if m.moved.Mean < leastRate || m.moved.Worst < leastEach {
		slow = append(slow, fmt.Sprintf("the browser showed %v new pictures of the bars, want %d and %d in each %s; %d others (%v)", m.moved, leastRate, leastEach, window, m.bad, m.bars))
	}
	if m.painted.Mean < leastRate {
		slow = append(slow, fmt.Sprintf("the terminal painted %v pictures of the caller, want %d", m.painted, leastRate))
	}
	if len(slow) == 0 {
		return nil
	}
	return errors.New(strings.Join(slow, "; "))
}

func measure(t *testing.T, guest *Guest, browser *Browser, caller CallerOnScreen) measurement {
	t.Helper()
	var m measurement
	end, err := browser.Watch()
	if err != nil {
		t.Fatal(err)
	}
	before, guestBefore := cpu(t, guest)
	room := make(chan error, 1)
	var roomSound []int16
	go func() {
		var err error
		roomSound, err = guest.Hear(t.Context(), 8*time.Second)
		room <- err
	}()
	at, frames, err := guest.WatchCaller(t.Context(), caller, measured)
	if err != nil {
		t.Fatal(err)
	}
	after, guestAfter := cpu(t, guest)
	watched, err := end()
	if err != nil {
		t.Fatal(err)
	}
	if err := <-room; err != nil {
		t.Fatal(err)
	}
	m.idle = after.IdleSince(before)
	m.guestCores = (guestAfter - guestBefore).Seconds() / measured.Seconds()
	m.painted = RateOf(Moving(at, frames), measured, window)
	bars := watched.Bars(sizes...)
	m.small = bars.small
	m.bad, m.bars, m.positions = bars.bad, bars.err, distinct(bars.phase)
	m.shown, m.moved = RateOf(bars.at, measured, window), RateOf(Moving(bars.at, bars.phase), measured, window)
	m.browser, m.room = Listen(watched.Sound, SampleRate, TerminalTone), Listen(roomSound, SampleRate, CallerTone)
	for name, sound := range map[string][]int16{"browser-heard.wav": watched.Sound, "room-heard.wav": roomSound} {
		if err := os.WriteFile(filepath.Join(guest.Artefacts, name), EncodeWAV(sound), 0o644); err != nil {
			t.Error(err)
		}
	}
	return m
}

func cpu(t *testing.T, guest *Guest) (CPU, time.Duration) {
	t.Helper()
	host, err := ReadCPU()
	if err != nil {
		t.Fatal(err)
	}
	used, err := guest.CPUTime()
	if err != nil {
		t.Fatal(err)
	}
	return host, used
}
