package web

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"html"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"vindu/clinic/audit"
	"vindu/clinic/authority"
	"vindu/clinic/calls"
	"vindu/clinic/grants"
	"vindu/clinic/ledger"
	"vindu/clinic/passkey"
	"vindu/clinic/register"
	"vindu/clinic/setup"
	"vindu/clinic/store"
	"vindu/clinic/web/webtest"
	"vindu/protocol"
)

// desk is the pages of technicians and operators over a real register; its terminals are a test's.
type desk struct {
	t          *testing.T
	server     *httptest.Server
	pages      *Server
	sessions   *Sessions
	register   *register.Register
	setup      *setup.Service
	ledger     *ledger.Ledger
	fleet      *webtest.Fleet
	audit      *audit.Log
	passkeys   *passkey.Service
	store      *store.Store
	options    Options
	rights     *grants.Service
	authority  *authority.Authority
	folder     string // of the authority
	seq        uint64
	rehearsals int                                // that were asked for
	chains     map[protocol.KeyHash]protocol.Link // of openings
}

func newDesk(t *testing.T) *desk {
	t.Helper()
	dir := t.TempDir()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(authority.Create(filepath.Join(dir, "authority"), "Solvik clinic"))
	a, err := authority.Load(filepath.Join(dir, "authority"))
	must(err)
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	d := &desk{t: t, fleet: webtest.NewFleet()}
	d.store, err = store.Open(t.Context(), filepath.Join(dir, "clinic.db"), log)
	must(err)
	t.Cleanup(func() { d.store.Close() })
	d.audit, err = audit.New(t.Context(), d.store, a.LogKey())
	must(err)
	d.register, err = register.New(t.Context(), d.store, d.audit)
	must(err)
	d.setup, err = setup.New(t.Context(), setup.Config{
		Store: d.store, Audit: d.audit, Register: d.register, Authority: a, Address: "clinic.example:443", ServerName: "terminals.vindu.invalid", Organisation: "Solvik clinic", Log: log,
	})
	must(err)
	d.sessions, err = NewSessions(t.Context(), d.store, d.audit)
	must(err)
	records, err := calls.OpenRecords(t.Context(), d.store, d.audit, log)
	must(err)
	d.ledger, err = ledger.New(t.Context(), ledger.Config{Store: d.store, Calls: records, Mandates: d.setup, Alarms: d.register, Log: log})
	must(err)
	d.server = httptest.NewUnstartedServer(nil)
	d.server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { d.pages.ServeHTTP(w, r) })
	d.server.Start()
	t.Cleanup(d.server.Close)
	d.server.URL = strings.Replace(d.server.URL, "127.0.0.1", "localhost", 1) // addresses have no passkeys
	d.passkeys, err = passkey.New(t.Context(), passkey.Config{
		Store: d.store, Audit: d.audit, Persons: d.register, Alarms: d.register, Site: protocol.RelyingParty{ID: "localhost", Origins: []string{d.server.URL}},
		Organisation: "Solvik clinic", Changed: func(person string) { d.pages.Dismiss(person) }, Log: log,
	})
	must(err)
	d.rights, err = grants.New(t.Context(), grants.Config{Store: d.store, Audit: d.audit, Register: d.register, Authority: a, Passkeys: d.passkeys, Log: log})
	must(err)
	d.authority, d.folder = a, filepath.Join(dir, "authority")
	authorised := webtest.NewAuthorisations(d.register, protocol.Party{Name: "Kari Nes", Role: "nurse", Organisation: "Solvik clinic"}, webtest.NewPasskey(webtest.Site.ID).Credential())
	d.options = Options{
		Sessions: d.sessions, Register: d.register, Fleet: d.fleet, Calls: webtest.NewCalls(webtest.NewRegister(), authorised), Authorisations: authorised, RelyingParty: webtest.Site, Organisation: "Solvik clinic", Log: log,
		Custody: d.register, Setup: d.setup, Ledger: d.ledger, Passkeys: d.passkeys, Staff: d.register, Rights: d.rights,
		Rehearse: func(context.Context, protocol.KeyHash) error { d.rehearsals++; return nil },
	}
	d.pages, err = New(d.options)
	must(err)
	return d
}

// link returns a sign-in link of a person with this role.
func (d *desk) link(name, role string) string {
	d.t.Helper()
	duty := register.Duty(role)
	switch role {
	case "nurse":
		duty = register.Clinician
	case "":
		role = "auditor"
		if _, err := d.register.Assign(d.t.Context(), "test", protocol.Party{Name: name, Role: role, Organisation: "Solvik clinic"}, register.Clinician); err != nil {
			d.t.Fatal(err)
		}
		if _, err := d.register.Assign(d.t.Context(), "test", protocol.Party{Name: name, Role: role, Organisation: "Solvik clinic"}, register.NoDuty); err != nil {
			d.t.Fatal(err)
		}
	}
	p, err := d.register.EnsurePerson(d.t.Context(), "test", protocol.Party{Name: name, Role: role, Organisation: "Solvik clinic"}, duty)
	if err != nil {
		d.t.Fatal(err)
	}
	path, err := d.sessions.Link(d.t.Context(), "test", p.ID, LinkLife)
	if err != nil {
		d.t.Fatal(err)
	}
	return d.server.URL + path
}

func (d *desk) signedIn(role string) *http.Client {
	d.t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		d.t.Fatal(err)
	}
	c := &http.Client{Jar: jar}
	d.t.Cleanup(c.CloseIdleConnections)
	if status, body := d.get(c, d.link("Kari Nes", role)); status != http.StatusOK && role != "" {
		d.t.Fatalf("sign in: %d %s", status, body)
	}
	return c
}

func (d *desk) get(c *http.Client, path string) (int, string) {
	d.t.Helper()
	return d.do(c, http.MethodGet, path, nil)
}

func (d *desk) post(c *http.Client, path string, form url.Values) (int, string) {
	d.t.Helper()
	return d.do(c, http.MethodPost, path, form)
}

func (d *desk) do(c *http.Client, method, path string, form url.Values) (int, string) {
	d.t.Helper()
	if strings.HasPrefix(path, "/") {
		path = d.server.URL + path
	}
	r, err := http.NewRequestWithContext(d.t.Context(), method, path, strings.NewReader(form.Encode()))
	if err != nil {
		d.t.Fatal(err)
	}
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Sec-Fetch-Site", "same-origin")
	}
	response, err := c.Do(r)
	if err != nil {
		d.t.Fatal(err)
	}
	defer response.Body.Close()
	b, err := io.ReadAll(response.Body)
	if err != nil {
		d.t.Fatal(err)
	}
	return response.StatusCode, string(b)
}

// enrol lets a terminal in by a voucher's text.
func (d *desk) enrol(text string) (*ecdsa.PrivateKey, protocol.KeyHash, error) {
	d.t.Helper()
	v, err := protocol.ParseVoucher(text)
	if err != nil {
		d.t.Fatal(err)
	}
	k := webtest.NewKey()
	return k, d.enrolKey(v, k, &err), err
}

func (d *desk) enrolKey(v *protocol.Voucher, k *ecdsa.PrivateKey, err *error) protocol.KeyHash {
	der, requestErr := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, k)
	if requestErr != nil {
		d.t.Fatal(requestErr)
	}
	request, requestErr := authority.ParseRequest(der)
	if requestErr != nil {
		d.t.Fatal(requestErr)
	}
	_, *err = d.register.Enrol(d.t.Context(), v.ID, v.Secret, request, d.setup.Authority.IssueTerminal)
	return request.Hash
}

var readonly = regexp.MustCompile(`(?s)readonly[^>]*>(.*?)</textarea>`)

func shown(t *testing.T, page string) string {
	t.Helper()
	m := readonly.FindStringSubmatch(page)
	if m == nil {
		t.Fatalf("nothing to copy in %s", page)
	}
	return html.UnescapeString(m[1])
}
