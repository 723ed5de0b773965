package lab

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"vindu/scripts/lab/control"
)

func TestTerminalHasItsDevices(t *testing.T) {
	t.Parallel() // nothing is measured
	guest := Boot(t, Options{Files: map[string][]byte{"/etc/vindu/word": []byte("carried in")}})
	for _, device := range []string{"/dev/video0", "/dev/dri/card0", "/dev/snd/pcmC0D0c", "/dev/snd/pcmC1D0p"} {
		if _, err := guest.Exec(t.Context(), control.Command{Args: []string{"test", "-c", device}}); err != nil {
			t.Error(err)
		}
	}
	cards, err := guest.ReadFile(t.Context(), "/proc/asound/cards")
	if err != nil {
		t.Fatal(err)
	}
	for _, card := range []string{"Loopback", "Intel"} {
		if !strings.Contains(string(cards), card) {
			t.Errorf("no sound card %s among\n%s", card, cards)
		}
	}
	if word, err := guest.ReadFile(t.Context(), "/etc/vindu/word"); err != nil || string(word) != "carried in" {
		t.Errorf("the file given reads %q, %v", word, err)
	}
	picture, err := guest.Screendump(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if size := picture.Bounds().Size(); size.X != 800 || size.Y != 480 {
		t.Errorf("the screen is %v, want 800×480", size)
	}
	t.Run("network", func(t *testing.T) {
		if _, err := guest.Exec(t.Context(), control.Command{Args: []string{"ping", "-c", "1", "-W", "5", HostAddr}}); err != nil {
			t.Error(err)
		}
		listener, err := guest.Net.Listen("tcp", net.JoinHostPort(HostAddr, "8080"))
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
		said := make(chan string, 1)
		go func() {
			conn, err := listener.Accept()
			if err != nil {
				said <- err.Error()
				return
			}
			defer conn.Close()
			text, _ := io.ReadAll(conn) // what came is compared
			said <- string(text)
		}()
		if _, err := guest.Exec(t.Context(), control.Command{Args: []string{"nc", HostAddr, "8080"}, Stdin: []byte("from the guest")}); err != nil {
			t.Error(err)
		}
		if got := <-said; got != "from the guest" {
			t.Errorf("the host heard %q", got)
		}
		if listener, err := net.Listen("tcp", net.JoinHostPort(HostAddr, "0")); err == nil {
			listener.Close()
			t.Error("the lab's address is the host's too")
		}
		outside, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer outside.Close()
		if conn, err := guest.Net.DialContext(t.Context(), "tcp", outside.Addr().String()); err == nil {
			conn.Close()
			t.Error("the host's loopback is reached from the lab's network")
		}
	})
	t.Run("holders", func(t *testing.T) {
		pid, err := guest.Start(t.Context(), control.Command{Args: []string{"sh", "-c", "exec sleep 60 <>/dev/video0"}})
		if err != nil {
			t.Fatal(err)
		}
		var holders []control.Holder
		err = guest.Until(t.Context(), 10*time.Second, func() (err error) {
			holders, err = guest.Holders(t.Context(), "/dev/video*", "/dev/snd/pcm*")
			if err == nil && (len(holders) != 1 || holders[0].PID != pid || holders[0].Path != "/dev/video0") {
				err = errors.New("not held by the process that opened it")
			}
			return err
		})
		if err != nil {
			t.Errorf("%v: %v", err, holders)
		}
		if _, err := guest.Signal(t.Context(), control.Signal{PID: pid, Signal: 9, Wait: 10 * time.Second}); err != nil {
			t.Fatal(err)
		}
		if holders, err := guest.Holders(t.Context(), "/dev/video*"); err != nil || len(holders) != 0 {
			t.Errorf("after its end the camera is held by %v, %v", holders, err)
		}
	})
	t.Run("reset", func(t *testing.T) {
		if err := guest.Reset(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := guest.Exec(t.Context(), control.Command{Args: []string{"test", "-c", "/dev/video0"}}); err != nil {
			t.Error(err)
		}
	})
	if t.Failed() {
		t.Log(guest.Console())
	}
}

// TestDevicesKeepTheirContracts runs media's tests that are tagged "lab" and named TestReal… in the guest, against the
// kernel's drivers: the same contracts that their stand-ins keep elsewhere. The environment names the devices.
func TestDevicesKeepTheirContracts(t *testing.T) {
	root, err := repository()
	if err != nil {
		t.Fatal(err)
	}
	programs := map[string][]byte{}
	tagged := regexp.MustCompile(`(?m)^//go:build lab$`)
	for _, name := range []string{"camera", "sound", "display"} {
		tests, err := filepath.Glob(filepath.Join(root, "media", name, "*_test.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, test := range tests {
			text, err := os.ReadFile(test)
			if err != nil {
				t.Fatal(err)
			}
			if tagged.Match(text) {
				program, err := Build(t.Context(), "./media/"+name, true, "-tags", "lab")
				if err != nil {
					t.Fatal(err)
				}
				programs[name] = program
				break
			}
		}
	}
	television, err := Build(t.Context(), "./device/cec", true, "-tags", "lab")
	if err != nil {
		t.Fatal(err)
	}
	if len(programs) != 3 {
		t.Errorf("of camera, sound and display only %v have tests for the lab", sortedKeys(programs))
	}
	files := map[string][]byte{}
	for name, program := range programs {
		files["/contracts/"+name] = program
	}
	files["/contracts/cec"] = television
	guest := Boot(t, Options{Programs: files})
	// With one stream in each direction the loop is a card that can be busy.
	_, err = guest.Exec(t.Context(), control.Command{Args: []string{"sh", "-c", "rmmod snd_aloop && modprobe snd_aloop index=0 pcm_substreams=1"}})
	if err != nil {
		t.Fatal(err)
	}
	devices := []string{
		"VINDU_LAB_CAMERA=/dev/video0", "VINDU_LAB_DISPLAY=/dev/dri/card0",
		"VINDU_LAB_CAPTURE=hw:CARD=Loopback,DEV=1", "VINDU_LAB_PLAYBACK=hw:CARD=Loopback,DEV=0",
	}
	for _, name := range sortedKeys(programs) {
		t.Run(name, func(t *testing.T) {
			result, err := guest.Exec(t.Context(), control.Command{
				Args:    []string{"/contracts/" + name, "-test.v", "-test.run", "^TestReal", "-test.timeout", "280s"},
				Env:     devices,
				Dir:     "/tmp",
				Timeout: 5 * time.Minute,
			})
			if err != nil {
				t.Error(err)
			} else if !strings.Contains(string(result.Output), "--- PASS") {
				t.Errorf("no test ran:\n%s", result.Output)
			}
			guest.Log("contract of media/%s:\n%s", name, result.Output)
		})
	}
	// Vivid once more, as a card with an HDMI plug and an HDMI socket, and CEC between them.
	_, err = guest.Exec(t.Context(), control.Command{Args: []string{"sh", "-c",
		"rmmod vivid && modprobe vivid n_devs=1 node_types=0x101 num_inputs=1 input_types=0x03 num_outputs=1 output_types=0x01 && ls /dev/cec*"}})
	if err != nil {
		t.Fatal(err)
	}
	result, err := guest.Exec(t.Context(), control.Command{Args: []string{"/contracts/cec", "-test.v", "-test.run", "^TestReal", "-test.timeout", "100s"}, Dir: "/tmp", Timeout: 2 * time.Minute})
	if err != nil || !strings.Contains(string(result.Output), "--- PASS") {
		t.Errorf("%v\n%s", err, result.Output)
	}
	guest.Log("contract of device/cec:\n%s", result.Output)
}
