package lab

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"image"
	"math/rand/v2"
	"net"
	"os"

	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"vindu/device/panel/simulator"
	"vindu/device/panel/wire"
	"vindu/device/screen"
	"vindu/media/speech"
	"vindu/media/speech/speechtest"
	"vindu/protocol"
	"vindu/scripts/lab/control"
)

const (
	homeNotice = 24 * time.Second
	homeRing   = 15 * time.Second
	homeSpeed  = 150 // so that all is said in less time
	curtainKey = "f1"

	silent       = 0.0005          // of full scale, without the caller's tone
	pause        = 10 * SampleRate // between the beginnings of two sentences, mostly
	longestPause = 60 * SampleRate
)

// homeConfig is that of a terminal with a panel, a voice and a key for the curtain.
var homeConfig = strings.NewReplacer(`ring = "4s"`, fmt.Sprintf("ring = %q", homeRing), `notice = "0s"`, fmt.Sprintf("notice = %q", homeNotice)).Replace(agentConfig) + `[button]
curtain = "KEY_F1"
[voice]
socket = "` + VoiceSocket + `"
speed = ` + strconv.Itoa(homeSpeed) + `
[panel]
port = "` + PanelPort + `"
`

// The lab's network leads nowhere but to the clinic, which is a fault for a helper, until it is seen that a call works all the same.
var (
	noWayOut = []protocol.Code{protocol.IPNoGateway}
	ready    = []screen.Scene{{Kind: screen.Ready}, {Kind: screen.Ready, Faults: noWayOut}}
	resting  = []screen.Scene{{Kind: screen.Resting}, {Kind: screen.Resting, Faults: noWayOut}}
)

var noiseFor = flag.Duration("noise", 3*time.Second, "for how long TestAtHome has noise on the panel's line; make soak takes ten minutes")

// atHome is a terminal as people have it.
type atHome struct {
	t       *testing.T
	guest   *Guest
	panel   *Panel
	browser *Browser
	pid     int
	caller  protocol.Party
	held    []control.Holder // of camera and microphones, just before the last scene that was seen
}

// TestAtHome is the patient's side of calls, on what ships: every scene on the display, as the terminal draws it; a panel on the serial line, whose buttons are pressed, whose shutter is
// closed and whose cable is pulled in a call; and what the loudspeaker plays from the first ring to the last word, sentence by sentence.
func TestAtHome(t *testing.T) {
	t.Parallel() // how long things take is judged only where the host had time for it
	program, err := Build(t.Context(), "./cmd/vindu-agent", false)
	if err != nil {
		t.Fatal(err)
	}
	guest := Boot(t, Options{
		Hands: true, Voice: true,
		Programs: map[string][]byte{"/usr/bin/vindu-agent": program},
		Files:    map[string][]byte{"/etc/vindu/agent.toml": []byte(homeConfig)},
	})
	if _, err := guest.Exec(t.Context(), control.Command{Args: []string{"modprobe", "virtio_input"}}); err != nil {
		t.Fatal(err)
	}
	took, err := guest.GiveVoice(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	guest.Log("the synthesiser makes a sentence in %s", took.Round(time.Millisecond))
	t.Logf("the synthesiser makes a sentence in %s", took.Round(time.Millisecond))
	h := &atHome{t: t, guest: guest, caller: protocol.Party{Name: Person, Role: Role, Organisation: Organisation}}
	clinic := StartClinic(t, guest)
	h.panel = guest.Panel(t)
	h.pid = startAgent(t, guest, clinic)
	h.browser = NewBrowser(t, guest.Net)
	signIn(t, clinic, h.browser)
	h.sees("1-ready", ready...)
	h.panel.Push(No)
	h.panel.Push(Answer)
	h.sees("1-ready-pressed", ready...)
	noCapture(t, guest, "before the call")

	h.wholeCourse()
	h.noise()
	h.saysNo()

	h.restart(strings.Replace(homeConfig, "[panel]", "[panel]\nlost = \"end\"", 1), "\""+homeRing.String()+"\"", `"0s"`)
	h.endsWithThePanel()
	h.restart(homeConfig+"[quiet]\nfrom = \"00:00\"\nto = \"23:59\"\n", "", "")
	h.rests()
	h.stop(t.Context())
}

// sees waits until the display shows one of these scenes as the terminal draws it, and looks at all that no moving picture covers.
func (h *atHome) sees(name string, scenes ...screen.Scene) {
	h.t.Helper()
	err := h.guest.Until(h.t.Context(), 20*time.Second, func() error { return h.compare(name, h.look(name), scenes...) })
	if err != nil {
		h.t.Errorf("scene %s: %v", name, err)
	}
}

// look returns what the display shows, and remembers what is open just before.
func (h *atHome) look(name string) image.Image {
	h.t.Helper()
	var err error
	if h.held, err = h.guest.Holders(h.t.Context(), capturing...); err != nil {
		h.t.Fatal(err)
	}
	return screendump(h.t, h.guest, "scene-"+name+".png")
}

// compare tells whether a picture is one of these scenes, as the terminal draws them.
func (h *atHome) compare(name string, shown image.Image, scenes ...screen.Scene) error {
	h.t.Helper()
	least := 100.0
	for _, s := range scenes {
		if least = min(least, sceneDiffers(h.t, h.guest, shown, s, "en", name)); least <= 0.1 {
			h.guest.Log("scene %s: %.2f %% differs from what the terminal draws", name, least)
			return nil
		}
	}
	return fmt.Errorf("%.2f %% of the screen is not what it should be", least)
}

// counting are the scenes of a call that rings, with however many seconds left, and some more: they go on while they are drawn.
func counting(ringing screen.Scene) (scenes []screen.Scene) {
	for left := range int(homeRing/time.Second) + 15 {
		s := ringing
		s.AnswersAt = time.Now().Add(time.Duration(left)*time.Second - 500*time.Millisecond)
		scenes = append(scenes, s)
	}
	return scenes
}

// closed holds that camera and microphones were, when the last scene was seen.
func (h *atHome) closed(when string) {
	h.t.Helper()
	for _, holder := range h.held {
		h.t.Errorf("%s %s holds %s", when, holder.Command, holder.Path)
	}
}

// holds tells which of the terminal's devices are open.
func (h *atHome) holds(pattern string) bool {
	h.t.Helper()
	holders, err := h.guest.Holders(h.t.Context(), pattern)
	if err != nil {
		h.t.Fatal(err)
	}
	return len(holders) > 0
}

const (
	theCamera     = "/dev/video*"
	theMicrophone = "/dev/snd/pcmC0D1c"
)

func (h *atHome) await(what string, so func() bool) {
	h.t.Helper()
	if err := h.guest.Until(h.t.Context(), 30*time.Second, func() error {
		if !so() {
			return errors.New(what)
		}
		return nil
	}); err != nil {
		h.t.Fatalf("never: %v", err)
	}
}

// code is what both ends show.
func (h *atHome) code() string {
	code, err := Evaluate[string](h.browser, 5*time.Second, `/\d{3} \d{3}/.exec(document.getElementById("call-code").textContent)?.[0] ?? ""`)
	if err != nil {
		h.t.Fatal(err)
	}
	return code
}

// wholeCourse is a home's first call, from the notice to the end, recorded and looked at; in it everything is done that can be.
func (h *atHome) wholeCourse() {
	h.t.Helper()
	t, guest := h.t, h.guest
	before, err := ReadCPU()
	if err != nil {
		t.Fatal(err)
	}
	stop, err := guest.Record(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	press(t, h.browser, "Ring")
	guest.Log("rung")
	ringing := screen.Scene{Kind: screen.Ringing, Parties: []protocol.Party{h.caller}, Button: true, Panel: true}
	if err := h.browser.WaitFor(20*time.Second, status("Ringing")); err != nil {
		t.Fatal(err)
	}
	ringing.CallCode = h.code()
	// What is shown is looked at again and again, and compared when there is time.
	var shown []shot
	blinked := map[bool]bool{}
	err = guest.Until(t.Context(), 2*time.Minute, func() error {
		picture := h.look("2-notice")
		shown = append(shown, shot{picture, h.held})
		for range 5 {
			blinked[h.panel.Outputs().Lamp] = true
			<-time.After(60 * time.Millisecond)
		}
		talks, err := Evaluate[bool](h.browser, 10*time.Second, "Boolean("+status("In call")+")")
		if err == nil && !talks {
			err = errors.New("it is not answered")
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if !blinked[true] || !blinked[false] {
		t.Errorf("while it rang the call lamp was %v", blinked)
	}
	if err := h.browser.WaitForFarEnd(40 * time.Second); err != nil {
		t.Fatal(err)
	}
	guest.Log("the page shows the terminal's picture")
	talking := screen.Scene{Kind: screen.InCall, Parties: ringing.Parties, Camera: true, Microphone: true, Button: true, Panel: true, CallCode: h.code()}
	h.sees("4-talking", talking)
	seeCaller(t, guest)
	h.lit()
	<-time.After(4 * time.Second) // so that it is said who is there, and what is on

	h.panel.Push(Answer)
	h.panel.Change(func(in *simulator.Inputs) { in.Volume = 60 })
	covered := talking
	covered.Camera, covered.Faults = false, []protocol.Code{protocol.AnswerShutter}
	h.dark("shutter", darkLimit, func() { h.panel.Change(func(in *simulator.Inputs) { in.Open = false }) })
	h.sees("5-shutter", covered)
	if !h.holds(theMicrophone) {
		t.Error("the voice does not go on behind a closed shutter")
	}
	h.panel.Change(func(in *simulator.Inputs) { in.Open = true })
	h.lit()
	h.sees("5-shutter-open", talking)

	away := talking
	away.Camera, away.Panel = false, false // the keyboard's Enter still says no
	away.Faults = []protocol.Code{protocol.PanelMissing}
	h.dark("cable", darkLimit, func() { h.panel.Cable.Pull(true) })
	h.sees("6-cable", away)
	if err := h.browser.WaitFor(10*time.Second, status("In call")); err != nil {
		t.Error(err)
	}
	if !h.holds(theMicrophone) {
		t.Error("the call does not go on as voice without the panel")
	}
	h.panel.Cable.Pull(false)
	h.lit()
	h.sees("6-cable-back", talking)

	drawn := talking
	drawn.Camera, drawn.Microphone, drawn.Curtain = false, false, screen.DrawnHere
	h.dark("curtain", 0, func() {
		if err := guest.Press(t.Context(), curtainKey); err != nil {
			t.Error(err)
		}
	})
	h.sees("7-curtain", drawn)
	noCapture(t, guest, "behind a curtain")
	<-time.After(5 * time.Second) // so that it is said
	if err := guest.Press(t.Context(), curtainKey); err != nil {
		t.Error(err)
	}
	drawn.Curtain = screen.Lifting
	h.sees("7-curtain-opens", drawn)
	h.lit()
	h.sees("7-curtain-open", talking)

	h.dark("no", darkLimit, func() { h.panel.Push(No) })
	h.sees("8-ended", screen.Scene{Kind: screen.Ended, Parties: ringing.Parties})
	noCapture(t, guest, "after no")
	if err := h.browser.WaitFor(15*time.Second, status("ended")); err != nil {
		t.Error(err)
	}
	h.sees("9-ready", ready...)
	samples, err := stop()
	if err != nil {
		t.Fatal(err)
	}
	after, err := ReadCPU()
	if err != nil {
		t.Fatal(err)
	}
	h.inOrder(shown, ringing)
	h.heard(samples, ringing, talking, after.IdleSince(before) >= LeastIdle)
}

// shot is what the display showed, and what was open just before.
type shot struct {
	picture image.Image
	held    []control.Holder
}

// drawing is how many pictures may still show the ring when camera and microphone are open: the call is answered then, its scene is being drawn, which takes the emulated
// terminal up to a second, and the picture is taken after it was looked who holds them.
const drawing = 2

// inOrder finds the four cards before a first call and then the ring in what was shown, each with closed devices, and nothing open in any picture before it was answered.
func (h *atHome) inOrder(shown []shot, ringing screen.Scene) {
	h.t.Helper()
	for i := range max(0, len(shown)-drawing) {
		h.held = shown[i].held
		h.closed(fmt.Sprintf("before it is answered, in picture %d of %d,", i+1, len(shown)))
	}
	for n := range 5 {
		name, scenes := "3-ringing", counting(ringing)
		if n < 4 {
			told := ringing
			told.Notice = 4 * time.Hour // so that it is this card's time for as long as it takes to draw it
			told.NoticeEnds = time.Now().Add(time.Duration(4-n)*time.Hour - 30*time.Minute)
			name, scenes = fmt.Sprintf("2-notice-%d", n+1), []screen.Scene{told}
		}
		seen := -1
		for i := range shown {
			if n == 4 { // the last ones first: the others still tell what this is
				i = len(shown) - 1 - i
			}
			if len(shown[i].held) == 0 && h.compare(name, shown[i].picture, scenes...) == nil {
				seen = i
				break
			}
		}
		if seen < 0 {
			h.t.Errorf("scene %s was not seen with closed devices after those before it, in %d pictures", name, len(shown))
			continue
		}
		h.guest.Keep("scene-"+name+".png", shown[seen].picture)
		shown = shown[seen+1:]
	}
}

// noise puts garbage on the panel's line, among what the panel says and as much as the line carries: nobody has pressed anything, and the panel is obeyed afterwards.
func (h *atHome) noise() {
	h.t.Helper()
	random := rand.NewChaCha8([32]byte{7})
	chunk := make([]byte, wire.Baud/10/50)
	for end := time.Now().Add(*noiseFor); time.Now().Before(end); <-time.After(20 * time.Millisecond) {
		if _, err := random.Read(chunk); err != nil {
			h.t.Fatal(err)
		}
		for i := range chunk {
			if chunk[i] < 16 { // frames begin and end with zeros
				chunk[i] = 0
			}
		}
		if _, err := h.panel.Cable.Line.Write(chunk); err != nil {
			h.t.Fatal(err)
		}
	}
	h.guest.Log("noise for %s", *noiseFor)
	h.sees("9-ready-after-noise", ready...)
	noCapture(h.t, h.guest, "after noise")
	log, err := h.guest.ReadFile(h.t.Context(), agentLog)
	if err != nil {
		h.t.Fatal(err)
	}
	if strings.Contains(string(log), "panic") || h.panel.Outputs() != (simulator.Outputs{}) {
		h.t.Errorf("after noise: %v\n%s", h.panel.Outputs(), log)
	}
	<-time.After(3 * time.Second) // another session, if this one was given up
}

// saysNo is a second call, to which somebody says no while it rings.
func (h *atHome) saysNo() {
	h.t.Helper()
	press(h.t, h.browser, "Ring")
	if err := h.browser.WaitFor(20*time.Second, status("Ringing")); err != nil {
		h.t.Fatal(err)
	}
	ringing := screen.Scene{Kind: screen.Ringing, Parties: []protocol.Party{h.caller}, Button: true, Panel: true, CallCode: h.code()}
	rings := h.look("10-ringing-again")
	h.panel.Push(Answer) // it takes itself, and nobody earlier
	h.panel.Push(No)
	h.closed("while it rings")
	early := ringing
	early.CallCode = "" // the screen has it a moment later
	if err := h.compare("10-ringing-again", rings, append(counting(ringing), counting(early)...)...); err != nil {
		h.t.Error(err)
	}
	h.sees("10-ended-no", screen.Scene{Kind: screen.Ended, Parties: ringing.Parties, SaidNo: true})
	noCapture(h.t, h.guest, "after a no while it rang")
	if h.panel.Outputs().Camera {
		h.t.Error("the camera has power after a no")
	}
	h.sees("10-ready", ready...)
}

// endsWithThePanel is a call of a terminal that is set to end calls without its panel.
func (h *atHome) endsWithThePanel() {
	h.t.Helper()
	press(h.t, h.browser, "Ring")
	if err := h.browser.WaitForFarEnd(40 * time.Second); err != nil {
		h.t.Fatal(err)
	}
	h.lit()
	h.dark("cable, where the call ends with it", darkLimit, func() { h.panel.Cable.Pull(true) })
	h.sees("11-ended-panel", screen.Scene{Kind: screen.Ended, Parties: []protocol.Party{h.caller}, Faults: []protocol.Code{protocol.PanelMissing}})
	noCapture(h.t, h.guest, "after the panel was lost")
	if err := h.browser.WaitFor(15*time.Second, status("panel")); err != nil {
		h.t.Error(err)
	}
	screenshot(h.t, h.guest, h.browser, "page-ended-panel.png")
	h.panel.Cable.Pull(false)
	h.sees("11-ready", ready...)
}

// rests is a terminal in quiet hours: it shows what the hour allows, and nothing that is pressed or asked for changes that.
func (h *atHome) rests() {
	h.t.Helper()
	h.sees("12-resting", resting...)
	h.panel.Push(No)
	h.panel.Push(Answer)
	press(h.t, h.browser, "Ring")
	if err := h.browser.WaitFor(20*time.Second, status("quiet")); err != nil {
		h.t.Error(err)
	}
	h.sees("12-resting-still", resting...)
	noCapture(h.t, h.guest, "in quiet hours")
	if o := h.panel.Outputs(); o.Camera || o.Lamp {
		h.t.Errorf("in quiet hours: %v", o)
	}
}

// restart begins the agent anew with another configuration.
func (h *atHome) restart(config, old, now string) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), time.Minute)
	defer cancel()
	h.stop(ctx)
	keepAgentLog(ctx, h.t, h.guest)
	if _, err := h.guest.Exec(ctx, control.Command{Args: []string{"rm", agentLog}}); err != nil { // so that it is seen when the next one is ready
		h.t.Fatal(err)
	}
	config = strings.Replace(config, "ring = "+old, "ring = "+now, 1)
	if err := h.guest.WriteFile(ctx, control.File{Path: "/etc/vindu/agent.toml", Mode: 0o600, Data: []byte(config)}); err != nil {
		h.t.Fatal(err)
	}
	var err error
	if h.pid, err = h.guest.Start(ctx, control.Command{Args: []string{"/usr/bin/vindu-agent", "run", "-config", "/etc/vindu/agent.toml"}, Log: agentLog}); err != nil {
		h.t.Fatal(err)
	}
	whoIsReady(h.t, h.guest)
	// The clinic hears of it a moment after the agent says that it is ready.
	if err := h.browser.WaitFor(40*time.Second, `document.querySelector("[data-home]").dataset.state !== "offline" && `+button("Ring")); err != nil {
		h.t.Fatal(err)
	}
	h.guest.Log("the agent runs anew")
}

// stop ends the agent that runs.
func (h *atHome) stop(ctx context.Context) {
	h.t.Helper()
	result, err := h.guest.Signal(ctx, control.Signal{PID: h.pid, Signal: int(syscall.SIGTERM), Wait: 15 * time.Second})
	if err != nil || result.Code != 0 {
		h.t.Fatalf("the agent ended with %s, %v", result.State, err)
	}
}

// heard finds in what the loudspeaker played every sentence of the call, each after the one before it, and silence where there has to be some. What is missing is not judged if the host had no
// time: a guest that is late tears its sentences apart.
func (h *atHome) heard(samples []int16, ringing, talking screen.Scene, judged bool) {
	h.t.Helper()
	t := h.t
	missed := t.Errorf
	if !judged {
		missed = func(format string, args ...any) { t.Logf("NOT JUDGED, the host was busy: "+format, args...) }
	}
	if err := os.WriteFile(filepath.Join(h.guest.Artefacts, "course.wav"), EncodeWAV(samples), 0o644); err != nil {
		t.Error(err)
	}
	lang, err := screen.LoadLanguage("en")
	if err != nil {
		t.Fatal(err)
	}
	ringing.AnswersAt, ringing.Notice, ringing.NoticeEnds = time.Now(), homeNotice, time.Now()
	drawn := talking
	drawn.Camera, drawn.Microphone, drawn.Curtain = false, false, screen.DrawnHere
	sentences := slices.Concat(lang.NoticeAloud(ringing), lang.Aloud(ringing), lang.Aloud(talking), []string{lang.DevicesAloud(talking), lang.DevicesAloud(drawn)},
		lang.Aloud(screen.Scene{Kind: screen.Ended, Parties: ringing.Parties}))
	s := &speech.Synthesiser{Socket: synthesiser(t), Speed: homeSpeed}
	recording := speechtest.NewRecording(samples, CallerTone)
	began := 0 // the first chime
	for began < len(samples) && recording.Loudness(began, began+SampleRate/20) < silent {
		began += SampleRate / 20
	}
	before, first := 0, 0
	for _, text := range sentences {
		phrase, err := s.Speak(t.Context(), "en", text)
		if err != nil {
			t.Fatal(err)
		}
		at := -1
		for part := range slices.Chunk(phrase, 2*SampleRate) { // so that a card that was late once, in a guest that is, makes no other sentence of it
			if len(part) < SampleRate/2 {
				break
			}
			from, likeness := recording.Find(part, before, before+pause)
			if likeness < 0.5 {
				from, likeness = recording.Find(part, before+pause, before+longestPause)
			}
			h.guest.Log("%6.2f s, likeness %.2f: of %s", float64(from)/SampleRate, likeness, text)
			if likeness < 0.5 {
				missed("after %.2f s there is no %q", float64(before)/SampleRate, text)
				break
			}
			if at < 0 {
				at = from
			}
			before = from + len(part)
		}
		if at < 0 {
			continue
		}
		t.Logf("%6.2f to %6.2f s: %s", float64(at)/SampleRate, float64(before)/SampleRate, text)
		if first == 0 {
			first = at
		}
	}
	if began == 0 || first-began < SampleRate/2 {
		missed("it rings from %.2f s on, and the first words are at %.2f s: it is to ring first, after silence", float64(began)/SampleRate, float64(first)/SampleRate)
	}
	if after := recording.Loudness(before+SampleRate/2, len(samples)); len(samples)-before < 2*SampleRate || after > silent {
		missed("after the last word %.1f s were recorded, with %.5f of full scale", float64(len(samples)-before)/SampleRate, after)
	}
	h.guest.Log("it rings from %.2f s on, and is silent from %.2f to %.2f s", float64(began)/SampleRate, float64(before)/SampleRate, float64(len(samples))/SampleRate)
}

// synthesiser has espeak-ng speak on this machine, as in the guest.
func synthesiser(t *testing.T) string {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "voice")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- speechtest.Serve(ctx, l) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return socket
}
