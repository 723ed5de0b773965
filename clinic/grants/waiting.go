package grants

import (
	"bytes"
	"context"
	"crypto"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"vindu/clinic/audit"
	"vindu/clinic/authority"
	"vindu/clinic/signing"
	"vindu/protocol"
)

// What waits to be signed goes to another machine in a file, and comes back in one: JSON, so that whoever carries it can read it.
//
//	{"format":"vindu-waiting-1","clinic":"Solvik clinic","made":…,"items":[{"kind":"policy","key":"<base32>","body":"<base64>","for":"Home 17"}]}
//
// body is the canonical encoding of what is to be signed; key is the name of the key that is to sign it. Signed, each item has its COSE_Sign1 message besides. What a file says in
// "clinic" and "for" is for people alone: nothing follows from it.
const (
	formatWaiting = "vindu-waiting-1"
	// MaxFile bounds such a file, in bytes: ten thousand policies fit.
	MaxFile  = 64 << 20
	maxItems = 50_000
)

// Kinds of items.
const (
	KindAuthorisation = "authorisation"
	KindPolicy        = "policy"
	KindTrust         = "trust"
	KindMandate       = signing.Mandate
	KindDecommission  = signing.Decommission
	KindKeyOrder      = signing.KeyOrder
)

var (
	// ErrFile is wrapped when a file is not one of those that Waiting writes.
	ErrFile = errors.New("not a file of what waits to be signed, or damaged")
	// ErrForeign is wrapped when something was not signed by this clinic's key, or is another than was to be signed.
	ErrForeign = errors.New("not what this clinic wanted signed, or not signed by its key")
	// ErrStale is wrapped when nothing in a file waits any more.
	ErrStale = errors.New("nothing in it waits any more")
	// ErrOtherKey is wrapped when a key is none of those that are to sign.
	ErrOtherKey = errors.New("another key")
)

// File is what waits, or what was signed.
type File struct {
	Format string        `json:"format"`
	Clinic string        `json:"clinic"`
	Made   protocol.Time `json:"made"`
	Items  []Item        `json:"items"`
}

// Item is one statement.
type Item struct {
	Kind   string `json:"kind"`
	Key    string `json:"key"`
	Body   []byte `json:"body"`
	For    string `json:"for,omitempty"` // the home's label
	Signed []byte `json:"signed,omitempty"`
}

// Waiting returns what waits to be signed.
func (s *Service) Waiting(ctx context.Context, organisation string) (*File, error) {
	f := &File{Format: formatWaiting, Clinic: organisation, Made: protocol.At(s.now())}
	if trust, by := s.Authority.WaitingTrust(); trust != nil && by != nil {
		body, err := protocol.Encode(trust)
		if err != nil {
			return nil, fmt.Errorf("look for what waits: %w", err)
		}
		f.Items = append(f.Items, Item{Kind: KindTrust, Key: protocol.HashSPKI(by).Name(), Body: body})
	}
	homes, err := s.Register.Homes(ctx)
	if err != nil {
		return nil, fmt.Errorf("look for what waits: %w", err)
	}
	label := map[string]string{}
	for _, h := range homes {
		label[h.ID] = h.Label
		if h.Terminal != (protocol.KeyHash{}) {
			if _, err := s.ensurePolicy(ctx, h.Terminal); err != nil {
				return nil, fmt.Errorf("look for what waits: home %s: %w", h.ID, err)
			}
		}
	}
	if err := s.sweepPersons(ctx); err != nil {
		return nil, fmt.Errorf("look for what waits: %w", err)
	}
	for _, q := range []struct{ kind, query string }{
		{KindAuthorisation, "SELECT body, key, '' FROM grant_authorisations WHERE signed IS NULL AND ended IS NULL ORDER BY n"},
		{KindPolicy, `SELECT body, key, home FROM grant_policies AS p WHERE signed IS NULL AND NOT EXISTS (SELECT 1 FROM grant_policies AS later
			WHERE later.terminal = p.terminal AND later.serial > p.serial) ORDER BY serial`},
	} {
		rows, err := s.Store.Read().QueryContext(ctx, q.query)
		if err != nil {
			return nil, fmt.Errorf("look for what waits: %w", err)
		}
		for rows.Next() {
			i := Item{Kind: q.kind}
			var key []byte
			var home string
			if err = rows.Scan(&i.Body, &key, &home); err != nil {
				break
			}
			i.Key, i.For = protocol.HashSPKI(key).Name(), label[home]
			f.Items = append(f.Items, i)
		}
		if err = errors.Join(err, rows.Err(), rows.Close()); err != nil {
			return nil, fmt.Errorf("look for what waits: %w", err)
		}
	}
	if s.Requests == nil || s.Authority.KeyHere() {
		return f, nil
	}
	key := s.Authority.Authorities()[0]
	requests, err := s.Requests.Waiting(ctx, key)
	if err != nil {
		return nil, err
	}
	for _, r := range requests {
		i := Item{Kind: r.Kind, Key: protocol.HashSPKI(key).Name(), Body: r.Body}
		if !i.over(s.now()) {
			f.Items = append(f.Items, i)
		}
	}
	return f, nil
}

// over tells whether what is to be signed would be worth nothing any more.
func (i *Item) over(now time.Time) bool {
	m, err := i.statement()
	if err != nil {
		return true
	}
	switch m := m.(type) {
	case *protocol.Mandate:
		return !now.Before(m.To.Time())
	case *protocol.Decommission:
		return !now.Before(m.Expires.Time())
	}
	return false
}

// Write writes a file.
func (f *File) Write(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", " ")
	return e.Encode(f)
}

// ParseFile reads what Write wrote. The error wraps ErrFile.
func ParseFile(r io.Reader) (*File, error) {
	b, err := io.ReadAll(io.LimitReader(r, MaxFile+1))
	if err != nil {
		return nil, fmt.Errorf("read file: %w", err)
	}
	if len(b) > MaxFile {
		return nil, fmt.Errorf("read file: more than %d bytes: %w", MaxFile, ErrFile)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	f := new(File)
	if err := d.Decode(f); err != nil {
		return nil, fmt.Errorf("read file: %w: %w", ErrFile, err)
	}
	if d.More() || f.Format != formatWaiting || len(f.Items) > maxItems {
		return nil, fmt.Errorf("read file: %w", ErrFile)
	}
	for n := range f.Items {
		if _, err := f.Items[n].statement(); err != nil {
			return nil, fmt.Errorf("read file: item %d: %w: %w", n+1, ErrFile, err)
		}
	}
	return f, nil
}

// statement decodes what is to be signed: a pointer to a statement of package protocol.
func (i *Item) statement() (any, error) {
	switch i.Kind {
	case KindAuthorisation:
		m := new(protocol.Authorisation)
		return m, protocol.Decode(i.Body, m)
	case KindPolicy:
		m := new(protocol.Policy)
		return m, protocol.Decode(i.Body, m)
	case KindTrust:
		m := new(protocol.Trust)
		return m, protocol.Decode(i.Body, m)
	case KindMandate:
		m := new(protocol.Mandate)
		return m, protocol.Decode(i.Body, m)
	case KindDecommission:
		m := new(protocol.Decommission)
		return m, protocol.Decode(i.Body, m)
	case KindKeyOrder:
		m := new(protocol.KeyOrder)
		return m, protocol.Decode(i.Body, m)
	}
	return nil, errors.New("of an unknown kind")
}

// Words says in plain words what is to be signed.
func (i *Item) Words() string {
	m, err := i.statement()
	if err != nil { // ParseFile has asked before
		return "unreadable"
	}
	day := func(t protocol.Time) string { return t.Time().Local().Format("2006-01-02 15:04") }
	switch m := m.(type) {
	case *protocol.Authorisation:
		homes := make([]string, 0, 2)
		if n := len(m.Scope.Homes); n > 0 {
			homes = append(homes, "homes "+quoted(m.Scope.Homes))
		}
		if n := len(m.Scope.Groups); n > 0 {
			homes = append(homes, "homes in the groups "+quoted(m.Scope.Groups))
		}
		passkeys := make([]string, 0, len(m.Credentials)) // by name, so that one that was slipped in can be seen
		for _, c := range m.Credentials {
			passkeys = append(passkeys, protocol.HashSPKI(c.Key).Code())
		}
		return fmt.Sprintf("%q, %q, %q (%q), may call as %q from %s until %s, with the passkeys %s: %s",
			m.Party.Name, m.Party.Role, m.Party.Organisation, m.Employment, m.Group, day(m.From), day(m.To), strings.Join(passkeys, " and "), strings.Join(homes, " and "))
	case *protocol.Policy:
		rules := make([]string, 0, len(m.Rules))
		for _, r := range m.Rules {
			switch text := ""; r.Mode {
			case protocol.ModeRefuse:
				rules = append(rules, fmt.Sprintf("%q is refused", r.Group))
			default:
				text = fmt.Sprintf("%q is answered after %d s", r.Group, max(r.After, protocol.LeastRing))
				if r.Mode == protocol.ModeAsk {
					text = fmt.Sprintf("%q is answered only if somebody at the terminal says so within %d s", r.Group, r.After)
				}
				if r.Urgent {
					text += ", in quiet hours too if it is urgent"
				}
				rules = append(rules, text)
			}
		}
		if len(rules) == 0 {
			rules = []string{"nobody gets in"}
		}
		return fmt.Sprintf("Terminal %s in home %q: %s; everybody else is refused; %s (times of %q), at most %d min, volume %d %%; groups: %s",
			m.Terminal.Code(), m.Home, strings.Join(rules, "; "), quietWords(m.Quiet), m.Zone, m.Longest/60, m.Volume, quoted(m.Groups))
	case *protocol.Trust:
		keys := make([]string, 0, len(m.Authorities))
		for _, k := range m.Authorities {
			keys = append(keys, protocol.HashSPKI(k).Code())
		}
		service := make([]string, 0, len(m.Service))
		for _, k := range m.Service {
			service = append(service, protocol.HashSPKI(k).Code())
		}
		return fmt.Sprintf("ALL TERMINALS are to believe the authorisation keys %s and the server's keys %s, and passkeys of the site %q at %s, and to use the relays %s",
			strings.Join(keys, " and "), strings.Join(service, " and "), m.RelyingParty.ID, quoted(m.RelyingParty.Origins), quoted(m.Relays))
	case *protocol.Mandate:
		return fmt.Sprintf("%q, %q, %q, may work at ALL TERMINALS from the laptop with the key %s until %s", m.Person.Name, m.Person.Role, m.Person.Organisation, protocol.HashSPKI(m.Key).Code(), day(m.To))
	case *protocol.Decommission:
		return fmt.Sprintf("Terminal %s is to DESTROY its keys and state; ordered %s, good until %s", m.Terminal.Code(), day(m.Issued), day(m.Expires))
	case *protocol.KeyOrder:
		return fmt.Sprintf("Terminal %s is to replace its key", m.Terminal.Code())
	}
	return "unreadable"
}

// quietWords are quiet hours as they are read before they are signed.
func quietWords(spans []protocol.Span) string {
	if len(spans) == 0 {
		return "no quiet hours"
	}
	words := make([]string, 0, len(spans))
	for _, s := range spans {
		var on []string
		for n, day := range days {
			if s.Days&(1<<n) != 0 {
				on = append(on, day)
			}
		}
		when := strings.Join(on, " ")
		if len(on) == len(days) {
			when = "every day"
		}
		words = append(words, fmt.Sprintf("%s from %02d:%02d to %02d:%02d", when, s.From/60, s.From%60, s.To/60, s.To%60))
	}
	return "quiet " + strings.Join(words, ", ")
}

// For returns the items that a key is to sign.
func (f *File) For(key crypto.PublicKey) ([]*Item, error) {
	hash, err := protocol.HashKey(key)
	if err != nil {
		return nil, err
	}
	var items []*Item
	for n := range f.Items {
		if f.Items[n].Key == hash.Name() {
			items = append(items, &f.Items[n])
		}
	}
	if len(items) == 0 && len(f.Items) > 0 {
		return nil, fmt.Errorf("sign: %w: none of what is in the file is for the key %s; it wants %q", ErrOtherKey, hash.Code(), f.Items[0].Key)
	}
	return items, nil
}

// Sign signs an item.
func (i *Item) Sign(key crypto.Signer) error {
	m, err := i.statement()
	if err != nil {
		return fmt.Errorf("sign: %w: %w", ErrFile, err)
	}
	switch m := m.(type) {
	case *protocol.Authorisation:
		i.Signed, err = protocol.Sign(m, key)
	case *protocol.Policy:
		i.Signed, err = protocol.Sign(m, key)
	case *protocol.Trust:
		i.Signed, err = protocol.Sign(m, key)
	case *protocol.Mandate:
		i.Signed, err = protocol.Sign(m, key)
	case *protocol.Decommission:
		i.Signed, err = protocol.Sign(m, key)
	case *protocol.KeyOrder:
		i.Signed, err = protocol.Sign(m, key)
	}
	if err != nil {
		return fmt.Errorf("sign: %w", err)
	}
	return nil
}

// verify checks that an item's signature is of a key over its own body.
func (i *Item) verify(spki []byte) error {
	key, err := protocol.ParseKey(spki)
	if err != nil {
		return err
	}
	var body []byte
	switch i.Kind {
	case KindAuthorisation:
		m := new(protocol.Authorisation)
		if err = protocol.Verify(i.Signed, key, m); err == nil {
			body, err = protocol.Encode(m)
		}
	case KindPolicy:
		m := new(protocol.Policy)
		if err = protocol.Verify(i.Signed, key, m); err == nil {
			body, err = protocol.Encode(m)
		}
	case KindMandate:
		m := new(protocol.Mandate)
		if err = protocol.Verify(i.Signed, key, m); err == nil {
			body, err = protocol.Encode(m)
		}
	case KindDecommission:
		m := new(protocol.Decommission)
		if err = protocol.Verify(i.Signed, key, m); err == nil {
			body, err = protocol.Encode(m)
		}
	case KindKeyOrder:
		m := new(protocol.KeyOrder)
		if err = protocol.Verify(i.Signed, key, m); err == nil {
			body, err = protocol.Encode(m)
		}
	default:
		return ErrFile
	}
	if err == nil && !bytes.Equal(body, i.Body) {
		err = errors.New("what is signed is another than what was to be signed")
	}
	return err
}

// Accepted counts what Accept has done.
type Accepted struct {
	Taken    int // in force from now on
	Unsigned int // came back without a signature: they wait on
	Stale    int // do not wait any more
}

// Accept takes what was signed elsewhere. If anything in the file is not, to the byte, what this clinic has made to be signed, or not signed by its key, nothing of it is taken and the error wraps
// ErrForeign; ErrStale, if nothing in it waits.
func (s *Service) Accept(ctx context.Context, who string, f *File) (a Accepted, err error) {
	if _, err := s.Authority.Refresh(); err != nil {
		return a, fmt.Errorf("accept: %w", err)
	}
	var trust []byte
	for _, i := range f.Items {
		if i.Kind == KindTrust && len(i.Signed) > 0 {
			if err := s.Authority.CheckTrust(i.Signed); err != nil && !errors.Is(err, authority.ErrNoTrustWaits) {
				return a, fmt.Errorf("accept: %w: %w", ErrForeign, err)
			}
		}
	}
	taken := map[string]int{}
	now := s.now()
	err = s.Store.Write(ctx, func(tx *sql.Tx) error {
		for n := range f.Items {
			i := &f.Items[n]
			if len(i.Signed) == 0 {
				a.Unsigned++
				continue
			}
			if i.Kind == KindTrust {
				trust = i.Signed
				continue
			}
			var key []byte
			var row int64
			var waits bool
			var query, update string
			var err error
			switch i.Kind {
			case KindAuthorisation:
				query = "SELECT n, key, signed IS NULL AND ended IS NULL FROM grant_authorisations WHERE body = ? ORDER BY n DESC LIMIT 1"
				update = "UPDATE grant_authorisations SET signed = ?, accepted = ? WHERE n = ?"
			case KindPolicy:
				query = `SELECT serial, key, signed IS NULL AND NOT EXISTS (SELECT 1 FROM grant_policies AS later WHERE later.terminal = p.terminal AND later.serial > p.serial)
					FROM grant_policies AS p WHERE body = ? ORDER BY serial DESC LIMIT 1`
				update = "UPDATE grant_policies SET signed = ?, accepted = ? WHERE serial = ?"
			default:
				if s.Requests == nil {
					return fmt.Errorf("item %d: %w", n+1, ErrFile)
				}
				row, key, waits, err = s.Requests.Asked(ctx, tx, i.Kind, i.Body)
			}
			if query != "" {
				err = tx.QueryRowContext(ctx, query, i.Body).Scan(&row, &key, &waits)
			}
			if errors.Is(err, sql.ErrNoRows) {
				return fmt.Errorf("item %d, %s: %w: this clinic has not asked for it", n+1, i.Kind, ErrForeign)
			}
			if err != nil {
				return err
			}
			if err := i.verify(key); err != nil {
				return fmt.Errorf("item %d, %s: %w: %w", n+1, i.Kind, ErrForeign, err)
			}
			if !waits || !bytes.Equal(key, s.Authority.Authorities()[0]) {
				a.Stale++
				continue
			}
			if query != "" {
				_, err = tx.ExecContext(ctx, update, i.Signed, now.UnixMilli(), row)
			} else {
				err = s.Requests.Accept(ctx, tx, row, i.Signed)
			}
			if err != nil {
				return err
			}
			if i.Kind == KindAuthorisation {
				if err := s.followed(ctx, tx, row); err != nil {
					return err
				}
			}
			taken[i.Kind]++
			a.Taken++
		}
		if a.Taken == 0 {
			return nil
		}
		if err := s.changed(ctx, tx); err != nil {
			return err
		}
		return s.Audit.AppendTx(ctx, tx, audit.Entry{Who: who, What: audit.SignedAccepted, Subject: "authorisation key", Detail: map[string]string{
			"authorisations": fmt.Sprint(taken[KindAuthorisation]), "policies": fmt.Sprint(taken[KindPolicy]),
			"mandates": fmt.Sprint(taken[KindMandate]), "orders": fmt.Sprint(taken[KindDecommission] + taken[KindKeyOrder]), "file_of": f.Made.Time().UTC().Format(time.RFC3339)}})
	})
	if err != nil {
		return Accepted{}, fmt.Errorf("accept: %w", err)
	}
	if trust != nil {
		switch err := s.Authority.AcceptTrust(trust); {
		case errors.Is(err, authority.ErrNoTrustWaits):
			a.Stale++
		case err != nil:
			return a, fmt.Errorf("accept: %w: %w", ErrForeign, err)
		default:
			a.Taken++
			_, t := s.Authority.Trust()
			if err := s.Store.Write(ctx, func(tx *sql.Tx) error {
				return s.Audit.AppendTx(ctx, tx, audit.Entry{Who: who, What: audit.TrustChanged, Subject: "terminals", Detail: map[string]string{"serial": fmt.Sprint(t.Serial)}})
			}); err != nil {
				return a, fmt.Errorf("accept: %w", err)
			}
		}
	}
	if a.Taken == 0 {
		return a, fmt.Errorf("accept: %w", ErrStale)
	}
	return a, nil
}

// followed ends the authorisations of a person that one which was signed just now follows.
func (s *Service) followed(ctx context.Context, tx *sql.Tx, n int64) error {
	_, err := tx.ExecContext(ctx, `UPDATE grant_authorisations SET ended = ?1 WHERE n < ?2 AND ended IS NULL AND person = (SELECT person FROM grant_authorisations WHERE n = ?2)`,
		s.now().UnixMilli(), n)
	return err
}
