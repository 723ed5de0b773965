package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"bytes"
	"io"
	"sync"
	"sync/atomic"
	"vindu/device/agent"
	"vindu/device/progress"
	"vindu/media/display"
)

// TestConfined starts the program as the appliance's unit does, confined and under a supervisor: it becomes a terminal that asks to be set up, says that it is ready and
// that it gets on, has a file of its own outside the list that it cannot read, and ends as it is asked to. After five starts that ended badly it begins in safe mode, and what
// ended well is forgotten.
func TestConfined(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"run", "tmp"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	config := filepath.Join(dir, "agent.toml")
	voice, err := net.Listen("unix", filepath.Join(dir, "voice")) // in no folder of the list: a socket is not a file
	if err != nil {
		t.Fatal(err)
	}
	var spoken atomic.Int32
	var speaking sync.WaitGroup
	defer speaking.Wait()
	defer voice.Close()
	speaking.Go(func() {
		for {
			conn, err := voice.Accept()
			if err != nil {
				return
			}
			if text, err := io.ReadAll(conn); err == nil && bytes.HasPrefix(text, []byte("<speak")) {
				spoken.Add(1)
			}
			_ = conn.Close()
		}
	})
	text := fmt.Sprintf("state = %q\n[voice]\nsocket = %q\n[identity]\ntpm = \"none\"\n[devices]\ncamera = \"none\"\nmicrophone = \"none\"\nspeaker = \"none\"\nbutton = \"none\"\ndisplay = \"memory\"\n[network]\nwifi = \"none\"\n", filepath.Join(dir, "state"), filepath.Join(dir, "voice"))
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	starts := filepath.Join(dir, "run", startsFile)
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name    string
		crashes int
		safe    bool
	}{{"as a whole", 0, false}, {"four crashes", 4, false}, {"five crashes", 5, true}} {
		t.Run(test.name, func(t *testing.T) {
			now := int(progress.SinceBoot() / time.Second)
			if err := os.WriteFile(starts, []byte(string(boot)+strings.Repeat(fmt.Sprintf("%d\n", now), test.crashes)), 0o600); err != nil {
				t.Fatal(err)
			}
			socket := filepath.Join(dir, "run", "notify")
			supervisor, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
			if err != nil {
				t.Fatal(err)
			}
			defer os.Remove(socket)
			defer supervisor.Close()
			command := exec.CommandContext(t.Context(), "/proc/self/exe", "run", "-confine", "-config", config)
			command.Env = append(os.Environ(), "VINDU_TEST_PROGRAM=1", "NOTIFY_SOCKET="+socket, "RUNTIME_DIRECTORY="+filepath.Join(dir, "run"), "TMPDIR="+filepath.Join(dir, "tmp"))
			var log syncBuffer
			command.Stderr = &log
			if err := command.Start(); err != nil {
				t.Fatal(err)
			}
			heard := map[string]bool{}
			if err := supervisor.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
				t.Fatal(err)
			}
			for buffer := make([]byte, 100); !heard["READY=1"] || !heard["WATCHDOG=1"]; {
				n, err := supervisor.Read(buffer)
				if err != nil {
					t.Errorf("heard %v: %v", heard, err)
					break
				}
				heard[string(buffer[:n])] = true
			}
			// Of the process that runs now, whatever it says of itself.
			status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", command.Process.Pid))
			if err != nil {
				t.Error(err)
			}
			for _, want := range []string{"NoNewPrivs:\t1", "Seccomp:\t2"} {
				if !slices.Contains(strings.Split(string(status), "\n"), want) {
					t.Errorf("not %q in\n%s", want, status)
				}
			}
			for deadline := time.Now().Add(time.Minute); !strings.Contains(log.String(), "not set up"); {
				if time.Now().After(deadline) {
					t.Fatalf("it did not become a terminal:\n%s", log.String())
				}
				if _, err := supervisor.Read(make([]byte, 100)); err != nil { // the next sign of life
					t.Fatalf("%v\n%s", err, log.String())
				}
			}
			if err := command.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			if err := command.Wait(); err != nil {
				t.Errorf("it ended with %v\n%s", err, log.String())
			}
			if n := spoken.Swap(0); (n == 0) != test.safe {
				t.Errorf("it had %d texts spoken", n)
			}
			if got := strings.Contains(log.String(), "begins in safe mode"); got != test.safe {
				t.Errorf("safe mode: %v, want %v\n%s", got, test.safe, log.String())
			}
			if after, err := os.ReadFile(starts); err != nil || string(after) != string(boot) {
				t.Errorf("after an end that was asked for it remembers %q, %v", after, err)
			}
		})
	}
}

// TestRules: nothing but its state, Wi-Fi's own folder and temporary files can be written; not the folder of a configuration that is the system's.
func TestRules(t *testing.T) {
	t.Setenv("TMPDIR", "/run/vindu")
	t.Setenv("RUNTIME_DIRECTORY", "/run/vindu")
	cfg := agent.Default()
	cfg.State = "/data/vindu"
	if got, want := rulesOf(cfg, "/x").Write, []string{"/data/vindu", "/run/vindu", "/run/wpa_supplicant"}; !slices.Equal(got, want) {
		t.Errorf("may write %v, want %v", got, want)
	}
	cfg.Network.WPAFile = "/data/wifi/wpa_supplicant.conf"
	if got := rulesOf(cfg, "/x").Write; !slices.Contains(got, "/data/wifi") || slices.Contains(got, "/etc") {
		t.Errorf("may write %v", got)
	}
	cfg.Network.WiFi = "none"
	if got, want := rulesOf(cfg, "/x").Write, []string{"/data/vindu", "/run/vindu"}; !slices.Equal(got, want) {
		t.Errorf("may write %v, want %v", got, want)
	}
}

// TestSafely: nothing is left that could end it again.
func TestSafely(t *testing.T) {
	cfg := agent.Default()
	cfg.Devices.TestPicture, cfg.Preview.Listen, cfg.Serial.Port = true, "localhost:1", "/dev/ttyX"
	got := safely(cfg)
	d := got.Devices
	if d.Camera != "none" || d.Microphone != "none" || d.Speaker != "none" || d.Button != "none" || d.Display != "memory" || d.TestPicture || got.Preview.Listen != "" {
		t.Errorf("%+v", got)
	}
	if got.Serial.Port != cfg.Serial.Port || got.State != cfg.State {
		t.Error("the technician, or the state, is left out")
	}
	if startsIn("") != nil {
		t.Error("starts are remembered without a supervisor")
	}
}

// TestRemember: a screen that comes or goes ends the program, and is no crash; what was a crash stays one.
func TestRemember(t *testing.T) {
	for _, test := range []struct {
		name  string
		ended error
		left  int
	}{
		{"asked to", nil, 0},
		{"a screen came", errors.Join(nil, fmt.Errorf("service: %w", errScreenCame)), 1},
		{"the screen went", fmt.Errorf("screen: %w; start the program again", fmt.Errorf("paint: %w", display.ErrGone)), 1},
		{"a crash", errors.New("camera: driver hangs"), 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			file := runtimeFile(filepath.Join(t.TempDir(), "starts"))
			starts := &progress.Starts{Files: file, Boot: "boot", Now: func() time.Duration { return time.Minute }}
			for range 2 {
				if _, err := starts.Begin(); err != nil {
					t.Fatal(err)
				}
			}
			if err := remember(starts, test.ended); err != nil {
				t.Fatal(err)
			}
			if text, err := file.Load(); err != nil || strings.Count(string(text), "60\n") != test.left {
				t.Errorf("%q, %v; want %d starts", text, err, test.left)
			}
		})
	}
}

// TestMarkSafe: that it is safe mode is marked for whoever marks the slot, and only as long as it is.
func TestMarkSafe(t *testing.T) {
	dir := t.TempDir()
	for i, safe := range []bool{false, true, true, false, false} {
		if err := markSafe(dir, safe); err != nil {
			t.Errorf("%d: %v", i, err)
		}
		if _, err := os.Stat(filepath.Join(dir, safeFile)); (err == nil) != safe {
			t.Errorf("%d: marked: %v, want %v", i, err == nil, safe)
		}
	}
	if err := markSafe("", true); err != nil {
		t.Errorf("without a supervisor: %v", err)
	}
}
