// Package oidctest is an identity provider for tests, as HelseID is one: it wants private_key_jwt (RFC 7523) and PKCE (RFC 7636), gives each code once, and signs what it
// says. A test changes what it does. Its persons sign in by a page with one link.
package oidctest

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// ClientID is by which the provider knows its one client.
const ClientID = "vindu-clinic"

// Provider is the provider. What is exported is under Lock.
type Provider struct {
	sync.Mutex
	URL string // the issuer

	Client   crypto.PublicKey // the client's
	Claims   map[string]any   // changed in the id token; nil deletes
	SignWith any              // another key than its own
	Alg      jose.SignatureAlgorithm
	Down     bool
	Tokens   http.HandlerFunc // in place of the token endpoint
	Asked    int              // discoveries

	t     testing.TB
	key   *rsa.PrivateKey
	codes map[string]url.Values // what was asked for, by the code that was given for it
	given int
	used  map[string]bool // ids of client assertions
}

// ownKey is every provider's of a test run: to make one takes a while.
var ownKey = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })

// New starts one, until the test ends.
func New(t testing.TB) *Provider {
	t.Helper()
	key, err := ownKey()
	if err != nil {
		t.Fatal(err)
	}
	p := &Provider{t: t, key: key, codes: map[string]url.Values{}, used: map[string]bool{}, Claims: map[string]any{}, Alg: jose.RS256}
	server := httptest.NewServer(p)
	t.Cleanup(server.Close)
	p.URL = server.URL
	return p
}

// ServeHTTP implements http.Handler.
func (p *Provider) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.Lock()
	defer p.Unlock()
	switch r.URL.Path {
	case "/.well-known/openid-configuration":
		if p.Asked++; p.Down {
			http.Error(w, "", http.StatusServiceUnavailable)
			return
		}
		p.reply(w, map[string]any{
			"issuer": p.URL, "authorization_endpoint": p.URL + "/authorize", "token_endpoint": p.URL + "/token", "jwks_uri": p.URL + "/keys",
			"id_token_signing_alg_values_supported": []string{"RS256", "HS256", "none"},
		})
	case "/keys":
		p.reply(w, jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: p.key.Public(), KeyID: "1", Use: "sig"}}})
	case "/authorize":
		back := p.authorise(r.URL.Query())
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		fmt.Fprintf(w, `<!DOCTYPE html><html lang="en"><link rel="icon" href="data:,"><title>Provider</title><h1>The provider</h1><p><a id="as" href="%s">Sign in as person 7</a>`,
			html.EscapeString(r.URL.Query().Get("redirect_uri")+"?"+back.Encode()))
	case "/token":
		p.token(w, r)
	default:
		http.NotFound(w, r)
	}
}

func (p *Provider) reply(w http.ResponseWriter, body any) {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(body); err != nil {
		p.t.Error(err)
	}
}

// Reply answers with JSON.
func (p *Provider) Reply(w http.ResponseWriter, body any) { p.reply(w, body) }

// Authorise is the person who was sent to an address, signs in there and is sent back with what is returned.
func (p *Provider) Authorise(address string) url.Values {
	p.t.Helper()
	u, err := url.Parse(address)
	if err != nil || !strings.HasPrefix(address, p.URL+"/authorize?") {
		p.t.Fatalf("%s: %v", address, err)
	}
	p.Lock()
	defer p.Unlock()
	return p.authorise(u.Query())
}

func (p *Provider) authorise(q url.Values) url.Values {
	if q.Get("response_type") != "code" || q.Get("client_id") != ClientID || q.Get("code_challenge_method") != "S256" || q.Get("nonce") == "" || q.Get("state") == "" ||
		q.Get("max_age") == "" || q.Get("prompt") != "login" || !strings.Contains(q.Get("scope"), "openid") {
		p.t.Errorf("asked for %v", q)
	}
	p.given++
	code := fmt.Sprintf("code-%d", p.given)
	p.codes[code] = q
	return url.Values{"code": {code}, "state": {q.Get("state")}, "iss": {p.URL}}
}

func (p *Provider) token(w http.ResponseWriter, r *http.Request) {
	if p.Tokens != nil {
		p.Tokens(w, r)
		return
	}
	refuse := func(code string) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprintf(w, `{"error":%q}`, code)
	}
	if r.FormValue("client_secret") != "" || r.Header.Get("Authorization") != "" || r.FormValue("client_assertion_type") != "urn:ietf:params:oauth:client-assertion-type:jwt-bearer" {
		refuse("invalid_client")
		return
	}
	assertion, err := jwt.ParseSigned(r.FormValue("client_assertion"), []jose.SignatureAlgorithm{jose.ES256, jose.PS256})
	var c jwt.Claims
	if err == nil {
		err = assertion.Claims(p.Client, &c)
	}
	if err == nil {
		err = c.ValidateWithLeeway(jwt.Expected{Issuer: ClientID, Subject: ClientID, AnyAudience: jwt.Audience{p.URL + "/token"}, Time: time.Now()}, time.Minute)
	}
	if err != nil || c.ID == "" || p.used[c.ID] || c.Expiry.Time().After(time.Now().Add(2*time.Minute)) {
		refuse("invalid_client")
		return
	}
	p.used[c.ID] = true
	asked, known := p.codes[r.FormValue("code")]
	delete(p.codes, r.FormValue("code"))
	challenge := sha256.Sum256([]byte(r.FormValue("code_verifier")))
	if !known || r.FormValue("redirect_uri") != asked.Get("redirect_uri") || base64.RawURLEncoding.EncodeToString(challenge[:]) != asked.Get("code_challenge") {
		refuse("invalid_grant")
		return
	}
	now := time.Now()
	claims := map[string]any{
		"iss": p.URL, "sub": "person-7", "aud": ClientID, "iat": now.Unix(), "exp": now.Add(time.Minute).Unix(), "auth_time": now.Unix(), "nonce": asked.Get("nonce"), "acr": "Level4",
	}
	maps.Copy(claims, p.Claims)
	maps.DeleteFunc(claims, func(_ string, v any) bool { return v == nil })
	var key any = p.key
	if p.SignWith != nil {
		key = p.SignWith
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: p.Alg, Key: jose.JSONWebKey{Key: key, KeyID: "1"}}, nil)
	if err != nil {
		p.t.Error(err)
		return
	}
	raw, err := jwt.Signed(signer).Claims(claims).Serialize()
	if err != nil {
		p.t.Error(err)
		return
	}
	p.reply(w, map[string]any{"access_token": "a", "token_type": "Bearer", "id_token": raw})
}
