package fleet

import (
	"path/filepath"
	"testing"
	"time"

	"vindu/protocol"
)

var (
	terminal = protocol.KeyHash{1}
	first    = protocol.Nonce{1}
	second   = protocol.Nonce{2}
	start    = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
)

func presence(online bool, session protocol.Nonce) *protocol.Presence {
	return &protocol.Presence{Version: protocol.Version, Online: online, Session: session, Software: "1.0"}
}

func report(at time.Time, change func(*protocol.Health)) *protocol.Health {
	d := protocol.DeviceState{Kind: "none"}
	h := &protocol.Health{Version: protocol.Version, At: protocol.At(at), Software: "1.0", Camera: d, Microphone: d, Speaker: d, Screen: d}
	if change != nil {
		change(h)
	}
	return h
}

// TestDropped: what terminals have dropped is counted once, whichever way they tell it, whether they are there or not, and also when the clinic was restarted meanwhile.
func TestDropped(t *testing.T) {
	s := openStore(t, filepath.Join(t.TempDir(), "clinic.db"))
	f, err := New(t.Context(), Config{Store: s}, quiet)
	if err != nil {
		t.Fatal(err)
	}
	other := protocol.KeyHash{2}
	for i, step := range []struct {
		terminal protocol.KeyHash
		dropped  uint64
		byHTTPS  bool
		retained bool
		want     uint64
	}{
		{terminal, 7, false, false, 0}, // nobody knows since when
		{terminal, 7, false, false, 0},
		{terminal, 9, false, false, 2},
		{other, 5, true, false, 2},
		{other, 6, true, false, 3},
		{other, 6, false, false, 3},
		{terminal, 1, false, false, 3}, // its outbox was made anew
		{terminal, 4, false, true, 6},
	} {
		h := report(start.Add(time.Duration(i)*time.Minute), func(h *protocol.Health) { h.Dropped = step.dropped })
		if step.byHTTPS {
			f.board.reported(step.terminal, h, start)
		} else {
			f.board.health(step.terminal, h, step.retained, start)
		}
		if got := f.Counters().Lost; got != step.want {
			t.Errorf("step %d: %d, want %d", i, got, step.want)
		}
	}
	if err := f.saveStates(t.Context()); err != nil {
		t.Fatal(err)
	}
	if f, err = New(t.Context(), Config{Store: s}, quiet); err != nil {
		t.Fatal(err)
	}
	f.board.health(terminal, report(start.Add(time.Hour), func(h *protocol.Health) { h.Dropped = 6 }), false, start)
	if got := f.Counters().Lost; got != 2 {
		t.Errorf("after a restart: %d", got)
	}
}

// TestOfflineSince: a restart of the clinic's does not change since when a terminal is offline. One that was online has been since it was last heard, as far as is known.
func TestOfflineSince(t *testing.T) {
	path := filepath.Join(t.TempDir(), "clinic.db")
	s := openStore(t, path)
	gone, there := protocol.KeyHash{1}, protocol.KeyHash{2}
	config := Config{Store: s, Sinks: nil}
	f, err := New(t.Context(), config, quiet)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []protocol.KeyHash{gone, there} {
		f.board.presence(key, presence(true, first), false, start)
	}
	f.board.presence(gone, presence(false, first), false, start.Add(time.Hour))
	f.board.heard(there, start.Add(2*time.Hour))
	for range 2 { // and again, of what was loaded
		if err := f.saveStates(t.Context()); err != nil {
			t.Fatal(err)
		}
		if f, err = New(t.Context(), config, quiet); err != nil {
			t.Fatal(err)
		}
		for key, since := range map[protocol.KeyHash]time.Time{gone: start.Add(time.Hour), there: start.Add(2 * time.Hour)} {
			if got := f.board.states(start.Add(3 * time.Hour))[key]; got.Online || !got.Since.Equal(since) {
				t.Errorf("terminal %x: %+v, want since %v", key[0], got, since)
			}
		}
	}
}

func TestPresence(t *testing.T) {
	type step struct {
		after    time.Duration // since the start
		presence *protocol.Presence
		retained bool
		heard    bool
		health   bool
		check    bool // only time passes
		online   bool
		ask      bool
	}
	for name, steps := range map[string][]step{
		"comes and goes": {
			{presence: presence(true, first), online: true},
			{after: time.Second, presence: presence(false, first), online: false},
		},
		"late will of an older session": {
			{presence: presence(true, first), online: true},
			{after: time.Second, presence: presence(true, second), online: true},
			{after: 2 * time.Second, presence: presence(false, first), online: true},
			{after: 3 * time.Second, presence: presence(false, second), online: false},
		},
		"silent": {
			{presence: presence(true, first), online: true},
			{after: Silence - time.Millisecond, check: true, online: true},
			{after: Silence, check: true, online: false},
			{after: Silence + time.Second, heard: true, online: true},
		},
		"kept by what it says": {
			{presence: presence(true, first), online: true},
			{after: 40 * time.Second, health: true, online: true},
			{after: 80 * time.Second, heard: true, online: true},
			{after: 139 * time.Second, check: true, online: true},
			{after: 140 * time.Second, check: true, online: false},
		},
		"retained presence is not heard": {
			{presence: presence(true, first), retained: true, ask: true, online: false},
			{after: time.Second, health: true, online: true},
			{after: 2 * time.Second, presence: presence(false, second), online: true},
			{after: 2 * time.Second, presence: presence(false, first), online: false},
		},
		"retained presence of one that is heard": {
			{presence: presence(true, first), online: true},
			{after: time.Second, presence: presence(true, first), retained: true, online: true},
		},
		"retained will": {
			{presence: presence(false, first), retained: true, online: false},
			{after: time.Second, heard: true, online: true},
			{after: 2 * time.Second, presence: presence(false, first), online: false},
		},
		"retained health is not heard": {
			{health: true, retained: true, online: false},
		},
	} {
		b := newBoard()
		for i, s := range steps {
			now := start.Add(s.after)
			switch {
			case s.presence != nil:
				if ask := b.presence(terminal, s.presence, s.retained, now); ask != s.ask {
					t.Errorf("%s, step %d: ask %v", name, i, ask)
				}
			case s.heard:
				b.heard(terminal, now)
			case s.health:
				b.health(terminal, report(now, nil), s.retained, now)
			case s.check:
				if i%2 == 1 {
					b.silence(now)
				}
			}
			if got := b.state(terminal, now); got.Online != s.online {
				t.Errorf("%s, step %d: online %v, want %v", name, i, got.Online, s.online)
			}
		}
	}
}

func TestSince(t *testing.T) {
	b := newBoard()
	if s := b.state(terminal, start); s.Online || !s.Since.IsZero() || !s.Heard.IsZero() {
		t.Errorf("never seen: %+v", s)
	}
	b.presence(terminal, presence(true, first), false, start)
	b.heard(terminal, start.Add(30*time.Second))
	if s := b.state(terminal, start.Add(31*time.Second)); !s.Since.Equal(start) || !s.Heard.Equal(start.Add(30*time.Second)) {
		t.Errorf("online: %+v", s)
	}
	silent := start.Add(30*time.Second + Silence)
	late := silent.Add(3 * time.Second)
	if s := b.state(terminal, late); s.Online || !s.Since.Equal(silent) {
		t.Errorf("silent, not yet noticed: %+v", s)
	}
	b.silence(late)
	if s := b.states(late)[terminal]; s.Online || !s.Since.Equal(silent) {
		t.Errorf("silent: %+v", s)
	}
	// A terminal that came back under a new session without its will having come was away.
	b.presence(terminal, presence(true, first), false, late)
	b.presence(terminal, presence(true, second), false, late.Add(time.Second))
	if s := b.state(terminal, late.Add(time.Second)); !s.Online || !s.Since.Equal(late.Add(time.Second)) {
		t.Errorf("another session: %+v", s)
	}
}

// Watchers hear of what people see, not of every sign of life.
func TestWatch(t *testing.T) {
	b := newBoard()
	changes, cancel := b.watch()
	changed := func() bool {
		seen := false
		for {
			select {
			case <-changes:
				seen = true
			default:
				return seen
			}
		}
	}
	for i, s := range []struct {
		name string
		do   func(now time.Time)
		want bool
	}{
		{"online", func(now time.Time) { b.presence(terminal, presence(true, first), false, now) }, true},
		{"heard", func(now time.Time) { b.heard(terminal, now) }, false},
		{"first health", func(now time.Time) { b.health(terminal, report(now, nil), false, now) }, true},
		{"same health", func(now time.Time) {
			b.health(terminal, report(now, func(h *protocol.Health) { h.Uptime, h.Pending, h.Malformed = 60, 2, 3 }), false, now)
		}, false},
		{"camera gone", func(now time.Time) {
			b.health(terminal, report(now, func(h *protocol.Health) {
				h.Conditions = []protocol.Condition{{Code: protocol.CaptureCameraGone, Since: 1}}
			}), false, now)
		}, true},
		{"old retained health", func(time.Time) { b.health(terminal, report(start, nil), true, start) }, false},
		{"will", func(now time.Time) { b.presence(terminal, presence(false, first), false, now) }, true},
		{"many changes", func(now time.Time) {
			b.presence(terminal, presence(true, first), false, now)
			b.presence(terminal, presence(false, first), false, now)
		}, true},
		{"broker lost", func(time.Time) { b.changed() }, true},
		{"cancelled", func(now time.Time) { cancel(); b.presence(terminal, presence(true, second), false, now) }, false},
	} {
		s.do(start.Add(time.Duration(i) * time.Second))
		if got := changed(); got != s.want {
			t.Errorf("%s: changed %v, want %v", s.name, got, s.want)
		}
	}
	if s := b.state(terminal, start.Add(20*time.Second)); s.Health == nil || len(s.Health.Conditions) != 1 {
		t.Errorf("health: %+v", s.Health)
	}
}

func TestRefusedIsAuditedAtABoundedRate(t *testing.T) {
	b := newBoard()
	audited := 0
	for i := range 150 {
		count, due := b.refused(terminal, start.Add(time.Duration(i)*time.Second))
		if due {
			audited++
		}
		if count != uint64(i+1) {
			t.Fatalf("count %d after %d", count, i+1)
		}
	}
	if audited != 3 {
		t.Errorf("audited %d times in 150 s", audited)
	}
}

// What people see is stored soon, that a terminal lives once a minute.
func TestStoredAtABoundedRate(t *testing.T) {
	b := newBoard()
	b.presence(terminal, presence(true, first), false, start)
	stored := 0
	for after := time.Duration(0); after < 5*time.Minute; after += saveInterval {
		b.health(terminal, report(start.Add(after), func(h *protocol.Health) { h.Uptime = uint64(after) }), false, start.Add(after))
		dirty := b.takeDirty()
		stored += len(dirty)
		if after == time.Minute {
			b.redirty(dirty) // the store failed: once more
		}
	}
	if stored != 6 {
		t.Errorf("stored %d times in 5 minutes, want 6", stored)
	}
	b.presence(terminal, presence(false, first), false, start.Add(5*time.Minute))
	if len(b.takeDirty()) != 1 || len(b.takeDirty()) != 0 {
		t.Error("that it went is not stored, or twice")
	}
}
