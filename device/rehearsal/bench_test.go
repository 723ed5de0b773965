package rehearsal

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"vindu/device/call"
	"vindu/device/call/calltest"
	"vindu/protocol"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// media are of calls that send what is made up.
type media struct {
	*calltest.Media
	opens  bool // it opens a camera all the same
	strays bool // it takes another path than the relayed one
	hangs  chan struct{}
}

type session struct {
	*calltest.Session
	m     *media
	offer call.Offer
}

func (m *media) Prepare(ctx context.Context, offer call.Offer) (call.Session, error) {
	s, err := m.Media.Prepare(ctx, offer)
	if err != nil {
		return nil, err
	}
	inner := s.(*calltest.Session)
	inner.HoldClose = m.hangs
	return &session{inner, m, offer}, nil
}

func (s *session) Open(ctx context.Context) error {
	if s.m.opens {
		return s.Session.Open(ctx)
	}
	return nil
}

func (s *session) Report() call.Report {
	r := s.Session.Report()
	if s.offer.RelayOnly && !s.m.strays {
		r.LocalPath = "relay"
	}
	r.Quality = protocol.Quality{FramesDecoded: 60, PacketsReceived: 198, PacketsLost: 2}
	r.Stages = []call.Stage{{Name: "heard", At: time.Now()}}
	return r
}

// bench is a terminal that rehearses with a robot that behaves, in a bubble of time. Tests break parts of it.
type bench struct {
	t      *testing.T
	clinic *calltest.Clinic
	media  *media
	outbox calltest.Outbox
	sender calltest.Sender
	store  calltest.Store
	zone   *time.Location
	window *protocol.Window
	quiet  func(time.Time) bool
	closed bool // the shutter
	listen func(context.Context) ([]protocol.Check, error)
	robot  func(path string) (protocol.Code, error) // instead of a call that goes well; "" and nil: that
	asked  func(path string)

	runner *Runner
	stop   func() error

	mu    sync.Mutex
	free  protocol.Code
	paths []string    // of the calls that were begun
	heard []time.Time // when the microphone was open
	told  []*protocol.Rehearsal
	state map[protocol.CallID]*protocol.TestCall
	group sync.WaitGroup
}

func newBench(t *testing.T) *bench {
	b := &bench{
		t: t, clinic: calltest.NewClinic(t), media: &media{Media: &calltest.Media{}}, zone: time.UTC, quiet: func(time.Time) bool { return false },
		state: map[protocol.CallID]*protocol.TestCall{},
	}
	b.listen = func(context.Context) ([]protocol.Check, error) {
		return []protocol.Check{{Name: "microphone.level", State: protocol.CheckPassed, Figure: "-50 dBFS"}, {Name: "loudspeaker.chirp", State: protocol.CheckPassed, Figure: "64 ms"}}, nil
	}
	return b
}

func (b *bench) now() time.Time { return time.Now().In(b.zone) }

func (b *bench) start() {
	b.t.Helper()
	var err error
	b.runner, err = New(Config{
		Self: b.clinic.Self, Signer: b.clinic.Terminal, Software: "test", Keys: func() [][]byte { return [][]byte{calltest.SPKI(b.t, b.clinic.Service)} },
		Media: b.media, Sender: &b.sender, Outbox: &b.outbox, Clinic: b, Store: &b.store, Window: func() *protocol.Window { return b.window }, Now: b.now, Known: func() bool { return true },
		Quiet: b.quiet, Covered: func() bool { return b.closed }, Free: func() protocol.Code { b.mu.Lock(); defer b.mu.Unlock(); return b.free },
		Listen: func(ctx context.Context) ([]protocol.Check, error) {
			b.mu.Lock()
			b.heard = append(b.heard, b.now())
			b.mu.Unlock()
			return b.listen(ctx)
		},
		Told: func(r *protocol.Rehearsal) {
			b.mu.Lock()
			defer b.mu.Unlock()
			if _, err := protocol.Encode(r); err != nil {
				b.t.Error(err)
			}
			b.told = append(b.told, r)
		},
		Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		b.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.runner.Run(ctx) }()
	b.stop = sync.OnceValue(func() error {
		cancel()
		err := <-done
		b.group.Wait()
		return err
	})
}

// end stops it; nothing may have gone wrong.
func (b *bench) end() {
	b.t.Helper()
	if err := b.stop(); err != nil {
		b.t.Error(err)
	}
	for _, d := range b.media.Opened() {
		b.t.Errorf("%s was opened", d)
	}
	for _, o := range calltest.Events[*protocol.Opening](&b.outbox) {
		b.t.Errorf("on the ledger: %+v", o)
	}
}

// TestCall is the clinic's robot.
func (b *bench) TestCall(_ context.Context, id protocol.CallID, path string) (*protocol.TestCall, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if s := b.state[id]; s != nil {
		return s, nil
	}
	if b.robot != nil {
		code, err := b.robot(path)
		if err != nil {
			return nil, err
		}
		if code != "" {
			b.paths = append(b.paths, path)
			return &protocol.TestCall{Call: id, Ended: true, Outcome: code}, nil
		}
	}
	b.paths = append(b.paths, path)
	b.state[id] = &protocol.TestCall{Call: id}
	n := len(b.media.Sessions())
	b.group.Go(func() { b.place(id, path, n) })
	return b.state[id], nil
}

// place calls the terminal, talks and hangs up.
func (b *bench) place(id protocol.CallID, path string, n int) {
	invite, _ := b.clinic.TestCall(b.t, b.now(), func(i *protocol.Invitation) { i.Call, i.RelayOnly = id, path == protocol.RelayedPath })
	if !b.runner.Deliver(invite) {
		b.t.Error("the invitation is not the rehearsal's")
	}
	<-time.After(100 * time.Millisecond)
	code := protocol.EndCallerHungUp
	if all := b.media.Sessions(); len(all) > n {
		all[n].Say(call.MediaEvent{Kind: call.MediaConnected})
		all[n].Say(call.MediaEvent{Kind: call.MediaSeen})
		if b.asked != nil {
			b.asked(path)
		}
		<-time.After(4 * time.Second)
		b.runner.Deliver(b.clinic.HangUp(b.t, invite, protocol.EndCallerHungUp))
		<-time.After(100 * time.Millisecond)
	}
	for _, m := range b.sender.Sent() {
		if m.Call != id || m.End == nil {
			continue
		}
		end := new(protocol.End)
		if err := protocol.Verify(m.End.End, &b.clinic.Terminal.PublicKey, end); err != nil {
			b.t.Error(err)
		}
		code = end.Reason
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.state[id] = &protocol.TestCall{Call: id, Ended: true, Outcome: code, Pictures: 60, Keys: 2, Sounds: 200}
}

// begun returns which calls have begun, and how often the microphone was open.
func (b *bench) begun() (paths []string, heard []time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.paths), slices.Clone(b.heard)
}

func (b *bench) busy(code protocol.Code) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.free = code
}

// last is what was told last.
func (b *bench) last() *protocol.Rehearsal {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.told) == 0 {
		return nil
	}
	return b.told[len(b.told)-1]
}

// states writes a rehearsal's parts as name=state:code.
func states(r *protocol.Rehearsal) (list []string) {
	if r != nil {
		for _, p := range r.Parts {
			list = append(list, p.Name+" "+p.State+" "+string(p.Code))
		}
	}
	return list
}

// pass lets time pass in a bubble.
func pass(d time.Duration) {
	time.Sleep(d) // allowed: time in a bubble of synctest is the test's own
}

var errCrowd = protocol.WithCode(protocol.LinkTooMany, errors.New("too many"))
