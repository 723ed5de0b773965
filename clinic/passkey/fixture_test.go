package passkey

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"log/slog"
	"math"
	"math/big"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
	wan "github.com/go-webauthn/webauthn/protocol"
	"golang.org/x/mod/sumdb/note"

	"vindu/clinic/audit"
	"vindu/clinic/register"
	"vindu/clinic/store"
	"vindu/protocol"
	"vindu/protocol/passkeytest"
)

var site = protocol.RelyingParty{ID: "clinic.example", Origins: []string{"https://video.clinic.example", "https://clinic.example"}}

// office is a clinic with two persons.
type office struct {
	*Service
	t          testing.TB
	store      *store.Store
	audit      *audit.Log
	register   *register.Register
	anne, olav string

	mu    sync.Mutex
	moved []string // persons whose passkeys changed
	clock time.Time
}

func newOffice(t testing.TB) *office {
	t.Helper()
	ctx, dir := context.Background(), t.TempDir()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	key, _, err := note.GenerateKey(rand.Reader, "test")
	must(err)
	o := &office{t: t, clock: time.Now()}
	o.store, err = store.Open(ctx, filepath.Join(dir, "clinic.db"), slog.New(slog.DiscardHandler))
	must(err)
	t.Cleanup(func() { o.store.Close() })
	o.audit, err = audit.New(ctx, o.store, protocol.Secret(key))
	must(err)
	o.register, err = register.New(ctx, o.store, o.audit)
	must(err)
	for name, into := range map[string]*string{"Anne Berg": &o.anne, "Olav Nes": &o.olav} {
		p, err := o.register.EnsurePerson(ctx, "test", protocol.Party{Name: name, Role: "nurse", Organisation: "Solvik clinic"}, register.Clinician)
		must(err)
		*into = p.ID
	}
	o.Service, err = New(ctx, Config{
		Store: o.store, Audit: o.audit, Persons: o.register, Alarms: o.register, Site: site, Organisation: "Solvik clinic",
		Changed: func(person string) {
			o.mu.Lock()
			defer o.mu.Unlock()
			o.moved = append(o.moved, person)
		},
		Log: slog.New(slog.DiscardHandler),
	})
	must(err)
	o.now = func() time.Time {
		o.mu.Lock()
		defer o.mu.Unlock()
		return o.clock
	}
	return o
}

func (o *office) wait(d time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.clock = o.clock.Add(d)
}

// changes returns whose passkeys changed since it was called last.
func (o *office) changes() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	list := o.moved
	o.moved = nil
	return list
}

// audited returns what was done with passkeys.
func (o *office) audited() []string {
	o.t.Helper()
	var list []string
	entries, err := o.audit.Entries(context.Background(), math.MaxInt64, 1000)
	if err != nil {
		o.t.Fatal(err)
	}
	for _, e := range slices.Backward(entries) {
		if e.What != audit.PersonAdded {
			list = append(list, e.What)
		}
	}
	return list
}

func (o *office) invite(person string) string {
	o.t.Helper()
	i, err := o.Invite(context.Background(), "person 1", person, InvitationLife, false)
	if err != nil {
		o.t.Fatal(err)
	}
	return i.Token
}

// newborn is a registration that a test may spoil before the browser sends it.
type newborn struct {
	Type        string
	Origin      string
	CrossOrigin bool
	RPID        string
	Flags       byte
	ID          []byte
	COSE        map[int64]any
	Format      string
	Statement   map[string]any
	Said        []byte // the identifier that the browser says
	Extra       []byte
}

// coseKey is a public key as authenticators write it.
func coseKey(t testing.TB, a *passkeytest.Authenticator) map[int64]any {
	t.Helper()
	public, err := x509.ParsePKIXPublicKey(a.Credential(t).Key)
	if err != nil {
		t.Fatal(err)
	}
	switch k := public.(type) {
	case *ecdsa.PublicKey:
		point, err := k.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		return map[int64]any{1: 2, 3: -7, -1: 1, -2: point[1:33], -3: point[33:]}
	case ed25519.PublicKey:
		return map[int64]any{1: 1, 3: -8, -1: 6, -2: []byte(k)}
	case *rsa.PublicKey:
		return map[int64]any{1: 3, 3: -257, -1: k.N.Bytes(), -2: big.NewInt(int64(k.E)).Bytes()}
	}
	t.Fatalf("%T", public)
	return nil
}

func marshal(t testing.TB, v any) []byte {
	t.Helper()
	mode, err := cbor.CTAP2EncOptions().EncMode()
	if err != nil {
		t.Fatal(err)
	}
	b, err := mode.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func toJSON(t testing.TB, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

var b64 = base64.RawURLEncoding.EncodeToString

// creates is what a browser answers to a Creation (WebAuthn §5.1.8, PublicKeyCredential.toJSON).
func creates(t testing.TB, a *passkeytest.Authenticator, c *Creation, change ...func(*newborn)) []byte {
	t.Helper()
	n := newborn{
		Type: "webauthn.create", Origin: site.Origins[0], RPID: c.RelyingParty.ID, Flags: passkeytest.Flags | 0x40, ID: a.ID, COSE: coseKey(t, a),
		Format: "none", Statement: map[string]any{}, Said: a.ID,
	}
	for _, f := range change {
		f(&n)
	}
	client := toJSON(t, map[string]any{"type": n.Type, "challenge": b64(c.Challenge), "origin": n.Origin, "crossOrigin": n.CrossOrigin})
	hash := sha256.Sum256([]byte(n.RPID))
	data := binary.BigEndian.AppendUint32(append(hash[:], n.Flags), a.Counter)
	data = append(data, make([]byte, 16)...)
	data = binary.BigEndian.AppendUint16(data, uint16(len(n.ID)))
	data = append(append(append(data, n.ID...), marshal(t, n.COSE)...), n.Extra...)
	object := marshal(t, map[string]any{"fmt": n.Format, "attStmt": n.Statement, "authData": data})
	if a.Counter > 0 {
		a.Counter++
	}
	return toJSON(t, map[string]any{
		"id": b64(n.Said), "rawId": b64(n.Said), "type": "public-key", "clientExtensionResults": map[string]any{},
		"response": map[string]any{"clientDataJSON": b64(client), "attestationObject": b64(object), "transports": []string{"internal", "carrier-pigeon"}},
	})
}

// asserts is what a browser answers to a Request.
func asserts(t testing.TB, a *passkeytest.Authenticator, r *Request, person string, change ...func(*passkeytest.Use)) []byte {
	t.Helper()
	return sent(t, a.Assert(t, site, protocol.Hash(r.Challenge), change...), person)
}

func sent(t testing.TB, a *protocol.Assertion, person string) []byte {
	t.Helper()
	return toJSON(t, map[string]any{
		"id": b64(a.Credential), "rawId": b64(a.Credential), "type": "public-key", "clientExtensionResults": map[string]any{},
		"response": map[string]any{
			"clientDataJSON": b64(a.ClientData), "authenticatorData": b64(a.AuthenticatorData), "signature": b64(a.Signature), "userHandle": b64([]byte(person)),
		},
	})
}

func (o *office) begun() *Request {
	o.t.Helper()
	r, err := o.BeginSignIn()
	if err != nil {
		o.t.Fatal(err)
	}
	return r
}

// registered returns a passkey of person, by an invitation.
func (o *office) registered(person string, kind passkeytest.Kind) *passkeytest.Authenticator {
	o.t.Helper()
	a, token := passkeytest.New(o.t, kind), o.invite(person)
	c, err := o.BeginInvited(context.Background(), token)
	if err != nil {
		o.t.Fatal(err)
	}
	if _, err := o.AddInvited(context.Background(), token, "Laptop", creates(o.t, a, c)); err != nil {
		o.t.Fatal(err)
	}
	return a
}

func ids(list []wan.CredentialDescriptor) []string {
	var all []string
	for _, d := range list {
		all = append(all, string(d.CredentialID))
	}
	slices.Sort(all)
	return all
}
