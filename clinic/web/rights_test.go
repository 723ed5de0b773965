package web

import (
	"bytes"
	"crypto/ecdsa"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"vindu/clinic/audit"
	"vindu/clinic/authority"
	"vindu/clinic/grants"
	"vindu/clinic/passkey"
	"vindu/clinic/register"
	"vindu/clinic/web/webtest"
	"vindu/protocol"
)

// administrator returns a tab and a client without scripts of the same person, who has just used a passkey.
func (d *desk) administrator() (*tab, *http.Client, register.Person) {
	d.t.Helper()
	kari := d.add("Kari Moe", register.Administrator)
	b := newTab(d.t)
	b.forgive("403 (Forbidden)", "409 (Conflict)", "422 (Unprocessable")
	webtest.Registered(d.t, b.ctx, d.invitation(kari.ID), "Laptop")
	b.reads("Who has to do with this clinic")
	return b, d.client(kari), kari
}

// client is signed in by the passkey of a person who has one.
func (d *desk) client(p register.Person) *http.Client {
	d.t.Helper()
	keys, err := d.passkeys.Credentials(d.t.Context(), p.ID)
	if err != nil || len(keys) == 0 {
		d.t.Fatalf("%d passkeys, %v", len(keys), err)
	}
	session, _, err := d.sessions.begin(d.t.Context(), passkey.Proof{Person: p.ID, ID: keys[0].ID, At: time.Now()})
	if err != nil {
		d.t.Fatal(err)
	}
	jar, err := cookiejar.New(nil)
	if err != nil {
		d.t.Fatal(err)
	}
	u, err := url.Parse(d.server.URL)
	if err != nil {
		d.t.Fatal(err)
	}
	jar.SetCookies(u, []*http.Cookie{{Name: "vindu-" + u.Port(), Value: session, Path: "/"}})
	c := &http.Client{Jar: jar}
	d.t.Cleanup(c.CloseIdleConnections)
	return c
}

func (d *desk) home(label string) register.Home {
	d.t.Helper()
	h, err := d.register.EnsureHome(d.t.Context(), "test", label)
	if err != nil {
		d.t.Fatal(err)
	}
	return h
}

// takeKey takes the authorisation key to another machine.
func (d *desk) takeKey() *ecdsa.PrivateKey {
	d.t.Helper()
	if _, err := d.authority.EnsureTrust(d.passkeys.Site()); err != nil {
		d.t.Fatal(err)
	}
	path := filepath.Join(d.folder, "authorisation.key")
	key, err := authority.ReadKey(path)
	if err == nil {
		err = os.Remove(path)
	}
	if err == nil {
		_, err = d.authority.Refresh()
	}
	if err != nil {
		d.t.Fatal(err)
	}
	return key
}

func day(in int) string { return time.Now().AddDate(0, 0, in).Format(time.DateOnly) }

// An administrator gives, renews and withdraws the right to ring homes; the history keeps it all; what is wrong is said at its field, and nothing that was filled in is
// lost (R17, R27 to R29).
func TestRightPages(t *testing.T) {
	d := newDesk(t)
	b, c, _ := d.administrator()
	anne := d.add("Anne Berg", register.Clinician)
	home, other := d.home("Home 17, Storgata"), d.home("Home 18, Kirkeveien")
	path := personPath(anne.ID)
	if _, page := d.get(c, path); !strings.Contains(page, "None: this person can ring nobody.") {
		t.Error("who has no right is not said to have none")
	}
	for name, tc := range map[string]struct {
		form  url.Values
		wrong []string // fields
		kept  []string
	}{
		"nothing":      {url.Values{}, []string{"scope", "callers", "employment", "from", "to", "reason"}, nil},
		"no homes":     {url.Values{"callers": {"staff"}, "employment": {"employed"}, "from": {day(0)}, "to": {day(9)}, "reason": {"works here"}}, []string{"scope"}, []string{`value="works here"`}},
		"ends before":  {url.Values{"homes": {home.ID}, "callers": {"staff"}, "employment": {"agency"}, "from": {day(5)}, "to": {day(2)}, "reason": {"x"}}, []string{"to"}, []string{`value="agency"`, `value="` + home.ID + `" checked`}},
		"no reason":    {url.Values{"homes": {home.ID}, "callers": {"staff"}, "employment": {"x"}, "from": {day(0)}, "to": {day(2)}}, []string{"reason"}, nil},
		"no such home": {url.Values{"homes": {"1"}, "callers": {"staff"}, "employment": {"x"}, "from": {day(0)}, "to": {day(2)}, "reason": {"x"}}, []string{"scope"}, nil},
	} {
		status, page := d.post(c, path+"/right", tc.form)
		if status != http.StatusUnprocessableEntity || !strings.Contains(page, "Not saved") {
			t.Errorf("%s: %d", name, status)
		}
		for _, field := range tc.wrong {
			if name == "nothing" && field == "callers" {
				continue // said once the days can be read
			}
			if !strings.Contains(page, `id="`+field+`-bad"`) || !strings.Contains(page, `href="#`+field+`"`) {
				t.Errorf("%s: nothing said at %s", name, field)
			}
		}
		for _, text := range tc.kept {
			if !strings.Contains(page, text) {
				t.Errorf("%s: lost %s", name, text)
			}
		}
	}
	if list, err := d.rights.History(t.Context(), anne.ID); err != nil || len(list) != 0 {
		t.Fatalf("given %v, %v", list, err)
	}
	good := url.Values{"homes": {home.ID, other.ID}, "callers": {"staff"}, "employment": {"employed"}, "from": {day(0)}, "to": {day(300)}, "reason": {"works in the north"}}
	status, page := d.post(c, path+"/right", good)
	for _, want := range []string{"Waits for a passkey", "Home 17, Storgata; Home 18, Kirkeveien", "rings for 10 s and is then answered by itself", "“works in the north” – by Kari Moe"} {
		if status != http.StatusOK || !strings.Contains(page, want) {
			t.Errorf("given, %d: no %q", status, want)
		}
	}
	nurse := newTab(t)
	nurse.forgive("403 (Forbidden)")
	webtest.Registered(t, nurse.ctx, d.invitation(anne.ID), "Phone")
	if _, page = d.get(c, path); !strings.Contains(page, ">Valid<") || !strings.Contains(page, "Signed until") {
		t.Errorf("with a passkey: %s", page)
	}
	if _, page = d.get(c, "/administrator"); !strings.Contains(page, "Rings 2 homes until") {
		t.Error("the list does not say whom the person may ring")
	}
	navigate(b, d.server.URL+path)
	b.look("person-right")
	navigate(b, d.server.URL+path+"/right")
	b.look("right")
	current := func() string { return must(d.rights.History(t.Context(), anne.ID))[0].ID }
	for name, was := range map[string]string{"as if there were none": "", "in place of another": "1"} {
		good.Set("was", was)
		if status, page := d.post(c, path+"/right", good); status != http.StatusConflict || !strings.Contains(page, "Somebody else has changed this person&#39;s right") || !strings.Contains(page, `value="works in the north"`) {
			t.Errorf("given %s: %d", name, status)
		}
	}
	if status, page = d.post(c, path+"/right/renew", url.Values{"right": {"1"}, "until": {day(400)}, "reason": {"looked at"}}); status != http.StatusUnprocessableEntity || !strings.Contains(page, "withdrawn or changed meanwhile") {
		t.Errorf("renewed another: %d", status)
	}
	if status, page = d.post(c, path+"/right/renew", url.Values{"right": {current()}, "until": {day(400)}, "reason": {"looked at"}}); status != http.StatusOK || !strings.Contains(page, "looked at") || !strings.Contains(page, "Replaced") {
		t.Errorf("renewed: %d", status)
	}
	for name, form := range map[string]url.Values{"no day": {"until": {"soon"}, "reason": {"x"}}, "no reason": {"until": {day(9)}}, "yesterday": {"until": {day(-1)}, "reason": {"x"}}} {
		form.Set("right", current())
		if status, page := d.post(c, path+"/right/renew", form); status != http.StatusUnprocessableEntity || !strings.Contains(page, "Nothing was changed") {
			t.Errorf("renewed, %s: %d", name, status)
		}
	}
	if status, _ = d.post(c, path+"/right", url.Values{"was": {current()}, "homes": {home.ID}, "callers": {"staff"}, "employment": {"employed"}, "from": {day(0)}, "to": {day(9)}, "reason": {"fewer"}}); status != http.StatusOK {
		t.Errorf("changed: %d", status)
	}
	if _, page = d.get(c, path); !strings.Contains(page, "Ending soon") {
		t.Error("what ends in nine days is not said to end soon")
	}
	if permits, err := d.rights.Permits(t.Context(), anne.ID, other.ID); err != nil || permits {
		t.Errorf("the home that was left out: %v, %v", permits, err)
	}
	if status, _ = d.post(c, path+"/right/withdraw", nil); status != http.StatusUnprocessableEntity {
		t.Errorf("withdrawn without a reason: %d", status)
	}
	if permits, err := d.rights.Permits(t.Context(), anne.ID, home.ID); err != nil || !permits {
		t.Errorf("before it is withdrawn: %v, %v", permits, err)
	}
	navigate(b, d.server.URL+path)
	eval[bool](b, `document.getElementById("withdraw-reason").closest("details").open = true`)
	b.keys("#withdraw-reason", "has left")
	d.stale()
	b.button("Withdraw this right")
	b.reads("Nothing was done yet")
	if permits, err := d.rights.Permits(t.Context(), anne.ID, home.ID); err != nil || !permits {
		t.Errorf("withdrawn without a touch: %v, %v", permits, err)
	}
	b.button("Confirm with your passkey")
	b.reads("None: this person can ring nobody.")
	eval[bool](b, `[...document.querySelectorAll("details")].forEach(d => d.open = true), true`)
	b.look("person-right-withdrawn")
	b.reads("“has left” – by Kari Moe")
	if permits, err := d.rights.Permits(t.Context(), anne.ID, home.ID); err != nil || permits {
		t.Errorf("withdrawn: %v, %v", permits, err)
	}
	c = d.client(must(d.register.Person(t.Context(), personOf(t, d, "Kari Moe"))))
	for _, gone := range []string{"/right/withdraw", "/right/renew"} {
		if status, page := d.post(c, path+gone, url.Values{"reason": {"x"}, "until": {day(9)}}); status != http.StatusUnprocessableEntity || !strings.Contains(page, "withdrawn or changed meanwhile") {
			t.Errorf("%s of what was withdrawn: %d", gone, status)
		}
	}
	what := strings.Join(d.what(), " ")
	for _, want := range []string{audit.GrantGiven, audit.GrantRenewed, audit.GrantWithdrawn} {
		if !strings.Contains(what, want) {
			t.Errorf("no %s in %s", want, what)
		}
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func personOf(t *testing.T, d *desk, name string) string {
	t.Helper()
	for _, p := range must(d.register.Persons(t.Context())) {
		if p.Party.Name == name {
			return p.ID
		}
	}
	t.Fatalf("no %s", name)
	return ""
}

// Groups of homes are made, changed by who has seen them as they are, and gone without homes.
func TestGroupPages(t *testing.T) {
	d := newDesk(t)
	b, c, _ := d.administrator()
	home, other := d.home("Home 17, Storgata"), d.home("Home 18, Kirkeveien")
	for name, form := range map[string]url.Values{"no home": {"name": {"north"}}, "no name": {"homes": {home.ID}}, "a long name": {"name": {strings.Repeat("a", 65)}, "homes": {home.ID}}, "a home that is not there": {"name": {"x"}, "homes": {"1"}}} {
		if status, page := d.post(c, "/administrator/groups", form); status != http.StatusUnprocessableEntity || !strings.Contains(page, `class="bad"`) || form.Has("name") && !strings.Contains(page, form.Get("name")) {
			t.Errorf("%s: %d", name, status)
		}
	}
	if status, page := d.post(c, "/administrator/groups", url.Values{"name": {"north & <b>"}, "homes": {home.ID}}); status != http.StatusOK || !strings.Contains(page, "one home") || strings.Contains(page, "<b>") {
		t.Errorf("made: %d", status)
	}
	if status, _ := d.post(c, "/administrator/groups", url.Values{"name": {"north & <b>"}, "homes": {other.ID}}); status != http.StatusUnprocessableEntity {
		t.Errorf("made twice: %d", status)
	}
	path := groupPath("north & <b>")
	if status, page := d.get(c, path); status != http.StatusOK || !strings.Contains(page, `value="`+home.ID+`" checked`) || strings.Contains(page, `value="`+other.ID+`" checked`) {
		t.Errorf("its page: %d", status)
	}
	form := url.Values{"name": {"north & <b>"}, "before": {grants.GroupState([]string{home.ID})}, "homes": {home.ID, other.ID}}
	if status, _ := d.post(c, "/administrator/groups/homes", form); status != http.StatusOK {
		t.Errorf("changed: %d", status)
	}
	form.Set("homes", other.ID)
	if status, page := d.post(c, "/administrator/groups/homes", form); status != http.StatusConflict || !strings.Contains(page, "Home 17, Storgata; Home 18") || !strings.Contains(page, `value="`+other.ID+`" checked`) {
		t.Errorf("changed by who has not seen the change: %d", status)
	}
	// A group can have thousands of homes, and be made smaller.
	now := grants.GroupState([]string{home.ID, other.ID})
	for n, want := range map[int]int{maxNames: http.StatusOK, maxNames + 1: http.StatusUnprocessableEntity, maxGroupForm / 9: http.StatusRequestEntityTooLarge} {
		many := url.Values{"name": {"north & <b>"}, "before": {now}, "homes": append(slices.Repeat([]string{home.ID}, n-1), other.ID)}
		if status, page := d.post(c, "/administrator/groups/homes", many); status != want || want == http.StatusUnprocessableEntity && !strings.Contains(page, "at most 4096 homes") {
			t.Errorf("%d homes: %d, want %d", n, status, want)
		}
		many.Set("name", fmt.Sprint("of ", n))
		if status, page := d.post(c, "/administrator/groups", many); status != want || want == http.StatusUnprocessableEntity && !strings.Contains(page, "at most 4096 homes") {
			t.Errorf("made of %d homes: %d, want %d", n, status, want)
		}
	}
	navigate(b, d.server.URL+"/administrator/groups")
	b.look("groups")
	navigate(b, d.server.URL+path)
	b.look("group")
	if status, _ := d.post(c, "/administrator/groups/homes", url.Values{"name": {"north & <b>"}, "before": {now}}); status != http.StatusOK {
		t.Errorf("emptied: %d", status)
	}
	if status, _ := d.get(c, path); status != http.StatusNotFound {
		t.Errorf("gone: %d", status)
	}
}

// Who may ring the homes of a group that is gone may ring those of one that is made by the same name: that is said before it is made.
func TestGroupNamedAlready(t *testing.T) {
	d := newDesk(t)
	b, c, _ := d.administrator()
	home := d.home("Home 17, Storgata")
	anne := d.add("Anne Berg", register.Clinician)
	err := d.rights.SetGroupHomes(t.Context(), "test", "north", grants.GroupState(nil), []string{home.ID})
	if err == nil {
		_, err = d.rights.Give(t.Context(), "test", grants.Grant{
			Person: anne.ID, Employment: "employed", Callers: "staff", Reason: "works here", Scope: protocol.Scope{Groups: []string{"north"}}, From: time.Now(), To: time.Now().AddDate(0, 1, 0),
		})
	}
	if err == nil {
		err = d.rights.SetGroupHomes(t.Context(), "test", "north", grants.GroupState([]string{home.ID}), nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	made := func(name, known string) (int, string) {
		t.Helper()
		return d.post(c, "/administrator/groups", url.Values{"name": {name}, "homes": {home.ID}, "known": {known}})
	}
	for _, known := range []string{"", "yes", "south"} {
		if status, page := made("north", known); status != http.StatusUnprocessableEntity || !strings.Contains(page, "One person&#39;s right names a group of this name") || !strings.Contains(page, `name="known" value="north"`) {
			t.Errorf("known %q: %d", known, status)
		}
	}
	if status, page := made("south", ""); status != http.StatusOK || strings.Contains(page, `name="known"`) {
		t.Errorf("a name that no right has: %d", status)
	}
	navigate(b, d.server.URL+"/administrator/groups")
	b.keys("#name", "north")
	eval[bool](b, `document.querySelector("#home-`+home.ID+`").click(), true`)
	b.button("Make this group")
	b.reads("names a group of this name")
	b.look("group-named")
	eval[bool](b, `document.querySelector("#known").click(), true`)
	b.button("Make this group")
	b.reads("One person may ring them.")
	if groups := must(d.rights.Groups(t.Context())); !slices.Equal(groups["north"], []string{home.ID}) {
		t.Errorf("%v", groups)
	}
}

// upload sends a file as the form of the page does.
func (d *desk) upload(c *http.Client, content []byte) (int, string) {
	d.t.Helper()
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	if content != nil {
		part, err := form.CreateFormFile("signed", "vindu-signed.json")
		if err != nil {
			d.t.Fatal(err)
		}
		part.Write(content)
	}
	form.Close()
	r, err := http.NewRequestWithContext(d.t.Context(), http.MethodPost, d.server.URL+"/administrator/signing", &body)
	if err != nil {
		d.t.Fatal(err)
	}
	r.Header.Set("Content-Type", form.FormDataContentType())
	r.Header.Set("Sec-Fetch-Site", "same-origin")
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

// While the key on this server is being replaced by one that is elsewhere, the page does not say that nothing ever waits, above what does.
func TestSigningPageInARollOver(t *testing.T) {
	d := newDesk(t)
	_, c, _ := d.administrator()
	if _, err := d.authority.EnsureTrust(d.passkeys.Site()); err != nil {
		t.Fatal(err)
	}
	public, err := authority.NewAuthorisationKey(filepath.Join(t.TempDir(), "key"))
	if err == nil {
		_, err = d.authority.AddAuthority(public)
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.authority.DropAuthority(); !errors.Is(err, authority.ErrKeyElsewhere) {
		t.Fatal(err)
	}
	if _, page := d.get(c, "/administrator/signing"); !strings.Contains(page, "is being replaced") || strings.Contains(page, "signed at once") || !strings.Contains(page, "One thing waits") || !strings.Contains(page, `type="file"`) {
		t.Errorf("between two keys: %s", page)
	}
}

// With the authorisation key elsewhere, what waits goes there in a file and comes back signed, by the page; nothing else comes in.
func TestSigningPage(t *testing.T) {
	d := newDesk(t)
	b, c, kari := d.administrator()
	if _, page := d.get(c, "/administrator/signing"); !strings.Contains(page, "signed at once") || strings.Contains(page, `type="file"`) {
		t.Error("with the key here, something is to be signed")
	}
	anne := d.add("Anne Berg", register.Clinician)
	home := d.home("Home 17, Storgata")
	nurse := newTab(t)
	nurse.forgive("403 (Forbidden)")
	webtest.Registered(t, nurse.ctx, d.invitation(anne.ID), "Phone")
	key := d.takeKey()
	form := url.Values{"homes": {home.ID}, "callers": {"staff"}, "employment": {"employed"}, "from": {day(0)}, "to": {day(300)}, "reason": {"works here"}}
	if status, page := d.post(c, personPath(anne.ID)+"/right", form); status != http.StatusOK || !strings.Contains(page, "Waits to be signed") {
		t.Errorf("given: %d", status)
	}
	if _, page := d.get(c, "/administrator/signing"); !strings.Contains(page, "&#34;Anne Berg&#34;, ") || !strings.Contains(page, "with the passkeys ") || !strings.Contains(page, "One thing waits") {
		t.Errorf("what waits: %s", page)
	}
	navigate(b, d.server.URL+"/administrator/signing")
	b.look("signing")
	status, text := d.post(c, "/administrator/signing/file", nil)
	file, err := grants.ParseFile(strings.NewReader(text))
	if status != http.StatusOK || err != nil || len(file.Items) != 1 {
		t.Fatalf("the file: %d, %v", status, err)
	}
	write := func(f *grants.File) []byte {
		var out bytes.Buffer
		if err := f.Write(&out); err != nil {
			t.Fatal(err)
		}
		return out.Bytes()
	}
	signed := must(grants.ParseFile(strings.NewReader(text)))
	for _, i := range must(signed.For(&key.PublicKey)) {
		if err := i.Sign(key); err != nil {
			t.Fatal(err)
		}
	}
	foreign := must(grants.ParseFile(bytes.NewReader(write(signed))))
	foreign.Items[0].Body[len(foreign.Items[0].Body)-1] ^= 1
	for name, tc := range map[string]struct {
		content []byte
		says    string
	}{
		"no file":      {nil, "No file came"},
		"another file": {[]byte("{}"), "not a file of what waits"},
		"not signed":   {[]byte(text), "Nothing in this file is signed"},
		"foreign":      {write(foreign), "did not want signed"},
	} {
		if status, page := d.upload(c, tc.content); status != http.StatusUnprocessableEntity || !strings.Contains(page, tc.says) || !strings.Contains(page, `aria-describedby="signed-bad signed-why"`) {
			t.Errorf("%s: %d", name, status)
		}
	}
	d.stale()
	if status, page := d.upload(c, write(signed)); status != http.StatusForbidden || !strings.Contains(page, "Confirm that it is you") {
		t.Errorf("without a touch: %d", status)
	}
	if _, _, err := d.rights.Current(t.Context(), anne.ID); err == nil {
		t.Error("taken without a touch")
	}
	c = d.client(kari)
	if status, page := d.upload(c, write(signed)); status != http.StatusOK || !strings.Contains(page, "One is in force.") || !strings.Contains(page, "Nothing waits.") {
		t.Errorf("taken back: %d", status)
	}
	if permits, err := d.rights.Permits(t.Context(), anne.ID, home.ID); err != nil || !permits {
		t.Errorf("%v, %v", permits, err)
	}
	if status, page := d.upload(c, write(signed)); status != http.StatusUnprocessableEntity || !strings.Contains(page, "waits any more") {
		t.Errorf("taken twice: %d", status)
	}
	what := strings.Join(d.what(), " ")
	if !strings.Contains(what, audit.WaitingWritten) || !strings.Contains(what, audit.SignedAccepted) {
		t.Errorf("audited %s", what)
	}
}

// What terminals do about callers is said by a form: looked at in words, saved as a version, and said anew from an older one; each field says what is wrong with it.
func TestRulesPage(t *testing.T) {
	d := newDesk(t)
	b, c, _ := d.administrator()
	home := d.home("Home 17, Storgata")
	anne := d.add("Anne Berg", register.Clinician)
	good := func(more ...string) url.Values {
		v := url.Values{
			"version": {"0"}, "rule-0-group": {"staff"}, "rule-0-mode": {"ring"}, "rule-0-after": {"15"}, "rule-0-urgent": {"yes"},
			"rule-1-group": {"relatives"}, "rule-1-mode": {"ask"}, "rule-1-after": {"30"}, "rule-2-mode": {"ring"},
			"quiet-0-from": {"22:00"}, "quiet-0-to": {"07:00"}, "quiet-0-day": grants.Days(), "quiet-1-from": {"13:00"}, "quiet-1-to": {"14:00"}, "quiet-1-day": {"sun"},
			"zone": {"Europe/Oslo"}, "longest": {"45"}, "volume": {"60"}, "do": {"save"},
		}
		for i := 0; i < len(more); i += 2 {
			v.Set(more[i], more[i+1])
		}
		return v
	}
	for name, tc := range map[string]struct {
		form  url.Values
		field string
	}{
		"a group's name":    {good("rule-1-group", strings.Repeat("a", 65)), "rule-1-group"},
		"no group":          {good("rule-1-group", ""), "rule-1-group"},
		"a group twice":     {good("rule-1-group", "staff"), "rule-1-group"},
		"a mode":            {good("rule-0-mode", "always"), "rule-0-mode"},
		"no seconds":        {good("rule-0-after", ""), "rule-0-after"},
		"words for seconds": {good("rule-0-after", "ten"), "rule-0-after"},
		"many seconds":      {good("rule-0-after", "121"), "rule-0-after"},
		"answers at once":   {good("rule-0-after", "0"), "rule-0-after"},
		"no time for no":    {good("rule-0-after", "4"), "rule-0-after"},
		"asks for no time":  {good("rule-1-after", "0"), "rule-1-after"},
		"a time":            {good("quiet-0-from", "25:00"), "quiet-0-from"},
		"half a span":       {good("quiet-0-to", ""), "quiet-0-to"},
		"no time at all":    {good("quiet-0-to", "22:00"), "quiet-0-to"},
		"a day":             {good("quiet-1-day", "someday"), "quiet-1-days"},
		"a zone":            {good("zone", "Oslo"), "zone"},
		"no zone":           {good("zone", ""), "zone"},
		"too long":          {good("longest", "241"), "longest"},
		"much too long":     {good("longest", "9999"), "longest"},
		"nothing long":      {good("longest", "0"), "longest"},
		"loud":              {good("volume", "101"), "volume"},
		"silent":            {good("volume", ""), "volume"},
	} {
		status, page := d.post(c, "/administrator/rules", tc.form)
		if status != http.StatusUnprocessableEntity || !strings.Contains(page, `id="`+tc.field+`-bad"`) || !strings.Contains(page, `href="#`+tc.field+`"`) || strings.Count(page, `-bad" class="bad"`) != 1 {
			t.Errorf("%s: %d, said at %d fields", name, status, strings.Count(page, `-bad" class="bad"`))
		}
		if name != "loud" && name != "silent" && !strings.Contains(page, `value="60"`) || !strings.Contains(page, `value="13:00"`) {
			t.Errorf("%s: something that was filled in is lost", name)
		}
	}
	if list, err := d.rights.PolicyHistory(t.Context(), "", 9); err != nil || len(list) != 0 {
		t.Fatalf("saved %v, %v", list, err)
	}
	status, page := d.post(c, "/administrator/rules", good("do", "look"))
	for _, want := range []string{
		"What it would come to", "This is not saved yet.", "“staff”: a call rings for 15 s and is then answered by itself.", "“relatives”: a call rings for 30 s and is answered only if somebody there answers it.",
		"Every day from 22:00 to 07:00 the next day, by the clocks in Europe/Oslo, nobody rings.", "Sunday from 13:00 to 14:00", "Only an urgent call of “staff” rings then", "at most 45 minutes", "60 percent",
	} {
		if status != http.StatusOK || !strings.Contains(page, want) {
			t.Errorf("looked at, %d: no %q", status, want)
		}
	}
	if list, err := d.rights.PolicyHistory(t.Context(), "", 9); err != nil || len(list) != 0 {
		t.Fatalf("saved by looking: %v, %v", list, err)
	}
	if status, page = d.post(c, "/administrator/rules", good()); status != http.StatusOK || !strings.Contains(page, "What holds now") || !strings.Contains(page, "by Kari Moe") {
		t.Errorf("saved: %d", status)
	}
	if status, page = d.post(c, "/administrator/rules", good("volume", "61")); status != http.StatusConflict || !strings.Contains(page, "Somebody else has changed this") || !strings.Contains(page, `value="61"`) {
		t.Errorf("saved by who has not seen the newest version: %d", status)
	}
	if _, err := d.rights.Give(t.Context(), "test", grants.Grant{Person: anne.ID, Employment: "employed", Callers: "staff", Scope: protocol.Scope{Homes: []string{home.ID}}, From: time.Now(), To: time.Now().AddDate(0, 1, 0), Reason: "x"}); err != nil {
		t.Fatal(err)
	}
	first := must(d.rights.PolicyHistory(t.Context(), "", 9))[0].N
	if status, page = d.post(c, "/administrator/rules", good("volume", "80", "version", itoa(int(first)), "rule-1-gone", "yes")); status != http.StatusOK || strings.Contains(page, `value="relatives"`) {
		t.Errorf("a rule taken away: %d", status)
	}
	if status, page = d.get(c, "/administrator/rules?version="+itoa(int(first))); status != http.StatusOK || !strings.Contains(page, `value="relatives"`) || !strings.Contains(page, "Nothing changes before you save it") {
		t.Errorf("an older version: %d", status)
	}
	navigate(b, d.server.URL+"/administrator/rules")
	b.reads("May ring in them if the call is urgent")
	b.look("rules")
	// What differs in a home.
	own := url.Values{"home": {home.ID}, "version": {"0"}, "rule-0-group": {"relatives"}, "rule-0-mode": {"refuse"}, "rule-0-after": {"5"}, "quiet-own": {"no"}, "quiet-0-from": {"10:00"}, "quiet-0-to": {"11:00"}, "quiet-0-day": {"mon"}, "volume": {"30"}, "do": {"save"}}
	if status, page = d.post(c, "/administrator/rules", own); status != http.StatusUnprocessableEntity || !strings.Contains(page, `id="quiet-own-bad"`) {
		t.Errorf("hours of its own that it is not to have: %d", status)
	}
	own.Set("quiet-own", "yes")
	status, page = d.post(c, "/administrator/rules", own)
	for _, want := range []string{"“relatives”: calls are refused.", "“staff”: a call rings for 15 s", "Monday from 10:00 to 11:00", "at most 45 minutes", "30 percent", "may ring in this home&#39;s quiet hours"} {
		if status != http.StatusOK || !strings.Contains(page, want) {
			t.Errorf("in a home, %d: no %q", status, want)
		}
	}
	if effects, _, err := d.rights.PolicySettings(t.Context(), home.ID); err != nil || effects.Volume != 30 || effects.Longest != 45 || effects.Rules["relatives"].Mode != protocol.ModeRefuse || len(*effects.Quiet) != 1 {
		t.Errorf("%+v, %v", effects, err)
	}
	if _, page = d.get(c, rulesPath(d.home("Home 18, Kirkeveien").ID)); strings.Contains(page, "Anne Berg") {
		t.Error("who cannot ring a home is said to ring in its quiet hours")
	}
	navigate(b, d.server.URL+rulesPath(home.ID))
	b.look("rules-home")
	// By hand, with the keyboard: what is wrong has the focus, and the name of what is wrong.
	navigate(b, d.server.URL+"/administrator/rules")
	b.do(chromedp.SetValue("#longest", "1000"))
	b.button("Save")
	b.until(`document.activeElement?.id === "longest" && document.title.startsWith("Not done")`)
	b.look("rules-wrong")
	for _, path := range []string{"/administrator/rules?home=1", "/administrator/rules?version=77"} {
		if status, _ := d.get(c, path); status != http.StatusNotFound {
			t.Errorf("%s: %d", path, status)
		}
	}
}
