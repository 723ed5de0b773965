// Image builds the terminal's image with a Buildroot tree that the user has (`make image`):
//
//	image -buildroot DIR -board BOARD [-o DIR] [-debug] [-check]
//	image -buildroot DIR -symbols                   lists where each of Buildroot's symbols that is used is declared
//	image -buildroot DIR -linux DIR -uboot DIR-VERSION -selected      lists what the kernel's and U-Boot's own Kconfig make of each line of the fragments
//
// Kconfig drops without a word what it does not know or cannot select. So after the configuration was made, and again after the kernel's
// and U-Boot's were, every line of the defconfig and of their fragments is looked for in what came out, and the build stops if one has not
// survived. -check stops after the first of these, which needs no sources and a minute.
//
// A board's defconfig is the common fragment and the board's, one after the other (defconfigs are written by the test's -update).
// -symbols prints, of a Buildroot tree, the list in testdata/symbols.txt, by which a test without it knows that each symbol is spelled as somebody declared it.
// -selected prints the list in testdata/selected.txt: it configures each board's kernel and U-Boot, which needs their Kconfig files and scripts, flex, bison and a cross
// compiler and compiles nothing. A test without all that then knows that each line of a fragment is one that was seen to survive.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// wantVersion is the long-term Buildroot that the tree is written for.
const wantVersion = "2026.02"

// boards are those with a folder under buildroot/board.
var boards = []string{"imx8mm", "qemu-aarch64", "raspberrypi4-64"}

type options struct {
	buildroot, linux, uboot string
	board, out              string
	debug, check            bool
	symbols, selected       bool
}

func main() {
	var o options
	flag.StringVar(&o.buildroot, "buildroot", "", "a Buildroot tree, "+wantVersion)
	flag.StringVar(&o.linux, "linux", "", "a Linux tree, for -selected")
	flag.StringVar(&o.uboot, "uboot", "", "U-Boot's trees, for -selected: a path with VERSION in it")
	flag.StringVar(&o.board, "board", "qemu-aarch64", strings.Join(boards, ", "))
	flag.StringVar(&o.out, "o", "", "the folder to build in (default build/image-BOARD)")
	flag.BoolVar(&o.debug, "debug", false, "with a login and ssh, never for a home")
	flag.BoolVar(&o.check, "check", false, "only make the configuration and check that every line survives")
	flag.BoolVar(&o.symbols, "symbols", false, "list where symbols are declared")
	flag.BoolVar(&o.selected, "selected", false, "list what becomes of the fragments' lines")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, o, os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "image: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options, out io.Writer) error {
	if o.buildroot == "" {
		return errors.New("name a Buildroot tree: make image BUILDROOT=/path/to/buildroot-" + wantVersion)
	}
	if err := checkVersion(o.buildroot); err != nil {
		return err
	}
	if o.symbols {
		return writeSymbols(out, ".", o.buildroot)
	}
	if o.selected {
		return writeSelected(ctx, out, o)
	}
	external, err := filepath.Abs("buildroot")
	if err != nil {
		return err
	}
	defconfig, err := defconfigOf(external, o.board)
	if err != nil {
		return err
	}
	folder := o.out
	if folder == "" {
		folder = filepath.Join("build", "image-"+o.board)
	}
	if folder, err = filepath.Abs(folder); err != nil {
		return err
	}
	if o.debug {
		fragment, err := os.ReadFile(filepath.Join(external, "board/common/debug.fragment"))
		if err != nil {
			return err
		}
		defconfig = merge(defconfig, string(fragment))
		folder += "-debug"
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	wanted := filepath.Join(folder, "wanted_defconfig")
	if err := os.WriteFile(wanted, []byte(defconfig), 0o644); err != nil {
		return err
	}
	m := maker{ctx, o.buildroot, []string{"O=" + folder, "BR2_EXTERNAL=" + external, "BR2_DEFCONFIG=" + wanted}, stamp(ctx), out}
	if err := m.make("defconfig"); err != nil {
		return err
	}
	if err := compare(defconfig, filepath.Join(folder, ".config")); err != nil {
		return fmt.Errorf("the defconfig of %s does not survive: %w", o.board, err)
	}
	fmt.Fprintf(out, "image: every line of the defconfig of %s survives\n", o.board)
	if o.check {
		return nil
	}
	for _, source := range sources {
		if err := source.check(m, external, o.board, folder); err != nil {
			return err
		}
	}
	return m.make("all")
}

// check configures a source by Buildroot and looks for every line of its fragments in what came out.
func (s source) check(m maker, external, board, folder string) error {
	fragments, err := s.files(external, board)
	if err != nil || len(fragments) == 0 {
		return err
	}
	if err := m.make(s.name + "-configure"); err != nil {
		return err
	}
	made, err := filepath.Glob(filepath.Join(folder, "build", s.build, ".config"))
	if err == nil && len(made) != 1 {
		err = fmt.Errorf("%d of them are configured in %s", len(made), folder)
	}
	if err != nil {
		return fmt.Errorf("find the configuration of %s: %w", s.name, err)
	}
	for _, fragment := range fragments {
		text, err := os.ReadFile(fragment)
		if err != nil {
			return err
		}
		if err := compare(string(text), made[0]); err != nil {
			return fmt.Errorf("%s does not survive: %w", fragment, err)
		}
	}
	fmt.Fprintf(m.out, "image: every line of the fragments of %s survives\n", s.name)
	return nil
}

func checkVersion(tree string) error {
	text, err := os.ReadFile(filepath.Join(tree, "Makefile"))
	if err != nil {
		return fmt.Errorf("%s is not a Buildroot tree: %w", tree, err)
	}
	for line := range strings.Lines(string(text)) {
		if version, ok := strings.CutPrefix(strings.TrimSpace(line), "export BR2_VERSION := "); ok {
			if version != wantVersion && !strings.HasPrefix(version, wantVersion+".") {
				return fmt.Errorf("%s is Buildroot %s; these configurations are for %s", tree, version, wantVersion)
			}
			return nil
		}
	}
	return fmt.Errorf("%s is not a Buildroot tree: its Makefile names no version", tree)
}

type maker struct {
	ctx       context.Context
	tree      string
	arguments []string
	stamp     []string
	out       io.Writer
}

func (m maker) make(target string) error {
	command := exec.CommandContext(m.ctx, "make", append(append([]string{"-C", m.tree}, m.arguments...), target)...)
	command.Env = append(os.Environ(), m.stamp...)
	command.Stdout, command.Stderr = m.out, os.Stderr
	command.WaitDelay = 10 * time.Second
	if err := command.Run(); err != nil {
		return fmt.Errorf("make %s in %s: %w", target, m.tree, err)
	}
	return nil
}

// stamp is what the package's makefile puts into the agent: the commit and its time. A tree from an archive has neither.
func stamp(ctx context.Context) []string {
	commit, err := exec.CommandContext(ctx, "git", "rev-parse", "HEAD").Output()
	if err != nil {
		return nil
	}
	name := strings.TrimSpace(string(commit))
	if exec.CommandContext(ctx, "git", "diff", "--quiet", "HEAD").Run() != nil {
		name += "-dirty"
	}
	when, err := exec.CommandContext(ctx, "git", "log", "-1", "--format=%cI").Output()
	if err != nil {
		return nil
	}
	return []string{"VINDU_COMMIT=" + name, "VINDU_COMMITTED=" + strings.TrimSpace(string(when))}
}
