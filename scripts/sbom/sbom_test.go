package main

import (
	"bytes"
	"crypto/sha256"
	"debug/buildinfo"
	"debug/elf"
	"encoding/hex"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/CycloneDX/cyclonedx-go"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

const (
	root      = "../.."
	stamped   = "0123456789abcdef0123456789abcdef01234567"
	committed = "2026-11-22T10:00:00+01:00"
	schemaURL = "http://cyclonedx.org/schema/"
)

// TestBuilds builds the agent as it ships, for both architectures: twice, the second time from another folder, with the libraries
// under another path, with every package of ours compiled anew, one at a time, and under another user's umask, time zone and temporary folder. Both are
// the same, byte for byte, and so are their bills of materials, which say what is in them.
func TestBuilds(t *testing.T) {
	elsewhere := copyOfTree(t)
	cache := filepath.Join(t.TempDir(), "elsewhere", "and", "deeper")
	if err := os.MkdirAll(cache, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(cacheHome(t), "vindu"), filepath.Join(cache, "vindu")); err != nil {
		t.Fatal(err)
	}
	for _, arch := range []string{"arm64", "armv7"} {
		t.Run(arch, func(t *testing.T) {
			here, there := filepath.Join(t.TempDir(), "here"), filepath.Join(t.TempDir(), "there")
			build(t, root, arch, here)
			build(t, elsewhere, arch, there, "XDG_CACHE_HOME="+cache, "TMPDIR="+t.TempDir(), "TZ=Pacific/Auckland", "GOMAXPROCS=1", "GOFLAGS=-p=1", "LANG=nb_NO.UTF-8")
			binary, bill := read(t, here), read(t, here+".cdx.json")
			if !bytes.Equal(binary, read(t, there)) {
				t.Errorf("two builds differ: %x and %x", sha256.Sum256(binary), sha256.Sum256(read(t, there)))
			}
			if !bytes.Equal(bill, read(t, there+".cdx.json")) {
				t.Error("two bills of materials differ")
			}
			checkBinary(t, arch, binary)
			checkBill(t, arch, here, binary, bill)
		})
	}
}

func build(t *testing.T, directory, arch, out string, more ...string) {
	t.Helper()
	command := exec.CommandContext(t.Context(), "scripts/arm", "build", arch, out)
	command.Dir = directory
	command.Env = append(append(os.Environ(), "VINDU_COMMIT="+stamped, "VINDU_COMMITTED="+committed, "GOCACHE="+goCache(t)), more...)
	if text, err := command.CombinedOutput(); err != nil {
		t.Fatalf("build for %s in %s: %v\n%s", arch, directory, err, text)
	}
}

// copyOfTree copies the source to another folder, and has each package of ours, by an empty file more, compiled anew: what the build cache has of
// the first build is not used (only what it has of an earlier run of this test). Modules and Go's library are compiled once; -trimpath keeps their
// folders out as it does ours.
func copyOfTree(t *testing.T) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "a", "copy")
	list := exec.CommandContext(t.Context(), "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	list.Dir = root
	names, err := list.Output()
	if err != nil {
		t.Fatalf("list the source: %v", err)
	}
	packages := map[string]bool{}
	for name := range strings.SplitSeq(strings.TrimRight(string(names), "\x00"), "\x00") {
		info, err := os.Stat(filepath.Join(root, name))
		if err != nil {
			continue // deleted, and not committed yet
		}
		target := filepath.Join(to, name)
		if err := os.MkdirAll(filepath.Dir(target), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(target, read(t, filepath.Join(root, name)), info.Mode()); err != nil {
			t.Fatal(err)
		}
		part, _, _ := strings.Cut(name, "/")
		compiled := slices.Contains([]string{"protocol", "media", "device", "provisioning", "cmd"}, part)
		if directory := filepath.Dir(name); compiled && strings.HasSuffix(name, ".go") && !strings.HasSuffix(name, "_test.go") && !packages[directory] {
			packages[directory] = true
			clause := packageOf(t, filepath.Join(root, name))
			if err := os.WriteFile(filepath.Join(to, directory, "again.go"), []byte("package "+clause+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	return to
}

func packageOf(t *testing.T, name string) string {
	t.Helper()
	for line := range strings.Lines(string(read(t, name))) {
		if clause, ok := strings.CutPrefix(line, "package "); ok {
			return strings.TrimSpace(clause)
		}
	}
	t.Fatalf("%s: no package clause", name)
	return ""
}

func checkBinary(t *testing.T, arch string, binary []byte) {
	t.Helper()
	info, err := buildinfo.Read(bytes.NewReader(binary))
	if err != nil {
		t.Fatal(err)
	}
	if want := map[string]string{"arm64": "linux/arm64", "armv7": "linux/arm/7"}[arch]; platform(info) != want {
		t.Errorf("built for %s, want %s", platform(info), want)
	}
	file, err := elf.NewFile(bytes.NewReader(binary))
	if err != nil {
		t.Fatal(err)
	}
	for _, section := range file.Sections {
		if strings.HasPrefix(section.Name, ".debug") || strings.HasPrefix(section.Name, ".zdebug") || section.Type == elf.SHT_SYMTAB {
			t.Errorf("not stripped: it has a section %s", section.Name)
		}
	}
	if !bytes.Contains(binary, []byte(stamped)) || !bytes.Contains(binary, []byte(committed)) {
		t.Error("the commit, or its time, is not in it")
	}
	absolute, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{absolute, cacheHome(t), os.TempDir() + "/go-"} {
		if bytes.Contains(binary, []byte(path)) {
			t.Errorf("a path of the machine that built it is in it: %s", path)
		}
	}
}

// checkBill holds the bill against CycloneDX's own schema, which its Go module brings, and against the binary.
func checkBill(t *testing.T, arch, name string, binary, text []byte) {
	t.Helper()
	schema := compileSchema(t)
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	if err := schema.Validate(document); err != nil {
		t.Errorf("not a CycloneDX 1.6 document: %v", err)
	}
	// That the schema refuses anything at all.
	document.(map[string]any)["serialNumber"] = "none"
	if schema.Validate(document) == nil {
		t.Error("the schema accepts anything")
	}

	var bill cyclonedx.BOM
	if err := json.Unmarshal(text, &bill); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(binary)
	program := bill.Metadata.Component
	if program.Version != stamped || (*program.Hashes)[0].Value != hex.EncodeToString(sum[:]) {
		t.Errorf("the bill is of version %s and hash %s", program.Version, (*program.Hashes)[0].Value)
	}
	refs := map[string]bool{}
	sources := map[string]bool{}
	for _, c := range *bill.Components {
		if refs[c.BOMRef] || c.BOMRef == "" {
			t.Errorf("%q stands there twice, or has no reference", c.BOMRef)
		}
		refs[c.BOMRef] = true
		sources[property(c, "vindu:debian:source")] = true
		if c.Licenses == nil || (*c.Licenses)[0].Expression == "" {
			t.Errorf("%s has no licence", c.Name)
		}
	}
	info, err := buildinfo.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for _, dependency := range info.Deps {
		if !refs["pkg:golang/"+dependency.Path+"@"+dependency.Version] {
			t.Errorf("%s %s is in the binary and not in the bill", dependency.Path, dependency.Version)
		}
	}
	for _, source := range []string{"libvpx", "openh264", "opus", "libyuv", "libjpeg-turbo", "alsa-lib", "webrtc-audio-processing", "glibc"} {
		if !sources[source] {
			t.Errorf("%s: the library of %s is not in the bill", arch, source)
		}
	}
	for _, d := range *bill.Dependencies {
		for _, ref := range *d.Dependencies {
			if !refs[ref] {
				t.Errorf("%s depends on %s, which is not there", d.Ref, ref)
			}
		}
	}
	if text, err := os.ReadFile(filepath.Join(root, "docs/dependencies.md")); err != nil || !strings.Contains(string(text), "alsa-lib") {
		t.Errorf("docs/dependencies.md: %v, or it does not name alsa-lib", err)
	}
}

func compileSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "github.com/CycloneDX/cyclonedx-go").Output()
	if err != nil {
		t.Fatalf("find CycloneDX's schema: %v", err)
	}
	directory := filepath.Join(strings.TrimSpace(string(out)), "schema")
	compiler := jsonschema.NewCompiler()
	for name, file := range map[string]string{"bom-1.6.schema.json": "bom-1.6.schema.json", "spdx.schema.json": "spdx.schema.json", "jsf-0.82.schema.json": "jsf-0.82.schemax.json"} {
		schema, err := jsonschema.UnmarshalJSON(bytes.NewReader(read(t, filepath.Join(directory, file))))
		if err != nil {
			t.Fatal(err)
		}
		if err := compiler.AddResource(schemaURL+name, schema); err != nil {
			t.Fatal(err)
		}
	}
	schema, err := compiler.Compile(schemaURL + "bom-1.6.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

func TestLicences(t *testing.T) {
	for name, text := range map[string]string{
		"nothing": "# only words\n", "no licence": "module\n", "twice": "module MIT\nmodule BSD\n",
	} {
		if got, err := parseLicences(text); err == nil {
			t.Errorf("%s: %v", name, got)
		}
	}
	if got, err := parseLicences("# words\n\nmodule   A OR B\n"); err != nil || got["module"] != "A OR B" {
		t.Errorf("%v, %v", got, err)
	}
}

// TestRefuses: a bill that would not be whole is none.
func TestRefuses(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	empty := t.TempDir()
	broken := t.TempDir()
	if err := os.WriteFile(filepath.Join(broken, ".owners"), []byte("libc6\t2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	foreign := t.TempDir()
	if err := os.WriteFile(filepath.Join(foreign, ".owners"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ name, sysroot, binary, says string }{
		{"no binary", empty, filepath.Join(empty, "none"), "none"},
		{"not a Go binary", empty, "licences.txt", "licences.txt"},
		{"no owners", empty, self, ".owners"},
		{"owners of another form", broken, self, "five fields"},
		{"a library of no package", foreign, self, "scripts/arm"},
	} {
		var out bytes.Buffer
		if err := write(&out, test.sysroot, "", test.binary); err == nil || !strings.Contains(err.Error(), test.says) || out.Len() > 0 {
			t.Errorf("%s: %v, %q", test.name, err, out.String())
		}
	}
}

// goCache is the build cache of this user, wherever the second build thinks that it is.
func goCache(t *testing.T) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "env", "GOCACHE").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

func cacheHome(t *testing.T) string {
	t.Helper()
	directory, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	return directory
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
