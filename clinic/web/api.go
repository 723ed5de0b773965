package web

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"

	"vindu/clinic/calls"
	"vindu/clinic/register"
	"vindu/protocol"
)

const (
	// maxBody bounds what a browser may send: an offer, escaped.
	maxBody = protocol.MaxSDP + 16<<10
)

var pagePattern = regexp.MustCompile(`^[0-9a-f]{32}$`)

// api wraps a handler of what scripts of the clinicians' pages ask for.
func (s *Server) api(h func(http.ResponseWriter, *http.Request, visitor)) http.HandlerFunc {
	return s.apiFor(register.Clinician, h)
}

// apiFor wraps a handler of what scripts ask for on the pages of one duty.
func (s *Server) apiFor(duty register.Duty, h func(http.ResponseWriter, *http.Request, visitor)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		v, err := s.visitor(r)
		switch {
		case errors.Is(err, errNoSession):
			s.signedOut(w, err)
		case err != nil:
			s.broken(w, r, err)
		case v.person.Duty != duty || !s.serves(duty):
			s.notTheirs(r, v)
			s.refuse(w, http.StatusForbidden, protocol.AuthRevoked, s.words["error.404"])
		default:
			h(w, r, v)
		}
	}
}

// signedOut says that nobody is signed in, and whether that is because a passkey was removed: a call that runs ends for that reason.
func (s *Server) signedOut(w http.ResponseWriter, err error) {
	code := protocol.BrowserSignedOut
	if errors.Is(err, errPasskeyGone) {
		code = protocol.EndPasskeyRemoved
	}
	s.refuse(w, http.StatusUnauthorized, code, s.words["page.signed_out"])
}

// refuse says no, with the code for programs and the sentence for people.
func (s *Server) refuse(w http.ResponseWriter, status int, code protocol.Code, sentence string) {
	f := s.words.explain(code)
	if sentence == "" {
		sentence = f.Sentence
	}
	w.Header().Set(protocol.FailureHeader, string(code))
	reply(w, status, map[string]string{"code": string(code), "sentence": sentence, "next": f.Next})
}

func reply(w http.ResponseWriter, status int, body any) {
	b, err := json.Marshal(body)
	if err != nil {
		http.Error(w, "", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	w.Write(b)
}

// read decodes a body strictly: one JSON object, no field that is not known, bounded.
func read(w http.ResponseWriter, r *http.Request, into any) error {
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return fmt.Errorf("%w: %w", calls.ErrBadRequest, err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: something follows the object", calls.ErrBadRequest)
	}
	return nil
}

// answer reports what became of a request about a call.
func (s *Server) answer(w http.ResponseWriter, r *http.Request, err error) {
	var failed *calls.Failure
	var large *http.MaxBytesError
	switch {
	case err == nil:
		w.WriteHeader(http.StatusNoContent)
	case errors.As(err, &failed):
		s.refuse(w, http.StatusConflict, failed.Code, "")
	case errors.Is(err, calls.ErrBadRequest) && protocol.CodeOf(err) == protocol.BrowserFailed:
		s.refuse(w, http.StatusConflict, protocol.BrowserFailed, "")
	case errors.As(err, &large):
		s.refuse(w, http.StatusRequestEntityTooLarge, protocol.SignalMalformed, "")
	case errors.Is(err, calls.ErrBadRequest), errors.Is(err, protocol.ErrMalformed), errors.Is(err, protocol.ErrTooLarge), errors.Is(err, protocol.ErrVersion):
		s.complain(r, "request refused", "error", err)
		s.refuse(w, http.StatusBadRequest, protocol.SignalMalformed, "")
	case errors.Is(err, calls.ErrNotFound):
		s.refuse(w, http.StatusNotFound, protocol.BrowserFailed, "")
	case errors.Is(err, calls.ErrTooMany):
		s.refuse(w, http.StatusTooManyRequests, protocol.BrowserFailed, "")
	default:
		s.broken(w, r, err)
	}
}

func (s *Server) ice(w http.ResponseWriter, r *http.Request, _ visitor) {
	type server struct {
		URLs       []string `json:"urls"`
		Username   string   `json:"username,omitempty"`
		Credential string   `json:"credential,omitempty"`
	}
	servers := []server{}
	if s.o.Relay != nil {
		for _, i := range s.o.Relay.Servers() {
			servers = append(servers, server{i.URLs, i.Username, string(i.Credential)})
		}
	}
	reply(w, http.StatusOK, map[string]any{"servers": servers})
}

func (s *Server) startCall(w http.ResponseWriter, r *http.Request, v visitor) {
	var body struct {
		Home       string       `json:"home"`
		Page       string       `json:"page"`
		Offer      protocol.SDP `json:"offer"`
		Invitation []byte       `json:"invitation"`
		Assertion  struct {
			Credential        []byte `json:"credential"`
			AuthenticatorData []byte `json:"authenticator_data"`
			ClientData        []byte `json:"client_data"`
			Signature         []byte `json:"signature"`
		} `json:"assertion"`
	}
	if err := read(w, r, &body); err != nil {
		s.answer(w, r, err)
		return
	}
	if !pagePattern.MatchString(body.Page) || body.Offer == "" || len(body.Offer) > protocol.MaxSDP || body.Home == "" {
		s.answer(w, r, fmt.Errorf("%w: no page, home or offer", calls.ErrBadRequest))
		return
	}
	switch err := s.mayKnow(r.Context(), v.person.ID, body.Home); {
	case errors.Is(err, errNotTheirs):
		s.denied(r, v, "home "+body.Home)
		s.refuse(w, http.StatusForbidden, protocol.AuthNone, "")
		return
	case err != nil:
		s.broken(w, r, err)
		return
	}
	a := body.Assertion
	_, err := s.o.Calls.Start(r.Context(), calls.Request{
		Person: calls.Person{ID: v.person.ID, Party: v.person.Party}, Page: body.Page, Home: body.Home, Offer: body.Offer,
		Proof: calls.Proof{Invitation: body.Invitation, Assertion: &protocol.Assertion{Credential: a.Credential, AuthenticatorData: a.AuthenticatorData, ClientData: a.ClientData, Signature: a.Signature}},
	})
	s.poke(v.person.ID)
	if err != nil {
		s.answer(w, r, err)
		return
	}
	s.made(r.Context(), body.Home, v.person.ID)
	w.WriteHeader(http.StatusCreated)
}

// call reads the call's name from the path and the body into into.
func (s *Server) call(w http.ResponseWriter, r *http.Request, into any) (protocol.CallID, error) {
	id, err := protocol.ParseCallID(r.PathValue("call"))
	if err != nil {
		return id, err
	}
	return id, read(w, r, into)
}

func (s *Server) candidates(w http.ResponseWriter, r *http.Request, v visitor) {
	var body struct {
		Candidates []byte `json:"candidates"` // signed by the call's own key, for the terminal
	}
	id, err := s.call(w, r, &body)
	if err == nil {
		err = s.o.Calls.Candidates(r.Context(), v.person.ID, id, body.Candidates)
	}
	s.answer(w, r, err)
}

func (s *Server) restart(w http.ResponseWriter, r *http.Request, v visitor) {
	var body struct {
		Restart []byte       `json:"restart"` // signed by the call's own key, for the terminal
		SDP     protocol.SDP `json:"sdp"`
	}
	id, err := s.call(w, r, &body)
	if err == nil {
		err = s.o.Calls.Restart(r.Context(), v.person.ID, id, &protocol.CallRestart{Restart: body.Restart, SDP: body.SDP})
	}
	s.answer(w, r, err)
}

func (s *Server) curtain(w http.ResponseWriter, r *http.Request, v visitor) {
	var body struct {
		Curtain []byte `json:"curtain"` // signed by the call's own key, for the terminal
	}
	id, err := s.call(w, r, &body)
	if err == nil {
		err = s.o.Calls.Curtain(r.Context(), v.person.ID, id, body.Curtain)
	}
	s.answer(w, r, err)
}

func (s *Server) present(w http.ResponseWriter, r *http.Request, v visitor) {
	var body struct {
		With *calls.With `json:"with"`
		Home string      `json:"home"`
	}
	id, err := s.call(w, r, &body)
	if err == nil {
		err = s.o.Calls.Present(r.Context(), v.person.ID, id, calls.Present{With: body.With, Home: body.Home})
	}
	s.answer(w, r, err)
}

// reasons for which a page may end a call.
var reasons = map[protocol.Code]bool{
	protocol.EndCallerHungUp: true, protocol.EndPageClosed: true, protocol.SignalLostClinic: true, protocol.ICEFailed: true, protocol.ICELost: true,
	protocol.DTLSFailed: true, protocol.DTLSWeak: true, protocol.ProofAnswer: true, protocol.ProofFingerprint: true, protocol.ProofEnd: true, protocol.BrowserNoCamera: true,
	protocol.BrowserDenied: true, protocol.BrowserFailed: true, protocol.EndLapsed: true,
}

func (s *Server) hangUp(w http.ResponseWriter, r *http.Request, v visitor) {
	var body struct {
		Reason protocol.Code `json:"reason"`
		End    []byte        `json:"end"` // the caller's signed end; empty if the page had no time to sign one
	}
	id, err := s.call(w, r, &body)
	if err == nil && !reasons[body.Reason] {
		err = fmt.Errorf("%w: not a reason for which a page ends a call", calls.ErrBadRequest)
	}
	if err == nil {
		err = s.o.Calls.HangUp(r.Context(), v.person.ID, id, body.Reason, body.End)
	}
	s.answer(w, r, err)
	s.poke(v.person.ID)
}

// attempt takes the half of an attempt that ended in its page, before the clinic was asked for a call.
func (s *Server) attempt(w http.ResponseWriter, r *http.Request, v visitor) {
	var body struct {
		Home string               `json:"home"`
		Half *protocol.CallRecord `json:"half"`
	}
	id, err := s.call(w, r, &body)
	if err == nil && body.Half == nil {
		err = fmt.Errorf("%w: an attempt without its half of the record", calls.ErrBadRequest)
	}
	if err == nil {
		body.Half.Call = id
		err = body.Half.Validate()
	}
	if err == nil {
		if err = s.mayKnow(r.Context(), v.person.ID, body.Home); errors.Is(err, errNotTheirs) {
			s.denied(r, v, "home "+body.Home)
			s.refuse(w, http.StatusForbidden, protocol.AuthNone, "")
			return
		}
	}
	if err == nil {
		err = s.o.Calls.Attempt(r.Context(), calls.Person{ID: v.person.ID, Party: v.person.Party}, body.Home, body.Half)
	}
	s.answer(w, r, err)
	s.poke(v.person.ID)
}

// verdict says what became of a call that failed, and what the caller can do now. It says nothing of a call that is as it should be, nor where the page
// itself has said all of it.
func (s *Server) verdict(w http.ResponseWriter, r *http.Request, v visitor) {
	id, err := protocol.ParseCallID(r.PathValue("call"))
	if err != nil {
		s.answer(w, r, err)
		return
	}
	record, err := s.o.Calls.Record(r.Context(), v.person.ID, id)
	if err != nil {
		s.answer(w, r, err)
		return
	}
	d, f := record.Diagnosis.In(s.words["lang"]), s.words.explain(record.Outcome)
	said := struct {
		Sentence string `json:"sentence"`
		Now      string `json:"now"`
		Complete bool   `json:"complete"`
	}{Complete: record.NeverLeft || record.TerminalHalf != nil && record.CallerHalf != nil}
	known := d.What+"." == f.Sentence && d.Now == f.Next
	if d.What != "" && d.Who != protocol.Nobody && !known {
		said.Sentence, said.Now = d.Sentence(), d.Now
	}
	reply(w, http.StatusOK, said)
}

func (s *Server) report(w http.ResponseWriter, r *http.Request, v visitor) {
	half := new(protocol.CallRecord)
	id, err := s.call(w, r, half)
	if err == nil {
		half.Call = id
		if half.By != protocol.SideCaller {
			err = fmt.Errorf("%w: a page reports the caller's half only", calls.ErrBadRequest)
		}
	}
	if err == nil {
		err = half.Validate()
	}
	if err == nil {
		err = s.o.Calls.Report(r.Context(), v.person.ID, id, half)
	}
	s.answer(w, r, err)
	s.poke(v.person.ID)
}
