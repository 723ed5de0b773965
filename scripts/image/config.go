package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// defconfigOf returns a board's defconfig: the common lines and its own.
func defconfigOf(external, board string) (string, error) {
	if !slices.Contains(boards, board) {
		return "", fmt.Errorf("there is no board %q: %s", board, strings.Join(boards, ", "))
	}
	common, err := os.ReadFile(filepath.Join(external, "board/common/defconfig.fragment"))
	if err != nil {
		return "", err
	}
	own, err := os.ReadFile(filepath.Join(external, "board", board, "defconfig.fragment"))
	if err != nil {
		return "", err
	}
	return string(common) + string(own), nil
}

// defconfigName is the file in configs/ by which `make` of Buildroot itself knows a board.
func defconfigName(board string) string {
	return "vindu_" + strings.ReplaceAll(board, "-", "_") + "_defconfig"
}

// setting is a line of a Kconfig configuration: a symbol and its value, "" if it is not set.
type setting struct{ symbol, value string }

// parse reads a configuration. Other comments are left out; a line that is neither is an error.
func parse(text string) ([]setting, error) {
	var settings []setting
	number := 0
	for line := range strings.Lines(text) {
		number++
		line = strings.TrimSpace(line)
		if symbol, ok := strings.CutSuffix(line, " is not set"); ok && strings.HasPrefix(line, "# ") && !strings.Contains(symbol[2:], " ") {
			settings = append(settings, setting{symbol[2:], ""})
			continue
		}
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		symbol, value, ok := strings.Cut(line, "=")
		if !ok || symbol == "" || value == "" || strings.ContainsAny(symbol, " \t") {
			return nil, fmt.Errorf("line %d: %q sets nothing", number, line)
		}
		settings = append(settings, setting{symbol, value})
	}
	return settings, nil
}

// merge returns base with the lines of fragment in place of those of the same symbols.
func merge(base, fragment string) string {
	over, err := parse(fragment)
	if err != nil {
		return base + fragment
	}
	var b strings.Builder
	for line := range strings.Lines(base) {
		own, err := parse(line)
		if err == nil && len(own) == 1 && slices.ContainsFunc(over, func(s setting) bool { return s.symbol == own[0].symbol }) {
			continue
		}
		b.WriteString(line)
	}
	return b.String() + fragment
}

// compare looks for every line of wanted in the configuration that was made of it. What is wanted not to be set may also be unknown there.
func compare(wanted, file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if err := compareText(wanted, string(text)); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return nil
}

func compareText(wanted, text string) error {
	made, err := parse(text)
	if err != nil {
		return err
	}
	values := map[string]string{}
	for _, s := range made {
		values[s.symbol] = s.value
	}
	settings, err := parse(wanted)
	if err != nil {
		return err
	}
	var lost []error
	for _, s := range settings {
		value, known := values[s.symbol]
		// An empty text is how Kconfig leaves a text that has none.
		if value == s.value || s.value == `""` && !known {
			continue
		}
		if !known {
			value = "nothing: unknown, or something that it depends on is not set"
		}
		if value == "" {
			value = "not set"
		}
		if s.value == "" {
			s.value = "not set"
		}
		lost = append(lost, fmt.Errorf("%s: wanted %s, got %s", s.symbol, s.value, value))
	}
	return errors.Join(lost...)
}
