package lab

import (
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

//go:embed init.sh
var initScript []byte

// modules are loaded by init.sh or, as dm-* and the serial drivers, by a test. Their dependencies come with them.
var modules = []string{
	"virtio_pci", "virtio_net", "virtio_gpu", "virtio_console", "virtio_rng", "virtio_blk", "evdev", "sch_netem",
	"vivid", "snd-aloop", "snd-hda-intel", "snd-hda-codec-generic", "tpm_vtpm_proxy", "virtio_input", "ext4", "crc32c_generic", "dm-log-writes", "brd",
}

// system is what every guest boots: Debian's arm64 kernel and an initramfs with busybox, drivers and ALSA's tools.
type system struct {
	kernel  string // path of the kernel's image
	base    string // path of the initramfs; a boot appends its own files
	sysroot string // Debian's arm64 packages, unpacked, for libraries
}

// prepared is made once for a test process, for all its boots.
var prepared = sync.OnceValues(func() (system, error) { return prepare(context.Background()) })

// cacheDirectory holds what takes long to make. All of it may be deleted at any time that no test runs.
func cacheDirectory() (string, error) {
	directory, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find a cache directory: %w", err)
	}
	return filepath.Join(directory, "vindu"), nil
}

// repository is the root of this source tree: tests run in their package's directory.
func repository() (string, error) {
	directory, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(directory, "go.mod")); err == nil {
			return directory, nil
		}
		parent := filepath.Dir(directory)
		if parent == directory {
			return "", errors.New("no go.mod above the working directory")
		}
		directory = parent
	}
}

func prepare(ctx context.Context) (system, error) {
	root, err := repository()
	if err != nil {
		return system{}, err
	}
	cache, err := cacheDirectory()
	if err != nil {
		return system{}, err
	}
	sysroot, err := output(ctx, root, "scripts/arm", "arm64")
	if err != nil {
		return system{}, err
	}
	s := system{sysroot: strings.TrimSpace(sysroot)}
	debian, err := output(ctx, root, "scripts/debs", "arm64", filepath.Join(cache, "lab-debian"), "linux-image-arm64", "busybox-static")
	if err != nil {
		return system{}, err
	}
	debian = strings.TrimSpace(debian)
	kernels, err := filepath.Glob(filepath.Join(debian, "boot", "vmlinuz-*"))
	if err != nil || len(kernels) != 1 {
		return system{}, fmt.Errorf("expected one kernel in %s/boot, found %v: delete %s and try again", debian, kernels, debian)
	}
	s.kernel = kernels[0]
	version := strings.TrimPrefix(filepath.Base(s.kernel), "vmlinuz-")
	s.base, err = baseArchive(ctx, cache, debian, version, s.sysroot)
	return s, err
}

// baseArchive returns the path of the base initramfs, made if what it is made of has changed.
func baseArchive(ctx context.Context, cache, debian, version, sysroot string) (string, error) {
	packages, err := os.ReadFile(filepath.Join(sysroot, ".packages"))
	if err != nil {
		return "", fmt.Errorf("read what %s holds: %w", sysroot, err)
	}
	recipe := sha256.New()
	fmt.Fprintf(recipe, "2\n%s\n%s\n%v\n%s", version, packages, modules, initScript)
	return cached(cache, "lab-base-"+hex.EncodeToString(recipe.Sum(nil)[:8])+".cpio", time.Now(), func() (*archive, error) {
		return base(ctx, debian, version, sysroot)
	})
}

// unused is how long the cache keeps what nothing asks for.
const unused = 30 * 24 * time.Hour

// cached returns the path of an archive in the cache, made if it is not there. Another version of this tree may run
// beside this one: its archives stay, until nothing has asked for them for long.
func cached(cache, name string, now time.Time, make func() (*archive, error)) (string, error) {
	path := filepath.Join(cache, name)
	if err := os.Chtimes(path, time.Time{}, now); err == nil {
		return path, nil
	}
	a, err := make()
	if err != nil {
		return "", err
	}
	entries, err := os.ReadDir(cache)
	if err != nil {
		return "", err
	}
	for _, entry := range entries {
		if !strings.HasPrefix(entry.Name(), "lab-base-") && !strings.HasPrefix(entry.Name(), halfWritten) {
			continue
		}
		if info, err := entry.Info(); err != nil || now.Sub(info.ModTime()) < unused {
			continue // or another one has removed it
		}
		if err := os.Remove(filepath.Join(cache, entry.Name())); err != nil && !errors.Is(err, os.ErrNotExist) {
			return "", err
		}
	}
	if err := writeAtomically(path, a); err != nil {
		return "", err
	}
	return path, os.Chtimes(path, time.Time{}, now)
}

// base is the initramfs that every guest begins with.
func base(ctx context.Context, debian, version, sysroot string) (*archive, error) {
	a := newArchive()
	for _, directory := range []string{"proc", "sys", "dev", "tmp", "run", "sbin", "etc", "root", "var/lib"} {
		a.directory(directory)
	}
	busybox, err := os.ReadFile(filepath.Join(debian, "bin", "busybox"))
	if err != nil {
		return nil, fmt.Errorf("read the guest's busybox: %w", err)
	}
	a.file("bin/busybox", 0o755, busybox)
	a.link("sbin/modprobe", "/bin/busybox") // the kernel calls it by this path, for sound codecs
	a.file("init", 0o755, initScript)
	a.file("etc/passwd", 0o644, []byte("root:x:0:0:root:/root:/bin/sh\n"))
	a.file("etc/group", 0o644, []byte("root:x:0:\n"))
	if err := addModules(ctx, a, debian, version); err != nil {
		return nil, err
	}
	for _, tool := range []string{"aplay", "amixer"} {
		data, err := os.ReadFile(filepath.Join(sysroot, "usr/bin", tool))
		if err != nil {
			return nil, fmt.Errorf("read the guest's %s: %w", tool, err)
		}
		if err := addProgram(a, sysroot, "bin/"+tool, data); err != nil {
			return nil, err
		}
	}
	a.link("bin/arecord", "aplay")
	return a, addTree(a, sysroot, "usr/share/alsa")
}

// addModules adds the closure of modules over modules.dep.
func addModules(ctx context.Context, a *archive, debian, version string) error {
	if _, err := output(ctx, debian, "depmod", "-b", debian, version); err != nil {
		return err
	}
	directory := filepath.Join("lib/modules", version)
	text, err := os.ReadFile(filepath.Join(debian, directory, "modules.dep"))
	if err != nil {
		return fmt.Errorf("read the kernel's module dependencies: %w", err)
	}
	type module struct {
		file  string
		needs []string // files
	}
	byName := map[string]module{}
	needs := map[string][]string{}
	for line := range strings.Lines(string(text)) {
		file, rest, _ := strings.Cut(strings.TrimSpace(line), ":")
		m := module{file, strings.Fields(rest)}
		byName[moduleName(file)] = m
		needs[file] = m.needs
	}
	for _, name := range modules {
		m, ok := byName[strings.ReplaceAll(name, "-", "_")]
		if !ok {
			return fmt.Errorf("kernel %s has no module %s", version, name)
		}
		for _, file := range append([]string{m.file}, m.needs...) {
			data, err := os.ReadFile(filepath.Join(debian, directory, file))
			if err != nil {
				return fmt.Errorf("read module %s: %w", file, err)
			}
			a.file(filepath.Join(directory, file), 0o644, data)
		}
	}
	// Of the tables that depmod wrote only those that modprobe reads, cut down to what is there. The aliases stay
	// whole: the kernel asks for codecs by alias.
	var dep strings.Builder
	for _, file := range sortedKeys(needs) {
		if a.has(filepath.Join(directory, file)) {
			fmt.Fprintf(&dep, "%s: %s\n", file, strings.Join(needs[file], " "))
		}
	}
	a.file(filepath.Join(directory, "modules.dep"), 0o644, []byte(dep.String()))
	for _, table := range []string{"modules.alias", "modules.builtin"} {
		data, err := os.ReadFile(filepath.Join(debian, directory, table))
		if err != nil {
			return fmt.Errorf("read %s: %w", table, err)
		}
		a.file(filepath.Join(directory, table), 0o644, data)
	}
	return nil
}

func moduleName(file string) string {
	return strings.ReplaceAll(strings.TrimSuffix(filepath.Base(file), ".ko"), "-", "_")
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

// addTree adds the files and links under root/name.
func addTree(a *archive, root, name string) error {
	entries, err := os.ReadDir(filepath.Join(root, name))
	if err != nil {
		return err
	}
	for _, entry := range entries {
		file := filepath.Join(name, entry.Name())
		switch {
		case entry.IsDir():
			err = addTree(a, root, file)
		case entry.Type()&os.ModeSymlink != 0:
			var target string
			target, err = os.Readlink(filepath.Join(root, file))
			a.link(file, target)
		default:
			var data []byte
			data, err = os.ReadFile(filepath.Join(root, file))
			a.file(file, 0o644, data)
		}
		if err != nil {
			return fmt.Errorf("add %s to the initramfs: %w", file, err)
		}
	}
	return nil
}

// halfWritten begins the names of files that are not whole.
const halfWritten = ".lab-"

// writeAtomically makes a file appear whole or not at all.
func writeAtomically(name string, a *archive) error {
	file, err := os.CreateTemp(filepath.Dir(name), halfWritten+"*")
	if err != nil {
		return err
	}
	defer os.Remove(file.Name())
	if err := a.write(file); err != nil {
		file.Close()
		return err
	}
	if err := file.Close(); err != nil {
		return err
	}
	return os.Rename(file.Name(), name)
}

// output runs a program of the host in a directory and returns what it printed. Its error shows all that it said.
func output(ctx context.Context, directory, name string, arguments ...string) (string, error) {
	if strings.Contains(name, "/") && !filepath.IsAbs(name) {
		name = filepath.Join(directory, name)
	}
	command := exec.CommandContext(ctx, name, arguments...)
	command.Dir = directory
	var stdout, stderr bytes.Buffer
	command.Stdout, command.Stderr = &stdout, &stderr
	if err := command.Run(); err != nil {
		return "", fmt.Errorf("%s %s: %w\n%s%s", filepath.Base(name), strings.Join(arguments, " "), err, stdout.String(), stderr.String())
	}
	return stdout.String(), nil
}

// Build cross-compiles a package of this project, or with test its tests, for the guest and returns the program.
// The environment is that of scripts/arm: the agent comes out as it ships.
func Build(ctx context.Context, name string, test bool, flags ...string) ([]byte, error) {
	root, err := repository()
	if err != nil {
		return nil, err
	}
	directory, err := os.MkdirTemp("", "vindu-build-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(directory)
	out := filepath.Join(directory, "program")
	arguments := []string{"arm64", "go", "build"}
	if test {
		arguments = []string{"arm64", "go", "test", "-c"}
	}
	arguments = append(arguments, "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", out)
	arguments = append(arguments, flags...)
	if _, err := output(ctx, root, "scripts/arm", append(arguments, name)...); err != nil {
		return nil, fmt.Errorf("cross-compile %s: %w", name, err)
	}
	program, err := os.ReadFile(out)
	if err != nil {
		return nil, fmt.Errorf("cross-compile %s: %w (has it tests?)", name, err)
	}
	return program, nil
}
