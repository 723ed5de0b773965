package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"vindu/clinic/audit"
	"vindu/clinic/authority"
	"vindu/clinic/broker"
	"vindu/clinic/calls"
	clinicenrol "vindu/clinic/enrol"
	"vindu/clinic/fleet"
	"vindu/clinic/frontdoor"
	"vindu/clinic/grants"
	clinicledger "vindu/clinic/ledger"
	"vindu/clinic/register"
	"vindu/clinic/robot"
	"vindu/clinic/setup"
	"vindu/clinic/store"
	"vindu/clinic/web"
	"vindu/clinic/web/webtest"
	"vindu/protocol"
)

const terminalsName = "terminals.test"

// clinicServer is a clinic's real parts in this process, behind one door. Where one speaks to another, to a page or to a terminal, a hostile owner may
// put his own words (taps); he has whatever this process has, but not the key in offline.
type clinicServer struct {
	t          *testing.T
	log        *slog.Logger
	site       protocol.RelyingParty
	offline    *authority.Authority // with the authorisation key, which is on another machine; the rest of it is the server's
	audit      *audit.Log
	register   *register.Register
	setup      *setup.Service
	grants     *grants.Service
	broker     *broker.NATS
	fleet      *fleet.Fleet
	calls      *calls.Service
	robot      *robot.Robot
	sessions   *web.Sessions
	pages      *httptest.Server
	door       *frontdoor.Door
	address    string // of the front door
	cables     *cables
	relay      *hostileRelay
	passkey    *webtest.Passkey
	person     register.Person
	home       register.Home
	old        []byte // the trust before the one that holds
	oldPolicy  []byte // the policy before the one that holds
	stopBroker context.CancelFunc
	away       atomic.Bool // no page reaches the clinic
	passkeys   *keeper
	folder     string // of the server's files

	mu   sync.Mutex
	taps taps
	// What went over the wire, for those who record: of every call, the invite as the server sent it, and all that the terminal said.
	invites map[protocol.CallID]*protocol.CallIn
	hangUps map[protocol.CallID]*protocol.CallIn
	paths   map[protocol.CallID]*protocol.CallIn // the first candidates of the caller
	said    map[protocol.CallID][]*protocol.CallOut
	pagesOf map[chan calls.Update]bool
}

// taps are where the hostile owner puts his own words; nil passes on what is there.
type taps struct {
	toTerminal    func(*protocol.CallIn) []*protocol.CallIn
	fromTerminal  func(*protocol.CallOut) []*protocol.CallOut
	toPage        func(calls.Update) []calls.Update
	authorisation func(signed []byte, a *protocol.Authorisation) ([]byte, *protocol.Authorisation) // as the page and the server's own checks get it
	home          func(*register.Home)                                                             // as pages see it
	settings      func(*protocol.Settings)
	swallow       bool                // what terminals tell never arrives
	clock         time.Duration       // by which the time is wrong that terminals are told
	noRenewal     bool                // no certificate is renewed
	packet        func([]byte) []byte // between the relayed ends
}

func (c *clinicServer) tap(t taps) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.taps = t
}

func (c *clinicServer) tapped() taps {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.taps
}

func (c *clinicServer) check(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

func newClinicServer(t *testing.T, log *slog.Logger) *clinicServer {
	t.Helper()
	ctx := t.Context()
	c := &clinicServer{t: t, log: log, invites: map[protocol.CallID]*protocol.CallIn{}, hangUps: map[protocol.CallID]*protocol.CallIn{}, paths: map[protocol.CallID]*protocol.CallIn{}, said: map[protocol.CallID][]*protocol.CallOut{}, pagesOf: map[chan calls.Update]bool{}}
	dir := t.TempDir()
	c.check(authority.Create(filepath.Join(dir, "authority"), "Solvik clinic"))
	var err error
	c.offline, err = authority.Load(filepath.Join(dir, "authority"))
	c.check(err)
	st, err := store.Open(ctx, filepath.Join(dir, "clinic.db"), log)
	c.check(err)
	t.Cleanup(func() { c.check(st.Close()) })
	c.audit, err = audit.New(ctx, st, c.offline.LogKey())
	c.check(err)
	c.register, err = register.New(ctx, st, c.audit)
	c.check(err)
	front, err := net.Listen("tcp", "127.0.0.1:0")
	c.check(err)
	c.address = front.Addr().String()
	c.cables = newCables(t, c.address)
	c.setup, err = setup.New(ctx, setup.Config{
		Store: st, Audit: c.audit, Register: c.register, Authority: c.offline, Address: c.cables.address, ServerName: terminalsName, Organisation: "Solvik clinic", Log: log,
	})
	c.check(err)
	c.sessions, err = web.NewSessions(ctx, st, c.audit)
	c.check(err)
	c.passkey = webtest.NewPasskey("localhost")
	c.passkeys = &keeper{list: []protocol.Credential{c.passkey.Credential()}}
	c.grants, err = grants.New(ctx, grants.Config{Store: st, Audit: c.audit, Register: c.register, Authority: c.offline, Passkeys: c.passkeys, Log: log})
	c.check(err)

	c.relay = newHostileRelay(t, func(p []byte) []byte {
		if f := c.tapped().packet; f != nil {
			return f(p)
		}
		return p
	})
	var pages http.Handler
	c.pages = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c.away.Load() {
			panic(http.ErrAbortHandler)
		}
		pages.ServeHTTP(w, r)
	}))
	origin := strings.Replace(c.pages.URL, "127.0.0.1", "localhost", 1)
	c.site = protocol.RelyingParty{ID: "localhost", Origins: []string{origin}}
	_, err = c.offline.EnsureTrust(protocol.RelyingParty{ID: "localhost", Origins: []string{"http://localhost:1"}})
	c.check(err)
	c.old, _ = c.offline.Trust()
	_, err = c.offline.EnsureTrust(c.site, c.relay.Servers()[0].URLs...)
	c.check(err)

	leaf := c.offline.Server(terminalsName)
	c.cables.leaf = leaf.GetCertificate
	c.folder = dir
	c.broker, err = broker.New(broker.Config{
		Dir: filepath.Join(dir, "broker"), TLS: &tls.Config{MinVersion: tls.VersionTLS13, GetCertificate: leaf.GetCertificate, ClientCAs: c.offline.Pool()}, Clinic: authority.IsClinic,
		Admit: func(key protocol.KeyHash, certificate *x509.Certificate) error {
			_, err := c.register.AdmitBy(context.Background(), key, certificate)
			return err
		},
	}, log)
	c.check(err)
	records, err := calls.OpenRecords(ctx, st, c.audit, log)
	c.check(err)
	records.Alarm = c.register.RaiseTx
	records.Held = func(ctx context.Context, terminal protocol.KeyHash, from, to time.Time) ([]protocol.Code, error) {
		return c.fleet.Held(ctx, terminal, from, to)
	}
	book, err := clinicledger.New(ctx, clinicledger.Config{Store: st, Calls: records, Mandates: c.setup, Alarms: c.register, Log: log})
	c.check(err)
	brokerAddress := func() string {
		if a := c.broker.Addr(); a != nil {
			return a.String()
		}
		return ""
	}
	c.fleet, err = fleet.New(ctx, fleet.Config{
		Address: brokerAddress, ServerName: terminalsName, Roots: c.offline.Pool(), Certificate: c.offline.Client().Certificate, Store: st, Audit: c.audit, Sinks: []fleet.Sink{swallows{c}, records, c.setup, book},
		SignAck: c.offline.SignAck,
	}, log)
	c.check(err)
	between := &wire{Fleet: c.fleet, c: c, messages: make(chan fleet.CallMessage, 64)}
	c.calls = calls.New(calls.Config{
		Records: records, Link: between, Register: c.register, Authority: c.offline, Authorisations: rights{c}, RelyingParty: c.site, Relay: c.relay, Log: log,
	})
	site, err := web.New(web.Options{
		Sessions: c.sessions, Register: shelf{c.register, c}, Fleet: c.fleet, Calls: desk{c.calls, c}, Relay: c.relay, Authorisations: rights{c}, RelyingParty: c.site, Organisation: "Solvik clinic", Log: log,
	})
	c.check(err)
	pages = site
	c.robot, err = robot.New(robot.Config{Calls: c.calls, Organisation: "Solvik clinic", Relay: c.relay.Servers, Loopback: true, Log: log})
	c.check(err)
	honest := clinicenrol.New(clinicenrol.Config{
		Organisation: "Solvik clinic", Authority: c.offline, Register: c.register, Relay: c.relay.TerminalServers, TestCall: c.robot.Call, Policy: c.grants.Policy, Log: log,
	})
	c.door = frontdoor.New(front, frontdoor.Config{TerminalsName: terminalsName, Limits: frontdoor.DefaultLimits, Broker: func(ctx context.Context) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", brokerAddress())
	}}, log)
	est := &http.Server{Handler: c.enrolment(honest), TLSConfig: clinicenrol.TLS(leaf), ReadHeaderTimeout: 10 * time.Second, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug)}

	running, stop := context.WithCancel(context.Background())
	var all sync.WaitGroup
	brokering, stopBroker := context.WithCancel(running)
	c.stopBroker = stopBroker
	for name, run := range map[string]func(context.Context) error{
		"broker": func(context.Context) error { return c.broker.Run(brokering) }, "fleet": c.fleet.Run, "calls": c.calls.Run, "robot": c.robot.Run, "door": c.door.Run, "pages": site.Run, "wire": between.run,
		"grants": func(ctx context.Context) error {
			return c.grants.Run(ctx, func(ctx context.Context, terminal protocol.KeyHash) error {
				return c.fleet.Command(ctx, terminal, protocol.CommandSettings)
			})
		},
		"enrolment": func(context.Context) error {
			if err := est.ServeTLS(c.door.Terminals(), "", ""); err != http.ErrServerClosed {
				return err
			}
			return nil
		},
	} {
		all.Go(func() {
			if err := run(running); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
	t.Cleanup(func() {
		c.check(est.Close())
		stop()
		c.pages.CloseClientConnections()
		c.pages.Close()
		all.Wait()
	})
	<-c.broker.Ready()
	c.people()
	return c
}

// people are the clinician, the home and the right to call it.
func (c *clinicServer) people() {
	c.t.Helper()
	ctx := c.t.Context()
	var err error
	c.person, err = c.register.EnsurePerson(ctx, "test", protocol.Party{Name: "Anne Berg", Role: "nurse", Organisation: "Solvik clinic"}, register.Clinician)
	c.check(err)
	c.home, err = c.register.EnsureHome(ctx, "test", "Home 17, Storgata")
	c.check(err)
	c.check(c.grants.SetPolicy(ctx, "test", "", grants.Settings{Rules: map[string]grants.Rule{"staff": {Mode: protocol.ModeRing}}}))
	_, err = c.grants.Give(ctx, "test", grants.Grant{
		Person: c.person.ID, Employment: "employed", Callers: "staff", Scope: protocol.Scope{Homes: []string{c.home.ID}}, From: time.Now(), To: time.Now().Add(48 * time.Hour), Reason: "test",
	})
	c.check(err)
}

// voucher is for the terminal.
func (c *clinicServer) voucher() string {
	c.t.Helper()
	v, err := c.setup.Voucher(c.t.Context(), "test", c.home.Label, time.Hour)
	c.check(err)
	return string(v.Text)
}

// swallows stands for a broker that does not pass on what terminals tell.
type swallows struct{ c *clinicServer }

var errSwallowed = errors.New("it never arrived")

// Store implements fleet.Sink.
func (s swallows) Store(context.Context, *sql.Tx, protocol.KeyHash, *protocol.Event, any) error {
	if s.c.tapped().swallow {
		return errSwallowed
	}
	return nil
}

// Committed implements fleet.Sink.
func (swallows) Committed(protocol.KeyHash, *protocol.Event, any) {}

// wire is the way to the terminals.
type wire struct {
	*fleet.Fleet
	c        *clinicServer
	messages chan fleet.CallMessage
}

// Send implements calls.Link.
func (w *wire) Send(ctx context.Context, key protocol.KeyHash, m *protocol.CallIn) error {
	w.c.mu.Lock()
	switch m.Kind {
	case protocol.KindInvite:
		w.c.invites[m.Call] = m
	case protocol.KindCandidates:
		if w.c.paths[m.Call] == nil {
			w.c.paths[m.Call] = m
		}
	case protocol.KindHangUp:
		w.c.hangUps[m.Call] = m
	}
	w.c.mu.Unlock()
	list := []*protocol.CallIn{m}
	if f := w.c.tapped().toTerminal; f != nil {
		list = f(m)
	}
	for _, m := range list {
		if err := w.Fleet.Send(ctx, key, m); err != nil {
			return err
		}
	}
	return nil
}

// Messages implements calls.Link.
func (w *wire) Messages() <-chan fleet.CallMessage { return w.messages }

func (w *wire) run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case m := <-w.Fleet.Messages():
			w.c.mu.Lock()
			w.c.said[m.Message.Call] = append(w.c.said[m.Message.Call], m.Message)
			f := w.c.taps.fromTerminal
			w.c.mu.Unlock()
			list := []*protocol.CallOut{m.Message}
			if f != nil {
				list = f(m.Message)
			}
			for _, out := range list {
				select {
				case w.messages <- fleet.CallMessage{Terminal: m.Terminal, Message: out}:
				case <-ctx.Done():
				}
			}
		}
	}
}

// desk is the way to the pages.
type desk struct {
	*calls.Service
	c *clinicServer
}

// Subscribe implements web.Calls.
func (d desk) Subscribe(person, page string, seq uint64) (<-chan calls.Update, func()) {
	in, cancel := d.Service.Subscribe(person, page, seq)
	out := make(chan calls.Update, 256)
	d.c.mu.Lock()
	d.c.pagesOf[out] = true
	d.c.mu.Unlock()
	gone := make(chan struct{})
	var done sync.WaitGroup
	done.Go(func() {
		for {
			select {
			case <-gone:
				return
			case u, ok := <-in:
				if !ok {
					return
				}
				list := []calls.Update{u}
				if f := d.c.tapped().toPage; f != nil {
					list = f(u)
				}
				for _, u := range list {
					out <- u
				}
			}
		}
	})
	return out, func() {
		d.c.mu.Lock()
		delete(d.c.pagesOf, out)
		d.c.mu.Unlock()
		close(gone)
		cancel()
		done.Wait()
	}
}

// tellPages says something to the open pages that nobody has told the server.
func (c *clinicServer) tellPages(u calls.Update) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for out := range c.pagesOf {
		select {
		case out <- u:
		default:
		}
	}
}

// send says something to the terminal, in the server's name.
func (c *clinicServer) send(m *protocol.CallIn) {
	c.t.Helper()
	c.check(c.fleet.Send(c.t.Context(), c.home.Terminal, m))
}

// recorded returns an invite as it was on the wire.
func (c *clinicServer) recorded(call protocol.CallID) *protocol.CallIn {
	c.t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	m := c.invites[call]
	if m == nil {
		c.t.Fatalf("no invite of call %s", call)
	}
	return m
}

// awaitRinging returns the terminal's first answer in a call.
func (c *clinicServer) awaitRinging(call protocol.CallID) (answer *protocol.CallAnswer) {
	c.t.Helper()
	c.await("an answer of the terminal", func() bool {
		for _, m := range c.from(call) {
			if m.Kind == protocol.KindAnswer && m.Answer.SDP != "" {
				answer = m.Answer
			}
		}
		return answer != nil
	})
	return answer
}

// from is what the terminal has said in a call so far.
func (c *clinicServer) from(call protocol.CallID) []*protocol.CallOut {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.said[call])
}

// answerOf reads a signed answer of the terminal.
func (c *clinicServer) answerOf(signed []byte) *protocol.Answer {
	c.t.Helper()
	key, err := protocol.ParseKey(c.home.SPKI)
	c.check(err)
	a := new(protocol.Answer)
	c.check(protocol.Verify(signed, key, a))
	return a
}

// enrolment has settings changed on their way.
func (c *clinicServer) enrolment(honest http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		tapped := c.tapped()
		switch {
		case tapped.clock != 0 && r.URL.Path == protocol.PathClock:
			c.tellTime(w, r, time.Now().Add(tapped.clock))
			return
		case tapped.noRenewal && r.URL.Path == protocol.PathReenroll:
			http.Error(w, "", http.StatusServiceUnavailable)
			return
		}
		f := tapped.settings
		if f == nil || r.URL.Path != protocol.PathSettings {
			honest.ServeHTTP(w, r)
			return
		}
		answer := httptest.NewRecorder()
		honest.ServeHTTP(answer, r)
		s := new(protocol.Settings)
		err := protocol.Decode(answer.Body.Bytes(), s)
		var body []byte
		if err == nil {
			f(s)
			body, err = protocol.Encode(s)
		}
		if err != nil {
			c.t.Errorf("settings: %v (status %d)", err, answer.Code)
			http.Error(w, "", http.StatusInternalServerError)
			return
		}
		for k, v := range answer.Header() {
			if k != "Content-Length" {
				w.Header()[k] = v
			}
		}
		_, _ = w.Write(body)
	})
}

// alarms returns what operators see open: code and detail.
func (c *clinicServer) alarms() []string {
	c.t.Helper()
	list, err := c.register.Alarms(c.t.Context(), 0)
	c.check(err)
	var found []string
	for _, a := range list {
		found = append(found, fmt.Sprintf("%s %s", a.Code, a.Detail))
	}
	return found
}

// notices returns what the terminal has told of, the latest first.
func (c *clinicServer) notices() []*protocol.Notice {
	c.t.Helper()
	list, err := c.fleet.Events(c.t.Context(), c.home.Terminal, 200)
	c.check(err)
	var found []*protocol.Notice
	for _, e := range list {
		body, err := e.Event.Open()
		c.check(err)
		if n, ok := body.(*protocol.Notice); ok {
			found = append(found, n)
		}
	}
	return found
}

// await waits until something holds.
func (c *clinicServer) await(what string, holds func() bool) {
	c.t.Helper()
	if !eventually(holds) {
		c.t.Fatalf("not within a while: %s; open alarms: %s", what, strings.Join(c.alarms(), "; "))
	}
}

func eventually(holds func() bool) bool {
	tick := time.NewTicker(15 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); <-tick.C {
		if holds() {
			return true
		}
	}
	return holds()
}

// callerHalf waits for the page's half of a call's record.
func (c *clinicServer) callerHalf(call protocol.CallID) (half *protocol.CallRecord) {
	c.t.Helper()
	c.await("the page's half of the record", func() bool {
		r, err := c.calls.Record(c.t.Context(), c.person.ID, call)
		half = r.CallerHalf
		return err == nil && half != nil
	})
	return half
}

// hasAlarm reports whether an alarm of this code is open.
func (c *clinicServer) hasAlarm(code protocol.Code) bool {
	return slices.ContainsFunc(c.alarms(), func(a string) bool { return strings.HasPrefix(a, string(code)+" ") })
}

// policies waits for the terminal's first policy, and for the one that follows it.
func (c *clinicServer) policies() {
	c.t.Helper()
	signed := func() []byte {
		b, err := c.grants.Policy(c.t.Context(), c.home.Terminal)
		c.check(err)
		return b
	}
	c.await("a signed policy of the terminal", func() bool { c.oldPolicy = signed(); return c.oldPolicy != nil })
	c.check(c.grants.SetPolicy(c.t.Context(), "test", c.home.ID, grants.Settings{Volume: 55}))
	c.await("the policy after it", func() bool { return !bytes.Equal(signed(), c.oldPolicy) })
}
