// Package sessiontest is a terminal and a cable for tests of what uses package session.
package sessiontest

import (
	"cmp"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"slices"
	"sync"
	"time"

	"vindu/protocol"
	"vindu/provisioning/session"
)

// Key returns a new ECDSA P-256 key.
func Key() *ecdsa.PrivateKey {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err) // of a curve that there is: cannot happen
	}
	return k
}

// Public returns the DER SubjectPublicKeyInfo of a key.
func Public(k crypto.Signer) []byte {
	der, err := x509.MarshalPKIXPublicKey(k.Public())
	if err != nil {
		panic(err) // an ECDSA key: cannot happen
	}
	return der
}

// Mandate returns a mandate for a laptop, signed by a clinic's key.
func Mandate(clinic, laptop crypto.Signer, from, to time.Time) []byte {
	m := &protocol.Mandate{
		Version: protocol.Version, ID: protocol.NewNonce(), Person: Person, Key: Public(laptop), From: protocol.At(from), To: protocol.At(to),
	}
	b, err := protocol.Sign(m, clinic)
	if err != nil {
		panic(err) // the caller's mandate is not one
	}
	return b
}

// Person is who the mandates of Mandate name.
var Person = protocol.Party{Name: "Tor Tekniker", Role: "technician", Organisation: "Nordbyen clinic"}

// Terminal is a session.Host that remembers what was asked of it. Its exported fields are set before it is used, and read under Lock.
type Terminal struct {
	sync.Mutex
	Key        crypto.Signer
	Clinic     crypto.Signer // of which it becomes one
	State      session.State
	Cause      protocol.Code // of session.KeyAway
	Clock      func() time.Time
	TimeKnown  bool
	Press      func(ctx context.Context) error // the person at the button; nil: nobody
	EnrolTime  time.Duration
	Checks     []protocol.Check
	CheckTime  time.Duration             // for each check
	SlowStop   time.Duration             // until a check that is stopped has ended
	Checking   func(ctx context.Context) // is called when a check runs; nil: nothing
	Seen       bool                      // the last check was asked for by somebody who sees the screen
	Refuse     map[string]error
	Log        []string // what was asked, by name of the method
	Networks   []session.Network
	Language   string
	Spent      []protocol.Nonce // vouchers
	Granted    []*session.Grant
	HandedOver []protocol.HandOver
	Proofs     []*session.Proof
	Prompts    int
	TakenBack  []protocol.Nonce // mandates
}

var _ session.Host = (*Terminal)(nil)

// NewTerminal returns a terminal from the factory that will belong to clinic.
func NewTerminal(clinic crypto.Signer) *Terminal {
	return &Terminal{
		Key: Key(), Clinic: clinic, State: session.Factory, Clock: time.Now, TimeKnown: true, Language: "nb",
		Checks: []protocol.Check{
			{Name: "camera.brightness", State: protocol.CheckPassed, Figure: "118"},
			{Name: "panel", State: protocol.CheckSkipped, Code: protocol.PanelMissing},
			{Name: "clinic.latency", State: protocol.CheckFailed, Figure: "812 ms", Code: protocol.QualityDelay},
		},
	}
}

// did writes down that a method was called, and returns what Refuse has for it.
func (t *Terminal) did(what string) error {
	t.Lock()
	defer t.Unlock()
	t.Log = append(t.Log, what)
	return t.Refuse[what]
}

// Greeting implements session.Host.
func (t *Terminal) Greeting() session.Greeting {
	t.Lock()
	defer t.Unlock()
	return session.Greeting{Public: Public(t.Key), State: t.State, KeyGrade: "file", Software: "vindu-agent test", Cause: t.Cause}
}

// Signer implements session.Host.
func (t *Terminal) Signer() crypto.Signer {
	t.Lock()
	defer t.Unlock()
	return t.Key
}

// Authorities implements session.Host.
func (t *Terminal) Authorities() [][]byte {
	t.Lock()
	defer t.Unlock()
	if t.State != session.SetUp {
		return nil
	}
	return [][]byte{Public(Key()), Public(t.Clinic)}
}

// Withdrawn implements session.Host.
func (t *Terminal) Withdrawn(mandate protocol.Nonce) bool {
	t.Lock()
	defer t.Unlock()
	return slices.Contains(t.TakenBack, mandate)
}

// Now implements session.Host.
func (t *Terminal) Now() (time.Time, bool) {
	t.Lock()
	known := t.TimeKnown
	t.Unlock()
	return t.Clock(), known
}

// AwaitPress implements session.Host.
func (t *Terminal) AwaitPress(ctx context.Context, _ protocol.Party) error {
	t.Lock()
	t.Prompts++
	press := t.Press
	t.Unlock()
	if press == nil {
		<-ctx.Done()
		return ctx.Err()
	}
	return press(ctx)
}

// Info implements session.Host.
func (t *Terminal) Info(context.Context) (*session.Info, error) {
	if err := t.did("Info"); err != nil {
		return nil, err
	}
	t.Lock()
	defer t.Unlock()
	i := &session.Info{
		State: t.State, KeyGrade: "file", Software: "vindu-agent test", Language: t.Language, Languages: []string{"nb", "nn", "en"},
		Time: protocol.At(t.Clock()), TimeKnown: t.TimeKnown, Button: "on its right side",
	}
	if t.State == session.SetUp {
		i.Organisation, i.Home, i.Address, i.Connected = "Nordbyen clinic", "Home 17, Storgata", "clinic.example:443", true
	}
	return i, nil
}

// SetNetwork implements session.Host.
func (t *Terminal) SetNetwork(_ context.Context, n *session.Network) error {
	if err := t.did("SetNetwork"); err != nil {
		return err
	}
	t.Lock()
	defer t.Unlock()
	t.Networks = append(slices.DeleteFunc(t.Networks, func(old session.Network) bool { return old.Kind == n.Kind }), *n)
	return nil
}

// Network implements session.Host.
func (t *Terminal) Network(context.Context) (*session.NetworkState, error) {
	if err := t.did("Network"); err != nil {
		return nil, err
	}
	t.Lock()
	defer t.Unlock()
	s := &session.NetworkState{Interfaces: []session.Interface{{Name: "eth0", Kind: session.Ethernet}}}
	for _, n := range t.Networks {
		if n.Kind == session.Ethernet {
			s.Interfaces[0].Up, s.Interfaces[0].Addresses = true, []string{cmp.Or(n.Address, "192.0.2.8/24")}
		}
		if n.Kind == session.WiFi {
			s.Interfaces = append(s.Interfaces, session.Interface{
				Name: "wlan0", Kind: session.WiFi, Up: true, Addresses: []string{"192.0.2.7/24"}, SSID: n.SSID, Security: n.Security, Signal: -61,
			})
		}
	}
	return s, nil
}

// ScanNetworks implements session.Host.
func (t *Terminal) ScanNetworks(context.Context) ([]session.AccessPoint, error) {
	return []session.AccessPoint{{SSID: "Storgata 17", Security: session.WPA2, Signal: -58}}, t.did("ScanNetworks")
}

// SetLanguage implements session.Host.
func (t *Terminal) SetLanguage(_ context.Context, tag string) error {
	if err := t.did("SetLanguage"); err != nil {
		return err
	}
	t.Lock()
	defer t.Unlock()
	t.Language = tag
	return nil
}

// Enrol implements session.Host.
func (t *Terminal) Enrol(ctx context.Context, v *protocol.Voucher) error {
	if err := t.did("Enrol"); err != nil {
		return err
	}
	if err := wait(ctx, t.EnrolTime); err != nil {
		return err
	}
	t.Lock()
	defer t.Unlock()
	if t.State = session.SetUp; !slices.Contains(t.Spent, v.ID) {
		t.Spent = append(t.Spent, v.ID)
	}
	return nil
}

// CSR implements session.Host.
func (t *Terminal) CSR(context.Context) ([]byte, error) {
	if err := t.did("CSR"); err != nil {
		return nil, err
	}
	return x509.CreateCertificateRequest(rand.Reader, new(x509.CertificateRequest), t.Key)
}

// Install implements session.Host.
func (t *Terminal) Install(_ context.Context, g *session.Grant) error {
	if err := t.did("Install"); err != nil {
		return err
	}
	t.Lock()
	defer t.Unlock()
	t.State, t.Granted = session.SetUp, append(t.Granted, g)
	return nil
}

// Check implements session.Host.
func (t *Terminal) Check(ctx context.Context, p *session.Proof, o session.CheckOptions, progress func(session.CheckProgress)) ([]protocol.Check, error) {
	if err := t.did("Check"); err != nil {
		return nil, err
	}
	t.Lock()
	t.Proofs = append(t.Proofs, p)
	t.Unlock()
	wanted := slices.DeleteFunc(slices.Clone(t.Checks), func(c protocol.Check) bool {
		return len(o.Names) > 0 && !slices.Contains(o.Names, c.Name)
	})
	t.Lock()
	takes, slow, checking := t.CheckTime, t.SlowStop, t.Checking
	t.Seen = o.Seen
	t.Unlock()
	if checking != nil {
		checking(ctx)
	}
	for i, c := range wanted {
		progress(session.CheckProgress{Current: c.Name, Total: len(wanted), Done: wanted[:i]})
		if wait(ctx, takes) != nil {
			if slow > 0 {
				<-time.After(slow)
			}
			return wanted[:i], context.Cause(ctx)
		}
	}
	return wanted, nil
}

// ConfirmHandOver implements session.Host.
func (t *Terminal) ConfirmHandOver(_ context.Context, h *protocol.HandOver) error {
	if err := t.did("ConfirmHandOver"); err != nil {
		return err
	}
	for _, c := range h.Checks {
		if !slices.Contains(t.Checks, c) {
			return protocol.WithCode(protocol.SignalMalformed, errors.New("this is not what was found"))
		}
	}
	return nil
}

// FinishHandOver implements session.Host.
func (t *Terminal) FinishHandOver(_ context.Context, h *protocol.HandOver, _ *protocol.HandOverEvent) error {
	if err := t.did("FinishHandOver"); err != nil {
		return err
	}
	t.Lock()
	defer t.Unlock()
	if !slices.ContainsFunc(t.HandedOver, func(old protocol.HandOver) bool { return old.ID == h.ID }) {
		t.HandedOver = append(t.HandedOver, *h)
	}
	return nil
}

func wait(ctx context.Context, d time.Duration) error {
	if d == 0 {
		return ctx.Err()
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// Reset implements session.Host.
func (t *Terminal) Reset(context.Context) error {
	if err := t.did("Reset"); err != nil {
		return err
	}
	t.Lock()
	defer t.Unlock()
	if t.State != session.Factory {
		t.State, t.Cause, t.Key = session.Factory, "", Key()
	}
	return nil
}
