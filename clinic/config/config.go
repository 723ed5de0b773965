// Package config is the clinic server's configuration: one strict TOML file.
//
// Everything has a default but the organisation and the address for terminals. A key that is not known, a value of
// another type and a value that cannot be right are errors that name the file and, where it is about the text, line and column.
// No secret is in the file; keys are named by path.
package config

import (
	"bytes"
	_ "embed" // the template
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"text/template"
	"time"
	_ "time/tzdata" // the server's system may have none
	"unicode"
	"unicode/utf8"

	"github.com/pelletier/go-toml/v2"

	"vindu/protocol"
)

// FileName is what the file is called in the clinic's folder.
const FileName = "clinic.toml"

const maxFile = 64 << 10

// Config is what the file says. The template beside this file explains each key.
type Config struct {
	Organisation   string         `toml:"organisation"`
	State          string         `toml:"state"`
	Zone           string         `toml:"zone"` // of the pages' times, such as Europe/Oslo
	Terminals      Terminals      `toml:"terminals"`
	Front          Front          `toml:"front"`
	Web            Web            `toml:"web"`
	Relay          Relay          `toml:"relay"`
	Authorisations Authorisations `toml:"authorisations"`
	OIDC           OIDC           `toml:"oidc"`
	Metrics        Metrics        `toml:"metrics"`
	Alerts         Alerts         `toml:"alerts"`
	Rehearsals     Rehearsals     `toml:"rehearsals"`
	Log            Log            `toml:"log"`
}

// OIDC is an identity provider at which persons can sign in besides, by OpenID Connect. There is none without an Issuer.
type OIDC struct {
	Issuer    string   `toml:"issuer"`
	Name      string   `toml:"name"` // on the button
	ClientID  string   `toml:"client_id"`
	Key       string   `toml:"key"` // file
	KeyID     string   `toml:"key_id"`
	Scopes    []string `toml:"scopes"`
	Assurance []string `toml:"assurance"`
}

// tokens are values that stand in a list with spaces between them (RFC 6749 §3.3).
var tokens = regexp.MustCompile(`^[\x21\x23-\x5b\x5d-\x7e]{1,256}$`)

func (o *OIDC) check() error {
	var errs []error
	if o.Issuer == "" {
		if o.ClientID != "" || o.Key != "" {
			errs = append(errs, errors.New("oidc.issuer is not set, though oidc.client_id or oidc.key is"))
		}
		return errors.Join(errs...)
	}
	u, err := url.Parse(o.Issuer)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.Scheme != "https" && (u.Scheme != "http" || !Loopback(u.Hostname())) {
		errs = append(errs, fmt.Errorf("oidc.issuer = %q: has to be an https address", o.Issuer))
	}
	errs = append(errs, text("oidc.name", o.Name), text("oidc.client_id", o.ClientID), text("oidc.key", o.Key))
	if o.KeyID != "" {
		errs = append(errs, text("oidc.key_id", o.KeyID))
	}
	for key, list := range map[string][]string{"oidc.scopes": o.Scopes, "oidc.assurance": o.Assurance} {
		for _, one := range list {
			if !tokens.MatchString(one) {
				errs = append(errs, fmt.Errorf("%s: %q cannot be one of them", key, one))
			}
		}
	}
	return errors.Join(errs...)
}

// Terminals is how terminals reach the clinic.
type Terminals struct {
	Address string `toml:"address"`
	Name    string `toml:"name"`
	KeyDays int    `toml:"key_days"`
}

// KeyLife is how old a terminal's key becomes; 0: as old as it likes.
func (t *Terminals) KeyLife() time.Duration { return time.Duration(t.KeyDays) * 24 * time.Hour }

// maxKeyDays is about a century.
const maxKeyDays = 36500

func (t *Terminals) check() error {
	if t.KeyDays < 0 || t.KeyDays > maxKeyDays || (t.KeyDays > 0 && t.KeyDays < 30) {
		return fmt.Errorf("terminals.key_days = %d: from 30 to %d, or 0 for never", t.KeyDays, maxKeyDays)
	}
	return nil
}

// Front is the front door.
type Front struct {
	Listen string `toml:"listen"`
}

// Web is how browsers reach the pages.
type Web struct {
	Plain       string   `toml:"plain"`
	Names       []string `toml:"names"`
	Certificate string   `toml:"certificate"`
	Key         string   `toml:"key"`
	// Site and Origins are for which passkeys are made; empty: what follows from the above.
	Site    string   `toml:"passkey_site"`
	Origins []string `toml:"passkey_origins"`
}

// Authorisations is how long what terminals believe about persons holds.
type Authorisations struct {
	Days int `toml:"days"`
}

// Life is for how long one authorisation is issued.
func (a *Authorisations) Life() time.Duration { return time.Duration(a.Days) * 24 * time.Hour }

func (a *Authorisations) check() error {
	if most := int(protocol.MaxAuthorisationLife / (24 * time.Hour)); a.Days < 2 || a.Days > most {
		return fmt.Errorf("authorisations.days = %d: from 2 to %d: they are renewed a day before their end", a.Days, most)
	}
	return nil
}

// RelyingParty returns the site for which passkeys are made. plain is the address at which the pages without TLS are listened for, if their port is of the system's
// choice.
func (c *Config) RelyingParty(plain string) protocol.RelyingParty {
	w := &c.Web
	if w.Site != "" {
		return protocol.RelyingParty{ID: w.Site, Origins: w.Origins}
	}
	if w.Certificate == "" {
		origin := "http://localhost"
		if plain == "" {
			plain = w.Plain
		}
		if _, port, err := net.SplitHostPort(plain); err == nil && port != "0" && port != "80" {
			origin = "http://" + net.JoinHostPort("localhost", port)
		}
		return protocol.RelyingParty{ID: "localhost", Origins: []string{origin}}
	}
	rp := protocol.RelyingParty{ID: w.Names[0]}
	_, port, err := net.SplitHostPort(c.Front.Listen)
	for _, n := range w.Names {
		if n != rp.ID && !strings.HasSuffix(n, "."+rp.ID) || len(rp.Origins) == protocol.MaxOrigins {
			continue
		}
		if err == nil && port != "443" && port != "0" {
			n = net.JoinHostPort(n, port)
		}
		rp.Origins = append(rp.Origins, "https://"+n)
	}
	return rp
}

// Relay is the TURN server.
type Relay struct {
	Listen  string `toml:"listen"`
	Address string `toml:"address"`
	MinPort uint16 `toml:"min_port"`
	MaxPort uint16 `toml:"max_port"`
	Local   bool   `toml:"local"`
}

// Alerts is where serious conditions are told. Nobody is told without Webhook.
type Alerts struct {
	Webhook string `toml:"webhook"`
	Secret  string `toml:"secret"`        // file
	After   int    `toml:"after_minutes"` // that something holds before it is told
}

func (a *Alerts) check() error {
	switch {
	case a.Webhook == "" && a.Secret != "":
		return errors.New("alerts.webhook is not set, though alerts.secret is")
	case a.Webhook != "" && a.Secret == "":
		return errors.New("alerts.secret: name a file with a secret that the webhook knows too; openssl rand -hex 32 makes one")
	case a.After < 0 || a.After > 24*60:
		return fmt.Errorf("alerts.after_minutes = %d has to be from 0 to 1440", a.After)
	}
	return nil
}

// Rehearsals is when terminals rehearse by themselves, on their homes' clocks. They never do where both are empty.
type Rehearsals struct {
	From string `toml:"from"` // "02:00"
	To   string `toml:"to"`
}

// shortestWindow is for a fleet, of which each rehearses for a minute.
const shortestWindow = 30

// Window returns what terminals are told; nil: never.
func (r *Rehearsals) Window() *protocol.Window {
	from, err1 := time.Parse("15:04", r.From)
	to, err2 := time.Parse("15:04", r.To)
	if err1 != nil || err2 != nil {
		return nil
	}
	return &protocol.Window{From: uint16(from.Hour()*60 + from.Minute()), To: uint16(to.Hour()*60 + to.Minute())}
}

func (r *Rehearsals) check() error {
	if r.From == "" && r.To == "" {
		return nil
	}
	w := r.Window()
	if w == nil {
		return fmt.Errorf("rehearsals.from = %q, rehearsals.to = %q: two times of day such as 02:00, or empty both", r.From, r.To)
	}
	const day = 24 * 60
	if (int(w.To)-int(w.From)+day)%day < shortestWindow {
		return fmt.Errorf("rehearsals from %s to %s: at least %d minutes, so that not all terminals come at once", r.From, r.To, shortestWindow)
	}
	return nil
}

// Metrics is where Prometheus asks. There is none without Listen.
type Metrics struct {
	Listen string `toml:"listen"`
	Token  string `toml:"token"` // file
}

func (m *Metrics) check() error {
	if m.Listen == "" {
		if m.Token != "" {
			return errors.New("metrics.listen is not set, though metrics.token is")
		}
		return nil
	}
	errs := []error{hostPort("metrics.listen", m.Listen, false), text("metrics.token", m.Token)}
	if host, _, err := net.SplitHostPort(m.Listen); err == nil && !Loopback(host) {
		errs = append(errs, fmt.Errorf("metrics.listen = %q: only a loopback address may be without TLS: ask from this machine, or through a proxy on it", m.Listen))
	}
	return errors.Join(errs...)
}

// Log is what the server says about itself.
type Log struct {
	Level  string `toml:"level"`
	Format string `toml:"format"`
}

// Default returns what holds where the file is silent.
func Default() Config {
	return Config{
		State:          ".",
		Zone:           "Europe/Oslo",
		Terminals:      Terminals{Name: "terminals.vindu.invalid", KeyDays: 730},
		Front:          Front{Listen: ":443"},
		Web:            Web{Names: []string{}, Origins: []string{}},
		Authorisations: Authorisations{Days: 7},
		OIDC:           OIDC{Scopes: []string{}, Assurance: []string{}},
		Relay:          Relay{Listen: ":3478"},
		Alerts:         Alerts{After: 5},
		Rehearsals:     Rehearsals{From: "02:00", To: "04:00"},
		Log:            Log{Level: "info", Format: "text"},
	}
}

func zone(name string) error {
	if _, err := time.LoadLocation(name); err != nil || name == "" || name == "Local" {
		return fmt.Errorf("zone = %q: has to be a time zone such as Europe/Oslo", name)
	}
	return nil
}

// Clock is the zone in which the clinic says when something was.
func (c *Config) Clock() *time.Location {
	l, err := time.LoadLocation(c.Zone)
	if err != nil {
		panic(err) // checked by Parse
	}
	return l
}

// ErrConfig is wrapped by every error about what a configuration says.
var ErrConfig = errors.New("configuration")

// Load reads and checks a file and makes its paths absolute.
func Load(path string) (Config, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return Config{}, fmt.Errorf("read configuration: %w", err)
	}
	info, err := os.Stat(path)
	if err != nil {
		return Config{}, fmt.Errorf("read configuration: %w; vindu-clinic init makes one", err)
	}
	if info.Size() > maxFile {
		return Config{}, fmt.Errorf("%w %s: %d bytes, at most %d", ErrConfig, path, info.Size(), maxFile)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return Config{}, fmt.Errorf("read configuration: %w", err)
	}
	c, err := Parse(b)
	if err != nil {
		return Config{}, fmt.Errorf("%w %s: %w", ErrConfig, path, err)
	}
	for _, p := range []*string{&c.State, &c.Web.Certificate, &c.Web.Key, &c.OIDC.Key, &c.Metrics.Token, &c.Alerts.Secret} {
		if *p != "" && !filepath.IsAbs(*p) {
			*p = filepath.Join(filepath.Dir(path), *p)
		}
	}
	return c, nil
}

// Parse reads and checks the text of a file.
func Parse(b []byte) (Config, error) {
	c := Default()
	err := toml.NewDecoder(bytes.NewReader(b)).DisallowUnknownFields().Decode(&c)
	var unknown *toml.StrictMissingError
	if errors.As(err, &unknown) && len(unknown.Errors) > 0 {
		row, _ := unknown.Errors[0].Position()
		return Config{}, fmt.Errorf("line %d: unknown key %q; see the file that vindu-clinic init writes for those there are", row, strings.Join(unknown.Errors[0].Key(), "."))
	}
	var malformed *toml.DecodeError
	if errors.As(err, &malformed) {
		row, column := malformed.Position()
		return Config{}, fmt.Errorf("line %d, column %d: %w", row, column, err)
	}
	if err != nil {
		return Config{}, err
	}
	return c, c.Check()
}

// Check says what cannot be right.
func (c *Config) Check() error {
	return errors.Join(
		text("organisation", c.Organisation),
		text("state", c.State),
		zone(c.Zone),
		hostPort("terminals.address", c.Terminals.Address, true),
		name("terminals.name", c.Terminals.Name),
		c.Terminals.check(),
		hostPort("front.listen", c.Front.Listen, false),
		c.Web.check(),
		c.Relay.check(),
		c.Authorisations.check(),
		c.OIDC.check(),
		c.Metrics.check(),
		c.Alerts.check(),
		c.Rehearsals.check(),
		c.Log.check(),
	)
}

func (w *Web) check() error {
	var errs []error
	if w.Plain != "" {
		errs = append(errs, hostPort("web.plain", w.Plain, false))
		if host, _, err := net.SplitHostPort(w.Plain); err == nil && !Loopback(host) {
			errs = append(errs, fmt.Errorf("web.plain = %q: only a loopback address may be without TLS: name localhost, or set web.certificate", w.Plain))
		}
	}
	for _, n := range w.Names {
		errs = append(errs, name("web.names", n))
	}
	if (w.Certificate == "") != (w.Key == "") {
		errs = append(errs, errors.New("web.certificate and web.key: set both or none"))
	}
	if (w.Site == "") != (len(w.Origins) == 0) {
		errs = append(errs, errors.New("web.passkey_site and web.passkey_origins: set both or none"))
	}
	if w.Site != "" {
		errs = append(errs, name("web.passkey_site", w.Site))
		if err := (&protocol.RelyingParty{ID: w.Site, Origins: w.Origins}).Check(); err != nil && len(w.Origins) > 0 {
			errs = append(errs, fmt.Errorf("web.passkey_origins: %w", err))
		}
	}
	for key, path := range map[string]string{"web.certificate": w.Certificate, "web.key": w.Key} {
		if path != "" {
			errs = append(errs, text(key, path))
		}
	}
	if w.Certificate != "" && len(w.Names) == 0 {
		errs = append(errs, errors.New("web.names: name at least one of the certificate's names"))
	}
	if w.Certificate == "" && w.Plain == "" {
		errs = append(errs, errors.New("web: neither plain nor certificate is set: nobody could reach the pages"))
	}
	return errors.Join(errs...)
}

func (r *Relay) check() error {
	var errs []error
	if r.Listen != "" {
		errs = append(errs, hostPort("relay.listen", r.Listen, false))
	}
	if r.Address != "" {
		if a, err := netip.ParseAddr(r.Address); err != nil || a.IsUnspecified() || a.Zone() != "" {
			errs = append(errs, fmt.Errorf("relay.address = %q: has to be an IP address", r.Address))
		}
	}
	if (r.MinPort == 0) != (r.MaxPort == 0) || r.MinPort > r.MaxPort {
		errs = append(errs, fmt.Errorf("relay.min_port = %d, relay.max_port = %d: have to be the ends of a range, or both 0", r.MinPort, r.MaxPort))
	}
	return errors.Join(errs...)
}

func (l *Log) check() error {
	var errs []error
	if _, err := l.level(); err != nil {
		errs = append(errs, err)
	}
	if l.Format != "text" && l.Format != "json" {
		errs = append(errs, fmt.Errorf("log.format = %q: has to be text or json", l.Format))
	}
	return errors.Join(errs...)
}

func (l *Log) level() (slog.Level, error) {
	switch l.Level {
	case "debug":
		return slog.LevelDebug, nil
	case "info":
		return slog.LevelInfo, nil
	case "warn":
		return slog.LevelWarn, nil
	case "error":
		return slog.LevelError, nil
	}
	return 0, fmt.Errorf("log.level = %q: has to be debug, info, warn or error", l.Level)
}

// Options returns the log's options for a slog handler.
func (l *Log) Options() *slog.HandlerOptions {
	level, err := l.level()
	if err != nil { // Check has been asked before
		level = slog.LevelInfo
	}
	return &slog.HandlerOptions{Level: level}
}

// Loopback reports whether a host can only be this machine.
func Loopback(host string) bool {
	a, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && a.IsLoopback()
}

func text(key, s string) error {
	if s == "" {
		return fmt.Errorf("%s is not set", key)
	}
	if len(s) > protocol.MaxText || !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return fmt.Errorf("%s = %q: has to be at most %d bytes that can be printed", key, s, protocol.MaxText)
	}
	return nil
}

var label = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

func name(key, s string) error {
	labels := strings.Split(s, ".")
	for _, l := range labels {
		if !label.MatchString(l) || len(s) > 253 {
			return fmt.Errorf("%s = %q: has to be a DNS name in lower case", key, s)
		}
	}
	if _, err := strconv.Atoi(labels[len(labels)-1]); err == nil {
		return fmt.Errorf("%s = %q: has to be a name, not an address", key, s)
	}
	return nil
}

// hostPort checks an address; one to connect to needs a host and a port.
func hostPort(key, s string, connect bool) error {
	if s == "" {
		return fmt.Errorf("%s is not set", key)
	}
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return fmt.Errorf("%s = %q: has to be host:port", key, s)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || connect && n == 0 {
		return fmt.Errorf("%s = %q: the port has to be a number up to 65535", key, s)
	}
	if host == "" && !connect {
		return nil
	}
	if a, err := netip.ParseAddr(host); err == nil {
		if connect && a.IsUnspecified() {
			return fmt.Errorf("%s = %q: nobody can connect to that address", key, s)
		}
		return nil
	}
	return name(key, host)
}

//go:embed clinic.toml.tmpl
var source string

var page = template.Must(template.New(FileName).Funcs(template.FuncMap{"quote": strconv.Quote}).Parse(source))

// Render returns the text of a file that says c, with an explanation of each key. c has to pass Check.
func (c *Config) Render() ([]byte, error) {
	if err := c.Check(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	var b bytes.Buffer
	if err := page.Execute(&b, c); err != nil {
		return nil, fmt.Errorf("write configuration: %w", err)
	}
	return b.Bytes(), nil
}
