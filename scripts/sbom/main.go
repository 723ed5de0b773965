// Sbom writes the bill of materials of a built agent (R31): CycloneDX 1.6 as JSON, on standard output.
//
//	sbom -sysroot DIR [-commit HASH] BINARY
//
// It lists what is in the binary and not what might have been: Go's modules and Go itself as the binary's own build information names
// them, and the shared libraries that its dynamic section needs, and theirs, found in the sysroot (scripts/debs) and told as the Debian
// packages that they are of. The loader and the C library are among them.
//
// The bill of one binary is always the same: it has no time, and its serial number is made of the binary's hash. Licences come from
// licences.txt, by SPDX's expressions; what has none there is an error, so that nobody ships what nobody has looked at.
package main

import (
	"bufio"
	"bytes"
	"cmp"
	"crypto/sha256"
	"debug/buildinfo"
	"debug/elf"
	_ "embed"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/CycloneDX/cyclonedx-go"
)

//go:embed licences.txt
var licenceList string

// fonts are compiled in (device/screen/font); no build information names them.
const fonts = "Atkinson Hyperlegible Next"

func main() {
	sysroot := flag.String("sysroot", "", "the unpacked packages that the binary was linked with")
	commit := flag.String("commit", "", "of the source")
	flag.Parse()
	if flag.NArg() != 1 || *sysroot == "" {
		fmt.Fprintln(os.Stderr, "usage: sbom -sysroot DIR [-commit HASH] BINARY")
		os.Exit(2)
	}
	if err := write(os.Stdout, *sysroot, *commit, flag.Arg(0)); err != nil {
		fmt.Fprintf(os.Stderr, "sbom: %v\n", err)
		os.Exit(1)
	}
}

func write(out io.Writer, sysroot, commit, binary string) error {
	bill, err := billOf(sysroot, commit, binary)
	if err != nil {
		return err
	}
	w := bufio.NewWriter(out)
	encoder := cyclonedx.NewBOMEncoder(w, cyclonedx.BOMFileFormatJSON).SetPretty(true).SetEscapeHTML(false)
	if err := encoder.EncodeVersion(bill, cyclonedx.SpecVersion1_6); err != nil {
		return fmt.Errorf("write the bill of materials: %w", err)
	}
	return w.Flush()
}

func billOf(sysroot, commit, binary string) (*cyclonedx.BOM, error) {
	licences, err := parseLicences(licenceList)
	if err != nil {
		return nil, err
	}
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		return nil, fmt.Errorf("read what %s is made of: %w", binary, err)
	}
	data, err := os.ReadFile(binary)
	if err != nil {
		return nil, err
	}
	libraries, err := librariesOf(sysroot, data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", binary, err)
	}
	sum := sha256.Sum256(data)
	program := cyclonedx.Component{
		BOMRef: "vindu-agent", Type: cyclonedx.ComponentTypeApplication, Name: "vindu-agent", Version: cmp.Or(commit, "unknown"),
		Hashes: hashes(sum[:]), Licenses: licence("Apache-2.0"),
		Properties: &[]cyclonedx.Property{{Name: "vindu:go:path", Value: info.Path}, {Name: "vindu:go:platform", Value: platform(info)}},
	}
	components := []cyclonedx.Component{{
		BOMRef: "font", Type: cyclonedx.ComponentTypeData, Name: fonts, Licenses: licence("OFL-1.1"),
	}, module("std", strings.TrimPrefix(info.GoVersion, "go"), "")}
	for _, dependency := range info.Deps {
		if dependency.Replace != nil {
			dependency = dependency.Replace
		}
		components = append(components, module(dependency.Path, dependency.Version, dependency.Sum))
	}
	dependencies := []cyclonedx.Dependency{}
	uses := []string{}
	for _, c := range components {
		uses = append(uses, c.BOMRef)
	}
	for _, library := range slices.Sorted(maps.Keys(libraries)) {
		found := libraries[library]
		components = append(components, found.component)
		if found.direct {
			uses = append(uses, found.component.BOMRef)
		}
		needs := []string{}
		for _, name := range found.needs {
			needs = append(needs, libraries[name].component.BOMRef)
		}
		if len(needs) > 0 {
			dependencies = append(dependencies, cyclonedx.Dependency{Ref: found.component.BOMRef, Dependencies: &needs})
		}
	}
	var missing []string
	for i, c := range components {
		if c.Licenses != nil {
			continue
		}
		name := c.Name
		if source := property(c, "vindu:debian:source"); source != "" {
			name = "deb:" + source
		}
		expression := licences[name]
		if expression == "" {
			missing = append(missing, name)
		}
		components[i].Licenses = licence(expression)
	}
	if len(missing) > 0 {
		return nil, fmt.Errorf("no licence is recorded for %s: read it and add it to scripts/sbom/licences.txt and docs/dependencies.md", strings.Join(missing, ", "))
	}
	dependencies = append([]cyclonedx.Dependency{{Ref: program.BOMRef, Dependencies: &uses}}, dependencies...)
	bill := cyclonedx.NewBOM()
	bill.SerialNumber = serial(sum)
	bill.Metadata = &cyclonedx.Metadata{Component: &program, Lifecycles: &[]cyclonedx.Lifecycle{{Phase: cyclonedx.LifecyclePhasePostBuild}}}
	bill.Components, bill.Dependencies = &components, &dependencies
	return bill, nil
}

// module is a component without its licence yet. sum is Go's own hash over the module's files (h1:), which is none that CycloneDX knows.
func module(name, version, sum string) cyclonedx.Component {
	purl := "pkg:golang/" + name + "@" + version
	c := cyclonedx.Component{BOMRef: purl, Type: cyclonedx.ComponentTypeLibrary, Name: name, Version: version, PackageURL: purl}
	if sum != "" {
		c.Properties = &[]cyclonedx.Property{{Name: "vindu:go:sum", Value: sum}}
	}
	return c
}

type library struct {
	component cyclonedx.Component
	direct    bool
	needs     []string
}

// librariesOf finds the shared libraries that a program needs, by their names in its dynamic section, and those that they need.
func librariesOf(sysroot string, program []byte) (map[string]*library, error) {
	owners, err := readOwners(sysroot)
	if err != nil {
		return nil, err
	}
	found := map[string]*library{}
	needs, interpreter, err := neededBy(program)
	if err != nil {
		return nil, err
	}
	queue := append(slices.Clone(needs), interpreter)
	for _, name := range queue {
		found[name] = &library{direct: true}
	}
	for len(queue) > 0 {
		name := queue[0]
		queue = queue[1:]
		owner, ok := owners[name]
		if !ok {
			return nil, fmt.Errorf("%s is in none of the packages under %s: add its package to scripts/arm", name, sysroot)
		}
		data, err := os.ReadFile(filepath.Join(sysroot, filepath.FromSlash(owner.path)))
		if err != nil {
			return nil, err
		}
		sum := sha256.Sum256(data)
		found[name].component = owner.component(name, sum[:])
		needs, _, err := neededBy(data)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		found[name].needs = needs
		for _, need := range needs {
			if found[need] == nil {
				found[need] = new(library)
				queue = append(queue, need)
			}
		}
	}
	return found, nil
}

func neededBy(data []byte) (names []string, interpreter string, err error) {
	file, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return nil, "", fmt.Errorf("read as ELF: %w", err)
	}
	defer file.Close()
	if names, err = file.ImportedLibraries(); err != nil {
		return nil, "", fmt.Errorf("read what it is linked with: %w", err)
	}
	if section := file.Section(".interp"); section != nil {
		text, err := section.Data()
		if err != nil {
			return nil, "", fmt.Errorf("read its loader's name: %w", err)
		}
		interpreter = path.Base(strings.TrimRight(string(text), "\x00"))
	}
	return names, interpreter, nil
}

// owner is the Debian package that a shared library is of.
type owner struct{ name, version, source, sourceVersion, path, arch string }

func (o owner) component(soname string, sum []byte) cyclonedx.Component {
	purl := fmt.Sprintf("pkg:deb/debian/%s@%s?arch=%s", o.name, strings.NewReplacer("+", "%2B", ":", "%3A", "~", "%7E").Replace(o.version), o.arch)
	return cyclonedx.Component{
		BOMRef: purl + "#" + soname, Type: cyclonedx.ComponentTypeLibrary, Name: soname, Version: o.version, PackageURL: purl, Hashes: hashes(sum),
		Properties: &[]cyclonedx.Property{
			{Name: "vindu:debian:package", Value: o.name},
			{Name: "vindu:debian:source", Value: o.source}, {Name: "vindu:debian:source-version", Value: o.sourceVersion},
		},
	}
}

// readOwners reads what scripts/debs has written about a sysroot, by the base names of files.
func readOwners(sysroot string) (map[string]owner, error) {
	data, err := os.ReadFile(filepath.Join(sysroot, ".owners"))
	if err != nil {
		return nil, fmt.Errorf("read which package each library is of: %w", err)
	}
	owners := map[string]owner{}
	for line := range strings.Lines(string(data)) {
		fields := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if len(fields) != 5 {
			return nil, fmt.Errorf("%s/.owners: %q has not five fields", sysroot, line)
		}
		o := owner{name: fields[0], version: fields[1], source: fields[2], sourceVersion: fields[3], path: fields[4], arch: "arm64"}
		if strings.Contains(o.path, "arm-linux-gnueabihf") || strings.HasSuffix(o.path, "ld-linux-armhf.so.3") {
			o.arch = "armhf"
		}
		if earlier, ok := owners[path.Base(o.path)]; !ok || len(o.path) < len(earlier.path) {
			owners[path.Base(o.path)] = o
		}
	}
	return owners, nil
}

// parseLicences reads lines of a name, of a Go module or of a Debian source package behind "deb:", and its SPDX expression.
func parseLicences(text string) (map[string]string, error) {
	licences := map[string]string{}
	number := 0
	for line := range strings.Lines(text) {
		number++
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, expression, ok := strings.Cut(line, " ")
		if expression = strings.TrimSpace(expression); !ok || expression == "" || licences[name] != "" {
			return nil, fmt.Errorf("licences.txt:%d: %q is not a new name and its licence", number, line)
		}
		licences[name] = expression
	}
	if len(licences) == 0 {
		return nil, errors.New("licences.txt: empty")
	}
	return licences, nil
}

func licence(expression string) *cyclonedx.Licenses {
	return &cyclonedx.Licenses{{Expression: expression}}
}

func hashes(sum []byte) *[]cyclonedx.Hash {
	return &[]cyclonedx.Hash{{Algorithm: cyclonedx.HashAlgoSHA256, Value: hex.EncodeToString(sum)}}
}

func property(c cyclonedx.Component, name string) string {
	if c.Properties != nil {
		for _, p := range *c.Properties {
			if p.Name == name {
				return p.Value
			}
		}
	}
	return ""
}

func platform(info *buildinfo.BuildInfo) string {
	settings := map[string]string{}
	for _, s := range info.Settings {
		settings[s.Key] = s.Value
	}
	return strings.TrimSuffix(settings["GOOS"]+"/"+settings["GOARCH"]+"/"+settings["GOARM"], "/")
}

// serial is a UUID of version 8 (RFC 9562 §5.8) made of the binary's hash: another binary's bill has another, the same one's the same.
func serial(sum [sha256.Size]byte) string {
	b := sum[:16]
	b[6], b[8] = b[6]&0x0f|0x80, b[8]&0x3f|0x80
	return fmt.Sprintf("urn:uuid:%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
