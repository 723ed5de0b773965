//go:build lab

package main

import (
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"vindu/device/agent"
	"vindu/device/progress"
)

// With the tag "lab", which no program that ships is built with, and VINDU_LAB in its surroundings, the program gives up what a terminal gives up, by the same code, and then
// tries what it may not ("deeds"), or takes all the memory that it gets ("grow"), once: begun again it is the terminal. With the tag it is a terminal of which a part can be had
// to hang, too (package progress).
func init() {
	what := os.Getenv("VINDU_LAB")
	if what == "" || what == "terminal" || len(os.Args) < 2 || os.Args[1] != "run" {
		return
	}
	grown := filepath.Join(os.Getenv("RUNTIME_DIRECTORY"), "lab-grown")
	if _, err := os.Stat(grown); err == nil && what == "grow" {
		return
	}
	flags := flag.NewFlagSet("run", flag.ExitOnError)
	file := flags.String("config", "", "")
	flags.Bool("confine", false, "")
	if err := flags.Parse(os.Args[2:]); err != nil {
		os.Exit(2)
	}
	cfg, err := agent.LoadConfig(*file)
	if err == nil {
		err = giveUp(cfg, *file, logger(cfg.Log, os.Stderr))
	}
	if err == nil {
		err = progress.Notify("READY=1")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "lab:", err)
		os.Exit(1)
	}
	switch what {
	case "grow":
		if err := os.WriteFile(grown, nil, 0o600); err != nil {
			fmt.Fprintln(os.Stderr, "lab:", err)
			os.Exit(1)
		}
		var all [][]byte
		for {
			block := make([]byte, 8<<20)
			for at := 0; at < len(block); at += 4096 {
				block[at] = 1
			}
			all = append(all, block)
		}
	case "deeds":
		for _, deed := range deeds {
			done := make(chan error, 1)
			go func() { done <- deed.try() }()
			select {
			case err := <-done:
				fmt.Fprintf(os.Stderr, "deed %t %q: %v\n", err == nil, deed.name, err)
			case <-time.After(10 * time.Second):
				fmt.Fprintf(os.Stderr, "deed %t %q: no answer\n", false, deed.name)
			}
		}
		fmt.Fprintln(os.Stderr, "deeds done")
	}
	select {} // until it is stopped
}

type labDeed struct {
	name string
	try  func() error
}

func writeTo(folder string) labDeed {
	return labDeed{"write in " + folder, func() error {
		name := filepath.Join(folder, "lab-deed")
		if err := os.WriteFile(name, []byte("x"), 0o600); err != nil {
			return err
		}
		return os.Remove(name)
	}}
}

func openFor(flag int, names ...string) (all []labDeed) {
	for _, name := range names {
		how := map[int]string{os.O_RDONLY: "read ", os.O_WRONLY: "open to write "}[flag]
		all = append(all, labDeed{how + name, func() error {
			f, err := os.OpenFile(name, flag, 0)
			if err != nil {
				return err
			}
			return f.Close()
		}})
	}
	return all
}

func run1(name string, args ...string) labDeed {
	return labDeed{"start " + name, func() error { return exec.Command(name, args...).Run() }}
}

func connect(address string) labDeed {
	return labDeed{"connect to " + address, func() error {
		c, err := net.DialTimeout("tcp", address, 5*time.Second)
		if err != nil {
			return err
		}
		return c.Close()
	}}
}

// deeds are tried in turn. The test says which of them have to work.
var deeds = func() []labDeed {
	var all []labDeed
	for _, folder := range []string{"/data/vindu", "/data/wifi", "/run/vindu", "/data", "/data/rauc", "/", "/etc", "/tmp", "/var/tmp", "/var/lib", "/run", "/dev/shm", "/home"} {
		all = append(all, writeTo(folder))
	}
	all = append(all, openFor(os.O_RDONLY, "/etc/vindu/agent.toml", "/dev/tpmrm0", "/dev/dri/card0", "/dev/video0", "/etc/shadow", "/proc/1/environ", "/dev/mem", "/dev/kmsg", "/dev/vda", "/dev/dm-0",
		"/dev/mapper/data", "/dev/mapper/control", "/dev/tpm0", "/dev/vport0p1", "/dev/watchdog0", "/data/rauc", "/root")...)
	all = append(all, openFor(os.O_WRONLY, "/proc/sysrq-trigger", "/proc/sys/kernel/hostname", "/sys/power/state", "/usr/bin/vindu-agent", "/run/systemd/notify")...)
	return append(all, run1("/bin/true"), run1("/bin/sh", "-c", "true"), run1("/proc/self/exe", "version"),
		labDeed{"start a program that it wrote", func() error {
			name := "/data/vindu/lab-program"
			defer os.Remove(name)
			if err := os.WriteFile(name, []byte("#!/bin/sh\n"), 0o700); err != nil {
				return err
			}
			return exec.Command(name).Run()
		}},
		labDeed{"bind a UDP port", func() error {
			c, err := net.ListenPacket("udp", ":0")
			if err != nil {
				return err
			}
			return c.Close()
		}},
		labDeed{"wait at a TCP port", func() error {
			l, err := net.Listen("tcp", ":0")
			if err != nil {
				return err
			}
			return l.Close()
		}},
		labDeed{"bind a TCP port", func() error {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			return unix.Bind(fd, &unix.SockaddrInet4{Port: 8123})
		}},
		labDeed{"make a raw socket", func() error {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP)
			if err != nil {
				return err
			}
			return unix.Close(fd)
		}},
		labDeed{"be root", func() error { return syscall.Setuid(0) }},
		labDeed{"mount", func() error { return unix.Mount("tmpfs", "/data/vindu", "tmpfs", 0, "") }},
		labDeed{"set the clock", func() error { return unix.Settimeofday(&unix.Timeval{Sec: 1}) }},
		labDeed{"begin the system anew", func() error { return unix.Reboot(unix.LINUX_REBOOT_CMD_CAD_OFF) }},
		labDeed{"end the first process", func() error { return unix.Kill(1, 0) }},
		connect("10.77.0.1:443"), connect("10.77.0.1:8443"), connect("10.77.0.1:22"),
	)
}()
