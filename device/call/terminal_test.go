package call_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"vindu/device/call"
	"vindu/device/call/calltest"
	"vindu/device/progress"
	"vindu/protocol"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// terminal is a runner with everything around it, inside a synctest bubble.
type terminal struct {
	t      *testing.T
	clinic *calltest.Clinic
	media  *calltest.Media
	outbox *calltest.Outbox
	sender *calltest.Sender
	store  *calltest.Store
	view   *calltest.View
	policy calltest.Policy
	decide call.Policy      // policy, unless a test puts another in its place
	now    func() time.Time // nil: the bubble's
	prover call.Prover      // the clinic's, unless a test puts another in its place
	signer crypto.Signer    // the clinic's for this terminal, unless a test puts another in its place
	relays []string
	doubt  func()
	bell   call.Bell // nil: silent
	root   *progress.Root
	log    bytes.Buffer

	run  *call.Runner
	stop context.CancelFunc
	err  chan error
}

func newTerminal(t *testing.T) *terminal {
	return &terminal{
		t: t, clinic: calltest.NewClinic(t), media: &calltest.Media{}, outbox: &calltest.Outbox{}, sender: &calltest.Sender{},
		store: &calltest.Store{}, view: &calltest.View{},
		policy: calltest.Policy{Decision: protocol.Ringing, Ring: 5 * time.Second, SeeFirst: 2 * time.Second, MaxDuration: time.Hour},
	}
}

func (x *terminal) start() {
	x.t.Helper()
	if x.prover == nil {
		x.prover = x.clinic.Prover(x.t)
	}
	decide := x.decide
	if decide == nil {
		decide = x.policy
	}
	if x.now == nil {
		x.now = time.Now
	}
	if x.signer == nil {
		x.signer = x.clinic.Terminal
	}
	var err error
	x.run, err = call.New(call.Config{
		Self: x.clinic.Self, Signer: x.signer, Software: "test", Prover: x.prover, Relays: func() []string { return x.relays }, Policy: decide, Media: x.media,
		Sender: x.sender, Outbox: x.outbox, View: x.view, Bell: x.bell, Store: x.store, Now: x.now, Doubt: x.doubt, Root: x.root,
		Log: slog.New(slog.NewTextHandler(&x.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	if err != nil {
		x.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	x.stop, x.err = stop, make(chan error, 1)
	go func() { x.err <- x.run.Run(ctx) }()
	synctest.Wait()
}

// end stops the runner and returns Run's error.
func (x *terminal) end() error {
	x.stop()
	return <-x.err
}

func (x *terminal) deliver(m *protocol.CallIn) {
	x.t.Helper()
	if !x.run.Deliver(m) {
		x.t.Fatal("message was dropped")
	}
	synctest.Wait()
}

// invite delivers a proven invitation and returns it with its session.
func (x *terminal) invite() (*protocol.CallIn, *calltest.Session) {
	x.t.Helper()
	m, _ := x.clinic.Invite(x.t, time.Now())
	x.deliver(m)
	return m, x.session()
}

func (x *terminal) session() *calltest.Session {
	x.t.Helper()
	sessions := x.media.Sessions()
	if len(sessions) == 0 {
		x.t.Fatalf("no session was prepared; log:\n%s", x.log.String())
	}
	return sessions[len(sessions)-1]
}

func (x *terminal) say(s *calltest.Session, kind call.MediaEventKind) {
	s.Say(call.MediaEvent{Kind: kind})
	synctest.Wait()
}

// talk brings a call all the way.
func (x *terminal) talk() (*protocol.CallIn, *calltest.Session) {
	x.t.Helper()
	m, s := x.invite()
	x.say(s, call.MediaConnected)
	x.say(s, call.MediaSeen)
	x.wait(5 * time.Second)
	if !s.IsOpen(call.Camera) || !s.IsOpen(call.Microphone) {
		x.t.Fatalf("camera and microphone are not open after the answer; log:\n%s", x.log.String())
	}
	return m, s
}

func (x *terminal) wait(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// answers returns the decisions sent so far, each verified.
func (x *terminal) answers() []protocol.Decision {
	x.t.Helper()
	var found []protocol.Decision
	for _, m := range x.sender.Sent() {
		if m.Kind != protocol.KindAnswer {
			continue
		}
		a := new(protocol.Answer)
		if err := protocol.Verify(m.Answer.Answer, &x.clinic.Terminal.PublicKey, a); err != nil {
			x.t.Fatal(err)
		}
		if a.Decision == protocol.Ringing && a.Answer != protocol.Hash(sha256.Sum256([]byte(m.Answer.SDP))) {
			x.t.Fatal("the answer names another session description than the one it came with")
		}
		found = append(found, a.Decision)
	}
	return found
}

// ends returns the ends in the outbox, each verified.
func (x *terminal) ends() []*protocol.End {
	x.t.Helper()
	var found []*protocol.End
	for _, r := range calltest.Events[*protocol.EndReceipt](x.outbox) {
		e := new(protocol.End)
		if err := protocol.Verify(r.End, &x.clinic.Terminal.PublicKey, e); err != nil {
			x.t.Fatal(err)
		}
		found = append(found, e)
	}
	return found
}

func (x *terminal) kinds() []string {
	var found []string
	for _, m := range x.sender.Sent() {
		found = append(found, m.Kind)
	}
	return found
}

func equal[T comparable](t *testing.T, what string, got, want []T) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}
