package relay

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"math/big"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pion/stun/v4"
	"github.com/pion/turn/v5"
	"go.uber.org/goleak"

	"vindu/protocol"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 20 * time.Second

var (
	quiet    = slog.New(slog.DiscardHandler)
	loopback = netip.MustParseAddr("127.0.0.1")
	secret   = bytes.Repeat([]byte{7}, MinSecret)
)

// running is a relay on loopback: UDP, TCP and TLS.
type running struct {
	*Relay
	udp, tcp, tls string
	roots         *x509.CertPool
	stop          func()
}

func start(t *testing.T, change func(*Config)) *running {
	t.Helper()
	packets, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listen := func() net.Listener {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	plain, secure := listen(), listen()
	certificate, roots := certify(t)
	x := &running{udp: packets.LocalAddr().String(), tcp: plain.Addr().String(), tls: secure.Addr().String(), roots: roots}
	config := Config{
		Packets:   []net.PacketConn{packets},
		Listeners: []net.Listener{plain, tls.NewListener(secure, &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{certificate}, NextProtos: []string{protocol.ALPNTURN}})},
		Address:   loopback, Bind: loopback, Secret: secret,
		Browsers:  []string{"turn:" + x.udp + "?transport=udp"},
		Terminals: []string{"turn:" + x.udp + "?transport=udp", "turns:" + x.tls + "?transport=tcp"},
	}
	if change != nil {
		change(&config)
	}
	if x.Relay, err = New(config, quiet); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- x.Run(ctx) }()
	x.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(x.stop)
	return x
}

func certify(t *testing.T) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(c)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

// client connects to the relay by a transport.
func (x *running) client(t *testing.T, transport string, server protocol.ICEServer) *turn.Client {
	t.Helper()
	var conn net.PacketConn
	address := x.udp
	stream := func(c net.Conn, err error) {
		if err != nil {
			t.Fatal(err)
		}
		conn = turn.NewSTUNConn(c)
	}
	switch transport {
	case "udp":
		var err error
		if conn, err = net.ListenPacket("udp4", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
	case "tcp":
		address = x.tcp
		stream(net.Dial("tcp", address))
	case "tls":
		address = x.tls
		stream(tls.Dial("tcp", address, &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: x.roots, NextProtos: []string{protocol.ALPNTURN}}))
	}
	c, err := turn.NewClient(&turn.ClientConfig{
		TURNServerAddr: address, Conn: conn, Username: server.Username, Password: string(server.Credential), LoggerFactory: loggers{quiet},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); conn.Close() })
	if err := c.Listen(); err != nil {
		t.Fatal(err)
	}
	return c
}

// like returns a relay that gives credentials as x does.
func (x *running) like() *Relay { return &Relay{config: x.config, log: quiet, now: time.Now} }

func allocate(t *testing.T, c *turn.Client) net.PacketConn {
	t.Helper()
	p, err := c.Allocate()
	if err != nil {
		t.Fatalf("allocate: %v", err)
	}
	t.Cleanup(func() { p.Close() })
	if err := p.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return p
}

// Two ends meet at the relay, each by its own transport; what one says, the other hears.
func TestRelayed(t *testing.T) {
	x := start(t, nil)
	for _, by := range [][2]string{{"udp", "udp"}, {"udp", "tls"}, {"tcp", "tls"}, {"tls", "tls"}} {
		browser := allocate(t, x.client(t, by[0], x.Servers()[0]))
		terminal := allocate(t, x.client(t, by[1], x.TerminalServers(protocol.KeyHash{1})[0]))
		ends := []net.PacketConn{browser, terminal}
		for i, from := range ends {
			// The first packet of each makes its permission; what comes before the other's is dropped, so both speak first.
			if _, err := from.WriteTo([]byte("hello"), ends[1-i].LocalAddr()); err != nil {
				t.Fatalf("%v: %v", by, err)
			}
		}
		for i, from := range ends {
			want := bytes.Repeat([]byte{byte(i)}, 1200)
			if _, err := from.WriteTo(want, ends[1-i].LocalAddr()); err != nil {
				t.Fatalf("%v: %v", by, err)
			}
			buf := make([]byte, 2000)
			for n := 0; n != len(want); {
				var err error
				var whence net.Addr
				if n, whence, err = ends[1-i].ReadFrom(buf); err != nil {
					t.Fatalf("%v: %v", by, err)
				}
				if whence.String() != from.LocalAddr().String() {
					t.Errorf("%v: from %v, want %v", by, whence, from.LocalAddr())
				}
			}
			if !bytes.Equal(buf[:len(want)], want) {
				t.Errorf("%v: another message came", by)
			}
		}
	}
}

func TestCredentials(t *testing.T) {
	x := start(t, nil)
	good := x.Servers()[0]
	if again := x.Servers()[0]; again.Username == good.Username || again.Credential == good.Credential {
		t.Error("credentials are given twice")
	}
	if s := x.TerminalServers(protocol.KeyHash{1})[0]; len(s.URLs) != 2 || !strings.HasPrefix(s.URLs[1], "turns:") {
		t.Errorf("terminal's URLs %v", s.URLs)
	}
	past, future, other := x.like(), x.like(), x.like()
	past.now = func() time.Time { return time.Now().Add(-Life - time.Second) }
	future.now = func() time.Time { return time.Now().Add(24 * time.Hour) }
	other.config.Secret = bytes.Repeat([]byte{8}, MinSecret)
	expiry, _, _ := strings.Cut(good.Username, ":")
	with := func(user string, password protocol.Secret) protocol.ICEServer {
		return protocol.ICEServer{Username: user, Credential: password}
	}
	for name, s := range map[string]protocol.ICEServer{
		"expired":                  past.Servers()[0],
		"of the far future":        future.Servers()[0],
		"of another secret":        other.Servers()[0],
		"wrong password":           with(good.Username, "wrong"),
		"another's password":       with(x.Servers()[0].Username, good.Credential),
		"longer life by hand":      with("9"+good.Username, good.Credential),
		"user name without random": with(expiry, x.password(expiry)),
		"user name without time":   with("anne", x.password("anne")),
		"empty":                    with(":", ""),
	} {
		for _, transport := range []string{"udp", "tls"} {
			if p, err := x.client(t, transport, s).Allocate(); err == nil {
				p.Close()
				t.Errorf("%s by %s: allocated", name, transport)
			}
		}
	}
	allocate(t, x.client(t, "udp", good))
}

// Credentials are good for the longest call there may be, for a new allocation as for an old one, and no longer.
func TestExpiry(t *testing.T) {
	const page, longest = 20 * time.Minute, 4 * time.Hour // how old a page's credentials may be, and the longest call of a policy
	synctest.Test(t, func(t *testing.T) {
		r := &Relay{config: Config{Secret: secret, Browsers: []string{"turn:x"}}, log: quiet, now: time.Now}
		request := turn.RequestAttributes{Username: r.Servers()[0].Username, Realm: realm}
		may := func(m stun.Method) bool {
			request.Method = m
			_, key, ok := r.authenticate(&request)
			return ok && len(key) > 0
		}
		for _, step := range []struct {
			after time.Duration
			good  bool
		}{{0, true}, {page, true}, {longest, true}, {Life - page - longest - time.Second, true}, {2 * time.Second, false}} {
			time.Sleep(step.after) // allowed: time in a bubble of synctest is the test's own
			for _, method := range []stun.Method{stun.MethodAllocate, stun.MethodRefresh, stun.MethodChannelBind, stun.MethodCreatePermission} {
				if may(method) != step.good {
					t.Errorf("after %v more: %v %v, want %v", step.after, method, !step.good, step.good)
				}
			}
		}
		request.Realm = "other"
		if may(stun.MethodRefresh) {
			t.Error("another realm")
		}
	})
}

func TestPermit(t *testing.T) {
	for address, want := range map[string][2]bool{ // without and with Local
		"198.51.101.7": {true, true}, "8.8.8.8": {true, true}, "2a00:1450::1": {true, true}, "::ffff:8.8.8.8": {true, true},
		"203.0.114.9": {true, true}, // the relay's own
		"127.0.0.1":   {false, true}, "127.9.9.9": {false, true}, "10.1.2.3": {false, true}, "172.16.0.1": {false, true}, "192.168.1.1": {false, true},
		"::1": {false, true}, "fd00::1": {false, true}, "::ffff:127.0.0.1": {false, true}, "::ffff:10.0.0.1": {false, true},
		"169.254.169.254": {false, false}, "0.0.0.0": {false, false}, "255.255.255.255": {false, false}, "224.0.0.1": {false, false}, "100.64.0.1": {false, false},
		"::": {false, false}, "fe80::1": {false, false}, "ff02::1": {false, false}, "64:ff9b::7f00:1": {false, false}, "2002:7f00:1::": {false, false}, "::127.0.0.1": {false, false},
	} {
		for i, permit := range [][]netip.Prefix{nil, Local()} {
			r := &Relay{config: Config{Address: netip.MustParseAddr("203.0.114.9"), Permit: permit}, log: quiet}
			if got := r.permit(nil, net.ParseIP(address)); got != want[i] {
				t.Errorf("%s, local %v: %v", address, i == 1, got)
			}
			if ip := net.ParseIP(address).To4(); ip != nil && r.permit(nil, ip) != want[i] {
				t.Errorf("%s in 4 bytes, local %v", address, i == 1)
			}
		}
	}
	r := &Relay{config: Config{Address: loopback}, log: quiet}
	if r.permit(nil, nil) || r.permit(nil, net.IP{1, 2, 3}) {
		t.Error("permitted what is no address")
	}
}

// The relay does not reach what it may not, by permission or by channel, and no TCP at all.
func TestNotRelayed(t *testing.T) {
	x := start(t, nil)
	c := x.client(t, "udp", x.Servers()[0])
	p := allocate(t, c)
	for _, to := range []string{"127.0.0.2:53", "10.0.0.1:53", "169.254.169.254:80"} {
		address, err := net.ResolveUDPAddr("udp", to)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.CreatePermission(address); err == nil {
			t.Errorf("permission for %s", to)
		}
	}
	target, err := net.ListenPacket("udp4", "127.0.0.2:0")
	if err != nil {
		t.Fatal(err)
	}
	defer target.Close()
	if _, err := p.WriteTo([]byte("knock"), target.LocalAddr()); err == nil {
		t.Error("sent to an address that is not permitted")
	}
	local := start(t, func(c *Config) { c.Permit = Local() })
	reaches := allocate(t, local.client(t, "udp", local.Servers()[0]))
	if _, err := reaches.WriteTo([]byte("through"), target.LocalAddr()); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 100)
	if err := target.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if n, _, err := target.ReadFrom(buf); err != nil || string(buf[:n]) != "through" {
		t.Errorf("came %q, %v", buf[:n], err)
	}
	if a, err := x.client(t, "tcp", x.Servers()[0]).AllocateTCP(); err == nil {
		a.Close()
		t.Error("TCP is relayed")
	}
}

func TestQuota(t *testing.T) {
	x := start(t, func(c *Config) { c.MaxAllocations = maxPerUser + 1 })
	one := x.Servers()[0]
	for range maxPerUser {
		allocate(t, x.client(t, "udp", one))
	}
	if p, err := x.client(t, "udp", one).Allocate(); err == nil {
		p.Close()
		t.Error("one user has too many")
	}
	p := allocate(t, x.client(t, "udp", x.Servers()[0]))
	if q, err := x.client(t, "udp", x.Servers()[0]).Allocate(); err == nil {
		q.Close()
		t.Error("all have too many")
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(patience); x.Allocations() != maxPerUser; {
		if time.Now().After(end) {
			t.Fatalf("%d allocations after one was given up", x.Allocations())
		}
		runtime.Gosched()
	}
	allocate(t, x.client(t, "udp", x.Servers()[0]))
}

// A terminal is one user, however often it asks for credentials.
func TestTerminalQuota(t *testing.T) {
	x := start(t, func(c *Config) { c.MaxAllocations = 4 * maxPerUser })
	now, later := time.Now(), x.like()
	later.now = func() time.Time { return now }
	names := map[string]bool{}
	for i := range maxPerUser {
		now = now.Add(time.Second)
		server := later.TerminalServers(protocol.KeyHash{1})[0]
		names[server.Username] = true
		allocate(t, x.client(t, []string{"udp", "tls"}[i%2], server))
	}
	if len(names) != maxPerUser {
		t.Errorf("%d user names", len(names))
	}
	if p, err := x.client(t, "udp", x.TerminalServers(protocol.KeyHash{1})[0]).Allocate(); err == nil {
		p.Close()
		t.Error("one terminal has too many")
	}
	allocate(t, x.client(t, "udp", x.TerminalServers(protocol.KeyHash{2})[0]))
}

// Those who ask at the same time do not get more than there is room for.
func TestQuotaTogether(t *testing.T) {
	x := start(t, nil)
	taken := make(chan *relayed, 4*maxPerUser)
	var wg sync.WaitGroup
	for range cap(taken) {
		wg.Go(func() {
			if c, err := x.take("a"); err == nil {
				taken <- c
			}
		})
	}
	wg.Wait()
	if len(taken) != maxPerUser || x.Allocations() != maxPerUser {
		t.Errorf("%d taken, %d counted", len(taken), x.Allocations())
	}
	for range len(taken) {
		c := <-taken
		for range 2 {
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	if x.Allocations() != 0 || len(x.users) != 0 {
		t.Errorf("%d left", x.Allocations())
	}
}

// A terminal that is revoked loses what it has, and gets nothing more by any credentials that it still holds.
func TestRevoke(t *testing.T) {
	x := start(t, nil)
	stolen, other := protocol.KeyHash{1}, protocol.KeyHash{2}
	before := x.TerminalServers(stolen)[0]
	ends := []net.PacketConn{allocate(t, x.client(t, "udp", before)), allocate(t, x.client(t, "tls", before))}
	kept := allocate(t, x.client(t, "udp", x.TerminalServers(other)[0]))
	for _, p := range append(ends, kept) {
		if _, err := p.WriteTo([]byte("x"), ends[0].LocalAddr()); err != nil {
			t.Fatal(err)
		}
	}
	x.Revoke(stolen)
	if n := x.Allocations(); n != 1 {
		t.Errorf("%d allocations", n)
	}
	for _, p := range ends { // their ports are nobody's: what is sent there does not arrive
		if c, err := net.ListenPacket("udp4", p.LocalAddr().String()); err != nil {
			t.Errorf("still open: %v", err)
		} else {
			c.Close()
		}
	}
	for name, server := range map[string]protocol.ICEServer{"earlier": before, "fresh": x.TerminalServers(stolen)[0]} {
		if p, err := x.client(t, "udp", server).Allocate(); err == nil {
			p.Close()
			t.Errorf("allocates by %s credentials", name)
		}
	}
	allocate(t, x.client(t, "udp", x.TerminalServers(other)[0]))
}

// Nothing that comes ends the relay; connections end with it.
func TestGarbageAndStop(t *testing.T) {
	x := start(t, nil)
	udp, err := net.Dial("udp", x.udp)
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	tcp, err := net.Dial("tcp", x.tcp)
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	for _, b := range [][]byte{{}, {0}, bytes.Repeat([]byte{0xff}, 1500), append([]byte{0, 3, 0xff, 0xff, 0x21, 0x12, 0xa4, 0x42}, make([]byte, 12)...), bytes.Repeat([]byte{0x40}, 64)} {
		if _, err := udp.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := tcp.Write([]byte("GET / HTTP/1.1\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	idle, err := net.Dial("tcp", x.tcp)
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	c := x.client(t, "tcp", x.Servers()[0])
	p := allocate(t, c)
	if err := p.Close(); err != nil { // its refreshes would wait for the relay
		t.Fatal(err)
	}
	x.stop()
	if err := idle.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := idle.Read(make([]byte, 1)); err == nil || strings.Contains(err.Error(), "timeout") {
		t.Errorf("a connection outlives the relay: %v", err)
	}
}

func TestNew(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	good := Config{Listeners: []net.Listener{l}, Address: loopback, Secret: secret}
	if _, err := New(good, quiet); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(*Config){
		"nothing to serve": func(c *Config) { c.Listeners = nil },
		"no address":       func(c *Config) { c.Address = netip.Addr{} },
		"any address":      func(c *Config) { c.Address = netip.IPv4Unspecified() },
		"short secret":     func(c *Config) { c.Secret = secret[1:] },
		"ports":            func(c *Config) { c.MinPort, c.MaxPort = 2000, 1000 },
	} {
		c := good
		change(&c)
		if _, err := New(c, quiet); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if s := (&Relay{}).Servers(); s != nil {
		t.Errorf("servers without a URL: %v", s)
	}
}

// Ports are taken from the range alone.
func TestPortRange(t *testing.T) {
	x := start(t, func(c *Config) { c.MinPort, c.MaxPort = 41000, 41199 })
	p := allocate(t, x.client(t, "udp", x.Servers()[0]))
	if port := p.LocalAddr().(*net.UDPAddr).Port; port < 41000 || port > 41199 {
		t.Errorf("port %d", port)
	}
}
