//go:build cgo

package firmware_test

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"vindu/device/panel/firmware"
	"vindu/device/panel/paneltest"
	"vindu/device/panel/simulator"
)

// TestContract holds what runs on a microcontroller to what the simulator is held to.
func TestContract(t *testing.T) {
	paneltest.Contract(t, func(t *testing.T) simulator.Logic {
		p := firmware.New()
		t.Cleanup(p.Release)
		return p
	})
}

// TestPortable compiles panel.c as a microcontroller's compiler would, and looks at what it needs: the ten functions of a board, and two of string.h.
func TestPortable(t *testing.T) {
	object := filepath.Join(t.TempDir(), "panel.o")
	out, err := exec.CommandContext(t.Context(), "cc", "-std=c99", "-pedantic", "-Wall", "-Wextra", "-Wconversion", "-Werror", "-Os", "-ffreestanding", "-fno-stack-protector",
		"-c", "panel.c", "-o", object).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	out, err = exec.CommandContext(t.Context(), "nm", "-u", "-P", object).Output()
	if err != nil {
		t.Fatal(err)
	}
	board := 0
	for line := range strings.Lines(string(out)) {
		name, _, _ := strings.Cut(line, " ")
		switch {
		case strings.HasPrefix(name, "panel_board_"):
			board++
		case name != "memcpy" && name != "memset":
			t.Errorf("it needs %s", name)
		}
	}
	if board != 10 {
		t.Errorf("a board has to give %d functions", board)
	}
}

// FuzzSame feeds the firmware and the simulator the same bytes and presses: they do and say the same.
func FuzzSame(f *testing.F) {
	paneltest.Seeds(f)
	f.Fuzz(func(t *testing.T, script []byte) {
		p := firmware.New()
		defer p.Release()
		paneltest.Same(t, p, new(simulator.Panel), script)
	})
}
