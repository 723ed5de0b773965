package web

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"time"

	"vindu/clinic/audit"
	"vindu/clinic/grants"
)

const (
	// uploadTime is how long a file of what was signed may take to come.
	uploadTime = 2 * time.Minute
	// shownWaiting is how many of what waits the page lists.
	shownWaiting = 200
	// fileName is what a browser calls the file of what waits.
	fileName = "vindu-waiting.json"
)

// signingView is the page of what waits to be signed.
type signingView struct {
	frame
	formView
	Here  bool // the key is on this server: nothing waits, but while it is replaced by one that is elsewhere
	Count string
	Any   bool
	Items []string // in the words that the machine with the key shows
	More  string
	Done  []string
}

func (s *Server) signingPage(w http.ResponseWriter, r *http.Request, v visitor) {
	s.signingView(w, r, v, http.StatusOK, signingView{})
}

func (s *Server) signingView(w http.ResponseWriter, r *http.Request, v visitor, status int, view signingView) {
	f, err := s.o.Rights.Waiting(r.Context(), s.o.Organisation)
	if err != nil {
		s.broken(w, r, err)
		return
	}
	view.frame, view.Here, view.Any = s.frame(s.words["signing.title"], &v), s.o.Rights.KeyHere(), len(f.Items) > 0
	s.refused(&view.frame, view.formView)
	view.Count = s.words["signing.none"]
	if view.Any {
		view.Count = s.words.count("signing.count.", len(f.Items))
	}
	for i := range f.Items {
		if i == shownWaiting {
			view.More = s.words.say("signing.more", names{"count": itoa(len(f.Items) - shownWaiting)})
			break
		}
		text := f.Items[i].Words()
		if f.Items[i].For != "" {
			text = f.Items[i].For + ": " + text
		}
		view.Items = append(view.Items, text)
	}
	s.render(w, r, status, "signing", view)
}

// writeWaiting hands out the file of what waits, the same as vindu-clinic waiting writes.
func (s *Server) writeWaiting(w http.ResponseWriter, r *http.Request, v visitor) {
	f, err := s.o.Rights.Waiting(r.Context(), s.o.Organisation)
	var b bytes.Buffer
	if err == nil {
		err = f.Write(&b)
	}
	if err == nil {
		err = s.o.Sessions.note(r.Context(), audit.Entry{Who: v.person.Who(), What: audit.WaitingWritten, Subject: "authorisation key", Detail: map[string]string{"items": itoa(len(f.Items))}})
	}
	if err != nil {
		s.broken(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Disposition", `attachment; filename="`+fileName+`"`)
	w.Write(b.Bytes())
}

// acceptSigned takes back what was signed. A file is not kept while its person is asked for a passkey: whoever has not used one lately is asked first, and chooses it again.
func (s *Server) acceptSigned(w http.ResponseWriter, r *http.Request, v visitor) {
	if !v.fresh(time.Now()) {
		http.Redirect(w, r, "/administrator/signing", http.StatusSeeOther) // which asks for it
		return
	}
	until := time.Now().Add(uploadTime)
	if c := http.NewResponseController(w); c != nil { // the server's own bounds are for pages
		if err := errors.Join(c.SetReadDeadline(until), c.SetWriteDeadline(until.Add(uploadTime))); err != nil {
			s.broken(w, r, err)
			return
		}
	}
	view, status := signingView{}, http.StatusUnprocessableEntity
	a, err := s.uploaded(w, r, v)
	bad := func(key string) { view.Bad.add("signed", s.words[key]) }
	switch {
	case err == nil:
		status = http.StatusOK
		view.Done = append(view.Done, s.words.count("signing.taken.", a.Taken))
	case errors.Is(err, errNoFile):
		bad("signing.bad.empty")
	case errors.Is(err, grants.ErrStale) && a.Unsigned > 0:
		bad("signing.bad.unsigned")
	case errors.Is(err, grants.ErrStale):
		bad("signing.bad.stale")
	case errors.Is(err, grants.ErrFile):
		bad("signing.bad.file")
	case errors.Is(err, grants.ErrForeign):
		s.o.Log.Warn("what was brought back signed is refused", "person", v.person.ID, "error", err)
		bad("signing.bad.foreign")
	default:
		s.broken(w, r, err)
		return
	}
	if err == nil && a.Stale > 0 {
		view.Done = append(view.Done, s.words.count("signing.stale.", a.Stale))
	}
	if err == nil && a.Unsigned > 0 {
		view.Done = append(view.Done, s.words.count("signing.unsigned.", a.Unsigned))
	}
	s.signingView(w, r, v, status, view)
}

// errNoFile is that a form sent no file.
var errNoFile = errors.New("no file was chosen")

func (s *Server) uploaded(w http.ResponseWriter, r *http.Request, v visitor) (grants.Accepted, error) {
	const besides = 64 << 10 // of the form's own
	r.Body = http.MaxBytesReader(w, r.Body, grants.MaxFile+besides)
	parts, err := r.MultipartReader() // read as it comes: nothing of it is written to a disk
	if err != nil {
		return grants.Accepted{}, errNoFile
	}
	for {
		part, err := parts.NextPart()
		if err != nil {
			return grants.Accepted{}, errNoFile
		}
		if part.FormName() != "signed" {
			continue
		}
		if part.FileName() == "" {
			return grants.Accepted{}, errNoFile
		}
		f, err := grants.ParseFile(part)
		if err != nil && !errors.Is(err, grants.ErrFile) { // broken off, or too large for any such file
			err = fmt.Errorf("%w: %w", grants.ErrFile, err)
		}
		if err != nil {
			return grants.Accepted{}, err
		}
		return s.o.Rights.Accept(r.Context(), v.person.Who(), f)
	}
}
