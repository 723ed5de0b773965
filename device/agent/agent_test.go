package agent

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"image"
	"log/slog"
	"math/big"
	"net"
	"net/url"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"vindu/device/call"
	"vindu/device/call/calltest"
	"vindu/device/health"
	"vindu/device/identity"
	"vindu/device/screen"
	"vindu/device/state"
	"vindu/protocol"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestScene(t *testing.T) {
	anne := []protocol.Party{{Name: "Anne Berg", Role: "nurse", Organisation: "Home care"}}
	at := time.Now()
	down := []protocol.Code{protocol.LinkUnreachable}
	for _, test := range []struct {
		name string
		s    situation
		want screen.Scene
	}{
		{"at the start", situation{}, screen.Scene{}},
		{"not set up", situation{started: true, code: "ABCD", conditions: []protocol.Code{protocol.IdentityNone}}, screen.Scene{Kind: screen.NotSetUp, Code: "ABCD", Faults: []protocol.Code{protocol.IdentityNone}}},
		{
			"a press is wanted", situation{started: true, enrolled: true, pressing: &anne[0]}, screen.Scene{Kind: screen.Pressing, Parties: anne},
		},
		{"a press is wanted in a call", situation{pressing: &anne[0], call: call.Status{Scene: call.SceneRinging}}, screen.Scene{Kind: screen.Ringing}},
		{"ready", situation{started: true, enrolled: true, online: true}, screen.Scene{Kind: screen.Ready}},
		{"offline", situation{started: true, enrolled: true, conditions: down}, screen.Scene{Kind: screen.Ready, Offline: true, Faults: down}},
		{
			"an urgent call asks", situation{button: true, call: call.Status{Scene: call.SceneRinging, Parties: anne, Ask: true, TakeBy: at, Urgent: true, Code: "482 193"}},
			screen.Scene{Kind: screen.Ringing, Parties: anne, Ask: true, Urgent: true, CallCode: "482 193", Button: true},
		},
		{
			"a panel that rings", situation{panel: true, call: call.Status{Scene: call.SceneRinging, Parties: anne}},
			screen.Scene{Kind: screen.Ringing, Parties: anne, Button: true, Panel: true},
		},
		{
			"a press at a panel is wanted", situation{started: true, enrolled: true, panel: true, pressing: &anne[0]}, screen.Scene{Kind: screen.Pressing, Parties: anne, Panel: true},
		},
		{"lost, with a panel", situation{keyAway: true, lost: true, panel: true}, screen.Scene{Kind: screen.Lost, Panel: true}},
		{"returned, with a panel", situation{returning: true, panel: true}, screen.Scene{Kind: screen.Returned, Panel: true}},
		{
			"in a call with a code", situation{call: call.Status{Scene: call.SceneInCall, Parties: anne, Code: "482 193"}},
			screen.Scene{Kind: screen.InCall, Parties: anne, CallCode: "482 193", Camera: true, Microphone: true},
		},
		{
			"ringing", situation{started: true, enrolled: true, conditions: down, call: call.Status{Scene: call.SceneRinging, Parties: anne, Errand: "why", AnswersAt: at}},
			screen.Scene{Kind: screen.Ringing, Parties: anne, Errand: "why", AnswersAt: at},
		},
		{
			"in a call", situation{started: true, enrolled: true, conditions: down, call: call.Status{Scene: call.SceneInCall, Parties: anne}},
			screen.Scene{Kind: screen.InCall, Parties: anne, Camera: true, Microphone: true},
		},
		{
			"in a call with a test picture", situation{call: call.Status{Scene: call.SceneInCall, Conditions: []protocol.Code{protocol.CaptureTestPicture}}},
			screen.Scene{Kind: screen.InCall, Camera: true, Microphone: true, Faults: []protocol.Code{protocol.CaptureTestPicture}},
		},
		{
			"shutter closed", situation{call: call.Status{Scene: call.SceneInCall, Conditions: []protocol.Code{protocol.AnswerShutter}}},
			screen.Scene{Kind: screen.InCall, Microphone: true, Faults: []protocol.Code{protocol.AnswerShutter}},
		},
		{
			"panel lost", situation{call: call.Status{Scene: call.SceneInCall, Conditions: []protocol.Code{protocol.PanelMissing}}},
			screen.Scene{Kind: screen.InCall, Microphone: true, Faults: []protocol.Code{protocol.PanelMissing}},
		},
		{
			"camera pulled out", situation{call: call.Status{Scene: call.SceneInCall, Conditions: []protocol.Code{protocol.CaptureCameraGone}}},
			screen.Scene{Kind: screen.InCall, Microphone: true, Faults: []protocol.Code{protocol.CaptureCameraGone}},
		},
		{
			"no microphone", situation{call: call.Status{Scene: call.SceneInCall, Conditions: []protocol.Code{protocol.CaptureNoMicrophone}}},
			screen.Scene{Kind: screen.InCall, Camera: true, Faults: []protocol.Code{protocol.CaptureNoMicrophone}},
		},
		{"hung up", situation{call: call.Status{Scene: call.SceneEnded, Parties: anne, Reason: protocol.EndCallerHungUp}}, screen.Scene{Kind: screen.Ended, Parties: anne, HungUp: true}},
		{"hung up at the terminal", situation{call: call.Status{Scene: call.SceneEnded, Parties: anne, Reason: protocol.EndPatientHungUp}}, screen.Scene{Kind: screen.Ended, Parties: anne}},
		{"said no", situation{call: call.Status{Scene: call.SceneEnded, Reason: protocol.AnswerDeclined}}, screen.Scene{Kind: screen.Ended, SaidNo: true}},
		{
			"line lost", situation{call: call.Status{Scene: call.SceneEnded, Reason: protocol.ICELost}},
			screen.Scene{Kind: screen.Ended, Faults: []protocol.Code{protocol.ICELost}},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := test.s.scene(); !reflect.DeepEqual(got, test.want) {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
		})
	}
}

// TestPanelIsLookedAt: a panel whose cable is pulled in a call is not named on the screen any more; another button that there was stays.
func TestPanelIsLookedAt(t *testing.T) {
	for _, own := range []bool{false, true} {
		f := newFixture(t)
		here, shown := true, screen.Scene{}
		f.parts.Button, f.parts.Panel, f.parts.Shown = func() bool { return own }, func() bool { return here }, func(s screen.Scene) { shown = s }
		a, err := New(f.cfg, f.parts, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		a.change(func(s *situation) { s.call = call.Status{Scene: call.SceneInCall} })
		if !shown.Button || !shown.Panel {
			t.Errorf("with a panel: %+v", shown)
		}
		here = false
		a.Look()
		if shown.Button != own || shown.Panel {
			t.Errorf("without it: %+v", shown)
		}
	}
}

// TestAnswerOnlyTakes: the answer button takes a call that asks for it, and is nothing else: no call for help, and none that starts sooner.
func TestAnswerOnlyTakes(t *testing.T) {
	one := protocol.NewCallID()
	for _, test := range []struct {
		name string
		call call.Status
		want int
	}{
		{"at rest", call.Status{Scene: call.SceneReady}, 0},
		{"a call that asks", call.Status{Scene: call.SceneRinging, Call: one, Ask: true}, 1},
		{"a call that starts by itself", call.Status{Scene: call.SceneRinging, Call: one}, 0},
		{"in a call that asked", call.Status{Scene: call.SceneInCall, Call: one, Ask: true}, 0},
		{"after it", call.Status{Scene: call.SceneEnded, Call: one, Ask: true}, 0},
	} {
		var took []protocol.CallID
		a := &Agent{take: func(c protocol.CallID) { took = append(took, c) }}
		a.situation.call = test.call
		if a.Take(); len(took) != test.want || len(took) > 0 && took[0] != one {
			t.Errorf("%s: took %v", test.name, took)
		}
	}
}

// fixture is an agent with a screen in memory and a clinic that is not there.
type fixture struct {
	*Agent
	t      *testing.T
	cfg    Config
	media  *calltest.Media
	scenes chan screen.Scene
	log    *lockedBuffer
	parts  Parts

	stop context.CancelFunc
	done chan error

	root   *x509.Certificate // of the clinic by enrol
	leaves func(crypto.PublicKey, protocol.KeyHash) *x509.Certificate
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

type memoryDisplay struct{}

func (memoryDisplay) Size() (w, h int) { return 800, 480 }
func (memoryDisplay) SetScene(*image.RGBA, image.Rectangle, image.Rectangle, ...image.Rectangle) error {
	return nil
}

// nobody is a clinic that does not answer.
type nobody struct{}

func (nobody) Renew(context.Context, *identity.Grant) ([]*x509.Certificate, error) {
	return nil, errors.New("nobody is there")
}

func (nobody) Replace(context.Context, *identity.Grant, crypto.Signer) ([]*x509.Certificate, error) {
	return nil, errors.New("nobody is there")
}

func (nobody) Time(context.Context, *identity.Grant) (time.Time, time.Duration, error) {
	return time.Time{}, 0, protocol.WithCode(protocol.LinkUnreachable, errors.New("nobody is there"))
}

func (nobody) Settings(context.Context, *identity.Grant) (*protocol.Settings, time.Duration, error) {
	return nil, 0, errors.New("nobody is there")
}

func newFixture(t *testing.T) *fixture {
	f := &fixture{t: t, cfg: Default(), media: &calltest.Media{}, scenes: make(chan screen.Scene, 100), log: &lockedBuffer{}}
	f.cfg.State = t.TempDir() + "/state"
	f.parts = Parts{
		Software: "test", Display: memoryDisplay{}, HasScreen: func() bool { return true }, Devices: func() health.Devices { return health.Devices{} },
		Media:  func(*identity.Identity) call.Media { return f.media },
		Clinic: func(crypto.Signer, func() time.Time) identity.Clinic { return nobody{} },
		Shown:  func(s screen.Scene) { f.scenes <- s },
	}
	return f
}

func (f *fixture) start() {
	f.t.Helper()
	var err error
	if f.Agent, err = New(f.cfg, f.parts, slog.New(slog.NewTextHandler(f.log, nil))); err != nil {
		f.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(f.t.Context())
	f.stop, f.done = stop, make(chan error, 1)
	go func() { f.done <- f.Run(ctx) }()
	f.t.Cleanup(stop)
}

// see waits until a scene is shown that is as wanted.
func (f *fixture) see(what string, wanted func(screen.Scene) bool) screen.Scene {
	f.t.Helper()
	for {
		select {
		case s := <-f.scenes:
			if wanted(s) {
				return s
			}
		case err := <-f.done:
			f.t.Fatalf("the agent ended before it showed %s: %v\n%s", what, err, f.log)
		case <-time.After(time.Minute):
			f.t.Fatalf("%s was not shown in a minute\n%s", what, f.log)
		}
	}
}

func (f *fixture) end() error {
	f.stop()
	return <-f.done
}

// enrol puts an enrolment into the state folder, as vindu-agent enrol does. The clinic's address is one where nobody listens.
func (f *fixture) enrol() {
	f.t.Helper()
	dir, err := state.Open(f.cfg.State)
	if err != nil {
		f.t.Fatal(err)
	}
	defer dir.Close()
	keys, err := identity.FileKeystore(dir)
	if err != nil {
		f.t.Fatal(err)
	}
	id, err := identity.Open(dir, keys, time.Now)
	if err != nil {
		f.t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		f.t.Fatal(err)
	}
	defer l.Close()
	f.root, f.leaves = authority(f.t)
	grant := identity.Grant{
		Address: l.Addr().String(), ServerName: "terminals.test", Chain: []*x509.Certificate{f.leaves(id.Signer().Public(), id.Key())}, Root: f.root,
		Settings: &protocol.Settings{
			Version: protocol.Version, Organisation: "Home care", Home: "Home 1", At: protocol.At(time.Now()),
			Authorities: calltest.NewClinic(f.t).Authorities(f.t),
		},
	}
	if err := id.Keep(grant); err != nil {
		f.t.Fatal(err)
	}
}

// issue makes a clinic's root and a terminal's certificate.
func issue(t *testing.T, pub crypto.PublicKey, self protocol.KeyHash) (root, leaf *x509.Certificate) {
	t.Helper()
	root, leaves := authority(t)
	return root, leaves(pub, self)
}

// authority makes a clinic's root, and what makes terminals' certificates below it.
func authority(t *testing.T) (root *x509.Certificate, leaf func(pub crypto.PublicKey, self protocol.KeyHash) *x509.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	make := func(template, parent *x509.Certificate, pub crypto.PublicKey) *x509.Certificate {
		der, err := x509.CreateCertificate(rand.Reader, template, parent, pub, key)
		if err != nil {
			t.Fatal(err)
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	from, to := time.Now().Add(-time.Hour), time.Now().Add(30*24*time.Hour)
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "clinic"}, NotBefore: from, NotAfter: to, IsCA: true,
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	root = make(ca, ca, key.Public())
	serial := int64(1)
	return root, func(pub crypto.PublicKey, self protocol.KeyHash) *x509.Certificate {
		serial++
		return make(&x509.Certificate{
			SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: self.Name()}, NotBefore: from, NotAfter: to,
			KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
			URIs: []*url.URL{{Scheme: "urn", Opaque: "vindu:terminal:" + self.Name()}},
		}, root, pub)
	}
}

// A terminal out of the box shows its code; once it is enrolled beside the running agent it becomes a terminal by itself, and
// says that it cannot reach the clinic.
func TestFromTheBox(t *testing.T) {
	f := newFixture(t)
	f.start()
	s := f.see("its code", func(s screen.Scene) bool { return s.Kind == screen.NotSetUp })
	if len(s.Code) != 19 {
		t.Errorf("the code is %q", s.Code)
	}
	f.HangUp() // there is nothing to hang up
	f.enrol()
	f.see("that the clinic is unreachable", func(s screen.Scene) bool {
		return s.Kind == screen.Ready && len(s.Faults) > 0 && s.Faults[0] == protocol.LinkUnreachable
	})
	if err := f.end(); err != nil {
		t.Fatal(err)
	}

	// The next start finds the same identity.
	f.start()
	f.see("that the clinic is unreachable", func(s screen.Scene) bool {
		return s.Kind == screen.Ready && len(s.Faults) > 0
	})
	if err := f.end(); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(f.log.String(), "not set up"); n != 1 {
		t.Errorf("the log says %d times that the terminal is not set up", n)
	}
}

func TestSecondAgent(t *testing.T) {
	f := newFixture(t)
	f.enrol()
	f.start()
	f.see("something", func(s screen.Scene) bool { return s.Kind == screen.Ready })
	second := newFixture(t)
	second.cfg.State = f.cfg.State
	second.start()
	if err := <-second.done; !errors.Is(err, state.ErrLocked) {
		t.Errorf("a second agent on the same folder: %v", err)
	}
	if err := f.end(); err != nil {
		t.Fatal(err)
	}
}

func TestServiceThatFails(t *testing.T) {
	f := newFixture(t)
	f.enrol()
	unplugged := errors.New("screen was disconnected")
	fail := make(chan struct{})
	f.parts.Services = []func(context.Context) error{func(ctx context.Context) error {
		select {
		case <-fail:
			return unplugged
		case <-ctx.Done():
			return nil
		}
	}}
	f.start()
	f.see("something", func(s screen.Scene) bool { return s.Kind == screen.Ready })
	close(fail)
	if err := <-f.done; !errors.Is(err, unplugged) {
		t.Errorf("the agent ended with %v", err)
	}
}

func TestStateThatCannotBeUsed(t *testing.T) {
	f := newFixture(t)
	f.cfg.State = "/proc/vindu"
	f.start()
	if err := <-f.done; protocol.CodeOf(err) != protocol.StorageUnreadable || !strings.Contains(err.Error(), "/proc/vindu") {
		t.Errorf("the agent ended with %v", err)
	}
}

func TestConfigThatNewRefuses(t *testing.T) {
	f := newFixture(t)
	f.cfg.Language = "xx"
	if _, err := New(f.cfg, f.parts, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("an unknown language was accepted")
	}
}
