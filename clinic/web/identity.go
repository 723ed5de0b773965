package web

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"vindu/clinic/audit"
	"vindu/clinic/oidc"
	"vindu/clinic/pace"
	"vindu/clinic/register"
)

// IdentityProvider is where persons can sign in besides; oidc.Provider is one.
type IdentityProvider interface {
	Begin(ctx context.Context) (address string, f oidc.Flow, err error)
	Finish(ctx context.Context, f oidc.Flow, query url.Values) (oidc.Identity, error)
}

// Identities say which identity is which person; oidc.Links is one.
type Identities interface {
	Person(ctx context.Context, i oidc.Identity) (person string, identity []byte, err error)
	Holds(ctx context.Context, identity []byte, person string) (bool, error)
	Of(ctx context.Context, person string) ([]oidc.Linked, error)
	Link(ctx context.Context, by, person, code string) error
	Unlink(ctx context.Context, by, person string, also func(ctx context.Context, tx *sql.Tx, person string) error) (int64, error)
}

const (
	signInWith = "/sign-in/with" // the provider
	// SignInBack is the path to which an identity provider sends the browser back.
	SignInBack = "/sign-in/back"

	flowCookie       = "identity"
	maxUsedFlows     = 4096
	maxIdentityQuery = 8 << 10
)

// Bounds of those who come back from the provider with a code: the provider is asked for each. Who begins sign-ins and makes codes up takes the share of the own address
// first; behind it there may be a whole clinic.
var (
	finishesOfPlace = pace.Bound{PerSecond: 1, Burst: 20}
	finishes        = pace.Bound{PerSecond: 10, Burst: 60}
)

// errEnded is wrapped when somebody signed in at the provider before all sign-ins of this person were ended.
var errEnded = errors.New("the person was signed out everywhere after this sign-in at the identity provider")

func (s *Server) identityRoutes(mux *http.ServeMux) {
	if s.o.Provider == nil {
		return
	}
	mux.HandleFunc("GET "+signInWith, s.beginIdentity)
	mux.HandleFunc("GET "+SignInBack, s.finishIdentity)
}

// flows seals what has to be kept while a person is at the provider into a cookie of the person's own browser: so an answer that is brought by another browser is worth
// nothing, and strangers fill no memory. Each is good once.
type flows struct {
	seal   cipher.AEAD
	places *pace.Callers[netip.Prefix]
	all    *rate.Limiter
	mu     sync.Mutex
	used   map[string]time.Time // states, until when they would be good
}

func newFlows() (*flows, error) {
	var key [32]byte
	rand.Read(key[:])
	block, err := aes.NewCipher(key[:])
	if err != nil {
		return nil, err
	}
	seal, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, err
	}
	return &flows{
		seal: seal, places: pace.New[netip.Prefix](finishesOfPlace), all: rate.NewLimiter(finishes.PerSecond, finishes.Burst), used: map[string]time.Time{},
	}, nil
}

// allow bounds how often the provider is asked.
func (f *flows) allow(remote string, now time.Time) bool {
	return f.places.Allow(pace.Place(remote), now) && f.all.AllowN(now, 1)
}

var flowPurpose = []byte("vindu/identity-flow.v1")

func (f *flows) wrap(flow oidc.Flow) (string, error) {
	b, err := json.Marshal(flow)
	if err != nil {
		return "", err
	}
	return base64.RawURLEncoding.EncodeToString(f.seal.Seal(nil, nil, b, flowPurpose)), nil
}

// open opens what wrap made. It does not use it up.
func (f *flows) open(cookie string, now time.Time) (flow oidc.Flow, ok bool) {
	b, err := base64.RawURLEncoding.DecodeString(cookie)
	if err == nil {
		b, err = f.seal.Open(nil, nil, b, flowPurpose)
	}
	if err == nil {
		err = json.Unmarshal(b, &flow)
	}
	if err != nil || now.Sub(flow.Began) > oidc.FlowLife {
		return oidc.Flow{}, false
	}
	return flow, true
}

// take uses a flow up, and reports whether it was not before.
func (f *flows) take(flow oidc.Flow, now time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, twice := f.used[flow.State]; twice {
		return false
	}
	for state, until := range f.used {
		if now.After(until) || len(f.used) >= maxUsedFlows { // the provider takes each code once, too
			delete(f.used, state)
		}
	}
	f.used[flow.State] = flow.Began.Add(oidc.FlowLife)
	return true
}

// flowCookieName is beside the session's, and bound as that is.
func flowCookieName(r *http.Request) string { return cookieName(r) + "-" + flowCookie }

func setFlowCookie(w http.ResponseWriter, r *http.Request, value string) {
	c := &http.Cookie{
		Name: flowCookieName(r), Value: value, Path: "/", MaxAge: int(oidc.FlowLife.Seconds()), HttpOnly: true, Secure: r.TLS != nil,
		SameSite: http.SameSiteLaxMode, // the provider's page leads back here
	}
	if value == "" {
		c.MaxAge = -1
	}
	http.SetCookie(w, c)
}

// beginIdentity sends the browser to the provider. Another site cannot: it would be the beginning of a sign-in that nobody asked for.
func (s *Server) beginIdentity(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodHead || r.Header.Get("Sec-Purpose") != "" || r.Header.Get("Purpose") != "" {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	if site := r.Header.Get("Sec-Fetch-Site"); site != "" && site != "none" && site != "same-origin" {
		http.Redirect(w, r, "/sign-in", http.StatusSeeOther)
		return
	}
	// The provider sends the browser back to one of the pages' addresses: the cookie has to be that one's.
	if u, err := url.Parse(s.address(r)); err == nil && u.Host != r.Host {
		http.Redirect(w, r, s.address(r)+"/sign-in", http.StatusSeeOther)
		return
	}
	address, flow, err := s.o.Provider.Begin(r.Context())
	if err != nil {
		s.identityAway(w, r, err)
		return
	}
	sealed, err := s.flows.wrap(flow)
	if err != nil {
		s.broken(w, r, err)
		return
	}
	setFlowCookie(w, r, sealed)
	http.Redirect(w, r, address, http.StatusSeeOther)
}

// identityNotice says why nobody was signed in by the provider.
func (s *Server) identityNotice(w http.ResponseWriter, r *http.Request, status int, key string) {
	n := names{"name": s.o.ProviderName}
	s.render(w, r, status, "notice", notice{s.frame(s.words["enter.title"], nil), s.words.say("identity."+key, n), s.words.say("identity."+key+".next", n), true})
}

func (s *Server) identityAway(w http.ResponseWriter, r *http.Request, err error) {
	if !errors.Is(err, oidc.ErrProvider) {
		s.broken(w, r, err)
		return
	}
	s.complain(r, "identity provider does not answer", "error", err)
	s.identityNotice(w, r, http.StatusServiceUnavailable, "away")
}

// identityRefused says that nobody was signed in by what came back from the provider.
func (s *Server) identityRefused(w http.ResponseWriter, r *http.Request, query url.Values, err error) {
	s.complain(r, "answer of the identity provider refused", "error", err)
	if query.Get("error") == "access_denied" {
		s.identityNotice(w, r, http.StatusForbidden, "cancelled")
	} else {
		s.identityNotice(w, r, http.StatusForbidden, "refused")
	}
}

// finishIdentity takes what the browser brings back from the provider, and signs in whom an administrator has linked to it.
func (s *Server) finishIdentity(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Referrer-Policy", "no-referrer")
	var sealed string
	if cookie, err := r.Cookie(flowCookieName(r)); err == nil {
		sealed = cookie.Value
	}
	now, other := time.Now(), func() {
		s.complain(r, "answer of the identity provider refused", "error", "not of a sign-in that this browser has begun, or used before")
		s.identityNotice(w, r, http.StatusForbidden, "other")
	}
	flow, ok := s.flows.open(sealed, now)
	if !ok || len(r.URL.RawQuery) > maxIdentityQuery {
		other()
		return
	}
	query := r.URL.Query()
	// Until here, and as long as it is bounded, nothing is used up: another site that sends the browser here spoils no sign-in, and who is told to wait comes again.
	if _, err := flow.Code(query); err != nil {
		s.identityRefused(w, r, query, err)
		return
	}
	if !s.flows.allow(r.RemoteAddr, now) {
		s.complain(r, "answers of the identity provider come too often")
		s.identityNotice(w, r, http.StatusServiceUnavailable, "busy")
		return
	}
	if !s.flows.take(flow, now) {
		other()
		return
	}
	setFlowCookie(w, r, "")
	i, err := s.o.Provider.Finish(r.Context(), flow, query)
	switch {
	case errors.Is(err, oidc.ErrRefused):
		s.identityRefused(w, r, query, err)
		return
	case err != nil:
		s.identityAway(w, r, err)
		return
	}
	person, identity, err := s.o.Identities.Person(r.Context(), i)
	if unknown, ok := errors.AsType[*oidc.Unknown](err); ok {
		s.unknownIdentity(w, r, unknown.Code, identity, i)
		return
	}
	var session string
	var expires time.Time
	if err == nil {
		if _, err = s.o.Register.Person(r.Context(), person); err == nil {
			session, expires, err = s.o.Sessions.beginBy(r.Context(), person, identity, i)
		}
	}
	switch {
	case errors.Is(err, oidc.ErrFull):
		s.complain(r, "too many wait to be linked", "issuer", i.Issuer)
		s.identityNotice(w, r, http.StatusServiceUnavailable, "full")
		return
	case errors.Is(err, errEnded):
		s.complain(r, "sign-in at the identity provider refused", "person", person, "error", err)
		s.identityNotice(w, r, http.StatusForbidden, "ended")
		return
	case err != nil:
		s.broken(w, r, err)
		return
	}
	s.leaveBefore(r)
	setCookie(w, r, session, expires)
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

// unknownView is the page for somebody whom nobody has linked yet.
type unknownView struct {
	frame
	Code, Name string
}

func (s *Server) unknownIdentity(w http.ResponseWriter, r *http.Request, code string, identity []byte, i oidc.Identity) {
	if s.refusals.tell("identity "+string(identity), time.Now()) { // each once an hour: whoever has an account there can come as often as they like
		s.o.Log.Warn("identity is not linked to a person", "issuer", i.Issuer, "code", code)
		if err := s.o.Sessions.note(r.Context(), audit.Entry{Who: "stranger", What: audit.IdentityRefused, Subject: i.Issuer, Detail: map[string]string{"code": code, "level": i.Assurance}}); err != nil {
			s.o.Log.Error("identity that is not linked is not in the audit log", "error", err)
		}
	}
	s.render(w, r, http.StatusForbidden, "unknown-identity", unknownView{s.frame(s.words.say("identity.unknown", names{"name": s.o.ProviderName}), nil), code, s.o.ProviderName})
}

// identityView is the part of a person's page about sign-in by the provider.
type identityView struct {
	formView
	Name   string
	Linked []string
	Code   string
}

func (s *Server) identityOf(ctx context.Context, person string) (*identityView, error) {
	if s.o.Provider == nil {
		return nil, nil
	}
	list, err := s.o.Identities.Of(ctx, person)
	if err != nil {
		return nil, err
	}
	v := &identityView{Name: s.o.ProviderName}
	for _, one := range list {
		v.Linked = append(v.Linked, s.words.say("identity.linked", names{"issuer": one.Issuer, "at": s.words.full(one.At)}))
	}
	return v, nil
}

func (s *Server) linkIdentity(w http.ResponseWriter, r *http.Request, v visitor) {
	p, ok := s.whom(w, r)
	if !ok {
		return
	}
	view := identityView{Code: r.PostForm.Get("code")}
	switch err := s.o.Identities.Link(r.Context(), v.person.Who(), p.ID, view.Code); {
	case err == nil:
		http.Redirect(w, r, personPath(p.ID)+"#identity-title", http.StatusSeeOther)
		return
	case errors.Is(err, oidc.ErrCode):
		view.Bad.add("code", s.words["identity.bad.code"])
	case errors.Is(err, oidc.ErrLinked):
		view.Bad.add("code", s.words["identity.bad.linked"])
	default:
		s.broken(w, r, err)
		return
	}
	s.personView(w, r, v, http.StatusUnprocessableEntity, personView{Identity: &view})
}

// unlinkIdentity takes the identities from a person. Sessions that were begun by them end.
func (s *Server) unlinkIdentity(w http.ResponseWriter, r *http.Request, v visitor) {
	p, ok := s.whom(w, r)
	if !ok {
		return
	}
	_, err := s.o.Identities.Unlink(r.Context(), v.person.Who(), p.ID, s.o.Sessions.endIdentities)
	s.Dismiss(p.ID)
	s.done(w, r, p.ID, err)
}

// beginBy begins the session of a person whom the identity provider has signed in; identity is by which that is kept. It is not fresh: what matters asks for a passkey.
// The error wraps errEnded if the person was signed out everywhere since.
func (s *Sessions) beginBy(ctx context.Context, person string, identity []byte, i oidc.Identity) (session string, expires time.Time, err error) {
	session, hash := newToken()
	now := s.now()
	expires = now.Add(SessionLife)
	err = s.store.Write(ctx, func(tx *sql.Tx) error {
		var ended bool
		if err := tx.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM web_ended WHERE person = ? AND at >= ?)", person, i.At.UnixMilli()).Scan(&ended); err != nil {
			return err
		}
		if ended {
			return errEnded
		}
		if _, err := tx.ExecContext(ctx, "INSERT INTO web_sessions (hash, person, created, expires, identity) VALUES (?, ?, ?, ?, ?)",
			hash, person, now.UnixMilli(), expires.UnixMilli(), identity); err != nil {
			return err
		}
		who := register.Person{ID: person}.Who()
		return s.audit.AppendTx(ctx, tx, audit.Entry{Who: who, What: audit.PersonSignedIn, Subject: who,
			Detail: map[string]string{"by": "identity provider", "issuer": i.Issuer, "level": i.Assurance, "signed_in_there": i.At.UTC().Format(time.RFC3339)}})
	})
	if err != nil {
		return "", time.Time{}, fmt.Errorf("sign in: %w", err)
	}
	return session, expires, nil
}

// endIdentities ends the sessions of a person that were begun at the identity provider, and has a later sign-in there be wanted for another.
func (s *Sessions) endIdentities(ctx context.Context, tx *sql.Tx, person string) error {
	if _, err := tx.ExecContext(ctx, "DELETE FROM web_sessions WHERE person = ? AND identity IS NOT NULL", person); err != nil {
		return err
	}
	_, err := tx.ExecContext(ctx, "INSERT INTO web_ended (person, at) VALUES (?1, ?2) ON CONFLICT (person) DO UPDATE SET at = max(at, excluded.at)", person, s.now().UnixMilli())
	return err
}
