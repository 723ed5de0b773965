// Command vindu-panel is a panel without a microcontroller, for trials: it does what the reference firmware does, and keys are its buttons.
//
//	vindu-panel                 at a new pseudo-terminal, whose name it prints; -link FILE: and links FILE to it
//	vindu-panel -socket FILE    at the serial line of a virtual machine, which is a unix socket
//	vindu-panel -device FILE    at a serial port of this machine
//
// Keys: n no, a answer, s shutter, + and - the knob, l light in the room, u pull the cable or put it back, N and A hold a button or let it go, q quit. On a terminal each key
// counts at once; otherwise commands are read as they come, and others than these are ignored. Each change of what the panel switches is a line on standard output.
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"golang.org/x/term"

	"vindu/device/panel"
	"vindu/device/panel/simulator"
)

const (
	pressTime = 150 * time.Millisecond
	help      = "n no · a answer · s shutter · + - knob · l light · u cable · N A hold · q quit"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := command(ctx, os.Args[1:], os.Stdin, os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "vindu-panel: %v\n", err)
		os.Exit(1)
	}
}

func command(ctx context.Context, args []string, in *os.File, out io.Writer) error {
	flags := flag.NewFlagSet("vindu-panel", flag.ContinueOnError)
	link := flags.String("link", "", "a file that is made a link to the pseudo-terminal")
	socket := flags.String("socket", "", "the unix socket of a virtual machine's serial line")
	device := flags.String("device", "", "a serial port, such as /dev/ttyUSB0 or usb:1-1.3")
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		return nil
	} else if err != nil {
		return err
	}
	line, name, err := open(ctx, *socket, *device)
	if err != nil {
		return err
	}
	defer line.Close()
	if *link != "" {
		if err := os.Remove(*link); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("make the link: %w", err)
		}
		if err := os.Symlink(name, *link); err != nil {
			return fmt.Errorf("make the link: %w", err)
		}
		defer os.Remove(*link)
	}
	cooked := func() {}
	if fd := int(in.Fd()); term.IsTerminal(fd) {
		was, err := term.MakeRaw(fd)
		if err != nil {
			return fmt.Errorf("read keys: %w", err)
		}
		cooked = sync.OnceFunc(func() { _ = term.Restore(fd, was) })
	}
	defer cooked()
	return play(ctx, line, name, in, out)
}

// open returns the line that is asked for, and its name.
func open(ctx context.Context, socket, device string) (io.ReadWriteCloser, string, error) {
	switch {
	case socket != "" && device != "":
		return nil, "", errors.New("-socket and -device cannot both be given")
	case socket != "":
		conn, err := new(net.Dialer).DialContext(ctx, "unix", socket)
		if err != nil {
			return nil, "", fmt.Errorf("open the line: %w", err)
		}
		return conn, socket, nil
	case device != "":
		line, err := panel.Port(device)(ctx)
		return line, device, err
	}
	pty, err := simulator.OpenPTY()
	if err != nil {
		return nil, "", err
	}
	return pty, pty.Path(), nil
}

// play is a panel at a line, until somebody quits or ctx ends.
func play(ctx context.Context, line io.ReadWriteCloser, name string, in io.Reader, out io.Writer) error {
	ctx, quit := context.WithCancel(ctx)
	defer quit()
	said := make(chan string, 64)
	say := func(format string, args ...any) {
		select {
		case said <- fmt.Sprintf(format, args...):
		default: // nobody reads so slowly
		}
	}
	say("panel at %s", name)
	say("%s", help)
	cable := &simulator.Cable{Line: line}
	s := simulator.New(new(simulator.Panel), func(o simulator.Outputs) { say("%s", o) })
	keys := make(chan rune)
	go func() { // ends with the program: reading standard input cannot be cancelled
		for r := bufio.NewReader(in); ; {
			key, _, err := r.ReadRune()
			if err != nil {
				return // the panel goes on without hands
			}
			select {
			case keys <- key:
			case <-ctx.Done():
				return
			}
		}
	}()
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx, cable) }()
	for {
		select {
		case err := <-ended:
			return err
		case words := <-said:
			if _, err := fmt.Fprintf(out, "%s\r\n", words); err != nil {
				quit()
				return errors.Join(err, <-ended)
			}
		case key := <-keys:
			if key == 'q' || key == 3 { // Ctrl-C on a terminal that passes keys on
				quit()
				return <-ended
			}
			press(s, cable, key, say)
		}
	}
}

// press does what a key means.
func press(s *simulator.Simulator, cable *simulator.Cable, key rune, say func(string, ...any)) {
	brief := func(set func(*simulator.Inputs, bool)) {
		s.Change(func(in *simulator.Inputs) { set(in, true) })
		time.AfterFunc(pressTime, func() { s.Change(func(in *simulator.Inputs) { set(in, false) }) })
	}
	word := func(on bool, yes, no string) string {
		if on {
			return yes
		}
		return no
	}
	switch key {
	case 'n':
		brief(func(in *simulator.Inputs, on bool) { in.No = on })
		say("no")
	case 'a':
		brief(func(in *simulator.Inputs, on bool) { in.Answer = on })
		say("answer")
	case 'N':
		s.Change(func(in *simulator.Inputs) { in.No = !in.No })
		say("no button %s", word(s.Inputs().No, "held", "let go"))
	case 'A':
		s.Change(func(in *simulator.Inputs) { in.Answer = !in.Answer })
		say("answer button %s", word(s.Inputs().Answer, "held", "let go"))
	case 's':
		s.Change(func(in *simulator.Inputs) { in.Open = !in.Open })
		say("shutter %s", word(s.Inputs().Open, "open", "closed"))
	case '+', '-':
		s.Change(func(in *simulator.Inputs) {
			if key == '+' {
				in.Volume = min(in.Volume+10, 100)
			} else {
				in.Volume -= min(in.Volume, 10)
			}
		})
		say("knob %d %%", s.Inputs().Volume)
	case 'l':
		s.Change(func(in *simulator.Inputs) { in.Light ^= 128 })
		say("room %s", word(s.Inputs().Light >= 128, "light", "dark"))
	case 'u':
		cable.Pull(!cable.Pulled())
		say("cable %s", word(cable.Pulled(), "pulled out", "in"))
	}
}
