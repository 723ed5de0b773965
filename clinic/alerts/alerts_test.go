package alerts

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"vindu/clinic/audit"
	"vindu/clinic/authority"
	"vindu/clinic/fleet"
	"vindu/clinic/register"
	"vindu/clinic/store"
	"vindu/protocol"
)

const secret = "0123456789abcdef0123456789abcdef"

// bench is a Service with its fleet, its clock and its webhook in a test's hands.
type bench struct {
	t       *testing.T
	service *Service
	config  Config
	now     time.Time
	states  map[protocol.KeyHash]fleet.State
	homes   []register.Home
	down    bool // the broker is away

	mu     sync.Mutex
	status int
	heard  []string // "event code home"
}

func (b *bench) States() map[protocol.KeyHash]fleet.State       { return b.states }
func (b *bench) Up() bool                                       { return !b.down }
func (b *bench) Homes(context.Context) ([]register.Home, error) { return b.homes, nil }
func (b *bench) terminal() protocol.KeyHash                     { return b.homes[0].Terminal }
func (b *bench) set(online bool, since time.Time, codes ...protocol.Code) {
	b.setSince(online, since, since, codes...)
}

func (b *bench) setSince(online bool, since, raised time.Time, codes ...protocol.Code) {
	h := &protocol.Health{}
	for _, c := range codes {
		h.Conditions = append(h.Conditions, protocol.Condition{Code: c, Since: protocol.At(raised)})
	}
	b.states[b.terminal()] = fleet.State{Terminal: b.terminal(), Online: online, Since: since, Health: h}
}

func newBench(t *testing.T) *bench {
	t.Helper()
	dir := t.TempDir()
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(authority.Create(filepath.Join(dir, "authority"), "Solvik clinic"))
	a, err := authority.Load(filepath.Join(dir, "authority"))
	must(err)
	s, err := store.Open(t.Context(), filepath.Join(dir, "clinic.db"), log)
	must(err)
	t.Cleanup(func() { s.Close() })
	l, err := audit.New(t.Context(), s, a.LogKey())
	must(err)
	b := &bench{
		t: t, now: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC), states: map[protocol.KeyHash]fleet.State{}, status: http.StatusNoContent,
		homes: []register.Home{{ID: "100000017", Label: "Home 17, Storgata", Terminal: protocol.KeyHash{17}}, {ID: "100000018", Label: "Home 18"}},
	}
	server := httptest.NewServer(b)
	t.Cleanup(server.Close)
	hook, err := NewHook(server.URL, secret, "https://clinic.example/")
	must(err)
	b.config = Config{Store: s, Audit: l, Fleet: b, Homes: b, Hook: hook, After: 5 * time.Minute, Log: log, now: func() time.Time { return b.now }}
	b.restart()
	return b
}

func (b *bench) restart() {
	b.t.Helper()
	var err error
	if b.service, err = New(b.t.Context(), b.config); err != nil {
		b.t.Fatal(err)
	}
}

// ServeHTTP is the webhook: it checks what a real one has to.
func (b *bench) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		b.t.Error(err)
	}
	at, _, _ := strings.Cut(strings.TrimPrefix(r.Header.Get("Vindu-Signature"), "t="), ",")
	seconds, err := strconv.ParseInt(at, 10, 64)
	if err != nil || Sign([]byte(secret), time.Unix(seconds, 0), body) != r.Header.Get("Vindu-Signature") {
		b.t.Errorf("signature %q", r.Header.Get("Vindu-Signature"))
	}
	for _, secret := range []string{"Storgata", "Home 17", secret} {
		if strings.Contains(string(body), secret) {
			b.t.Errorf("%q in what is told: %s", secret, body)
		}
	}
	var t told
	err = json.Unmarshal(body, &t)
	address := "https://clinic.example/operator"
	if t.Home != "" && t.Severity != protocol.Alarm {
		address += "/homes/" + t.Home
	}
	if err != nil || t.Version != 1 || t.Title == "" || t.ID == "" || t.Address != address {
		b.t.Errorf("told %s, %v", body, err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.status/100 == 2 {
		b.heard = append(b.heard, t.Event+" "+string(t.Code)+" "+t.Home)
	}
	w.WriteHeader(b.status)
}

// after lets time pass, looks and tells; want is what the webhook heard meanwhile.
func (b *bench) after(step string, d time.Duration, want ...string) {
	b.t.Helper()
	b.now = b.now.Add(d)
	if err := b.service.look(b.t.Context()); err != nil {
		b.t.Fatalf("%s: %v", step, err)
	}
	if err := b.service.tell(b.t.Context()); (err != nil) != (b.status/100 != 2 && len(want) == 0 && b.pending()) {
		b.t.Errorf("%s: told with %v", step, err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if got := strings.Join(b.heard, ", "); got != strings.Join(want, ", ") {
		b.t.Errorf("%s: heard %q, want %q", step, got, want)
	}
	b.heard = nil
}

func (b *bench) pending() bool {
	var n int
	if err := b.config.Store.Read().QueryRowContext(b.t.Context(), "SELECT count(*) FROM alerts_sent WHERE raised_told IS NULL OR cleared IS NOT NULL AND cleared_told IS NULL").Scan(&n); err != nil {
		b.t.Fatal(err)
	}
	return n > 0
}

// TestAlerts: what is serious and lasts is told once, and once that it is over; nothing is lost while the webhook is away, or by a restart.
func TestAlerts(t *testing.T) {
	b := newBench(t)
	const raised, cleared = "raised capture.no_camera 100000017", "cleared capture.no_camera 100000017"
	b.set(true, b.now)
	b.after("well", time.Hour)
	b.set(true, b.now, protocol.CaptureNoCamera, protocol.EgressUDP) // a warning, too
	b.after("at once", 0)
	b.after("not long enough", 5*time.Minute-time.Second)
	b.after("long enough", time.Second, raised)
	b.after("again", time.Hour)
	b.restart()
	b.after("after a restart", time.Hour)
	// Away: whether it still has no camera is not known.
	b.set(false, b.now)
	b.after("offline", time.Minute)
	b.after("offline for long", 5*time.Minute, "raised signalling.terminal_offline 100000017")
	b.set(true, b.now)
	b.status = http.StatusInternalServerError
	b.after("back, with a camera, and the webhook is away", 0)
	b.restart()
	b.after("still away", time.Minute)
	b.status = http.StatusOK
	b.after("the webhook is back", time.Minute, cleared, "cleared signalling.terminal_offline 100000017")
	b.set(true, b.now, protocol.CaptureNoCamera)
	b.after("again no camera", 6*time.Minute, raised)
	b.homes[0].Terminal, b.homes[1].Terminal = protocol.KeyHash{}, protocol.KeyHash{18}
	b.after("taken away", time.Minute, cleared)
	b.after("and that was all", time.Hour)
	if err := b.service.sweep(t.Context(), b.now.Add(keep+time.Hour)); err != nil {
		t.Fatal(err)
	}
	var n int
	if err := b.config.Store.Read().QueryRowContext(t.Context(), "SELECT count(*) FROM alerts_sent").Scan(&n); err != nil || n != 0 {
		t.Errorf("%d alerts are kept for good, %v", n, err)
	}
}

// TestFlapping: a terminal that says of a condition every few seconds that it is over, and then that it has lasted for long, is told of no oftener than what lasts can be: one that
// is not honest fills neither table nor webhook. What lasts after all is told.
func TestFlapping(t *testing.T) {
	b := newBench(t)
	look := func() {
		t.Helper()
		if err := errors.Join(b.service.look(t.Context()), b.service.tell(t.Context())); err != nil {
			t.Fatal(err)
		}
	}
	for range 180 { // an hour
		b.setSince(true, b.now, b.now.Add(-time.Hour), protocol.CaptureNoCamera)
		look()
		b.now = b.now.Add(10 * time.Second)
		b.set(true, b.now)
		look()
		b.now = b.now.Add(10 * time.Second)
	}
	if n := len(b.heard); n < 2 || n > 2*60/5 {
		t.Errorf("told %d times in an hour", n)
	}
	b.heard = nil
	b.set(true, b.now, protocol.CaptureNoCamera)
	b.after("it lasts", 5*time.Minute, "raised capture.no_camera 100000017")
}

// TestDeadWebhook: what nobody has taken for months is forgotten.
func TestDeadWebhook(t *testing.T) {
	b := newBench(t)
	b.status = http.StatusInternalServerError
	b.set(true, b.now, protocol.CaptureNoCamera)
	b.after("no camera", 5*time.Minute)
	b.set(true, b.now)
	b.after("and over", time.Minute)
	if err := b.service.sweep(t.Context(), b.now.Add(keep-time.Hour)); err != nil || !b.pending() {
		t.Errorf("forgotten early, %v", err)
	}
	if err := b.service.sweep(t.Context(), b.now.Add(keep+time.Hour)); err != nil || b.pending() {
		t.Errorf("kept for good, %v", err)
	}
}

// TestNeverSeen: a home whose terminal never came is no alert.
func TestNeverSeen(t *testing.T) {
	b := newBench(t)
	b.after("never seen", time.Hour)
	b.set(false, time.Time{})
	b.after("never seen, as the fleet says it", time.Hour)
}

// TestMarks: what an operator knows of is told to nobody, for as long as it holds or until a time.
func TestMarks(t *testing.T) {
	b := newBench(t)
	began := b.now
	mark := func(since, until time.Time, text string) error {
		return b.service.Mark(t.Context(), "person 7", b.terminal(), protocol.CaptureNoCamera, since, until, text)
	}
	for name, test := range map[string]struct {
		until time.Time
		text  string
		want  error
	}{
		"a long note":    {time.Time{}, strings.Repeat("ø", MaxNote+1), ErrNote},
		"two lines":      {time.Time{}, "one\ntwo", ErrNote},
		"not UTF-8":      {time.Time{}, "\xff", ErrNote},
		"in the past":    {began.Add(-time.Second), "", ErrUntil},
		"for a year":     {began.AddDate(1, 0, 0), "", ErrUntil},
		"this very time": {began, "", ErrUntil},
	} {
		if err := mark(began, test.until, test.text); !errors.Is(err, test.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := b.service.Mark(t.Context(), "person 7", b.terminal(), "capture.nonsense", began, time.Time{}, ""); !errors.Is(err, ErrCode) {
		t.Errorf("no such condition: %v", err)
	}
	b.set(true, b.now, protocol.CaptureNoCamera)
	if err := mark(began, time.Time{}, " Technician comes on Monday "); err != nil {
		t.Fatal(err)
	}
	marks, err := b.service.Marks(t.Context())
	if m := marks[b.terminal()][protocol.CaptureNoCamera]; err != nil || m.Note != "Technician comes on Monday" || m.By != "person 7" || !m.Holds(began, b.now) || m.Holds(began.Add(time.Second), b.now) {
		t.Errorf("kept %+v, %v", m, err)
	}
	b.after("seen to", time.Hour)
	again := b.now
	b.setSince(true, began, again, protocol.CaptureNoCamera)
	b.after("it came back", 4*time.Minute)
	if err := mark(again, b.now.Add(time.Hour), ""); err != nil {
		t.Fatal(err)
	}
	b.setSince(true, began, b.now, protocol.CaptureNoCamera)
	b.after("silenced, and it came again", 59*time.Minute)
	b.after("the silence is over", 2*time.Minute, "raised capture.no_camera 100000017")
	if err := b.service.Unmark(t.Context(), "person 7", b.terminal(), protocol.CaptureNoCamera); err != nil {
		t.Fatal(err)
	}
	if err := b.service.Unmark(t.Context(), "person 7", b.terminal(), protocol.CaptureNoCamera); err != nil {
		t.Errorf("taken back twice: %v", err)
	}
	entries, err := b.config.Audit.After(t.Context(), -1, 100)
	if err != nil {
		t.Fatal(err)
	}
	count := map[string]int{}
	for _, e := range entries {
		count[e.What]++
	}
	if count[audit.ConditionMarked] != 2 || count[audit.ConditionUnmarked] != 1 {
		t.Errorf("the audit log has %v", count)
	}
}

// TestMarkedOffline: that a home is away for a while is told to nobody once somebody knows, however exactly since when is known.
func TestMarkedOffline(t *testing.T) {
	b := newBench(t)
	since := b.now.Add(123456 * time.Nanosecond)
	b.set(false, since)
	if err := b.service.Mark(t.Context(), "person 7", b.terminal(), protocol.SignalOffline, time.UnixMilli(since.UnixMilli()), time.Time{}, "On holiday"); err != nil {
		t.Fatal(err)
	}
	b.after("on holiday", 14*24*time.Hour)
	b.restart()
	b.after("after a restart", time.Hour)
	b.after("and for long after it", time.Hour)
	b.set(true, b.now)
	b.after("home again", time.Hour)
	b.set(false, b.now)
	b.after("offline anew", 6*time.Minute, "raised signalling.terminal_offline 100000017")
}

// TestBegun: when the clinic's server was away, nobody is told of its terminals before they had the time to come back.
func TestBegun(t *testing.T) {
	b := newBench(t)
	b.set(false, b.now.Add(-10*time.Minute)) // as the fleet loads it: offline since it was last heard
	b.after("at once", 0)
	b.after("not all are back", 5*time.Minute-time.Second)
	b.set(true, b.now)
	b.after("it came back", time.Hour)
	b.restart()
	b.set(false, b.now.Add(-10*time.Minute))
	b.after("begun again", 0)
	b.after("it does not come back", 5*time.Minute, "raised signalling.terminal_offline 100000017")
	b.restart()
	b.after("and again: it is still told", time.Hour)
}

// TestBrokerAway: while the clinic's broker is away, that is told, and not that each terminal is.
func TestBrokerAway(t *testing.T) {
	b := newBench(t)
	const broker = " signalling.broker_unreachable "
	b.set(true, b.now)
	b.after("well", time.Hour)
	b.down = true
	b.after("away", 0)
	b.set(false, b.now.Add(time.Minute))
	b.after("not for long", 5*time.Minute-time.Second)
	b.after("for long", time.Second, "raised"+broker)
	b.after("for longer", time.Hour)
	b.down = false
	b.after("back, and terminals are not yet", time.Second, "cleared"+broker)
	b.after("the terminal is not", 5*time.Minute-time.Second)
	b.after("and does not come", time.Second, "raised signalling.terminal_offline 100000017")
	b.down = true
	b.after("away, with a terminal of which is told that it is", 0)
	b.after("for long", 5*time.Minute, "raised"+broker)
	b.restart()
	b.after("the server begins, without a broker", time.Second)
	b.down = false
	b.set(true, b.now)
	b.after("back, with it", time.Second, "cleared signalling.terminal_offline 100000017", "cleared"+broker)
	b.down = true
	b.after("for a moment", 0)
	b.down = false
	b.after("and over", time.Minute)
	// No wait at all is configured: terminals have their time all the same.
	b.config.After = 0
	b.restart()
	b.set(false, b.now.Add(-time.Hour))
	b.after("begun", 0)
	b.after("not all are back", reconnect-time.Second)
	b.after("it is not", time.Second, "raised signalling.terminal_offline 100000017")
}

func TestNewHook(t *testing.T) {
	for name, c := range map[string]struct{ address, secret, says string }{
		"no address":     {"alerts", secret, "no address"},
		"not protected":  {"http://alerts.example/", secret, "https"},
		"by name":        {"http://localhost:9000/", secret, "https"},
		"another scheme": {"ftp://127.0.0.1/", secret, "https"},
		"short secret":   {"https://alerts.example/", "secret", "at least 32"},
	} {
		if _, err := NewHook(c.address, c.secret, ""); err == nil || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), c.secret+"\n") {
			t.Errorf("%s: %v", name, err)
		}
	}
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("was led elsewhere") }))
	defer elsewhere.Close()
	server := httptest.NewServer(http.RedirectHandler(elsewhere.URL, http.StatusTemporaryRedirect))
	defer server.Close()
	h, err := NewHook(server.URL, secret, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := h.post(t.Context(), alert{code: protocol.CaptureNoCamera}, time.Now()); err == nil || !strings.Contains(err.Error(), "leads elsewhere") {
		t.Errorf("led elsewhere: %v", err)
	}
	// An address may be a secret itself: what is logged has no more of it than its host.
	for name, address := range map[string]string{"led elsewhere": server.URL + "/services/T0KEN", "nobody there": "http://127.0.0.1:1/services/T0KEN?key=T0KEN", "not protected": "http://alerts.example/T0KEN"} {
		h, err := NewHook(address, secret, "")
		if err == nil {
			err = h.post(t.Context(), alert{code: protocol.CaptureNoCamera}, time.Now())
		}
		if err == nil || strings.Contains(err.Error(), "T0KEN") {
			t.Errorf("%s: %v", name, err)
		}
	}
	h.failures = 0
	for range 20 {
		if p := h.pause(); p < look || p > 8*time.Minute {
			t.Errorf("a pause of %v", p)
		}
	}
}
