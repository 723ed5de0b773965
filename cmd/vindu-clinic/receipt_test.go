package main

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"vindu/clinic/audit"
	"vindu/clinic/grants"
	"vindu/clinic/register"
	"vindu/clinic/setup"
	devicecall "vindu/device/call"
	"vindu/device/call/calltest"
	"vindu/device/screen"
	"vindu/protocol"
	"vindu/protocol/passkeytest"
)

// way leads to the clinic, and loses what it is told to.
type way struct {
	net.Listener
	deafUp, deafDown atomic.Bool // what a terminal, or the clinic, sends is taken and lost
	lost             atomic.Int64

	mu    sync.Mutex
	conns []net.Conn
}

func newWay(t *testing.T, to string) *way {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &way{Listener: l}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", to)
			if err != nil {
				near.Close()
				continue
			}
			w.mu.Lock()
			w.conns = append(w.conns, near, far)
			w.mu.Unlock()
			running.Go(func() { w.carry(far, near, &w.deafUp) })
			running.Go(func() { w.carry(near, far, &w.deafDown) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		w.cut()
		running.Wait()
	})
	return w
}

func (w *way) carry(to, from net.Conn, deaf *atomic.Bool) {
	defer to.Close()
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		if deaf.Load() {
			w.lost.Add(int64(n))
		} else if _, err := to.Write(buffer[:n]); err != nil {
			return
		}
		if err != nil {
			return
		}
	}
}

// cut ends all connections.
func (w *way) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.conns {
		c.Close()
	}
	w.conns = nil
}

// mend lets through what comes from now on, over other connections.
func (w *way) mend() {
	w.deafUp.Store(false)
	w.deafDown.Store(false)
	w.cut()
}

// until waits for something that is not told of.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	for late := time.After(time.Minute); !is(); {
		select {
		case <-poll.C:
		case <-late:
			t.Fatalf("after a minute: not %s", what)
		}
	}
}

// keeps tells which of what has to be destroyed is in a terminal's folder.
func keeps(t *testing.T, folder string) (names []string) {
	t.Helper()
	for _, name := range []string{"identity/key.pem", "identity/clinic.pem", "outbox.db", "calls"} {
		if _, err := os.Stat(filepath.Join(folder, name)); err == nil {
			names = append(names, name)
		}
	}
	return names
}

func marked(folder string) string {
	b, _ := os.ReadFile(filepath.Join(folder, "returning"))
	word, _, _ := strings.Cut(string(b), "\n")
	return word
}

// onDisk is what a terminal finds that loses its power now. Its files are replaced whole, and its database survives a copy as it does a power cut.
func onDisk(t *testing.T, folder string) string {
	t.Helper()
	copied := filepath.Join(t.TempDir(), "after-the-cut")
	if err := os.CopyFS(copied, os.DirFS(folder)); err != nil {
		t.Fatal(err)
	}
	err := filepath.WalkDir(copied, func(path string, e os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if e.IsDir() {
			return os.Chmod(path, 0o700)
		}
		return os.Chmod(path, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
	return copied
}

// order returns the one order that was given for a terminal.
func (c *clinic) order(t *testing.T, terminal protocol.KeyHash) setup.Order {
	t.Helper()
	orders, err := c.setup.Orders(t.Context(), terminal)
	if err != nil || len(orders) != 1 {
		t.Fatalf("orders %+v, %v", orders, err)
	}
	return orders[0]
}

// heard waits until a terminal has told the clinic how it is.
func (c *clinic) heard(t *testing.T, terminal protocol.KeyHash) {
	t.Helper()
	until(t, "heard of", func() bool {
		var n int
		err := c.store.Read().QueryRowContext(t.Context(), "SELECT count(*) FROM fleet_terminals WHERE terminal = ? AND health IS NOT NULL", terminal[:]).Scan(&n)
		return err == nil && n > 0
	})
}

// receipts counts those in the audit log.
func (c *clinic) receipts(t *testing.T, terminal protocol.KeyHash) (n int) {
	t.Helper()
	entries, err := c.audit.Entries(t.Context(), -1, 1000)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.What == audit.Decommissioned && e.Subject == terminal.Name() {
			n++
		}
	}
	return n
}

func ready(s screen.Scene) bool    { return s.Kind == screen.Ready && !s.Offline }
func goesBack(s screen.Scene) bool { return s.Kind == screen.Returned }

// TestReceiptLost: what a terminal that is taken out of use signs last does not arrive. It keeps its key, and says it again over the next connection, or after
// a power cut; the clinic stores it once; only then key and state are destroyed.
func TestReceiptLost(t *testing.T) {
	s := start(t, newClinic(t))
	c := beside(t, s.dir)
	for _, test := range []struct {
		name     string
		powerCut bool
	}{{"the connection is cut", false}, {"the power is cut", true}} {
		t.Run(test.name, func(t *testing.T) {
			w := newWay(t, s.front())
			folder, id := setUpBy(t, s, test.name, w.Addr().String())
			cancel, done, see := runTerminal(t, folder)
			see("that it is ready", ready)
			c.heard(t, id.Key())
			before := onDisk(t, folder)
			w.deafUp.Store(true)
			must(t, "decommission", "-dir", s.dir, "-home", test.name, "-reason", "the loan is over")
			see("that it is to be returned", goesBack)
			from := w.lost.Load()
			until(t, "on its way", func() bool { return w.lost.Load() > from+200 })
			if o := c.order(t, id.Key()); o.State != setup.OrderWaiting || o.Sent.IsZero() || marked(folder) != "ordered" || len(keeps(t, folder)) < 3 {
				t.Fatalf("the order is %s, the mark %q, left %v", o.State, marked(folder), keeps(t, folder))
			}
			signed := onDisk(t, folder)
			if test.powerCut {
				cancel()
				if err := <-done; err != nil {
					t.Fatal(err)
				}
				if len(keeps(t, folder)) < 3 {
					t.Errorf("a stop destroyed something: left %v", keeps(t, folder))
				}
				folder = signed
				signed = onDisk(t, folder)
				w.mend()
				cancel, done, see = runTerminal(t, folder)
				see("that it is to be returned", goesBack)
			} else {
				w.mend()
			}
			until(t, "the receipt at the clinic", func() bool { return c.order(t, id.Key()).State == setup.OrderDone })
			until(t, "destroyed", func() bool { return len(keeps(t, folder)) == 0 && marked(folder) == "returned" })
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
			receipt := new(protocol.Decommissioned)
			o := c.order(t, id.Key())
			if err := protocol.Verify(o.Receipt, id.Signer().Public().(*ecdsa.PublicKey), receipt); err != nil || receipt.Order != protocol.HashOf(o.Signed) {
				t.Errorf("receipt %+v, %v", receipt, err)
			}

			// The clinic has it, but the terminal lost its power before it heard so. The clinic has cut it off meanwhile: that is an answer too.
			until(t, "revoked", func() bool {
				k, err := c.register.ByTerminal(t.Context(), id.Key())
				return err == nil && !k.Revoked.IsZero()
			})
			synctest.Test(t, func(t *testing.T) {
				cancel, done, see := runTerminal(t, signed)
				see("that it is to be returned", goesBack)
				began := time.Now()
				for len(keeps(t, signed)) > 0 && time.Since(began) < time.Hour {
					time.Sleep(time.Second) // allowed: of the bubble
				}
				if after := time.Since(began); after < 10*time.Minute || after > 20*time.Minute {
					t.Errorf("destroyed after %v", after)
				}
				cancel()
				if err := <-done; err != nil {
					t.Error(err)
				}
			})
			// One that lost its power before it had written down that it was ordered is revoked and says so; its key is good for nothing.
			cancel, done, see = runTerminal(t, before)
			see("that it is refused", func(s screen.Scene) bool { return len(s.Faults) > 0 && s.Faults[0] == protocol.LinkRefused })
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
			if n := c.receipts(t, id.Key()); n != 1 || !bytes.Equal(c.order(t, id.Key()).Receipt, o.Receipt) {
				t.Errorf("%d receipts in the audit log", n)
			}
		})
	}
}

// TestOrderLost: a terminal loses its power before it has written an order down, and gets it again.
func TestOrderLost(t *testing.T) {
	s := start(t, newClinic(t))
	c := beside(t, s.dir)
	w := newWay(t, s.front())
	folder, id := setUpBy(t, s, "Home 17", w.Addr().String())
	cancel, done, see := runTerminal(t, folder)
	see("that it is ready", ready)
	c.heard(t, id.Key())
	w.deafDown.Store(true)
	must(t, "decommission", "-dir", s.dir, "-home", "Home 17", "-reason", "the loan is over")
	until(t, "sent", func() bool { return !c.order(t, id.Key()).Sent.IsZero() })
	after := onDisk(t, folder)
	cancel()
	if err := <-done; err != nil || marked(folder) != "" {
		t.Fatalf("%v, the mark is %q", err, marked(folder))
	}
	w.mend()
	cancel, done, see = runTerminal(t, after)
	see("that it is to be returned", goesBack)
	until(t, "destroyed", func() bool { return len(keeps(t, after)) == 0 })
	if o := c.order(t, id.Key()); o.State != setup.OrderDone || c.receipts(t, id.Key()) != 1 {
		t.Errorf("the order is %s", o.State)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// caller is a clinician's page without a browser.
type caller struct {
	*http.Client
	t       *testing.T
	pages   string
	page    string
	updates chan update
	passkey *passkeytest.Authenticator
	proven  protocol.Hash     // the invitation of the last call
	key     *ecdsa.PrivateKey // of the last call
	ended   <-chan struct{}   // closed when the page's stream is
}

type update struct {
	Call, Kind string
	Code       protocol.Code
	End        []byte
}

// signIn is somebody who may call a home, at its page.
func signIn(t *testing.T, s *serving, clinic *clinic, home string) *caller {
	t.Helper()
	return signInAs(t, s, clinic, home, "Anne Berg")
}

func signInAs(t *testing.T, s *serving, clinic *clinic, home, name string) *caller {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	c := &caller{Client: &http.Client{Jar: jar}, t: t, pages: s.ready["pages"].(string), page: strings.Repeat("0a", 16), updates: make(chan update, 100)}
	person, err := clinic.register.EnsurePerson(t.Context(), "test", protocol.Party{Name: name, Role: "nurse", Organisation: "Fjordbyen kommune"}, register.Clinician)
	if err != nil {
		t.Fatal(err)
	}
	link, err := clinic.sessions.Link(t.Context(), "test", person.ID, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	response, err := c.Get(c.pages + link)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	c.passkey = passkeytest.New(t, passkeytest.ES256)
	clinic.keepPasskey(t, person.ID, c.passkey.Credential(t))
	_, err = clinic.grants.Give(t.Context(), "test", grants.Grant{
		Person: person.ID, Employment: "employed", Callers: "staff", Scope: protocol.Scope{Homes: []string{home}}, From: time.Now(), To: time.Now().Add(time.Hour), Reason: "test",
	})
	if err != nil {
		t.Fatal(err)
	}
	stream, err := c.Get(c.pages + "/events?page=" + c.page)
	if err != nil || stream.StatusCode != http.StatusOK {
		t.Fatal(stream, err)
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		lines := bufio.NewScanner(stream.Body)
		lines.Buffer(nil, 1<<20)
		for event := ""; lines.Scan(); {
			if name, ok := strings.CutPrefix(lines.Text(), "event: "); ok {
				event = name
			}
			data, ok := strings.CutPrefix(lines.Text(), "data: ")
			if u := (update{}); ok && event == "call" && json.Unmarshal([]byte(data), &u) == nil {
				c.updates <- u
			}
		}
	}()
	c.ended = read
	t.Cleanup(func() {
		stream.Body.Close()
		<-read
		c.CloseIdleConnections()
	})
	return c
}

// ring calls a terminal.
func (c *caller) ring(home string, terminal protocol.KeyHash) protocol.CallID {
	c.t.Helper()
	var own struct {
		RP            string         `json:"rp"`
		Authorisation []byte         `json:"authorisation"`
		Party         protocol.Party `json:"party"`
	}
	said, err := c.Get(c.pages + "/api/authorisation")
	if err == nil {
		err = json.NewDecoder(said.Body).Decode(&own)
		said.Body.Close()
	}
	if err != nil {
		c.t.Fatal(err)
	}
	c.key = calltest.NewKey(c.t)
	call, now, offer := protocol.NewCallID(), protocol.At(time.Now()), calltest.Offer(calltest.Caller)
	raw, err := protocol.Encode(&protocol.Invitation{
		Version: protocol.Version, Call: call, Terminal: terminal, Caller: calltest.Caller, Offer: protocol.HashOf(offer), Parties: []protocol.Party{own.Party}, Issued: now, Expires: now + 90_000,
		Nonce: protocol.NewNonce(), Key: calltest.SPKI(c.t, c.key), Authorisation: protocol.HashOf(own.Authorisation),
	})
	if err != nil {
		c.t.Fatal(err)
	}
	c.proven = protocol.HashOf(raw)
	a := c.passkey.Assert(c.t, protocol.RelyingParty{ID: own.RP, Origins: []string{c.pages}}, c.proven)
	body, err := json.Marshal(map[string]any{
		"home": home, "page": c.page, "offer": offer, "invitation": raw,
		"assertion": map[string][]byte{"credential": a.Credential, "authenticator_data": a.AuthenticatorData, "client_data": a.ClientData, "signature": a.Signature},
	})
	if err != nil {
		c.t.Fatal(err)
	}
	response, err := c.Post(c.pages+"/api/calls", "application/json", bytes.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	defer response.Body.Close()
	if said, err := io.ReadAll(response.Body); err != nil || response.StatusCode != http.StatusCreated {
		c.t.Fatalf("ring: %s, %s, %v", response.Status, said, err)
	}
	return call
}

// TestOrderedInCall: a terminal is taken out of use in the middle of a call. Camera and microphone are closed first; then it signs the call's end, which says
// why; then it gives its receipt.
func TestOrderedInCall(t *testing.T) {
	s := start(t, newClinic(t))
	c := beside(t, s.dir)
	if err := c.grants.SetPolicy(t.Context(), "test", "", grants.Settings{Rules: map[string]grants.Rule{"staff": {Mode: protocol.ModeRing}}}); err != nil {
		t.Fatal(err)
	}
	folder, id := setUp(t, s, "Home 17")
	hold := make(chan struct{})
	media := &calltest.Media{NewSession: func(s *calltest.Session) { s.HoldClose = hold }}
	cancel, done, see := runTerminalWith(t, folder, media)
	see("that it is ready", ready)
	home, err := c.register.ByTerminal(t.Context(), id.Key())
	if err != nil {
		t.Fatal(err)
	}
	page := signIn(t, s, c, home.Home)
	call := page.ring(home.Home, id.Key())
	see("who calls", func(s screen.Scene) bool { return s.Kind == screen.Ringing })
	until(t, "prepared", func() bool { return len(media.Sessions()) == 1 })
	session := media.Sessions()[0]
	session.Say(devicecall.MediaEvent{Kind: devicecall.MediaConnected})
	session.Say(devicecall.MediaEvent{Kind: devicecall.MediaSeen})
	see("the call", func(s screen.Scene) bool { return s.Kind == screen.InCall })
	until(t, "open", func() bool { return session.IsOpen(devicecall.Camera) && session.IsOpen(devicecall.Microphone) })

	must(t, "decommission", "-dir", s.dir, "-home", "Home 17", "-reason", "the loan is over")
	until(t, "ordered", func() bool { return marked(folder) == "ordered" })
	if o := c.order(t, id.Key()); o.Receipt != nil || !session.IsOpen(devicecall.Camera) {
		t.Error("a receipt came while the camera was open")
	}
	for len(page.updates) > 0 {
		if u := <-page.updates; u.Kind == "end" {
			t.Error("the call's end was told while the camera was open")
		}
	}
	close(hold)
	end := new(protocol.End)
	for late := time.After(time.Minute); end.Reason == ""; {
		select {
		case u := <-page.updates:
			if u.Kind != "end" {
				continue
			}
			if err := protocol.Verify(u.End, id.Signer().Public().(*ecdsa.PublicKey), end); err != nil || u.Code != protocol.EndOutOfUse {
				t.Fatalf("%s, %v", u.Code, err)
			}
		case <-late:
			t.Fatal("the page was not told that the call is over")
		}
	}
	see("that the call has ended", func(s screen.Scene) bool { return s.Kind == screen.Ended && len(s.Faults) == 0 })
	see("that it is to be returned", goesBack)
	until(t, "the receipt at the clinic", func() bool { return c.order(t, id.Key()).State == setup.OrderDone })
	until(t, "destroyed", func() bool { return len(keeps(t, folder)) == 0 })
	receipt := new(protocol.Decommissioned)
	if err := protocol.Verify(c.order(t, id.Key()).Receipt, id.Signer().Public().(*ecdsa.PublicKey), receipt); err != nil {
		t.Fatal(err)
	}
	if end.Call != call || end.Reason != protocol.EndOutOfUse || end.CameraClosed == 0 || end.MicrophoneClosed == 0 || end.CameraClosed > end.At || end.MicrophoneClosed > end.At || end.At > receipt.At {
		t.Errorf("end %+v, receipt at %v", end, receipt.At)
	}
	// What the clinic has of it is in that order too, and the record of the call is whole.
	last := ""
	key := id.Key()
	rows, err := c.store.Read().QueryContext(t.Context(), "SELECT kind FROM fleet_events WHERE terminal = ? ORDER BY seq", key[:])
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	kinds := map[string]int{}
	for rows.Next() {
		if err := rows.Scan(&last); err != nil {
			t.Fatal(err)
		}
		kinds[last]++
	}
	if rows.Err() != nil || last != protocol.EventReceipt || kinds[protocol.EventOpening] != 4 || kinds[protocol.EventCall] != 1 || kinds[protocol.EventReceipt] != 1 {
		t.Errorf("events %v, the last is %q, %v", kinds, last, rows.Err())
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
