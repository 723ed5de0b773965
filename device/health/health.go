// Package health gathers what the terminal tells its clinic about itself: devices, conditions of the register that hold,
// and counters. Nothing is opened to find out, and nothing in it is about a person.
//
// A Monitor takes conditions from whoever finds them and devices from an inventory that it asks every InventoryEvery. It
// publishes when something changed, a moment later so that what changes together goes together, and every PublishEvery so that
// numbers stay fresh.
package health

import (
	"cmp"
	"context"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"vindu/protocol"
)

// How often things happen.
const (
	InventoryEvery = 15 * time.Second
	PublishEvery   = time.Minute
	settle         = 100 * time.Millisecond
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

// Config is what a Monitor works with. Every field is required.
type Config struct {
	Software string
	KeyGrade string
	Devices  func() Devices // opens nothing
	Counters func() Counters
	// Checks returns the conditions that can be found by looking, such as those of clock and identity.
	Checks  func() []protocol.Code
	Publish func(*protocol.Health) error
	Now     func() time.Time
	Log     *slog.Logger
}

// Monitor knows the terminal's health. Its methods may be called from any goroutine.
type Monitor struct {
	c       Config
	started time.Time
	changed chan struct{}

	mu      sync.Mutex
	devices Devices
	since   map[protocol.Code]time.Time // of every condition that holds
	from    map[string][]protocol.Code  // by who found it
	inCall  bool
	watch   func([]protocol.Code)
}

// New makes a Monitor. Nothing is looked at before Run.
func New(c Config) *Monitor {
	return &Monitor{
		c: c, changed: make(chan struct{}, 1), since: map[protocol.Code]time.Time{}, from: map[string][]protocol.Code{}, started: c.Now(),
	}
}

// Watch has f called with the conditions whenever they change, and now. f must not call the Monitor.
func (m *Monitor) Watch(f func([]protocol.Code)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.watch = f
	f(m.conditions())
}

// Set says which conditions hold as far as finder knows; earlier ones of the same finder are forgotten.
func (m *Monitor) Set(finder string, codes ...protocol.Code) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if slices.Equal(m.from[finder], codes) {
		return
	}
	m.from[finder] = slices.Clone(codes)
	m.settleLocked()
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

// settleLocked works out which conditions hold now.
func (m *Monitor) settleLocked() {
	now := m.c.Now()
	holds := map[protocol.Code]bool{}
	for _, codes := range m.from {
		for _, c := range codes {
			holds[c] = true
		}
	}
	changed := false
	for c := range m.since {
		if !holds[c] {
			delete(m.since, c)
			changed = true
			m.c.Log.Info("condition cleared", "code", c)
		}
	}
	for c := range holds {
		if m.since[c].IsZero() {
			m.since[c] = now
			changed = true
			entry := protocol.Explain(c)
			level := slog.LevelWarn
			if entry.Who == protocol.Nobody {
				level = slog.LevelInfo
			}
			m.c.Log.Log(context.Background(), level, "condition", "code", c, "what", entry.Sentence, "next", entry.Next)
		}
	}
	if changed {
		if m.watch != nil {
			m.watch(m.conditions())
		}
		m.poke()
	}
}

// conditions returns what holds, in the order of the stages: causes before what depends on them.
func (m *Monitor) conditions() []protocol.Code {
	codes := slices.Collect(maps.Keys(m.since))
	slices.SortFunc(codes, func(a, b protocol.Code) int { return cmp.Or(stage(a)-stage(b), cmp.Compare(a, b)) })
	return codes
}

func stage(c protocol.Code) int {
	name, _, _ := strings.Cut(string(c), ".")
	if i := slices.Index(protocol.Stages, name); i >= 0 {
		return i
	}
	return len(protocol.Stages)
}

func (m *Monitor) poke() {
	select {
	case m.changed <- struct{}{}:
	default:
	}
}

// Look asks the inventory and the checks. Run does it; a start that should be quick does it before.
func (m *Monitor) Look() {
	devices, checks := m.c.Devices(), m.c.Checks()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.devices.Camera != devices.Camera || m.devices.Microphone != devices.Microphone || m.devices.Speaker != devices.Speaker || m.devices.Screen != devices.Screen {
		m.poke()
	}
	m.devices = devices
	m.from["devices"], m.from["checks"] = devices.Conditions, checks
	m.settleLocked()
}

// Health returns the message as it would be published now.
func (m *Monitor) Health() *protocol.Health {
	counters := m.c.Counters()
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.c.Now()
	h := &protocol.Health{
		Version: protocol.Version, At: protocol.At(now), Uptime: uint64(max(now.Sub(m.started), 0) / time.Second), Software: m.c.Software,
		KeyGrade: m.c.KeyGrade, Camera: m.devices.Camera, Microphone: m.devices.Microphone, Speaker: m.devices.Speaker,
		Screen: m.devices.Screen, Pending: counters.Pending, Dropped: counters.Dropped, InCall: m.inCall, Malformed: counters.Malformed,
		Conditions: []protocol.Condition{},
	}
	for _, d := range []*protocol.DeviceState{&h.Camera, &h.Microphone, &h.Speaker, &h.Screen} {
		if d.Kind == "" {
			d.Kind = "none"
		}
		d.Name = protocol.Printable(d.Name) // drivers say anything
	}
	for _, c := range m.conditions() {
		if len(h.Conditions) < 64 {
			h.Conditions = append(h.Conditions, protocol.Condition{Code: c, Since: protocol.At(m.since[c])})
		}
	}
	return h
}

// Run looks and publishes until ctx ends and returns nil.
func (m *Monitor) Run(ctx context.Context) error {
	look := time.NewTicker(InventoryEvery)
	defer look.Stop()
	publish := time.NewTicker(PublishEvery)
	defer publish.Stop()
	m.Look()
	for {
		if err := m.c.Publish(m.Health()); err != nil {
			m.c.Log.Info("health not published", "error", err)
		}
	wait:
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-look.C:
				m.Look()
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
