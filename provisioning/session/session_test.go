package session_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"vindu/protocol"
	"vindu/provisioning/session"
	"vindu/provisioning/session/sessiontest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const password = protocol.Secret("correct horse battery")

var wifi = &session.Network{Kind: session.WiFi, SSID: "Storgata 17", Security: session.WPA2, Password: password, Country: "NO"}

// log keeps what both ends log.

func TestFromBoxToHandOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.presses(20 * time.Second)
		b.host.EnrolTime, b.host.CheckTime = 40*time.Second, 30*time.Second
		b.serve()
		v, h := voucher(), record()
		if err := errors.Join(b.with(b.technician(v, h)), b.done(v, h)); err != nil {
			t.Fatal(err)
		}
		p := b.host.Proofs[0]
		if ago, ok := p.Pressed(); !ok || ago > 10*time.Minute || p.Technician() != sessiontest.Person || p.Mandate() == (protocol.Nonce{}) {
			t.Errorf("proof %+v", p)
		}
		if _, ok := new(session.Proof).Pressed(); ok {
			t.Error("an empty proof proves something")
		}
	})
}

// TestCablePulled pulls the cable before the nth thing that the laptop says, and after it so that only the reply is lost; a second
// run of the same technician finishes, and everything was done once.
func TestCablePulled(t *testing.T) {
	const most = 60
	for _, late := range []bool{false, true} {
		finished := false
		for n := 0; n < most && !finished; n++ {
			t.Run(fmt.Sprintf("at %d, late %v", n, late), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					b := newBench(t)
					b.presses(time.Second)
					b.host.EnrolTime, b.host.CheckTime = time.Second, time.Second
					b.serve()
					said, pulled := 0, make(chan struct{})
					pull := sync.OnceFunc(func() { close(pulled) })
					b.laptop.Tamper(func(p []byte) []byte {
						said++
						if said > n && !late {
							pull()
						}
						select {
						case <-pulled:
							return nil
						default:
						}
						if said > n {
							pull()
						}
						return p
					})
					b.terminal.Tamper(func(p []byte) []byte {
						select {
						case <-pulled:
							return nil
						default:
							return p
						}
					})
					v, h := voucher(), record()
					err := b.with(b.technician(v, h))
					if finished = err == nil; !finished && (!errors.Is(err, session.ErrSilent) || protocol.CodeOf(err) != protocol.LinkCable) {
						t.Fatalf("with the cable pulled: %v", err)
					}
					b.laptop.Tamper(nil)
					b.terminal.Tamper(nil)
					if err := errors.Join(b.with(b.technician(v, h)), b.done(v, h)); err != nil {
						t.Fatal(err)
					}
				})
			})
		}
		if !finished {
			t.Errorf("late %v: after %d messages it was not done", late, most)
		}
	}
}

// TestPortGone takes the terminal's port away, as an unplugged USB device does: it is opened again, a job has gone on, the session has not.
func TestPortGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.host.EnrolTime = 20 * time.Second
		b.serve()
		v := voucher()
		err := b.open(func(ctx context.Context, c *session.Client) error {
			if err := c.StartEnrol(ctx, v); err != nil {
				return err
			}
			b.terminal.Close()
			_, err := c.EnrolStatus(ctx)
			if !errors.Is(err, session.ErrLost) {
				return fmt.Errorf("the session goes on: %w", err)
			}
			if err := c.Open(ctx); err != nil {
				return err
			}
			return c.Enrol(ctx, v)
		})
		if err != nil || len(b.host.Spent) != 1 || slices.Index(b.did(), "Enrol") != len(b.did())-1 {
			t.Errorf("%v; %v", err, b.did())
		}
	})
}

// TestBadLine damages, dribbles and adds to what is said in both directions. All gets through, and each request is done once.
func TestBadLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.presses(time.Second)
		b.serve()
		random := rand.New(rand.NewPCG(1, 2))
		var mu sync.Mutex
		noise := func(p []byte) []byte {
			mu.Lock()
			defer mu.Unlock()
			switch random.IntN(15) {
			case 0: // a bit turns
				p[random.IntN(len(p))] ^= 1 << random.IntN(8)
			case 1: // a byte is lost
				i := random.IntN(len(p))
				p = slices.Delete(p, i, i+1)
			case 2: // the kernel says something in between
				p = slices.Insert(p, random.IntN(len(p)), []byte("[   12.3] usb 1-1: new device\r\n")...)
			case 3: // it is all said twice
				p = append(p, p...)
			}
			return p
		}
		b.laptop.Tamper(noise)
		b.terminal.Tamper(noise)
		v, h := voucher(), record()
		if err := errors.Join(b.with(b.technician(v, h)), b.done(v, h)); err != nil {
			t.Fatal(err)
		}
		for _, once := range []string{"SetNetwork", "SetLanguage", "Enrol", "Check", "ConfirmHandOver", "FinishHandOver"} {
			if n := len(slices.DeleteFunc(b.did(), func(s string) bool { return s != once })); n != 1 {
				t.Errorf("%s was done %d times", once, n)
			}
		}
	})
}

// TestMandates: a terminal that is set up proves nothing to, asks nobody for, and does nothing for a laptop without its clinic's word.

func TestForgottenSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.setUp()
		b.presses(time.Second)
		b.serve()
		err := b.open(func(ctx context.Context, c *session.Client) error {
			if err := c.Authorise(ctx, nil); err != nil {
				return err
			}
			<-time.After(session.IdleTime + time.Second)
			if _, err := c.Info(ctx); !errors.Is(err, session.ErrLost) {
				t.Errorf("an idle session: %v", err)
			}
			if _, err := c.Info(ctx); !errors.Is(err, session.ErrLost) {
				t.Errorf("and still: %v", err)
			}
			if err := c.Open(ctx); err != nil {
				return err
			}
			if _, err := c.Info(ctx); protocol.CodeOf(err) != protocol.AuthButton {
				t.Errorf("the press outlived its session: %v", err)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	})
}

// TestReplay says to the terminal once more all that a technician said, from the first byte, while the session is open and after.
func TestReplay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.setUp()
		b.presses(time.Second)
		b.serve()
		var said []byte
		b.laptop.Tamper(func(p []byte) []byte { said = append(said, p...); return p })
		err := b.open(func(ctx context.Context, c *session.Client) error {
			if err := errors.Join(c.Authorise(ctx, nil), c.SetNetwork(ctx, wifi)); err != nil {
				return err
			}
			b.laptop.Inject(bytes.Clone(said))
			synctest.Wait()
			_, err := c.Info(ctx) // the session is none the worse for it
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		done := b.did()
		for range 2 { // after another laptop's session, and after none
			b.laptop.Inject(bytes.Clone(said))
			synctest.Wait()
			<-time.After(session.IdleTime + time.Minute)
		}
		if !slices.Equal(b.did(), done) || b.host.Prompts != 1 || !slices.Equal(done, []string{"SetNetwork", "Info"}) {
			t.Errorf("did %v and then %v, with %d prompts", done, b.did(), b.host.Prompts)
		}
	})
}

// TestAnotherTerminal answers for the terminal with another key: the technician's side of the session does not open.
func TestAnotherTerminal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.serve()
		err := b.with(func(ctx context.Context, c *session.Client) error {
			if _, err := c.Greet(ctx); err != nil {
				return err
			}
			b.host.Lock()
			b.host.Key = sessiontest.Key()
			b.host.Unlock()
			return c.Open(ctx)
		})
		if !errors.Is(err, session.ErrUnproven) {
			t.Errorf("got %v", err)
		}
	})
}

// A refused press, request or error of the host reaches the technician with its code; so does that the terminal is busy.
func TestFailuresOfTheHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.host.EnrolTime, b.host.CheckTime = time.Minute, time.Minute
		b.host.Refuse = map[string]error{
			"SetNetwork": protocol.WithCode(protocol.IPWiFiRefused, errors.New("wlan0 \x1b[2Jsays no")), "SetLanguage": errors.New("no such language"),
		}
		b.serve()
		err := b.open(func(ctx context.Context, c *session.Client) error {
			if err := c.SetNetwork(ctx, wifi); protocol.CodeOf(err) != protocol.IPWiFiRefused || strings.Contains(err.Error(), "\x1b") ||
				!strings.Contains(err.Error(), "the terminal says: wlan0 [2Jsays no") {
				t.Errorf("network: %q", err)
			}
			if err := c.SetLanguage(ctx, "xx"); protocol.CodeOf(err) != protocol.Unknown {
				t.Errorf("language: %v", err)
			}
			if err := c.SetNetwork(ctx, &session.Network{Kind: "token ring"}); protocol.CodeOf(err) != protocol.SignalMalformed {
				t.Errorf("network of an unknown kind: %v", err)
			}
			if err := c.StartEnrol(ctx, voucher()); err != nil {
				return err
			}
			if err := c.StartEnrol(ctx, voucher()); protocol.CodeOf(err) != protocol.LinkTerminalBusy {
				t.Errorf("by another voucher, while the first goes on: %v", err)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
		<-time.After(2 * time.Minute)
		b.setUp()
		b.presses(0)
		b.host.CheckTime = 20 * time.Second
		err = b.open(func(ctx context.Context, c *session.Client) error {
			if err := c.Authorise(ctx, nil); err != nil {
				return err
			}
			first, err := c.StartCheck(ctx, session.CheckOptions{Names: []string{"panel"}})
			if err != nil {
				return err
			}
			if again, err := c.StartCheck(ctx, session.CheckOptions{}); err != nil || again != first {
				t.Errorf("run %d, then %d, %v", first, again, err)
			}
			if err := c.StartEnrol(ctx, voucher()); protocol.CodeOf(err) != protocol.LinkTerminalBusy {
				t.Errorf("an enrolment during a check: %v", err)
			}
			if err := c.Install(ctx, &session.Grant{}); protocol.CodeOf(err) != protocol.LinkTerminalBusy {
				t.Errorf("a certificate during a check: %v", err)
			}
			if err := c.Reset(ctx); protocol.CodeOf(err) != protocol.LinkTerminalBusy || slices.Contains(b.did(), "Reset") {
				t.Errorf("given up during a check: %v", err)
			}
			return nil
		})
		did := b.did()
		if n := slices.Index(did, "Enrol"); err != nil || n < 0 || slices.Contains(did[n+1:], "Enrol") {
			t.Errorf("%v; did %v", err, did)
		}
	})
}

// TestSecretsStay: a password and a voucher go in and nowhere else: not onto the line in the clear, not into a reply, not into a log.
func TestSecretsStay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.presses(time.Second)
		b.serve()
		var line []byte
		var mu sync.Mutex
		tap := func(p []byte) []byte {
			mu.Lock()
			defer mu.Unlock()
			line = append(line, p...)
			return p
		}
		b.laptop.Tamper(tap)
		b.terminal.Tamper(tap)
		v, h := voucher(), record()
		text, err := v.Text()
		if err != nil {
			t.Fatal(err)
		}
		var back strings.Builder
		err = b.with(func(ctx context.Context, c *session.Client) error {
			if err := b.technician(v, h)(ctx, c); err != nil {
				return err
			}
			i, err1 := c.Info(ctx)
			n, err2 := c.Network(ctx)
			e, err3 := c.EnrolStatus(ctx)
			k, err4 := c.CheckStatus(ctx)
			fmt.Fprintf(&back, "%+v %+v %+v %+v %+v", i, n, e, k, wifi)
			if !strings.Contains(back.String(), wifi.SSID) {
				t.Errorf("nothing came back: %s", &back)
			}
			return errors.Join(err1, err2, err3, err4)
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, secret := range []string{string(password), string(v.Secret), string(text), string(text)[20:60]} {
			if strings.Contains(string(line), secret) || strings.Contains(back.String(), secret) || strings.Contains(b.log.String(), secret) {
				t.Errorf("%q came out", secret[:8])
			}
		}
		if b.log.String() == "" {
			t.Error("nothing was logged: what was looked through?")
		}
	})
}

// TestHandOverIsTheTruth: the terminal signs nothing that it does not know to be so.
func TestHandOverIsTheTruth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.setUp()
		b.presses(time.Second)
		b.serve()
		err := b.open(func(ctx context.Context, c *session.Client) error {
			if err := c.Authorise(ctx, nil); err != nil {
				return err
			}
			for name, change := range map[string]func(*protocol.HandOver){
				"another terminal":   func(h *protocol.HandOver) { h.Terminal = protocol.KeyHash{1} },
				"another technician": func(h *protocol.HandOver) { h.Technician.Name = "Kari" },
				"a better key":       func(h *protocol.HandOver) { h.KeyGrade = "hardware" },
				"other software":     func(h *protocol.HandOver) { h.Software = "x" },
				"a check that failed": func(h *protocol.HandOver) {
					h.Checks = []protocol.Check{{Name: "clinic.latency", State: protocol.CheckPassed}}
				},
			} {
				h := record()
				h.Terminal, h.At = c.Terminal(), protocol.At(time.Now())
				change(h)
				if _, err := c.HandOver(ctx, h); protocol.CodeOf(err) != protocol.SignalMalformed {
					t.Errorf("%s: %v", name, err)
				}
			}
			return nil
		})
		if err != nil || len(b.host.HandedOver) > 0 {
			t.Errorf("%v; handed over %v", err, b.host.HandedOver)
		}
	})
}

// A certificate that came through the laptop, and the certification request for it.
func TestOffline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.serve()
		grant := &session.Grant{Address: "clinic.example:443", ServerName: "t.clinic.example", Chain: [][]byte{make([]byte, 900), make([]byte, 700)}, Root: make([]byte, 700), Settings: []byte{1}}
		err := b.open(func(ctx context.Context, c *session.Client) error {
			csr, err := c.CSR(ctx)
			if err != nil {
				return err
			}
			if protocol.HashSPKI(csr.RawSubjectPublicKeyInfo) != c.Terminal() {
				t.Error("for another key")
			}
			return c.Install(ctx, grant)
		})
		if err != nil || len(b.host.Granted) != 1 || len(b.host.Granted[0].Chain) != 2 || b.host.State != session.SetUp {
			t.Errorf("%v; %+v", err, b.host.Granted)
		}
	})
}

// A laptop finds nobody, or something else that talks.
func TestNoTerminal(t *testing.T) {
	for name, talk := range map[string]string{"nothing": "", "a modem": "\r\nOK\r\n", "zeros": strings.Repeat("\x00", 100)} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				err := b.with(func(ctx context.Context, c *session.Client) error {
					b.terminal.Inject([]byte(talk))
					_, err := c.Greet(ctx)
					return err
				})
				if !errors.Is(err, session.ErrSilent) || protocol.CodeOf(err) != protocol.LinkCable {
					t.Errorf("got %v", err)
				}
				err = b.with(func(ctx context.Context, c *session.Client) error {
					ctx, cancel := context.WithTimeout(ctx, time.Second)
					defer cancel()
					_, err := c.Greet(ctx)
					return err
				})
				if !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("got %v", err)
				}
			})
		})
	}
}

func TestClosedPort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		c := session.NewClient(b.laptop, b.who, slog.New(slog.DiscardHandler))
		b.laptop.Close()
		if err := c.Run(t.Context()); !errors.Is(err, session.ErrClosed) {
			t.Errorf("Run: %v", err)
		}
		if _, err := c.Greet(t.Context()); !errors.Is(err, session.ErrClosed) || protocol.CodeOf(err) != protocol.LinkCable {
			t.Errorf("Greet: %v", err)
		}
	})
}

// TestReset: a terminal that is set up gives up what it is for a technician and a press; one whose key is away for a long press alone, and does nothing else.
func TestReset(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(b *bench)
		want   protocol.Code // without a press
		after  protocol.Code // with one
		did    []string
	}{
		{"set up", func(b *bench) { b.setUp() }, protocol.AuthButton, "", []string{"Reset"}},
		{"set up, no mandate", func(b *bench) { b.setUp(); b.who.Mandate = nil }, protocol.AuthTechnician, protocol.AuthTechnician, nil},
		{"from the factory", func(*bench) {}, "", "", []string{"Reset", "Reset"}},
		{"key away, no mandate", func(b *bench) {
			b.host.State, b.host.Cause, b.who.Mandate = session.KeyAway, protocol.IdentityTPMGone, nil
		}, protocol.AuthButton, "", []string{"Reset"}},
		{"taken out of use", func(b *bench) { b.host.State = session.Returned }, protocol.IdentityReturned, protocol.IdentityReturned, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				c.change(b)
				b.presses(time.Second)
				b.serve()
				err := b.open(func(ctx context.Context, s *session.Client) error { return s.Reset(ctx) })
				if protocol.CodeOf(err) != c.want {
					t.Errorf("without a press: %v", err)
				}
				err = b.open(func(ctx context.Context, s *session.Client) error {
					if err := s.Authorise(ctx, nil); err != nil {
						return err
					}
					return s.Reset(ctx)
				})
				if protocol.CodeOf(err) != c.after || !slices.Equal(b.did(), c.did) {
					t.Errorf("with a press: %v; did %v", err, b.did())
				}
			})
		})
	}
}

// TestKeyAway: a terminal that does not know itself says why, and answers nothing else, pressed or not.
func TestKeyAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.host.State, b.host.Cause = session.KeyAway, protocol.IdentityTPMCleared
		b.presses(time.Second)
		b.serve()
		err := b.open(func(ctx context.Context, c *session.Client) error {
			g, err := c.Greet(ctx)
			if err != nil || g.State != session.KeyAway || g.Cause != protocol.IdentityTPMCleared {
				t.Errorf("greeting %+v, %v", g, err)
			}
			for range 2 {
				for request, code := range everything(ctx, c) {
					if code != protocol.IdentityTPMCleared && request != "check.stop" { // there is none to stop
						t.Errorf("%s: code %q", request, code)
					}
				}
				if err := c.Authorise(ctx, nil); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil || len(b.did()) > 0 {
			t.Errorf("%v; did %v", err, b.did())
		}
	})
}
