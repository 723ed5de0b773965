package web

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"database/sql"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/netip"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/time/rate"

	"vindu/clinic/audit"
	"vindu/clinic/oidc"
	"vindu/clinic/oidc/oidctest"
	"vindu/clinic/pace"
	"vindu/clinic/register"
	"vindu/clinic/web/webtest"
)

var (
	_ IdentityProvider = (*oidc.Provider)(nil)
	_ Identities       = (*oidc.Links)(nil)
)

// said is a log that a test reads.
type said struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *said) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(b)
}

func (s *said) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// withProvider has persons sign in by a provider, too.
func (d *desk) withProvider() (*oidctest.Provider, *said) {
	d.t.Helper()
	p := oidctest.New(d.t)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		d.t.Fatal(err)
	}
	p.Client = key.Public()
	log := new(said)
	d.options.Log = slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	d.options.ProviderName = "HelseID"
	d.options.Provider = must(oidc.New(oidc.Config{Issuer: p.URL, ClientID: oidctest.ClientID, Key: key, Redirect: d.server.URL + SignInBack, Assurance: []string{"Level4"}, Log: d.options.Log}))
	d.options.Identities = must(oidc.NewLinks(d.t.Context(), d.store, d.audit, filepath.Join(filepath.Dir(d.folder), "identity.key")))
	d.pages = must(New(d.options))
	return p, log
}

// stranger is a browser without scripts, that follows redirects within the pages alone.
func (d *desk) stranger() *http.Client {
	d.t.Helper()
	c := &http.Client{Jar: must(cookiejar.New(nil)), CheckRedirect: func(r *http.Request, _ []*http.Request) error {
		if !strings.HasPrefix(r.URL.String(), d.server.URL) {
			return http.ErrUseLastResponse
		}
		return nil
	}}
	d.t.Cleanup(c.CloseIdleConnections)
	return c
}

// leads returns where the page of the provider is to which a browser is sent.
func (d *desk) leads(c *http.Client) string {
	d.t.Helper()
	r, err := c.Get(d.server.URL + signInWith)
	if err != nil {
		d.t.Fatal(err)
	}
	r.Body.Close()
	if r.StatusCode != http.StatusSeeOther {
		d.t.Fatalf("sent nowhere: %d", r.StatusCode)
	}
	return r.Header.Get("Location")
}

func (d *desk) back(c *http.Client, query url.Values) (int, string) {
	d.t.Helper()
	return d.get(c, SignInBack+"?"+query.Encode())
}

func (d *desk) signedInAs(c *http.Client) bool {
	d.t.Helper()
	_, page := d.get(c, "/")
	return !strings.Contains(page, "<h1>Sign in")
}

var code = regexp.MustCompile(`[A-Z2-7]{4}-[A-Z2-7]{4}-[A-Z2-7]{4}-[A-Z2-7]{4}`)

// Somebody signs in at the provider for the first time, tells the administrator a code, and is in; what matters takes a passkey all the same; who is unlinked is out (R10).
func TestIdentityInBrowser(t *testing.T) {
	d := newDesk(t)
	_, log := d.withProvider()
	b := newTab(t)
	b.forgive("403 (Forbidden)")
	anne := d.add("Anne Berg", register.Technician)
	walk := func() {
		t.Helper()
		navigate(b, d.server.URL)
		b.reads("Sign in with HelseID")
		eval[bool](b, `document.querySelector("a.button").click(), true`)
		b.reads("The provider")
		eval[bool](b, `document.getElementById("as").click(), true`)
	}
	navigate(b, d.server.URL)
	b.reads("Sign in with HelseID")
	b.look("sign-in-provider")
	walk()
	b.reads("Nobody here is linked to this sign-in yet")
	b.look("unknown-identity")
	shown := code.FindString(eval[string](b, `document.getElementById("code").textContent`))

	a, c, kari := d.administrator()
	path := personPath(anne.ID)
	for _, wrong := range []string{"", "AAAA-AAAA-AAAA-AAAA"} {
		if status, page := d.post(c, path+"/identity", url.Values{"code": {wrong}}); status != http.StatusUnprocessableEntity || !strings.Contains(page, `id="code-bad"`) {
			t.Errorf("code %q: %d", wrong, status)
		}
	}
	navigate(a, d.server.URL+path)
	a.reads("Sign-in with HelseID")
	a.look("person-identity")
	a.keys("#code", strings.ToLower(shown))
	d.stale()
	a.button("Link this sign-in")
	a.reads("Nothing was done yet")
	a.button("Confirm with your passkey")
	a.reads("Linked since")
	a.look("person-identity-linked")

	walk()
	b.reads("Setting terminals up")
	navigate(b, d.server.URL+"/passkeys")
	b.reads("You have no passkey.")
	navigate(b, d.server.URL+"/passkeys/add")
	b.reads("only with a passkey, and you have none") // a session of the provider's makes no passkeys
	b.button("Sign out")
	b.reads("You may still be signed in with HelseID")

	walk()
	b.reads("Setting terminals up")
	a.button("Take the link away")
	a.reads("Code that the person was shown")
	navigate(b, d.server.URL+"/technician")
	b.reads("Sign in with HelseID")

	// One identity is one person; an administrator who came in that way touches a passkey like any other.
	walk()
	b.reads("Nobody here is linked")
	shown = code.FindString(eval[string](b, `document.getElementById("code").textContent`))
	c = d.client(kari)
	if status, _ := d.post(c, personPath(kari.ID)+"/identity", url.Values{"code": {shown}}); status != http.StatusOK {
		t.Errorf("linked to another: %d", status)
	}
	walk()
	b.reads("Confirm that it is you")
	if eval[bool](b, `document.body.innerText.includes("Anne Berg")`) {
		t.Error("an administrator sees persons without a passkey")
	}
	var said []string
	for _, e := range must(d.audit.Entries(t.Context(), -1, 1000)) {
		said = append(said, e.What+fmt.Sprint(e.Detail))
	}
	everything := strings.Join(said, "\n")
	for _, want := range []string{audit.IdentityRefused, audit.IdentityLinked, audit.IdentityUnlinked, audit.PersonSignedIn + "map[by:identity provider"} {
		if !strings.Contains(everything, want) {
			t.Errorf("no %s in %s", want, everything)
		}
	}
	if strings.Contains(everything+log.String(), "person-7") {
		t.Error("what the provider calls the person is in a log")
	}
}

// What does not hold signs nobody in, whoever brings it, and says so in plain words.
func TestIdentityRefused(t *testing.T) {
	claim := func(name string, value any) func(*oidctest.Provider) {
		return func(p *oidctest.Provider) { p.Claims[name] = value }
	}
	for name, tc := range map[string]struct {
		provider func(*oidctest.Provider)
		query    func(url.Values)
		status   int
		says     string
	}{
		"as it should be":  {nil, nil, http.StatusOK, "Setting terminals up"},
		"wrong nonce":      {claim("nonce", "x"), nil, http.StatusForbidden, "could not be verified"},
		"wrong audience":   {claim("aud", "somebody-else"), nil, http.StatusForbidden, "could not be verified"},
		"expired":          {claim("exp", time.Now().Add(-time.Hour).Unix()), nil, http.StatusForbidden, "could not be verified"},
		"too low a level":  {claim("acr", "Level3"), nil, http.StatusForbidden, "could not be verified"},
		"wrong state":      {nil, func(q url.Values) { q.Set("state", "x") }, http.StatusForbidden, "could not be verified"},
		"another provider": {nil, func(q url.Values) { q.Set("iss", "https://evil.example") }, http.StatusForbidden, "could not be verified"},
		"a made up code":   {nil, func(q url.Values) { q.Set("code", "x") }, http.StatusForbidden, "could not be verified"},
		"cancelled":        {nil, func(q url.Values) { q.Del("code"); q.Set("error", "access_denied") }, http.StatusForbidden, "You did not sign in with HelseID"},
		"a long query":     {nil, func(q url.Values) { q.Set("x", strings.Repeat("x", maxIdentityQuery)) }, http.StatusForbidden, "begun in another browser"},
		"provider broken": {func(p *oidctest.Provider) {
			p.Tokens = func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "", http.StatusBadGateway) }
		}, nil, http.StatusServiceUnavailable, "HelseID does not answer"},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDesk(t)
			p, _ := d.withProvider()
			d.linked(p)
			c := d.stranger()
			query := p.Authorise(d.leads(c))
			p.Lock()
			if tc.provider != nil {
				tc.provider(p)
			}
			p.Unlock()
			if tc.query != nil {
				tc.query(query)
			}
			if status, page := d.back(c, query); status != tc.status || !strings.Contains(page, tc.says) {
				t.Errorf("%d %s", status, page)
			}
			if in := d.signedInAs(c); in != (tc.status == http.StatusOK) {
				t.Errorf("signed in: %v", in)
			}
		})
	}
}

// linked links the provider's person to a technician.
func (d *desk) linked(p *oidctest.Provider) register.Person {
	d.t.Helper()
	person := d.add("Olav Nes", register.Technician)
	c := d.stranger()
	_, page := d.back(c, p.Authorise(d.leads(c)))
	if err := d.options.Identities.Link(d.t.Context(), "test", person.ID, code.FindString(page)); err != nil {
		d.t.Fatal(err)
	}
	return person
}

// An answer is worth something in the browser that asked for it, and once.
func TestIdentityOfAnother(t *testing.T) {
	d := newDesk(t)
	p, _ := d.withProvider()
	d.linked(p)
	victim, thief := d.stranger(), d.stranger()
	query := p.Authorise(d.leads(victim))
	d.leads(thief) // which has begun a sign-in of its own
	for name, c := range map[string]*http.Client{"another browser's": thief, "nobody's": d.stranger()} {
		if status, page := d.back(c, query); status != http.StatusForbidden || d.signedInAs(c) {
			t.Errorf("%s: %d %s", name, status, page)
		}
	}
	// The one that asked for it keeps its cookie, and brings the answer twice: not even the provider is asked again.
	u := must(url.Parse(d.server.URL))
	again := d.stranger()
	again.Jar.SetCookies(u, victim.Jar.Cookies(u))
	if status, _ := d.back(victim, query); status != http.StatusOK || !d.signedInAs(victim) {
		t.Fatalf("the one that asked for it: %d", status)
	}
	if left := victim.Jar.Cookies(u); len(left) != 1 {
		t.Errorf("cookies are left: %v", left)
	}
	// Nobody is signed in by the provider's memory alone: the next one at this computer is another.
	if address := d.leads(d.stranger()); !strings.Contains(address, "prompt=login") {
		t.Errorf("not asked who it is: %s", address)
	}
	p.Lock()
	p.Tokens = func(http.ResponseWriter, *http.Request) { t.Error("the provider is asked for a code that was used") }
	p.Unlock()
	if status, page := d.back(again, query); status != http.StatusForbidden || !strings.Contains(page, "was used before") || d.signedInAs(again) {
		t.Errorf("twice: %d", status)
	}
}

// A provider that is down keeps nobody from signing in by passkey, and says so by its button alone. Another site begins no sign-in.
func TestIdentityAway(t *testing.T) {
	d := newDesk(t)
	p, _ := d.withProvider()
	p.Down = true
	c := d.stranger()
	if status, page := d.get(c, "/sign-in"); status != http.StatusOK || !strings.Contains(page, "Sign in with a passkey") || !strings.Contains(page, "Sign in with HelseID") {
		t.Errorf("the sign-in page: %d", status)
	}
	if status, page := d.get(c, signInWith); status != http.StatusServiceUnavailable || !strings.Contains(page, "HelseID does not answer just now.") || !strings.Contains(page, "with your passkey") {
		t.Errorf("its button: %d %s", status, page)
	}
	olav := d.add("Olav Nes", register.Technician)
	b := newTab(t)
	webtest.Registered(t, b.ctx, d.invitation(olav.ID), "Laptop")
	b.reads("Setting terminals up")
	p.Lock()
	p.Down = false
	p.Unlock()
	for header, value := range map[string]string{"Sec-Fetch-Site": "cross-site", "Sec-Purpose": "prefetch"} {
		r := must(http.NewRequestWithContext(t.Context(), http.MethodGet, d.server.URL+signInWith, nil))
		r.Header.Set(header, value)
		response, err := c.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != http.StatusOK && response.StatusCode != http.StatusNoContent || len(response.Cookies()) > 0 {
			t.Errorf("%s %s: %d, cookies %v", header, value, response.StatusCode, response.Cookies())
		}
	}
	plain := newDesk(t)
	for _, path := range []string{signInWith, SignInBack + "?code=x&state=y"} {
		if status, _ := plain.get(plain.stranger(), path); status != http.StatusNotFound {
			t.Errorf("%s without a provider: %d", path, status)
		}
	}
	if _, page := plain.get(plain.stranger(), "/sign-in"); strings.Contains(page, signInWith) {
		t.Error("a button without a provider")
	}
}

// What a browser keeps while its person is at the provider opens for the server that sealed it, within its time, and once.
func TestFlows(t *testing.T) {
	f, other := must(newFlows()), must(newFlows())
	now := time.Now()
	take := func(f *flows, cookie string, now time.Time) (oidc.Flow, bool) {
		flow, ok := f.open(cookie, now)
		return flow, ok && f.take(flow, now)
	}
	flow := func(i int) oidc.Flow {
		return oidc.Flow{State: fmt.Sprint("s", i), Nonce: "n", Verifier: "the-verifier", Began: now.Add(time.Duration(i) * time.Millisecond)}
	}
	sealed := must(f.wrap(flow(0)))
	if strings.Contains(sealed, "verifier") {
		t.Error("not sealed")
	}
	if _, ok := take(other, sealed, now); ok {
		t.Error("another server opens it")
	}
	for _, broken := range []string{"", "x", sealed[:len(sealed)-2], sealed + "A"} {
		if _, ok := take(f, broken, now); ok {
			t.Errorf("%q opens", broken)
		}
	}
	if _, ok := take(f, sealed, now.Add(oidc.FlowLife+time.Second)); ok {
		t.Error("too late")
	}
	if got, ok := take(f, sealed, now); !ok || got.Verifier != "the-verifier" || got.State != "s0" {
		t.Errorf("%+v, %v", got, ok)
	}
	if _, ok := take(f, sealed, now); ok {
		t.Error("twice")
	}
	for i := range maxUsedFlows + 10 {
		take(f, must(f.wrap(flow(i+1))), now)
	}
	if len(f.used) > maxUsedFlows {
		t.Errorf("%d are kept", len(f.used))
	}
	if _, ok := take(f, must(f.wrap(flow(-5))), now.Add(oidc.FlowLife-time.Minute)); !ok {
		t.Error("a new one")
	}
}

// Who is signed out everywhere, or whose link is taken away, comes in again by signing in anew alone: neither what the provider remembers, nor a sign-in that was begun
// before, nor a link that is put back opens what was ended.
func TestIdentityEnded(t *testing.T) {
	d := newDesk(t)
	p, _ := d.withProvider()
	olav := d.linked(p)
	_, admin, _ := d.administrator()
	signedInThere := func(ago time.Duration) {
		p.Lock()
		defer p.Unlock()
		p.Claims["auth_time"] = time.Now().Add(-ago).Unix()
	}
	act := func(path string, form url.Values) {
		t.Helper()
		if status, page := d.post(admin, personPath(olav.ID)+path, form); status != http.StatusOK {
			t.Fatalf("%s: %d %s", path, status, page)
		}
	}
	enter := func(c *http.Client) (int, string) {
		t.Helper()
		return d.back(c, p.Authorise(d.leads(c)))
	}
	ended := func() { // was a while ago
		t.Helper()
		if err := d.store.Write(t.Context(), func(tx *sql.Tx) error {
			_, err := tx.ExecContext(t.Context(), "UPDATE web_ended SET at = at - 2000")
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	c, began := d.stranger(), d.stranger()
	if status, page := enter(c); status != http.StatusOK || !d.signedInAs(c) {
		t.Fatalf("%d %s", status, page)
	}
	before := p.Authorise(d.leads(began)) // is at the provider meanwhile
	signedInThere(5 * time.Second)
	act("/end", nil)
	if d.signedInAs(c) {
		t.Error("signed in still")
	}
	for name, back := range map[string]func() (int, string){"remembered": func() (int, string) { return enter(c) }, "begun before": func() (int, string) { return d.back(began, before) }} {
		if status, page := back(); status != http.StatusForbidden || !strings.Contains(page, "You were signed out here everywhere") {
			t.Errorf("%s: %d %s", name, status, page)
		}
	}
	if d.signedInAs(c) || d.signedInAs(began) {
		t.Error("a sign-in from before opens a session")
	}
	ended()
	signedInThere(0)
	if status, page := enter(c); status != http.StatusOK || !d.signedInAs(c) {
		t.Fatalf("anew: %d %s", status, page)
	}
	// The link is taken away, and put back.
	act("/identity/remove", nil)
	if d.signedInAs(c) {
		t.Error("signed in without a link")
	}
	_, page := enter(d.stranger())
	act("/identity", url.Values{"code": {code.FindString(page)}})
	if d.signedInAs(c) {
		t.Error("a session from before the link was taken away holds again")
	}
	ended()
	if status, _ := enter(c); status != http.StatusOK || !d.signedInAs(c) {
		t.Errorf("anew: %d", status)
	}
}

// Who begins sign-ins and makes answers up keeps nobody else from signing in, has the provider asked seldom, and nothing is lost by who is told to wait.
func TestIdentityBounds(t *testing.T) {
	d := newDesk(t)
	p, _ := d.withProvider()
	d.linked(p)
	const burst = 20
	d.pages.flows.places = pace.New[netip.Prefix](pace.Bound{PerSecond: rate.Every(time.Hour), Burst: burst}) // however slow this machine is
	asked := 0
	p.Lock()
	p.Tokens = func(w http.ResponseWriter, _ *http.Request) {
		asked++
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprint(w, `{"error":"invalid_grant"}`)
	}
	p.Unlock()
	stranger, honest := d.stranger(), d.stranger()
	answer := p.Authorise(d.leads(honest))
	d.leads(stranger)
	most := finishes.Burst + burst
	for i := range most {
		if status, page := d.back(stranger, url.Values{"state": {"made up"}, "code": {"made up"}}); status != http.StatusForbidden || !strings.Contains(page, "could not be verified") {
			t.Fatalf("wrong state, %d times: %d %s", i+1, status, page)
		}
		if status, page := d.back(honest, url.Values{"state": answer["state"]}); status != http.StatusForbidden || !strings.Contains(page, "could not be verified") {
			t.Fatalf("no code, %d times: %d %s", i+1, status, page)
		}
	}
	status := 0
	for i := 0; i < most && status != http.StatusServiceUnavailable; i++ {
		made := p.Authorise(d.leads(stranger))
		made.Set("code", "made up")
		status, _ = d.back(stranger, made)
	}
	p.Lock()
	if asked != burst {
		t.Errorf("the provider was asked %d times", asked)
	}
	p.Tokens = nil
	p.Unlock()
	if status, page := d.back(honest, answer); status != http.StatusServiceUnavailable || !strings.Contains(page, "Load this page again in a minute") {
		t.Errorf("behind the same address: %d %s", status, page)
	}
	elsewhere := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
	transport := &http.Transport{DialContext: elsewhere.DialContext}
	t.Cleanup(transport.CloseIdleConnections)
	honest.Transport = transport
	if status, page := d.back(honest, answer); status != http.StatusOK || !d.signedInAs(honest) {
		t.Errorf("from another address, the same answer: %d %s", status, page)
	}
}
