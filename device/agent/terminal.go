package agent

import (
	"context"
	"errors"
	"io/fs"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"vindu/device/acceptance"
	"vindu/device/call"
	"vindu/device/clock"
	"vindu/device/health"
	"vindu/device/identity"
	"vindu/device/link"
	"vindu/device/outbox"
	"vindu/device/policy"
	"vindu/device/rehearsal"
	"vindu/device/state"
	"vindu/protocol"
)

// terminal is an agent that is set up.
type terminal struct {
	a         *Agent
	id        *identity.Identity
	clock     *clock.Clock
	time      *timekeeper
	outbox    *outbox.Outbox
	link      *link.Link
	calls     *call.Runner
	dir       *state.Dir
	orders    chan []byte                 // proven ones to take the terminal out of use; bounded by one
	noticed   time.Time                   // when a refused order was last told of
	told      map[protocol.Code]time.Time // when a refused trust or policy was last told of
	acks      refusals                    // acknowledgements that were refused
	checker   *acceptance.Runner          // nil if there are no means for checks
	rehearsal *rehearsal.Runner           // nil if there are no means for rehearsals
	stuck     chan error                  // bounded by one: a device that a check or a rehearsal opened does not close
	renewer   *identity.Renewer
	health    *health.Monitor
	kept      *told
	prober    *health.Prober
	power     *health.Power
	figures   health.Figures
	courier   *courier // nil if the clinic takes nothing by https
	changes   *changes // of conditions, that wait to be written
	policy    policy.Policy
	ready     sync.Once

	mu        sync.Mutex
	inCall    bool
	called    time.Time // when a call was asked for or ran last, or the terminal began
	turning   bool      // to another key: no call may begin
	reconnect bool      // once no call runs
	leaving   []byte    // the order that is being carried out
}

// prover proves calls by what the clinic has the terminal believe at that time.
func (t *terminal) prover() call.Prover {
	return &call.EitherProver{
		Passkey: &call.PasskeyProver{Believed: func() call.Believed { return call.Believed{Trust: t.id.Trust(), Policy: t.id.Policy()} }, TimeKnown: t.clock.Proven},
		Test: &call.TestProver{
			Keys:     t.service,
			Expected: func(id protocol.CallID) bool { return t.checker != nil && t.checker.Expects(id) },
		},
	}
}

// service are the keys of the clinic's server that the clinic has signed for.
func (t *terminal) service() [][]byte {
	if trust := t.id.Trust(); trust != nil {
		return trust.Service
	}
	return nil
}

// relays are the URLs of the servers that the clinic has signed for.
func (t *terminal) relays() []string {
	if trust := t.id.Trust(); trust != nil {
		return trust.Relays
	}
	return nil
}

// ownPolicy decides about calls by the configuration and what the clinic has signed.
func (t *terminal) ownPolicy() policy.Policy {
	p := t.a.policy
	p.Enrolled = func() bool { return t.id.Grant() != nil && t.left() == nil }
	p.Signed = t.id.Policy
	return p
}

// run runs the parts. Calls and checks stop first and the link last, so that the end of a call gets through, and the end of each opening into the
// ledger.
func (t *terminal) run(ctx context.Context) error {
	rest, stopRest := context.WithCancel(context.WithoutCancel(ctx))
	defer stopRest()
	group, rest := errgroup.WithContext(rest)
	group.Go(func() error { return t.link.Run(rest) })
	group.Go(func() error { return t.health.Run(rest) })
	group.Go(func() error { return t.kept.run(rest, t.a.log) })
	group.Go(func() error { return t.probe(rest) })
	group.Go(func() error { return t.reportChanges(rest) })
	if t.courier != nil {
		group.Go(func() error { return t.courier.run(rest) })
	}
	group.Go(func() error { return t.renewer.Run(rest) })
	servers := clock.NTP{Clock: t.clock, Servers: t.a.cfg.Time.NTP, Log: t.a.log}
	group.Go(func() error { return servers.Run(rest) })
	group.Go(func() error { return t.watchChecks(rest) })
	t.health.Watch(func(codes []protocol.Code) { t.a.change(func(s *situation) { s.conditions = codes }) })

	calls, stopCalls := context.WithCancelCause(ctx)
	defer stopCalls(nil)
	defer context.AfterFunc(rest, func() { stopCalls(nil) })()
	defer context.AfterFunc(calls, t.shutChecks)()
	var rehearsing sync.WaitGroup
	rehearsing.Add(1)
	group.Go(func() error {
		defer rehearsing.Done()
		return t.rehearse(calls)
	})
	if t.left() == nil {
		group.Go(func() error { return t.waitForOrder(rest, func() { stopCalls(errOutOfUse) }) })
	} else {
		stopCalls(errOutOfUse)
	}
	err := t.calls.Run(calls)
	if errors.Is(err, call.ErrDeviceStuck) {
		return err
	}
	if stuck := t.closeChecks(); stuck != nil {
		stopRest()
		return errors.Join(stuck, err, group.Wait())
	}
	stopCalls(nil)
	rehearsing.Wait()
	if order := t.left(); order != nil && err == nil && rest.Err() == nil {
		waiting, stop := context.WithCancel(rest)
		unhook := context.AfterFunc(ctx, stop)
		err = t.giveReceipt(waiting, order)
		unhook()
		stop()
	}
	t.flush(rest)
	stopRest()
	return errors.Join(err, group.Wait())
}

// flush gives the last events a moment to reach the clinic.
func (t *terminal) flush(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, goodbye)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for t.link.Up() && t.outbox.Status().Pending > 0 {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// Show implements call.View.
func (t *terminal) Show(s call.Status) {
	inCall := s.Scene == call.SceneRinging || s.Scene == call.SceneInCall
	t.mu.Lock()
	if inCall || t.inCall {
		t.called = time.Now()
	}
	t.inCall = inCall
	reconnect := t.reconnect && !inCall
	if reconnect {
		t.reconnect = false
	}
	t.mu.Unlock()
	if reconnect {
		t.link.Reconnect()
	}
	if inCall {
		t.yield()
	}
	t.a.change(func(x *situation) { x.call = s })
	t.health.SetInCall(inCall)
	t.prober.SetInCall(inCall)
	if s.Scene == call.SceneInCall {
		t.health.Set("call", s.Conditions...)
	} else {
		t.health.Set("call")
	}
}

// renewed connects anew with the new certificate, but not in a call: that would look like a lost link.
func (t *terminal) renewed() {
	t.mu.Lock()
	t.reconnect = t.inCall
	now := !t.inCall
	t.mu.Unlock()
	if now {
		t.link.Reconnect()
	}
}

func (t *terminal) callMessage(m *protocol.CallIn) {
	if t.rehearsal != nil && t.rehearsal.Deliver(m) {
		return
	}
	if m.Kind == protocol.KindInvite && !t.mayCall() {
		t.a.log.Warn("call message dropped: the terminal begins anew with another key", "call", m.Call, "kind", m.Kind)
		return
	}
	if !t.calls.Deliver(m) {
		t.a.log.Warn("call message dropped: too many wait", "call", m.Call, "kind", m.Kind)
	}
}

func (t *terminal) command(c *protocol.Command) {
	switch c.Kind {
	case protocol.CommandReport:
		t.health.Report()
	case protocol.CommandRenew:
		t.renewer.RenewNow()
	case protocol.CommandSettings:
		t.renewer.FetchNow()
	case protocol.CommandRehearse:
		t.askedToRehearse()
	case protocol.CommandDecommission:
		t.order(c.Order)
	}
}

func (t *terminal) linkState(s link.State) {
	t.calls.LinkUp(s.Up)
	if t.rehearsal != nil {
		t.rehearsal.LinkUp(s.Up)
	}
	switch {
	case s.Up:
		t.health.Set("link")
		t.prober.Hurry(whenLinkTurns...)
	case s.Cause != "":
		t.health.Set("link", s.Cause)
		t.prober.Hurry(whenLinkTurns...)
	default:
		return
	}
	t.a.change(func(x *situation) { x.started, x.online = true, s.Up })
	if s.Up {
		t.ready.Do(func() {
			d := t.a.parts.Devices()
			t.a.log.Info("ready", append([]any{
				"terminal", t.id.Key().Code(), "after", time.Since(t.a.started).Round(time.Millisecond).String(), "software", t.a.parts.Software,
				"camera", d.Camera.Kind, "microphone", d.Microphone.Kind, "speaker", d.Speaker.Kind, "screen", d.Screen.Kind,
			}, t.a.parts.Fields...)...)
		})
	}
}

func (t *terminal) counters() health.Counters {
	wire := t.link.Counters()
	return health.Counters{Pending: t.outbox.Status().Pending, Dropped: t.droppedEvents(), Malformed: wire.Malformed + t.acks.byCourier()}
}

// checks are the conditions that can be seen by looking.
func (t *terminal) checks() []protocol.Code {
	var codes []protocol.Code
	if t.a.parts.Safe {
		codes = append(codes, protocol.PowerSafe)
	}
	if c := t.id.Condition(); c != "" {
		codes = append(codes, c)
		if c == protocol.IdentityTPMCleared {
			t.beginWithout()
		}
	}
	if c := t.clock.Condition(); c != "" {
		codes = append(codes, c)
	}
	if p := t.id.Policy(); p != nil {
		if _, err := policy.Zone(p); err != nil {
			codes = append(codes, protocol.TimeZone)
		}
	}
	codes = append(codes, t.a.missing()...)
	box := t.outbox.Status()
	if len(box.Rebuilt) > 0 {
		codes = append(codes, protocol.StorageDamaged)
	}
	if box.Waiting > 0 {
		codes = append(codes, box.Why)
	}
	return codes
}

// beginWithout has a terminal whose key is lost for good begin anew, unless a call runs: it then shows that, and can be given up.
func (t *terminal) beginWithout() {
	t.mu.Lock()
	inCall := t.inCall
	t.mu.Unlock()
	t.a.mu.Lock()
	restart := t.a.restart
	t.a.mu.Unlock()
	if !inCall && restart != nil {
		t.a.log.Error("the terminal's key is lost while it runs")
		restart()
	}
}

// fileStore keeps what packages call and acceptance have to remember.
type fileStore struct {
	dir  *state.Dir
	file string
}

// Load implements call.Store.
func (s fileStore) Load() ([]byte, error) {
	b, err := s.dir.Read(s.file, 64<<10)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return b, err
}

// Save implements call.Store.
func (s fileStore) Save(b []byte) error { return s.dir.Write(s.file, b) }
