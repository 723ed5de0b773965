package session

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"io"
	"log/slog"
	"reflect"
	"strings"
	"testing"
	"unicode"

	"vindu/protocol"
	"vindu/provisioning/frame"
)

func TestNetworkValidate(t *testing.T) {
	for _, c := range []struct {
		name string
		n    Network
		ok   bool
	}{
		{"cable by DHCP", Network{Kind: Ethernet}, true},
		{"cable with an address", Network{Kind: Ethernet, Address: "192.0.2.7/24", Gateway: "192.0.2.1", DNS: []string{"192.0.2.1", "2001:db8::1"}}, true},
		{"IPv6", Network{Kind: Ethernet, Address: "2001:db8::7/64", Gateway: "2001:db8::1"}, true},
		{"cable with a Wi-Fi", Network{Kind: Ethernet, SSID: "x"}, false},
		{"WPA2", Network{Kind: WiFi, SSID: "Storgata 17", Security: WPA2, Password: "12345678", Country: "NO"}, true},
		{"WPA2 hidden", Network{Kind: WiFi, SSID: "å", Security: WPA2, Password: "æøå12345", Hidden: true}, false},
		{"WPA2 too short", Network{Kind: WiFi, SSID: "x", Security: WPA2, Password: "1234567"}, false},
		{"WPA2 too long", Network{Kind: WiFi, SSID: "x", Security: WPA2, Password: protocol.Secret(strings.Repeat("x", 64))}, false},
		{"WPA3", Network{Kind: WiFi, SSID: "x", Security: WPA3, Password: "blåbær"}, true},
		{"WPA3 with a new line", Network{Kind: WiFi, SSID: "x", Security: WPA3, Password: "a\nnetwork={"}, false},
		{"WPA3 without a password", Network{Kind: WiFi, SSID: "x", Security: WPA3}, false},
		{"open", Network{Kind: WiFi, SSID: "x", Security: Unsecured}, true},
		{"open with a password", Network{Kind: WiFi, SSID: "x", Security: Unsecured, Password: "12345678"}, false},
		{"WEP", Network{Kind: WiFi, SSID: "x", Security: "wep", Password: "12345678"}, false},
		{"no name", Network{Kind: WiFi, Security: Unsecured}, false},
		{"long name", Network{Kind: WiFi, SSID: strings.Repeat("x", 33), Security: Unsecured}, false},
		{"country in small letters", Network{Kind: WiFi, SSID: "x", Security: Unsecured, Country: "no"}, false},
		{"no kind", Network{}, false},
		{"address without a length", Network{Kind: Ethernet, Address: "192.0.2.7"}, false},
		{"address for many", Network{Kind: Ethernet, Address: "224.0.0.1/24"}, false},
		{"gateway elsewhere", Network{Kind: Ethernet, Address: "192.0.2.7/24", Gateway: "198.51.100.1"}, false},
		{"gateway without an address", Network{Kind: Ethernet, Gateway: "192.0.2.1"}, false},
		{"name server that is a name", Network{Kind: Ethernet, Address: "192.0.2.7/24", DNS: []string{"dns.example"}}, false},
		{"four name servers", Network{Kind: Ethernet, Address: "192.0.2.7/24", DNS: []string{"1.1.1.1", "1.1.1.2", "1.1.1.3", "1.1.1.4"}}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := c.n.Validate()
			if (err == nil) != c.ok {
				t.Fatalf("got %v", err)
			}
			if err != nil && (protocol.CodeOf(err) != protocol.SignalMalformed || strings.Contains(err.Error(), "%!") ||
				(len(c.n.Password) > 3 && strings.Contains(err.Error(), string(c.n.Password)))) {
				t.Errorf("got %q", err)
			}
		})
	}
}

// pair returns both ends' sealers of one session.
func pair(t testing.TB) (laptop, terminal *sealer) {
	t.Helper()
	key := func() *ecdh.PrivateKey {
		k, err := ecdh.X25519().GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	a, b := key(), key()
	laptop, err := newSealer(a, b.PublicKey().Bytes(), []byte("one"), []byte("two"), true)
	if err != nil {
		t.Fatal(err)
	}
	terminal, err = newSealer(b, a.PublicKey().Bytes(), []byte("one"), []byte("two"), false)
	if err != nil {
		t.Fatal(err)
	}
	return laptop, terminal
}

func TestSeal(t *testing.T) {
	laptop, terminal := pair(t)
	first, second, third := laptop.seal([]byte("1")), laptop.seal([]byte("2")), laptop.seal([]byte("3"))
	if m, err := terminal.open(second); err != nil || string(m) != "2" {
		t.Fatalf("after a lost one: %q, %v", m, err)
	}
	other, _ := pair(t)
	damaged := bytes.Clone(third)
	damaged[len(damaged)-1] ^= 1
	counted := bytes.Clone(second)
	counted[tagSize+counterSize-1]++
	for name, b := range map[string][]byte{
		"repeated": second, "older": first, "damaged": damaged, "counted on": counted, "of another session": other.seal([]byte("x")),
		"its own": terminal.seal([]byte("x")), "short": second[:tagSize+3], "empty": nil,
	} {
		if m, err := terminal.open(b); err == nil {
			t.Errorf("%s: opened %q", name, m)
		}
	}
	if m, err := terminal.open(third); err != nil || string(m) != "3" {
		t.Errorf("what was wrong spoiled what is right: %q, %v", m, err)
	}
	if _, err := newSealer(mustKey(t), make([]byte, 32), nil, nil, true); err == nil {
		t.Error("a point of low order is a key")
	}
}

func mustKey(t testing.TB) *ecdh.PrivateKey {
	k, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// seeds are messages of every kind.
func seeds(t testing.TB) [][]byte {
	var all [][]byte
	for _, m := range []any{
		hello{1, make([]byte, 32), []byte{1}}, request{Number: 3, Op: opInfo}, reply{Number: 3, Code: protocol.IPNone, Cause: "no"},
		Greeting{1, []byte{1}, Factory, "file", "x", ""}, Info{State: SetUp, Languages: []string{"nb"}}, Network{Kind: WiFi, SSID: "x", Security: Unsecured},
		NetworkState{[]Interface{{Name: "eth0", Kind: Ethernet, Addresses: []string{"192.0.2.1/24"}}}}, scanReply{[]AccessPoint{{"x", WPA2, -50}}},
		Grant{"a:1", "a", [][]byte{{1}}, []byte{2}, []byte{3}}, CheckStatus{Run: 1, State: JobDone, Done: []protocol.Check{{Name: "screen", State: protocol.CheckPassed}}},
		EnrolStatus{State: JobFailed, Code: protocol.IdentityVoucher}, openRequest{[]byte{1}, nil}, pressRequest{true},
	} {
		b, err := encode(m)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, b)
	}
	return all
}

// FuzzMessages: whatever is decoded as whichever message is refused as malformed, or can be encoded again, cleaned and checked.
func FuzzMessages(f *testing.F) {
	for _, b := range seeds(f) {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, m := range []any{
			new(hello), new(request), new(reply), new(Greeting), new(Info), new(Network), new(NetworkState), new(scanReply), new(Grant), new(CheckStatus),
			new(EnrolStatus), new(openRequest), new(pressRequest), new(languageRequest), new(enrolRequest), new(recordRequest), new(csrReply),
		} {
			if err := decode(b, m); err != nil {
				if protocol.CodeOf(err) != protocol.SignalMalformed {
					t.Errorf("%T: %v", m, err)
				}
				continue
			}
			if _, err := encode(m); err != nil {
				t.Errorf("%T: %v", m, err)
			}
			if n, ok := m.(*Network); ok && n.Validate() == nil && strings.ContainsAny(string(n.Password)+n.Address+n.Gateway+n.Country, "\r\n\x00") {
				t.Errorf("passed: %+v", n)
			}
			clean(reflect.ValueOf(m))
			if s, ok := m.(*Info); ok && strings.ContainsFunc(s.Home+strings.Join(s.Languages, ""), unicode.IsControl) {
				t.Errorf("not clean: %+v", s)
			}
		}
	})
}

// mute is a host that tells who it is and can do nothing: any other method would dereference nil.
type mute struct {
	Host
	greeting Greeting
}

func (m mute) Greeting() Greeting { return m.greeting }

// FuzzDesk: whatever comes over the line from one who holds no keys, the terminal does not fail, opens no session and asks its host for nothing but its name.
func FuzzDesk(f *testing.F) {
	key := mustKey(f).PublicKey().Bytes()
	spki := []byte("not a key")
	h, err := encode(hello{Version, key, spki})
	if err != nil {
		f.Fatal(err)
	}
	laptop, _ := pair(f)
	for kind, b := range map[byte][]byte{kindAsk: nil, kindHello: h, kindSealed: laptop.seal([]byte("x")), kindLost: make([]byte, 8), kindReply: h, 99: h} {
		f.Add(kind, b)
	}
	for _, b := range seeds(f) {
		f.Add(byte(kindHello), b)
	}
	f.Fuzz(func(t *testing.T, kind byte, payload []byte) {
		if len(payload) > frame.MaxPayload {
			payload = payload[:frame.MaxPayload]
		}
		d := &desk{
			Server: NewServer(mute{greeting: Greeting{Public: spki, State: SetUp}}, slog.New(slog.DiscardHandler)),
			line:   newLine(nil), done: make(chan outcome, 1), presses: make(chan press),
		}
		for range 3 {
			if d.frame(context.Background(), frame.Frame{Kind: kind, Payload: payload}) || d.current != nil || d.busy {
				t.Error("a session is open")
			}
		}
		for len(d.line.out) > 0 {
			if _, err := frame.NewReader(bytes.NewReader(<-d.line.out)).Next(); err != nil && err != io.EOF {
				t.Error(err)
			}
		}
	})
}
