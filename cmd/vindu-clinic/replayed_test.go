package main

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"vindu/device/identity"
	"vindu/protocol"
	"vindu/provisioning"
)

// grows is how many bytes the heap of clinic and terminals together may have more after the replays than before.
const grows = 4 << 20

// resend sends what was recorded again.
func (x *replay) resend() {
	t := x.T
	one, other := x.keyOf(x.one), x.keyOf(x.other)
	before := x.tables(other)
	trust, policy := x.believed()
	opened, sessions := len(x.one.media.Opened()), len(x.one.media.Sessions())
	unchanged := func(after string) {
		t.Helper()
		if n := len(x.one.media.Opened()); n != opened || len(x.other.media.Opened()) != 0 {
			t.Errorf("%s: %d and %d devices opened, have to be %d and none", after, n, len(x.other.media.Opened()), opened)
		}
		if n := len(x.one.media.Sessions()); n != sessions || len(x.other.media.Sessions()) != 0 {
			t.Errorf("%s: %d and %d sessions were prepared, have to be %d and none", after, n, len(x.other.media.Sessions()), sessions)
		}
		for name, rows := range x.tables(other) {
			if !slices.Equal(rows, before[name]) {
				t.Errorf("%s: table %s has changed:\n%s", after, name, difference(before[name], rows))
			}
		}
	}
	x.toTerminal(x.one, one, 300) // warms up what is made once
	heap := x.heap()
	x.toTerminal(x.one, one, 2000)
	unchanged("to the same terminal after the end")
	x.one.stop()
	x.one.start()
	x.toTerminal(x.one, one, 2000)
	unchanged("to the same terminal after its restart")
	x.toTerminal(x.other, other, 1700)
	unchanged("to another terminal")
	x.one.stop()
	x.other.stop()
	x.toClinic(x.one, one, 1800)
	unchanged("to the clinic by the same terminal")
	x.toClinic(x.other, other, 1800)
	unchanged("to the clinic by another terminal")
	x.requests()
	unchanged("requests to the clinic")
	x.posts()
	unchanged("what pages had posted")
	x.answers()
	unchanged("the clinic's answers")
	if trustNow, policyNow := x.believed(); trustNow != trust || policyNow != policy {
		t.Errorf("trust %d and policy %d are believed, were %d and %d", trustNow, policyNow, trust, policy)
	}
	now := x.heap()
	t.Logf("%d messages were sent again; the heap has %d KiB, had %d", x.sent, now>>10, heap>>10)
	if now > heap+grows {
		t.Errorf("the heap has grown by %d KiB", (now-heap)>>10)
	}
	for _, h := range []*home{x.one, x.other} {
		for _, name := range []string{"calls", "outbox.db"} {
			if f, err := os.Stat(filepath.Join(h.folder, name)); err == nil && f.Size() > map[string]int64{"calls": 64 << 10, "outbox.db": 32 << 20}[name] {
				t.Errorf("%s: %s has %d bytes", h.label, name, f.Size())
			}
		}
	}
}

func (x *replay) keyOf(h *home) protocol.KeyHash {
	x.Helper()
	home, err := x.c.register.Home(x.Context(), x.homeOf(h.label))
	if err != nil {
		x.Fatal(err)
	}
	return home.Terminal
}

// settled waits until the clinic has every event that a terminal has sent.
func (x *replay) settled(key protocol.KeyHash) {
	x.Helper()
	until(x.T, "every event stored", func() bool {
		sent := map[[2]any]bool{}
		for _, r := range slices.Concat(x.one.tap.recordings(), x.other.tap.recordings()) {
			if e := new(protocol.Event); r.topic == protocol.OutTopic(key, protocol.OutEvent) && protocol.Decode(r.payload, e) == nil {
				sent[[2]any{e.Epoch, e.Seq}] = true
			}
			report := new(protocol.Report)
			if r.path != protocol.PathReport || key != x.keyOf(x.one) || protocol.Decode(r.payload, report) != nil {
				continue
			}
			for _, e := range report.Events {
				sent[[2]any{e.Epoch, e.Seq}] = true
			}
		}
		stored := 0
		if err := x.c.store.Read().QueryRowContext(x.Context(), "SELECT count(*) FROM fleet_events WHERE terminal = ?", key[:]).Scan(&stored); err != nil {
			x.Fatal(err)
		}
		return stored == len(sent)
	})
}

// told are tables that tell of what is said, refused and shown, and may grow by it. Each is bounded where it is written.
var told = []string{"alarms", "audit", "fleet_terminals", "setup_refused", "sqlite_sequence"}

// tables is what the clinic has, but for what the other terminal has said in its own name: that is stored, and true of itself.
func (x *replay) tables(other protocol.KeyHash) map[string][]string {
	t := x.T
	t.Helper()
	rows, err := x.c.store.Read().QueryContext(t.Context(), "SELECT name FROM sqlite_master WHERE type = 'table'")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var names []string
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			t.Fatal(err)
		}
		if !slices.ContainsFunc(told, func(prefix string) bool { return strings.HasPrefix(name, prefix) }) {
			names = append(names, name)
		}
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	found := map[string][]string{}
	for _, name := range names {
		found[name] = x.table(name, other)
	}
	delete(found, "fleet_cursors") // which rise with the notices
	if n := len(found["certificates"]); n > 20 {
		t.Errorf("%d certificates", n)
	}
	delete(found, "certificates") // to renew its own, a few times an hour, does a terminal no harm
	if len(found) < 20 || len(found["calls"]) < 2 || len(found["ledger_openings"]) < 2 || len(found["setup_hand_overs"]) != 1 {
		t.Fatalf("the clinic's tables were not understood: %d, %v", len(found), found["calls"])
	}
	return found
}

func (x *replay) table(name string, other protocol.KeyHash) (found []string) {
	t := x.T
	t.Helper()
	rows, err := x.c.store.Read().QueryContext(t.Context(), "SELECT * FROM "+name)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		t.Fatal(err)
	}
	own := slices.Contains([]string{"fleet_events", "fleet_cursors", "fleet_conditions", "ledger_openings", "ledger_heads", "setup_hand_overs"}, name)
	for rows.Next() {
		values := make([]any, len(columns))
		into := make([]any, len(columns))
		for i := range values {
			into[i] = &values[i]
		}
		if err := rows.Scan(into...); err != nil {
			t.Fatal(err)
		}
		text, theirs := "", false
		for i, v := range values {
			if name == "vouchers" && strings.HasPrefix(columns[i], "refused") {
				continue // how often, and why
			}
			if b, ok := v.([]byte); ok {
				theirs = theirs || columns[i] == "terminal" && bytes.Equal(b, other[:])
				v = fmt.Sprintf("%x", b)
			}
			text += fmt.Sprintf("%s=%v ", columns[i], v)
		}
		notice := strings.Contains(text, " kind=notice ") // of what terminals refuse, a few of them in a minute
		if (!own || !theirs) && !notice {
			found = append(found, text)
		}
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	slices.Sort(found)
	return found
}

func difference(before, after []string) (text string) {
	for _, a := range after {
		if !slices.Contains(before, a) {
			text += "now " + a + "\n"
		}
	}
	for _, b := range before {
		if !slices.Contains(after, b) {
			text += "was " + b + "\n"
		}
	}
	return text
}

func (x *replay) heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// believed are the serial numbers of the first terminal's trust and policy.
func (x *replay) believed() (trust, policy uint64) {
	dir := x.TempDir() // a copy: its program may run
	if err := os.CopyFS(filepath.Join(dir, "identity"), os.DirFS(filepath.Join(x.one.folder, "identity"))); err != nil {
		x.Fatal(err)
	}
	copied := &home{t: x.T, folder: dir, keys: x.one.keys}
	copied.with(func(id *identity.Identity) { trust, policy = id.Trust().Serial, id.Policy().Serial })
	return trust, policy
}

// toTerminal sends, by the broker, what terminals were told to one of them.
func (x *replay) toTerminal(h *home, key protocol.KeyHash, n int) {
	t := x.T
	t.Helper()
	var in []recorded
	var invites []recorded
	for _, r := range x.all {
		if _, direction, channel := cutTopic(r.topic); direction == "in" {
			in = append(in, r)
			if m := new(protocol.CallIn); channel == protocol.InCall && protocol.Decode(r.payload, m) == nil && m.Invite != nil {
				invites = append(invites, r)
			}
		}
	}
	own, err := x.c.authority.Client().Certificate()
	if err != nil {
		t.Fatal(err)
	}
	refused := make(chan protocol.Code, 4096)
	hears := map[string]mqtt.MessageHandler{protocol.AllOut: func(_ mqtt.Client, m mqtt.Message) {
		out := new(protocol.CallOut)
		if m.Topic() != protocol.OutTopic(key, protocol.OutCall) || protocol.Decode(m.Payload(), out) != nil {
			return
		}
		if out.Kind != protocol.KindRefusal {
			t.Errorf("%s answered a replay: %s", h.label, out.Kind)
		}
		refused <- out.Refusal
	}}
	x.connect(*own, hears, func(thief mqtt.Client) {
		topic := func(r recorded) string {
			_, _, channel := cutTopic(r.topic)
			return protocol.InTopic(key, channel)
		}
		for i := 0; i < n; {
			asked := 0
			send := func(r recorded) {
				x.publish(thief, topic(r), r.payload)
				i++
				x.sent++
				if slices.ContainsFunc(invites, func(v recorded) bool { return bytes.Equal(v.payload, r.payload) }) {
					asked++
				}
			}
			for range 24 { // fewer than the terminal's queues hold
				send(in[(i*7+i/len(in))%len(in)])
			}
			send(invites[i%len(invites)]) // the refusal of the last says that all before was handled
			// The command to renew its certificate, sent again, has a terminal connect anew: what is on its way then is lost, and asked again.
			again := time.NewTicker(3 * time.Second)
			for late := time.After(time.Minute); asked > 0; {
				select {
				case code := <-refused:
					asked--
					if !slices.Contains([]protocol.Code{protocol.AuthReplayed, protocol.AuthOtherTerminal, protocol.AuthScope, protocol.AuthExpired, protocol.AuthUnproven}, code) {
						t.Errorf("%s refused a replay with %s", h.label, code)
					}
				case <-again.C:
					asked = 1
					x.publish(thief, topic(invites[0]), invites[0].payload)
				case <-late:
					t.Fatalf("%s did not refuse a replay", h.label)
				}
			}
			again.Stop()
		}
	})
}

// toClinic sends what terminals had said to the clinic as one of them.
func (x *replay) toClinic(h *home, key protocol.KeyHash, n int) {
	t := x.T
	t.Helper()
	var out []recorded
	var last recorded // its acknowledgement says that all before was stored or left aside
	var epoch protocol.Nonce
	calls := 0
	for _, r := range x.all {
		if _, direction, channel := cutTopic(r.topic); direction == "out" {
			e := new(protocol.Event)
			switch {
			case key == x.keyOf(x.one) && r.topic != protocol.OutTopic(key, channel): // what others have said, it would say in its own name
			case channel == protocol.OutEvent && protocol.Decode(r.payload, e) == nil && e.Kind == protocol.EventHandOver:
				last, epoch = r, e.Epoch
			default:
				out = append(out, r)
			}
		}
	}
	var own tls.Certificate
	h.with(func(id *identity.Identity) {
		own = tls.Certificate{PrivateKey: id.Signer()}
		for _, c := range id.Grant().Chain {
			own.Certificate = append(own.Certificate, c.Raw)
		}
	})
	acks := make(chan protocol.Ack, 4096)
	hears := map[string]mqtt.MessageHandler{protocol.InFilter(key): func(_ mqtt.Client, m mqtt.Message) {
		if m.Topic() != protocol.InTopic(key, protocol.InAck) {
			return
		}
		if a, err := protocol.VerifyAck(m.Payload(), [][]byte{x.c.authority.Service()}, key); err == nil {
			acks <- *a
		}
	}}
	x.connect(own, hears, func(c mqtt.Client) {
		for i := 0; i < n; {
			for range 24 {
				r := out[(i*7+i/len(out))%len(out)]
				_, _, channel := cutTopic(r.topic)
				if channel == protocol.OutCall {
					if calls++; calls > 200 { // more at a time the clinic does not listen to
						r, channel = last, protocol.OutEvent
					}
				}
				x.publish(c, protocol.OutTopic(key, channel), r.payload)
				i++
				x.sent++
			}
			x.publish(c, protocol.OutTopic(key, protocol.OutEvent), last.payload)
			i++
			x.sent++
			for a := (protocol.Ack{}); a.Epoch != epoch; {
				select {
				case a = <-acks:
				case <-time.After(time.Minute):
					t.Fatal("not acknowledged")
				}
			}
		}
	})
}

// requests sends what terminals had asked for again: by nobody, and by another terminal.
func (x *replay) requests() {
	t := x.T
	theirs := slices.Concat(x.one.tap.recordings(), x.gone.tap.recordings())
	x.other.with(func(id *identity.Identity) {
		own := tls.Certificate{PrivateKey: id.Signer()}
		for _, c := range id.Grant().Chain {
			own.Certificate = append(own.Certificate, c.Raw)
		}
		for _, by := range [][]tls.Certificate{nil, {own}} {
			transport := &http.Transport{TLSClientConfig: &tls.Config{
				MinVersion: tls.VersionTLS13, RootCAs: x.c.authority.Pool(), ServerName: x.c.config.Terminals.Name, Certificates: by,
			}}
			client := &http.Client{Transport: transport, Timeout: time.Minute}
			for i := range 300 {
				var r recorded
				for n := i; ; n++ {
					if r = theirs[n%len(theirs)]; r.method == http.MethodPost {
						break
					}
				}
				request, err := http.NewRequestWithContext(t.Context(), r.method, "https://"+x.s.front()+r.path, bytes.NewReader(r.payload))
				if err != nil {
					t.Fatal(err)
				}
				request.Header = r.header.Clone()
				response, err := client.Do(request)
				if err != nil {
					t.Fatal(err)
				}
				_, _ = io.Copy(io.Discard, response.Body)
				response.Body.Close()
				x.sent++
				if by != nil && (r.path == protocol.PathTestCall || r.path == protocol.PathReport) {
					continue // it asks for a call to itself, and there was one of that name; or says of itself what another is like
				}
				if code := response.Header.Get(protocol.FailureHeader); response.StatusCode < 400 || code == "" {
					t.Errorf("%s by %d certificates: %s, %q", r.path, len(by), response.Status, code)
				}
			}
			transport.CloseIdleConnections()
		}
	})
}

// posts sends what pages had posted again: by the same person, by nobody, and by another person.
func (x *replay) posts() {
	t := x.T
	for name, client := range map[string]*http.Client{"the same person": x.page.Client, "nobody": {}, "another person": x.stranger.Client} {
		for i := range 100 {
			r := x.kept.kept[i%4]
			request, err := http.NewRequestWithContext(t.Context(), r.method, x.page.pages+r.path, bytes.NewReader(r.payload))
			if err != nil {
				t.Fatal(err)
			}
			request.Header = r.header.Clone()
			response, err := client.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, response.Body)
			response.Body.Close()
			x.sent++
			// What was said of a call that is over may be said again by who said it, and changes nothing. Whoever hangs up a call that the clinic does not
			// know, any more, gives up one of the own.
			again := name == "the same person" && r.path != "/api/calls" || name == "another person" && strings.HasSuffix(r.path, "/hang-up")
			if !again && response.StatusCode < 400 {
				t.Errorf("%s by %s: %s", r.path, name, response.Status)
			}
		}
		client.CloseIdleConnections()
	}
}

// answers has a terminal asked by somebody in the clinic's place, who has its answers of before, for the time and the settings.
func (x *replay) answers() {
	t := x.T
	old := map[string][][]byte{}
	for _, r := range x.all {
		path, _, _ := strings.Cut(r.path, "?")
		if path == protocol.PathSettings || path == protocol.PathClock || path == protocol.PathTrust {
			old[path] = append(old[path], r.answer)
		}
	}
	x.one.with(func(id *identity.Identity) {
		client := &provisioning.Client{Signer: id.Signer(), Now: time.Now}
		grant := provisioning.Grant(*id.Grant())
		trust, policy := id.Trust().Serial, id.Policy().Serial
		x.one.tap.replay(old)
		refused := 0
		for range 2 * max(len(old[protocol.PathSettings]), 60) {
			if at, _, err := client.Time(t.Context(), &grant); err == nil {
				t.Errorf("the time of another question was believed: %v", at)
			}
			settings, _, err := client.Settings(t.Context(), &grant)
			if err != nil {
				t.Fatal(err)
			}
			notices, err := id.KeepSettings(settings)
			if err != nil {
				t.Fatal(err)
			}
			refused += len(notices)
			if id.Trust().Serial != trust || id.Policy().Serial != policy || id.Policy().Terminal != id.Key() {
				t.Fatalf("trust %d and policy %d are believed, were %d and %d", id.Trust().Serial, id.Policy().Serial, trust, policy)
			}
		}
		x.sent += x.one.tap.again()
		x.one.tap.replay(nil)
		if refused == 0 {
			t.Error("nothing old was refused")
		}
	})
}
