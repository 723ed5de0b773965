package main

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"time"

	"vindu/clinic/calls"
	"vindu/clinic/metrics"
	"vindu/protocol"
)

// shortestToken is what a token for metrics has to be at least: 16 bytes in hexadecimal.
const shortestToken = 32

// newMetrics listens for Prometheus, if the configuration says where.
func (s *server) newMetrics(ctx context.Context, log *slog.Logger) error {
	m := s.config.Metrics
	if m.Listen == "" {
		return nil
	}
	if err := private(m.Token, 0o077); err != nil {
		return fmt.Errorf("metrics.token: %w", err)
	}
	b, err := os.ReadFile(m.Token)
	if err != nil {
		return fmt.Errorf("metrics.token: %w; openssl rand -hex 32 makes one", err)
	}
	token := string(bytes.TrimSpace(b))
	if len(token) < shortestToken {
		return fmt.Errorf("metrics.token: %s has %d characters, at least %d are needed; openssl rand -hex 32 makes one", m.Token, len(token), shortestToken)
	}
	s.metrics = metrics.New(token, log, s.fleetMetrics, s.callMetrics, s.serverMetrics)
	s.numbers, err = listenLoopback(ctx, "metrics.listen", m.Listen)
	return err
}

// fleetMetrics are about the terminals, all together.
func (s *server) fleetMetrics(ctx context.Context) ([]metrics.Family, error) {
	homes, err := s.register.Homes(ctx)
	if err != nil {
		return nil, err
	}
	states := map[string]float64{"online": 0, "offline": 0, "none": 0}
	talking, pending := 0, uint64(0)
	rehearsed := map[string]float64{"ready": 0, "failed": 0, "never": 0}
	holds := map[protocol.Code]float64{}
	for _, h := range homes {
		if (h.Terminal == protocol.KeyHash{}) {
			states["none"]++
			continue
		}
		state := s.fleet.State(h.Terminal)
		if !state.Online {
			states["offline"]++
			continue
		}
		states["online"]++
		if state.Health == nil {
			continue
		}
		if state.Health.InCall {
			talking++
		}
		switch ready, at, _ := state.Health.Rehearsed.Verdict(); {
		case at == 0:
			rehearsed["never"]++
		case ready:
			rehearsed["ready"]++
		default:
			rehearsed["failed"]++
		}
		pending += state.Health.Pending
		raised := make([]protocol.Code, 0, len(state.Health.Conditions))
		for _, c := range state.Health.Conditions {
			raised = append(raised, c.Code)
		}
		for _, c := range protocol.Showing(raised) { // what follows from another one is not counted besides
			if protocol.Known(c) {
				holds[c]++
			} else {
				holds[protocol.Unknown]++
			}
		}
	}
	terminals := metrics.Family{Name: "vindu_homes", Help: "Homes by how their terminal is connected; none: they have no terminal.", Type: metrics.Gauge}
	for state, n := range states {
		terminals.Samples = append(terminals.Samples, metrics.Sample{Labels: []metrics.Label{{Name: "state", Value: state}}, Value: n})
	}
	conditions := metrics.Family{Name: "vindu_terminal_conditions", Help: "Terminals that are online and of which a condition holds; what depends on another one that holds is not counted.", Type: metrics.Gauge}
	for c, n := range holds {
		conditions.Samples = append(conditions.Samples, metrics.Sample{Labels: about(c), Value: n})
	}
	counted := s.fleet.Counters()
	rehearsals := metrics.Family{Name: "vindu_terminals_rehearsed", Help: "Terminals that are online, by how the last call that they rehearsed went.", Type: metrics.Gauge}
	for state, n := range rehearsed {
		rehearsals.Samples = append(rehearsals.Samples, metrics.Sample{Labels: []metrics.Label{{Name: "state", Value: state}}, Value: n})
	}
	return []metrics.Family{
		terminals, conditions, rehearsals,
		metrics.One("vindu_events_committed_total", "Events of terminals that were stored since the server began.", metrics.Counter, float64(counted.Committed)),
		metrics.One("vindu_events_repeated_total", "Events that came again after they had been stored, and were recognised, since the server began.", metrics.Counter, float64(counted.Repeated)),
		metrics.One("vindu_events_reported_total", "Of the stored events those that came by HTTPS, past the broker, since the server began.", metrics.Counter, float64(counted.Reported)),
		metrics.One("vindu_terminals_in_call", "Terminals that say that they are in a call.", metrics.Gauge, float64(talking)),
		metrics.One("vindu_terminal_events_pending", "Events that wait in the outboxes of terminals that are online.", metrics.Gauge, float64(pending)),
		metrics.One("vindu_terminal_events_dropped_total", "Events that terminals had to drop before the clinic had them, as they have told since the server began.", metrics.Counter, float64(counted.Lost)),
	}, nil
}

// about are the labels of a code: words of the register alone.
func about(c protocol.Code) []metrics.Label {
	f := protocol.Explain(c)
	return []metrics.Label{{Name: "code", Value: string(c)}, {Name: "severity", Value: string(f.Severity)}, {Name: "who", Value: string(f.Who)}}
}

// callMetrics are about calls, all together.
func (s *server) callMetrics(context.Context) ([]metrics.Family, error) {
	ended := metrics.Family{Name: "vindu_calls_ended_total", Help: "Calls that have ended since the server began, by why.", Type: metrics.Counter}
	for code, n := range s.records.Ended() {
		ended.Samples = append(ended.Samples, metrics.Sample{Labels: about(code), Value: float64(n)})
	}
	all := []metrics.Family{ended, metrics.One("vindu_calls_running", "Calls that run.", metrics.Gauge, float64(s.calls.Running()))}
	return append(all, qualityMetrics(s.records.Quality())...), nil
}

// qualityMetrics are how calls were, as each side has told.
func qualityMetrics(told map[protocol.Side]calls.Heard) []metrics.Family {
	family := func(name, help string, kind metrics.Type, of func(calls.Heard, metrics.Label) []metrics.Sample) metrics.Family {
		f := metrics.Family{Name: name, Help: help, Type: kind}
		for side, h := range told {
			f.Samples = append(f.Samples, of(h, metrics.Label{Name: "role", Value: string(side)})...)
		}
		return f
	}
	sum := func(pick func(calls.Heard) float64) func(calls.Heard, metrics.Label) []metrics.Sample {
		return func(h calls.Heard, l metrics.Label) []metrics.Sample {
			return []metrics.Sample{{Labels: []metrics.Label{l}, Value: pick(h)}}
		}
	}
	spread := func(pick func(calls.Heard) calls.Spread) func(calls.Heard, metrics.Label) []metrics.Sample {
		return func(h calls.Heard, l metrics.Label) []metrics.Sample {
			s := pick(h)
			if s.Counts == nil {
				return nil
			}
			return metrics.Buckets(s.Bounds, s.Counts, s.Sum, l)
		}
	}
	return []metrics.Family{
		family("vindu_call_talked_seconds_total", "How long calls were talked in, by who tells; each call is told by both ends.", metrics.Counter, sum(func(h calls.Heard) float64 { return h.Talked })),
		family("vindu_call_frozen_seconds_total", "How long received pictures stood still.", metrics.Counter, sum(func(h calls.Heard) float64 { return h.Frozen })),
		family("vindu_call_concealed_seconds_total", "Received sound that had to be made up.", metrics.Counter, sum(func(h calls.Heard) float64 { return h.Concealed })),
		family("vindu_call_grade", "Calls by the mean opinion score of their received sound, by the E-model.", metrics.Histogram, spread(func(h calls.Heard) calls.Spread { return h.Grade })),
		family("vindu_call_round_trip_seconds", "Calls by their median round trip.", metrics.Histogram, spread(func(h calls.Heard) calls.Spread { return h.RTT })),
		family("vindu_call_erle_decibels", "Calls by how much less their echo was.", metrics.Histogram, spread(func(h calls.Heard) calls.Spread { return h.ERLE })),
		family("vindu_call_processors", "Calls by the processors that the terminal's program used.", metrics.Histogram, spread(func(h calls.Heard) calls.Spread { return h.CPU })),
		family("vindu_call_temperature_celsius", "Calls by the terminal's highest temperature.", metrics.Histogram, spread(func(h calls.Heard) calls.Spread { return h.Heat })),
	}
}

// serverMetrics are about this server.
func (s *server) serverMetrics(ctx context.Context) ([]metrics.Family, error) {
	alarms, err := s.register.Alarms(ctx, 0)
	if err != nil {
		return nil, err
	}
	open := map[protocol.Code]float64{}
	for _, a := range alarms {
		open[a.Code]++
	}
	raised := metrics.Family{Name: "vindu_alarms_open", Help: "Alarms that nobody has settled.", Type: metrics.Gauge}
	for c, n := range open {
		raised.Samples = append(raised.Samples, metrics.Sample{Labels: about(c), Value: n})
	}
	up := 0.0
	if s.fleet.Up() {
		up = 1
	}
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	expiry := metrics.Family{Name: "vindu_certificate_expiry_timestamp_seconds", Help: "When the certification authorities end, in seconds since 1970.", Type: metrics.Gauge, Samples: []metrics.Sample{
		{Labels: []metrics.Label{{Name: "role", Value: "issuer"}}, Value: unix(s.authority.Expires())},
		{Labels: []metrics.Label{{Name: "role", Value: "root"}}, Value: unix(s.authority.RootExpires())},
	}}
	return []metrics.Family{
		raised, expiry,
		metrics.One("vindu_broker_up", "1 while the server is connected to its message broker.", metrics.Gauge, up),
		metrics.One("vindu_memory_heap_bytes", "Memory of the heap in use.", metrics.Gauge, float64(memory.HeapAlloc)),
		metrics.One("vindu_goroutines", "Goroutines of the server.", metrics.Gauge, float64(runtime.NumGoroutine())),
		{Name: "vindu_build_info", Help: "1, with the version.", Type: metrics.Gauge, Samples: []metrics.Sample{{Labels: []metrics.Label{{Name: "version", Value: release}}, Value: 1}}},
	}, nil
}

func unix(t time.Time) float64 { return float64(t.Unix()) }
