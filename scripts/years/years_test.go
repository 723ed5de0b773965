// Package years lets a fleet of a thousand terminals and its clinic live through five years in two minutes, to see that no certificate ever lapses for another
// reason than that the clinic was away, and that nobody is locked out.
//
// What runs is what ships, both ends: identity.Identity, Renewer and Rotation of each terminal; the clinic's EST handler with register, audit log and database, and its
// authority, whose issuing CA and root change on the way. In between, instead of TLS, stands the verification of both
// certificates that TLS would make. Time is that of a synctest bubble, which stands still while anybody works.
package years

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"vindu/clinic/audit"
	"vindu/clinic/authority"
	"vindu/clinic/enrol"
	"vindu/clinic/register"
	"vindu/clinic/store"
	"vindu/device/identity"
	"vindu/device/state"
	"vindu/protocol"
)

const (
	day        = 24 * time.Hour
	year       = 365 * day
	serverName = "terminals.vindu.invalid"
)

var quiet = slog.New(slog.DiscardHandler)

// clinic is the server. Its authority can be changed and is then loaded anew, as by a restart.
type clinic struct {
	t        *testing.T
	dir      string
	register *register.Register
	log      *audit.Log
	current  atomic.Pointer[serving]
	down     atomic.Bool

	renewals, refusals, changes atomic.Int64

	mu     sync.Mutex
	least  time.Duration // that a certificate had left when it was renewed
	lapsed int           // renewals of certificates that had expired
}

// renewed notes what a certificate had left when another took its place.
func (c *clinic) renewed(old *x509.Certificate) {
	left := time.Until(old.NotAfter)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.least = min(c.least, left)
	if left <= 0 {
		c.lapsed++
	}
}

// serving is the clinic from one restart to the next.
type serving struct {
	authority *authority.Authority
	server    *enrol.Server
	leaf      *authority.Leaf

	mu   sync.Mutex
	good map[[2]*x509.Certificate]error // the server's certificate as terminals that pinned a root found it
}

func newClinic(t *testing.T) *clinic {
	t.Helper()
	// In memory: that the database survives power cuts is proven elsewhere, and 90,000 times here would wear a disk out.
	base, err := os.MkdirTemp("/dev/shm", "vindu-years-")
	if errors.Is(err, fs.ErrNotExist) {
		base = t.TempDir()
	} else if err != nil {
		t.Fatal(err)
	}
	c := &clinic{t: t, least: 30 * day, dir: filepath.Join(base, "authority")}
	if err := authority.Create(c.dir, "Nordbyen kommune"); err != nil {
		t.Fatal(err)
	}
	db, err := store.Open(t.Context(), filepath.Join(base, "clinic.db"), quiet)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(db.Close(), os.RemoveAll(base)); err != nil {
			t.Error(err)
		}
	})
	a, err := authority.Load(c.dir)
	if err != nil {
		t.Fatal(err)
	}
	if c.log, err = audit.New(t.Context(), db, a.LogKey()); err != nil {
		t.Fatal(err)
	}
	if c.register, err = register.New(t.Context(), db, c.log); err != nil {
		t.Fatal(err)
	}
	c.restart()
	return c
}

func (c *clinic) restart() {
	c.t.Helper()
	a, err := authority.Load(c.dir)
	if err != nil {
		c.t.Fatal(err)
	}
	c.current.Store(&serving{
		authority: a, leaf: a.Server(serverName), good: map[[2]*x509.Certificate]error{},
		server: enrol.New(enrol.Config{Organisation: "Nordbyen kommune", Authority: a, Register: c.register, KeyLife: keyLife, Log: quiet}),
	})
}

// verify is what a terminal's TLS does with the server's certificate.
func (s *serving) verify(root *x509.Certificate) error {
	own, err := s.leaf.Certificate()
	if err != nil {
		return err
	}
	if time.Now().After(own.Leaf.NotAfter) {
		return fmt.Errorf("the server's certificate has expired: %w", x509.CertificateInvalidError{Cert: own.Leaf, Reason: x509.Expired})
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	key := [2]*x509.Certificate{root, own.Leaf}
	if err, known := s.good[key]; known {
		return err
	}
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(root)
	for _, der := range own.Certificate[1:] {
		above, err := x509.ParseCertificate(der)
		if err != nil {
			return err
		}
		between.AddCert(above)
	}
	_, err = own.Leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, DNSName: serverName, CurrentTime: time.Now()})
	s.good[key] = err
	return err
}

var errDown = protocol.WithCode(protocol.LinkUnreachable, errors.New("the clinic is away"))

// line is what one terminal has of the clinic.
type line struct {
	*clinic
	number int
	stored bool     // for a year: its certificate lapses
	asking []byte   // the request for a certificate, which is the same as long as the key is
	roots  sync.Map // of *x509.Certificate by their bytes, so that each is one
}

// do makes a request over what stands for a TLS connection: chain is what the terminal shows of itself.
func (l *line) do(method, path string, root *x509.Certificate, chain []*x509.Certificate, body []byte, v *register.Voucher) (*httptest.ResponseRecorder, error) {
	if l.down.Load() {
		return nil, errDown
	}
	s := l.current.Load()
	pinned, _ := l.roots.LoadOrStore(string(root.Raw), root)
	if err := s.verify(pinned.(*x509.Certificate)); err != nil {
		l.refusals.Add(1)
		return nil, protocol.WithCode(protocol.IdentityPin, err)
	}
	r := httptest.NewRequest(method, "https://"+serverName+path, bytes.NewReader(body))
	r.RemoteAddr = fmt.Sprintf("10.%d.%d.%d:1", l.number>>16, l.number>>8&255, l.number&255)
	r.TLS = &tls.ConnectionState{PeerCertificates: chain}
	if body != nil {
		r.Header.Set("Content-Type", "application/pkcs10")
	}
	if v != nil {
		user, password := (&protocol.Voucher{ID: v.ID, Secret: v.Secret}).Credentials()
		r.SetBasicAuth(user, string(password))
	}
	w := httptest.NewRecorder()
	s.server.ServeHTTP(w, r)
	if w.Code != http.StatusOK {
		l.refusals.Add(1)
		code := protocol.Code(w.Header().Get(protocol.FailureHeader))
		return nil, protocol.WithCode(code, fmt.Errorf("%s: status %d, %s", path, w.Code, code))
	}
	return w, nil
}

func request(signer crypto.Signer, name string) ([]byte, error) {
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: name}}, signer)
	return []byte(base64.StdEncoding.EncodeToString(der)), err
}

// use takes another key.
func (l *line) use(signer crypto.Signer) {
	var err error
	if l.asking, err = request(signer, "terminal"); err != nil {
		l.t.Error(err)
	}
}

func (l *line) certify(path string, root *x509.Certificate, chain []*x509.Certificate, body []byte, v *register.Voucher) ([]*x509.Certificate, error) {
	w, err := l.do(http.MethodPost, path, root, chain, body, v)
	if err != nil {
		return nil, err
	}
	return protocol.DecodeCerts(w.Body.Bytes())
}

func (l *line) Renew(_ context.Context, g *identity.Grant) ([]*x509.Certificate, error) {
	chain, err := l.certify(protocol.PathReenroll, g.Root, g.Chain, l.asking, nil)
	if err != nil {
		return nil, err
	}
	l.renewals.Add(1)
	if !l.stored {
		l.renewed(g.Chain[0])
	}
	return chain, nil
}

func (l *line) Replace(_ context.Context, g *identity.Grant, next crypto.Signer) ([]*x509.Certificate, error) {
	body, err := request(next, g.Chain[0].Subject.CommonName)
	if err != nil {
		return nil, err
	}
	chain, err := l.certify(protocol.PathReenroll, g.Root, g.Chain, body, nil)
	if err == nil {
		l.renewed(g.Chain[0])
	}
	return chain, err
}

func (l *line) Settings(_ context.Context, g *identity.Grant) (*protocol.Settings, time.Duration, error) {
	w, err := l.do(http.MethodGet, protocol.PathSettings, g.Root, g.Chain, nil, nil)
	if err != nil {
		return nil, 0, err
	}
	s := new(protocol.Settings)
	return s, 0, protocol.Decode(w.Body.Bytes(), s)
}

func (l *line) Time(context.Context, *identity.Grant) (time.Time, time.Duration, error) {
	return time.Now(), 0, nil
}

// terminal is one with what it has of the clinic.
type terminal struct {
	*line
	dir *state.Dir
	id  atomic.Pointer[identity.Identity]
}

var keys = identity.FileKeys{Traits: func() []identity.Trait { return []identity.Trait{{Name: "soc serial", Value: "1000"}} }}

// open is a terminal's start.
func (x *terminal) open() error {
	store, err := keys.Open(x.dir)
	if err != nil {
		return err
	}
	i, err := identity.Open(x.dir, store, time.Now)
	if err != nil {
		return err
	}
	x.use(i.Signer())
	x.id.Store(i)
	return nil
}

// run is a terminal until ctx ends. It begins anew with each key.
func (x *terminal) run(ctx context.Context) error {
	for {
		inner, anew := context.WithCancel(ctx)
		r := identity.NewRenewer(x.id.Load(), x, quiet)
		r.Every = 60 * day // hourly, for 5,000 years altogether, is not what is tested
		r.Rotation = &identity.Rotation{Keys: keys, Anew: anew, Ready: func() bool { return true }, Begin: func() bool { return true }}
		err := r.Run(inner)
		anew()
		if err != nil || ctx.Err() != nil {
			return err
		}
		if err := x.open(); err != nil {
			return err
		}
		x.changes.Add(1)
	}
}

// enrol sets a terminal up.
func (c *clinic) enrol(number int) *terminal {
	c.t.Helper()
	check := func(err error) {
		c.t.Helper()
		if err != nil {
			c.t.Fatal(err)
		}
	}
	dir, err := state.OpenOn(memory{}, "/state")
	check(err)
	x := &terminal{line: &line{clinic: c, number: number}, dir: dir}
	check(x.open())
	home, err := c.register.EnsureHome(c.t.Context(), "Kari", fmt.Sprintf("Home %d", number))
	check(err)
	v, err := c.register.IssueVoucher(c.t.Context(), "Kari", home.ID, time.Hour)
	check(err)
	g := identity.Grant{Address: "clinic.example:443", ServerName: serverName, Root: c.current.Load().authority.Root()}
	g.Chain, err = x.certify(protocol.PathEnroll, g.Root, nil, x.asking, &v)
	check(err)
	g.Settings, _, err = x.Settings(c.t.Context(), &g)
	check(err)
	check(x.id.Load().Keep(g))
	return x
}

// memory is a disk that keeps nothing but the newest.
type memory map[string][]byte

func (memory) Mkdir(string) error   { return nil }
func (memory) SyncDir(string) error { return nil }
func (memory) Scrub(string) error   { return nil }

func (m memory) Create(path string) (state.File, error) {
	m[path] = nil
	return &memoryFile{disk: m, path: path}, nil
}

func (m memory) Read(path string, _ int64) ([]byte, error) {
	b, ok := m[path]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return b, nil
}

func (m memory) Rename(from, to string) error {
	m[to] = m[from]
	delete(m, from)
	return nil
}

func (m memory) Remove(path string) error {
	delete(m, path)
	return nil
}

type memoryFile struct {
	disk memory
	path string
}

func (f *memoryFile) Write(b []byte) (int, error) {
	f.disk[f.path] = append(f.disk[f.path], b...)
	return len(b), nil
}
func (*memoryFile) Sync() error  { return nil }
func (*memoryFile) Close() error { return nil }

// Nearly half of what this takes is making and verifying signatures, a third the database.
var terminals = flag.Int("terminals", 1000, "terminals of the clinic")

const (
	lifetime = 5 * year
	outage   = 9 * day
	keyLife  = 2 * year // so that keys are due while the clinic is away

	firstAway, secondAway = 2 * year, 4*year + 100*day // for an outage each
	issuingChange         = year + 180*day
	rootChange            = 3*year + 180*day
	issuingFollows        = rootChange + 2*day // below the new root
)

// cupboard is where a terminal lies for a year and a month.
type cupboard struct {
	from, until time.Duration
	*terminal
	off context.CancelFunc
}

// TestFiveYears: a clinic's terminals, all set up on one day, through five years, in which the clinic is away for nine days twice, once with all keys due, and
// changes its issuing CA, and later its root with another issuing CA. No certificate lapses, not for an hour; nobody is refused, and no alarm is raised. A terminal
// lies in a cupboard for the year of each change, and comes back by itself.
func TestFiveYears(t *testing.T) {
	// Little is alive and much is thrown away: without this a tenth of the time is the collector's.
	defer debug.SetGCPercent(debug.SetGCPercent(400))
	synctest.Test(t, fiveYears)
}

func fiveYears(t *testing.T) {
	c := newClinic(t)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	start := func(ctx context.Context, x *terminal) {
		running.Go(func() {
			if err := x.run(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	stored := []*cupboard{{from: year, until: 2*year + 30*day}, {from: 3 * year, until: 4*year + 30*day}}
	fleet := make([]*terminal, 0, *terminals)
	for n := range *terminals {
		x := c.enrol(n)
		fleet = append(fleet, x)
		if n >= len(stored) {
			start(ctx, x)
			continue
		}
		x.stored = true
		stored[n].terminal = x
		inner, off := context.WithCancel(ctx)
		stored[n].off = off
		start(inner, x)
	}
	first := fleet[0].id.Load().Root()

	began := time.Now()
	for d := time.Duration(0); d < lifetime; d += day {
		time.Sleep(began.Add(d).Sub(time.Now())) // allowed: of the bubble
		synctest.Wait()
		c.down.Store(d >= firstAway && d < firstAway+outage || d >= secondAway && d < secondAway+outage)
		for _, x := range stored {
			switch d {
			case x.from:
				x.off()
			case x.until:
				if x.id.Load().Condition() != protocol.IdentityExpired {
					t.Error("the certificate of the terminal in the cupboard is good")
				}
				start(ctx, x.terminal)
			}
		}
		switch d {
		case rootChange:
			c.change(authority.RenewRoot(c.dir, "", ""))
		case issuingChange, issuingFollows:
			c.change(authority.RenewIssuing(c.dir, ""))
		}
	}
	stands := map[protocol.KeyHash]bool{}
	homes, err := c.register.Homes(t.Context())
	if err != nil {
		t.Error(err)
	}
	for _, h := range homes {
		stands[h.Terminal] = true
	}
	now := c.current.Load().authority
	for n, x := range fleet {
		i := x.id.Load()
		if i.Condition() != "" || i.Root().Equal(first) || !i.Root().Equal(now.Root()) || !i.Grant().Chain[1].Equal(now.Issuing()) || !stands[i.Key()] || i.Unproven() {
			t.Errorf("terminal %d ends with condition %q, the new root %v, the last issuing CA %v, it is in its home: %v, its key is proven: %v",
				n, i.Condition(), i.Root().Equal(now.Root()), i.Grant().Chain[1].Equal(now.Issuing()), stands[i.Key()], !i.Unproven())
		}
	}
	alarms, err := c.register.Alarms(t.Context(), 0)
	if len(homes) != *terminals || c.lapsed != 0 || c.refusals.Load() != 0 || len(alarms) != 0 || err != nil {
		t.Errorf("%d homes, %d lapses, %d refusals, %d alarms, %v", len(homes), c.lapsed, c.refusals.Load(), len(alarms), err)
	}
	cancel()
	running.Wait()
	renewals, changes := c.renewals.Load(), c.changes.Load()
	t.Logf("%d terminals, %d renewals, %d new keys; the least that a certificate had left was %v", *terminals, renewals, changes, c.least.Round(time.Minute))
	if per, n := int64(lifetime/day), int64(*terminals); renewals < n*per/22-2*n || renewals > n*per/19 || changes != 2*n {
		t.Errorf("%d renewals, %d new keys", renewals, changes)
	}
}

// change takes over what was renewed in the authority's folder.
func (c *clinic) change(_ *x509.Certificate, err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
	c.restart()
}
