// Package days lets a terminal live through three days in less than a minute, to see that nothing is left of them.
//
// What runs is what ships: an agent of package device/agent with link, outbox, health and its probes, calls, policy, settings and courier, but for devices and the
// media of calls. Its clinic is in the bubble, too: a broker over TLS in memory, which signs what it acknowledges. Time is that of a synctest bubble, which stands
// still while anybody works, and does not end as long as a goroutine runs.
package days

import (
	"context"
	"crypto"
	"errors"
	"flag"
	"image"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"vindu/device/agent"
	"vindu/device/call"
	"vindu/device/call/calltest"
	"vindu/device/clock"
	"vindu/device/health"
	"vindu/device/identity"
	"vindu/device/identity/identitytest"
	"vindu/device/outbox"
	"vindu/device/progress"
	"vindu/device/screen"
	"vindu/device/state"
	"vindu/protocol"
)

const clinicAddress = "192.0.2.7:443"

var lasts = flag.Duration("lasts", 72*time.Hour, "how long the terminal lives")

var quiet = slog.New(slog.DiscardHandler)

// pass lets time go by.
func pass(d time.Duration) {
	time.Sleep(d) // allowed: of the bubble
	synctest.Wait()
}

// blank is a screen that nobody looks at.
type blank struct{}

func (blank) Size() (w, h int) { return 320, 240 }
func (blank) SetScene(*image.RGBA, image.Rectangle, image.Rectangle, ...image.Rectangle) error {
	return nil
}

// life is a terminal with its clinic.
type life struct {
	t      *testing.T
	chance *rand.Rand
	clinic *clinic
	media  *calltest.Media
	agent  *agent.Agent
	board  *progress.Board

	mu    sync.Mutex
	scene screen.Scene
	fault bool // a device is said to have one

	answered, refused, drawn, lost int
}

func (l *life) shown() screen.Scene {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.scene
}

// TestThreeDays: calls every twenty minutes or so, which somebody or something ends; curtains, quiet hours, losses of the link for seconds and for hours, a broker that is
// away while HTTPS is not, settings that change, devices that fail and recover.
func TestThreeDays(t *testing.T) {
	base, err := os.MkdirTemp("/dev/shm", "vindu-days-")
	if errors.Is(err, fs.ErrNotExist) {
		base = t.TempDir()
	} else if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(base); err != nil {
			t.Error(err)
		}
	})
	before := runtime.NumGoroutine()
	synctest.Test(t, func(t *testing.T) { threeDays(t, filepath.Join(base, "state")) })
	if after := runtime.NumGoroutine(); after > before {
		t.Errorf("%d goroutines before, %d after", before, after)
	}
}

func threeDays(t *testing.T, folder string) {
	for time.Now().Before(clock.Built()) {
		time.Sleep(365 * 24 * time.Hour) // allowed: of the bubble. Terminals believe no time before that
	}
	l := &life{t: t, chance: rand.New(rand.NewPCG(1, 2)), media: &calltest.Media{}}
	l.begin(folder)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- l.agent.Run(ctx) }()
	pass(time.Minute)

	from := time.Now()
	var goroutines []int
	var heaps []uint64
	disturb := time.Duration(0)
	for serial := uint64(2); time.Since(from) < *lasts; {
		l.settle()
		goroutines = append(goroutines, runtime.NumGoroutine())
		if len(goroutines)%40 == 0 { // some twelve hours
			runtime.GC()
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			heaps = append(heaps, m.HeapAlloc)
		}
		l.call()
		if since := time.Since(from); since > disturb {
			disturb = since + 3*time.Hour
			serial++
			l.clinic.rule(serial)
			l.disturb(serial)
		}
		pass(10*time.Minute + time.Duration(l.chance.Int64N(int64(8*time.Minute))))
	}
	l.settle()
	l.judge(goroutines, heaps)
	stop()
	if err := <-done; err != nil {
		t.Errorf("the terminal ended with %v", err)
	}
	l.clinic.drop()
	l.clinic.running.Wait()
	// Whatever goes on now was forgotten.
	dials, fetches := l.clinic.dials.Load(), l.clinic.fetches.Load()
	pass(24 * time.Hour)
	if l.clinic.dials.Load() != dials || l.clinic.fetches.Load() != fetches {
		t.Error("a terminal that has ended goes on asking its clinic")
	}
	dir, err := state.Open(folder)
	if err != nil {
		t.Fatal(err)
	}
	box, err := outbox.Open(dir, outbox.DefaultLimit, time.Now, quiet)
	if err != nil {
		t.Fatal(err)
	}
	if s := box.Status(); s.Pending != 0 || s.Dropped != 0 || len(s.Rebuilt) != 0 {
		t.Errorf("outbox: %+v", s)
	}
	if err := errors.Join(box.Close(), dir.Close()); err != nil {
		t.Error(err)
	}
}

// begin sets the terminal up.
func (l *life) begin(folder string) {
	t := l.t
	own := identitytest.New(t, time.Now)
	dir, err := state.Open(folder)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := identity.FileKeystore(dir)
	if err != nil {
		t.Fatal(err)
	}
	id, err := identity.Open(dir, keys, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	own.Trust = own.SignTrust(1, own, func(s *protocol.Trust) { s.RelyingParty = calltest.RelyingParty })
	caller := calltest.NewClinic(t)
	caller.Authority, caller.Service, caller.Self = own.Authority, own.Service, id.Key()
	l.clinic = &clinic{
		t: t, own: own, caller: caller, self: id.Key(), config: own.Server(protocol.ALPNMQTT, "http/1.1"), settings: own.Settings(), calls: make(chan *protocol.CallOut, 64),
		beyond: map[uint64]bool{}, events: map[string]int{}, open: map[string]bool{},
	}
	l.clinic.rule(1)
	if err := id.Keep(own.Grant(clinicAddress, id.Signer().Public())); err != nil {
		t.Fatal(err)
	}
	if err := dir.Close(); err != nil {
		t.Fatal(err)
	}
	l.board = new(progress.Board)
	cfg := agent.Default()
	cfg.State, cfg.Language, cfg.Identity.TPM, cfg.Network.WiFi, cfg.Call.Notice = folder, "en", "none", "none", 0
	l.agent, err = agent.New(cfg, agent.Parts{
		Software: "days", Display: blank{}, HasScreen: func() bool { return true }, Devices: l.devices, Dial: l.clinic.dial, Progress: l.board,
		Media:  func(*identity.Identity) call.Media { return l.media },
		Clinic: func(crypto.Signer, func() time.Time) identity.Clinic { return l.clinic },
		Shown: func(s screen.Scene) {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.scene = s
		},
	}, quiet)
	if err != nil {
		t.Fatal(err)
	}
}

func (l *life) devices() health.Devices {
	some := protocol.DeviceState{Kind: "synthetic", Name: "simulated"}
	d := health.Devices{Camera: some, Microphone: some, Speaker: some, Screen: some}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fault {
		d.Conditions = []protocol.Code{protocol.CaptureNoSpeaker}
	}
	return d
}

// settle waits until nothing is the matter any more.
func (l *life) settle() {
	l.t.Helper()
	for range 60 {
		if s := l.shown(); s.Kind == screen.Ready && !s.Offline {
			return
		}
		pass(time.Minute)
	}
	l.t.Fatalf("an hour after all was well again the terminal shows %+v", l.shown())
}

// disturb is what happens between calls, one thing after the other.
func (l *life) disturb(turn uint64) {
	switch turn % 4 {
	case 0:
		l.clinic.down.Store(true)
		l.clinic.drop()
		pass(time.Minute + time.Duration(l.chance.Int64N(int64(2*time.Hour))))
		l.clinic.down.Store(false)
	case 1:
		l.clinic.broken.Store(true)
		l.clinic.drop()
		pass(20 * time.Minute)
		l.clinic.broken.Store(false)
	case 2:
		for range 5 {
			l.clinic.drop()
			pass(time.Duration(l.chance.Int64N(int64(2 * time.Minute))))
		}
	case 3:
		for _, fault := range []bool{true, false} {
			l.mu.Lock()
			l.fault = fault
			l.mu.Unlock()
			pass(5 * time.Minute)
		}
	}
}

// call is one, from the invitation to its end.
func (l *life) call() {
	invite, _ := l.clinic.caller.Invite(l.t, time.Now())
	sessions := len(l.media.Sessions())
	if !l.clinic.say(protocol.InCall, l.clinic.encoded(protocol.Encode(invite))) {
		l.t.Error("there is no connection to call by")
		return
	}
	pass(2 * time.Second)
	all := l.media.Sessions()
	if len(all) == sessions {
		l.refused++
		if hour := time.Now().In(oslo()).Hour(); hour >= 7 && hour < 22 {
			l.t.Errorf("refused at %d o'clock", hour)
		}
		return
	}
	s := all[len(all)-1]
	s.Say(call.MediaEvent{Kind: call.MediaConnected})
	s.Say(call.MediaEvent{Kind: call.MediaSeen})
	end := l.chance.IntN(6)
	if end == 0 {
		l.agent.HangUp() // somebody says no
		pass(20 * time.Second)
		return
	}
	pass(30 * time.Second)
	if !s.IsOpen(call.Camera) || !s.IsOpen(call.Microphone) || l.shown().Kind != screen.InCall {
		l.t.Errorf("30 s after the invitation the terminal shows %+v", l.shown())
	}
	l.answered++
	if l.chance.IntN(3) == 0 {
		l.agent.Curtain()
		pass(20 * time.Second)
		if s.IsOpen(call.Camera) || s.IsOpen(call.Microphone) {
			l.t.Error("a device is open behind the curtain")
		}
		l.agent.Curtain()
		pass(20 * time.Second)
		l.drawn++
	}
	pass(time.Duration(l.chance.Int64N(int64(8 * time.Minute))))
	switch end {
	case 1:
		l.agent.HangUp()
	case 2:
		s.Say(call.MediaEvent{Kind: call.MediaFailed, Code: protocol.ICELost})
	case 3: // its end comes while the link is lost, and nothing of it may be
		l.clinic.drop()
		s.Say(call.MediaEvent{Kind: call.MediaFailed, Code: protocol.ICELost})
		l.lost++
	default:
		if !l.clinic.say(protocol.InCall, l.clinic.encoded(protocol.Encode(l.clinic.caller.HangUp(l.t, invite, protocol.EndCallerHungUp)))) {
			l.t.Error("there is no connection to hang up by")
		}
	}
	pass(30 * time.Second)
	if s.IsOpen(call.Camera) || s.IsOpen(call.Microphone) {
		l.t.Error("a device is open after the call")
	}
}

var zone = sync.OnceValues(func() (*time.Location, error) { return time.LoadLocation("Europe/Oslo") })

func oslo() *time.Location {
	z, err := zone()
	if err != nil {
		return time.UTC
	}
	return z
}

// judge looks at what three days have left.
func (l *life) judge(goroutines []int, heaps []uint64) {
	t := l.t
	pass(time.Minute) // the last events
	c := l.clinic
	c.mu.Lock()
	defer c.mu.Unlock()
	t.Logf("%d calls answered, %d in quiet hours, %d curtains, %d ended while the link was lost; %d events (%v), %d came twice, %d openings and closings; %d connections, %d settings, %d reports by HTTPS",
		l.answered, l.refused, l.drawn, l.lost, c.have, c.events, c.repeated, c.openings, c.dials.Load(), c.fetches.Load(), c.reports.Load())
	if len(c.beyond) != 0 {
		t.Errorf("%d events beyond a gap", len(c.beyond))
	}
	for device, open := range c.open {
		if open {
			t.Errorf("by the ledger the %s is open", device)
		}
	}
	if c.openings < 4*l.answered || c.events[protocol.EventCall] < l.answered || l.answered == 0 || l.refused == 0 || l.drawn == 0 || l.lost == 0 || c.reports.Load() == 0 || c.repeated == 0 {
		t.Error("too little happened")
	}
	if c.health == nil || len(c.health.Conditions) != 0 || c.health.Dropped != 0 || c.health.Malformed != 0 {
		t.Errorf("in the end its health is %+v", c.health)
	}
	half := len(goroutines) / 2
	first, second := most(goroutines[:half]), most(goroutines[half:])
	t.Logf("goroutines while nothing happens: at most %d in the first half, %d in the second; heap after collections: %v KiB", first, second, kib(heaps))
	if second > first {
		t.Errorf("goroutines grow: at most %d in the first half, %d in the second", first, second)
	}
	if n := len(heaps); n >= 3 && heaps[n-1] > heaps[1]+512<<10 {
		t.Errorf("the heap grows: %v KiB", kib(heaps))
	}
}

func most(of []int) (n int) {
	for _, v := range of {
		n = max(n, v)
	}
	return n
}

func kib(of []uint64) []uint64 {
	all := make([]uint64, len(of))
	for i, v := range of {
		all[i] = v >> 10
	}
	return all
}
