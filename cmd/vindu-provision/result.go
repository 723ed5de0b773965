package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"vindu/protocol"
	"vindu/provisioning/laptop"
	"vindu/provisioning/session"
)

// result is what --json prints. Fields are added, never renamed or taken away.
type result struct {
	Command      string                `json:"command"`
	OK           bool                  `json:"ok"`
	Version      string                `json:"version,omitempty"`
	Ports        []port                `json:"ports,omitempty"`
	Port         string                `json:"port,omitempty"`
	Terminal     *terminal             `json:"terminal,omitempty"`
	Info         *session.Info         `json:"info,omitempty"`
	Network      *session.NetworkState `json:"network,omitempty"`
	EnrolledBy   string                `json:"enrolled_by,omitempty"` // the network over which: "terminal" or "laptop"; "before" if it was set up already
	Checks       []finding             `json:"checks,omitempty"`
	HandOver     *handedOver           `json:"hand_over,omitempty"`
	LaptopKey    string                `json:"laptop_key,omitempty"`
	Technician   *protocol.Party       `json:"technician,omitempty"`
	MandateUntil *protocol.Time        `json:"mandate_until,omitempty"` // milliseconds since 1970
	Failure      *failure              `json:"failure,omitempty"`
}

// terminal is who was at the other end of the cable.
type terminal struct {
	Name string `json:"name"`
	Code string `json:"code"`
}

// finding is a check with what to do about it.
type finding struct {
	protocol.Check
	Sentence string `json:"sentence,omitempty"`
	Next     string `json:"next,omitempty"`
}

func findings(checks []protocol.Check) []finding {
	var found []finding
	for _, c := range checks {
		f := finding{Check: c}
		if c.Code != "" {
			entry := protocol.Explain(c.Code)
			f.Sentence, f.Next = entry.Sentence, entry.Next
		}
		found = append(found, f)
	}
	return found
}

// handedOver is where the record is.
type handedOver struct {
	ID     string        `json:"id"`
	At     protocol.Time `json:"at"`
	Record string        `json:"record"`
	Sheet  string        `json:"sheet"`
	Page   string        `json:"page,omitempty"` // the sheet itself, where it was asked for
}

func (r *result) write(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(r)
}

// failure is what a person is told: one sentence, and what to do. As an error it is one that this program itself found; all others have
// their sentence in protocol.Register.
type failure struct {
	Code     string `json:"code"`
	Sentence string `json:"sentence"`
	Next     string `json:"next"`
	Detail   string `json:"detail,omitempty"`
	is       error
}

func (f *failure) Error() string { return f.Sentence }
func (f *failure) Unwrap() error { return f.is }

var (
	errUsage   = errors.New("wrong usage")
	errChecks  = errors.New("checks failed")
	errStopped = errors.New("stopped")
)

// because returns f with what lies under it.
func (f failure) because(err error) error {
	if err != nil {
		f.Detail = err.Error()
		f.is = errors.Join(f.is, err)
	}
	return &f
}

// of returns f with the name of what it is about.
func (f failure) of(what string) failure {
	f.Sentence = strings.TrimSuffix(f.Sentence, ".") + ": " + what + "."
	return f
}

// unusable is a file that could not be read or written, by its name and with the reason.
func unusable(err error) error {
	if path := new(fs.PathError); errors.As(err, &path) {
		return badFile.of(fmt.Sprintf("%s (%v)", path.Path, path.Err)).because(err)
	}
	return badFile.because(err)
}

// What only the laptop can find. Codes begin with "tool." and are stable, as those of the register are.
var (
	noPort = failure{Code: "tool.no_port", Sentence: "This laptop has no serial port.",
		Next: "Connect the cable to the terminal's service socket and to this laptop, wait a few seconds and run this again."}
	noTerminal = failure{Code: "tool.no_terminal", Sentence: "No terminal answers at any serial port.",
		Next: "Check that the terminal is on and the cable is in its service socket, then run this again; --port names a port yourself."}
	noAnswer = failure{Code: "tool.no_answer", Sentence: "No terminal answers at this port.",
		Next: "Check that the terminal is on and the cable is in its service socket; without --port every port is tried."}
	portMissing = failure{Code: "tool.port_missing", Sentence: "There is no such serial port.",
		Next: "Check the cable; vindu-provision ports lists the ports that there are."}
	portBusy = failure{Code: "tool.port_busy", Sentence: "Another program uses the serial port.",
		Next: "Close other terminal programs (minicom, screen, ModemManager) and run this again."}
	portForbidden = failure{Code: "tool.port_forbidden", Sentence: "You may not use the serial port.",
		Next: "Add yourself to the group that may (on Debian and Ubuntu: sudo adduser $USER dialout), sign out and in, and run this again."}
	portUnusable = failure{Code: "tool.port_unusable", Sentence: "The serial port cannot be used.",
		Next: "Pull the cable out, put it back and run this again; use another cable if this stays."}
	severalTerminals = failure{Code: "tool.several_terminals", Sentence: "More than one terminal is connected.",
		Next: "Leave one cable in, or choose by --port.", is: errUsage}
	badCode = failure{Code: "tool.code_text", Sentence: "This is not the code of a terminal", is: errUsage,
		Next: "Give the 16 letters and digits that the terminal's screen shows, such as ABCD-EFGH-IJKL-MNOP."}
	codeUnconfirmed = failure{Code: "tool.code_differs", Sentence: "The terminal's screen does not show this code, or it cannot be told.",
		Next: "If it shows another one, check which terminal the cable leads to, and tell the clinic if it is the right one. If it shows none, wait until it does, and run this again."}
	codeDiffers = failure{Code: "tool.code_differs", Sentence: "The terminal at the cable is not the one with this code on its screen.",
		Next: "Do not go on with it: check which terminal the cable leads to, and tell the clinic if it is the right one."}
	twoInputs = failure{Code: "tool.two_inputs", Sentence: "The voucher and the Wi-Fi's password cannot both come from standard input.",
		Next: "Put one of them into a file.", is: errUsage}
	covered = failure{Code: string(protocol.AnswerBusy), Sentence: "The terminal's screen cannot ask for its button now, because it shows something else, such as a call.",
		Next: "Wait until the screen is free and run this again: it goes on where it stopped."}
	otherTerminal = failure{Code: "tool.other_terminal", Sentence: "Another terminal is at the cable now.",
		Next: "Put the cable back into the first one, or run this again for the other."}
	sessionVersion = failure{Code: "tool.version", Sentence: "The terminal and this program do not understand each other.",
		Next: "Use the version of this program that belongs to the terminal's software."}
	notProven = failure{Code: "tool.not_proven", Sentence: "What answers over the cable could not prove that it is the terminal.",
		Next: "Connect the cable directly, without anything in between, and run this again; tell the clinic if this stays."}
	stopped      = failure{Code: "tool.stopped", Sentence: "You stopped.", Next: "Run this again: it goes on where it stopped.", is: errStopped}
	checksFailed = failure{Code: "tool.checks_failed", Sentence: "The terminal is set up, but not all is in order.",
		Next: "Do what is said at each check and run this again.", is: errChecks}
	notSetUp   = failure{Code: "tool.not_set_up", Sentence: "The terminal is not set up yet.", Next: "Run vindu-provision setup."}
	notReset   = failure{Code: "tool.not_reset", Sentence: "Nothing was deleted.", Next: "Nothing has to be done."}
	badVoucher = failure{Code: "tool.voucher_text", Sentence: "This is not a whole voucher.",
		Next: "Copy all of it from the clinic's page, from \"vindu-voucher-1.\" to its end."}
	badMandate = failure{Code: "tool.mandate_text", Sentence: "This is not a whole authorisation.",
		Next: "Copy all of it from the clinic's page, from \"vindu-mandate-1.\" to its end."}
	badFile   = failure{Code: "tool.file", Sentence: "A file could not be read or written.", Next: "Check its name, and whether you may."}
	badRecord = failure{Code: "tool.record", Sentence: "This is no record of a hand-over by this laptop.",
		Next: "Give one that setup kept in this laptop's folder: terminals/…/hand-over-….cbor."}
	badCheck      = failure{Code: "tool.check_name", Sentence: "There is no such check.", Next: "The checks are " + strings.Join(protocol.CheckNames(), ", ") + ".", is: errUsage}
	badAddress    = failure{Code: "tool.address", Sentence: "The fixed address is wrong.", Next: "Ask who runs the network for address with prefix, gateway and name servers.", is: errUsage}
	laptopOffline = failure{Code: "tool.laptop_offline", Sentence: "Neither the terminal nor this laptop reaches the clinic.",
		Next: "Connect this laptop to the internet, for example through your mobile phone, and run this again; if it is, ask the clinic whether its server runs."}
)

// needs is the error of a question that nobody is there to answer.
func needs(flag, what string) error {
	return &failure{Code: "tool.needs_flag", Sentence: fmt.Sprintf("Nobody is here to answer %q.", what), Next: "Give " + flag + ".", is: errUsage}
}

// explain finds the sentence for an error.
func explain(err error) failure {
	var own *failure
	if errors.As(err, &own) {
		return *own
	}
	code := protocol.CodeOf(err)
	f := failure{Code: string(code), Detail: err.Error(), is: err}
	switch entry := protocol.Explain(code); {
	case errors.Is(err, context.Canceled):
		return stopped
	case errors.Is(err, laptop.ErrMandate):
		f.Sentence, f.Next = unauthorised(err), howToAuthorise
	case code == protocol.IdentityReturned:
		f.Sentence, f.Next = entry.Sentence, entry.Next+" There, hold its button for three seconds, and it can be set up anew."
	case code == protocol.SignalMalformed && errors.Is(err, protocol.ErrVersion):
		f.Code, f.Sentence, f.Next = sessionVersion.Code, sessionVersion.Sentence, sessionVersion.Next
	case code == protocol.AnswerBusy:
		f.Sentence, f.Next = covered.Sentence, covered.Next
	case errors.Is(err, session.ErrUnproven):
		f.Code, f.Sentence, f.Next = notProven.Code, notProven.Sentence, notProven.Next
	case code != protocol.Unknown:
		f.Sentence, f.Next = entry.Sentence, entry.Next
	case errors.Is(err, session.ErrMalformed):
		f.Code, f.Sentence, f.Next = sessionVersion.Code, sessionVersion.Sentence, sessionVersion.Next
	case errors.Is(err, session.ErrSilent), errors.Is(err, session.ErrClosed), errors.Is(err, session.ErrLost):
		f.Code, f.Sentence, f.Next = noAnswer.Code, noAnswer.Sentence, noAnswer.Next
	default:
		f.Sentence, f.Next = fmt.Sprintf("It did not work: %v.", err), "Run this again; with -v it tells more."
	}
	return f
}

const howToAuthorise = "Give the clinic's page for technicians (/technician) the key that vindu-provision key prints, and vindu-provision mandate what that page gives back."

// unauthorised says what there is instead of an authorisation.
func unauthorised(err error) string {
	ended := new(laptop.EndedError)
	switch {
	case errors.Is(err, laptop.ErrNone):
		return "This laptop is not authorised yet."
	case errors.Is(err, laptop.ErrOthers):
		return "The authorisation is for another laptop."
	case errors.As(err, &ended):
		return "The authorisation for this laptop ended on " + ended.At.Local().Format("2 January 2006, 15:04") + "."
	}
	return "The authorisation that is stored on this laptop cannot be read."
}
