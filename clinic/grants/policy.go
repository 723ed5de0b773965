package grants

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	_ "time/tzdata" // zones are checked whatever the server's system has

	"vindu/clinic/audit"
	"vindu/clinic/authority"
	"vindu/clinic/register"
	"vindu/protocol"
)

// Rule is what happens when somebody of a group of callers calls.
type Rule struct {
	Mode   protocol.Mode `json:"mode" toml:"mode"`
	After  uint16        `json:"after,omitempty" toml:"after"`   // seconds; 0 of ModeRing: as the terminal's own configuration says, which is protocol.LeastRing
	Urgent bool          `json:"urgent,omitempty" toml:"urgent"` // rings in quiet hours if the call is urgent
}

// Quiet is a part of some days in which nobody rings.
type Quiet struct {
	Days []string `json:"days,omitempty" toml:"days"` // "mon" to "sun"; none: all
	From string   `json:"from" toml:"from"`           // "22:00"
	To   string   `json:"to" toml:"to"`
}

// Settings are what a policy is made of. Those of a home are what differs there: what is not set is as everywhere.
type Settings struct {
	Rules   map[string]Rule `json:"rules,omitempty" toml:"rules"` // by group of callers; of a home, only those that differ
	Quiet   *[]Quiet        `json:"quiet,omitempty" toml:"quiet"`
	Zone    string          `json:"zone,omitempty" toml:"zone"`
	Longest uint32          `json:"longest,omitempty" toml:"longest"` // minutes of talking
	Volume  uint8           `json:"volume,omitempty" toml:"volume"`   // percent
}

// DefaultSettings hold where an administrator has said nothing: staff is answered after ten seconds, nobody else is.
func DefaultSettings() Settings {
	return Settings{
		Rules: map[string]Rule{"staff": {Mode: protocol.ModeRing, After: 10}}, Quiet: &[]Quiet{}, Zone: "Europe/Oslo", Longest: 60, Volume: 70,
	}
}

// Over returns s with what differs in a home.
func (s Settings) Over(home Settings) Settings {
	s.Rules = maps.Clone(s.Rules)
	if s.Rules == nil {
		s.Rules = map[string]Rule{}
	}
	maps.Copy(s.Rules, home.Rules)
	if home.Quiet != nil {
		s.Quiet = home.Quiet
	}
	if home.Zone != "" {
		s.Zone = home.Zone
	}
	if home.Longest != 0 {
		s.Longest = home.Longest
	}
	if home.Volume != 0 {
		s.Volume = home.Volume
	}
	return s
}

// Days are how Quiet calls them, from Monday.
func Days() []string { return slices.Clone(days) }

var days = []string{"mon", "tue", "wed", "thu", "fri", "sat", "sun"}

func (q Quiet) span() (protocol.Span, error) {
	var s protocol.Span
	var errs []error
	for _, d := range q.Days {
		i := slices.Index(days, d)
		if i < 0 {
			errs = append(errs, flaw("days", fmt.Errorf("a day %q %w: it is one of %s", d, ErrBounds, strings.Join(days, ", "))))
			continue
		}
		s.Days |= 1 << i
	}
	if len(q.Days) == 0 {
		s.Days = 0x7f
	}
	for _, f := range []struct {
		field, text string
		to          *uint16
	}{{"from", q.From, &s.From}, {"to", q.To, &s.To}} {
		at, err := time.Parse("15:04", f.text)
		if err != nil {
			errs = append(errs, flaw(f.field, fmt.Errorf("a time of the day %q %w: it is like 22:00", f.text, ErrBounds)))
			continue
		}
		*f.to = uint16(at.Hour()*60 + at.Minute())
	}
	if s.From == s.To && len(errs) == 0 {
		errs = append(errs, flaw("to", fmt.Errorf("quiet hours from %s to %s %w: they have to end at another time than they begin", q.From, q.To, ErrBounds)))
	}
	return s, errors.Join(errs...)
}

// Check says what cannot be, as *Flaw: of "days", "from" or "to".
func (q Quiet) Check() error {
	_, err := q.span()
	return err
}

// Rings returns for how many seconds a call rings by the rule.
func (r Rule) Rings() int {
	if r.Mode == protocol.ModeRing {
		return int(max(r.After, protocol.LeastRing))
	}
	return int(r.After)
}

// Check says what cannot be in the rule for a group of callers, as *Flaw: of "group", "mode" or "after".
func (r Rule) Check(group string) error {
	err := flaw("group", checkName("group of callers", group))
	field, bad := "", ""
	switch {
	case r.Mode != protocol.ModeAsk && r.Mode != protocol.ModeRing && r.Mode != protocol.ModeRefuse:
		field, bad = "mode", "the mode is ask, ring or refuse"
	case r.Mode == protocol.ModeRing && r.After > 0 && r.After < protocol.LeastRing:
		field, bad = "after", fmt.Sprintf("it rings for at least %d seconds before it answers by itself, so that people see who calls and can say no", protocol.LeastRing)
	case r.After > 120:
		field, bad = "after", "it rings for at most 120 seconds"
	case r.Mode == protocol.ModeAsk && r.After == 0:
		field, bad = "after", "say after how many seconds without an answer it is no"
	case r.Mode == protocol.ModeRefuse && (r.After != 0 || r.Urgent):
		field, bad = "after", "who is refused does not ring"
	default:
		return err
	}
	return errors.Join(err, flaw(field, fmt.Errorf("the rule for %q %w: %s", group, ErrBounds, bad)))
}

// Check says what cannot be in what holds everywhere, or of what differs in a home, apart from how the two go together: as *Flaw, of "longest", "volume" or "zone" of the
// whole. What is not set is not looked at.
func (s Settings) Check() error {
	var errs []error
	if s.Longest > 240 {
		errs = append(errs, flaw("longest", fmt.Errorf("a call of %d minutes %w: from 1 to 240 minutes", s.Longest, ErrBounds)))
	}
	if s.Volume > 100 || s.Volume > 0 && s.Volume < protocol.MinVolume {
		errs = append(errs, flaw("volume", fmt.Errorf("a volume of %d %w: from %d to 100 percent", s.Volume, ErrBounds, protocol.MinVolume)))
	}
	if s.Zone != "" {
		if _, err := time.LoadLocation(s.Zone); err != nil || s.Zone == "Local" {
			errs = append(errs, flaw("zone", fmt.Errorf("a time zone %q %w: it is like Europe/Oslo", s.Zone, ErrBounds)))
		}
	}
	for _, group := range slices.Sorted(maps.Keys(s.Rules)) {
		errs = append(errs, s.Rules[group].Check(group))
	}
	if s.Quiet != nil {
		for _, q := range *s.Quiet {
			errs = append(errs, q.Check())
		}
	}
	return errors.Join(errs...)
}

// policy returns what terminals are told, but for what is of one terminal.
func (s Settings) policy() (*protocol.Policy, error) {
	if s.Longest == 0 || s.Volume == 0 || s.Zone == "" {
		return nil, fmt.Errorf("a call of %d minutes at volume %d in the time zone %q %w: none of them may be missing", s.Longest, s.Volume, s.Zone, ErrBounds)
	}
	if err := s.Check(); err != nil {
		return nil, err
	}
	p := &protocol.Policy{Version: protocol.Version, Rules: []protocol.Rule{}, Quiet: []protocol.Span{}, Zone: s.Zone, Longest: s.Longest * 60, Volume: s.Volume}
	if len(s.Rules) > protocol.MaxRules {
		return nil, flaw("rules", fmt.Errorf("%d rules %w: at most %d", len(s.Rules), ErrBounds, protocol.MaxRules))
	}
	for _, group := range slices.Sorted(maps.Keys(s.Rules)) {
		r := s.Rules[group]
		p.Rules = append(p.Rules, protocol.Rule{Group: group, Mode: r.Mode, After: r.After, Urgent: r.Urgent})
	}
	if s.Quiet != nil {
		if len(*s.Quiet) > protocol.MaxSpans {
			return nil, flaw("quiet", fmt.Errorf("%d spans of quiet hours %w: at most %d", len(*s.Quiet), ErrBounds, protocol.MaxSpans))
		}
		for _, q := range *s.Quiet {
			span, err := q.span()
			if err != nil {
				return nil, err
			}
			p.Quiet = append(p.Quiet, span)
		}
	}
	return p, nil
}

// SetPolicy says what holds in all homes, if home is empty, or what differs in one. The error wraps ErrBounds or register.ErrNotFound.
func (s *Service) SetPolicy(ctx context.Context, who, home string, settings Settings) error {
	return s.setPolicy(ctx, who, home, anyVersion, settings)
}

// ChangePolicy is SetPolicy for who has seen a version: if it is not the newest any more, the error wraps ErrChanged. Version 0 is that nothing was said yet.
func (s *Service) ChangePolicy(ctx context.Context, who, home string, version int64, settings Settings) error {
	if version < 0 { // nobody has seen such a one
		return fmt.Errorf("set policy: %w", ErrChanged)
	}
	return s.setPolicy(ctx, who, home, version, settings)
}

// anyVersion is in place of the version that somebody has seen.
const anyVersion = -1

func (s *Service) setPolicy(ctx context.Context, who, home string, version int64, settings Settings) error {
	if home != "" {
		if _, err := s.Register.Home(ctx, home); err != nil {
			return err
		}
	}
	if err := settings.Check(); err != nil { // as it is said, and not as what was said before is read
		return err
	}
	body, err := json.Marshal(settings)
	if err != nil {
		return fmt.Errorf("set policy: %w", err)
	}
	const maxBody = 6 << 10 // so that the audit log can hold it
	if len(body) > maxBody {
		return fmt.Errorf("set policy: %d bytes %w: at most %d", len(body), ErrBounds, maxBody)
	}
	err = s.Store.Write(ctx, func(tx *sql.Tx) error {
		var newest int64
		before := ""
		err := tx.QueryRowContext(ctx, "SELECT n, body FROM grant_policy_settings WHERE home = ? ORDER BY n DESC LIMIT 1", home).Scan(&newest, &before)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		if version != anyVersion && version != newest {
			return ErrChanged
		}
		if len(before)+len(body) > 4<<10 { // an entry of the audit log holds so much; the table has it all
			before = fmt.Sprintf("version %d", newest)
		}
		if _, err := tx.ExecContext(ctx, "INSERT INTO grant_policy_settings (home, body, changed, changed_by) VALUES (?, ?, ?, ?)", home, string(body), s.now().UnixMilli(), who); err != nil {
			return err
		}
		if home != "" {
			if err := s.sound(ctx, tx, home); err != nil {
				return err
			}
		} else { // what differs in a home has still to fit
			homes, err := homesThatDiffer(ctx, tx)
			if err != nil {
				return err
			}
			for _, h := range append(homes, "") {
				if err := s.sound(ctx, tx, h); err != nil {
					return err
				}
			}
		}
		if err := s.changed(ctx, tx); err != nil {
			return err
		}
		subject := "all homes"
		if home != "" {
			subject = home
		}
		return s.Audit.AppendTx(ctx, tx, audit.Entry{Who: who, What: audit.PolicyChanged, Subject: subject, Detail: map[string]string{"settings": string(body), "before": before}})
	})
	if err != nil {
		return fmt.Errorf("set policy: %w", err)
	}
	return nil
}

func (s *Service) sound(ctx context.Context, q queryer, home string) error {
	settings, err := effective(ctx, q, home)
	if err == nil {
		_, err = settings.policy()
	}
	if err != nil && home != "" {
		return fmt.Errorf("home %s: %w", home, err)
	}
	return err
}

func homesThatDiffer(ctx context.Context, q queryer) ([]string, error) {
	rows, err := q.QueryContext(ctx, "SELECT DISTINCT home FROM grant_policy_settings WHERE home <> ''")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var homes []string
	for rows.Next() {
		var h string
		if err := rows.Scan(&h); err != nil {
			return nil, err
		}
		homes = append(homes, h)
	}
	return homes, rows.Err()
}

// own returns what was said last for a home, or for all; nothing, if nothing was.
func own(ctx context.Context, q queryer, home string) (settings Settings, said bool, err error) {
	var body string
	err = q.QueryRowContext(ctx, "SELECT body FROM grant_policy_settings WHERE home = ? ORDER BY n DESC LIMIT 1", home).Scan(&body)
	if errors.Is(err, sql.ErrNoRows) {
		return Settings{}, false, nil
	}
	if err == nil {
		err = json.Unmarshal([]byte(body), &settings)
	}
	if err != nil {
		return Settings{}, false, fmt.Errorf("read policy: %w", err)
	}
	for group, r := range settings.Rules { // what was said before there was a least means the least
		if r.Mode == protocol.ModeRing && r.After > 0 {
			r.After = max(r.After, protocol.LeastRing)
			settings.Rules[group] = r
		}
	}
	return settings, true, nil
}

func effective(ctx context.Context, q queryer, home string) (Settings, error) {
	everywhere, said, err := own(ctx, q, "")
	if err != nil {
		return Settings{}, err
	}
	if !said {
		everywhere = DefaultSettings()
	} else {
		d := DefaultSettings()
		d.Rules = nil // an administrator who has named rules has named all
		everywhere = d.Over(everywhere)
	}
	if home == "" {
		return everywhere, nil
	}
	differs, _, err := own(ctx, q, home)
	return everywhere.Over(differs), err
}

// PolicySettings returns what holds in a home, or everywhere if home is empty, and what was said of it alone.
func (s *Service) PolicySettings(ctx context.Context, home string) (effects, own_ Settings, err error) {
	if effects, err = effective(ctx, s.Store.Read(), home); err == nil {
		own_, _, err = own(ctx, s.Store.Read(), home)
	}
	return effects, own_, err
}

// Version is what was said at some time of a home, or of all. Nothing goes back: what was said before is said again, as a new version.
type Version struct {
	N        int64 // rises; not one by one, since homes share the count
	Settings Settings
	At       time.Time
	By       string
}

// PolicyHistory returns what was said of a home, or of all if home is empty, the latest first, at most limit.
func (s *Service) PolicyHistory(ctx context.Context, home string, limit int) (versions []Version, err error) {
	rows, err := s.Store.Read().QueryContext(ctx, "SELECT n, body, changed, changed_by FROM grant_policy_settings WHERE home = ? ORDER BY n DESC LIMIT ?", home, limit)
	if err != nil {
		return nil, fmt.Errorf("read policies: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var v Version
		var body string
		var at int64
		if err = rows.Scan(&v.N, &body, &at, &v.By); err == nil {
			err = json.Unmarshal([]byte(body), &v.Settings)
		}
		if err != nil {
			return nil, fmt.Errorf("read policies: %w", err)
		}
		v.At = time.UnixMilli(at)
		versions = append(versions, v)
	}
	return versions, rows.Err()
}

// HomesThatDiffer returns the homes of which something was said that does not hold everywhere.
func (s *Service) HomesThatDiffer(ctx context.Context) ([]string, error) {
	return homesThatDiffer(ctx, s.Store.Read())
}

// issuedPolicy is the newest that was made for a terminal.
type issuedPolicy struct {
	signed, body, key []byte
	p                 *protocol.Policy
}

func newestPolicy(ctx context.Context, q queryer, terminal protocol.KeyHash, where string) (*issuedPolicy, error) {
	i := issuedPolicy{p: new(protocol.Policy)}
	err := q.QueryRowContext(ctx, "SELECT body, key, signed FROM grant_policies WHERE terminal = ? "+where+" ORDER BY serial DESC LIMIT 1", terminal[:]).Scan(&i.body, &i.key, &i.signed)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err == nil {
		err = protocol.Decode(i.body, i.p)
	}
	if err != nil {
		return nil, fmt.Errorf("read policy: %w", err)
	}
	return &i, nil
}

func (s *Service) wantedPolicy(ctx context.Context, q queryer, t register.Terminal) (*protocol.Policy, error) {
	settings, err := effective(ctx, q, t.Home)
	if err != nil {
		return nil, err
	}
	p, err := settings.policy()
	if err != nil {
		return nil, err
	}
	p.Terminal, p.Home = t.Key, t.Home
	p.Groups, err = homeGroups(ctx, q, t.Home)
	return p, err
}

// upToDate tells whether a policy says what is wanted and is signed by the key that counts, or waits for that.
func (s *Service) upToDate(i *issuedPolicy, want *protocol.Policy) bool {
	if i == nil || !bytes.Equal(i.key, s.Authority.Authorities()[0]) || (i.signed == nil && s.Authority.KeyHere()) {
		return false
	}
	c := *want
	c.Serial, c.Issued = i.p.Serial, i.p.Issued
	body, err := protocol.Encode(&c)
	return err == nil && bytes.Equal(body, i.body)
}

// Policy returns the signed policy of the terminal that stands in a home; nil if it stands in none, or none of it is signed yet: then it answers nobody.
func (s *Service) Policy(ctx context.Context, terminal protocol.KeyHash) ([]byte, error) {
	if _, err := s.ensurePolicy(ctx, terminal); err != nil {
		return nil, fmt.Errorf("policy of terminal %s: %w", terminal.Code(), err)
	}
	i, err := newestPolicy(ctx, s.Store.Read(), terminal, "AND signed IS NOT NULL")
	if err != nil || i == nil || !s.believed(i.key) {
		return nil, err
	}
	t, err := s.Register.ByTerminal(ctx, terminal)
	if err != nil || !t.Revoked.IsZero() || t.Home != i.p.Home { // another home's would let in whom this one's does not
		return nil, err
	}
	return i.signed, nil
}

// believed tells whether terminals believe what a key has signed.
func (s *Service) believed(key []byte) bool {
	return slices.ContainsFunc(s.Authority.Authorities(), func(k []byte) bool { return bytes.Equal(k, key) })
}

// ensurePolicy makes the next policy of a terminal if what it says is not what is wanted. It tells whether it made one that is signed.
func (s *Service) ensurePolicy(ctx context.Context, terminal protocol.KeyHash) (made bool, err error) {
	look := func(q queryer) (*protocol.Policy, bool, error) {
		t, err := s.Register.ByTerminal(ctx, terminal)
		if errors.Is(err, register.ErrNotFound) || err == nil && !t.Revoked.IsZero() {
			return nil, true, nil
		}
		if err != nil {
			return nil, false, err
		}
		want, err := s.wantedPolicy(ctx, q, t)
		if err != nil {
			return nil, false, err
		}
		newest, err := newestPolicy(ctx, q, terminal, "")
		return want, err == nil && s.upToDate(newest, want), err
	}
	if _, done, err := look(s.Store.Read()); err != nil || done {
		return false, err
	}
	err = s.Store.Write(ctx, func(tx *sql.Tx) error {
		p, done, err := look(tx)
		if err != nil || done {
			return err
		}
		var last int64
		if err := tx.QueryRowContext(ctx, "SELECT coalesce(max(serial), 0) FROM grant_policies").Scan(&last); err != nil {
			return err
		}
		now := s.now()
		p.Serial, p.Issued = max(uint64(last)+1, uint64(now.UnixMilli())), protocol.At(now)
		body, err := protocol.Encode(p)
		if err == nil && len(body) > protocol.MaxPolicy-signatureRoom {
			err = protocol.ErrTooLarge
		}
		if err != nil {
			return fmt.Errorf("make policy: %w; name fewer rules, or groups of homes with shorter names", err)
		}
		signed, err := s.Authority.SignPolicy(p)
		if err != nil && !errors.Is(err, authority.ErrKeyElsewhere) {
			return err
		}
		made = signed != nil
		if _, err := tx.ExecContext(ctx, "INSERT INTO grant_policies (serial, terminal, home, body, key, signed, made) VALUES (?, ?, ?, ?, ?, ?, ?)",
			int64(p.Serial), terminal[:], p.Home, body, s.Authority.Authorities()[0], signed, now.UnixMilli()); err != nil {
			return err
		}
		detail := map[string]string{"serial": fmt.Sprint(p.Serial), "home": p.Home}
		if signed == nil {
			detail["waits"] = "to be signed"
		}
		return s.Audit.AppendTx(ctx, tx, audit.Entry{Who: "clinic", What: audit.PolicyIssued, Subject: terminal.Name(), Detail: detail})
	})
	return made, err
}
