package web

import (
	"bufio"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/cookiejar"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"vindu/clinic/audit"
	"vindu/clinic/calls"
	"vindu/clinic/fleet"
	"vindu/clinic/grants"
	"vindu/clinic/passkey"
	"vindu/clinic/register"
	"vindu/clinic/relay"
	"vindu/clinic/web/webtest"
	"vindu/protocol"
)

// What stands behind the pages in a real clinic.
var (
	_ Calls    = (*calls.Service)(nil)
	_ Fleet    = (*fleet.Fleet)(nil)
	_ Register = (*register.Register)(nil)
	_ Auditor  = (*audit.Log)(nil)
	_ Relay    = (*relay.Relay)(nil)
	_ Passkeys = (*passkey.Service)(nil)
	_ Staff    = (*register.Register)(nil)
	_ Rights   = (*grants.Service)(nil)

	_ Announcements = (*register.Register)(nil)
)

// client is a browser without scripts.
func (c *clinic) client() *http.Client {
	c.t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		c.t.Fatal(err)
	}
	return &http.Client{Jar: jar}
}

// signedIn is a client that has used a link.
func (c *clinic) signedIn() *http.Client {
	c.t.Helper()
	client := c.client()
	if status, _, _ := c.get(client, c.link()); status != http.StatusOK {
		c.t.Fatalf("signing in: %d", status)
	}
	return client
}

func (c *clinic) get(client *http.Client, url string) (int, string, http.Header) {
	c.t.Helper()
	return c.request(client, http.MethodGet, url, "", nil)
}

func (c *clinic) request(client *http.Client, method, url, body string, header map[string]string) (int, string, http.Header) {
	c.t.Helper()
	if strings.HasPrefix(url, "/") {
		url = c.server.URL + url
	}
	r, err := http.NewRequestWithContext(c.t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	for k, v := range header {
		if k == "Host" {
			r.Host = v
		}
		r.Header.Set(k, v)
	}
	response, err := client.Do(r)
	if err != nil {
		c.t.Fatal(err)
	}
	defer response.Body.Close()
	b, err := io.ReadAll(response.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return response.StatusCode, string(b), response.Header
}

func TestSignIn(t *testing.T) {
	c := newClinic(t)
	if status, body, _ := c.get(c.client(), "/"); status != http.StatusOK || !strings.Contains(body, "one-time link") {
		t.Fatalf("without a session: %d %s", status, body)
	}
	link := c.link()
	stranger := c.client()
	for _, header := range []map[string]string{{"Sec-Purpose": "prefetch"}, {"Purpose": "prefetch"}} {
		if status, _, _ := c.request(stranger, http.MethodGet, link, "", header); status != http.StatusNoContent {
			t.Errorf("looking ahead %v: %d", header, status)
		}
	}
	if status, _, _ := c.request(stranger, http.MethodHead, link, "", nil); status != http.StatusNoContent {
		t.Errorf("HEAD: %d", status)
	}
	client := c.client()
	status, body, _ := c.get(client, link)
	if status != http.StatusOK || !strings.Contains(body, "Anne Berg, nurse") {
		t.Fatalf("first use of the link: %d", status)
	}
	if status, body, _ := c.get(stranger, link); status != http.StatusForbidden || !strings.Contains(body, "has been used before or has expired") {
		t.Errorf("second use of the link: %d %s", status, body)
	}
	if status, body, _ := c.get(client, link); status != http.StatusOK || !strings.Contains(body, "Anne Berg") {
		t.Errorf("second use by the one who is signed in: %d", status)
	}
	if status, _, _ := c.get(c.client(), "/enter/unknown"); status != http.StatusForbidden {
		t.Errorf("unknown link: %d", status)
	}
	if status, _, _ := c.request(client, http.MethodPost, "/leave", "", map[string]string{"Sec-Fetch-Site": "same-origin"}); status != http.StatusOK {
		t.Errorf("leave: %d", status)
	}
	if status, _, _ := c.get(client, "/api/session"); status != http.StatusUnauthorized {
		t.Errorf("after leaving: %d", status)
	}
	if got, want := c.audit.What(), []string{audit.SignInLinkIssued, audit.PersonSignedIn, audit.PersonSignedOut}; !slices.Equal(got, want) {
		t.Errorf("audit %v, want %v", got, want)
	}
}

// Who signs in anew leaves no session behind that nobody can end.
func TestSignInAgain(t *testing.T) {
	c := newClinic(t)
	former, _, err := c.sessions.enter(t.Context(), strings.TrimPrefix(c.link(), c.server.URL+"/enter/"))
	if err != nil {
		t.Fatal(err)
	}
	client := c.client()
	port := c.server.URL[strings.LastIndex(c.server.URL, ":")+1:]
	if status, _, _ := c.request(client, http.MethodGet, c.link(), "", map[string]string{"Cookie": "vindu-" + port + "=" + former}); status != http.StatusOK {
		t.Fatalf("second link: %d", status)
	}
	if status, _, _ := c.get(client, "/api/session"); status != http.StatusNoContent {
		t.Errorf("the new session: %d", status)
	}
	if _, err := c.sessions.find(t.Context(), former); !errors.Is(err, errNoSession) {
		t.Errorf("the former session goes on: %v", err)
	}
}

// Who tries tokens is refused without a turn at the database's one writer.
func TestStrangersDoNotWrite(t *testing.T) {
	c := newClinic(t)
	err := c.sessions.store.Write(t.Context(), func(*sql.Tx) error {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, _, err := c.sessions.enter(ctx, "unknown")
		return err
	})
	if !errors.Is(err, ErrLink) {
		t.Errorf("while another writes: %v", err)
	}
}

func TestSessionsExpire(t *testing.T) {
	c := newClinic(t)
	ctx := t.Context()
	now := time.Now()
	sessions := &Sessions{store: c.sessions.store, audit: c.audit, now: func() time.Time { return now }}
	token := func() string {
		path, err := sessions.Link(ctx, "test", c.person, LinkLife)
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimPrefix(path, "/enter/")
	}
	late, used := token(), token()
	session, _, err := sessions.enter(ctx, used)
	if err != nil {
		t.Fatal(err)
	}
	now = now.Add(LinkLife)
	if _, _, err := sessions.enter(ctx, late); !errors.Is(err, ErrLink) {
		t.Errorf("expired link: %v", err)
	}
	if _, err := sessions.find(ctx, session); err != nil {
		t.Errorf("session in its time: %v", err)
	}
	now = now.Add(SessionLife)
	if _, err := sessions.find(ctx, session); !errors.Is(err, errNoSession) {
		t.Errorf("expired session: %v", err)
	}
	if err := sessions.sweep(ctx); err != nil {
		t.Fatal(err)
	}
	var left int
	if err := sessions.store.Read().QueryRowContext(ctx, "SELECT (SELECT count(*) FROM web_links) + (SELECT count(*) FROM web_sessions)").Scan(&left); err != nil || left != 0 {
		t.Errorf("%d rows left, %v", left, err)
	}
	for _, life := range []time.Duration{0, -1, MaxLinkLife + 1} {
		if _, err := sessions.Link(ctx, "test", c.person, life); err == nil {
			t.Errorf("a link for %s was made", life)
		}
	}
}

// The database alone signs nobody in.
func TestTokensAreHashed(t *testing.T) {
	c := newClinic(t)
	link := c.link()
	token := link[strings.LastIndex(link, "/")+1:]
	session, _, err := c.sessions.enter(t.Context(), token)
	if err != nil {
		t.Fatal(err)
	}
	path := c.sessions.store.Path()
	for _, file := range []string{path, path + "-wal"} {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(b), token) || strings.Contains(string(b), session) {
			t.Errorf("%s holds a token", filepath.Base(file))
		}
	}
}

// request1 is what an honest page posts to place a call.
func (c *clinic) request1(page string, offer protocol.SDP, terminal protocol.KeyHash) string {
	c.t.Helper()
	signed, a, err := c.authorisations.Current(c.t.Context(), c.person)
	if err != nil {
		c.t.Fatal(err)
	}
	spki, _ := webtest.Public(webtest.NewKey())
	now := protocol.At(time.Now())
	raw, err := protocol.Encode(&protocol.Invitation{
		Version: protocol.Version, Call: protocol.NewCallID(), Terminal: terminal, Caller: protocol.Fingerprint{1}, Offer: protocol.HashOf(offer), Parties: []protocol.Party{a.Party},
		Issued: now, Expires: now + 60_000, Nonce: protocol.NewNonce(), Key: spki, Authorisation: protocol.HashOf(signed),
	})
	if err != nil {
		c.t.Fatal(err)
	}
	proof := c.passkey.Authenticator().Assert(c.t, protocol.RelyingParty{ID: webtest.Site.ID, Origins: []string{"http://localhost:1"}}, protocol.HashOf(raw))
	body, err := json.Marshal(map[string]any{
		"home": c.home.ID, "page": page, "offer": offer, "invitation": raw,
		"assertion": map[string]any{"credential": proof.Credential, "authenticator_data": proof.AuthenticatorData, "client_data": proof.ClientData, "signature": proof.Signature},
	})
	if err != nil {
		c.t.Fatal(err)
	}
	return string(body)
}

func TestRefusals(t *testing.T) {
	c := newClinic(t)
	client := c.signedIn()
	id := protocol.NewCallID().String()
	page := strings.Repeat("0a", 16)
	offer := protocol.SDP("v=0 a=fingerprint:sha-256 " + protocol.Fingerprint{1}.String())
	good := c.request1(page, offer, c.home.Terminal)
	same := map[string]string{"Sec-Fetch-Site": "same-origin"}
	tests := []struct {
		name, method, path, body string
		header                   map[string]string
		want                     int
	}{
		{"another site posts", "POST", "/api/calls", good, map[string]string{"Sec-Fetch-Site": "cross-site"}, http.StatusForbidden},
		{"another origin posts", "POST", "/api/calls", good, map[string]string{"Origin": "https://elsewhere.example"}, http.StatusForbidden},
		{"another site signs out", "POST", "/leave", "", map[string]string{"Sec-Fetch-Site": "cross-site"}, http.StatusForbidden},
		{"name of another host", "GET", "/", "", map[string]string{"Host": "clinic.example"}, http.StatusMisdirectedRequest},
		{"address that is not the loopback", "GET", "/", "", map[string]string{"Host": "10.0.0.1"}, http.StatusMisdirectedRequest},
		{"not JSON", "POST", "/api/calls", "home=1", same, http.StatusBadRequest},
		{"unknown field", "POST", "/api/calls", `{"home":"1","colour":"red"}`, same, http.StatusBadRequest},
		{"two objects", "POST", "/api/calls", good + good, same, http.StatusBadRequest},
		{"no invitation", "POST", "/api/calls", regexp.MustCompile(`"invitation":"[^"]*"`).ReplaceAllString(good, `"invitation":""`), same, http.StatusBadRequest},
		{"an assertion that is none", "POST", "/api/calls", regexp.MustCompile(`"assertion":{[^}]*}`).ReplaceAllString(good, `"assertion":{}`), same, http.StatusBadRequest},
		{"no page", "POST", "/api/calls", strings.Replace(good, page, "x", 1), same, http.StatusBadRequest},
		{"no offer", "POST", "/api/calls", strings.Replace(good, string(offer), "", 1), same, http.StatusBadRequest},
		{"offer too large", "POST", "/api/calls", strings.Replace(good, string(offer), strings.Repeat("v", protocol.MaxSDP+1), 1), same, http.StatusBadRequest},
		{"body too large", "POST", "/api/calls", strings.Replace(good, string(offer), strings.Repeat("v", maxBody), 1), same, http.StatusRequestEntityTooLarge},
		{"no such home", "POST", "/api/calls", strings.Replace(good, `"home":"`+c.home.ID, `"home":"77`, 1), same, http.StatusForbidden},
		{"terminal was exchanged", "POST", "/api/calls", c.request1(page, offer, protocol.KeyHash{7}), same, http.StatusConflict},
		{"call's name malformed", "POST", "/api/calls/xyz/hang-up", `{"reason":"end.caller_hung_up"}`, same, http.StatusBadRequest},
		{"record of no such call", "POST", "/api/calls/" + id + "/record", `{"version":1,"by":"caller","began":1,"outcome":"end.caller_hung_up"}`, same, http.StatusNotFound},
		{"reason that is the terminal's", "POST", "/api/calls/" + id + "/hang-up", `{"reason":"end.patient_hung_up"}`, same, http.StatusBadRequest},
		{"record of the terminal's half", "POST", "/api/calls/" + id + "/record", `{"version":1,"by":"terminal","began":1,"outcome":"end.caller_hung_up"}`, same, http.StatusBadRequest},
		{"record without outcome", "POST", "/api/calls/" + id + "/record", `{"version":1,"by":"caller","began":1}`, same, http.StatusBadRequest},
		{"record of another version", "POST", "/api/calls/" + id + "/record", `{"version":2,"by":"caller","began":1,"outcome":"end.caller_hung_up"}`, same, http.StatusBadRequest},
		{"record with a negative number", "POST", "/api/calls/" + id + "/record", `{"version":1,"by":"caller","began":1,"duration":-1,"outcome":"end.caller_hung_up"}`, same, http.StatusBadRequest},
		{"record with a control character", "POST", "/api/calls/" + id + "/record", `{"version":1,"by":"caller","began":1,"outcome":"end.caller_hung_up","camera":"\u009b31m"}`, same, http.StatusBadRequest},
		{"record with text turned round", "POST", "/api/calls/" + id + "/record", `{"version":1,"by":"caller","began":1,"outcome":"end.caller_hung_up","sound":"a\u200eb"}`, same, http.StatusBadRequest},
		{"candidates that nobody has signed", "POST", "/api/calls/" + id + "/candidates", `{"candidates":[{"line":""}]}`, same, http.StatusBadRequest},
		{"attempt without a half", "POST", "/api/calls/" + id + "/attempt", `{"home":"` + c.home.ID + `"}`, same, http.StatusBadRequest},
		{"attempt with an address", "POST", "/api/calls/" + id + "/attempt", `{"home":"` + c.home.ID + `","half":{"version":1,"by":"caller","began":1,"outcome":"browser.failed","gather":[{"way":"turn:192.0.2.1","code":701}]}}`, same, http.StatusBadRequest},
		{"verdict of no such call", "GET", "/api/calls/" + id + "/verdict", "", same, http.StatusNotFound},
		{"verdict's name malformed", "GET", "/api/calls/xyz/verdict", "", same, http.StatusBadRequest},
		{"stream of no page", "GET", "/events?page=1", "", nil, http.StatusBadRequest},
		{"stream after nonsense", "GET", "/events?page=" + page + "&after=x", "", nil, http.StatusBadRequest},
		{"no such page", "GET", "/nowhere", "", nil, http.StatusNotFound},
		{"no such record", "GET", "/calls/" + id, "", nil, http.StatusNotFound},
		{"record's name malformed", "GET", "/calls/xyz", "", nil, http.StatusNotFound},
		{"no such asset", "GET", "/assets/page.js", "", nil, http.StatusNotFound},
		{"wrong method", "DELETE", "/api/calls", "", same, http.StatusNotFound},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			status, body, header := c.request(client, test.method, test.path, test.body, test.header)
			if status != test.want {
				t.Errorf("%d, want %d: %s", status, test.want, body)
			}
			if strings.HasPrefix(test.path, "/api/") && status != http.StatusMethodNotAllowed {
				var said struct{ Code, Sentence string }
				if err := json.Unmarshal([]byte(body), &said); err != nil || said.Sentence == "" || header.Get(protocol.FailureHeader) != said.Code {
					t.Errorf("refused with %q, header %q", body, header.Get(protocol.FailureHeader))
				}
			}
		})
	}
	if status, body, _ := c.request(client, "POST", "/api/calls", good, same); status != http.StatusCreated {
		t.Errorf("a good one is refused: %d %s", status, body)
	}
	if status, _, _ := c.request(c.client(), "POST", "/api/calls", good, same); status != http.StatusUnauthorized {
		t.Errorf("without a session: %d", status)
	}
}

// What a home is called is text and nothing else.
func TestLabelsAreText(t *testing.T) {
	c := newClinic(t)
	c.register.AddHome(`<script>alert(1)</script>"><b>`, webtest.NewKey())
	_, body, _ := c.get(c.signedIn(), "/")
	if strings.Contains(body, "<script>alert") || strings.Contains(body, `"><b>`) || !strings.Contains(body, "&lt;script&gt;alert(1)") {
		t.Error("a label is not escaped")
	}
}

// Calls are shown to, and ended by, nobody but the one who made them.
func TestOthersCalls(t *testing.T) {
	c := newClinic(t)
	c.signedIn()
	record := calls.Record{Call: protocol.NewCallID(), Person: calls.Person{ID: c.person}, HomeLabel: "Home 17", Began: time.Now()}
	c.calls.AddRecord(record)
	c.person = c.register.AddPerson(protocol.Party{Name: "Bo Lie", Role: "nurse", Organisation: "Solvik clinic"})
	client := c.signedIn()
	for _, path := range []string{"/calls/" + record.Call.String(), "/api/calls/" + record.Call.String() + "/verdict"} {
		if status, _, _ := c.get(client, path); status != http.StatusNotFound {
			t.Errorf("another's %s: %d", path, status)
		}
	}
	same := map[string]string{"Sec-Fetch-Site": "same-origin"}
	if status, _, _ := c.request(client, "POST", "/api/calls/"+record.Call.String()+"/hang-up", `{"reason":"end.caller_hung_up"}`, same); status != http.StatusNotFound {
		t.Errorf("another's call ended: %d", status)
	}
}

func TestHeaders(t *testing.T) {
	c := newClinic(t)
	client := c.signedIn()
	for _, path := range []string{"/", "/sign-in", "/nowhere", "/api/session"} {
		_, body, header := c.get(client, path)
		for _, want := range []string{"default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "require-trusted-types-for 'script'"} {
			if !strings.Contains(header.Get("Content-Security-Policy"), want) {
				t.Errorf("%s: policy lacks %s", path, want)
			}
		}
		if strings.Contains(header.Get("Content-Security-Policy"), "unsafe") || header.Get("X-Content-Type-Options") != "nosniff" || header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: headers %v", path, header)
		}
		if regexp.MustCompile(`(?i)<script(?:>| type="(?:text/javascript|module))|\son\w+=|javascript:|<style| style=`).MatchString(body) {
			t.Errorf("%s: something is inline", path)
		}
	}
	_, body, _ := c.get(client, "/")
	script := regexp.MustCompile(`/assets/page\.[0-9a-f]{16}\.js`).FindString(body)
	status, _, header := c.get(client, script)
	if status != http.StatusOK || !strings.Contains(header.Get("Cache-Control"), "immutable") || !strings.HasPrefix(header.Get("Content-Type"), "text/javascript") {
		t.Errorf("script %s: %d %v", script, status, header)
	}
	response, err := client.Get(c.link())
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	for _, cookie := range response.Request.Response.Cookies() {
		if !cookie.HttpOnly || cookie.SameSite != http.SameSiteLaxMode || cookie.Path != "/" {
			t.Errorf("cookie %s", cookie.String())
		}
	}
}

// Cookies do not know ports: two clinics on one machine must not sign each other's people out.
func TestNeighbours(t *testing.T) {
	one, other := newClinic(t), newClinic(t)
	client := one.client()
	for _, c := range []*clinic{one, other} {
		if status, _, _ := c.get(client, strings.TrimPrefix(c.link(), c.server.URL)); status != http.StatusOK {
			t.Fatalf("sign in: %d", status)
		}
	}
	for _, c := range []*clinic{one, other} {
		if status, _, _ := c.get(client, "/api/session"); status != http.StatusNoContent {
			t.Errorf("signed in at both, and the session of %s: %d", c.server.URL, status)
		}
	}
}

// A stream begins with the whole truth and ends with the session, with the person's leaving, or with the server.
func TestStreams(t *testing.T) {
	c := newClinic(t)
	client := c.signedIn()
	page := strings.Repeat("0b", 16)
	open := func() (*bufio.Scanner, func()) {
		t.Helper()
		ctx, cancel := context.WithCancel(t.Context())
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, c.server.URL+"/events?page="+page+"&after=", nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		return bufio.NewScanner(response.Body), func() { cancel(); response.Body.Close() }
	}
	first, stop := open()
	defer stop()
	var seen []string
	for first.Scan() {
		if name, ok := strings.CutPrefix(first.Text(), "event: "); ok {
			seen = append(seen, name)
		}
		if slices.Contains(seen, "recent") && slices.Contains(seen, "homes") {
			break
		}
	}
	if len(seen) == 0 || seen[0] != "hello" {
		t.Errorf("the stream begins with %v", seen)
	}
	second, stop := open()
	defer stop()
	for first.Scan() { // ends because the page has opened another
	}
	c.request(client, http.MethodPost, "/leave", "", map[string]string{"Sec-Fetch-Site": "same-origin"})
	for second.Scan() { // ends because the person has left
	}
}

func TestStreamLimit(t *testing.T) {
	s := &Server{site: &site{streams: map[streamKey]*stream{}}}
	for i := range maxStreams + 3 {
		_, ok := s.enlist(streamKey{"1", strings.Repeat("p", i)}, "s")
		if ok != (i < maxStreams) {
			t.Fatalf("stream %d: %v", i, ok)
		}
	}
	if _, ok := s.enlist(streamKey{"2", "p"}, "s"); !ok {
		t.Error("another person is refused")
	}
	s.dismiss("s")
	if len(s.streams) != 0 {
		t.Error("streams are left")
	}
}

func TestHomeInWords(t *testing.T) {
	w, err := loadWords("en")
	if err != nil {
		t.Fatal(err)
	}
	_, key := webtest.Public(webtest.NewKey())
	now := time.Date(2026, 3, 4, 14, 0, 0, 0, time.Local)
	with := func(change func(*fleet.State)) fleet.State {
		s := online(key)
		s.Since, s.Heard = now.Add(-time.Hour), now
		change(&s)
		return s
	}
	conditions := func(codes ...protocol.Code) func(*fleet.State) {
		return func(s *fleet.State) {
			for _, c := range codes {
				s.Health.Conditions = append(s.Health.Conditions, protocol.Condition{Code: c})
			}
		}
	}
	tests := []struct {
		name     string
		terminal protocol.KeyHash
		state    fleet.State
		want     string
		word     string
		detail   string
		notes    []string
	}{
		{"no terminal", protocol.KeyHash{}, fleet.State{}, stateNone, "No terminal", "a technician has to set one up", nil},
		{"never seen", key, fleet.State{}, stateOffline, "Offline", "never heard", nil},
		{"offline", key, fleet.State{Heard: now.Add(-2 * time.Hour)}, stateOffline, "Offline", "last heard 12:00", nil},
		{"offline since another day", key, fleet.State{Heard: now.Add(-24 * time.Hour)}, stateOffline, "Offline", "last heard 3 Mar 14:00", nil},
		{"online, silent about itself", key, fleet.State{Online: true, Since: now}, stateReady, "Ready", "has not reported its health yet", nil},
		{"ready", key, with(func(*fleet.State) {}), stateReady, "Ready", "online since 13:00", nil},
		{"in a call", key, with(func(s *fleet.State) { s.Health.InCall = true }), stateBusy, "In a call", "ring when the call is over", nil},
		{"quiet hours", key, with(func(s *fleet.State) { s.Health.Quiet = true }), stateQuiet, "Quiet hours", "online since 13:00",
			[]string{"warn: The home's quiet hours are now: it rings only if it is urgent, and the rules allow that."}},
		{"shutter closed", key, with(func(s *fleet.State) { s.Health.Covered = true }), stateCovered, "Shutter closed", "online since 13:00",
			[]string{"warn: The home's camera shutter is closed: you will hear it but not see it, until somebody opens it."}},
		{"both, and a clock that is off", key, with(func(s *fleet.State) { s.Health.Quiet, s.Health.Covered = true, true; conditions(protocol.TimeOff)(s) }), stateAttention, "Online, needs attention", "online since 13:00",
			[]string{"warn: The home's quiet hours are now: it rings only if it is urgent, and the rules allow that.", "warn: The home's camera shutter is closed: you will hear it but not see it, until somebody opens it.",
				"warn: " + protocol.Explain(protocol.TimeOff).Sentence}},
		{"quiet, and away", key, fleet.State{Heard: now.Add(-2 * time.Hour), Health: &protocol.Health{Quiet: true}}, stateOffline, "Offline", "last heard 12:00", nil},
		{"test picture", key, with(func(s *fleet.State) { s.Health.Camera.Kind = "synthetic"; conditions(protocol.CaptureTestPicture)(s) }), stateReady, "Ready", "online since 13:00",
			[]string{"test: The home sends a moving test picture: it has no camera."}},
		{"no camera", key, with(func(s *fleet.State) { s.Health.Camera.Kind = "none"; conditions(protocol.CaptureNoCamera)(s) }), stateAttention, "Online, needs attention", "online since 13:00",
			[]string{"warn: The home has no camera: you will hear it but not see it."}},
		{"clock off", key, with(conditions(protocol.TimeOff)), stateAttention, "Online, needs attention", "online since 13:00",
			[]string{"warn: " + protocol.Explain(protocol.TimeOff).Sentence}},
		{"a condition of a later version", key, with(conditions("weather.storm")), stateAttention, "Online, needs attention", "online since 13:00",
			[]string{"warn: " + protocol.Explain(protocol.Unknown).Sentence}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			v := w.home(register.Home{ID: "1", Label: "Home", Terminal: test.terminal}, test.state, now)
			if v.State != test.want || v.Word != test.word || v.Detail != test.detail {
				t.Errorf("%s: %s, %s", v.State, v.Word, v.Detail)
			}
			var notes []string
			for _, n := range v.Notes {
				notes = append(notes, n.Kind+": "+n.Text)
			}
			if !slices.Equal(notes, test.notes) {
				t.Errorf("notes %q, want %q", notes, test.notes)
			}
		})
	}
}

// Every text that is asked for exists in every language, and none is left over.
func TestWords(t *testing.T) {
	files, err := filepath.Glob("lang/*.json")
	if err != nil || len(files) == 0 {
		t.Fatal("no languages")
	}
	asked := map[string]bool{}
	prefixes := []string{
		"call.curtain.", "record.curtain.", "call.line.", "record.present.home.",
		"setup.state.", "operator.order.", "operator.grade.", "operator.check.", "check.", "record.stage.", "record.who.", "record.kind.", "call.status.", "call.picture.", "call.roster.", "own.", "outcome.", "duty.word.", "duty.does.", "admin.passkeys.", "admin.sessions.", "condition.severity.", "condition.who.",
		"field.", "day.", "rights.bad.", "groups.bad.", "groups.homes.", "groups.persons.", "signing.count.", "signing.taken.", "signing.stale.", "signing.unsigned.", "rules.bad.", "rules.mode.", "fleet.sort.", "condition.silence", "condition.marked", "home.busy", "home.attention", "identity.", "record.next.", "record.course.", "figure.", "overseen.kind.", "inventory.kind.", "rehearsal.part."}
	for _, pattern := range []string{"*.go", "templates/*.html", "ts/*.ts"} {
		sources, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, source := range sources {
			if strings.HasSuffix(source, "_test.go") {
				continue
			}
			b, err := os.ReadFile(source)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range regexp.MustCompile(`"((?:time|site|homes?|condition|call|own|page|recent|record|setup|operator|duty|right|evidence|enter|left|error|lang|passkeys?|invited|touch|admin|form|rights|groups|signing|rules|identity|papers|fleet|figure|overseen|inventory|rehearsal)(?:\.[a-z_0-9]+)*)"`).FindAllStringSubmatch(string(b), -1) {
				asked[m[1]] = true
			}
		}
	}
	for _, file := range files {
		w, err := loadWords(strings.TrimSuffix(filepath.Base(file), ".json"))
		if err != nil {
			t.Fatal(err)
		}
		for key := range w {
			if !asked[key] && !strings.HasSuffix(key, ".next") && !slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(key, p) }) {
				t.Errorf("%s: nobody asks for %q", file, key)
			}
		}
		for key := range asked {
			if _, ok := w[key]; !ok && strings.Contains(key, ".") && !strings.HasSuffix(key, ".js") {
				t.Errorf("%s: %q is missing", file, key)
			}
		}
		for _, phase := range []string{"idle", "asking", "confirming", "calling", "ringing", "connecting", "talking", "ended"} {
			for _, key := range []string{"call.status." + phase, "call.picture." + phase} {
				if w[key] == "" {
					t.Errorf("%s: %q is missing", file, key)
				}
			}
		}
	}
}
