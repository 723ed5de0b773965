// Command vindu-clinic is the clinic's server, and the commands that work on the same clinic beside it.
//
//	vindu-clinic init -dir D -organisation O -address host:port    makes a clinic in folder D
//	vindu-clinic serve -config D/clinic.toml                       runs it until SIGINT or SIGTERM
//	vindu-clinic voucher -dir D -home "Home 17, Storgata"          prints a voucher to set up that home's terminal with
//	vindu-clinic person -dir D -person "Anne Berg" -role nurse -duty clinician
//	vindu-clinic person -dir D -person "Kari Moe" -role administrator -duty administrator   prints an invitation, too
//	vindu-clinic sign-in-link -dir D -person "Anne Berg" -role nurse
//	vindu-clinic revoke -dir D -home "Home 17, Storgata" -reason "stolen"
//	vindu-clinic mandate -dir D -person "Kari Nes" -laptop vindu-laptop-1.… [-withdraw]
//	vindu-clinic decommission -dir D -home "Home 17, Storgata" -reason "returned" [-withdraw]
//	vindu-clinic renew-ca -dir D [-root]                           makes a new issuing CA, and a new root
//	vindu-clinic audit list|head|verify -dir D [FILE]              reads the audit log, and compares it with heads that were kept
//	vindu-clinic replace-keys -dir D [-before 2026-11-22T10:00:00Z]   has terminals replace their keys
//	vindu-clinic grant give|renew|withdraw|list -dir D -person "Anne Berg" -role nurse -homes "Home 17, Storgata" …
//	vindu-clinic groups|provider -dir D -home "Home 17, Storgata" -in "north; ward 3"|-is "Vestnett"
//	vindu-clinic policy show|set -dir D [-home "Home 17, Storgata"] [FILE.toml]
//	vindu-clinic roll-over -dir D [-finish]                        replaces the authorisation key, in two steps
//	vindu-clinic waiting -dir D > FILE                             what waits to be signed
//	vindu-clinic authorise -key KEY FILE > SIGNED                  signs it, on another machine
//	vindu-clinic accept -dir D SIGNED
//	vindu-clinic support -dir D > FILE                             how the clinic is, for who supports it, without names, addresses and keys
//
// What a program is to read goes to standard output, alone; everything for people goes to standard error. A command that
// could not do what it was asked says what, where and what to do, and exits with 1; one that was asked wrongly, with 2.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"os/user"
	"runtime/debug"
	"strings"
	"syscall"

	"vindu/protocol"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// command is one thing that this program does.
type command struct {
	name, summary string
	run           func(ctx context.Context, c *call) error
}

// call is one use of a command.
type call struct {
	flags   *flag.FlagSet
	summary string // what the command does, for its -h
	args    []string
	stdin   io.Reader
	stdout  io.Writer
	stderr  io.Writer
}

var commands = []command{
	{"init", "make a clinic: keys, database, configuration", initialise},
	{"serve", "run the server", serve},
	{"voucher", "print a voucher that lets one terminal in, once", voucher},
	{"person", "add a person, or change what a person does here", person},
	{"sign-in-link", "print an address by which a person signs in, once", signInLink},
	{"revoke", "withdraw a terminal's right to connect, for good", revoke},
	{"mandate", "authorise a technician's laptop to work at terminals", mandate},
	{"decommission", "order a terminal to destroy its keys and state", decommission},
	{"renew-ca", "make a new issuing CA, and a new root if asked to", renewCA},
	{"audit", "read the audit log, and prove that it is whole", auditLog},
	{"replace-keys", "have terminals replace their keys by new ones", replaceKeys},
	{"grant", "say who may call which homes, until when, and take it back", grant},
	{"groups", "put homes into groups, which grants name", groups},
	{"provider", "note who provides homes' lines", provider},
	{"policy", "say what homes' terminals do about callers", policy},
	{"roll-over", "replace the authorisation key by a new one", rollOver},
	{"waiting", "write what waits to be signed, where the authorisation key is elsewhere", waiting},
	{"authorise", "sign what waits, on the machine that has the key", authorise},
	{"accept", "take back what was signed", accept},
	{"support", "write how the clinic is, for who supports it, without naming anybody", support},
	{"version", "print what this is", version},
}

// errUsage is wrapped when a command was asked wrongly.
var errUsage = errors.New("usage")

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if len(args) > 0 {
		for _, c := range commands {
			if c.name == args[0] {
				use := newCall(c.name, args[1:], stdout, stderr)
				use.summary = c.summary
				return exit(stderr, c.run(ctx, use))
			}
		}
		if args[0] != "help" && args[0] != "-h" && args[0] != "-help" && args[0] != "--help" {
			fmt.Fprintf(stderr, "vindu-clinic: there is no command %q\n", args[0])
		}
	}
	fmt.Fprintln(stderr, "vindu-clinic is a clinic's server for video terminals. Commands (each explains itself with -h):")
	for _, c := range commands {
		fmt.Fprintf(stderr, "  %-13s %s\n", c.name, c.summary)
	}
	return 2
}

func exit(stderr io.Writer, err error) int {
	switch {
	case err == nil:
		return 0
	case errors.Is(err, flag.ErrHelp):
		return 2
	case errors.Is(err, errUsage):
		text := strings.Replace(err.Error(), errUsage.Error()+": ", "", 1)
		if !strings.HasPrefix(text, "vindu-clinic ") { // it names the command
			text = "vindu-clinic: " + text
		}
		fmt.Fprintln(stderr, text)
		return 2
	}
	fmt.Fprintf(stderr, "vindu-clinic: %v\n", err)
	return 1
}

func newCall(name string, args []string, stdout, stderr io.Writer) *call {
	f := flag.NewFlagSet("vindu-clinic "+name, flag.ContinueOnError)
	f.SetOutput(stderr)
	c := &call{flags: f, args: args, stdin: os.Stdin, stdout: stdout, stderr: stderr}
	f.Usage = func() { c.usage(name) }
	return c
}

// parse parses the flags, of which those named are required.
func (c *call) parse(required ...string) error {
	if err := c.flags.Parse(c.args); err != nil {
		return c.misused(err)
	}
	if c.flags.NArg() > 0 {
		return fmt.Errorf("%w: %s: %q belongs to no flag: quote values with spaces", errUsage, c.flags.Name(), c.flags.Arg(0))
	}
	for _, name := range required {
		if c.flags.Lookup(name).Value.String() == "" {
			return fmt.Errorf("%w: %s: -%s is missing: %s", errUsage, c.flags.Name(), name, c.flags.Lookup(name).Usage)
		}
	}
	return nil
}

// misused is what is said of flags that cannot be parsed, or that ask for help.
func (c *call) misused(err error) error {
	if errors.Is(err, flag.ErrHelp) {
		return err
	}
	return fmt.Errorf("%w: %s: %w", errUsage, c.flags.Name(), err)
}

// by adds a flag for who does this, as the audit log will name them.
func (c *call) by() *string {
	who := "administrator"
	if u, err := user.Current(); err == nil && u.Username != "" {
		who = u.Username
	}
	if s := os.Getenv("SUDO_USER"); s != "" {
		who = s
	}
	return c.flags.String("by", who, "who does this, for the audit log")
}

// release is the version of this program, as vindu-agent has its own.
const release = "0.1.0"

// software names this build.
func software() string {
	name := "vindu-clinic " + release
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" && len(s.Value) >= 12 {
				name += "+" + s.Value[:12]
			}
		}
	}
	return name
}

func version(_ context.Context, c *call) error {
	if err := c.parse(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(c.stdout, "%s, protocol %d\n", software(), protocol.Version)
	return err
}
