package health

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"vindu/device/network"
	"vindu/protocol"
)

// told remembers what a Prober tells.
type told struct {
	mu   sync.Mutex
	last map[string][]Finding
}

func (t *told) tell(finder string, found ...Finding) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.last == nil {
		t.last = map[string][]Finding{}
	}
	t.last[finder] = slices.Clone(found)
}

func (t *told) of(finder string) string {
	synctest.Wait()
	t.mu.Lock()
	defer t.mu.Unlock()
	var s []string
	for _, f := range t.last["probe."+finder] {
		s = append(s, string(f.Code))
	}
	return strings.Join(s, " ")
}

// probing runs probes in a bubble until f returns.
func probing(t *testing.T, probes []Probe, f func(t *testing.T, p *Prober, told *told)) {
	synctest.Test(t, func(t *testing.T) {
		to := &told{}
		p := NewProber(probes, to.tell, slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- p.Run(ctx) }()
		f(t, p, to)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// TestProbeHangs raises and clears protocol.CheckHangs: a probe that does not end is told, is not run again, and is in nobody's way.
func TestProbeHangs(t *testing.T) {
	var release chan struct{} // made in the bubble
	var runs, others atomic.Int64
	probing(t, []Probe{
		{Name: "stuck", Every: time.Minute, Timeout: 5 * time.Second, Run: func(context.Context) ([]Finding, error) {
			if runs.Add(1) == 2 {
				release = make(chan struct{})
				<-release // not even the context ends it
			}
			return []Finding{{Code: protocol.HeatHot}}, nil
		}},
		{Name: "other", Every: time.Minute, Run: func(context.Context) ([]Finding, error) { others.Add(1); return nil, nil }},
	}, func(t *testing.T, _ *Prober, told *told) {
		<-time.After(time.Second)
		if got := told.of("stuck"); got != "heat.hot" {
			t.Errorf("first %q", got)
		}
		<-time.After(75 * time.Second)
		if got := told.of("stuck"); got != "heat.hot unknown.check_hangs" {
			t.Errorf("hanging %q", got)
		}
		<-time.After(10 * time.Minute)
		if runs.Load() != 2 || others.Load() < 10 {
			t.Errorf("%d runs, %d of the other", runs.Load(), others.Load())
		}
		close(release)
		if got := told.of("stuck"); got != "heat.hot" {
			t.Errorf("released %q", got)
		}
		<-time.After(2 * time.Minute)
		if runs.Load() < 3 {
			t.Errorf("not run again: %d", runs.Load())
		}
	})
}

// TestProbeFails raises and clears protocol.CheckFails, by an error and by a panic.
func TestProbeFails(t *testing.T) {
	for name, fail := range map[string]func() error{
		"error": func() error { return errors.New("no such file") },
		"panic": func() error { panic("out of range") },
	} {
		t.Run(name, func(t *testing.T) {
			var fails atomic.Bool
			fails.Store(true)
			probing(t, []Probe{{Name: "p", Every: time.Minute, Run: func(context.Context) ([]Finding, error) {
				if fails.Load() {
					return nil, fail()
				}
				return nil, nil
			}}}, func(t *testing.T, _ *Prober, told *told) {
				if got := told.of("p"); got != string(protocol.CheckFails) {
					t.Errorf("%q", got)
				}
				fails.Store(false)
				<-time.After(2 * time.Minute)
				if got := told.of("p"); got != "" {
					t.Errorf("not over: %q", got)
				}
			})
		})
	}
}

// TestCostlyProbes are not run at the start nor in a call, and end when one begins.
func TestCostlyProbes(t *testing.T) {
	var began, ended atomic.Int64
	probing(t, []Probe{{Name: "costly", Every: time.Hour, Timeout: time.Minute, Costly: true, Run: func(ctx context.Context) ([]Finding, error) {
		began.Add(1)
		select {
		case <-ctx.Done():
			ended.Add(1)
		case <-time.After(30 * time.Second):
		}
		return []Finding{{Code: protocol.EgressUDP}}, ctx.Err()
	}}}, func(t *testing.T, p *Prober, told *told) {
		<-time.After(costlyFirst - time.Second)
		if began.Load() != 0 {
			t.Error("run at the start")
		}
		<-time.After(costlyFirst + time.Minute)
		if began.Load() != 1 || told.of("costly") != string(protocol.EgressUDP) {
			t.Fatalf("%d runs, %q", began.Load(), told.of("costly"))
		}
		p.Hurry("costly")
		<-time.After(time.Second)
		p.SetInCall(true)
		synctest.Wait()
		if ended.Load() != 1 || told.of("costly") != string(protocol.EgressUDP) {
			t.Errorf("ended %d times by the call, %q", ended.Load(), told.of("costly"))
		}
		p.Hurry("costly")
		<-time.After(5 * time.Hour)
		if began.Load() != 2 {
			t.Errorf("%d runs in a call", began.Load()-2)
		}
		p.SetInCall(false)
		<-time.After(2*costlyFirst + time.Minute)
		if began.Load() != 3 {
			t.Errorf("%d runs after the call", began.Load()-2)
		}
	})
}

// TestHurry: what may have changed is looked at now, but not over and over.
func TestHurry(t *testing.T) {
	var runs atomic.Int64
	probing(t, []Probe{{Name: "p", Every: time.Hour, Run: func(context.Context) ([]Finding, error) { runs.Add(1); return nil, nil }}}, func(t *testing.T, p *Prober, _ *told) {
		<-time.After(time.Minute)
		for range 30 {
			p.Hurry("p")
			<-time.After(time.Second)
		}
		if n := runs.Load(); n < 3 || n > 5 {
			t.Errorf("%d runs in half a minute of hurry", n)
		}
	})
}

// TestHurryIsKept: what changes just after a look, or during one, is looked at a moment later, not in an hour.
func TestHurryIsKept(t *testing.T) {
	var runs atomic.Int64
	probing(t, []Probe{{Name: "p", Every: time.Hour, Timeout: time.Minute, Run: func(context.Context) ([]Finding, error) {
		runs.Add(1)
		<-time.After(4 * time.Second)
		return nil, nil
	}}}, func(t *testing.T, p *Prober, _ *told) {
		for n, after := range []time.Duration{2 * time.Second, 7 * time.Second} { // while it runs, and when it has just ended
			<-time.After(time.Minute)
			before := runs.Load()
			p.Hurry("p")
			<-time.After(after)
			p.Hurry("p")
			<-time.After(hurryEvery + 4*time.Second)
			if ran := runs.Load() - before; ran != 2 {
				t.Errorf("case %d: %d runs", n, ran)
			}
		}
	})
}

// TestProbesAreCheap counts how often the usual probes wake the processor, and what they write, in a day.
func TestProbesAreCheap(t *testing.T) {
	k := board()
	store := &memory{}
	wrote := 0
	var runs atomic.Int64
	probes := []Probe{
		(&Power{Files: k, Store: store}).Probe(), Heat(k), Memory(k), Space(k, func() (uint64, uint64, error) { return 1 << 40, 1 << 41, nil }),
		Disk(drive(func(b []byte) error { wrote += len(b); return nil })), Outbox(func() uint64 { return 0 }), Time(func() (time.Duration, bool) { return 0, true }),
		Network(k, noInterfaces(), never), WiFi(noInterfaces(), nil), Names("clinic.example", func() bool { return true }, nil), Portal("clinic.example:80", func() bool { return true }, nil),
		Egress(never, Relay{}), Link(func() Trip { return Trip{} }), new(Figures).Probe(k, noInterfaces(), func() Trip { return Trip{} }, ""),
	}
	for i := range probes {
		inner := probes[i].Run
		probes[i].Run = func(ctx context.Context) ([]Finding, error) { runs.Add(1); return inner(ctx) }
	}
	synctest.Test(t, func(t *testing.T) {
		p := NewProber(probes, func(string, ...Finding) {}, slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithTimeout(t.Context(), 24*time.Hour)
		defer cancel()
		if err := p.Run(ctx); err != nil {
			t.Error(err)
		}
		t.Logf("in a day: woken %d times for %d runs; %d bytes of the disk probe, %d writes of the power probe", p.wakes, runs.Load(), wrote, store.writes)
		if p.wakes > 4500 || wrote > 1000 || store.writes > 2 {
			t.Error("too often")
		}
	})
}

func noInterfaces() Interfaces {
	return func(context.Context) ([]network.Interface, error) { return nil, nil }
}

func TestTemperature(t *testing.T) {
	for _, tt := range []struct {
		name  string
		zones map[string]string
		want  float64
		known bool
	}{
		{"none", nil, 0, false},
		{"unreadable", map[string]string{"0": "warm"}, 0, false},
		{"the hottest", map[string]string{"0": "41000\n", "1": "66500\n", "2": "50000\n"}, 66.5, true},
		{"a freezing one", map[string]string{"0": "-4000\n"}, -4, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			files := fstest.MapFS{}
			for zone, at := range tt.zones {
				files["sys/class/thermal/thermal_zone"+zone+"/temp"] = &fstest.MapFile{Data: []byte(at)}
			}
			if at, known := Temperature(files); at != tt.want || known != tt.known {
				t.Errorf("%v, %v, want %v, %v", at, known, tt.want, tt.known)
			}
		})
	}
}
