package acceptance_test

import (
	"context"
	"errors"
	"log/slog"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"vindu/device/acceptance"
	"vindu/device/call"
	"vindu/protocol"
)

// proof is a technician's.
type proof struct {
	ago     time.Duration
	pressed bool
}

// all is a whole check, with somebody who compares the code on the screen.
func all(names ...string) acceptance.Wanted { return acceptance.Wanted{Names: names, Seen: true} }

func (proof) Technician() protocol.Party {
	return protocol.Party{Name: "Bo Dahl", Role: "technician", Organisation: "Kommunen"}
}
func (proof) Mandate() protocol.Nonce                 { return protocol.Nonce{7} }
func (p proof) Pressed() (ago time.Duration, ok bool) { return p.ago, p.pressed }

// bench is a terminal on a bench, everything of which works. Tests break parts of it.
type bench struct {
	t *testing.T

	sight       acceptance.Sight
	lookErr     error
	leaves      bool          // the camera is not closed
	hangs       chan struct{} // Look hangs until it is closed
	watches     bool          // Look goes on until its context ends
	hearing     acceptance.Hearing
	listenErr   error
	screen      protocol.Code
	panel       protocol.Code
	path        acceptance.Path
	pathErr     error
	echoes      map[string]acceptance.Echoes
	echoErr     map[string]error
	allocateErr error
	servers     []protocol.ICEServer
	relayErr    error
	far         protocol.TestCall
	rings       int // questions until the test call has ended
	testErr     error
	near        *protocol.CallRecord // nil: the terminal had no call
	offset      time.Duration
	timeErr     error
	busy        bool
	appendErr   error
	opened      func()        // is called when a device is open; nil: nothing
	takes       time.Duration // that the network takes for each question
	rehearses   bool          // what opens, opens in a rehearsal
	dark        int           // after so many looks the screen cannot be seen; 0: never

	runner *acceptance.Runner
	mu     sync.Mutex
	log    []string // what happened to devices and ledger
	store  []byte
	shown  []acceptance.Status
	asked  []string
}

func newBench(t *testing.T) *bench {
	b := &bench{
		t:       t,
		sight:   acceptance.Sight{Brightness: 0.4, Sharpness: 120, Motion: 1.2},
		hearing: acceptance.Hearing{Microphone: true, Speaker: true, RMS: -50, Peak: -38, Heard: true, Delay: 64 * time.Millisecond},
		path:    acceptance.Path{Interface: "wlan0", Address: "192.0.2.7", Wireless: true, Signal: -54},
		echoes: map[string]acceptance.Echoes{
			"turn":  {Sent: 50, RTT: 20 * time.Millisecond},
			"turns": {Sent: 10, RTT: 25 * time.Millisecond},
		},
		echoErr: map[string]error{},
		servers: []protocol.ICEServer{{URLs: []string{"turn:192.0.2.1:3478?transport=udp", "turns:clinic.example:443?transport=tcp"}, Username: "u", Credential: "p"}},
		far:     protocol.TestCall{Ended: true, Outcome: protocol.EndCallerHungUp, Pictures: 60, Keys: 2, Sounds: 200},
		near: &protocol.CallRecord{
			Camera: "v4l2", Sound: "alsa", MicOpen: 1, Quality: protocol.Quality{FramesDecoded: 55}, Stages: []protocol.StageTime{{Stage: "heard"}},
		},
		rings: 3,
	}
	var err error
	b.runner, err = acceptance.New(acceptance.Config{
		Devices: b, Network: b, Clinic: b, Outbox: b, Store: store{b}, Busy: func() bool { return b.busy }, Now: time.Now,
		Screen: func() bool {
			if b.dark == 0 {
				return true
			}
			b.dark = max(b.dark-1, 1)
			return b.dark > 1
		},
		Shown: func(s acceptance.Status) { b.shown = append(b.shown, s) }, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *bench) note(what string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.log = append(b.log, what)
}

func (b *bench) Append(kind string, body []byte) error {
	if b.appendErr != nil {
		return b.appendErr
	}
	var o protocol.Opening
	if err := protocol.Decode(body, &o); err != nil || kind != protocol.EventOpening {
		b.t.Errorf("%s: %v", kind, err)
	}
	want := protocol.Opening{Version: o.Version, Device: o.Device, Open: o.Open, At: o.At, Reason: protocol.OpeningCheck, Mandate: []byte{0: 7, 15: 0}}
	if b.rehearses {
		want.Reason, want.Mandate = protocol.OpeningRehearsal, nil
	}
	if !reflect.DeepEqual(o, want) {
		b.t.Errorf("opening %+v", o)
	}
	b.note("ledger: " + o.Device + map[bool]string{true: " opens", false: " closed"}[o.Open])
	return nil
}

type store struct{ b *bench }

func (s store) Load() ([]byte, error) { return s.b.store, nil }
func (s store) Save(d []byte) error   { s.b.store = append([]byte{}, d...); return nil }

func (b *bench) use(ctx context.Context, l call.Ledger, d call.Device) error {
	if err := l.Opening(d); err != nil {
		return err
	}
	b.note(string(d) + " open")
	if b.opened != nil {
		b.opened()
	}
	if b.hangs != nil {
		<-b.hangs
	}
	if b.watches {
		<-ctx.Done()
	}
	if b.leaves {
		return nil
	}
	b.note(string(d) + " closed")
	l.Closed(d)
	return ctx.Err()
}

func (b *bench) Look(ctx context.Context, l call.Ledger) (acceptance.Sight, error) {
	return b.sight, errors.Join(b.lookErr, b.use(ctx, l, call.Camera))
}

func (b *bench) Listen(ctx context.Context, l call.Ledger) (acceptance.Hearing, error) {
	return b.hearing, errors.Join(b.listenErr, b.use(ctx, l, call.Microphone))
}

func (b *bench) Screen() (string, protocol.Code) { return "1280x800", b.screen }
func (b *bench) Panel() (string, protocol.Code)  { return "", b.panel }

// wait is what the network takes.
func (b *bench) wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(b.takes):
		return nil
	}
}

func (b *bench) Path(ctx context.Context) (acceptance.Path, error) {
	return b.path, errors.Join(b.pathErr, b.wait(ctx))
}

func (b *bench) Echo(ctx context.Context, url string) (acceptance.Echoes, error) {
	if err := b.wait(ctx); err != nil {
		return acceptance.Echoes{}, err
	}
	scheme, _, _ := strings.Cut(url, ":")
	b.asked = append(b.asked, scheme)
	return b.echoes[scheme], b.echoErr[scheme]
}

func (b *bench) Allocate(_ context.Context, url, user string, password protocol.Secret) error {
	if user != "u" || password != "p" {
		b.t.Errorf("credentials %s %s", user, string(password))
	}
	scheme, _, _ := strings.Cut(url, ":")
	b.note("allocated by " + scheme)
	return b.allocateErr
}

func (b *bench) Relay(context.Context) ([]protocol.ICEServer, error) {
	b.asked = append(b.asked, "relay")
	return b.servers, b.relayErr
}

func (b *bench) Time(context.Context) (time.Time, time.Duration, error) {
	return time.Now().Add(-b.offset), 0, b.timeErr
}

func (b *bench) TestCall(_ context.Context, id protocol.CallID, path string) (*protocol.TestCall, error) {
	if path != "" {
		b.t.Errorf("a check that asks for the path %q", path)
	}
	if b.testErr != nil {
		return nil, b.testErr
	}
	if b.rings--; b.rings > 0 {
		return &protocol.TestCall{Call: id}, nil
	}
	if b.near != nil {
		near := *b.near
		near.Call = id
		b.runner.Ended(&near)
	}
	far := b.far
	return &far, nil
}

// check runs the checks in a bubble of time.
func (b *bench) check(names ...string) (checks []protocol.Check, err error) {
	checks, err = b.runner.Check(b.t.Context(), proof{0, true}, all(names...), nil)
	for _, c := range checks {
		if (c.State == protocol.CheckPassed) != (c.Code == "") || len(c.Figure) > 40 {
			b.t.Errorf("%+v is no check", c)
		}
	}
	return checks, err
}

// findings writes checks as name=state:code, the passed ones not at all.
func findings(checks []protocol.Check) string {
	var text []string
	for _, c := range checks {
		if c.State != protocol.CheckPassed {
			text = append(text, c.Name+" "+c.State+" "+string(c.Code))
		}
	}
	return strings.Join(text, "; ")
}
