// Powercut shows, in the lab's guest, what a power cut leaves of a terminal's state.
//
//	powercut record [-nobarrier] DATA LOG
//	powercut replay [-cuts N] [-seed N] DATA LOG TARGET
//
// Record puts the kernel's dm-log-writes between an ext4 file system on the block device DATA and the packages that
// ship (state, outbox, identity), lets these work, and marks in the log what they have promised: an event that is
// appended, a file that is written, a key. Replay makes, for each of N moments of that log, a disk as a cut there may
// leave it: what was flushed is there whole, and of what was written since any part, in any order, down to single
// sectors. It mounts that disk on TARGET, opens the state by the same packages, and compares it with the promises
// made by then. Its summary is one JSON object on standard output.
//
// A file system without barriers (-nobarrier) breaks the promises, and shows that replay would see it.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
)

// copyOf is where record keeps what was on the data device before.
const copyOf = "/tmp/powercut-before"

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "powercut: %v\n", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	flags := flag.NewFlagSet("powercut", flag.ContinueOnError)
	nobarrier := flags.Bool("nobarrier", false, "mount without barriers, to see promises broken")
	cuts := flags.Int("cuts", 40, "how many cuts")
	seed := flags.Uint64("seed", 1, "which moments, and what they leave")
	if len(args) == 0 {
		return fmt.Errorf("say record or replay")
	}
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	switch {
	case args[0] == "record" && flags.NArg() == 2:
		return record(flags.Arg(0), flags.Arg(1), *nobarrier)
	case args[0] == "replay" && flags.NArg() == 3:
		s, err := replay(flags.Arg(0), flags.Arg(1), flags.Arg(2), *cuts, *seed)
		if err != nil {
			return err
		}
		return json.NewEncoder(os.Stdout).Encode(s)
	}
	return fmt.Errorf("usage: powercut record [-nobarrier] DATA LOG | powercut replay [-cuts N] [-seed N] DATA LOG TARGET")
}
