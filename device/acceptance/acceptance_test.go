package acceptance_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"vindu/device/acceptance"
	"vindu/device/call"
	"vindu/protocol"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestAllPass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		var progress []acceptance.Progress
		checks, err := b.runner.Check(t.Context(), proof{0, true}, all(), func(p acceptance.Progress) { progress = append(progress, p) })
		if err != nil || findings(checks) != "" {
			t.Fatalf("%v: %s", err, findings(checks))
		}
		var names []string
		for _, c := range checks {
			names = append(names, c.Name)
		}
		if !reflect.DeepEqual(names, acceptance.Names()) || !reflect.DeepEqual(names, protocol.CheckNames()) || len(names) > protocol.MaxChecks {
			t.Errorf("%v", names)
		}
		if want := []string{
			"ledger: camera opens", "camera open", "camera closed", "ledger: camera closed",
			"ledger: microphone opens", "microphone open", "microphone closed", "ledger: microphone closed", "allocated by turn",
		}; !reflect.DeepEqual(b.log, want) {
			t.Errorf("%v", b.log)
		}
		if want := []string{"relay", "turns", "turn"}; !reflect.DeepEqual(b.asked, want) {
			t.Errorf("asked %v, want each once: %v", b.asked, want)
		}
		last := progress[len(progress)-1]
		if progress[0].Current != "screen" || progress[0].Total != len(names) || last.Current != "" || len(last.Done) != len(names) {
			t.Errorf("from %+v to %+v", progress[0], last)
		}
		if first, last := b.shown[0], b.shown[len(b.shown)-1]; !first.Running || first.Technician.Name != "Bo Dahl" || last != (acceptance.Status{}) {
			t.Errorf("shown %+v", b.shown)
		}
		if !slices.ContainsFunc(b.shown, func(s acceptance.Status) bool { return s.Camera }) ||
			!slices.ContainsFunc(b.shown, func(s acceptance.Status) bool { return s.Microphone }) {
			t.Errorf("not shown that camera and microphone are on: %+v", b.shown)
		}
		if _, err := protocol.Encode(&protocol.HandOver{
			Version: 1, ID: protocol.Nonce{1}, Terminal: protocol.KeyHash{1}, Organisation: "o", Home: "h", Technician: proof{}.Technician(),
			Software: "s", KeyGrade: "file", Checks: checks, At: 1,
		}); err != nil {
			t.Errorf("a hand-over record cannot hold them: %v", err)
		}
	})
}

func TestFindings(t *testing.T) {
	noClinic := func(code protocol.Code) string {
		return "network.tls failed " + string(code) + "; network.udp skipped " + string(code) + "; relay.allocation skipped " + string(code) +
			"; clinic.latency skipped " + string(code) + "; clinic.loss skipped " + string(code) + "; time.offset skipped " + string(code) + "; call.robot skipped " + string(code)
	}
	coded := func(c protocol.Code) error { return protocol.WithCode(c, errors.New("broken on purpose")) }
	for _, c := range []struct {
		name  string
		wrong func(b *bench)
		want  string
	}{
		{"no screen", func(b *bench) { b.screen = protocol.ScreenNone }, "screen failed capture.no_screen"},
		{"no panel", func(b *bench) { b.panel = protocol.PanelMissing }, "panel skipped capture.no_panel"},
		{"dark, and so not sharp", func(b *bench) { b.sight.Brightness, b.sight.Sharpness = 0.01, 0.2 }, "camera.brightness failed capture.dark; camera.sharpness skipped capture.dark"},
		{"into the sun", func(b *bench) { b.sight.Brightness = 0.97 }, "camera.brightness failed capture.bright"},
		{"film on the lens", func(b *bench) { b.sight.Sharpness = 2 }, "camera.sharpness failed capture.blurred"},
		{"a picture that hangs", func(b *bench) { b.sight.Motion = 0 }, "camera.motion failed capture.still"},
		{"a test picture", func(b *bench) { b.sight.Synthetic = true },
			"camera.brightness skipped capture.test_picture; camera.sharpness skipped capture.test_picture; camera.motion skipped capture.test_picture"},
		{"camera in use", func(b *bench) { b.lookErr = coded(protocol.CaptureCameraBusy) },
			"camera.brightness failed capture.camera_busy; camera.sharpness failed capture.camera_busy; camera.motion failed capture.camera_busy"},
		{"silence", func(b *bench) { b.hearing.RMS, b.hearing.Heard = -100, false }, "microphone.level failed capture.silent; loudspeaker.chirp failed capture.loudspeaker_unheard"},
		{"noise", func(b *bench) { b.hearing.RMS = -5 }, "microphone.level failed capture.loud"},
		{"overdriven", func(b *bench) { b.hearing.Clipped = 0.2 }, "microphone.level failed capture.loud"},
		{"loudspeaker unheard", func(b *bench) { b.hearing.Heard = false }, "loudspeaker.chirp failed capture.loudspeaker_unheard"},
		{"no loudspeaker", func(b *bench) { b.hearing.Speaker = false }, "loudspeaker.chirp failed capture.no_speaker"},
		{"no microphone", func(b *bench) { b.hearing.Microphone = false }, "microphone.level failed capture.no_microphone; loudspeaker.chirp skipped capture.no_microphone"},
		{"no sound at all", func(b *bench) { b.listenErr = errors.New("no code") }, "microphone.level failed capture.no_microphone; loudspeaker.chirp failed capture.no_microphone"},
		{"test sound", func(b *bench) { b.hearing.Synthetic = true }, "microphone.level skipped capture.test_sound; loudspeaker.chirp skipped capture.test_sound"},
		{"no address", func(b *bench) { b.pathErr = errors.New("no route") }, "network.address failed ip.no_address; wifi.signal skipped ip.no_address; " + noClinic(protocol.IPNone)},
		{"cable", func(b *bench) { b.path.Wireless = false }, "wifi.signal skipped ip.wired"},
		{"weak", func(b *bench) { b.path.Signal = -80 }, "wifi.signal failed ip.weak_wifi"},
		{"clinic refuses", func(b *bench) { b.relayErr = coded(protocol.LinkRefused) }, noClinic(protocol.LinkRefused)},
		{"clinic not reached", func(b *bench) { b.relayErr = errors.New("no code") }, noClinic(protocol.LinkUnreachable)},
		{"UDP blocked", func(b *bench) { b.echoErr["turn"] = errors.New("silence") }, "network.udp failed egress.udp_blocked; clinic.loss skipped egress.udp_blocked"},
		{"no UDP at the clinic", func(b *bench) { b.servers[0].URLs = b.servers[0].URLs[1:] }, "network.udp skipped egress.no_udp_offered; clinic.loss skipped egress.no_udp_offered"},
		{"TLS is tampered with", func(b *bench) { b.echoErr["turns"] = coded(protocol.IdentityPin) }, "network.tls failed identity.ca_mismatch"},
		{"no relay", func(b *bench) { b.echoErr["turn"], b.echoErr["turns"] = errors.New("silence"), errors.New("silence") },
			"network.tls failed egress.relay_unreachable; network.udp failed egress.udp_blocked; relay.allocation failed egress.relay_unreachable; clinic.latency skipped egress.relay_unreachable; clinic.loss skipped egress.udp_blocked"},
		{"no allocation", func(b *bench) { b.allocateErr = errors.New("486") }, "relay.allocation failed egress.relay_unreachable"},
		{"slow", func(b *bench) {
			b.echoes["turns"] = acceptance.Echoes{Sent: 10, RTT: time.Second}
		}, "clinic.latency failed quality.delay"},
		{"lossy", func(b *bench) {
			b.echoes["turn"] = acceptance.Echoes{Sent: 50, Lost: 5, RTT: time.Millisecond}
		}, "clinic.loss failed quality.loss"},
		{"clock ahead", func(b *bench) { b.offset = time.Minute }, "time.offset failed time.clock_off"},
		{"clock behind", func(b *bench) { b.offset = -6 * time.Second }, "time.offset failed time.clock_off"},
		{"no time", func(b *bench) { b.timeErr = errors.New("no code") }, "time.offset failed time.unknown"},
		{"robot refuses", func(b *bench) { b.testErr = coded(protocol.LinkTooMany) }, "call.robot failed link.too_many_requests"},
		{"no path for the test call", func(b *bench) { b.far.Outcome = protocol.ICEFailed }, "call.robot failed ice.failed"},
		{"robot sees nothing", func(b *bench) { b.far.Pictures = 0 }, "call.robot failed media.test_call"},
		{"robot sees nothing that stands alone", func(b *bench) { b.far.Keys = 0 }, "call.robot failed media.test_call"},
		{"robot hears nothing", func(b *bench) { b.far.Sounds = 3 }, "call.robot failed media.test_call"},
		{"terminal sees nothing", func(b *bench) { b.near.Quality.FramesDecoded = 0 }, "call.robot failed media.test_call"},
		{"terminal hears nothing", func(b *bench) { b.near.Stages = nil }, "call.robot failed media.test_call"},
		{"no camera, so the robot need not see", func(b *bench) { b.near.Camera, b.far.Pictures = "none", 0 }, ""},
		{"the terminal knows of no call", func(b *bench) { b.near = nil }, "call.robot failed media.test_call"},
		{"the test call does not end", func(b *bench) { b.rings = 1000 }, "call.robot failed media.test_call"},
		{"the ledger cannot be written", func(b *bench) { b.appendErr = fmt.Errorf("write: %w", syscall.ENOSPC) },
			"camera.brightness failed storage.full; camera.sharpness failed storage.full; camera.motion failed storage.full; microphone.level failed storage.full; loudspeaker.chirp failed storage.full"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				c.wrong(b)
				checks, err := b.check()
				if got := findings(checks); err != nil || got != c.want || len(checks) != len(acceptance.Names()) {
					t.Errorf("%v\n got %s\nwant %s", err, got, c.want)
				}
				if b.appendErr != nil && slices.Contains(b.log, "camera open") {
					t.Error("opened without a record")
				}
			})
		})
	}
}

// TestProof: without a technician and a fresh press of the button nothing is opened and the robot does not ring.
func TestProof(t *testing.T) {
	for _, c := range []struct {
		name  string
		proof acceptance.Proof
		code  protocol.Code
	}{
		{"nobody", nil, protocol.AuthTechnician},
		{"not pressed", proof{}, protocol.AuthButton},
		{"not pressed, though a time is there", proof{time.Second, false}, protocol.AuthButton},
		{"pressed long ago", proof{acceptance.PressLife + time.Second, true}, protocol.AuthButton},
		{"pressed in the future", proof{-time.Second, true}, protocol.AuthButton},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				checks, err := b.runner.Check(t.Context(), c.proof, all(), nil)
				if err != nil {
					t.Fatal(err)
				}
				for _, got := range checks {
					guarded := strings.HasPrefix(got.Name, "camera.") || got.Name == "microphone.level" || got.Name == "loudspeaker.chirp" || got.Name == "call.robot"
					if (got.State == protocol.CheckFailed) != guarded || guarded && got.Code != c.code {
						t.Errorf("%+v", got)
					}
				}
				if want := []string{"allocated by turn"}; !reflect.DeepEqual(b.log, want) {
					t.Errorf("%v", b.log)
				}
			})
		})
	}
}

// TestUnseen: without a screen that a person can see nothing is opened, also if it goes away meanwhile; whether its code can be read a person has to say.
func TestUnseen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.dark = 3 // it goes away after the second look: that the check began
		checks, err := b.runner.Check(t.Context(), proof{0, true}, acceptance.Wanted{Names: []string{"screen", "camera.motion", "microphone.level"}}, nil)
		if err != nil || findings(checks) != "screen skipped capture.screen_not_compared; camera.motion failed capture.no_screen; microphone.level failed capture.no_screen" || len(b.log) > 0 {
			t.Errorf("%v: %s, %v", err, findings(checks), b.log)
		}
		checks, err = b.check("camera.motion", "microphone.level", "call.robot")
		if want := "camera.motion failed capture.no_screen; microphone.level failed capture.no_screen; call.robot failed capture.no_screen"; err != nil || findings(checks) != want {
			t.Errorf("%v: %s", err, findings(checks))
		}
	})
}

// TestSlowNetwork: each check may be the only one that is wanted, and has the time that its questions take.
func TestSlowNetwork(t *testing.T) {
	for _, name := range acceptance.Names() {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t)
			b.takes = 2*time.Second - 20*time.Millisecond // 50 packets, 20 ms apart, and a second for the last
			if checks, err := b.check(name); err != nil || findings(checks) != "" {
				t.Errorf("%s: %v, %s", name, err, findings(checks))
			}
		})
	}
}

func TestSome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		checks, err := b.check("clinic.loss", "camera.motion")
		if err != nil || len(checks) != 2 || checks[0].Name != "camera.motion" || checks[1].Name != "clinic.loss" || checks[1].State != protocol.CheckPassed {
			t.Errorf("%v: %+v", err, checks)
		}
		if _, err := b.check("camera.motion", "camera.smell"); !errors.Is(err, acceptance.ErrUnknown) {
			t.Errorf("%v", err)
		}
	})
}

// TestStuck: a device that is not closed ends the process.
func TestStuck(t *testing.T) {
	for _, c := range []struct {
		name  string
		wrong func(b *bench)
	}{
		{"the camera is left open", func(b *bench) { b.leaves = true }},
		{"the driver hangs", func(b *bench) { b.hangs = make(chan struct{}) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				c.wrong(b)
				began := time.Now()
				if _, err := b.check(); !errors.Is(err, call.ErrDeviceStuck) {
					t.Errorf("%v", err)
				}
				if took := time.Since(began); took > 20*time.Second {
					t.Errorf("noticed after %v", took)
				}
				if b.hangs != nil {
					close(b.hangs)
				}
			})
		})
	}
}

// TestStop: whoever says no at the terminal is obeyed.
func TestStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		if b.runner.Stop() {
			t.Error("stopped what does not run")
		}
		b.watches = true
		type result struct {
			checks []protocol.Check
			err    error
		}
		done := make(chan result)
		go func() {
			checks, err := b.check()
			done <- result{checks, err}
		}()
		synctest.Wait()
		if _, err := b.check(); !errors.Is(err, acceptance.ErrRunning) {
			t.Errorf("a second one: %v", err)
		}
		if !b.runner.Stop() {
			t.Error("did not run")
		}
		r := <-done
		if protocol.CodeOf(r.err) != protocol.AnswerDeclined || len(r.checks) != 2 || b.runner.Stop() {
			t.Errorf("%v, %+v", r.err, r.checks)
		}
		if last := b.log[len(b.log)-1]; last != "ledger: camera closed" {
			t.Errorf("%v", b.log)
		}
	})
}

// TestClose: a terminal that ends waits until its check has closed the camera, and none begins after it.
func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.watches = true
		done := make(chan error)
		go func() {
			_, err := b.check()
			done <- err
		}()
		synctest.Wait()
		if err := b.runner.Close(); err != nil {
			t.Error(err)
		}
		if last := b.log[len(b.log)-1]; last != "ledger: camera closed" || len(b.store) > 0 {
			t.Errorf("%v; it remembers %x", b.log, b.store)
		}
		if err := <-done; protocol.CodeOf(err) != protocol.LinkTerminalBusy || errors.Is(err, acceptance.ErrClosed) {
			t.Errorf("the check ended by %v", err)
		}
		if _, err := b.check(); !errors.Is(err, acceptance.ErrClosed) {
			t.Errorf("afterwards: %v", err)
		}
		b = newBench(t)
		b.leaves = true
		if _, err := b.check(); !errors.Is(err, call.ErrDeviceStuck) {
			t.Errorf("%v", err)
		}
		if err := b.runner.Close(); !errors.Is(err, call.ErrDeviceStuck) {
			t.Errorf("with a camera that is open: %v", err)
		}
	})
}

// TestOwed: an end that could not be written is written before anything else opens, and at the next start if there is no other opening.
func TestOwed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		full := func() {
			b.appendErr = nil
			b.opened = func() { b.appendErr = fmt.Errorf("write: %w", syscall.ENOSPC) }
		}
		full()
		checks, err := b.check("camera.motion", "microphone.level")
		if err != nil || findings(checks) != "microphone.level failed storage.full" {
			t.Errorf("%v: %s", err, findings(checks))
		}
		if want := []string{"ledger: camera opens", "camera open", "camera closed"}; !reflect.DeepEqual(b.log, want) || len(b.store) == 0 {
			t.Errorf("%v; it remembers %x", b.log, b.store)
		}
		b.log, b.appendErr, b.opened = nil, nil, nil
		if _, err := b.check("microphone.level"); err != nil {
			t.Error(err)
		}
		if want := []string{"ledger: camera closed", "ledger: microphone opens", "microphone open", "microphone closed", "ledger: microphone closed"}; !reflect.DeepEqual(b.log, want) || len(b.store) > 0 {
			t.Errorf("%v; it remembers %x", b.log, b.store)
		}
		full()
		if _, err := b.check("camera.motion"); err != nil {
			t.Error(err)
		}
		b.log, b.appendErr, b.opened = nil, nil, nil
		if err := b.runner.Recover(); err != nil || !reflect.DeepEqual(b.log, []string{"ledger: camera closed"}) || len(b.store) > 0 {
			t.Errorf("%v: %v; it remembers %x", err, b.log, b.store)
		}
	})
}

// TestCalls: callers and checks do not meet.
func TestCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		inner := decider{call.Decision{Decision: protocol.Ringing, Ring: 10 * time.Second, MaxDuration: time.Hour}}
		policy := b.runner.Policy(&inner)
		decide := func(id protocol.CallID) call.Decision {
			return policy.Decide(&call.Proof{Invitation: &protocol.Invitation{Call: id}}, time.Now())
		}
		if got := decide(protocol.CallID{1}); got != inner.d {
			t.Errorf("at rest %+v", got)
		}
		b.busy = true
		if _, err := b.check(); protocol.CodeOf(err) != protocol.AnswerBusy || b.runner.Stop() {
			t.Errorf("in a call: %v", err)
		}
		b.busy = false
		var asked int
		runner, err := acceptance.New(acceptance.Config{
			Devices: b, Network: b, Outbox: b, Store: store{b}, Busy: func() bool { return false }, Now: time.Now, Log: slog.New(slog.DiscardHandler),
			Clinic: asker{b, func(id protocol.CallID) {
				asked++
				for _, kind := range []protocol.Decision{protocol.Ringing, protocol.Quiet} {
					inner.d.Decision = kind
					if got := policy.Decide(&call.Proof{Invitation: &protocol.Invitation{Call: id}}, time.Now()); got.Decision != protocol.Ringing || got.Ring >= 10*time.Second || got.MaxDuration > time.Minute {
						t.Errorf("the robot is answered %+v", got)
					}
					if got := decide(protocol.CallID{1}); got.Decision != protocol.Busy {
						t.Errorf("others are answered %+v", got)
					}
				}
				inner.d = call.Decision{Decision: protocol.Refused, Reason: protocol.ScreenNone}
				if got := decide(id); got != inner.d {
					t.Errorf("a terminal that answers nobody answers the robot: %+v", got)
				}
			}},
		})
		if err != nil {
			t.Fatal(err)
		}
		policy = runner.Policy(&inner)
		if _, err := runner.Check(t.Context(), proof{0, true}, all("call.robot"), nil); err != nil || asked == 0 {
			t.Errorf("%v, asked %d times", err, asked)
		}
		inner.d = call.Decision{Decision: protocol.Quiet}
		if got := decide(protocol.CallID{1}); got != inner.d {
			t.Errorf("afterwards %+v", got)
		}
	})
}

type decider struct{ d call.Decision }

func (d *decider) Decide(*call.Proof, time.Time) call.Decision { return d.d }

// asker looks around whenever the clinic is asked about the test call.
type asker struct {
	*bench
	look func(protocol.CallID)
}

func (a asker) TestCall(_ context.Context, id protocol.CallID, _ string) (*protocol.TestCall, error) {
	a.look(id)
	return &protocol.TestCall{Call: id, Ended: true, Outcome: protocol.ICEFailed}, nil
}

// TestRecover: what a power cut ended is closed in the ledger at the next start, once.
func TestRecover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.leaves = true
		if _, err := b.check("camera.motion"); err == nil {
			t.Fatal("not stuck")
		}
		b.log = nil
		again := func() error {
			r, err := acceptance.New(acceptance.Config{
				Devices: b, Network: b, Clinic: b, Outbox: b, Store: store{b}, Busy: func() bool { return false }, Now: time.Now, Log: slog.New(slog.DiscardHandler),
			})
			if err != nil {
				t.Fatal(err)
			}
			return r.Recover()
		}
		for range 2 {
			if err := again(); err != nil {
				t.Fatal(err)
			}
			if want := []string{"ledger: camera closed"}; !reflect.DeepEqual(b.log, want) {
				t.Errorf("%v", b.log)
			}
		}
		b.store = []byte("garbage")
		if err := again(); !errors.Is(err, protocol.ErrMalformed) {
			t.Errorf("%v", err)
		}
		if err := again(); err != nil {
			t.Errorf("the second time: %v", err)
		}
	})
}
