// Command vindu-agent is the program of a terminal in a patient's home.
//
//	vindu-agent run -config FILE                        be the terminal; -confine: and give up what a terminal does not need, such as
//	                                                    other files, starting programs and waiting for connections
//	vindu-agent enrol -config FILE -voucher-file FILE   set it up with a voucher of the clinic; FILE - reads it from standard input;
//	                                                    -new-key gives up the key that it has, or has lost, and makes another
//	vindu-agent diagnose -config FILE                   print what the terminal says of itself, and who can do what; -json: for who supports it,
//	                                                    without anything that names a person, a home or the terminal
//	vindu-agent config                                  print a configuration file with every key and its default
//	vindu-agent version                                 print the version, the commit and what it is made of
//
// Every failure says on standard error what, where and what to do, and has an exit status: 1 for a failure, 2 for
// wrong usage. run logs to standard error and says "ready" once the clinic is reached.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"vindu/device/agent"
	"vindu/protocol"
)

var errUsage = errors.New("usage")

const usage = `usage:
  vindu-agent run -config FILE                        be the terminal; -confine: and give up all other files and rights;
                                                      -profile FILE: write where each call's processor time went
  vindu-agent enrol -config FILE -voucher-file FILE   set the terminal up; FILE - is standard input;
                                                      -new-key: with a new key, giving up the one it has
  vindu-agent diagnose -config FILE                   print what the terminal says of itself; -json: for who supports it
  vindu-agent config                                  print a configuration with every key and its default
  vindu-agent version                                 print the version, the commit and what it is made of
`

func main() {
	tuneMemory()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := command(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "vindu-agent: %v\n", err)
		if errors.Is(err, errUsage) {
			fmt.Fprint(os.Stderr, usage)
			os.Exit(2)
		}
		if code := protocol.CodeOf(err); code != protocol.Unknown {
			entry := protocol.Explain(code)
			fmt.Fprintf(os.Stderr, "vindu-agent: %s: %s %s\n", code, entry.Sentence, entry.Next)
		}
		os.Exit(1)
	}
}

func command(ctx context.Context, args []string, in io.Reader, out, errOut io.Writer) error {
	if len(args) == 0 {
		return fmt.Errorf("%w: a command is missing", errUsage)
	}
	flags := flag.NewFlagSet(args[0], flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	file := flags.String("config", "/etc/vindu/agent.toml", "")
	voucher, newKey, confined, asJSON, profile := "", false, false, false, ""
	if args[0] == "diagnose" {
		flags.BoolVar(&asJSON, "json", false, "")
	}
	if args[0] == "run" {
		flags.BoolVar(&confined, "confine", false, "")
		flags.StringVar(&profile, "profile", "", "")
	}
	if args[0] == "enrol" {
		flags.StringVar(&voucher, "voucher-file", "", "")
		flags.BoolVar(&newKey, "new-key", false, "")
	}
	err := flags.Parse(args[1:])
	if errors.Is(err, flag.ErrHelp) {
		_, err := io.WriteString(out, usage)
		return err
	}
	if err != nil {
		return fmt.Errorf("%w: %s: %w", errUsage, args[0], err)
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("%w: %s: unexpected %q", errUsage, args[0], flags.Arg(0))
	}
	switch args[0] {
	case "run":
		cfg, err := agent.LoadConfig(*file)
		if err != nil {
			return err
		}
		log := logger(cfg.Log, errOut)
		if confined && profile != "" {
			return fmt.Errorf("%w: run: -profile writes a file that -confine gives up", errUsage)
		}
		if confined {
			if err := giveUp(cfg, *file, log); err != nil {
				return err
			}
		}
		return run(ctx, cfg, profile, log)
	case "enrol":
		if voucher == "" {
			return fmt.Errorf("%w: enrol: -voucher-file is missing", errUsage)
		}
		cfg, err := agent.LoadConfig(*file)
		if err != nil {
			return err
		}
		return enrol(ctx, cfg, voucher, newKey, in, out, logger(cfg.Log, errOut))
	case "diagnose":
		cfg, err := agent.LoadConfig(*file)
		if err != nil {
			return err
		}
		return diagnose(cfg, asJSON, out)
	case "config":
		_, err := io.WriteString(out, agent.Example)
		return err
	case "version":
		_, err := io.WriteString(out, about())
		return err
	case "help", "-h", "-help", "--help":
		_, err := io.WriteString(out, usage)
		return err
	}
	return fmt.Errorf("%w: unknown command %q", errUsage, args[0])
}

func logger(cfg agent.Log, w io.Writer) *slog.Logger {
	var level slog.LevelVar
	if err := level.UnmarshalText([]byte(cfg.Level)); err != nil {
		level.Set(slog.LevelInfo) // the configuration was checked
	}
	options := &slog.HandlerOptions{Level: &level}
	if cfg.Format == "text" {
		return slog.New(slog.NewTextHandler(w, options))
	}
	return slog.New(slog.NewJSONHandler(w, options))
}
