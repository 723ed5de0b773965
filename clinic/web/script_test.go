package web

import (
	"bytes"
	"flag"
	"os"
	"testing"

	"github.com/evanw/esbuild/pkg/api"
)

var update = flag.Bool("update", false, "make assets/*.js anew from ts/")

// bundle makes one script of the TypeScript modules that entry imports. It is not minified: what browsers run is to be
// read.
func bundle(t testing.TB, entry, global string) []byte {
	t.Helper()
	result := api.Build(api.BuildOptions{
		EntryPoints: []string{entry}, Bundle: true, Format: api.FormatIIFE, GlobalName: global, Target: api.ES2022, Charset: api.CharsetUTF8,
		LegalComments: api.LegalCommentsNone, Banner: map[string]string{"js": "// Made from clinic/web/ts by esbuild: see TestPageScript."},
	})
	for _, m := range append(result.Errors, result.Warnings...) {
		t.Errorf("%s: %+v", m.Text, m.Location)
	}
	if len(result.OutputFiles) != 1 {
		t.Fatalf("%d scripts made, want 1", len(result.OutputFiles))
	}
	return result.OutputFiles[0].Contents
}

// The scripts that are committed, embedded and served are those that their sources make.
func TestPageScript(t *testing.T) {
	for source, script := range map[string]string{"ts/page.ts": "assets/page.js", "ts/live.ts": "assets/live.js", "ts/home.ts": "assets/home.js", "ts/passkey.ts": "assets/passkey.js"} {
		made := bundle(t, source, "")
		if *update {
			if err := os.WriteFile(script, made, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		committed, err := os.ReadFile(script)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(committed, made) {
			t.Errorf("%s is not what ts/ makes: go test ./clinic/web -run TestPageScript -update", script)
		}
	}
}
