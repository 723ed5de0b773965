package lab

import (
	"bytes"
	"debug/elf"
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// addProgram puts a dynamic arm64 program into the archive, with its loader and every shared library it needs, found
// in the unpacked packages under sysroot, a list of folders, the way ld.so would find them.
func addProgram(a *archive, sysroot, name string, data []byte) error {
	a.file(name, 0o755, data)
	return addLibraries(a, sysroot, name, data)
}

func addLibraries(a *archive, sysroot, name string, data []byte) error {
	file, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return fmt.Errorf("read %s as an ELF file: %w", name, err)
	}
	defer file.Close()
	if file.Machine != elf.EM_AARCH64 {
		return fmt.Errorf("%s is for %s, not for the arm64 guest", name, file.Machine)
	}
	needed, err := file.ImportedLibraries()
	if err != nil {
		return fmt.Errorf("read what %s is linked with: %w", name, err)
	}
	if slices.ContainsFunc(file.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP }) {
		needed = append(needed, "ld-linux-aarch64.so.1")
	}
	for _, library := range needed {
		target := "lib/aarch64-linux-gnu/" + library
		if library == "ld-linux-aarch64.so.1" {
			target = "lib/" + library
		}
		if a.has(target) {
			continue
		}
		data, err := readLibrary(sysroot, library)
		if err != nil {
			return fmt.Errorf("%s needs %s: %w", name, library, err)
		}
		a.file(target, 0o755, data)
		if err := addLibraries(a, sysroot, library, data); err != nil {
			return err
		}
	}
	return nil
}

func readLibrary(sysroot, name string) ([]byte, error) {
	directories := []string{"lib/aarch64-linux-gnu", "usr/lib/aarch64-linux-gnu", "lib"}
	for _, root := range filepath.SplitList(sysroot) {
		for _, directory := range directories {
			if data, err := os.ReadFile(filepath.Join(root, directory, name)); err == nil {
				return data, nil
			}
		}
	}
	return nil, fmt.Errorf("not in %v of %s: add its package to scripts/arm", directories, sysroot)
}
