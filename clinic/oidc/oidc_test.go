package oidc

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"vindu/clinic/oidc/oidctest"
)

// provider is one for tests.
type provider struct {
	*oidctest.Provider
	t *testing.T
}

func newProvider(t *testing.T) *provider { return &provider{oidctest.New(t), t} }

const clientID = oidctest.ClientID

// clinic is a client of the provider.
func (p *provider) clinic(change ...func(*Config)) *Provider {
	p.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		p.t.Fatal(err)
	}
	c := Config{Issuer: p.URL, ClientID: clientID, Key: key, KeyID: "k1", Redirect: "https://clinic.example/oidc", Assurance: []string{"Level4", "idporten-loa-high"}}
	for _, f := range change {
		f(&c)
	}
	p.Lock()
	p.Client = c.Key.Public()
	p.Unlock()
	client, err := New(c)
	if err != nil {
		p.t.Fatal(err)
	}
	return client
}

func (p *provider) signIn(c *Provider, change func(*Flow, url.Values)) (Identity, error) {
	p.t.Helper()
	address, flow, err := c.Begin(p.t.Context())
	if err != nil {
		return Identity{}, err
	}
	query := p.Authorise(address)
	if change != nil {
		change(&flow, query)
	}
	return c.Finish(p.t.Context(), flow, query)
}

func TestSignIn(t *testing.T) {
	long, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Config){"by an ECDSA key": func(*Config) {}, "by an RSA key": func(c *Config) { c.Key = long }, "at any level": func(c *Config) { c.Assurance = nil }} {
		t.Run(name, func(t *testing.T) {
			p := newProvider(t)
			c := p.clinic(change)
			for range 3 {
				id, err := p.signIn(c, nil)
				if err != nil || id.Issuer != p.URL || id.Subject != "person-7" || id.Assurance != "Level4" || time.Since(id.At) > time.Minute {
					t.Fatalf("%+v, %v", id, err)
				}
			}
			if p.Asked != 1 {
				t.Errorf("asked %d times what the provider offers", p.Asked)
			}
		})
	}
}

// TestRefused: what the provider or the browser brings that does not hold signs nobody in.
func TestRefused(t *testing.T) {
	stranger, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now().Unix()
	claim := func(name string, value any) func(*provider) { return func(p *provider) { p.Claims[name] = value } }
	for name, c := range map[string]struct {
		provider func(*provider)
		browser  func(*Flow, url.Values)
	}{
		"another issuer":                {claim("iss", "https://evil.example"), nil},
		"another client":                {claim("aud", "somebody-else"), nil},
		"two audiences":                 {claim("aud", []string{clientID, "other"}), nil},
		"another authorised party":      {claim("azp", "other"), nil},
		"another sign-in's nonce":       {claim("nonce", "x"), nil},
		"no nonce":                      {claim("nonce", nil), nil},
		"no subject":                    {claim("sub", nil), nil},
		"expired":                       {claim("exp", now-3600), nil},
		"of the future":                 {claim("iat", now+3600), nil},
		"too low a level":               {claim("acr", "Level3"), nil},
		"no level":                      {claim("acr", nil), nil},
		"signed in yesterday":           {claim("auth_time", now-86400), nil},
		"signed in before it was asked": {claim("auth_time", now-300), nil},
		"signed in in an hour":          {claim("auth_time", now+3600), nil},
		"signed in who knows when":      {claim("auth_time", nil), nil},
		"signed by a stranger":          {func(p *provider) { p.SignWith = stranger }, nil},
		"signed by the shared secret":   {func(p *provider) { p.SignWith, p.Alg = []byte(strings.Repeat("s", 64)), jose.HS256 }, nil},
		"no id token": {func(p *provider) {
			p.Tokens = func(w http.ResponseWriter, _ *http.Request) {
				p.Reply(w, map[string]string{"access_token": "a", "token_type": "Bearer"})
			}
		}, nil},
		"another state":         {nil, func(_ *Flow, q url.Values) { q.Set("state", "x") }},
		"no state":              {nil, func(f *Flow, q url.Values) { f.State = ""; q.Del("state") }},
		"another verifier":      {nil, func(f *Flow, _ url.Values) { f.Verifier = strings.Repeat("v", 43) }},
		"another nonce":         {nil, func(f *Flow, _ url.Values) { f.Nonce = "y" }},
		"answer of another":     {nil, func(_ *Flow, q url.Values) { q.Set("iss", "https://evil.example") }},
		"the person cancelled":  {nil, func(_ *Flow, q url.Values) { q.Del("code"); q.Set("error", "access_denied") }},
		"no code":               {nil, func(_ *Flow, q url.Values) { q.Del("code") }},
		"a code of nothing":     {nil, func(_ *Flow, q url.Values) { q.Set("code", "made up") }},
		"a code of many a page": {nil, func(_ *Flow, q url.Values) { q.Set("code", strings.Repeat("c", 5000)) }},
		"too late":              {nil, func(f *Flow, _ url.Values) { f.Began = f.Began.Add(-FlowLife - time.Second) }},
	} {
		t.Run(name, func(t *testing.T) {
			p := newProvider(t)
			client := p.clinic()
			if c.provider != nil {
				c.provider(p)
			}
			if id, err := p.signIn(client, c.browser); !errors.Is(err, ErrRefused) {
				t.Errorf("%+v, %v", id, err)
			}
		})
	}
	t.Run("a code twice", func(t *testing.T) {
		p := newProvider(t)
		client := p.clinic()
		address, flow, err := client.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		query := p.Authorise(address)
		if _, err := client.Finish(t.Context(), flow, query); err != nil {
			t.Fatal(err)
		}
		if _, err := client.Finish(t.Context(), flow, query); !errors.Is(err, ErrRefused) {
			t.Error(err)
		}
	})
	t.Run("another client's key", func(t *testing.T) {
		p := newProvider(t)
		client := p.clinic()
		p.clinic() // registered after it
		if _, err := p.signIn(client, nil); !errors.Is(err, ErrRefused) {
			t.Error(err)
		}
	})
}

// TestProviderAway: a provider that is away is asked again, but not at once, and no secret is in what is said of it.
func TestProviderAway(t *testing.T) {
	p := newProvider(t)
	client := p.clinic()
	clock := time.Now()
	client.now = func() time.Time { return clock }
	p.Down = true
	for range 5 {
		if _, _, err := client.Begin(t.Context()); !errors.Is(err, ErrProvider) {
			t.Fatal(err)
		}
	}
	if p.Asked != 1 {
		t.Errorf("asked %d times", p.Asked)
	}
	p.Lock()
	p.Down = false
	p.Unlock()
	clock = clock.Add(discoverAgain)
	if _, err := p.signIn(client, nil); err != nil {
		t.Fatal(err)
	}
	for name, answer := range map[string]http.HandlerFunc{
		"broken":   func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "<html>", http.StatusInternalServerError) },
		"nonsense": func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "{") },
		"elsewhere": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://127.0.0.1:1/", http.StatusTemporaryRedirect)
		},
		"hangs up": func(w http.ResponseWriter, _ *http.Request) {
			conn, _, err := w.(http.Hijacker).Hijack()
			if err == nil {
				conn.Close()
			}
		},
	} {
		p.Lock()
		p.Tokens = answer
		p.Unlock()
		var code string
		_, err := p.signIn(client, func(f *Flow, q url.Values) { code = q.Get("code"); f.Verifier = "the-verifier" })
		if !errors.Is(err, ErrProvider) || strings.Contains(err.Error(), code) || strings.Contains(err.Error(), "the-verifier") {
			t.Errorf("%s: %v", name, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	fresh := p.clinic()
	if _, _, err := fresh.Begin(ctx); err != nil { // the discovery is for all who come, not for this one
		t.Error(err)
	}
}

func TestConfiguration(t *testing.T) {
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	short, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	good := Config{Issuer: "https://helseid.example", ClientID: "c", Key: p256, Redirect: "https://clinic.example/oidc"}
	if _, err := New(good); err != nil {
		t.Fatal(err)
	}
	bad := map[string]func(*Config){
		"plain issuer": func(c *Config) { c.Issuer = "http://helseid.example" }, "no issuer": func(c *Config) { c.Issuer = "" }, "issuer with a password": func(c *Config) { c.Issuer = "https://a:b@helseid.example" },
		"plain redirect": func(c *Config) { c.Redirect = "http://clinic.example/oidc" }, "no client": func(c *Config) { c.ClientID = "" },
		"P-384": func(c *Config) { c.Key = p384 }, "short RSA": func(c *Config) { c.Key = short },
	}
	for _, name := range slices.Sorted(maps.Keys(bad)) {
		c := good
		bad[name](&c)
		if _, err := New(c); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}
