// Package health gathers what the terminal tells its clinic about itself: devices, conditions of the register that hold,
// and counters. Nothing is opened to find out, and nothing in it is about a person.
//
// A Monitor takes conditions from whoever finds them and devices from an inventory that it asks every InventoryEvery. It
// publishes when something changed, a moment later so that what changes together goes together, and every PublishEvery so that
// numbers stay fresh. A condition is told only after it has held for the time that the register gives it. What is told is published, also what is hidden
// under something that it depends on; the screen shows the rest.
//
// Probes look for what nobody else notices (board.go, storage.go, net.go); a Prober runs them. They read files of the kernel's, or ask the clinic's own
// servers and nobody else.
package health

import (
	"cmp"
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"vindu/device/progress"
	"vindu/protocol"
)

// How often things happen.
const (
	InventoryEvery = 15 * time.Second
	PublishEvery   = time.Minute
	settle         = 100 * time.Millisecond
	firstLook      = 5 * time.Second // for how long the first message waits for the first inventory
)

// Devices are what the terminal would use in a call, and what is wrong with them.
type Devices struct {
	Camera, Microphone, Speaker, Screen protocol.DeviceState
	Conditions                          []protocol.Code
}

// Counters are numbers that change without being worth a message of their own.
type Counters struct {
	Pending, Dropped, Malformed uint64
}

// Config is what a Monitor works with. Every field but Changed, Rehearsed, Root, Figures, About and Standing is required.
type Config struct {
	Software string
	KeyGrade string
	Devices  func() Devices // opens nothing
	Counters func() Counters
	// Checks returns the conditions that can be found by looking, such as those of clock and identity.
	Checks  func() []protocol.Code
	Publish func(*protocol.Health) error
	// Figures returns what was measured last, About what the terminal consists of; neither asks a driver. nil: nothing is told of it.
	Figures func() *protocol.Figures
	About   func() *protocol.About
	// Standing tells whether the terminal's quiet hours are now, and whether the camera's shutter is closed. It must not block. nil: nobody knows.
	Standing func() (quiet, covered bool)
	// Changed is told of every condition that begins to be told, and of its end. It must not block, nor call the Monitor. nil: nobody.
	Changed func(protocol.ConditionChange)
	// Rehearsed returns the last rehearsal. It must not block. nil: there is none.
	Rehearsed func() *protocol.Rehearsal
	Now       func() time.Time
	Log       *slog.Logger
	Root      *progress.Root // is told that Run gets on; nil: nobody is
}

// Monitor knows the terminal's health. Its methods may be called from any goroutine.
type Monitor struct {
	c       Config
	started time.Time
	changed chan struct{}
	rearm   chan struct{} // something will have held for long enough

	mu      sync.Mutex
	devices Devices
	holds   map[protocol.Code]*held
	from    map[string][]Finding // by who found it
	inCall  bool
	stood   [2]bool // quiet and covered, when last looked
	watch   func([]protocol.Code)
}

// held is a condition that holds.
type held struct {
	since  time.Time
	began  time.Time // by the monotonic clock, which nobody sets
	told   bool      // it has held for long enough
	figure string
}

// New makes a Monitor. Nothing is looked at before Run.
func New(c Config) *Monitor {
	return &Monitor{
		c: c, changed: make(chan struct{}, 1), rearm: make(chan struct{}, 1), holds: map[protocol.Code]*held{}, from: map[string][]Finding{}, started: c.Now(),
	}
}

// Watch has f called with the conditions whenever they change, and now. f must not call the Monitor.
func (m *Monitor) Watch(f func([]protocol.Code)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.watch = f
	f(m.shown())
}

// Set says which conditions hold as far as finder knows; earlier ones of the same finder are forgotten.
func (m *Monitor) Set(finder string, codes ...protocol.Code) { m.Find(finder, findings(codes)...) }

// Find is Set with figures. That only a figure has changed is no news; it goes with the next message.
func (m *Monitor) Find(finder string, found ...Finding) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if slices.Equal(m.from[finder], found) {
		return
	}
	m.from[finder] = slices.Clone(found)
	m.settleLocked()
}

func findings(codes []protocol.Code) []Finding {
	found := make([]Finding, len(codes))
	for i, c := range codes {
		found[i].Code = c
	}
	return found
}

// SetInCall says whether a call runs.
func (m *Monitor) SetInCall(yes bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.inCall != yes {
		m.inCall = yes
		m.poke()
	}
}

// Report publishes now.
func (m *Monitor) Report() { m.poke() }

// settleLocked works out which conditions hold now, and which are to be told.
func (m *Monitor) settleLocked() {
	now := time.Now()
	found := map[protocol.Code]string{}
	for _, list := range m.from {
		for _, f := range list {
			found[f.Code] = cmp.Or(f.Figure, found[f.Code])
		}
	}
	changed, waits := false, false
	for c, h := range m.holds {
		if _, still := found[c]; still {
			continue
		}
		delete(m.holds, c)
		if h.told {
			changed = true
			m.c.Log.Info("condition cleared", "code", c)
			m.tell(c, h, protocol.At(m.c.Now()))
		}
	}
	for c, figure := range found {
		h := m.holds[c]
		if h == nil {
			h = &held{since: m.c.Now(), began: now}
			m.holds[c] = h
		}
		h.figure = figure
		if h.told {
			continue
		}
		entry := protocol.Explain(c)
		if now.Sub(h.began) < entry.Visible {
			waits = true
			continue
		}
		h.told, changed = true, true
		level := slog.LevelWarn
		if entry.Who == protocol.Nobody {
			level = slog.LevelInfo
		}
		m.c.Log.Log(context.Background(), level, "condition", "code", c, "what", entry.Sentence, "next", entry.Next, "figure", figure)
		m.tell(c, h, 0)
	}
	if changed {
		if m.watch != nil {
			m.watch(m.shown())
		}
		m.poke()
	}
	if waits {
		signal(m.rearm)
	}
}

// tell passes on that a condition is told now, or is over.
func (m *Monitor) tell(c protocol.Code, h *held, until protocol.Time) {
	if m.c.Changed != nil {
		m.c.Changed(protocol.ConditionChange{Version: protocol.Version, Code: c, Since: protocol.At(h.since), Until: until, Figure: h.figure})
	}
}

// ripens returns when the next condition will have held for long enough, or an hour from now.
func (m *Monitor) ripens() time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	next := time.Hour
	for c, h := range m.holds {
		if !h.told {
			next = min(next, max(protocol.Explain(c).Visible-time.Since(h.began), 0))
		}
	}
	return next
}

// settleNow looks at what may have held for long enough.
func (m *Monitor) settleNow() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.settleLocked()
}

// conditions returns what is told, in the order of the stages: causes before what depends on them.
func (m *Monitor) conditions() []protocol.Code {
	var codes []protocol.Code
	for c, h := range m.holds {
		if h.told {
			codes = append(codes, c)
		}
	}
	slices.SortFunc(codes, protocol.CompareCodes)
	return codes
}

// shown is what the screen shows of it. What is not told yet hides what depends on it all the same.
func (m *Monitor) shown() []protocol.Code {
	return slices.DeleteFunc(protocol.Showing(slices.Collect(maps.Keys(m.holds))), func(c protocol.Code) bool { return !m.holds[c].told })
}

func (m *Monitor) poke() { signal(m.changed) }

// Look asks the inventory and the checks. Run does it; a start that should be quick does it before.
func (m *Monitor) Look() {
	devices, checks := m.c.Devices(), m.c.Checks()
	quiet, covered := m.standing()
	m.mu.Lock()
	defer m.mu.Unlock()
	if stands := [2]bool{quiet, covered}; stands != m.stood { // who is about to ring is told soon
		m.stood = stands
		m.poke()
	}
	if m.devices.Camera != devices.Camera || m.devices.Microphone != devices.Microphone || m.devices.Speaker != devices.Speaker || m.devices.Screen != devices.Screen {
		m.poke()
	}
	m.devices = devices
	m.from["devices"], m.from["checks"] = findings(devices.Conditions), findings(checks)
	m.settleLocked()
}

func (m *Monitor) standing() (quiet, covered bool) {
	if m.c.Standing == nil {
		return false, false
	}
	return m.c.Standing()
}

// Health returns the message as it would be published now.
func (m *Monitor) Health() *protocol.Health {
	counters := m.c.Counters()
	quiet, covered := m.standing()
	var figures *protocol.Figures
	var about *protocol.About
	if m.c.Figures != nil {
		figures = m.c.Figures()
	}
	if m.c.About != nil {
		about = m.c.About()
	}
	var rehearsed *protocol.Rehearsal
	if m.c.Rehearsed != nil {
		rehearsed = m.c.Rehearsed()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.c.Now()
	h := &protocol.Health{
		Version: protocol.Version, At: protocol.At(now), Uptime: uint64(max(now.Sub(m.started), 0) / time.Second), Software: m.c.Software,
		KeyGrade: m.c.KeyGrade, Camera: m.devices.Camera, Microphone: m.devices.Microphone, Speaker: m.devices.Speaker,
		Screen: m.devices.Screen, Pending: counters.Pending, Dropped: counters.Dropped, InCall: m.inCall, Malformed: counters.Malformed,
		Conditions: []protocol.Condition{}, Rehearsed: rehearsed, Figures: figures, About: about, Quiet: quiet, Covered: covered,
	}
	for _, d := range []*protocol.DeviceState{&h.Camera, &h.Microphone, &h.Speaker, &h.Screen} {
		if d.Kind == "" {
			d.Kind = "none"
		}
		d.Name = protocol.Printable(d.Name) // drivers say anything
	}
	for _, c := range m.conditions() {
		if len(h.Conditions) < 64 {
			h.Conditions = append(h.Conditions, protocol.Condition{Code: c, Since: protocol.At(m.holds[c].since), Figure: m.holds[c].figure})
		}
	}
	return h
}

// Run looks and publishes until ctx ends and returns nil. Looking asks drivers and a TPM, which may not answer for as long as they like: what was found last is published meanwhile.
func (m *Monitor) Run(ctx context.Context) error {
	look := time.NewTicker(InventoryEvery)
	defer look.Stop()
	publish := time.NewTicker(PublishEvery)
	defer publish.Stop()
	ripe := time.NewTimer(time.Hour)
	defer ripe.Stop()
	alive, stop := m.c.Root.Tick(progress.Every)
	defer stop()
	defer m.c.Root.End()
	var looks sync.WaitGroup
	defer looks.Wait()
	looking, looked := false, make(chan struct{}, 1)
	begin := func() {
		if !looking {
			looking = true
			looks.Go(func() { m.Look(); looked <- struct{}{} })
		}
	}
	begin()
	select {
	case <-ctx.Done():
	case <-looked:
		looking = false
	case <-time.After(firstLook):
	}
	ripe.Reset(m.ripens())
	for {
		if err := m.c.Publish(m.Health()); err != nil {
			m.c.Log.Info("health not published", "error", err)
		}
	wait:
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-alive:
				m.c.Root.Alive()
			case <-look.C:
				begin()
			case <-looked:
				looking = false
			case <-m.rearm:
				ripe.Reset(m.ripens())
			case <-ripe.C:
				m.settleNow()
				ripe.Reset(m.ripens())
			case <-publish.C:
				break wait
			case <-m.changed:
				select {
				case <-ctx.Done():
					return nil
				case <-time.After(settle):
				}
				select {
				case <-m.changed: // what came meanwhile goes with it
				default:
				}
				break wait
			}
		}
	}
}
