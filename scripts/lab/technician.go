package lab

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Technician sets terminals up, from a laptop in a lab's network.
const Technician = "Bo Dahl"

// Laptop is a technician's, with vindu-provision and its folder.
type Laptop struct {
	program, folder string
	guest           *Guest
	runs            int
}

// NewLaptop builds the technician's program. It ends the test on failure.
func NewLaptop(t testing.TB, g *Guest) *Laptop {
	t.Helper()
	dir := t.TempDir()
	l := &Laptop{program: filepath.Join(dir, "vindu-provision"), folder: filepath.Join(dir, "laptop"), guest: g}
	root, err := repository()
	if err != nil {
		t.Fatal(err)
	}
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-buildvcs=false", "-o", l.program, "./cmd/vindu-provision")
	build.Dir, build.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build vindu-provision: %v\n%s", err, out)
	}
	return l
}

// Provisioned is what vindu-provision says of a run, of what it prints with --json.
type Provisioned struct {
	OK       bool
	Terminal struct{ Name, Code string }
	Info     struct {
		State, Organisation, Home, Language string
		KeyGrade                            string `json:"key_grade"`
	}
	EnrolledBy string `json:"enrolled_by"`
	Checks     []struct{ Name, State, Figure, Code, Sentence string }
	HandOver   struct{ ID, Record, Sheet string } `json:"hand_over"`
	LaptopKey  string                             `json:"laptop_key"`
	Failure    struct{ Code, Sentence, Detail string }
}

// Run runs vindu-provision with arguments, without anybody to answer it. said is called with each line that it has for people, and
// may cancel ctx, which interrupts it as Ctrl-C does. What it printed is kept. An error says what the run failed by.
func (l *Laptop) Run(ctx context.Context, said func(line string), arguments ...string) (Provisioned, error) {
	var p Provisioned
	l.runs++
	name := filepath.Join(l.guest.Artefacts, fmt.Sprintf("provision-%d-%s", l.runs, arguments[0]))
	log, err := os.Create(name + ".log")
	if err != nil {
		return p, err
	}
	defer log.Close()
	command := l.guest.Net.Command(ctx, l.program, append([]string{"--json", "--no-input", "-v", "--folder", l.folder}, arguments...)...)
	command.Env = append(os.Environ(), "TZ=UTC")
	command.Cancel = func() error { return command.Process.Signal(os.Interrupt) }
	people, err := command.StderrPipe()
	if err != nil {
		return p, err
	}
	var printed strings.Builder
	command.Stdout = &printed
	began := time.Now()
	if err := command.Start(); err != nil {
		return p, err
	}
	for lines := bufio.NewScanner(people); lines.Scan(); {
		fmt.Fprintf(log, "%7.3fs %s\n", time.Since(began).Seconds(), lines.Text())
		if said != nil {
			said(lines.Text())
		}
	}
	ended := command.Wait()
	if err := os.WriteFile(name+".json", []byte(printed.String()), 0o644); err != nil {
		return p, err
	}
	if err := json.Unmarshal([]byte(printed.String()), &p); err != nil {
		return p, fmt.Errorf("vindu-provision %s: %w (%v):\n%s", arguments[0], err, ended, printed.String())
	}
	if ended != nil {
		return p, fmt.Errorf("vindu-provision %s: %w: %s %s (%s)", arguments[0], ended, p.Failure.Code, p.Failure.Sentence, p.Failure.Detail)
	}
	return p, nil
}
