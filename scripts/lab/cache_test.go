package lab

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// Two versions of this tree share a cache, and neither takes from the other what it uses.
func TestCacheIsShared(t *testing.T) {
	cache := t.TempDir()
	day := 24 * time.Hour
	began := time.Now()
	made := 0
	get := func(name string, at time.Time) {
		t.Helper()
		path, err := cached(cache, name, at, func() (*archive, error) { made++; return newArchive(), nil })
		if err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(path); err != nil || info.Size() == 0 {
			t.Fatalf("%s: %v", path, err)
		}
	}
	if err := os.WriteFile(filepath.Join(cache, halfWritten+"1"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	holds := func(want ...string) {
		t.Helper()
		var names []string
		entries, err := os.ReadDir(cache)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			names = append(names, e.Name())
		}
		if !slices.Equal(names, want) {
			t.Errorf("the cache holds %v, want %v", names, want)
		}
	}
	get("lab-base-a.cpio", began)
	get("lab-base-b.cpio", began)
	holds(halfWritten+"1", "lab-base-a.cpio", "lab-base-b.cpio")
	get("lab-base-a.cpio", began.Add(29*day))
	if made != 2 {
		t.Errorf("made %d archives, want 2", made)
	}
	get("lab-base-c.cpio", began.Add(31*day))
	holds("lab-base-a.cpio", "lab-base-c.cpio")

	broken := errors.New("no modules")
	if _, err := cached(cache, "lab-base-d.cpio", began, func() (*archive, error) { return nil, broken }); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	holds("lab-base-a.cpio", "lab-base-c.cpio")
}

// The same of unpacked packages. apt and dpkg are stand-ins that make one file.
func TestPackagesAreShared(t *testing.T) {
	root, err := repository()
	if err != nil {
		t.Fatal(err)
	}
	directory := t.TempDir()
	tools := filepath.Join(directory, "tools")
	if err := os.Mkdir(tools, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, script := range map[string]string{
		"apt-get": `case " $* " in *" download "*) touch one.deb ;; esac`,
		"dpkg":    `touch "$3/unpacked"`,
		"dpkg-deb": `case $1 in
-W) printf 'one\t1\tone\t1' ;;
--fsys-tarfile) cd "$(dirname "$0")" && mkdir -p lib && : >lib/libone.so.1 && tar cf - ./lib/libone.so.1 ;;
esac`,
	} {
		if err := os.WriteFile(filepath.Join(tools, name), []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	sysroot := filepath.Join(directory, "sysroot")
	debs := func(packages ...string) string {
		t.Helper()
		command := exec.Command(filepath.Join(root, "scripts/debs"), append([]string{"arm64", sysroot}, packages...)...)
		command.Env = append(os.Environ(), "PATH="+tools+":"+os.Getenv("PATH"), "XDG_CACHE_HOME="+directory)
		text, err := command.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		path := strings.TrimSuffix(string(text), "\n")
		if _, err := os.Stat(filepath.Join(path, "unpacked")); err != nil {
			t.Fatal(err)
		}
		if owners, err := os.ReadFile(filepath.Join(path, ".owners")); err != nil || string(owners) != "one\t1\tone\t1\tlib/libone.so.1\n" {
			t.Fatalf("the libraries' owners are %q, %v", owners, err)
		}
		return path
	}
	age := func(path string) {
		t.Helper()
		if err := os.Chtimes(filepath.Join(path, ".packages"), time.Time{}, time.Now().Add(-32*24*time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	one, two := debs("libopus0"), debs("libopus0", "libvpx7")
	if one == two || debs("libopus0") != one {
		t.Errorf("one list is in %s, another in %s", one, two)
	}
	age(one)
	age(two)
	debs("libopus0") // in use again
	three := debs("libyuv0")
	left, err := filepath.Glob(sysroot + "*")
	if err != nil {
		t.Fatal(err)
	}
	want := []string{one, three}
	slices.Sort(want)
	if !slices.Equal(left, want) {
		t.Errorf("left are %v, want %v", left, want)
	}
}
