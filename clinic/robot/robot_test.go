package robot

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pion/webrtc/v4"
	"go.uber.org/goleak"

	"vindu/clinic/calls"
	"vindu/clinic/register"
	"vindu/protocol"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bench is a clinic with one terminal, which does as the test says.
type bench struct {
	t     *testing.T
	robot *Robot
	home  register.Terminal
	key   *ecdsa.PrivateKey

	startErr error
	decision protocol.Decision      // instead of ringing
	sign     *ecdsa.PrivateKey      // instead of key
	change   func(*protocol.Answer) // before it is signed
	path     string
	silent   bool // sends neither picture nor sound
	half     *protocol.CallRecord
	request  calls.Request
	hungUp   protocol.Code

	mu      sync.Mutex
	updates chan calls.Update
	line    *line // the terminal's end
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{t: t, updates: make(chan calls.Update, 64)}
	var err error
	if b.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(b.key.Public())
	if err != nil {
		t.Fatal(err)
	}
	b.home = register.Terminal{Key: protocol.HashSPKI(spki), SPKI: spki, Home: "h17", HomeLabel: "Home 17"}
	if b.robot, err = New(Config{Calls: b, Organisation: "Kommunen", Loopback: true, Log: slog.New(slog.DiscardHandler)}); err != nil {
		t.Fatal(err)
	}
	b.robot.most = 4 * time.Second
	ctx, stop := context.WithCancel(context.Background())
	var group sync.WaitGroup
	group.Go(func() {
		if err := b.robot.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		stop()
		group.Wait()
		if b.line != nil {
			b.line.close()
		}
	})
	return b
}

func (b *bench) Subscribe(person, page string, _ uint64) (<-chan calls.Update, func()) {
	if !strings.HasPrefix(person, PersonID) || page == "" {
		b.t.Errorf("subscribed as %q on %q", person, page)
	}
	return b.updates, func() {}
}

func (b *bench) Start(_ context.Context, r calls.Request) (calls.Started, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.request = r
	if b.startErr != nil {
		return calls.Started{}, b.startErr
	}
	s := calls.Started{Call: r.Test, Invitation: []byte("signed"), Terminal: b.home.Key, SPKI: b.home.SPKI}
	if b.decision != "" {
		b.say(s, b.decision, "", protocol.Fingerprint{})
		b.updates <- calls.Update{Kind: calls.KindEnd, Call: r.Test, Code: b.decision.Outcome()}
		return s, nil
	}
	sdp, key := b.pickUp(r.Offer)
	b.say(s, protocol.Ringing, sdp, key)
	b.say(s, protocol.Answered, sdp, key)
	return s, nil
}

// say has the terminal sign an answer.
func (b *bench) say(s calls.Started, d protocol.Decision, sdp protocol.SDP, key protocol.Fingerprint) {
	a := &protocol.Answer{
		Version: protocol.Version, Call: s.Call, Terminal: s.Terminal, Invitation: protocol.HashOf(s.Invitation), Decision: d, Software: "test",
		At: protocol.At(time.Now()),
	}
	if sdp != "" {
		a.Key, a.Answer = key, protocol.HashOf(sdp)
	}
	if b.change != nil {
		b.change(a)
	}
	signer := b.key
	if b.sign != nil {
		signer = b.sign
	}
	signed, err := protocol.Sign(a, signer)
	if err != nil {
		b.t.Error(err)
	}
	u := calls.Update{Kind: calls.KindAnswer, Call: s.Call, Answer: signed}
	if d == protocol.Ringing {
		u.SDP = sdp
	}
	b.updates <- u
}

// pickUp makes the terminal's end: the robot's own, turned round.
func (b *bench) pickUp(offer protocol.SDP) (protocol.SDP, protocol.Fingerprint) {
	api, err := engine(true)
	if err != nil {
		b.t.Fatal(err)
	}
	pc, err := api.NewPeerConnection(webrtc.Configuration{})
	if err != nil {
		b.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	l := &line{pc: pc, lost: make(chan protocol.Code, 1), stop: stop, connected: make(chan struct{})}
	b.line = l
	pc.OnConnectionStateChange(l.changed)
	pc.OnTrack(func(t *webrtc.TrackRemote, _ *webrtc.RTPReceiver) {
		if t.Kind() == webrtc.RTPCodecTypeVideo {
			l.watch(t)
		} else {
			l.listen(t)
		}
	})
	if err := pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeOffer, SDP: string(offer)}); err != nil {
		b.t.Fatal(err)
	}
	if !b.silent {
		if err := l.tracks(ctx, b.robot.media); err != nil {
			b.t.Fatal(err)
		}
	}
	gathered := webrtc.GatheringCompletePromise(pc)
	answer, err := pc.CreateAnswer(nil)
	if err != nil {
		b.t.Fatal(err)
	}
	if err := pc.SetLocalDescription(answer); err != nil {
		b.t.Fatal(err)
	}
	<-gathered
	sdp := pc.LocalDescription().SDP
	_, rest, _ := strings.Cut(sdp, "a=fingerprint:sha-256 ")
	digits, _, _ := strings.Cut(rest, "\r\n")
	raw, err := hex.DecodeString(strings.ReplaceAll(digits, ":", ""))
	if err != nil {
		b.t.Fatal(err)
	}
	return protocol.SDP(sdp), protocol.Fingerprint(raw)
}

func (b *bench) HangUp(_ context.Context, person string, id protocol.CallID, reason protocol.Code, _ []byte) error {
	b.hungUp = reason
	b.updates <- calls.Update{Kind: calls.KindEnd, Call: id, Code: reason}
	return nil
}

func (b *bench) Report(_ context.Context, person string, id protocol.CallID, half *protocol.CallRecord) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.half = half
	return half.Validate()
}

// call asks for a test call and waits for its end.
func (b *bench) call() *protocol.TestCall {
	b.t.Helper()
	id := protocol.NewCallID()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(time.Minute); ; {
		s, err := b.robot.Call(b.home, id, b.path)
		if err != nil {
			b.t.Fatal(err)
		}
		if _, err := protocol.Encode(s); err != nil {
			b.t.Fatal(err)
		}
		if s.Ended {
			return s
		}
		select {
		case <-tick.C:
		case <-deadline:
			b.t.Fatal("the test call does not end")
		}
	}
}

func TestCall(t *testing.T) {
	b := newBench(t)
	s := b.call()
	t.Logf("%+v, record %+v", s, b.half)
	if s.Outcome != protocol.EndCallerHungUp || s.Pictures < enoughPictures || s.Keys == 0 || s.Sounds < enoughSounds {
		t.Errorf("%+v", s)
	}
	if r := b.request; r.Home != "h17" || r.Person.ID != PersonID+b.home.Key.Code() || r.Person.Party.Organisation != "Kommunen" || r.Page == "" {
		t.Errorf("%+v", r)
	}
	if h := b.half; h.By != protocol.SideCaller || h.Outcome != s.Outcome || h.Camera != "synthetic" || h.LocalPath == "" || h.Quality.FramesSent == 0 || h.Quality.FramesDecoded != s.Pictures {
		t.Errorf("%+v", h)
	}
	// The robot hangs up when it has had enough itself: the other end may be a few packets behind.
	if c := b.line.counted(); c.pictures < enoughPictures*9/10 || c.keys == 0 || c.sounds < enoughSounds*9/10 || c.lost != 0 {
		t.Errorf("the terminal got %+v", c)
	}
	if !strings.Contains(string(b.request.Offer), "a=candidate:") {
		t.Error("an offer without candidates")
	}
}

func TestSilentTerminal(t *testing.T) {
	b := newBench(t)
	b.silent = true
	if s := b.call(); s.Outcome != protocol.EndCallerHungUp || s.Pictures != 0 || s.Sounds != 0 {
		t.Errorf("%+v", s)
	}
}

// TestUnproven: to who does not prove itself nothing is sent.
func TestUnproven(t *testing.T) {
	stranger, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		wrong func(b *bench)
	}{
		{"signed by another key", func(b *bench) { b.sign = stranger }},
		{"another call", func(b *bench) { b.change = func(a *protocol.Answer) { a.Call = protocol.NewCallID() } }},
		{"another terminal", func(b *bench) { b.change = func(a *protocol.Answer) { a.Terminal[0]++ } }},
		{"another invitation", func(b *bench) { b.change = func(a *protocol.Answer) { a.Invitation[0]++ } }},
		{"another description", func(b *bench) { b.change = func(a *protocol.Answer) { a.Answer[0]++ } }},
		{"another certificate", func(b *bench) { b.change = func(a *protocol.Answer) { a.Key[0]++ } }},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t)
			c.wrong(b)
			if s := b.call(); s.Outcome != protocol.ProofAnswer || b.hungUp != protocol.ProofAnswer {
				t.Errorf("%+v, hung up by %q", s, b.hungUp)
			}
			if c := b.line.counted(); c.packets != 0 {
				t.Errorf("it was sent %+v", c)
			}
		})
	}
}

func TestNoCall(t *testing.T) {
	for _, c := range []struct {
		name  string
		wrong func(b *bench)
		want  protocol.Code
	}{
		{"the terminal says no", func(b *bench) { b.decision = protocol.Declined }, protocol.AnswerDeclined},
		{"the terminal is busy", func(b *bench) { b.decision = protocol.Busy }, protocol.AnswerBusy},
		{"the terminal is offline", func(b *bench) { b.startErr = &calls.Failure{Code: protocol.SignalOffline} }, protocol.SignalOffline},
		{"the clinic cannot", func(b *bench) { b.startErr = errors.New("disk full") }, protocol.LinkClinicFailed},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t)
			c.wrong(b)
			if s := b.call(); s.Outcome != c.want || s.Pictures != 0 {
				t.Errorf("%+v", s)
			}
		})
	}
}

// TestOneAtATime: a terminal has one test call, and the clinic not more than it can serve.
func TestOneAtATime(t *testing.T) {
	r, err := New(Config{Log: slog.New(slog.DiscardHandler)}) // it does not run: no call ends
	if err != nil {
		t.Fatal(err)
	}
	terminal := register.Terminal{Key: protocol.KeyHash{1}}
	first := protocol.CallID{1}
	for range 2 {
		if s, err := r.Call(terminal, first, ""); err != nil || s.Call != first || s.Ended {
			t.Fatalf("%+v, %v", s, err)
		}
	}
	if _, err := r.Call(terminal, protocol.CallID{2}, ""); protocol.CodeOf(err) != protocol.LinkTooMany {
		t.Errorf("a second one: %v", err)
	}
	for i := range maxCalls {
		_, err := r.Call(register.Terminal{Key: protocol.KeyHash{2, byte(i)}}, protocol.CallID{3, byte(i)}, "")
		if full := i == maxCalls-1; (protocol.CodeOf(err) == protocol.LinkTooMany) != full {
			t.Errorf("call %d: %v", i, err)
		}
	}
	// Over, but a moment ago.
	r.known[terminal.Key].over = time.Now()
	if _, err := r.Call(terminal, protocol.CallID{2}, ""); protocol.CodeOf(err) != protocol.LinkTooMany {
		t.Errorf("at once again: %v", err)
	}
	r.known[terminal.Key].over = time.Now().Add(-apart)
	if _, err := r.Call(terminal, protocol.CallID{2}, ""); protocol.CodeOf(err) != protocol.LinkTooMany {
		t.Errorf("nobody takes them any more: %v", err)
	}
	<-r.begin
	if _, err := r.Call(terminal, protocol.CallID{2}, ""); err != nil {
		t.Errorf("after a while: %v", err)
	}
}

// pass lets time pass in a bubble.
func pass(d time.Duration) {
	time.Sleep(d) // allowed: time in a bubble of synctest is the test's own
}

// TestRehearsalsLeaveRoom: a fleet that rehearses does not keep technicians waiting.
func TestRehearsalsLeaveRoom(t *testing.T) {
	r, err := New(Config{Log: slog.New(slog.DiscardHandler)}) // it does not run: no call ends
	if err != nil {
		t.Fatal(err)
	}
	ask := func(i int, path string) error {
		_, err := r.Call(register.Terminal{Key: protocol.KeyHash{1, byte(i)}}, protocol.CallID{1, byte(i)}, path)
		return err
	}
	for i := range maxRehearsals {
		if err := ask(i, []string{protocol.DirectPath, protocol.RelayedPath}[i%2]); err != nil {
			t.Fatal(err)
		}
	}
	if err := ask(100, protocol.DirectPath); protocol.CodeOf(err) != protocol.LinkTooMany {
		t.Errorf("one more: %v", err)
	}
	for i := range maxCalls - maxRehearsals {
		if err := ask(101+i, ""); err != nil {
			t.Errorf("a technician: %v", err)
		}
	}
}

// TestPathOfRehearsal: a direct one offers no relay and reaches none, and what is asked of package calls says which it is.
func TestPathOfRehearsal(t *testing.T) {
	const relayed, direct = "candidate:1 1 udp 1 192.0.2.1 5 typ relay raddr 0.0.0.0 rport 0", "candidate:1 1 udp 1 192.0.2.1 5 typ host"
	for _, c := range []struct {
		path           string
		servers, reach bool
	}{{"", true, true}, {protocol.RelayedPath, true, true}, {protocol.DirectPath, false, false}} {
		t.Run(c.path, func(t *testing.T) {
			b := newBench(t)
			b.robot.c.Relay = func() []protocol.ICEServer {
				return []protocol.ICEServer{{URLs: []string{"turn:192.0.2.1:9?transport=udp"}, Username: "u", Credential: "p"}}
			}
			l, err := b.robot.dial(t.Context(), c.path)
			if err != nil {
				t.Fatal(err)
			}
			defer l.close()
			if got := len(l.pc.GetConfiguration().ICEServers) > 0; got != c.servers {
				t.Errorf("a relay: %v", got)
			}
			if !l.mayReach(direct) || l.mayReach(relayed) != c.reach {
				t.Errorf("reaches relayed candidates: %v", l.mayReach(relayed))
			}
			b.robot.c.Relay = func() []protocol.ICEServer { return nil }
			b.path, b.decision = c.path, protocol.Declined
			if b.call(); b.request.Path != c.path {
				t.Errorf("asked for %q", b.request.Path)
			}
		})
	}
}

// TestSeldom: a terminal that asks again and again gets a test call seldom; another is not in its way.
func TestSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, err := New(Config{Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		ask := func(key protocol.KeyHash) error {
			_, err := r.Call(register.Terminal{Key: key}, protocol.NewCallID(), "")
			if err == nil {
				(<-r.begin).over = time.Now()
				pass(apart)
			}
			return err
		}
		hostile, honest := protocol.KeyHash{1}, protocol.KeyHash{2}
		calls := 0
		for began := time.Now(); time.Since(began) < 24*time.Hour; pass(time.Second) {
			if ask(hostile) == nil {
				calls++
			}
		}
		if most := oftenBurst + int(24*time.Hour/seldom) + 1; calls < oftenBurst || calls > most {
			t.Errorf("%d test calls in a day, want at most %d", calls, most)
		}
		if err := ask(honest); err != nil {
			t.Errorf("another: %v", err)
		}
		if pass(oftenBurst * seldom); ask(honest) != nil || len(r.asked) != 1 {
			t.Errorf("%d remembered", len(r.asked))
		}
	})
}

func TestGap(t *testing.T) {
	for _, c := range []struct {
		name    string
		numbers []uint16
		want    int
	}{
		{"in order", []uint16{7, 8, 9}, 0},
		{"around the end", []uint16{65534, 65535, 0, 1}, 0},
		{"two missing", []uint16{1, 4}, 2},
		{"late", []uint16{1, 3, 2, 4}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			var g gap
			got := 0
			for _, n := range c.numbers {
				got += g.next(n)
			}
			if got != c.want {
				t.Errorf("%d missing, want %d", got, c.want)
			}
		})
	}
}

// A terminal does not have the robot send to where it must not, neither by a candidate nor by its description.
func TestReach(t *testing.T) {
	l := &line{permits: func(a netip.Addr) bool {
		return a == netip.MustParseAddr("192.0.2.1") || a == netip.MustParseAddr("2001:db8::1")
	}}
	for candidate, want := range map[string]bool{
		"candidate:1 1 udp 2130706431 192.0.2.1 50000 typ host":                true,
		"candidate:1 1 udp 2130706431 2001:db8::1 50000 typ host":              true,
		"candidate:1 1 udp 2130706431 10.0.0.1 53 typ host":                    false,
		"candidate:1 1 udp 1677 10.0.0.1 53 typ srflx raddr 192.0.2.1 rport 9": false,
		"candidate:1 1 udp 2130706431 abc.local 53 typ host":                   false,
		"candidate:1 1 udp": false,
		"":                  false,
	} {
		if got := l.mayReach(candidate); got != want {
			t.Errorf("%q: %v", candidate, got)
		}
	}
	const kept = "v=0\r\na=mid:0\r\na=candidate:1 1 udp 1 192.0.2.1 5 typ host\r\na=end-of-candidates\r\n"
	if got := l.reachable(strings.Replace(kept, "a=end", "a=candidate:2 1 udp 1 10.0.0.1 5 typ host\r\na=candidate:x\r\na=end", 1)); got != kept {
		t.Errorf("%q", got)
	}
}
