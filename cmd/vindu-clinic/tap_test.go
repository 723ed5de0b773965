package main

import (
	"bufio"
	"bytes"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"net"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/veraison/go-cose"

	"vindu/device/identity"
	"vindu/device/state"
	"vindu/protocol"
)

// recorded is a message as it went over the line.
type recorded struct {
	topic   string // of MQTT; else
	retain  bool   // of MQTT: the broker is to keep it
	method  string // of HTTP
	path    string
	header  http.Header
	payload []byte // of a request, if it is one
	answer  []byte
}

// tap stands between a terminal and its clinic, with the certificates of both, and keeps all that they say to each other.
type tap struct {
	t    *testing.T
	to   string
	leaf func(*tls.ClientHelloInfo) (*tls.Certificate, error) // the clinic's
	keys *signers                                             // the terminals'
	http chan net.Conn
	net.Listener

	mu       sync.Mutex
	kept     []recorded
	full     bool // nothing more is kept
	conns    []net.Conn
	answers  map[string][][]byte // HTTP: by path, what is answered in place of the clinic; nil: nothing
	answered int
}

// signers are the keys of terminals, as they come to be.
type signers struct {
	identity.Keys
	mu  sync.Mutex
	all map[protocol.KeyHash]crypto.Signer
}

func (k *signers) add(store identity.Keystore, err error) (identity.Keystore, error) {
	if err != nil || store == nil {
		return store, err
	}
	hash, err := protocol.HashKey(store.Signer().Public())
	if err != nil {
		return nil, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.all[hash] = store.Signer()
	return store, nil
}

func (k *signers) of(c *x509.Certificate) crypto.Signer {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.all[protocol.HashSPKI(c.RawSubjectPublicKeyInfo)]
}

// Open implements identity.Keys.
func (k *signers) Open(dir *state.Dir) (identity.Keystore, error) { return k.add(k.Keys.Open(dir)) }

// Next implements identity.Keys.
func (k *signers) Next(dir *state.Dir) (identity.Keystore, error) { return k.add(k.Keys.Next(dir)) }

// Beside implements identity.Keys.
func (k *signers) Beside(dir *state.Dir) (identity.Keystore, error) { return k.add(k.Keys.Beside(dir)) }

func newTap(t *testing.T, s *serving, c *clinic, keys *signers) *tap {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	x := &tap{t: t, to: s.front(), leaf: c.authority.Server(c.config.Terminals.Name).GetCertificate, keys: keys, http: make(chan net.Conn), Listener: l}
	server := &http.Server{Handler: http.HandlerFunc(x.request)}
	over := make(chan struct{})
	pages := tapped{x, over}
	var running sync.WaitGroup
	running.Go(func() { _ = server.Serve(pages) })
	running.Go(func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			x.hold(near)
			running.Go(func() { x.serve(near, over, &running) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		close(over)
		x.cut()
		server.Close()
		running.Wait()
	})
	return x
}

// tapped is the listener of those connections that speak HTTP.
type tapped struct {
	*tap
	over chan struct{}
}

func (p tapped) Accept() (net.Conn, error) {
	select {
	case c := <-p.http:
		return c, nil
	case <-p.over:
		return nil, net.ErrClosed
	}
}

func (x *tap) hold(c net.Conn) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.conns = append(x.conns, c)
}

// cut ends all connections.
func (x *tap) cut() {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, c := range x.conns {
		c.Close()
	}
	x.conns = nil
}

func (x *tap) serve(raw net.Conn, over chan struct{}, running *sync.WaitGroup) {
	near := tls.Server(raw, &tls.Config{
		MinVersion: tls.VersionTLS13, GetCertificate: x.leaf, ClientAuth: tls.RequestClientCert, NextProtos: []string{protocol.ALPNMQTT, "http/1.1"},
	})
	if err := near.Handshake(); err != nil {
		raw.Close()
		return
	}
	if near.ConnectionState().NegotiatedProtocol != protocol.ALPNMQTT {
		select {
		case x.http <- near:
		case <-over:
			raw.Close()
		}
		return
	}
	far, err := tls.Dial("tcp", x.to, x.as(near.ConnectionState(), protocol.ALPNMQTT))
	if err != nil {
		raw.Close()
		return
	}
	x.hold(far)
	running.Go(func() { x.carry(near, far) })
	x.carry(far, near)
}

// as is how the tap connects to the clinic: as the one who is connected to it.
func (x *tap) as(peer tls.ConnectionState, alpn ...string) *tls.Config {
	c := &tls.Config{MinVersion: tls.VersionTLS13, InsecureSkipVerify: true, ServerName: peer.ServerName, NextProtos: alpn} // of a tap, which has the clinic's key itself
	if len(peer.PeerCertificates) > 0 {
		own := tls.Certificate{PrivateKey: x.keys.of(peer.PeerCertificates[0])}
		for _, p := range peer.PeerCertificates {
			own.Certificate = append(own.Certificate, p.Raw)
		}
		c.Certificates = []tls.Certificate{own}
	}
	return c
}

// carry passes MQTT packets on and keeps what is published (MQTT 3.1.1 §3.3; everything goes at QoS 0).
func (x *tap) carry(to, from net.Conn) {
	defer to.Close()
	defer from.Close()
	r := bufio.NewReader(from)
	for {
		first, err := r.ReadByte()
		if err != nil {
			return
		}
		length, err := binary.ReadUvarint(r) // the same encoding (§2.2.3)
		if err != nil || length > 1<<20 {
			return
		}
		body := make([]byte, length)
		if _, err := io.ReadFull(r, body); err != nil {
			return
		}
		if first>>4 == 3 && len(body) > 2 {
			n := 2 + int(binary.BigEndian.Uint16(body))
			if n <= len(body) {
				x.keep(recorded{topic: string(body[2:n]), retain: first&1 == 1, payload: body[n:]})
			}
		}
		packet := append(binary.AppendUvarint([]byte{first}, length), body...)
		if _, err := to.Write(packet); err != nil {
			return
		}
	}
}

func (x *tap) keep(r recorded) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.full {
		return
	}
	r.payload = bytes.Clone(r.payload)
	x.kept = append(x.kept, r)
}

// request passes an HTTP request on, or answers it with what was answered before.
func (x *tap) request(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	x.mu.Lock()
	old, answering := x.answers[r.URL.Path]
	if answering && len(old) > 0 {
		answer := old[x.answered%len(old)]
		x.answered++
		x.mu.Unlock()
		_, _ = w.Write(answer)
		return
	}
	x.mu.Unlock()
	client := http.Client{Transport: &http.Transport{TLSClientConfig: x.as(*r.TLS), DisableKeepAlives: true}, Timeout: time.Minute}
	on, err := http.NewRequestWithContext(r.Context(), r.Method, "https://"+x.to+r.URL.RequestURI(), bytes.NewReader(body))
	if err != nil {
		return
	}
	on.Header = r.Header.Clone()
	response, err := client.Do(on)
	if err != nil {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		return
	}
	if response.StatusCode == http.StatusOK {
		x.keep(recorded{method: r.Method, path: r.URL.RequestURI(), header: r.Header.Clone(), payload: body, answer: answer})
	}
	for name, values := range response.Header {
		w.Header()[name] = values
	}
	w.WriteHeader(response.StatusCode)
	_, _ = w.Write(answer)
}

// replay has the tap answer with what it has recorded, nil: with what the clinic says.
func (x *tap) replay(answers map[string][][]byte) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.answers, x.answered = answers, 0
}

func (x *tap) again() int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.answered
}

// enough ends the recording, and returns it.
func (x *tap) enough() []recorded {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.full = true
	return slices.Clone(x.kept)
}

func (x *tap) recordings() []recorded {
	x.mu.Lock()
	defer x.mu.Unlock()
	return slices.Clone(x.kept)
}

// kinds are what of the protocol has been seen: its types, the values of its constants, its paths and channels.
type kinds map[string]int

// see looks into a recording.
func (k kinds) see(t *testing.T, r recorded) {
	t.Helper()
	if r.topic != "" {
		_, direction, channel := cutTopic(r.topic)
		k[direction+"/"+channel]++
		if channel == protocol.InAck && direction == "in" {
			if _, err := protocol.Unverified(r.payload, new(protocol.Ack)); err != nil {
				t.Errorf("recorded on %s: %v", r.topic, err)
			}
			k.statement(t, r.payload)
			return
		}
		m := map[string]any{
			"out/presence": new(protocol.Presence), "out/health": new(protocol.Health), "out/event": new(protocol.Event), "out/call": new(protocol.CallOut),
			"in/command": new(protocol.Command), "in/call": new(protocol.CallIn),
		}[direction+"/"+channel]
		k.decode(t, r.topic, r.payload, m)
		return
	}
	path, _, _ := strings.Cut(r.path, "?")
	k[path]++
	if user, password, ok := (&http.Request{Header: r.header}).BasicAuth(); ok {
		if _, _, err := protocol.ParseCredentials(user, protocol.Secret(password)); err != nil {
			t.Error(err)
		}
		k["Voucher"]++
	}
	switch path {
	case protocol.PathSettings:
		k.decode(t, path, r.answer, new(protocol.Settings))
	case protocol.PathRelay:
		k.decode(t, path, r.answer, new(protocol.RelayServers))
	case protocol.PathTestCall:
		k.decode(t, path, r.payload, new(protocol.TestCallRequest))
		k.decode(t, path, r.answer, new(protocol.TestCall))
	case protocol.PathReport:
		k.decode(t, path, r.payload, new(protocol.Report))
		k.decode(t, path, r.answer, new(protocol.Reported))
	case protocol.PathClock, protocol.PathTrust:
		k.statement(t, r.answer)
	}
}

func cutTopic(topic string) (terminal, direction, channel string) {
	parts := strings.Split(strings.TrimPrefix(topic, "vindu/v1/"), "/")
	if len(parts) != 3 {
		return "", "", topic
	}
	return parts[0], parts[1], parts[2]
}

func (k kinds) decode(t *testing.T, what string, b []byte, m any) {
	t.Helper()
	if m == nil {
		t.Errorf("recorded on %s: nobody knows what", what)
		return
	}
	if err := decode(b, m); err != nil {
		t.Errorf("recorded on %s: %v", what, err)
		return
	}
	k.walk(t, reflect.ValueOf(m))
	if e, ok := m.(*protocol.Event); ok {
		body, err := e.Open()
		if err != nil {
			t.Error(err)
			return
		}
		k.walk(t, reflect.ValueOf(body))
	}
}

// decode is protocol.Decode of a message whose type is not known when this is compiled.
func decode(b []byte, m any) error {
	out := reflect.ValueOf(protocol.Decode).Call([]reflect.Value{reflect.ValueOf(b), reflect.ValueOf(m)})
	err, _ := out[0].Interface().(error)
	return err
}

// walk notes each type that is in a message, and what is signed in it.
func (k kinds) walk(t *testing.T, v reflect.Value) {
	t.Helper()
	if v.Type().PkgPath() == reflect.TypeFor[protocol.Event]().PkgPath() && !v.IsZero() {
		k[v.Type().Name()]++
	}
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			k.walk(t, v.Elem())
		}
	case reflect.Struct:
		if f := v.FieldByName("Kind"); f.IsValid() && f.Kind() == reflect.String {
			k[v.Type().Name()+" "+f.String()]++
		}
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				k.walk(t, v.Field(i))
			}
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			k.statement(t, v.Bytes())
			return
		}
		for i := range v.Len() {
			k.walk(t, v.Index(i))
		}
	}
}

// statements are what travels signed, by its content type. An invitation by passkey is not in an envelope.
var statements = map[string]func() any{
	"vindu/invitation.v1": func() any { return new(protocol.Invitation) }, "vindu/answer.v1": func() any { return new(protocol.Answer) },
	"vindu/end.v1": func() any { return new(protocol.End) }, "vindu/authorisation.v1": func() any { return new(protocol.Authorisation) },
	"vindu/trust.v1": func() any { return new(protocol.Trust) }, "vindu/policy.v1": func() any { return new(protocol.Policy) },
	"vindu/key-order.v1": func() any { return new(protocol.KeyOrder) }, "vindu/mandate.v1": func() any { return new(protocol.Mandate) },
	"vindu/hand-over.v1": func() any { return new(protocol.HandOver) }, "vindu/decommission.v1": func() any { return new(protocol.Decommission) },
	"vindu/decommissioned.v1": func() any { return new(protocol.Decommissioned) }, "vindu/clock.v1": func() any { return new(protocol.Clock) },
	"vindu/ack.v1": func() any { return new(protocol.Ack) }, "vindu/candidates.v1": func() any { return new(protocol.Candidates) },
	"vindu/restart.v1": func() any { return new(protocol.Restart) },
	"vindu/curtain.v1": func() any { return new(protocol.Curtain) },
}

func (k kinds) statement(t *testing.T, b []byte) {
	t.Helper()
	payload := b
	kind := "vindu/invitation.v1"
	var m cose.Sign1Message
	if m.UnmarshalCBOR(b) == nil {
		payload = m.Payload
		kind, _ = m.Headers.Protected[cose.HeaderLabelContentType].(string)
		k[kind]++
		if statements[kind] == nil {
			t.Errorf("recorded: a statement of the kind %q, which nobody knows", kind)
			return
		}
	}
	s := statements[kind]()
	if decode(payload, s) != nil {
		return // a key, a hash, a signature
	}
	k.walk(t, reflect.ValueOf(s))
}

// wanted are all kinds that the protocol's source has: types that are checked, statements, kinds of messages, events and commands, channels and paths.
func wanted(t *testing.T) map[string]string {
	t.Helper()
	files := token.NewFileSet()
	packages, err := parser.ParseDir(files, "../../protocol", func(f fs.FileInfo) bool { return !strings.HasSuffix(f.Name(), "_test.go") }, 0)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	text := func(e ast.Expr) string {
		l, ok := e.(*ast.BasicLit)
		if !ok || l.Kind != token.STRING {
			return ""
		}
		s, err := strconv.Unquote(l.Value)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	ast.Inspect(packages["protocol"], func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncDecl:
			if n.Recv != nil && n.Name.Name == "valid" {
				e := n.Recv.List[0].Type
				if p, ok := e.(*ast.StarExpr); ok {
					e = p.X
				}
				found[e.(*ast.Ident).Name] = "type"
			}
		case *ast.ValueSpec:
			for i, name := range n.Names {
				if i >= len(n.Values) || text(n.Values[i]) == "" {
					continue
				}
				value := text(n.Values[i])
				for prefix, kind := range map[string]string{"Kind": "", "Event": "Event ", "Command": "Command ", "type": "", "Path": "", "Out": "out/", "In": "in/"} {
					rest, ok := strings.CutPrefix(name.Name, prefix)
					if !ok || rest == "" || rest[:1] != strings.ToUpper(rest[:1]) {
						continue
					}
					if prefix == "Kind" { // of which message, its types say
						kind = "CallIn "
						if value == protocol.KindAnswer || value == protocol.KindCandidate || value == protocol.KindEnd || value == protocol.KindRefusal {
							kind = "CallOut "
						}
					}
					found[kind+value] = "constant " + name.Name
				}
			}
		}
		return true
	})
	if len(found) < 60 {
		t.Fatalf("the protocol's source was not understood: %v", found)
	}
	return found
}

// elsewhere are kinds that are not recorded here, and why.
var elsewhere = map[string]string{
	"Session":          "of the cable, bound to both ends' new keys: provisioning/session",
	"vindu/session.v1": "of the cable, bound to both ends' new keys: provisioning/session",
	"CallProof":        "is kept at the clinic and sent to nobody",
	"Voucher":          "travels by its credentials, which are recorded",
}

// cover fails the test for every kind of message that was not recorded.
func (k kinds) cover(t *testing.T) {
	t.Helper()
	all := wanted(t)
	for name, what := range all {
		if k[name] == 0 && elsewhere[name] == "" {
			t.Errorf("%s (%s) was not recorded: have it sent, so that it is replayed", name, what)
		}
	}
	for name := range elsewhere {
		if all[name] == "" {
			t.Errorf("%s is not of the protocol", name)
		}
	}
}
