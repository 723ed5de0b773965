// Labguest is the test's hand inside the lab's guest. It answers calls (package control) on the virtio-serial port
// named on its command line, for as long as the guest runs; or, with "tpm" before it, it joins the TPM at that port's other
// end to the guest's kernel; or, with "voice", it has espeak-ng speak at that socket; or, with "room" alone, it is a room between standard input and output.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"vindu/media/speech/speechtest"
	"vindu/scripts/lab/control"
)

func main() {
	if len(os.Args) == 3 && os.Args[1] == "tpm" {
		fmt.Fprintf(os.Stderr, "labguest: %v\n", bridge(os.Args[2]))
		os.Exit(1)
	}
	if len(os.Args) == 2 && os.Args[1] == "room" {
		if err := room(os.Stdin, os.Stdout); err != nil {
			fmt.Fprintf(os.Stderr, "labguest: %v\n", err)
			os.Exit(1)
		}
		return
	}
	if len(os.Args) == 3 && os.Args[1] == "voice" {
		fmt.Fprintf(os.Stderr, "labguest: %v\n", voice(os.Args[2]))
		os.Exit(1)
	}
	if len(os.Args) == 3 && os.Args[1] == "open" {
		fmt.Fprintf(os.Stderr, "labguest: %v\n", open(os.Args[2]))
		os.Exit(1)
	}
	if len(os.Args) == 4 && os.Args[1] == "flash" {
		if err := flash(os.Args[2], os.Args[3]); err != nil {
			fmt.Fprintf(os.Stderr, "labguest: %v\n", err)
			os.Exit(1)
		}
		return
	}
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "labguest: name the serial port")
		os.Exit(2)
	}
	device, err := os.OpenFile(os.Args[1], os.O_RDWR, 0)
	if err != nil {
		fmt.Fprintf(os.Stderr, "labguest: %v\n", err)
		os.Exit(1)
	}
	for {
		fmt.Fprintf(os.Stderr, "labguest: %v\n", control.Serve(port{device}))
	}
}

// voice has a synthesiser speak at a socket, as systemd does on a terminal.
func voice(socket string) error {
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	return speechtest.Serve(context.Background(), listener)
}

// open listens, and hears nothing.
func open(port string) error {
	listener, err := net.Listen("tcp", ":"+port)
	if err != nil {
		return err
	}
	defer listener.Close()
	conn, err := net.ListenPacket("udp", ":"+port)
	if err != nil {
		return err
	}
	defer conn.Close()
	for {
		if _, _, err := conn.ReadFrom(make([]byte, 1)); err != nil {
			return err
		}
	}
}

// port reads past the times at which the host's end is not connected: the driver reports those as end of file.
type port struct{ device *os.File }

func (p port) Read(b []byte) (int, error) {
	for {
		n, err := p.device.Read(b)
		if !errors.Is(err, io.EOF) {
			return n, err
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (p port) Write(b []byte) (int, error) { return p.device.Write(b) }

// Close keeps the device open for the next caller.
func (port) Close() error { return nil }
