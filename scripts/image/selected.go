package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// source is what a board's fragments configure, by its own Kconfig: the kernel and U-Boot.
type source struct {
	name      string // as it is called in testdata/selected.txt
	fragments string // Buildroot's symbol that lists the fragments
	build     string // its folder under Buildroot's build/, where it is configured
}

var sources = []source{
	{"linux", "BR2_LINUX_KERNEL_CONFIG_FRAGMENT_FILES", "linux-*"},
	{"uboot", "BR2_TARGET_UBOOT_CONFIG_FRAGMENT_FILES", "uboot-[0-9]*"}, // uboot-tools is another package
}

// latestUBoot is the version that wantVersion of Buildroot builds for a board that names none. Versions differ in what symbols are called.
const latestUBoot = "2026.01"

// ubootOf returns the version of U-Boot that a board has.
func ubootOf(external, board string) (string, error) {
	version, err := valueOf(external, board, "BR2_TARGET_UBOOT_CUSTOM_VERSION_VALUE")
	if version == "" {
		version = latestUBoot
	}
	return version, err
}

// fragments returns the files that a board's defconfig lays over a source's own configuration, in their order; none if it names none.
func (s source) files(external, board string) ([]string, error) {
	text, err := valueOf(external, board, s.fragments)
	if err != nil {
		return nil, err
	}
	return strings.Fields(strings.ReplaceAll(text, "$(BR2_EXTERNAL_VINDU_PATH)", external)), nil
}

// valueOf returns what a board's defconfig gives a symbol, without its quotes; "" if nothing.
func valueOf(external, board, symbol string) (string, error) {
	text, err := defconfigOf(external, board)
	if err != nil {
		return "", err
	}
	settings, err := parse(text)
	if err != nil {
		return "", err
	}
	for _, s := range settings {
		if s.symbol == symbol {
			return strings.Trim(s.value, `"`), nil
		}
	}
	return "", nil
}

// writeSelected prints, for each board, each line of its fragments as it came out of a run of the source's own Kconfig, and the file that declares the symbol. A line that
// does not survive, and a symbol that nobody declares, are errors.
func writeSelected(ctx context.Context, out io.Writer, o options) error {
	external, err := filepath.Abs("buildroot")
	if err != nil {
		return err
	}
	for _, board := range boards {
		for _, s := range sources {
			if err := s.write(ctx, out, o, external, board); err != nil {
				return fmt.Errorf("%s's %s: %w", board, s.name, err)
			}
		}
	}
	return nil
}

func (s source) write(ctx context.Context, out io.Writer, o options, external, board string) error {
	files, err := s.files(external, board)
	if err != nil || len(files) == 0 {
		return err
	}
	tree, target, base, err := s.base(o, external, board)
	if err != nil {
		return err
	}
	version, err := versionOf(tree)
	if err != nil {
		return err
	}
	var fragments strings.Builder
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		fragments.Write(text)
	}
	made, err := configure(ctx, tree, target, base, fragments.String())
	if err != nil {
		return err
	}
	if err := compareText(fragments.String(), made); err != nil {
		return err
	}
	settings, err := parse(fragments.String())
	if err != nil {
		return err
	}
	wanted := map[string]string{}
	for _, setting := range settings {
		wanted[strings.TrimPrefix(setting.symbol, "CONFIG_")] = setting.value
	}
	places, err := declared(tree, "Kconfig", slices.Collect(maps.Keys(wanted)))
	if err != nil {
		return err
	}
	for _, symbol := range slices.Sorted(maps.Keys(wanted)) {
		if places[symbol] == "" {
			return fmt.Errorf("CONFIG_%s is declared nowhere in %s", symbol, tree)
		}
		if _, err := fmt.Fprintf(out, "%s %s-%s CONFIG_%s=%s %s\n", board, s.name, version, symbol, written(wanted[symbol]), places[symbol]); err != nil {
			return err
		}
	}
	return nil
}

// written is a value as it stands in the list: a symbol that is not set has the value n.
func written(value string) string {
	if value == "" {
		return "n"
	}
	return value
}

// base returns the tree of a board's source, and what its fragments are laid over: a target of make, and after it the lines of a text.
func (s source) base(o options, external, board string) (tree, target, text string, err error) {
	if s.name == "uboot" {
		return ubootBase(o, external, board)
	}
	// Raspberry Pi's kernel is its own: that of the list is any other, made as Raspberry Pi's is where our fragments touch it.
	if board == "raspberrypi4-64" {
		lines, err := os.ReadFile("scripts/image/testdata/bcm2711.config")
		return o.linux, "defconfig", string(lines), err
	}
	file, err := valueOf(external, board, "BR2_LINUX_KERNEL_CUSTOM_CONFIG_FILE")
	if err != nil || file == "" {
		return o.linux, "defconfig", "", err
	}
	lines, err := os.ReadFile(filepath.Join(o.buildroot, file))
	return o.linux, "", string(lines), err
}

// ubootBase is base for U-Boot: the tree of the board's version, and its own configuration there.
func ubootBase(o options, external, board string) (tree, target, text string, err error) {
	version, err := ubootOf(external, board)
	if err != nil {
		return "", "", "", err
	}
	latest, err := os.ReadFile(filepath.Join(o.buildroot, "boot/uboot/Config.in"))
	if err != nil {
		return "", "", "", err
	}
	if !regexp.MustCompile(`default "` + latestUBoot + `"\s+if BR2_TARGET_UBOOT_LATEST_VERSION`).Match(latest) {
		return "", "", "", fmt.Errorf("Buildroot's U-Boot is no longer %s", latestUBoot)
	}
	tree = strings.ReplaceAll(o.uboot, "VERSION", version)
	if got, err := versionOf(tree); err != nil || got != version {
		return "", "", "", fmt.Errorf("%q is not U-Boot %s: it is %q (%v)", tree, version, got, err)
	}
	target, err = valueOf(external, board, "BR2_TARGET_UBOOT_BOARD_DEFCONFIG")
	return tree, target + "_defconfig", "", err
}

// configure does what Buildroot does: the source's own configuration, the fragments over it, and what Kconfig then makes of both.
func configure(ctx context.Context, tree, target, base, fragments string) (string, error) {
	folder, err := os.MkdirTemp("", "selected-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(folder)
	config := filepath.Join(folder, ".config")
	run := func(target string) error {
		command := exec.CommandContext(ctx, "make", "-s", "-C", tree, "O="+folder, "ARCH=arm64", "CROSS_COMPILE=aarch64-linux-gnu-", target)
		if out, err := command.CombinedOutput(); err != nil {
			return fmt.Errorf("make %s in %s: %w\n%s", target, tree, err, out)
		}
		return nil
	}
	made := ""
	if target != "" {
		if err := run(target); err != nil {
			return "", err
		}
		text, err := os.ReadFile(config)
		if err != nil {
			return "", err
		}
		made = string(text)
	}
	if err := os.WriteFile(config, []byte(merge(merge(made, base), fragments)), 0o644); err != nil {
		return "", err
	}
	if err := run("olddefconfig"); err != nil {
		return "", err
	}
	text, err := os.ReadFile(config)
	return string(text), err
}

var versionLine = regexp.MustCompile(`(?m)^(?:VERSION|PATCHLEVEL|SUBLEVEL) = (\S+)$`)

// versionOf reads a tree's version from its Makefile.
func versionOf(tree string) (string, error) {
	if tree == "" {
		return "", errors.New("no tree is named")
	}
	text, err := os.ReadFile(filepath.Join(tree, "Makefile"))
	if err != nil {
		return "", err
	}
	var parts []string
	for _, m := range versionLine.FindAllStringSubmatch(string(text), 3) {
		parts = append(parts, m[1])
	}
	if len(parts) < 2 {
		return "", fmt.Errorf("%s: its Makefile names no version", tree)
	}
	return strings.Join(parts, "."), nil
}
