package main

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"vindu/device/agent"
	"vindu/device/button"
	"vindu/device/clock"
	"vindu/device/identity"
	"vindu/device/network"
	"vindu/device/screen"
	"vindu/protocol"
	"vindu/provisioning"
	"vindu/provisioning/session"
)

// driftMost is how far the time of a hand-over record may be from the terminal's.
const driftMost = time.Hour

// setupHost is this terminal for a technician's laptop: it implements session.Host by the agent, the network and the button.
type setupHost struct {
	checkHost
	agent   *agent.Agent
	press   *press
	network *network.Network
	log     *slog.Logger

	nobody crypto.Signer // in whose name a terminal speaks that has no key: it was taken out of use, or its key is away

	mu       sync.Mutex
	found    []protocol.Check // by the last whole check of this home
	finished map[protocol.Nonce]bool
}

var _ session.Host = (*setupHost)(nil)

var errNoIdentity = protocol.WithCode(protocol.LinkTerminalBusy, errors.New("the terminal is starting, or its key is away"))

func newSetupHost(a *agent.Agent, press *press, wires *network.Network, log *slog.Logger) (*setupHost, error) {
	nobody, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	return &setupHost{checkHost: checkHost{a}, agent: a, press: press, network: wires, log: log, nobody: nobody, finished: map[protocol.Nonce]bool{}}, nil
}

// networkOf is the network that the configuration means.
func networkOf(cfg agent.Network) *network.Network {
	return network.New(network.Config{WiFi: cfg.WiFi, File: cfg.WPAFile, Control: cfg.WPAControl})
}

// Greeting implements session.Host.
func (h *setupHost) Greeting() session.Greeting {
	g := session.Greeting{State: session.Factory, Software: software()}
	self, ok := h.agent.Self()
	key := h.nobody
	switch {
	case ok:
		key, g.KeyGrade = self.Identity.Signer(), self.Identity.Grade()
		if self.Identity.Grant() != nil {
			g.State = session.SetUp
		}
	case h.agent.Returned():
		g.State = session.Returned
	default:
		cause, away := h.agent.Away()
		if !away {
			return session.Greeting{}
		}
		g.State, g.Cause = session.KeyAway, cause
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return session.Greeting{}
	}
	g.Public = public
	return g
}

// Signer implements session.Host.
func (h *setupHost) Signer() crypto.Signer {
	if self, ok := h.agent.Self(); ok {
		return self.Identity.Signer()
	}
	return h.nobody
}

// Authorities implements session.Host.
func (h *setupHost) Authorities() [][]byte {
	if self, ok := h.agent.Self(); ok && self.Identity.Grant() != nil {
		return self.Identity.Authorities()
	}
	return nil
}

// Withdrawn implements session.Host.
func (h *setupHost) Withdrawn(mandate protocol.Nonce) bool {
	self, ok := h.agent.Self()
	return ok && self.Identity.Withdrawn(mandate)
}

// Now implements session.Host.
func (h *setupHost) Now() (time.Time, bool) {
	self, ok := h.agent.Self()
	switch {
	case !ok:
		return clock.Built(), false
	case !self.Clock.Proven(): // the system's clock may be years ahead, and then no mandate would be good any more
		return self.Clock.Floor(), false
	}
	return self.Clock.Now(), true
}

// AwaitPress implements session.Host.
func (h *setupHost) AwaitPress(ctx context.Context, who protocol.Party) error {
	if _, away := h.agent.Away(); away {
		public, err := x509.MarshalPKIXPublicKey(h.nobody.Public())
		if err != nil {
			return err
		}
		return h.agent.AwaitHold(ctx, protocol.HashSPKI(public).Code(), h.press.hold)
	}
	err := h.agent.AwaitPress(ctx, who, h.press.agree)
	if errors.Is(err, button.ErrNone) {
		return protocol.WithCode(protocol.AuthButton, err)
	}
	return err
}

// Info implements session.Host.
func (h *setupHost) Info(context.Context) (*session.Info, error) {
	self, ok := h.agent.Self()
	if !ok {
		return nil, errNoIdentity
	}
	g := h.Greeting()
	i := &session.Info{
		State: g.State, KeyGrade: g.KeyGrade, Software: g.Software, Connected: self.Online, Language: self.Language, Languages: screen.Languages(),
		Time: protocol.At(self.Clock.Now()), TimeKnown: self.Clock.Proven(), Button: h.press.what(), Conditions: []string{},
	}
	for _, c := range self.Conditions {
		i.Conditions = append(i.Conditions, string(c))
	}
	if grant := self.Identity.Grant(); grant != nil {
		i.Organisation, i.Home, i.Address = grant.Settings.Organisation, grant.Settings.Home, grant.Address
		i.Expires = protocol.At(grant.Chain[0].NotAfter)
	}
	return i, nil
}

// SetNetwork implements session.Host.
func (h *setupHost) SetNetwork(ctx context.Context, n *session.Network) error {
	if n.Address != "" {
		return protocol.WithCode(protocol.IPDHCPOnly, errors.New("addresses cannot be set"))
	}
	if n.Kind == session.Ethernet {
		return nil // a cable needs nothing
	}
	return h.network.SetWiFi(ctx, &network.WiFiSettings{SSID: n.SSID, Security: n.Security, Password: n.Password, Hidden: n.Hidden, Country: n.Country})
}

// Network implements session.Host.
func (h *setupHost) Network(ctx context.Context) (*session.NetworkState, error) {
	all, err := h.network.State(ctx)
	if err != nil {
		return nil, err
	}
	s := &session.NetworkState{Interfaces: []session.Interface{}}
	for _, i := range all {
		i.SSID = strings.ToValidUTF8(i.SSID, "?")
		s.Interfaces = append(s.Interfaces, session.Interface(i))
	}
	return s, nil
}

// ScanNetworks implements session.Host.
func (h *setupHost) ScanNetworks(ctx context.Context) ([]session.AccessPoint, error) {
	all, err := h.network.Scan(ctx)
	var found []session.AccessPoint
	for _, a := range all {
		if utf8.ValidString(a.SSID) { // others, of which there may be one next door, cannot be told of, nor typed
			found = append(found, session.AccessPoint(a))
		}
	}
	return found, err
}

// SetLanguage implements session.Host.
func (h *setupHost) SetLanguage(ctx context.Context, tag string) error {
	return h.agent.SetLanguage(ctx, tag)
}

// Enrol implements session.Host. The clinic gives the same key a certificate again for the same voucher.
func (h *setupHost) Enrol(ctx context.Context, v *protocol.Voucher) error {
	self, ok := h.agent.Self()
	if !ok {
		return errNoIdentity
	}
	client := &provisioning.Client{Signer: self.Identity.Signer(), Now: self.Clock.Now}
	if g := self.Identity.Grant(); g != nil && sameClinic(g, v) { // it moves to another home; another clinic has nothing to do with it
		client.Chain = g.Chain
	}
	grant, err := client.Enrol(ctx, v)
	if err != nil {
		return err
	}
	return h.keep(ctx, (*identity.Grant)(grant))
}

// keep makes the terminal one of a home, and what was found in an earlier one worthless.
func (h *setupHost) keep(ctx context.Context, g *identity.Grant) error {
	err := h.agent.Keep(ctx, g)
	if err == nil {
		h.mu.Lock()
		h.found = nil
		h.mu.Unlock()
	}
	return err
}

// sameClinic reports whether a voucher is of the clinic that the terminal belongs to: by the root, or, where one of the two is older than a change of the
// root, by the authorisation key.
func sameClinic(g *identity.Grant, v *protocol.Voucher) bool {
	return bytes.Equal(g.Root.Raw, v.Root) || g.Settings != nil && len(v.Authority) > 0 &&
		slices.ContainsFunc(g.Settings.Authorities, func(key []byte) bool { return bytes.Equal(key, v.Authority) })
}

// CSR implements session.Host.
func (h *setupHost) CSR(context.Context) ([]byte, error) {
	self, ok := h.agent.Self()
	if !ok {
		return nil, errNoIdentity
	}
	name := pkix.Name{CommonName: self.Identity.Key().Name()}
	return x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: name}, self.Identity.Signer())
}

// Install implements session.Host. Package identity checks that the certificate is for this key and below the root.
func (h *setupHost) Install(ctx context.Context, g *session.Grant) error {
	malformed := func(err error) error {
		return protocol.WithCode(protocol.SignalMalformed, fmt.Errorf("read the certificate from the laptop: %w", err))
	}
	grant := &identity.Grant{Address: g.Address, ServerName: g.ServerName, Settings: new(protocol.Settings)}
	for _, der := range g.Chain {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return malformed(err)
		}
		grant.Chain = append(grant.Chain, c)
	}
	root, err := x509.ParseCertificate(g.Root)
	if err != nil {
		return malformed(err)
	}
	grant.Root = root
	if err := protocol.Decode(g.Settings, grant.Settings); err != nil {
		return malformed(err)
	}
	if len(grant.Chain) == 0 {
		return malformed(errors.New("there is none"))
	}
	return h.keep(ctx, grant)
}

// Reset implements session.Host.
func (h *setupHost) Reset(ctx context.Context) error { return h.agent.Reset(ctx) }

// Check implements session.Host.
func (h *setupHost) Check(ctx context.Context, p *session.Proof, o session.CheckOptions, progress func(session.CheckProgress)) ([]protocol.Check, error) {
	found, err := h.checkHost.Check(ctx, p, o, progress)
	if err == nil && len(o.Names) == 0 { // no less than a whole check is handed over
		h.mu.Lock()
		h.found = slices.Clone(found)
		h.mu.Unlock()
	}
	return found, err
}

// ConfirmHandOver implements session.Host.
func (h *setupHost) ConfirmHandOver(_ context.Context, r *protocol.HandOver) error {
	refuse := func(what string) error {
		return protocol.WithCode(protocol.SignalMalformed, fmt.Errorf("the hand-over record has %s", what))
	}
	self, ok := h.agent.Self()
	if !ok || self.Identity.Grant() == nil {
		return errNoIdentity
	}
	s := self.Identity.Grant().Settings
	h.mu.Lock()
	found := h.found
	h.mu.Unlock()
	switch drift := r.At.Time().Sub(self.Clock.Now()).Abs(); {
	case r.Organisation != s.Organisation || r.Home != s.Home:
		return refuse("another clinic or home than this terminal's")
	case len(found) == 0 || !slices.Equal(r.Checks, found):
		return refuse("other checks than the last whole one that this terminal made here: run all of them again")
	case drift > driftMost && self.Clock.Proven():
		return protocol.WithCode(protocol.TimeOff, fmt.Errorf("the hand-over record is %v off the terminal's time", drift.Round(time.Minute)))
	}
	return nil
}

// FinishHandOver implements session.Host.
func (h *setupHost) FinishHandOver(ctx context.Context, r *protocol.HandOver, e *protocol.HandOverEvent) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.finished[r.ID] {
		return nil
	}
	body, err := protocol.Encode(e)
	if err != nil {
		return err
	}
	if err := h.agent.Report(ctx, protocol.EventHandOver, body); err != nil {
		return err
	}
	h.finished[r.ID] = true
	return nil
}
