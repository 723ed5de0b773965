// Package enrol answers terminals over HTTPS: enrolment and renewal in the shapes of EST (RFC 7030), and the settings
// that follow.
//
//	GET  protocol.PathCACerts    the root and the issuing CA (§4.1), after a change of the root with what leads from and to the one before (§4.1.3)
//	POST protocol.PathEnroll     a voucher by HTTP Basic, a PKCS #10 request; the terminal's certificate (§4.2.1)
//	                             with the terminal's certificate by TLS beside the voucher, a terminal that moves to another home
//	POST protocol.PathReenroll   the terminal's certificate by TLS, a request for the same key; a new certificate (§4.2.2). Or, if the clinic has ordered
//	                             it (protocol.KeyOrder), a request for the key that is to replace it, which names the present one
//	GET  protocol.PathSettings   the terminal's certificate by TLS, or the voucher that let it in by HTTP Basic (a technician's laptop
//	                             enrolled it); protocol.Settings in CBOR
//	GET  protocol.PathRelay      the terminal's certificate by TLS; protocol.RelayServers
//	POST protocol.PathTestCall   the terminal's certificate by TLS, a protocol.TestCallRequest; protocol.TestCall
//	GET  protocol.PathClock      ?nonce=<32 hexadecimal digits>; a signed protocol.Clock, for anybody
//	GET  protocol.PathTrust      the signed protocol.Trust, for anybody; as with the settings, ?trust=<serial number> names the one that the asker has
//
// A response to enrolment holds, in base64 PKCS #7, the issued certificate and behind it those up to the root, which §4.2.3 would leave
// to PathCACerts: a terminal that has the one without the other could not show its chain.
// Renewal is open to a certificate that has expired, of any age, if the register knows its key and it is not revoked: a terminal that lay in
// a cupboard for a year comes back by itself.
//
// Every refusal has a code of protocol.Register in the header protocol.FailureHeader and its sentence as plain text.
// Requests are bounded in size and in number: of a terminal that shows its certificate by its key, of others by address.
package enrol

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"golang.org/x/time/rate"

	"vindu/clinic/authority"
	"vindu/clinic/pace"
	"vindu/clinic/register"
	"vindu/protocol"
)

// maxBody bounds a request's body: a certification request in base64 with line breaks.
const maxBody = 2 * authority.MaxRequest

// warnings is how many refusals a second are in the log, after the first 50.
const warnings = 1

const (
	typeRequest = "application/pkcs10"
	typeCerts   = "application/pkcs7-mime"
)

// Config is what the handler answers with.
type Config struct {
	Organisation string
	Authority    *authority.Authority
	Register     *register.Register
	// Relay returns the relay's servers with fresh credentials of a terminal; nil: there is none.
	Relay func(terminal protocol.KeyHash) []protocol.ICEServer
	// KeyLife is how old a terminal's key becomes; 0: as old as it likes, unless the clinic orders new ones.
	KeyLife time.Duration
	// OrderElsewhere asks for an order for a new key where the authorisation key is not on this server, and returns it once it is signed; nil: there is none then.
	OrderElsewhere func(ctx context.Context, ask *protocol.KeyOrder) ([]byte, error)
	// KeyStays tells that a terminal's key is not replaced now, because it is about to be destroyed; nil: of none.
	KeyStays func(ctx context.Context, key protocol.KeyHash) (bool, error)
	// TestCall has the robot call, by a path if one is named, or tells how that call goes; nil: there is no robot.
	TestCall func(t register.Terminal, call protocol.CallID, path string) (*protocol.TestCall, error)
	// Policy returns the signed policy of a terminal, nil if it has none: then it answers nobody. Nil: none has.
	Policy func(ctx context.Context, terminal protocol.KeyHash) ([]byte, error)
	// Coming returns the call that a home is told of, nil if it is told of none. Nil: no home is.
	Coming func(ctx context.Context, home string) (*protocol.Coming, error)
	// Rehearse is when terminals rehearse by themselves; nil: never.
	Rehearse *protocol.Window
	// Withdrawn returns the mandates that terminals are not to take any more; nil: there are none.
	Withdrawn func(context.Context) ([]protocol.Nonce, error)
	// Report takes what a terminal tells without the broker, and returns the signed acknowledgements of what is committed; nil: nobody does.
	Report func(ctx context.Context, terminal protocol.KeyHash, r *protocol.Report) ([][]byte, error)
	Log    *slog.Logger
}

// Server answers terminals. It is an http.Handler, to be served with the TLS configuration of TLS.
type Server struct {
	Config
	mux     *http.ServeMux
	callers all
	warned  *rate.Limiter
	now     func() time.Time
}

// New makes a server.
func New(c Config) *Server {
	s := &Server{Config: c, mux: http.NewServeMux(), callers: newAll(), warned: rate.NewLimiter(warnings, 50*warnings), now: time.Now}
	s.handle("GET "+protocol.PathCACerts, s.caCerts)
	s.handle("POST "+protocol.PathEnroll, s.enroll)
	s.handle("POST "+protocol.PathReenroll, s.reenroll)
	s.handle("GET "+protocol.PathSettings, s.settings)
	s.handle("GET "+protocol.PathClock, s.clock)
	s.handle("GET "+protocol.PathTrust, s.trust)
	if c.Relay != nil {
		s.handle("GET "+protocol.PathRelay, s.relay)
	}
	if c.TestCall != nil {
		s.handle("POST "+protocol.PathTestCall, s.testCall)
	}
	if c.Report != nil {
		s.handle("POST "+protocol.PathReport, s.report)
	}
	s.handle("/", func(http.ResponseWriter, *http.Request) error {
		return &refusal{http.StatusNotFound, protocol.SignalMalformed, errors.New("no such path or method")}
	})
	return s
}

// TLS returns the configuration for the listener: TLS 1.3, a client certificate asked for but judged by each request,
// since enrolment has none and renewal may come with an expired one.
func TLS(leaf *authority.Leaf) *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		GetCertificate:         leaf.GetCertificate,
		ClientAuth:             tls.RequestClientCert,
		NextProtos:             []string{"h2", "http/1.1"},
		SessionTicketsDisabled: true, // a terminal comes once in 20 days
	}
}

// refusal is why a request is refused: what the peer is told, and the cause, which only the log is.
type refusal struct {
	status int
	code   protocol.Code
	cause  error
}

func (r *refusal) Error() string { return fmt.Sprintf("%s: %v", r.code, r.cause) }
func (r *refusal) Unwrap() error { return r.cause }

func (s *Server) handle(pattern string, f func(w http.ResponseWriter, r *http.Request) error) {
	s.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		if !s.allow(r) {
			w.Header().Set("Retry-After", "10")
			s.refuse(w, r, &refusal{http.StatusTooManyRequests, protocol.LinkTooMany, errors.New("too many requests from one address")})
			return
		}
		if err := f(w, r); err != nil {
			s.refuse(w, r, err)
		}
	})
}

// allow bounds requests: of a terminal that has proven its key by that key, of others by where they come from.
func (s *Server) allow(r *http.Request) bool {
	now := s.now()
	if r.URL.Path == protocol.PathClock || r.URL.Path == protocol.PathTrust {
		return s.callers.clocks.Allow(pace.Place(r.RemoteAddr), now)
	}
	if r.TLS != nil && len(r.TLS.PeerCertificates) > 0 {
		if key, err := s.Authority.Terminal(r.TLS.PeerCertificates[0]); err == nil {
			return s.callers.terminals.Allow(key, now)
		}
	}
	return s.callers.strangers.Allow(pace.Place(r.RemoteAddr), now)
}

func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

func (s *Server) refuse(w http.ResponseWriter, r *http.Request, err error) {
	var known *refusal
	if !errors.As(err, &known) {
		level := slog.LevelError
		if r.Context().Err() != nil { // who asked has gone meanwhile; nobody has to act
			level = slog.LevelDebug
		}
		s.Log.Log(r.Context(), level, "enrolment failed", "path", r.URL.Path, "error", err)
		w.Header().Set("Retry-After", "30")
		known = &refusal{http.StatusServiceUnavailable, protocol.LinkClinicFailed, err}
	} else {
		level := slog.LevelWarn
		if known.code == protocol.LinkTooMany || !s.warned.Allow() {
			level = slog.LevelDebug // of them there can be as many as somebody likes
		}
		s.Log.Log(r.Context(), level, "terminal refused", "path", r.URL.Path, "remote", r.RemoteAddr, "code", known.code, "cause", known.cause)
	}
	f := protocol.Explain(known.code)
	w.Header().Set(protocol.FailureHeader, string(f.Code))
	http.Error(w, strings.TrimSpace(f.Sentence+" "+f.Next), known.status)
}

func (s *Server) caCerts(w http.ResponseWriter, r *http.Request) error {
	return s.certificates(w, typeCerts, s.Authority.CACerts()...)
}

func (s *Server) certificates(w http.ResponseWriter, contentType string, certificates ...*x509.Certificate) error {
	body, err := protocol.EncodeCerts(certificates...)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Content-Transfer-Encoding", "base64") // RFC 7030 §4.1.3, though RFC 8951 §3.1 has it without meaning
	w.Header().Set("Cache-Control", "no-store")
	w.Write(body) // a peer that went away comes again
	return nil
}

func (s *Server) enroll(w http.ResponseWriter, r *http.Request) error {
	user, password, ok := r.BasicAuth()
	if !ok {
		w.Header().Set("WWW-Authenticate", `Basic realm="vindu"`)
		return &refusal{http.StatusUnauthorized, protocol.IdentityVoucher, errors.New("no voucher")}
	}
	id, secret, err := protocol.ParseCredentials(user, protocol.Secret(password))
	if err != nil {
		return &refusal{http.StatusUnauthorized, protocol.IdentityVoucher, err}
	}
	request, err := s.request(w, r)
	if err != nil {
		return err
	}
	letIn := s.Register.Enrol
	if r.TLS != nil && len(r.TLS.PeerCertificates) > 0 { // RFC 7030 §3.3.2
		if key, err := s.Authority.Terminal(r.TLS.PeerCertificates[0]); err == nil && key == request.Hash {
			newest, err := s.Register.Shown(r.Context(), key, r.TLS.PeerCertificates[0])
			if err != nil {
				return err
			}
			if newest { // an older one is what a copy has
				letIn = s.Register.Move
			}
		}
	}
	certificate, err := letIn(r.Context(), id, secret, request, s.Authority.IssueTerminal)
	if err != nil {
		return refuseRegister(err)
	}
	s.Log.Info("terminal enrolled", "terminal", request.Hash.Name(), "until", certificate.NotAfter)
	return s.certificates(w, typeCerts+"; smime-type=certs-only", append([]*x509.Certificate{certificate}, s.Authority.Chain()...)...)
}

// refuseRegister tells what the register refuses from what it could not do.
func refuseRegister(err error) error {
	switch code := protocol.CodeOf(err); code {
	case protocol.IdentityVoucher:
		return &refusal{http.StatusUnauthorized, code, err}
	case protocol.LinkTooMany:
		return &refusal{http.StatusTooManyRequests, code, err}
	case protocol.IdentityVoucherOld, protocol.IdentityVoucherUsed, protocol.IdentityClone, protocol.LinkRefused:
		return &refusal{http.StatusForbidden, code, err}
	}
	return err
}

// request reads a certification request.
func (s *Server) request(w http.ResponseWriter, r *http.Request) (*authority.Request, error) {
	if t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || t != typeRequest {
		return nil, &refusal{http.StatusUnsupportedMediaType, protocol.SignalMalformed, fmt.Errorf("content type is not %s", typeRequest)}
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		return nil, &refusal{http.StatusRequestEntityTooLarge, protocol.SignalMalformed, err}
	}
	if err != nil {
		return nil, &refusal{http.StatusBadRequest, protocol.SignalMalformed, err}
	}
	request, err := parseBody(body)
	if err != nil {
		return nil, &refusal{http.StatusBadRequest, protocol.SignalMalformed, err}
	}
	return request, nil
}

// parseBody decodes a request in base64 (RFC 8951 §3.1). White space may be anywhere.
func parseBody(body []byte) (*authority.Request, error) {
	der, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(string(body)), ""))
	if err != nil {
		return nil, fmt.Errorf("certification request: %w", err)
	}
	return authority.ParseRequest(der)
}

// terminal returns who the peer is by the certificate that it has proven in TLS. An expired one is let through if it may be.
func (s *Server) terminal(ctx context.Context, r *http.Request, expired bool) (register.Terminal, error) {
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return register.Terminal{}, &refusal{http.StatusForbidden, protocol.IdentityNone, errors.New("no client certificate")}
	}
	c := r.TLS.PeerCertificates[0]
	key, err := s.Authority.Terminal(c)
	if err != nil {
		return register.Terminal{}, &refusal{http.StatusForbidden, protocol.IdentityOtherClinic, err}
	}
	t, err := s.Register.AdmitBy(ctx, key, c)
	if err != nil {
		return register.Terminal{}, refuseRegister(err)
	}
	if !expired && s.now().After(c.NotAfter) {
		return register.Terminal{}, &refusal{http.StatusForbidden, protocol.IdentityExpired, fmt.Errorf("expired on %s", c.NotAfter)}
	}
	return t, nil
}

func (s *Server) reenroll(w http.ResponseWriter, r *http.Request) error {
	t, err := s.terminal(r.Context(), r, true)
	if err != nil {
		return err
	}
	request, err := s.request(w, r)
	if err != nil {
		return err
	}
	if _, err := s.Register.Shown(r.Context(), t.Key, r.TLS.PeerCertificates[0]); err != nil { // a copy is noticed, not kept out
		return err
	}
	certify := func(ctx context.Context) (*x509.Certificate, error) {
		return s.Register.Renew(ctx, request, s.Authority.IssueTerminal)
	}
	if request.Hash != t.Key {
		if err := s.maySucceed(r.Context(), t, request); err != nil {
			return err
		}
		certify = func(ctx context.Context) (*x509.Certificate, error) {
			return s.Register.Succeed(ctx, t.Key, request, s.Authority.IssueTerminal)
		}
	}
	certificate, err := certify(r.Context())
	if err != nil {
		return refuseRegister(err)
	}
	s.Log.Info("certificate renewed", "terminal", t.Key.Name(), "for", request.Hash.Name(), "until", certificate.NotAfter)
	return s.certificates(w, typeCerts+"; smime-type=certs-only", append([]*x509.Certificate{certificate}, s.Authority.Chain()...)...)
}

// terminalOf returns whose settings the peer may have: its own, or those of the terminal that its voucher let in.
func (s *Server) terminalOf(r *http.Request) (register.Terminal, error) {
	user, password, ok := r.BasicAuth()
	if !ok {
		return s.terminal(r.Context(), r, false)
	}
	id, secret, err := protocol.ParseCredentials(user, protocol.Secret(password))
	if err != nil {
		return register.Terminal{}, &refusal{http.StatusUnauthorized, protocol.IdentityVoucher, err}
	}
	t, err := s.Register.ByVoucher(r.Context(), id, secret)
	if err != nil {
		return register.Terminal{}, refuseRegister(err)
	}
	return t, nil
}

func (s *Server) settings(w http.ResponseWriter, r *http.Request) error {
	t, err := s.terminalOf(r)
	if err != nil {
		return err
	}
	order, err := s.keyOrder(r.Context(), t)
	if err != nil {
		return err
	}
	var withdrawn []protocol.Nonce
	if s.Withdrawn != nil {
		if withdrawn, err = s.Withdrawn(r.Context()); err != nil {
			return err
		}
	}
	var policy []byte
	if s.Policy != nil {
		if policy, err = s.Policy(r.Context(), t.Key); err != nil {
			return err
		}
	}
	var coming *protocol.Coming
	if s.Coming != nil {
		if coming, err = s.Coming(r.Context(), t.Home); err != nil {
			return err
		}
	}
	body, err := protocol.Encode(&protocol.Settings{
		Version: protocol.Version, Organisation: s.Organisation, Home: t.HomeLabel, Authorities: s.Authority.Authorities(), At: protocol.At(s.now()),
		Roots: s.Authority.RootChange(), Withdrawn: withdrawn, KeyOrder: order,
		Trust: s.trustFor(r), Policy: policy, Coming: coming, Rehearse: s.Rehearse,
	})
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/cbor")
	w.Header().Set("Cache-Control", "no-store")
	w.Write(body) // a peer that went away comes again
	return nil
}

// trustFor returns the trust for an asker who may have told which one it has.
func (s *Server) trustFor(r *http.Request) []byte {
	serial, err := strconv.ParseUint(r.URL.Query().Get(protocol.ParamTrust), 10, 64)
	if err != nil {
		serial = 0
	}
	return s.Authority.TrustAfter(serial)
}

// trust is for anybody: there is no secret in it.
func (s *Server) trust(w http.ResponseWriter, r *http.Request) error {
	body := s.trustFor(r)
	if body == nil {
		return errors.New("there is no trust yet")
	}
	w.Header().Set("Content-Type", `application/cose; cose-type="cose-sign1"`)
	w.Header().Set("Cache-Control", "no-store")
	w.Write(body) // a peer that went away comes again
	return nil
}

// clock tells the time, signed, to anybody: a terminal without one cannot verify more than the signature.
func (s *Server) clock(w http.ResponseWriter, r *http.Request) error {
	var nonce protocol.Nonce
	text := r.URL.Query().Get("nonce")
	if b, err := hex.DecodeString(text); err != nil || len(b) != len(nonce) {
		return &refusal{http.StatusBadRequest, protocol.SignalMalformed, errors.New("the nonce is not 32 hexadecimal digits")}
	} else {
		nonce = protocol.Nonce(b)
	}
	body, err := s.Authority.SignClock(&protocol.Clock{Version: protocol.Version, Nonce: nonce, At: protocol.At(s.now())})
	if err != nil {
		return &refusal{http.StatusBadRequest, protocol.SignalMalformed, err} // a nonce of zeros
	}
	w.Header().Set("Content-Type", `application/cose; cose-type="cose-sign1"`)
	w.Header().Set("Cache-Control", "no-store")
	w.Write(body) // a peer that went away comes again
	return nil
}
