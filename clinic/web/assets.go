package web

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strings"
)

//go:embed assets
var assetFiles embed.FS

// assets are the files that pages refer to, under names that carry their hash: a browser may keep one for good, and which
// script it runs can be told from the page alone.
type assets struct {
	byName map[string]asset  // "page.1a2b3c….js"
	named  map[string]string // "page.js" → "/assets/page.1a2b3c….js"
}

type asset struct {
	content []byte
	kind    string
}

func loadAssets() (*assets, error) {
	a := &assets{byName: map[string]asset{}, named: map[string]string{}}
	entries, err := fs.ReadDir(assetFiles, "assets")
	if err != nil {
		return nil, fmt.Errorf("read assets: %w", err)
	}
	var style []byte
	for _, e := range entries {
		b, err := assetFiles.ReadFile("assets/" + e.Name())
		if err != nil {
			return nil, fmt.Errorf("read assets: %w", err)
		}
		if e.Name() == "style.css" {
			style = b // refers to others by their hashed names
			continue
		}
		a.add(e.Name(), b)
	}
	for name, hashed := range a.named {
		style = []byte(strings.ReplaceAll(string(style), `url("`+name+`")`, `url("`+hashed+`")`))
	}
	a.add("style.css", style)
	return a, nil
}

func (a *assets) add(name string, b []byte) {
	hash := sha256.Sum256(b)
	ext := path.Ext(name)
	hashed := strings.TrimSuffix(name, ext) + "." + hex.EncodeToString(hash[:8]) + ext
	kind := map[string]string{".woff": "font/woff", ".js": "text/javascript; charset=utf-8"}[ext]
	if kind == "" {
		kind = mime.TypeByExtension(ext)
	}
	a.byName[hashed] = asset{b, kind}
	a.named[name] = "/assets/" + hashed
}

// url returns where name is; it fails at the start of the program if there is no such asset.
func (a *assets) url(name string) (string, error) {
	u, ok := a.named[name]
	if !ok {
		return "", fmt.Errorf("no asset %q", name)
	}
	return u, nil
}

func (a *assets) serve(w http.ResponseWriter, r *http.Request) {
	f, ok := a.byName[r.PathValue("name")]
	if !ok {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	w.Header().Set("Content-Type", f.kind)
	w.Write(f.content)
}

func (a *assets) favicon(w http.ResponseWriter, r *http.Request) {
	http.Redirect(w, r, a.named["vindu.svg"], http.StatusMovedPermanently)
}
