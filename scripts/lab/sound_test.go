package lab

import (
	"testing"
	"time"

	"vindu/scripts/lab/control"
)

// TestRoomSpeaksAndHears proves both loops with ALSA's own tools in the terminal's place, and the real card's driver:
// what it plays arrives outside the guest.
func TestRoomSpeaksAndHears(t *testing.T) {
	guest := Boot(t, Options{Files: map[string][]byte{"/tone.wav": EncodeWAV(Beeps(CallerTone, 10))}})
	stop, err := guest.Speak(t.Context(), Beeps(TerminalTone, 30))
	if err != nil {
		t.Fatal(err)
	}
	terminal := func(arguments ...string) {
		t.Helper()
		if _, err := guest.Exec(t.Context(), control.Command{Args: arguments}); err != nil {
			t.Fatal(err)
		}
	}
	terminal("arecord", "-q", "-D", TerminalMicrophone, "-f", "S16_LE", "-c", "1", "-r", "48000", "-d", "4", "/tmp/microphone.wav")
	if err := stop(); err != nil {
		t.Error(err)
	}
	data, err := guest.ReadFile(t.Context(), "/tmp/microphone.wav")
	if err != nil {
		t.Fatal(err)
	}
	samples, rate, err := DecodeWAV(data)
	if err != nil {
		t.Fatal(err)
	}
	if heard := Listen(samples, rate, TerminalTone); !heard.Beeped() {
		t.Errorf("the terminal's microphone hears of the room's tone: %v", heard)
	}
	pid, err := guest.Start(t.Context(), control.Command{Args: []string{"aplay", "-q", "-D", TerminalSpeaker, "/tone.wav"}})
	if err != nil {
		t.Fatal(err)
	}
	samples, err = guest.Hear(t.Context(), 4*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if heard := Listen(samples, SampleRate, CallerTone); !heard.Beeped() {
		t.Errorf("the room hears of the terminal's tone: %v", heard)
	}
	if _, err := guest.Signal(t.Context(), control.Signal{PID: pid, Signal: 15, Wait: 10 * time.Second}); err != nil {
		t.Error(err)
	}
	terminal("aplay", "-q", "-D", "plughw:CARD=Intel", "-d", "4", "/tone.wav")
	samples, rate, err = guest.SpeakerOutput()
	if err != nil {
		t.Fatal(err)
	}
	if heard := Listen(samples, rate, CallerTone); heard.Tone < 20 {
		t.Errorf("outside the guest, of what its sound card plays: %v", heard)
	}
}
