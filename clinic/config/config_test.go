package config

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write example.toml anew")

// example is what Default leaves open.
func example() Config {
	c := Default()
	c.Organisation = "Vestfold kommune"
	c.Terminals.Address = "clinic.example:443"
	c.Web.Plain = "localhost:8080"
	return c
}

// TestExample: the shipped example says the defaults.
func TestExample(t *testing.T) {
	c := example()
	want, err := c.Render()
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile("example.toml", want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile("example.toml")
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != string(want) {
		t.Error("example.toml does not say the defaults: go test ./clinic/config -update")
	}
	if parsed, err := Parse(got); err != nil || !reflect.DeepEqual(parsed, c) {
		t.Errorf("parsed %+v, %v; want %+v", parsed, err, c)
	}
}

func TestRender(t *testing.T) {
	c := Config{
		Organisation: `Å"\{{.}}`, State: "/var/lib/vindu", Zone: "America/St_Johns",
		Terminals: Terminals{"[2001:db8::1]:8443", "t.example", 365}, Front: Front{"127.0.0.1:0"},
		Web:   Web{"[::1]:0", []string{"a.example", "b.example"}, "c.pem", "k.pem", "example", []string{"https://a.example"}},
		Relay: Relay{"", "2001:db8::1", 40000, 40100, true}, Log: Log{"debug", "json"}, Authorisations: Authorisations{31},
		OIDC: OIDC{"https://helseid.example", "HelseID", "c", "/k.pem", "k1", []string{"profile", "a:b/c"}, []string{"Level4"}}, Alerts: Alerts{After: 5}, Rehearsals: Rehearsals{"23:30", "05:00"},
	}
	b, err := c.Render()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := Parse(b); err != nil || !reflect.DeepEqual(got, c) {
		t.Errorf("got %+v, %v; want %+v", got, err, c)
	}
}

func TestParseRefuses(t *testing.T) {
	const oidc = "[oidc]\nclient_id = \"x\"\nname = \"x\"\nkey = \"k\"\n"
	const least = "organisation = \"x\"\nterminals.address = \"a.example:443\"\nweb.plain = \"localhost:0\"\n"
	if _, err := Parse([]byte(least)); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct{ text, want string }{
		"empty":                 {"", "organisation is not set"},
		"a zone that is none":   {least + "zone = \"Vestfold\"\n", `zone = "Vestfold"`},
		"no zone":               {least + "zone = \"\"\n", `zone = ""`},
		"the server's zone":     {least + "zone = \"Local\"\n", `zone = "Local"`},
		"unknown key":           {least + "colour = 1\n", `line 4: unknown key "colour"`},
		"unknown table":         {least + "\n[doors]\nfront = 1\n", `line 5: unknown key "doors"`},
		"unknown key in table":  {least + "[front]\nlisten = \":1\"\nlissen = \":2\"\n", `line 6: unknown key "front.lissen"`},
		"wrong type":            {least + "front.listen = 443\n", "line 4, column 16"},
		"syntax":                {least + "front.listen = \n", "line 4"},
		"twice":                 {least + "organisation = \"y\"\n", "line 4"},
		"not text":              {"\xff", "line 1"},
		"metrics for all":       {least + "[metrics]\nlisten = \"192.0.2.1:9464\"\ntoken = \"t\"\n", "only a loopback address"},
		"metrics on all":        {least + "[metrics]\nlisten = \":9464\"\ntoken = \"t\"\n", "metrics.listen"},
		"metrics for anybody":   {least + "[metrics]\nlisten = \"localhost:9464\"\n", "metrics.token"},
		"metrics nowhere":       {least + "[metrics]\ntoken = \"t\"\n", "metrics.listen is not set"},
		"alerts nowhere":        {least + "[alerts]\nsecret = \"s\"\n", "alerts.webhook is not set"},
		"alerts for anybody":    {least + "[alerts]\nwebhook = \"https://a.example\"\n", "alerts.secret"},
		"alerts after days":     {least + "[alerts]\nafter_minutes = 9999\n", "alerts.after_minutes"},
		"rehearsals of no time": {least + "[rehearsals]\nfrom = \"02:00\"\nto = \"02:00\"\n", "at least 30 minutes"},
		"rehearsals at once":    {least + "[rehearsals]\nfrom = \"23:50\"\nto = \"00:10\"\n", "at least 30 minutes"},
		"half a rehearsal":      {least + "[rehearsals]\nfrom = \"\"\n", "rehearsals.from"},
		"rehearsals at noon":    {least + "[rehearsals]\nfrom = \"noon\"\n", "rehearsals.from"},
		"oidc without issuer":   {least + "[oidc]\nclient_id = \"x\"\n", "oidc.issuer is not set"},
		"oidc in the clear":     {least + oidc + "issuer = \"http://id.example\"\n", "oidc.issuer"},
		"oidc without a name":   {least + "[oidc]\nissuer = \"https://id.example\"\nclient_id = \"x\"\nkey = \"k\"\n", "oidc.name is not set"},
		"oidc without a key":    {least + "[oidc]\nissuer = \"https://id.example\"\nclient_id = \"x\"\nname = \"x\"\n", "oidc.key is not set"},
		"oidc with a password":  {least + oidc + "issuer = \"https://a:b@id.example\"\n", "oidc.issuer"},
		"oidc's scope":          {least + oidc + "issuer = \"https://id.example\"\nscopes = [\"a b\"]\n", "oidc.scopes"},
		"oidc's level":          {least + oidc + "issuer = \"https://id.example\"\nassurance = [\"\"]\n", "oidc.assurance"},
		"passkeys' site alone":  {least + "web.passkey_site = \"a.example\"\n", "web.passkey_site"},
		"passkeys elsewhere":    {least + "web.passkey_site = \"a.example\"\nweb.passkey_origins = [\"https://b.example\"]\n", "web.passkey_origins"},
		"authorised too long":   {least + "authorisations.days = 32\n", "authorisations.days"},
		"authorised for a day":  {least + "authorisations.days = 1\n", "authorisations.days"},
		"unprintable":           {"organisation = \"a\\u202e\"", "organisation"},
		"table twice":           {least + "[terminals]\n", "line 4"},
		"address without port":  {strings.Replace(least, "a.example:443", "a.example", 1), "terminals.address"},
		"address with port 0":   {strings.Replace(least, ":443", ":0", 1), "terminals.address"},
		"address anywhere":      {strings.Replace(least, "a.example", "0.0.0.0", 1), "terminals.address"},
		"name is an address":    {least + "terminals.name = \"127.0.0.1\"\n", "terminals.name"},
		"name in capitals":      {least + "terminals.name = \"A.example\"\n", "terminals.name"},
		"port too large":        {least + "front.listen = \":65536\"\n", "front.listen"},
		"named port":            {least + "front.listen = \":https\"\n", "front.listen"},
		"plain for all":         {strings.Replace(least, "localhost:0", ":8080", 1), "only a loopback address"},
		"plain on the network":  {strings.Replace(least, "localhost:0", "192.0.2.1:8080", 1), "only a loopback address"},
		"plain by another name": {strings.Replace(least, "localhost:0", "clinic.example:80", 1), "only a loopback address"},
		"certificate alone":     {least + "web.certificate = \"c.pem\"\nweb.names = [\"a\"]\n", "set both or none"},
		"certificate, no names": {least + "web.certificate = \"c.pem\"\nweb.key = \"k.pem\"\n", "web.names"},
		"no pages":              {strings.Replace(least, "localhost:0", "", 1), "nobody could reach the pages"},
		"relay's address":       {least + "relay.address = \"0.0.0.0\"\n", "relay.address"},
		"half a range":          {least + "relay.min_port = 40000\n", "ends of a range"},
		"range backwards":       {least + "relay.min_port = 40000\nrelay.max_port = 39999\n", "ends of a range"},
		"port over 65535":       {least + "relay.max_port = 65536\n", "line 4"},
		"level":                 {least + "log.level = \"loud\"\n", "log.level"},
		"format":                {least + "log.format = \"xml\"\n", "log.format"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := Parse([]byte(tc.text)); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error = %v, want one with %q", err, tc.want)
			}
		})
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, FileName)
	if _, err := Load(path); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "init") {
		t.Errorf("no file: %v", err)
	}
	c := example()
	c.Web.Certificate, c.Web.Key, c.Web.Names = "tls/c.pem", "/etc/k.pem", []string{"clinic.example"}
	b, err := c.Render()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := Load(path)
	if err != nil || got.State != dir || got.Web.Certificate != filepath.Join(dir, "tls/c.pem") || got.Web.Key != "/etc/k.pem" {
		t.Errorf("loaded %+v, %v", got, err)
	}
	if err := os.WriteFile(path, []byte("nonsense = 1"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(path); !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), path) {
		t.Errorf("unknown key: %v", err)
	}
	if err := os.WriteFile(path, make([]byte, maxFile+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(path); !errors.Is(err, ErrConfig) {
		t.Errorf("too large: %v", err)
	}
}

// FuzzParse: what is accepted can be written and means the same when it is read again.
func FuzzParse(f *testing.F) {
	c := example()
	b, err := c.Render()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte("organisation = 'x'\nterminals.address = 'a:1'\nweb.plain = '[::1]:0'\nweb.names = ['a', 'b']"))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := Parse(b)
		if err != nil {
			return
		}
		again, err := c.Render()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := Parse(again); err != nil || !reflect.DeepEqual(got, c) {
			t.Fatalf("read again: %+v, %v; want %+v", got, err, c)
		}
	})
}

// TestRelyingParty: the site follows from how browsers reach the pages.
func TestRelyingParty(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*Config)
		plain  string
		id     string
		origin []string
	}{
		"plain":           {func(c *Config) { c.Web.Plain = "localhost:8080" }, "", "localhost", []string{"http://localhost:8080"}},
		"plain, any port": {func(c *Config) { c.Web.Plain = "localhost:0" }, "127.0.0.1:4711", "localhost", []string{"http://localhost:4711"}},
		"certificate": {func(c *Config) {
			c.Web = Web{Names: []string{"a.example", "b.example", "x.a.example"}, Certificate: "c", Key: "k"}
		}, "", "a.example", []string{"https://a.example", "https://x.a.example"}},
		"certificate:8443": {func(c *Config) {
			c.Web, c.Front.Listen = Web{Names: []string{"a.example"}, Certificate: "c", Key: "k"}, ":8443"
		}, "", "a.example", []string{"https://a.example:8443"}},
		"named": {func(c *Config) { c.Web.Site, c.Web.Origins = "example", []string{"https://a.example"} }, "", "example", []string{"https://a.example"}},
	} {
		c := Default()
		tc.change(&c)
		rp := c.RelyingParty(tc.plain)
		if rp.ID != tc.id || !slices.Equal(rp.Origins, tc.origin) || rp.Check() != nil {
			t.Errorf("%s: %+v, %v", name, rp, rp.Check())
		}
	}
}
