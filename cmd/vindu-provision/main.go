// Command vindu-provision is the technician's tool: it sets a terminal up over a serial cable, proves that it works and hands it over.
//
//	vindu-provision [setup]     set up, check, hand over; asks for what no flag answers
//	vindu-provision check       the acceptance check alone, of a terminal that is set up
//	vindu-provision info        what the terminal at the cable says about itself
//	vindu-provision ports       the serial ports of this laptop
//	vindu-provision key         this laptop's public key, to get an authorisation for at the clinic's page
//	vindu-provision mandate     store that authorisation, or show it
//	vindu-provision reset       have a terminal destroy its key and all that it keeps, so that it can be set up anew
//	vindu-provision sheet       print the page of an earlier hand-over again
//
// Running it again goes on where it stopped, whatever stopped it. With --json, standard output is one JSON object and nothing else.
// A failure is one sentence and what to do, with a stable code; the exit status is 0 if all is well, 1 for a failure, 2 for wrong
// usage, 3 if the terminal is set up but checks failed.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/alecthomas/kong"
	"golang.org/x/term"

	"vindu/provisioning/laptop"
)

// version is the release that this source will become, as vindu-agent has its own.
const version = "0.1.0"

// Exit statuses.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
	exitChecks = 3
)

// cli is the command line.
type cli struct {
	JSON    bool   `name:"json" help:"Print one JSON object on standard output; what is for people goes to standard error."`
	NoInput bool   `help:"Ask nothing: what no flag answers is an error. So it is when standard input is not a terminal."`
	Plain   bool   `help:"Ask and tell in plain lines, without colour and without moving the cursor. So it is with TERM=dumb."`
	Verbose bool   `short:"v" help:"Tell the details of failures too."`
	Folder  string `help:"Folder of this laptop's key, authorisation and records (${folder})." placeholder:"DIR" type:"path"`

	Setup   setupCmd   `cmd:"" default:"withargs" help:"Set a terminal up, check it and hand it over. This is done if no command is given."`
	Check   checkCmd   `cmd:"" help:"Run the acceptance check of a terminal that is set up."`
	Info    infoCmd    `cmd:"" help:"Tell what the terminal at the cable says about itself."`
	Ports   portsCmd   `cmd:"" help:"List the serial ports of this laptop."`
	Key     keyCmd     `cmd:"" help:"Print this laptop's public key, to get an authorisation for at the clinic's page."`
	Mandate mandateCmd `cmd:"" help:"Store the clinic's authorisation for this laptop, or show the one that is stored."`
	Reset   resetCmd   `cmd:"" help:"Have a terminal destroy its key and all that it keeps: one that was revoked, or whose key is damaged or away. It can then be set up anew."`
	Sheet   sheetCmd   `cmd:"" help:"Print the page of an earlier hand-over again."`
	Version versionCmd `cmd:"" help:"Print the version."`
}

// portFlags choose the cable.
type portFlags struct {
	Port string        `help:"Serial port, such as /dev/ttyACM0 or COM3. Without it, every port is tried." placeholder:"PORT"`
	Code string        `help:"Code that the terminal's screen shows, ABCD-EFGH-IJKL-MNOP: what the cable leads to has to have it." placeholder:"CODE"`
	Wait time.Duration `help:"How long to wait for a cable that was pulled or a terminal that restarts." default:"2m"`
}

// world is all that this program meets; tests have their own.
type world struct {
	in          io.Reader
	out, err    io.Writer
	interactive bool // somebody is there to answer
	fancy       bool // the terminal moves its cursor
	colour      bool
	width       func() int // columns of the screen; nil if there is none
	ports       func() ([]port, error)
	open        func(path string) (io.ReadWriteCloser, error)
	now         func() time.Time
	zone        *time.Location
	poll        time.Duration // between two looks at something that takes its time
}

func main() {
	// The first interrupt ends in order, another one a second later at once: timeout(1) sends the same one twice.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, func() { time.AfterFunc(time.Second, stop) })
	code := run(ctx, os.Args[1:], machine())
	stop()
	os.Exit(code)
}

// machine is the world as it is.
func machine() *world {
	in, out := int(os.Stdin.Fd()), int(os.Stderr.Fd())
	capable := term.IsTerminal(out) && os.Getenv("TERM") != "dumb" && (os.Getenv("TERM") != "" || os.PathSeparator == '\\')
	w := &world{
		in: os.Stdin, out: os.Stdout, err: os.Stderr,
		interactive: term.IsTerminal(in) && term.IsTerminal(out), fancy: capable && term.IsTerminal(in), colour: capable && os.Getenv("NO_COLOR") == "",
		ports: serialPorts, open: openSerial, now: time.Now, zone: time.Local, poll: time.Second,
	}
	if term.IsTerminal(out) {
		w.width = func() int {
			columns, _, _ := term.GetSize(out) // 0 where it does not tell
			return columns
		}
	}
	return w
}

func run(ctx context.Context, args []string, w *world) (status int) {
	folder, err := laptop.Folder()
	if err != nil {
		folder = "none known: name one"
	}
	c := new(cli)
	parser, err := kong.New(c, kong.Name("vindu-provision"), kong.Writers(w.out, w.err), kong.Exit(func(int) { panic(helped{}) }),
		kong.Description("Sets up video terminals over a serial cable, proves that they work and hands them over."),
		kong.Vars{"folder": folder}, kong.ConfigureHelp(kong.HelpOptions{Compact: true}))
	if err != nil {
		panic(err) // the command line above is wrong: cannot happen
	}
	defer func() { // kong ends the program after --help
		switch p := recover().(type) {
		case nil:
		case helped:
			status = exitDone
		default:
			panic(p)
		}
	}()
	parsed, err := parser.Parse(args)
	if err != nil {
		return misused(err, slices.Contains(args, "--json"), w)
	}
	if c.Folder == "" {
		c.Folder = folder
	}
	a := newApp(c, w)
	command, _, _ := strings.Cut(parsed.Command(), " ")
	a.result.Command = command
	return a.finish(parsed.Run(&call{ctx, a}))
}

// misused says what is wrong with the command line.
func misused(err error, asJSON bool, w *world) int {
	fmt.Fprintf(w.err, "vindu-provision: %v\nvindu-provision --help tells how it is used.\n", err)
	if asJSON {
		r := result{Failure: &failure{
			Code: "tool.usage", Sentence: fmt.Sprintf("The command line is wrong: %v.", err), Next: "See vindu-provision --help.",
		}}
		if err := r.write(w.out); err != nil {
			fmt.Fprintf(w.err, "vindu-provision: %v\n", err)
		}
	}
	return exitUsage
}

// helped is how kong's wish to exit comes back to run.
type helped struct{}

// call is what commands get from kong: it passes no context of its own.
type call struct {
	ctx context.Context
	app *app
}

// app is one run of a command.
type app struct {
	*world
	flags  *cli
	ask    asker
	say    *teller
	log    *slog.Logger
	result result
}

func newApp(c *cli, w *world) *app {
	a := &app{world: w, flags: c, log: slog.New(slog.DiscardHandler)}
	a.say = &teller{w: w.err, colour: w.colour && !c.Plain, fancy: w.fancy && !c.Plain, width: w.width}
	if c.Verbose {
		a.log = slog.New(slog.NewTextHandler(w.err, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	switch {
	case c.NoInput || !w.interactive:
		a.ask = nobody{}
	case c.Plain || !w.fancy:
		a.ask = newLines(w.in, w.err, w.width)
	default:
		a.ask = newForms(w.in, w.err, w.width)
	}
	return a
}

// somebody tells whether a person answers questions.
func (a *app) somebody() bool {
	_, none := a.ask.(nobody)
	return !none
}

// laptop opens the folder.
func (a *app) laptop() (*laptop.Laptop, error) { return laptop.Open(a.flags.Folder) }

// finish tells how it went and returns the exit status.
func (a *app) finish(err error) int {
	status := exitDone
	switch {
	case err == nil:
	case errors.Is(err, errChecks):
		status = exitChecks
	case errors.Is(err, errUsage):
		status = exitUsage
	default:
		status = exitFailed
	}
	a.result.OK = status == exitDone
	if err != nil {
		f := explain(err)
		a.result.Failure = &f
		a.say.failure(f, a.flags.Verbose)
	}
	if a.flags.JSON {
		if err := a.result.write(a.out); err != nil {
			a.say.line("vindu-provision: " + err.Error())
			return exitFailed
		}
	}
	return status
}

// print is for what a command was asked for, unless it goes out as JSON.
func (a *app) print(format string, args ...any) {
	if !a.flags.JSON {
		fmt.Fprintf(a.out, format, args...)
	}
}

// software names this program and its version.
func software() string {
	name := "vindu-provision " + version
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" && len(s.Value) >= 12 {
				name += "+" + s.Value[:12]
			}
		}
	}
	return name
}

type versionCmd struct{}

// Run prints the version.
func (versionCmd) Run(c *call) error {
	c.app.result.Version = software()
	c.app.print("%s\n", software())
	return nil
}
