package reach

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pion/logging"
	"github.com/pion/stun/v4"
	"github.com/pion/turn/v5"
	"go.uber.org/goleak"

	"vindu/protocol"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const user, password = "1800000000:somebody", "secret"

// relay is a TURN server on loopback; it returns its URLs over UDP and over a stream.
func relay(t *testing.T) (packets, stream string) {
	t.Helper()
	udp, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	tcp, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addresses := &turn.RelayAddressGeneratorStatic{RelayAddress: net.IPv4(127, 0, 0, 1), Address: "127.0.0.1"}
	quiet := logging.NewDefaultLoggerFactory()
	quiet.DefaultLogLevel = logging.LogLevelDisabled
	s, err := turn.NewServer(turn.ServerConfig{
		Realm: "test", LoggerFactory: quiet,
		AuthHandler: func(a *turn.RequestAttributes) (string, []byte, bool) {
			return a.Username, turn.GenerateAuthKey(a.Username, a.Realm, password), a.Username == user
		},
		PacketConnConfigs: []turn.PacketConnConfig{{PacketConn: udp, RelayAddressGenerator: addresses}},
		ListenerConfigs:   []turn.ListenerConfig{{Listener: tcp, RelayAddressGenerator: addresses}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return "turn:" + udp.LocalAddr().String() + "?transport=udp", "turns:" + tcp.Addr().String() + "?transport=tcp"
}

func network(clinic string) *Network {
	return &Network{
		Clinic: func() string { return clinic },
		Dial: func(ctx context.Context, address string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", address)
		},
	}
}

func TestRelay(t *testing.T) {
	packets, stream := relay(t)
	n := network("127.0.0.1:9")
	for _, url := range []string{packets, stream} {
		e, err := n.Echo(t.Context(), url)
		if err != nil || e.Lost != 0 || e.Sent < 10 || e.RTT <= 0 {
			t.Errorf("%s: %+v, %v", url, e, err)
		}
		if err := n.Allocate(t.Context(), url, user, password); err != nil {
			t.Errorf("%s: %v", url, err)
		}
		if err := n.Allocate(t.Context(), url, "stranger", password); err == nil {
			t.Errorf("%s: a stranger has an allocation", url)
		}
	}
}

// answerer answers each datagram as f says.
func answerer(t *testing.T, f func(number int, question *stun.Message) []byte) string {
	t.Helper()
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { conn.Close(); <-done })
	go func() {
		defer close(done)
		raw := make([]byte, 1500)
		for i := 0; ; i++ {
			n, from, err := conn.ReadFrom(raw)
			if err != nil {
				return
			}
			q := &stun.Message{Raw: bytes.Clone(raw[:n])}
			if q.Decode() != nil {
				continue
			}
			if a := f(i, q); a != nil {
				_, _ = conn.WriteTo(a, from)
			}
		}
	}()
	return "turn:" + conn.LocalAddr().String() + "?transport=udp"
}

func success(q *stun.Message) []byte {
	a, err := stun.Build(stun.NewTransactionIDSetter(q.TransactionID), stun.BindingSuccess)
	if err != nil {
		return nil
	}
	return a.Raw
}

func TestPackets(t *testing.T) {
	closed, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := "turn:" + closed.LocalAddr().String() + "?transport=udp"
	closed.Close()
	for _, c := range []struct {
		name string
		url  string
		lost int
		err  error
	}{
		{"every fifth is lost", answerer(t, func(i int, q *stun.Message) []byte {
			if i%5 == 0 {
				return nil
			}
			return success(q)
		}), packets / 5, nil},
		{"answers of strangers do not count", answerer(t, func(i int, q *stun.Message) []byte {
			if i%2 == 0 {
				q.TransactionID[0]++
			}
			return success(q)
		}), packets / 2, nil},
		{"errors are no answers", answerer(t, func(_ int, q *stun.Message) []byte {
			a, _ := stun.Build(stun.NewTransactionIDSetter(q.TransactionID), stun.BindingError)
			return a.Raw
		}), 0, errSilent},
		{"garbage", answerer(t, func(int, *stun.Message) []byte { return []byte("no") }), 0, errSilent},
		{"silence", answerer(t, func(int, *stun.Message) []byte { return nil }), 0, errSilent},
		{"nobody there", nobody, 0, errSilent},
		{"another protocol", "stun:127.0.0.1:9", 0, protocol.ErrMalformed},
		{"no address", "turn:", 0, protocol.ErrMalformed},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			e, err := network("127.0.0.1:9").Echo(t.Context(), c.url)
			if !errors.Is(err, c.err) || e.Lost != c.lost {
				t.Errorf("%+v, %v", e, err)
			}
		})
	}
}

func TestStream(t *testing.T) {
	for _, c := range []struct {
		name  string
		serve func(conn net.Conn)
	}{
		{"hangs up", func(net.Conn) {}},
		{"another server", func(conn net.Conn) {
			_, _ = conn.Write([]byte("HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"))
		}},
		{"too long", func(conn net.Conn) { _, _ = conn.Write(append([]byte{1, 1, 0xff, 0xfc}, make([]byte, 16)...)) }},
		{"half an answer", func(conn net.Conn) { _, _ = conn.Write([]byte{1, 1, 0, 8}) }},
		{"an answer to another question", func(conn net.Conn) {
			_, _ = conn.Write(append([]byte{1, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42}, make([]byte, 12)...))
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			near, far := net.Pipe()
			go func() {
				defer far.Close()
				_, _ = far.Read(make([]byte, 100))
				c.serve(far)
			}()
			n := network("127.0.0.1:9")
			n.Dial = func(context.Context, string) (net.Conn, error) { return near, nil }
			if e, err := n.Echo(t.Context(), "turns:clinic.example:443?transport=tcp"); !errors.Is(err, errSilent) {
				t.Errorf("%+v, %v", e, err)
			}
		})
	}
	n := network("127.0.0.1:9")
	n.Dial = func(context.Context, string) (net.Conn, error) {
		return nil, protocol.WithCode(protocol.IdentityPin, errors.New("not the clinic"))
	}
	if _, err := n.Echo(t.Context(), "turns:clinic.example:443?transport=tcp"); protocol.CodeOf(err) != protocol.IdentityPin {
		t.Errorf("%v", err)
	}
}

// TestGivesUp: whoever ends a check does not wait for a relay that is silent.
func TestGivesUp(t *testing.T) {
	silent := answerer(t, func(int, *stun.Message) []byte { return nil })
	near, far := net.Pipe()
	defer far.Close()
	n := network("127.0.0.1:9")
	n.Dial = func(context.Context, string) (net.Conn, error) { return near, nil }
	const stream = "turns:clinic.example:443?transport=tcp"
	for name, f := range map[string]func(context.Context) error{
		"packets":    func(ctx context.Context) error { _, err := n.Echo(ctx, silent); return err },
		"stream":     func(ctx context.Context) error { _, err := n.Echo(ctx, stream); return err },
		"allocation": func(ctx context.Context) error { return n.Allocate(ctx, silent, user, password) },
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		if err := f(ctx); err == nil {
			t.Errorf("%s: no error", name)
		}
		cancel()
	}
}

func TestPath(t *testing.T) {
	p, err := network("127.0.0.1:443").Path(t.Context())
	if err != nil || p.Interface != "lo" || p.Address != "127.0.0.1" || p.Wireless {
		t.Errorf("%+v, %v", p, err)
	}
	root := t.TempDir()
	for name, text := range map[string]string{
		"sys/class/net/lo/phy80211": "", "proc/net/wireless": "Inter-| sta-|   Quality        |\n face | tus | link level noise |\n    lo: 0000   54.  -56.  -256        0\n",
	} {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	n := network("127.0.0.1:443")
	n.Root = root
	if p, err := n.Path(t.Context()); err != nil || !p.Wireless || p.Signal != -56 {
		t.Errorf("%+v, %v", p, err)
	}
	n.Signal = func(context.Context, string) int { return 0 }
	if p, err := n.Path(t.Context()); err != nil || p.Signal != -56 {
		t.Errorf("%+v, %v", p, err)
	}
	n.Signal = func(_ context.Context, name string) int { return -len(name) }
	if p, err := n.Path(t.Context()); err != nil || p.Signal != -2 {
		t.Errorf("%+v, %v", p, err)
	}
	if _, err := network("no-such-host.invalid:443").Path(t.Context()); protocol.CodeOf(err) != protocol.IPNone {
		t.Errorf("%v", err)
	}
}

func TestParseWireless(t *testing.T) {
	const head = "Inter-| sta-|   Quality        |   Discarded packets               | Missed | WE\n face | tus | link level noise |  nwid  crypt   frag  retry   misc | beacon | 22\n"
	for _, c := range []struct {
		name, text string
		want       int
	}{
		{"dBm", head + " wlan0: 0000   54.  -56.  -256        0      0      0      0     53        0\n", -56},
		{"another interface", head + " wlan1: 0000   54.  -56.  -256        0      0      0      0     53        0\n", 0},
		{"a quality that is no dBm", head + " wlan0: 0000   54.  200.  0        0\n", 0},
		{"nonsense", head + " wlan0: 0000   54.  x  0\n", 0},
		{"cut short", head + " wlan0: 0000", 0},
		{"nothing", "", 0},
		{"too weak to be true", head + " wlan0: 0000 0. -256. -256\n", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := parseWireless(c.text, "wlan0"); got != c.want {
				t.Errorf("%d, want %d", got, c.want)
			}
		})
	}
}

func FuzzParseWireless(f *testing.F) {
	f.Add(" wlan0: 0000   54.  -56.  -256", "wlan0")
	f.Fuzz(func(t *testing.T, text, name string) {
		if got := parseWireless(text, name); got > 0 || got < -150 || got != 0 && !strings.Contains(text, name) {
			t.Errorf("%d", got)
		}
	})
}

func FuzzReadMessage(f *testing.F) {
	q, err := question()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(q.Raw)
	f.Add([]byte{1, 1, 0, 4})
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := readMessage(bytes.NewReader(b))
		if err == nil && !bytes.HasPrefix(b, got) {
			t.Errorf("%x from %x", got, b)
		}
	})
}
