package peer_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pion/logging"
	"github.com/pion/turn/v5"

	"vindu/media/peer"
	"vindu/media/peer/peertest"
)

// pinned dials TURN by TLS 1.3 with a certificate authority of its own, as the terminal does on port 443.
type pinned struct {
	conf  *tls.Config
	dials atomic.Int64
}

func (p *pinned) Dial(network, addr string) (net.Conn, error) {
	return p.DialContext(context.Background(), network, addr)
}

func (p *pinned) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	p.dials.Add(1)
	return (&tls.Dialer{Config: p.conf}).DialContext(ctx, network, addr)
}

// relay starts a TURN server that listens for UDP and for TLS, and returns their addresses and a dialer.
func relay(t *testing.T) (udp, tcp string, dial *pinned) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "relay"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)

	pc, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l, err := tls.Listen("tcp4", "127.0.0.1:0", &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
	})
	if err != nil {
		t.Fatal(err)
	}
	quiet := logging.NewDefaultLoggerFactory()
	quiet.DefaultLogLevel = logging.LogLevelDisabled
	gen := &turn.RelayAddressGeneratorStatic{RelayAddress: net.IPv4(127, 0, 0, 1), Address: "127.0.0.1"}
	srv, err := turn.NewServer(turn.ServerConfig{
		Realm: "clinic", LoggerFactory: quiet,
		AuthHandler: func(a *turn.RequestAttributes) (string, []byte, bool) {
			return a.Username, turn.GenerateAuthKey(a.Username, a.Realm, "secret"), a.Username == "terminal"
		},
		PacketConnConfigs: []turn.PacketConnConfig{{PacketConn: pc, RelayAddressGenerator: gen}},
		ListenerConfigs:   []turn.ListenerConfig{{Listener: l, RelayAddressGenerator: gen}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = srv.Close() })
	return pc.LocalAddr().String(), l.Addr().String(), &pinned{conf: &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: pool}}
}

func TestRelayOnly(t *testing.T) {
	udp, tcp, dial := relay(t)
	for _, tt := range []struct {
		name, url, protocol string
		dials               bool
	}{
		{"UDP", "turn:" + udp, "udp", false},
		{"TLS", "turn:" + tcp + "?transport=tcp", "tcp", true},
		{"TLS by turns", "turns:" + tcp + "?transport=tcp", "tls", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := dial.dials.Load()
			c, offer := newCaller(t, peertest.Options{})
			n := newNear(t, peer.Config{
				RelayOnly: true, TURNDialer: dial,
				ICEServers: []peer.ICEServer{{URLs: []string{tt.url}, Username: "terminal", Credential: "secret"}},
			}, offer)
			if err := c.Answer(string(n.p.Answer())); err != nil {
				t.Fatal(err)
			}
			n.start(c)
			n.await(peer.Secure)
			eventually(t, "frames by the relay", func() bool { return n.frames.Load() >= 5 })
			if s := n.p.Stats(); s.LocalKind != "relay" || s.Protocol != tt.protocol {
				t.Errorf("local candidate is %s by %s, want relay by %s", s.LocalKind, s.Protocol, tt.protocol)
			}
			if got := dial.dials.Load() > before; got != tt.dials {
				t.Errorf("dialer was used: %v, want %v", got, tt.dials)
			}
			if err := n.p.Close(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

// A relay with a certificate from elsewhere is not spoken to.
func TestRelayWithForeignCertificate(t *testing.T) {
	_, tcp, _ := relay(t)
	_, _, other := relay(t)
	_, offer := newCaller(t, peertest.Options{})
	n := newNear(t, peer.Config{
		RelayOnly: true, TURNDialer: other,
		ICEServers: []peer.ICEServer{{URLs: []string{"turn:" + tcp + "?transport=tcp"}, Username: "terminal", Credential: "secret"}},
	}, offer)
	n.start(nil)
	n.await(peer.EndOfCandidates)
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, e := range n.events {
		if e.Kind == peer.LocalCandidate {
			t.Error("there is a candidate")
		}
	}
}

// Where a relay does not answer over UDP, as where UDP is blocked, a call that is hung up at once is closed at once: not when pion has given up asking, after eight seconds.
func TestSilentRelay(t *testing.T) {
	silent, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	_, offer := newCaller(t, peertest.Options{})
	n := newNear(t, peer.Config{
		ICEServers: []peer.ICEServer{{URLs: []string{"turn:" + silent.LocalAddr().String() + "?transport=udp"}, Username: "terminal", Credential: "secret"}},
	}, offer)
	n.start(nil)
	if err := silent.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := silent.ReadFrom(make([]byte, 1500)); err != nil { // it is asked
		t.Fatal(err)
	}
	if err := n.p.Close(t.Context()); err != nil {
		t.Error(err)
	}
}
