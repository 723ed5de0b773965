package web

import (
	"database/sql"
	"net/http"
	"net/http/cookiejar"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"vindu/clinic/audit"
	"vindu/clinic/passkey"
	"vindu/clinic/register"
	"vindu/clinic/web/webtest"
	"vindu/protocol"
)

// add adds a person with a duty.
func (d *desk) add(name string, duty register.Duty) register.Person {
	d.t.Helper()
	p, err := d.register.EnsurePerson(d.t.Context(), "test", protocol.Party{Name: name, Role: string(duty), Organisation: "Solvik clinic"}, duty)
	if err != nil {
		d.t.Fatal(err)
	}
	return p
}

// invitation returns the address of one.
func (d *desk) invitation(person string) string {
	d.t.Helper()
	i, err := d.passkeys.Invite(d.t.Context(), "test", person, passkey.InvitationLife, false)
	if err != nil {
		d.t.Fatal(err)
	}
	return d.server.URL + i.Path()
}

func (d *desk) what() (list []string) {
	d.t.Helper()
	entries, err := d.audit.Entries(d.t.Context(), -1, 1000)
	if err != nil {
		d.t.Fatal(err)
	}
	for i := range entries {
		list = append(list, entries[len(entries)-1-i].What)
	}
	return list
}

// waits until the page says text.
func (b *tab) reads(text string) {
	b.t.Helper()
	b.until(`document.body?.innerText.includes(` + quote(text) + `)`)
}

func quote(text string) string { return "`" + text + "`" }

// signOut signs out and opens the sign-in page.
func (b *tab) signOut(d *desk) {
	b.t.Helper()
	b.button("Sign out")
	b.reads("You are signed out")
	navigate(b, d.server.URL+"/sign-in")
	b.until(`document.body.dataset.ready === "yes"`)
}

// A person is invited, makes a passkey in a real browser, signs out and in, cancels, adds a second one, removes the first, and cannot sign in with that (R10).
func TestPasskeyInBrowser(t *testing.T) {
	d := newDesk(t)
	olav := d.add("Olav Nes", register.Technician)
	invitation := d.invitation(olav.ID)
	b := newTab(t)
	b.forgive("403 (Forbidden)", "409 (Conflict)")
	a := webtest.Registered(t, b.ctx, invitation, "Laptop")
	b.reads("Setting terminals up")
	if keys := a.Passkeys(); len(keys) != 1 || !keys[0].IsResidentCredential || keys[0].RpID != "localhost" || string(keys[0].UserHandle) != olav.ID {
		t.Fatalf("the authenticator has %+v", keys)
	}
	navigate(b, invitation)
	b.reads("This invitation was used before, was withdrawn or has expired.")
	navigate(b, d.server.URL)
	b.signOut(d)

	a.Confirms(false)
	b.button("Sign in with a passkey")
	b.reads("Nothing was confirmed")
	a.Confirms(true)
	b.button("Sign in with a passkey")
	b.reads("Setting terminals up")

	// A second one, on another device. It was touched just now.
	navigate(b, d.server.URL+"/passkeys")
	b.reads("Laptop")
	if eval[bool](b, `[...document.querySelectorAll("button")].some(b => b.textContent.startsWith("Remove"))`) {
		t.Error("the last passkey can be removed")
	}
	navigate(b, d.server.URL+"/passkeys/add")
	b.until(`document.body.dataset.ready === "yes"`)
	eval[bool](b, `document.getElementById("name").value = "Green key", true`)
	b.button("Create the passkey")
	b.reads("This device has a passkey of yours already.")
	first := *a.Passkeys()[0]
	a.Forget()
	b.button("Create the passkey")
	b.reads("Green key")
	second := *a.Passkeys()[0]

	// What it takes to remove one: a touch not older than 15 minutes.
	d.stale()
	eval[bool](b, `[...document.querySelectorAll("li")].find(l => l.textContent.includes("Laptop")).querySelector("button").click(), true`)
	b.reads("Confirm that it is you")
	b.look("touch")
	if list, err := d.passkeys.Credentials(t.Context(), olav.ID); err != nil || len(list) != 2 {
		t.Fatalf("removed without a touch: %d left, %v", len(list), err)
	}
	a.Forget() // the wrong device
	b.button("Confirm with your passkey")
	b.reads("Nothing was confirmed")
	a.Add(second)
	b.button("Confirm with your passkey")
	b.until(`!document.body.innerText.includes("Laptop") && document.body.innerText.includes("Green key")`)
	b.look("my-passkeys")

	b.signOut(d)
	b.look("sign-in-passkey")
	second = *a.Passkeys()[0] // its counter has gone on
	a.Forget()
	a.Add(first)
	b.button("Sign in with a passkey")
	b.reads("This passkey is not known to the clinic, or was removed.")
	a.Forget()
	a.Add(second)
	b.button("Sign in with a passkey")
	b.reads("Setting terminals up")
	want := []string{
		audit.PersonAdded, audit.PasskeyInvited, audit.PasskeyAdded, audit.PersonSignedIn, audit.PersonSignedOut, audit.PersonSignedIn, audit.PasskeyAdded,
		audit.PasskeyTouched, audit.PasskeyRemoved, audit.PersonSignedOut, audit.PasskeyRefused, audit.PersonSignedIn,
	}
	if got := d.what(); strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("audited\n%v, want\n%v", got, want)
	}
}

// A copy of a passkey gives itself away by its counter: it is disabled, its sessions end, and the operator is told (R18).
func TestCopiedInBrowser(t *testing.T) {
	d := newDesk(t)
	olav := d.add("Olav Nes", register.Technician)
	b := newTab(t)
	b.forgive("403 (Forbidden)")
	a := webtest.Registered(t, b.ctx, d.invitation(olav.ID), "Laptop")
	b.reads("Setting terminals up")
	other := newTab(t)
	other.forgive("403 (Forbidden)")
	copied := a.Copy(other.ctx)
	navigate(other, d.server.URL+"/sign-in")
	other.until(`document.body.dataset.ready === "yes"`)
	other.button("Sign in with a passkey")
	other.reads("Setting terminals up")
	if n := len(copied.Passkeys()); n != 1 {
		t.Fatalf("%d passkeys", n)
	}
	b.signOut(d)
	b.button("Sign in with a passkey")
	b.reads("This passkey is disabled, because there may be a copy of it.")
	navigate(other, d.server.URL+"/technician")
	other.reads("Sign in with a passkey")
	operator := newTab(t)
	navigate(operator, d.link("Kari Moe", "operator"))
	operator.reads("“Laptop” of Olav Nes, technician")
	operator.look("operator-copied")
}

// stale makes all touches old.
func (d *desk) stale() {
	d.t.Helper()
	if err := d.store.Write(d.t.Context(), func(tx *sql.Tx) error {
		_, err := tx.ExecContext(d.t.Context(), "UPDATE web_sessions SET touched = touched - ?", TouchLife.Milliseconds())
		return err
	}); err != nil {
		d.t.Fatal(err)
	}
}

// An administrator, by a passkey, adds a person, invites, gives duties, recovers, and signs people out.
func TestAdministratorInBrowser(t *testing.T) {
	d := newDesk(t)
	kari := d.add("Kari Moe", register.Administrator)
	b := newTab(t)
	b.forgive("403 (Forbidden)", "409 (Conflict)", "410 (Gone)", "401 (Unauthorized)")
	admin := webtest.Registered(t, b.ctx, d.invitation(kari.ID), "Laptop")
	b.reads("Who has to do with this clinic")
	fill := func(id, value string) {
		t.Helper()
		eval[bool](b, `document.getElementById("`+id+`").value = "`+value+`", true`)
	}
	fill("name", "Anne Berg")
	fill("role", "nurse")
	fill("duty", "clinician")
	b.look("persons")
	d.stale()
	b.button("Add this person")
	b.reads("Nothing was done yet")
	b.button("Confirm with your passkey")
	b.reads("No passkey: this person cannot sign in with one yet.")
	b.look("person-new")
	persons, err := d.register.Persons(t.Context())
	if err != nil || len(persons) != 2 || persons[0].Party.Name != "Anne Berg" || persons[0].Duty != register.Clinician {
		t.Fatalf("%+v, %v", persons, err)
	}
	anne := persons[0]
	b.button("Make an invitation")
	b.reads("It is shown only now")
	b.look("invitation-shown")
	address := eval[string](b, `document.getElementById("text").value`)
	b.do(chromedp.Reload())
	b.reads("Shown once already")

	nurse := newTab(t)
	nurse.forgive("403 (Forbidden)", "401 (Unauthorized)", "ERR_", "Failed to load resource")
	navigate(nurse, address)
	nurse.until(`document.body.dataset.ready === "yes"`)
	nurse.look("invited")
	key := webtest.Registered(t, nurse.ctx, address, "Phone")
	nurse.reads("Recent calls")

	person := d.server.URL + personPath(anne.ID)
	navigate(b, person)
	b.reads("At one browser.")
	b.look("person")
	b.button("Sign this person out everywhere")
	b.reads("Nowhere just now.")
	navigate(nurse, d.server.URL)
	nurse.until(`document.body.dataset.ready === "yes"`)
	nurse.button("Sign in with a passkey")
	nurse.reads("Recent calls")

	// Recovery: the phone was stolen.
	navigate(b, person)
	eval[bool](b, `document.getElementById("passkeys").value = "remove", true`)
	b.button("Make an invitation")
	b.reads("The person's passkeys were removed")
	address = eval[string](b, `document.getElementById("text").value`)
	navigate(b, person)
	b.reads("Nowhere just now.") // the stolen phone's browser is not signed in any more
	navigate(nurse, d.server.URL)
	nurse.until(`document.body.dataset.ready === "yes"`)
	nurse.button("Sign in with a passkey")
	nurse.reads("This passkey is not known to the clinic, or was removed.")
	key.Forget()
	navigate(nurse, address)
	nurse.until(`document.body.dataset.ready === "yes"`)
	eval[bool](nurse, `document.getElementById("name").value = "New phone", true`)
	nurse.button("Create the passkey")
	nurse.reads("Recent calls")
	navigate(b, person)
	b.reads("New phone")
	b.until(`document.querySelector("details").textContent.includes("by Kari Moe")`)

	eval[bool](b, `document.getElementById("duty").value = "", true`)
	b.button("Give this duty")
	b.reads("· No duty") // and not the choice of that name
	navigate(nurse, d.server.URL)
	nurse.reads("the clinic has not said what your work here is")
	navigate(b, d.server.URL+personPath(kari.ID))
	b.reads("Nobody changes the own duty.")
	if status := eval[int](b, `fetch(location.pathname + "/duty", {method: "POST", body: new URLSearchParams({duty: ""})}).then(r => r.status)`); status != http.StatusConflict {
		t.Errorf("the own duty: %d", status)
	}
	if len(admin.Passkeys()) != 1 {
		t.Error("the administrator's passkey is gone")
	}
}

// invitation returns an address under which the clinician makes a passkey.
func (c *clinic) invitation() string {
	c.t.Helper()
	i, err := c.passkeys.Invite(c.t.Context(), "test", c.person, passkey.InvitationLife, false)
	if err != nil {
		c.t.Fatal(err)
	}
	return c.origin + i.Path()
}

// The passkey by which somebody signed in rings, too; when the passkey is removed, the page is signed out.
func TestRingByPasskey(t *testing.T) {
	c := newClinic(t)
	b := newTab(t)
	b.forgive("401 (Unauthorized)", "ERR_", "Failed to load resource")
	webtest.Registered(t, b.ctx, c.invitation(), "Laptop")
	b.until(`document.body.dataset.ready === "yes"`)
	list, err := c.passkeys.Credentials(t.Context(), c.person)
	if err != nil || len(list) != 1 {
		t.Fatalf("%d passkeys, %v", len(list), err)
	}
	c.authorisations.Passkeys(list...)
	reload(b)
	b.button("Ring")
	if call := c.placed(); call.Request.Person.ID != c.person {
		t.Errorf("placed by %+v", call.Request.Person)
	}
	if err := c.passkeys.Remove(t.Context(), "test", c.person, list[0].ID, true); err != nil {
		t.Fatal(err)
	}
	c.web.Dismiss(c.person)
	b.until(`!document.getElementById("banner").hidden && document.getElementById("banner").textContent.includes("no longer signed in")`)
}

// What a browser cannot do, and what its person did not, is said in one plain sentence, with what to do.
func TestPasskeyCannot(t *testing.T) {
	d := newDesk(t)
	olav := d.add("Olav Nes", register.Technician)
	invitation := d.invitation(olav.ID)
	fails := func(name string) string {
		return `navigator.credentials.create = () => Promise.reject(new DOMException("x", "` + name + `"))`
	}
	for _, c := range []struct{ name, before, address, want, next string }{
		{"no passkeys at all", `delete window.PublicKeyCredential`, invitation, "This browser cannot use passkeys.", "Use a current version"},
		{"not a secure context", `Object.defineProperty(window, "isSecureContext", {value: false})`, invitation, "not reached over a secure connection", "Open it by its https address"},
		{"another address", ``, strings.Replace(invitation, "localhost", "127.0.0.1", 1), "Passkeys do not work at this address.", "Open this page at " + d.server.URL},
		{"cancelled", fails("NotAllowedError"), invitation, "Nothing was confirmed: it was cancelled", "Try again"},
		{"timed out", fails("NotAllowedError") + `; const now = performance.now.bind(performance); let n = 0; performance.now = () => now() + 120000 * n++`, invitation,
			"Nothing was confirmed in time.", "within two minutes"},
		{"no PIN, finger or face", fails("ConstraintError"), invitation, "This device cannot check that it is you.", "Set up its PIN"},
		{"other keys only", fails("NotSupportedError"), invitation, "This device makes passkeys of a kind", "Use another device"},
		{"anything else", fails("UnknownError"), invitation, "The browser could not do this.", "Close other windows"},
		{"the clinic is away", `window.fetch = () => Promise.reject(new TypeError("x"))`, invitation, "The clinic does not answer.", "Check the connection"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newTab(t, c.before)
			b.t = t
			navigate(b, c.address)
			b.until(`document.body.dataset.ready === "yes"`)
			if !eval[bool](b, `document.querySelector("form[data-passkey] button").disabled`) {
				eval[bool](b, `document.getElementById("name").value = "x", document.querySelector("form[data-passkey] button").click(), true`)
			}
			b.until("document.querySelector(`[role=status]`).textContent.includes(" + quote(c.want) + ") && document.querySelector(`[role=status]`).textContent.includes(" + quote(c.next) + ")")
		})
	}
	if list, err := d.passkeys.List(t.Context(), olav.ID); err != nil || len(list) != 0 {
		t.Errorf("%d passkeys, %v", len(list), err)
	}
}

// Who was signed in by a link can use no page for which a passkey has to be touched; and each of these asks for it.
func TestTouchWanted(t *testing.T) {
	d := newDesk(t)
	d.withProvider()
	kari := d.add("Kari Moe", register.Administrator)
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Jar: jar}
	t.Cleanup(client.CloseIdleConnections)
	if status, body := d.do(client, http.MethodGet, d.link("Kari Moe", "administrator"), nil); status != http.StatusForbidden || !strings.Contains(body, "Kari Moe") {
		t.Fatalf("signing in: %d %s", status, body)
	}
	nurse := d.signedIn("nurse")
	administrators := []string{
		"/administrator", personPath(kari.ID), "/administrator/shown/x", personPath(kari.ID) + "/right", "/administrator/groups", "/administrator/groups/homes?name=x", "/administrator/rules",
		"/administrator/signing",
	}
	for _, path := range administrators {
		if status, _ := d.get(nurse, path); status != http.StatusNotFound {
			t.Errorf("%s by a nurse: %d", path, status)
		}
	}
	for _, path := range append(administrators, "/passkeys/add") {
		if status, body := d.get(client, path); status != http.StatusForbidden || !strings.Contains(body, "only with a passkey, and you have none") {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
	for _, path := range []string{
		"/administrator/persons", personPath(kari.ID) + "/duty", personPath(kari.ID) + "/invite", personPath(kari.ID) + "/withdraw", personPath(kari.ID) + "/end",
		personPath(kari.ID) + "/passkeys/00/remove", "/passkeys/00/remove", personPath(kari.ID) + "/right", personPath(kari.ID) + "/right/renew", personPath(kari.ID) + "/right/withdraw",
		"/administrator/groups", "/administrator/groups/homes", "/administrator/rules", "/administrator/signing/file", "/administrator/signing", personPath(kari.ID) + "/identity",
		personPath(kari.ID) + "/identity/remove",
	} {
		if status, body := d.do(client, http.MethodPost, path, nil); status != http.StatusForbidden || !strings.Contains(body, "only with a passkey") {
			t.Errorf("%s: %d %s", path, status, body)
		}
		if status, _ := d.do(nurse, http.MethodPost, path, nil); strings.HasPrefix(path, "/administrator") && status != http.StatusNotFound {
			t.Errorf("%s by a nurse: %d", path, status)
		}
	}
	for _, path := range []string{"/api/passkeys/begin", "/api/passkeys/finish"} {
		r, err := client.Post(d.server.URL+path, "application/json", strings.NewReader(`{"name":"x","credential":{}}`))
		if err != nil {
			t.Fatal(err)
		}
		r.Body.Close()
		if r.StatusCode != http.StatusForbidden {
			t.Errorf("%s: %d", path, r.StatusCode)
		}
	}
	if got := strings.Join(d.what(), " "); strings.Contains(got, "passkey.") {
		t.Errorf("something was done: %s", got)
	}
}

// TestLinkBesidePasskey: who has a passkey signs in with it alone; a link is for those who have none, and for nobody once they have.
func TestLinkBesidePasskey(t *testing.T) {
	d := newDesk(t)
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	c := &http.Client{Jar: jar}
	defer c.CloseIdleConnections()
	before, after := d.link("Kari Nes", "nurse"), d.link("Kari Nes", "nurse")
	if status, body := d.get(c, before); status != http.StatusOK || !strings.Contains(body, "Kari Nes") {
		t.Fatalf("without a passkey: %d %s", status, body)
	}
	person, err := d.register.EnsurePerson(t.Context(), "test", protocol.Party{Name: "Kari Nes", Role: "nurse", Organisation: "Solvik clinic"}, register.Clinician)
	if err != nil {
		t.Fatal(err)
	}
	p := webtest.NewPasskey(webtest.Site.ID).Credential()
	keep := func(statement string, args ...any) {
		t.Helper()
		if err := d.store.Write(t.Context(), func(tx *sql.Tx) error {
			_, err := tx.ExecContext(t.Context(), statement, args...)
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	keep("INSERT INTO passkeys (id, person, name, cose, spki, counter, flags, transports, created) VALUES (?, ?, 'key', x'00', ?, 0, 0, '', 1)", p.ID, person.ID, p.Key)
	stranger := &http.Client{}
	defer stranger.CloseIdleConnections()
	status, body := d.get(stranger, after)
	if status != http.StatusForbidden || !strings.Contains(body, "You have a passkey, so this link does not sign you in.") || strings.Contains(body, "data-home") {
		t.Errorf("with a passkey: %d %s", status, body)
	}
	keep("UPDATE passkeys SET removed = 1, removed_by = 'test'")
	if status, body := d.get(c, after); status != http.StatusOK || !strings.Contains(body, "Kari Nes") {
		t.Errorf("after it was removed: %d %s", status, body)
	}
}
