// Package oidc has persons sign in by a national or local identity provider, such as HelseID: OpenID Connect Core 1.0, authorisation code with PKCE (RFC 7636),
// the client authenticated by a key of its own and not by a shared secret (private_key_jwt, RFC 7523).
//
// What comes of it is an Identity: issuer and subject. Which person of the clinic that is an administrator has said beforehand (Links); an identity that nobody
// has linked signs nobody in. It says who sits at the page, and no more: a call is proven by the person's passkey, whichever way the person came in.
package oidc

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"golang.org/x/oauth2"
)

const (
	// FlowLife is how long a person may take at the provider.
	FlowLife = 10 * time.Minute

	assertionLife = time.Minute
	requestLimit  = 10 * time.Second
	discoverAgain = 10 * time.Second // after a discovery that failed
	mostAgain     = 5 * time.Minute
	refresh       = 12 * time.Hour // what a provider says of itself may change
	exchangeLimit = 15 * time.Second
	leeway        = time.Minute
)

var (
	// ErrProvider is wrapped when the provider cannot be reached or does not speak as it should.
	ErrProvider = errors.New("identity provider")
	// ErrRefused is wrapped when the person was not signed in there, or what the provider says of it does not hold.
	ErrRefused = errors.New("not signed in")
)

// algorithms are those by which a provider may sign (RFC 7518 §3.1); "none" and shared secrets are not among them.
var algorithms = []string{oidc.RS256, oidc.PS256, oidc.ES256, oidc.RS384, oidc.PS384, oidc.ES384, oidc.RS512, oidc.PS512, oidc.ES512, oidc.EdDSA}

// Config is what a Provider works with.
type Config struct {
	Issuer   string        // as it spells itself
	ClientID string        // by which it knows the clinic
	Key      crypto.Signer // ECDSA P-256, or RSA of 2,048 bits or more; its public half is registered there
	KeyID    string        // as registered there; may be empty
	Redirect string        // the clinic's address to which it sends the browser back
	Scopes   []string      // besides openid
	// Assurance are the values of the acr claim that are enough, such as HelseID's "Level4" and "idporten-loa-high". Empty: any.
	Assurance []string
	Client    *http.Client // nil: one of its own, which follows no redirects
	Log       *slog.Logger // nil: nobody is told
}

// Provider is an identity provider. It is safe for concurrent use. It asks the provider for nothing before Run, or before somebody signs in: one that is down keeps
// nothing from starting.
type Provider struct {
	c         Config
	signer    jose.Signer
	now       func() time.Time
	discovery sync.Mutex // one discovery at a time

	mu     sync.Mutex
	found  *oidc.Provider
	failed error
	again  time.Time // before then failed stands
}

// New checks the configuration.
func New(c Config) (*Provider, error) {
	for name, address := range map[string]string{"issuer": c.Issuer, "redirect": c.Redirect} {
		u, err := url.Parse(address)
		if err != nil || u.Host == "" || u.User != nil || u.Fragment != "" || u.Scheme != "https" && (u.Scheme != "http" || !loopback(u.Hostname())) {
			return nil, fmt.Errorf("identity provider: the %s %q has to be an https address", name, address)
		}
	}
	if c.ClientID == "" {
		return nil, errors.New("identity provider: the client id is missing")
	}
	var algorithm jose.SignatureAlgorithm
	switch k := c.Key.Public().(type) {
	case *ecdsa.PublicKey:
		if k.Curve != elliptic.P256() {
			return nil, errors.New("identity provider: an ECDSA key has to be P-256")
		}
		algorithm = jose.ES256
	case *rsa.PublicKey:
		if k.N.BitLen() < 2048 {
			return nil, fmt.Errorf("identity provider: an RSA key of %d bits, at least 2048", k.N.BitLen())
		}
		algorithm = jose.PS256
	default:
		return nil, fmt.Errorf("identity provider: the key is %T, has to be ECDSA P-256 or RSA", k)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: algorithm, Key: jose.JSONWebKey{Key: c.Key, KeyID: c.KeyID}}, (&jose.SignerOptions{}).WithType("JWT"))
	if err != nil {
		return nil, fmt.Errorf("identity provider: %w", err)
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Client == nil {
		c.Client = &http.Client{Timeout: requestLimit, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	}
	return &Provider{c: c, signer: signer, now: time.Now}, nil
}

func loopback(host string) bool { return host == "localhost" || host == "127.0.0.1" || host == "::1" }

// Run asks the provider what it offers, again and again with jitter until it says so, and anew twice a day, until ctx ends: so that whoever signs in does not wait for
// it. What it said holds while it is away. It returns nil.
func (p *Provider) Run(ctx context.Context) error {
	wait, failed := discoverAgain, false
	for {
		_, err := p.ask(ctx)
		next := refresh
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			if !failed {
				p.c.Log.Warn("identity provider cannot be asked what it offers; passkeys work, and it is asked again", "error", err)
			}
			failed, next, wait = true, wait, min(2*wait, mostAgain)
		default:
			if failed {
				p.c.Log.Info("identity provider is back", "issuer", p.c.Issuer)
			}
			failed, wait = false, discoverAgain
		}
		timer := time.NewTimer(next/2 + mathrand.N(next)) // half to one and a half times
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
	}
}

// discover returns what the provider says of itself (OpenID Connect Discovery 1.0 §4), which is asked for if it is not known.
func (p *Provider) discover(ctx context.Context) (*oidc.Provider, error) {
	p.mu.Lock()
	found, failed, again := p.found, p.failed, p.again
	p.mu.Unlock()
	if found != nil {
		return found, nil
	}
	if failed != nil && p.now().Before(again) {
		return nil, failed
	}
	p.discovery.Lock()
	defer p.discovery.Unlock()
	p.mu.Lock()
	found, failed, again = p.found, p.failed, p.again
	p.mu.Unlock()
	if found != nil || failed != nil && p.now().Before(again) { // while this one waited
		return found, failed
	}
	return p.fetch(ctx)
}

// ask is discover whether it is known or not. What was known stays if it fails.
func (p *Provider) ask(ctx context.Context) (*oidc.Provider, error) {
	p.discovery.Lock()
	defer p.discovery.Unlock()
	return p.fetch(ctx)
}

func (p *Provider) fetch(ctx context.Context) (*oidc.Provider, error) {
	// The keys are fetched with this context later on: it has to outlive the request, whose time the client bounds.
	found, err := oidc.NewProvider(oidc.ClientContext(context.WithoutCancel(ctx), p.c.Client), p.c.Issuer)
	p.mu.Lock()
	defer p.mu.Unlock()
	fail := func(err error) (*oidc.Provider, error) {
		if p.found == nil {
			p.failed, p.again = err, p.now().Add(discoverAgain)
		}
		return nil, err
	}
	if err != nil {
		return fail(fmt.Errorf("%w: ask %s what it offers: %w", ErrProvider, p.c.Issuer, err))
	}
	for _, endpoint := range []string{found.Endpoint().AuthURL, found.Endpoint().TokenURL} {
		if u, err := url.Parse(endpoint); err != nil || u.Scheme != "https" && (u.Scheme != "http" || !loopback(u.Hostname())) {
			return fail(fmt.Errorf("%w: %s names an address that is not https", ErrProvider, p.c.Issuer))
		}
	}
	p.found, p.failed = found, nil
	return found, nil
}

func (p *Provider) client(found *oidc.Provider) *oauth2.Config {
	endpoint := found.Endpoint()
	endpoint.AuthStyle = oauth2.AuthStyleInParams // client_id beside client_assertion, and no secret
	return &oauth2.Config{ClientID: p.c.ClientID, Endpoint: endpoint, RedirectURL: p.c.Redirect, Scopes: append([]string{oidc.ScopeOpenID}, p.c.Scopes...)}
}

// Flow is what has to be kept, out of the browser's reach, while a person is at the provider. It is good once.
type Flow struct {
	State, Nonce, Verifier string
	Began                  time.Time
}

// Begin returns the address at which a person signs in. It is anew, even if the provider knows the browser: on a computer that several use, whom the provider remembers
// is not who sits there. The error wraps ErrProvider.
func (p *Provider) Begin(ctx context.Context) (address string, f Flow, err error) {
	found, err := p.discover(ctx)
	if err != nil {
		return "", Flow{}, err
	}
	f = Flow{State: token(), Nonce: token(), Verifier: oauth2.GenerateVerifier(), Began: p.now()}
	options := []oauth2.AuthCodeOption{ // Core §3.1.2.1: with max_age, the answer says when the person signed in
		oidc.Nonce(f.Nonce), oauth2.S256ChallengeOption(f.Verifier), oauth2.SetAuthURLParam("prompt", "login"), oauth2.SetAuthURLParam("max_age", fmt.Sprint(int(FlowLife.Seconds()))),
	}
	if len(p.c.Assurance) > 0 {
		options = append(options, oauth2.SetAuthURLParam("acr_values", strings.Join(p.c.Assurance, " ")))
	}
	return p.client(found).AuthCodeURL(f.State, options...), f, nil
}

func token() string {
	var b [32]byte
	rand.Read(b[:])
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// Identity is who signed in at the provider.
type Identity struct {
	Issuer, Subject string
	Assurance       string    // acr
	At              time.Time // when, to the second
}

// Code returns the code that the browser brought back from the provider, which Finish is to exchange. Nobody is asked: what anybody can make up is refused here. Errors
// wrap ErrRefused.
func (f Flow) Code(query url.Values) (string, error) {
	if f.State == "" || subtle.ConstantTimeCompare([]byte(query.Get("state")), []byte(f.State)) != 1 {
		return "", fmt.Errorf("%w: the answer belongs to another sign-in", ErrRefused)
	}
	if code := query.Get("error"); code != "" {
		return "", fmt.Errorf("%w: the provider says %.40q", ErrRefused, code)
	}
	code := query.Get("code")
	if code == "" || len(code) > 4096 {
		return "", fmt.Errorf("%w: the answer has no code", ErrRefused)
	}
	return code, nil
}

// Finish takes what the browser brought back from the provider. Errors wrap ErrRefused or ErrProvider.
func (p *Provider) Finish(ctx context.Context, f Flow, query url.Values) (Identity, error) {
	code, err := f.Code(query)
	if err != nil {
		return Identity{}, err
	}
	if p.now().Sub(f.Began) > FlowLife {
		return Identity{}, fmt.Errorf("%w: it took too long", ErrRefused)
	}
	if iss := query.Get("iss"); iss != "" && iss != p.c.Issuer { // RFC 9207: an answer of another provider
		return Identity{}, fmt.Errorf("%w: the answer is of another provider", ErrRefused)
	}
	found, err := p.discover(ctx)
	if err != nil {
		return Identity{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, exchangeLimit)
	defer cancel()
	assertion, err := p.assertion(found.Endpoint().TokenURL)
	if err != nil {
		return Identity{}, err
	}
	ctx = context.WithValue(ctx, oauth2.HTTPClient, p.c.Client)
	tokens, err := p.client(found).Exchange(ctx, code, oauth2.VerifierOption(f.Verifier),
		oauth2.SetAuthURLParam("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"), oauth2.SetAuthURLParam("client_assertion", assertion))
	if refusal, ok := errors.AsType[*oauth2.RetrieveError](err); ok && refusal.ErrorCode != "" {
		return Identity{}, fmt.Errorf("%w: the provider says %.40q", ErrRefused, refusal.ErrorCode)
	}
	if err != nil {
		return Identity{}, fmt.Errorf("%w: exchange the code: %w", ErrProvider, withoutSecrets(err))
	}
	raw, _ := tokens.Extra("id_token").(string)
	return p.verify(ctx, found, raw, f)
}

// withoutSecrets keeps what a request carried, such as the code, out of an error's text.
func withoutSecrets(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		return e.Err
	}
	if e, ok := errors.AsType[*oauth2.RetrieveError](err); ok {
		return fmt.Errorf("it answered %d", e.Response.StatusCode)
	}
	return errors.New("the answer cannot be read")
}

// assertion proves to the provider that the clinic asks (RFC 7523 §3).
func (p *Provider) assertion(audience string) (string, error) {
	now := p.now()
	signed, err := jwt.Signed(p.signer).Claims(jwt.Claims{
		Issuer: p.c.ClientID, Subject: p.c.ClientID, Audience: jwt.Audience{audience}, ID: token(),
		IssuedAt: jwt.NewNumericDate(now), Expiry: jwt.NewNumericDate(now.Add(assertionLife)),
	}).Serialize()
	if err != nil {
		return "", fmt.Errorf("identity provider: sign for it: %w", err)
	}
	return signed, nil
}

func (p *Provider) verify(ctx context.Context, found *oidc.Provider, raw string, f Flow) (Identity, error) {
	if raw == "" {
		return Identity{}, fmt.Errorf("%w: the provider sent no id token", ErrRefused)
	}
	id, err := found.Verifier(&oidc.Config{ClientID: p.c.ClientID, SupportedSigningAlgs: algorithms, Now: p.now}).Verify(ctx, raw)
	if err != nil {
		return Identity{}, fmt.Errorf("%w: id token: %w", ErrRefused, err)
	}
	var claims struct {
		Nonce           string `json:"nonce"`
		ACR             string `json:"acr"`
		AuthTime        int64  `json:"auth_time"`
		AuthorizedParty string `json:"azp"`
	}
	if err := id.Claims(&claims); err != nil {
		return Identity{}, fmt.Errorf("%w: id token: %w", ErrRefused, err)
	}
	now := p.now()
	switch at := time.Unix(claims.AuthTime, 0); {
	case subtle.ConstantTimeCompare([]byte(claims.Nonce), []byte(f.Nonce)) != 1:
		return Identity{}, fmt.Errorf("%w: the id token is of another sign-in", ErrRefused)
	case id.Subject == "":
		return Identity{}, fmt.Errorf("%w: the id token names nobody", ErrRefused)
	case len(id.Audience) > 1 && claims.AuthorizedParty != p.c.ClientID, claims.AuthorizedParty != "" && claims.AuthorizedParty != p.c.ClientID:
		return Identity{}, fmt.Errorf("%w: the id token is for another client", ErrRefused)
	case id.IssuedAt.After(now.Add(leeway)):
		return Identity{}, fmt.Errorf("%w: the id token is of the future", ErrRefused)
	case len(p.c.Assurance) > 0 && !slices.Contains(p.c.Assurance, claims.ACR):
		return Identity{}, fmt.Errorf("%w: the provider vouches at level %.40q, which is not enough", ErrRefused, claims.ACR)
	case claims.AuthTime <= 0: // max_age was asked for, so auth_time has to be there (§2)
		return Identity{}, fmt.Errorf("%w: the provider does not say when the person signed in", ErrRefused)
	case at.After(now.Add(leeway)):
		return Identity{}, fmt.Errorf("%w: the person has signed in in the future", ErrRefused)
	case at.Before(f.Began.Add(-leeway)):
		return Identity{}, fmt.Errorf("%w: the person was not asked anew, as the clinic wanted", ErrRefused)
	default:
		return Identity{Issuer: p.c.Issuer, Subject: id.Subject, Assurance: claims.ACR, At: at}, nil
	}
}
