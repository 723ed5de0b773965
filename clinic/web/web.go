package web

import (
	"context"
	"errors"
	"fmt"
	"html/template"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"vindu/clinic/calls"
	"vindu/clinic/fleet"
	"vindu/clinic/register"
	"vindu/protocol"
)

// Register knows homes and persons; register.Register is one.
type Register interface {
	Homes(ctx context.Context) ([]register.Home, error)
	Home(ctx context.Context, id string) (register.Home, error)
	Person(ctx context.Context, id string) (register.Person, error)
}

// Fleet knows which terminals are there; fleet.Fleet is one.
type Fleet interface {
	State(terminal protocol.KeyHash) fleet.State
	// Watch returns a channel that gets the terminals whose State changed, until cancel. When it is full, it is not added to.
	Watch() (changes <-chan protocol.KeyHash, cancel func())
}

// Calls sets calls up and keeps their records.
type Calls interface {
	// Start begins a call. A *calls.Failure says why it could not be set up; other errors wrap one of the
	// sentinels of package calls.
	Start(ctx context.Context, r calls.Request) (calls.Started, error)
	Candidates(ctx context.Context, person string, call protocol.CallID, signed []byte) error
	// Restart passes on an offer for another path, signed by the call's own key.
	Restart(ctx context.Context, person string, call protocol.CallID, restart *protocol.CallRestart) error
	// HangUp ends a call; signed is the caller's signed end, if there is one.
	HangUp(ctx context.Context, person string, call protocol.CallID, reason protocol.Code, signed []byte) error
	// Curtain passes on what a page has signed of its curtain.
	Curtain(ctx context.Context, person string, call protocol.CallID, signed []byte) error
	// Present notes who is there, as the caller says.
	Present(ctx context.Context, person string, call protocol.CallID, p calls.Present) error
	Report(ctx context.Context, person string, call protocol.CallID, half *protocol.CallRecord) error
	// Attempt keeps the page's half of an attempt that never left it.
	Attempt(ctx context.Context, person calls.Person, home string, half *protocol.CallRecord) error
	// Subscribe delivers the updates of the calls that person has begun on page, those after seq first, until cancel. The
	// channel is closed when the subscriber cannot keep up.
	Subscribe(person, page string, seq uint64) (updates <-chan calls.Update, cancel func())
	// Records returns the latest calls of person, latest first, at most limit.
	Records(ctx context.Context, person string, limit int) ([]calls.Record, error)
	// Record returns one call; the error wraps calls.ErrNotFound if it is not there or not this person's to see.
	Record(ctx context.Context, person string, call protocol.CallID) (calls.Record, error)
	// HomeCalls and HomeCall are what operators see of calls: without who called by name, what about, and who was there.
	HomeCalls(ctx context.Context, home string, from time.Time, limit int) ([]calls.Record, error)
	HomeCall(ctx context.Context, call protocol.CallID) (calls.Record, error)
}

// Relay gives out short-lived credentials for the clinic's TURN server.
type Relay interface {
	Servers() []protocol.ICEServer
}

// Options are what a Server needs.
type Options struct {
	Sessions *Sessions
	Register Register
	Fleet    Fleet
	Calls    Calls
	Relay    Relay
	// Authorisations are what clinicians call by, with passkeys of RelyingParty.
	Authorisations Authorisations
	RelyingParty   protocol.RelyingParty
	// Custody and Setup stand behind the pages of technicians and operators, who see nothing without.
	Custody Custody
	Setup   Setup
	Ledger  Ledger
	// Conditions is the history of what was wrong with terminals; nil: there is none.
	Conditions Conditions
	// Series is how terminals were in numbers; nil: nobody has kept it.
	Series Series
	// Marks are what operators say of conditions; nil: they cannot.
	Marks Marks
	// Passkeys and Staff stand behind sign-in by passkey and the administrators' pages, which are not there without.
	Passkeys Passkeys
	Staff    Staff
	// Rights stand behind those of the administrators' pages that say who may call whom; nil: there are none.
	Rights Rights
	// Provider is where persons can sign in besides, called ProviderName on the pages, and Identities says who they are here; nil: nowhere.
	Provider     IdentityProvider
	ProviderName string
	Identities   Identities
	// Announcements are what homes are told of calls that are to come, and Tell has a terminal fetch them; nil: homes are told of none.
	Announcements Announcements
	Tell          func(ctx context.Context, terminal protocol.KeyHash) error
	// Rehearse asks a terminal to rehearse, which it decides; nil: nobody can.
	Rehearse func(ctx context.Context, terminal protocol.KeyHash) error
	// Rehearsals is when terminals rehearse by themselves; nil: only when asked.
	Rehearsals *protocol.Window
	// Organisation is the clinic's name, as its staff know it.
	Organisation string
	// Hosts are the names (without port) by which browsers reach the pages over TLS; empty means any. Over plain HTTP
	// only names of the loopback are answered.
	Hosts []string
	Log   *slog.Logger
}

// Server serves the pages, in each language alike.
type Server struct {
	*site
	words     words
	templates *template.Template
	board     *board
	handler   http.Handler
}

// site is what the pages in all languages share.
type site struct {
	o       Options
	assets  *assets
	news    *news
	tongues []*Server // one for each language, in the order of languages

	refusals   seldom        // of pages
	looks      seldom        // at homes, of operators
	complaints *rate.Limiter // in the log, of what strangers do
	onces      onces
	flows      *flows

	mu      sync.Mutex
	streams map[streamKey]*stream // open event streams
	closing chan struct{}         // closed when Run ends: streams end too
	once    sync.Once
}

// New prepares a Server. Its pages stay as they are rendered until Run follows the fleet.
func New(o Options) (*Server, error) {
	all := &site{o: o, news: newNews(), streams: map[streamKey]*stream{}, closing: make(chan struct{}), complaints: rate.NewLimiter(complaintsPerSecond, 50)}
	var err error
	if all.flows, err = newFlows(); err != nil {
		return nil, err
	}
	if all.assets, err = loadAssets(); err != nil {
		return nil, err
	}
	for _, tag := range languages {
		s := &Server{site: all, board: newBoard()}
		if s.words, err = loadWords(tag); err != nil {
			return nil, err
		}
		if s.templates, err = loadTemplates(s.words, s.assets); err != nil {
			return nil, err
		}
		s.handler = s.routes()
		all.tongues = append(all.tongues, s)
	}
	return all.tongues[0], nil
}

// sweepEvery is how often expired sessions and links are forgotten.
const sweepEvery = time.Hour

// Run keeps open pages up to date until ctx ends; then their event streams end. It returns nil.
func (s *Server) Run(ctx context.Context) error {
	defer s.once.Do(func() { close(s.closing) })
	var wg sync.WaitGroup
	wg.Go(func() { s.follow(ctx) })
	wg.Go(func() {
		tick := time.NewTicker(sweepEvery)
		defer tick.Stop()
		for {
			if err := s.o.Sessions.sweep(ctx); err != nil && ctx.Err() == nil {
				s.o.Log.Error("expired sessions cannot be removed", "error", err)
			}
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	})
	wg.Wait()
	return nil
}

// ServeHTTP answers browsers, over TLS or, to loopback, plainly.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.tongues[spoken(r)].handler.ServeHTTP(w, r)
}

func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", s.page(s.only(register.Clinician, s.homesPage)))
	mux.HandleFunc("GET /calls/{call}", s.page(s.only(register.Clinician, s.recordPage)))
	mux.HandleFunc("GET /technician", s.page(s.only(register.Technician, s.technicianPage)))
	mux.HandleFunc("POST /technician/vouchers", s.form(register.Technician, s.issueVoucher))
	mux.HandleFunc("POST /technician/vouchers/{voucher}/withdraw", s.form(register.Technician, s.withdrawVoucher))
	mux.HandleFunc("GET /technician/shown/{shown}", s.page(s.only(register.Technician, s.showOnce)))
	mux.HandleFunc("GET /technician/replace", s.page(s.only(register.Technician, s.replacePage)))
	mux.HandleFunc("POST /technician/replace", s.form(register.Technician, s.endReplaced))
	mux.HandleFunc("POST /technician/replace/withdraw", s.form(register.Technician, s.keepReplaced))
	mux.HandleFunc("POST /technician/mandates", s.form(register.Technician, s.issueMandate))
	mux.HandleFunc("POST /technician/mandates/{mandate}/withdraw", s.form(register.Technician, s.withdrawMandate))
	mux.HandleFunc("GET /operator", s.page(s.only(register.Operator, s.operatorPage)))
	mux.HandleFunc("POST /operator/alarms/{alarm}", s.form(register.Operator, s.settleAlarm))
	mux.HandleFunc("GET /operator/homes/{home}", s.page(s.only(register.Operator, s.homeHistory)))
	mux.HandleFunc("POST /operator/homes/{home}/decommission", s.form(register.Operator, s.decommission))
	mux.HandleFunc("POST /operator/homes/{home}/revoke", s.form(register.Operator, s.revokeTerminal))
	mux.HandleFunc("POST /operator/homes/{home}/decommission/withdraw", s.form(register.Operator, s.withdrawOrder))
	mux.HandleFunc("POST /operator/homes/{home}/provider", s.form(register.Operator, s.setProvider))
	if s.o.Rehearse != nil {
		mux.HandleFunc("POST /operator/homes/{home}/rehearse", s.form(register.Operator, s.rehearse))
	}
	if s.o.Marks != nil {
		mux.HandleFunc("POST /operator/homes/{home}/conditions/{code}", s.form(register.Operator, s.markCondition))
	}
	mux.HandleFunc("GET /operator/homes/{home}/calls", s.page(s.only(register.Operator, s.homeCalls)))
	mux.HandleFunc("GET /operator/homes/{home}/calls.csv", s.page(s.only(register.Operator, s.exportCalls("csv"))))
	mux.HandleFunc("GET /operator/homes/{home}/calls.json", s.page(s.only(register.Operator, s.exportCalls("json"))))
	mux.HandleFunc("GET /operator/calls/{call}", s.page(s.only(register.Operator, s.overseenCall)))
	if s.o.Series != nil {
		mux.HandleFunc("GET /operator/homes/{home}/series", s.apiFor(register.Operator, s.series))
	}
	mux.HandleFunc("GET /operator/fleet.csv", s.page(s.only(register.Operator, s.exportFleet("csv"))))
	mux.HandleFunc("GET /operator/fleet.json", s.page(s.only(register.Operator, s.exportFleet("json"))))
	mux.HandleFunc("GET /operator/events", s.apiFor(register.Operator, s.live))
	s.passkeyRoutes(mux)
	s.identityRoutes(mux)
	s.administratorRoutes(mux)
	mux.HandleFunc("GET /enter/{token}", s.enter)
	mux.HandleFunc("POST /enter/{token}", s.enterAnew)
	mux.HandleFunc("POST /leave", s.leave)
	mux.HandleFunc("POST /language", s.language(mux))
	mux.HandleFunc("GET /assets/{name}", s.assets.serve)
	mux.HandleFunc("GET /favicon.ico", s.assets.favicon)
	mux.HandleFunc("GET /events", s.api(s.events))
	mux.HandleFunc("GET /api/session", s.api(func(w http.ResponseWriter, _ *http.Request, _ visitor) { w.WriteHeader(http.StatusNoContent) }))
	mux.HandleFunc("GET /api/ice", s.api(s.ice))
	mux.HandleFunc("GET /api/authorisation", s.api(s.authorisation))
	mux.HandleFunc("POST /api/calls", s.api(s.startCall))
	if s.o.Rehearse != nil {
		mux.HandleFunc("POST /api/homes/{home}/rehearsal", s.api(s.rehearseOwn))
	}
	if s.o.Announcements != nil {
		mux.HandleFunc("POST /api/homes/{home}/announcement", s.api(s.announce))
	}
	mux.HandleFunc("POST /api/calls/{call}/candidates", s.api(s.candidates))
	mux.HandleFunc("POST /api/calls/{call}/restart", s.api(s.restart))
	mux.HandleFunc("POST /api/calls/{call}/hang-up", s.api(s.hangUp))
	mux.HandleFunc("POST /api/calls/{call}/curtain", s.api(s.curtain))
	mux.HandleFunc("POST /api/calls/{call}/present", s.api(s.present))
	mux.HandleFunc("POST /api/calls/{call}/record", s.api(s.report))
	mux.HandleFunc("POST /api/calls/{call}/attempt", s.api(s.attempt))
	mux.HandleFunc("GET /api/calls/{call}/verdict", s.api(s.verdict))
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { s.fail(w, r, http.StatusNotFound, "error.404") })

	origin := http.NewCrossOriginProtection()
	origin.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.complain(r, "request of another site refused", "path_length", len(r.URL.Path))
		s.fail(w, r, http.StatusForbidden, "error.403")
	}))
	return s.harden(origin.Handler(mux))
}

const complaintsPerSecond = 1

// complain warns of what anybody can do as often as they like: what is beyond complaintsPerSecond, after the first 50, is for debugging alone.
func (s *Server) complain(r *http.Request, message string, attributes ...any) {
	level := slog.LevelWarn
	if !s.complaints.Allow() {
		level = slog.LevelDebug
	}
	s.o.Log.Log(r.Context(), level, message, attributes...)
}

// policy is the Content-Security-Policy of every page. "data:" is for nothing: not even an image is inline.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; font-src 'self'; connect-src 'self'; " +
	"media-src 'self' blob:; form-action 'self'; frame-ancestors 'none'; base-uri 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

// harden sets what holds for every response and refuses what reached this server by a name that is not its own, such as
// by DNS rebinding.
func (s *Server) harden(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("Permissions-Policy", "camera=(self), microphone=(self), autoplay=(self), geolocation=(), display-capture=(), usb=(), serial=(), payment=()")
		h.Set("Referrer-Policy", "same-origin")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		if r.TLS != nil {
			h.Set("Strict-Transport-Security", "max-age=31536000")
		}
		if !s.answersTo(r) {
			http.Error(w, "This name or address is not one by which this server answers.", http.StatusMisdirectedRequest)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (s *Server) answersTo(r *http.Request) bool {
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.ToLower(strings.Trim(host, "[]"))
	if r.TLS != nil {
		return len(s.o.Hosts) == 0 || slices.Contains(s.o.Hosts, host)
	}
	local, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	if !ok || !local.IP.IsLoopback() {
		return false
	}
	ip := net.ParseIP(host)
	return host == "localhost" || (ip != nil && ip.IsLoopback())
}

// visitor is who is signed in.
type visitor struct {
	person  register.Person
	expires time.Time
	session string
	passkey []byte    // by which the session was begun; nil: by a link
	touched time.Time // when the person last used a passkey
}

// cookieName binds the cookie to this host and to TLS where there is TLS (RFC 6265bis §4.1.3). Where there is none it names the
// port, which cookies do not know by themselves: two clinics on one machine's localhost would sign each other's people out.
func cookieName(r *http.Request) string {
	if r.TLS != nil {
		return "__Host-vindu"
	}
	if address, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr); ok {
		return fmt.Sprintf("vindu-%d", address.Port)
	}
	return "vindu"
}

func setCookie(w http.ResponseWriter, r *http.Request, value string, expires time.Time) {
	c := &http.Cookie{
		Name: cookieName(r), Value: value, Path: "/", Expires: expires, HttpOnly: true, Secure: r.TLS != nil, SameSite: http.SameSiteLaxMode,
	}
	if value == "" {
		c.MaxAge = -1
	}
	http.SetCookie(w, c)
}

// visitor finds out who asks. The error wraps errNoSession if nobody is signed in.
func (s *Server) visitor(r *http.Request) (visitor, error) {
	cookie, err := r.Cookie(cookieName(r))
	if err != nil {
		return visitor{}, errNoSession
	}
	h, err := s.o.Sessions.find(r.Context(), cookie.Value)
	if err != nil {
		return visitor{}, err
	}
	if h.passkey != nil { // a session does not outlive its passkey
		if s.o.Passkeys == nil {
			return visitor{}, errNoSession
		}
		usable, err := s.o.Passkeys.Usable(r.Context(), h.person, h.passkey)
		if err != nil {
			return visitor{}, err
		}
		if !usable {
			return visitor{}, fmt.Errorf("%w: %w", errNoSession, errPasskeyGone)
		}
	}
	if h.identity != nil { // nor its identity
		if s.o.Identities == nil {
			return visitor{}, errNoSession
		}
		holds, err := s.o.Identities.Holds(r.Context(), h.identity, h.person)
		if err != nil {
			return visitor{}, err
		}
		if !holds {
			return visitor{}, errNoSession
		}
	}
	person, err := s.o.Register.Person(r.Context(), h.person)
	if errors.Is(err, register.ErrNotFound) {
		return visitor{}, errNoSession
	}
	if err != nil {
		return visitor{}, fmt.Errorf("who is signed in: %w", err)
	}
	return visitor{person, h.expires, cookie.Value, h.passkey, h.touched}, nil
}
