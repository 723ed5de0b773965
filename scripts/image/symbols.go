package main

import (
	"bufio"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

var (
	declaration = regexp.MustCompile(`^\s*(?:menu)?config\s+([A-Z0-9_a-z]+)`)
	use         = regexp.MustCompile(`\bBR2_[A-Z0-9_a-z]+`)
)

// given are the symbols that are no Kconfig's: Buildroot makes them itself.
var given = []string{"BR2_EXTERNAL_VINDU_PATH", "BR2_CONFIG"}

// used returns Buildroot's symbols that are used in any file of this project's tree.
func used(root string) ([]string, error) {
	ours := map[string]bool{}
	err := filepath.WalkDir(filepath.Join(root, "buildroot"), func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || strings.HasSuffix(path, ".md") {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, symbol := range use.FindAllString(string(text), -1) {
			if !slices.Contains(given, symbol) && symbol != "BR2_PACKAGE_VINDU_AGENT" {
				ours[symbol] = true
			}
		}
		return nil
	})
	return slices.Sorted(maps.Keys(ours)), err
}

// declared finds the first file, by name, in which each of the symbols is declared.
func declared(tree, prefix string, symbols []string) (map[string]string, error) {
	found := map[string]string{}
	err := filepath.WalkDir(tree, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasPrefix(entry.Name(), prefix) || entry.Name() == "Config.in.legacy" {
			return err
		}
		file, err := os.Open(path)
		if err != nil {
			return err
		}
		defer file.Close()
		name, err := filepath.Rel(tree, path)
		if err != nil {
			return err
		}
		lines := bufio.NewScanner(file)
		for lines.Scan() {
			if m := declaration.FindStringSubmatch(lines.Text()); m != nil && found[m[1]] == "" && slices.Contains(symbols, m[1]) {
				found[m[1]] = filepath.ToSlash(name)
			}
		}
		return lines.Err()
	})
	return found, err
}

// writeSymbols prints each symbol that is used and where it is declared. One that is declared nowhere is an error.
func writeSymbols(out io.Writer, root, buildroot string) error {
	symbols, err := used(root)
	if err != nil {
		return err
	}
	places, err := declared(buildroot, "Config.in", symbols)
	if err != nil {
		return err
	}
	var missing []string
	for _, symbol := range symbols {
		if places[symbol] == "" {
			missing = append(missing, symbol)
			continue
		}
		if _, err := fmt.Fprintf(out, "%s buildroot:%s\n", symbol, places[symbol]); err != nil {
			return err
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("declared nowhere: %s", strings.Join(missing, " "))
	}
	return nil
}
