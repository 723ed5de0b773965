package lab

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"go.bug.st/serial"

	"vindu/protocol"
	"vindu/scripts/lab/control"
)

// TestWhatATerminalIsSetUpBy proves TPM, serial port and button of the lab's terminal, each from both ends.
func TestWhatATerminalIsSetUpBy(t *testing.T) {
	t.Parallel() // nothing is measured
	agent, err := Build(t.Context(), "./cmd/vindu-agent", false)
	if err != nil {
		t.Fatal(err)
	}
	contract, err := Build(t.Context(), "./device/identity/tpm", true, "-tags", "lab")
	if err != nil {
		t.Fatal(err)
	}
	guest := Boot(t, Options{
		SetUp:    true,
		Programs: map[string][]byte{"/usr/bin/vindu-agent": agent, "/contracts/tpm": contract},
		Files:    map[string][]byte{"/etc/vindu/agent.toml": []byte(agentConfig)},
	})
	t.Run("serial port", func(t *testing.T) { serialPort(t, guest) })
	t.Run("button", func(t *testing.T) { pressed(t, guest) })
	t.Run("keystore's contract with the TPM", func(t *testing.T) {
		result, err := guest.Exec(t.Context(), control.Command{
			Args: []string{"/contracts/tpm", "-test.v", "-test.short", "-test.run", "^TestRealKernel$", "-test.timeout", "100s"},
			Env:  []string{"VINDU_LAB_TPM=/dev/tpmrm0"}, Dir: "/tmp", Timeout: 2 * time.Minute,
		})
		if err != nil {
			t.Error(err)
		} else if !strings.Contains(string(result.Output), "--- PASS: TestRealKernel/") {
			t.Errorf("no test ran:\n%s", result.Output)
		}
		guest.Log("contract of device/identity/tpm:\n%s", result.Output)
	})
	t.Run("an agent's key in the TPM", func(t *testing.T) { keyInTPM(t, guest) })
	if t.Failed() {
		t.Log(guest.Console())
	}
}

// serialPort echoes every byte there is, before and after the cable was out.
func serialPort(t *testing.T, guest *Guest) {
	path, err := guest.Serial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	pid, err := guest.Start(t.Context(), control.Command{Args: []string{"sh", "-c", "stty -F /dev/ttyS0 raw -echo 115200 && exec cat /dev/ttyS0 >/dev/ttyS0"}})
	if err != nil {
		t.Fatal(err)
	}
	var all []byte
	for b := range 256 {
		all = append(all, byte(b))
	}
	for _, plug := range []string{"plugged in", "plugged in again"} {
		// A first byte that comes back tells that either end is there.
		port, err := serial.Open(path, &serial.Mode{BaudRate: 115200})
		if err != nil {
			t.Fatal(err)
		}
		if err := port.SetReadTimeout(100 * time.Millisecond); err != nil {
			t.Fatal(err)
		}
		err = guest.Until(t.Context(), 20*time.Second, func() error {
			if _, err := port.Write([]byte{'?'}); err != nil {
				return err
			}
			if n, err := port.Read(make([]byte, 1)); err != nil || n == 0 {
				return fmt.Errorf("nothing comes back: %w", errors.Join(err, io.ErrNoProgress))
			}
			return nil
		})
		if err != nil {
			t.Fatalf("%s: %v", plug, err)
		}
		for n := 1; n > 0; { // what of the question marks is still on its way
			if n, err = port.Read(make([]byte, 64)); err != nil {
				t.Fatal(err)
			}
		}
		began := time.Now()
		if _, err := port.Write(all); err != nil {
			t.Fatal(err)
		}
		var back []byte
		for len(back) < len(all) && time.Since(began) < 20*time.Second {
			b := make([]byte, 64)
			n, err := port.Read(b)
			if err != nil {
				t.Fatal(err)
			}
			back = append(back, b[:n]...)
		}
		if !bytes.Equal(back, all) {
			t.Errorf("%s: of all bytes these came back: %x", plug, back)
		}
		guest.Log("serial port %s: %d bytes there and back in %s", plug, len(all), time.Since(began).Round(time.Millisecond))
		if err := port.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := guest.Signal(t.Context(), control.Signal{PID: pid, Signal: 9, Wait: 10 * time.Second}); err != nil {
		t.Error(err)
	}
}

// pressed reads what the kernel's input device reports of a press.
func pressed(t *testing.T, guest *Guest) {
	const out = "/tmp/events"
	pid, err := guest.Start(t.Context(), control.Command{Args: []string{"sh", "-c", "exec cat /dev/input/event0 >" + out}})
	if err != nil {
		t.Fatal(err)
	}
	err = guest.Until(t.Context(), 10*time.Second, func() error {
		holders, err := guest.Holders(t.Context(), "/dev/input/event0")
		if err == nil && len(holders) == 0 {
			err = errors.New("nobody listens")
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := guest.Press(t.Context(), "ret"); err != nil {
		t.Fatal(err)
	}
	// struct input_event (linux/input.h) of 64 bits: 16 bytes of time, type, code, value.
	const size, evKey, keyEnter = 24, 1, 28
	var values []uint32
	err = guest.Until(t.Context(), 10*time.Second, func() error {
		events, err := guest.ReadFile(t.Context(), out)
		if err != nil {
			return err
		}
		values = nil
		for ; len(events) >= size; events = events[size:] {
			if binary.LittleEndian.Uint16(events[16:]) == evKey && binary.LittleEndian.Uint16(events[18:]) == keyEnter {
				values = append(values, binary.LittleEndian.Uint32(events[20:]))
			}
		}
		if len(values) < 2 {
			return fmt.Errorf("events %v", values)
		}
		return nil
	})
	if err != nil || values[0] != 1 || values[len(values)-1] != 0 {
		t.Errorf("a press and a release: %v, %v", values, err)
	}
	if _, err := guest.Signal(t.Context(), control.Signal{PID: pid, Signal: 9, Wait: 10 * time.Second}); err != nil {
		t.Error(err)
	}
}

// keyInTPM sets a terminal up, looks for its key on the disk, and takes the TPM away from it while it runs.
func keyInTPM(t *testing.T, guest *Guest) {
	clinic := StartClinic(t, guest)
	startAgent(t, guest, clinic)
	found, err := guest.Exec(t.Context(), control.Command{Args: []string{"sh", "-c", "cd /var/lib/vindu && ls identity && ! grep -rlE 'PRIVATE KEY|SEALED KEY' ."}})
	if err != nil || !strings.Contains(string(found.Output), "tpm.pem") || strings.Contains(string(found.Output), "key.pem") {
		t.Errorf("a key on the disk, or no word of that in the TPM: %v\n%s", err, found.Output)
	}
	said := func(message string) func() error {
		return func() error {
			log, err := guest.ReadFile(t.Context(), agentLog)
			if err != nil {
				return err
			}
			for line := range strings.Lines(string(log)) {
				if strings.Contains(line, `"msg":"`+message+`"`) && strings.Contains(line, string(protocol.IdentityTPMGone)) {
					return nil
				}
			}
			return fmt.Errorf("the agent did not say %q of its TPM:\n%s", message, log)
		}
	}
	if said("condition")() == nil {
		t.Error("the TPM is gone before it was taken away")
	}
	guest.TPM.Kill()
	guest.Log("TPM taken away")
	if err := guest.Until(t.Context(), time.Minute, said("condition")); err != nil {
		t.Error(err)
	}
	guest.Log("the agent says so")
	guest.TPM.Restart()
	if err := guest.Until(t.Context(), time.Minute, said("condition cleared")); err != nil {
		t.Error(err)
	}
	guest.Log("TPM back, and the agent says so")

	// The page shows the home only when the TPM's signature under the answer is right, and the receipt when that under the end is.
	browser := NewBrowser(t, guest.Net)
	signIn(t, clinic, browser)
	press(t, browser, "Ring")
	if err := browser.WaitForFarEnd(30 * time.Second); err != nil {
		t.Fatal(err)
	}
	guest.Log("the page shows the terminal's picture")
	press(t, browser, "Hang up")
	if err := browser.WaitFor(15*time.Second, `(e => !e.hidden && e.textContent.includes("were closed at"))(document.querySelector("#receipt"))`); err != nil {
		t.Error(err)
	}
	guest.Log("the page shows the terminal's signed end")
}
