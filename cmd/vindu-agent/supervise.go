package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"vindu/device/agent"
	"vindu/device/confine"
	"vindu/device/progress"
	scene "vindu/device/screen"
	"vindu/media/display"
)

// startsFile is where a supervised agent remembers its starts, in the folder that systemd keeps for it until the system's next start.
const startsFile = "starts"

// giveUp confines this process to the files and rights that a terminal needs. It returns in the process that is confined, or with an error in this one. A kernel without
// Landlock is said and lived with: systemd's unit has rules of its own.
func giveUp(cfg agent.Config, file string, log *slog.Logger) error {
	if !confine.Entered() {
		if err := os.MkdirAll(cfg.State, 0o700); err != nil {
			return fmt.Errorf("make the state folder: %w", err)
		}
		err := confine.Enter(rulesOf(cfg, file))
		if !errors.Is(err, confine.ErrNoLandlock) {
			return err
		}
		log.Error("files are not confined", "error", err)
	}
	return confine.Seal()
}

// rulesOf are the files that a terminal uses: its state, Wi-Fi's configuration and sockets, devices, and what libraries and the system have to read. Of devices it is the whole folder: a
// camera that is plugged in later has a file that is not there yet. Which of them may be used is said by their owners, and by the unit's DevicePolicy.
func rulesOf(cfg agent.Config, file string) confine.Rules {
	write := []string{cfg.State, os.TempDir()}
	if folder := os.Getenv("RUNTIME_DIRECTORY"); folder != "" && folder != os.TempDir() {
		write = append(write, folder)
	}
	if cfg.Network.WiFi != "none" {
		write = append(write, cfg.Network.WPAControl)
		if folder := filepath.Dir(cfg.Network.WPAFile); folder != "/etc" {
			write = append(write, folder)
		}
	}
	return confine.Rules{
		Read:    []string{file, "/etc", "/usr", "/lib", "/lib64", "/proc", "/sys", "/run/systemd", "/run/udev"},
		Write:   write,
		Devices: append([]string{"/dev"}, lightFiles()...),
	}
}

// lights is where the kernel has the lights behind displays.
const lights = "/sys/class/backlight"

// lightFiles are what is written to set them.
func lightFiles() []string {
	var files []string
	for _, name := range []string{"brightness", "bl_power"} {
		found, err := filepath.Glob(filepath.Join(lights, "*", name))
		if err != nil {
			panic(err) // a constant pattern: cannot happen
		}
		files = append(files, found...)
	}
	return files
}

// oversight is what a terminal runs under. The zero value is none.
type oversight struct {
	board    *progress.Board
	services []func(context.Context) error
	safe     bool
	profile  string // file for a profile of each call; empty: none
}

// run is the terminal, until ctx ends, under the system's supervisor if there is one: it says that it gets on, and after it has ended again and again it runs in safe mode.
func run(ctx context.Context, cfg agent.Config, profile string, log *slog.Logger) error {
	board := new(progress.Board)
	keeper := &progress.Keeper{Board: board, Feed: func() error { return progress.Notify("WATCHDOG=1") }, Ask: func() error { return progress.Notify("WATCHDOG=trigger") }, Log: log}
	supervision := []func(context.Context) error{keeper.Run, func(ctx context.Context) error {
		if err := progress.Notify("READY=1"); err != nil {
			log.Warn("the supervisor could not be told", "error", err)
		}
		<-ctx.Done()
		return nil
	}}
	starts := startsIn(os.Getenv("RUNTIME_DIRECTORY"))
	safe := false
	if starts != nil {
		var err error
		if safe, err = starts.Begin(); err != nil {
			log.Warn("this start is not remembered", "error", err)
		}
	}
	if err := markSafe(os.Getenv("RUNTIME_DIRECTORY"), safe); err != nil {
		log.Warn("that this is safe mode, or not, is not marked: the slot may be taken for good", "error", err)
	}
	if safe {
		log.Error("the terminal has ended again and again: it begins in safe mode", "for", progress.SafeFor.String())
		cfg = safely(cfg)
		var stop context.CancelFunc
		ctx, stop = context.WithTimeout(ctx, progress.SafeFor)
		defer stop()
	}
	err := runUnder(ctx, cfg, oversight{board, supervision, safe, profile}, &machine, func(scene.Scene) {}, log)
	if starts != nil {
		if err := remember(starts, err); err != nil {
			log.Warn("this end is not remembered", "error", err)
		}
	}
	return err
}

// safeFile is there while the agent is in safe mode: such a one does not speak for the slot that it was begun from (vindu-good.service).
const safeFile = "safe"

func markSafe(folder string, safe bool) error {
	if folder == "" {
		return nil
	}
	name := filepath.Join(folder, safeFile)
	if safe {
		return os.WriteFile(name, nil, 0o600)
	}
	if err := os.Remove(name); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// remember notes how the terminal has ended. A screen that came or went is a reason to begin anew, and not what safe mode is for: a loose plug is not to make a terminal
// refuse calls for half an hour.
func remember(starts *progress.Starts, ended error) error {
	switch {
	case ended == nil:
		return starts.End()
	case errors.Is(ended, errScreenCame), errors.Is(ended, display.ErrGone):
		return starts.Excuse()
	}
	return nil
}

// safely leaves out all that can fail and is not needed to tell the clinic: devices, the screen, buttons, the preview. The serial port stays: a technician
// can read there what is wrong. What takes a press of the terminal's button has to wait for the end of safe mode, or for the power to be switched off and on.
func safely(cfg agent.Config) agent.Config {
	cfg.Devices.Camera, cfg.Devices.Microphone, cfg.Devices.Speaker, cfg.Devices.Button = "none", "none", "none", "none"
	cfg.Devices.Display = "memory"
	cfg.Devices.TestPicture, cfg.Devices.TestSound = false, false
	cfg.Preview.Listen, cfg.Panel.Port, cfg.Voice.Socket, cfg.CEC.Device = "", "", "", ""
	return cfg
}

// startsIn remembers starts in a folder of systemd's; none without one.
func startsIn(folder string) *progress.Starts {
	if folder == "" {
		return nil
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return nil
	}
	return &progress.Starts{Files: runtimeFile(filepath.Join(folder, startsFile)), Boot: strings.TrimSpace(string(boot)), Now: progress.SinceBoot}
}

// runtimeFile is a file in memory: it needs to survive this program, not the power.
type runtimeFile string

// Load implements progress.Files.
func (f runtimeFile) Load() ([]byte, error) {
	b, err := os.ReadFile(string(f))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return b, err
}

// Save implements progress.Files.
func (f runtimeFile) Save(b []byte) error { return os.WriteFile(string(f), b, 0o600) }
