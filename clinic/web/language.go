package web

import (
	"net/http"
	"net/url"
	"strings"

	"golang.org/x/text/language"
)

// languages are those that the pages speak, by their tags (BCP 47): each has a file in lang, and the texts of packages protocol and diagnosis. The first is for
// who asks for none of them.
var languages = []string{"en", "nb", "nn"}

var matcher = func() language.Matcher {
	tags := make([]language.Tag, len(languages))
	for i, l := range languages {
		tags[i] = language.MustParse(l)
	}
	return language.NewMatcher(tags)
}()

// languageCookie holds the tag that a person chose at this browser; it says nothing else, and is no secret.
const languageCookie = "vindu-language"

// maxAccept bounds what is parsed of a header that a stranger sends.
const maxAccept = 256

// spoken returns which of languages a browser is answered in: the one that was chosen, or what it asks for (RFC 9110 §12.5.4).
func spoken(r *http.Request) int {
	chosen := ""
	if c, err := r.Cookie(languageCookie); err == nil && len(c.Value) < 16 {
		chosen = c.Value
	}
	accept := r.Header.Get("Accept-Language")
	if len(accept) > maxAccept {
		accept = ""
	}
	_, i := language.MatchStrings(matcher, chosen, accept)
	return i
}

// tongue is a language as the pages offer it.
type tongue struct {
	Tag, Name string
	Here      bool
}

// offered returns the languages, each in its own words.
func (s *Server) offered() (list []tongue) {
	for _, t := range s.tongues {
		list = append(list, tongue{Tag: t.words["lang"], Name: t.words["lang.name"], Here: t.words["lang"] == s.words["lang"]})
	}
	return list
}

// language has a browser be answered in the language that its person chose, from the page on which that was done.
func (s *Server) language(pages *http.ServeMux) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, 1<<10)
		tag := r.PostFormValue("language")
		for _, t := range languages {
			if t == tag {
				http.SetCookie(w, &http.Cookie{
					Name: languageCookie, Value: tag, Path: "/", MaxAge: 365 * 24 * 3600, HttpOnly: true, Secure: r.TLS != nil, SameSite: http.SameSiteLaxMode,
				})
				http.Redirect(w, r, back(r, pages), http.StatusSeeOther)
				return
			}
		}
		s.fail(w, r, http.StatusBadRequest, "error.form")
	}
}

// back returns the path of the page that a request of this site came from; the first page if it cannot be had once more, such as what a form was answered with.
func back(r *http.Request, pages *http.ServeMux) string {
	from, err := url.Parse(r.Referer())
	if err != nil || from.Host != r.Host || !strings.HasPrefix(from.Path, "/") || strings.HasPrefix(from.Path, "//") {
		return "/"
	}
	again := &http.Request{Method: http.MethodGet, URL: &url.URL{Path: from.Path}, Host: r.Host}
	if _, pattern := pages.Handler(again); pattern == "" || pattern == "/" {
		return "/"
	}
	return (&url.URL{Path: from.Path, RawQuery: from.RawQuery}).RequestURI()
}
