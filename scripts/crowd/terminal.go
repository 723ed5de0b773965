package main

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"image"
	"log/slog"
	"math/rand/v2"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"vindu/device/agent"
	"vindu/device/call"
	"vindu/device/clock"
	"vindu/device/health"
	"vindu/device/identity"
	"vindu/device/screen"
	"vindu/device/state"
	"vindu/protocol"
	"vindu/provisioning"
)

// software is what these terminals say that they run.
const software = "crowd"

// terminal is a simulated one: a terminal's whole agent, without devices, at a line of its own.
type terminal struct {
	number int
	folder string
	line   *line
	report time.Duration // agent.Parts.ReportAfter
	log    *slog.Logger

	// flips is how likely a condition of the devices begins or ends at each look at them, in thousandths; 0: none holds.
	flips  atomic.Int32
	online atomic.Bool

	mu     sync.Mutex
	chance *rand.Rand
	holds  map[protocol.Code]bool
	stop   context.CancelFunc // of the agent that runs; nil: none does
	ended  chan struct{}
}

// conditions are those that devices are said to have: ones that are told at once.
var conditions = []protocol.Code{
	protocol.CaptureCameraBusy, protocol.CaptureCameraGone, protocol.CaptureSoundBusy, protocol.CaptureSoundGone, protocol.CaptureTestPicture, protocol.ScreenNone,
}

func folder(dir string, number int) string {
	return filepath.Join(dir, "terminals", fmt.Sprint(number))
}

// look implements agent.Parts.Devices.
func (t *terminal) look() health.Devices {
	real := protocol.DeviceState{Kind: "synthetic", Name: "simulated"}
	d := health.Devices{Camera: real, Microphone: real, Speaker: real, Screen: real}
	flips := t.flips.Load()
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, c := range conditions {
		if flips == 0 {
			delete(t.holds, c)
		} else if t.chance.Int32N(1000) < flips {
			t.holds[c] = !t.holds[c]
		}
		if t.holds[c] {
			d.Conditions = append(d.Conditions, c)
		}
	}
	return d
}

// start starts the terminal's agent.
func (t *terminal) start(ctx context.Context) error {
	cfg := agent.Default()
	cfg.State, cfg.Language, cfg.Identity.TPM, cfg.Network.WiFi = t.folder, "en", "none", "none"
	a, err := agent.New(cfg, agent.Parts{
		Software: software, Display: blank{}, HasScreen: func() bool { return true }, Devices: t.look,
		Media: func(*identity.Identity) call.Media { return nobody{} },
		Clinic: func(signer crypto.Signer, now func() time.Time) identity.Clinic {
			return clinic{&provisioning.Client{Signer: signer, Now: now}}
		},
		ReportAfter: t.report,
		Shown:       func(s screen.Scene) { t.online.Store(s.Kind == screen.Ready && !s.Offline) },
	}, t.log)
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	ended := make(chan struct{})
	t.mu.Lock()
	t.stop, t.ended = stop, ended
	t.mu.Unlock()
	go func() {
		defer close(ended)
		if err := a.Run(ctx); err != nil {
			t.log.Error("the terminal ended", "error", err)
		}
		t.online.Store(false)
	}()
	return nil
}

// end stops the agent, which says goodbye if it can, and waits for it.
func (t *terminal) end() {
	t.mu.Lock()
	stop, ended := t.stop, t.ended
	t.stop = nil
	t.mu.Unlock()
	if stop != nil {
		stop()
		<-ended
	}
}

// blank is a screen that nobody looks at.
type blank struct{}

func (blank) Size() (w, h int) { return 320, 240 }
func (blank) SetScene(*image.RGBA, image.Rectangle, image.Rectangle, ...image.Rectangle) error {
	return nil
}

// nobody is who is called here.
type nobody struct{}

func (nobody) Prepare(context.Context, call.Offer) (call.Session, error) {
	return nil, errors.New("nobody calls simulated terminals")
}

// clinic is the terminals' way to enrolment, settings and reports, as in the terminal's program.
type clinic struct{ *provisioning.Client }

func (c clinic) Renew(ctx context.Context, g *identity.Grant) ([]*x509.Certificate, error) {
	return c.Client.Renew(ctx, (*provisioning.Grant)(g))
}

func (c clinic) Replace(ctx context.Context, g *identity.Grant, next crypto.Signer) ([]*x509.Certificate, error) {
	return c.Client.Replace(ctx, (*provisioning.Grant)(g), next)
}

func (c clinic) Time(ctx context.Context, g *identity.Grant) (time.Time, time.Duration, error) {
	return c.Client.Time(ctx, (*provisioning.Grant)(g))
}

func (c clinic) Settings(ctx context.Context, g *identity.Grant) (*protocol.Settings, time.Duration, error) {
	return c.Client.Settings(ctx, (*provisioning.Grant)(g))
}

func (c clinic) Report(ctx context.Context, g *identity.Grant, r *protocol.Report) ([][]byte, error) {
	return c.Client.Report(ctx, (*provisioning.Grant)(g), r)
}

// enrol sets a terminal up by a voucher, and has it take address for the clinic's. It returns its key.
func enrol(ctx context.Context, folder, address string, v *protocol.Voucher, log *slog.Logger) (key protocol.KeyHash, err error) {
	dir, err := state.Open(folder)
	if err != nil {
		return key, err
	}
	defer func() { err = errors.Join(err, dir.Close()) }()
	now := clock.New(dir, clock.Built(), log)
	keys, err := identity.FileKeys{Log: log}.Open(dir)
	if err != nil {
		return key, err
	}
	id, err := identity.Open(dir, keys, now.Now)
	if err != nil {
		return key, err
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return key, err
	}
	own := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(host)}} // the clinic lets no address enrol two hundred
	grant, err := (&provisioning.Client{Signer: id.Signer(), Now: now.Now, Dial: own.DialContext}).Enrol(ctx, v)
	if err != nil {
		return key, err
	}
	grant.Address = address
	return id.Key(), agent.Keep(dir, id, (*identity.Grant)(grant))
}
