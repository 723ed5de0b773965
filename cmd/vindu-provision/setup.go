package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"vindu/protocol"
	"vindu/provisioning/laptop"
	"vindu/provisioning/session"
	"vindu/provisioning/sheet"
)

// setupCmd is the whole way from the box to the sheet in the home.
type setupCmd struct {
	portFlags
	networkFlags
	Language       string `help:"What the terminal speaks: nb, nn or en." placeholder:"TAG"`
	VoucherFile    string `help:"File with the clinic's voucher; - is standard input." placeholder:"FILE"`
	Via            string `help:"Over whose network to ask the clinic: the terminal's, this laptop's, or the laptop's if the terminal has none (${enum})." enum:"auto,terminal,laptop" default:"auto"`
	AcceptFailures bool   `help:"Hand over although checks failed: they are in the record."`
	handOverFlags
}

// setup is one run of it.
type setup struct {
	*cable
	app       *app
	flags     *setupCmd
	laptop    *laptop.Laptop
	mandate   *protocol.Mandate
	voucher   *protocol.Voucher // nil unless there is one to spend
	info      *session.Info
	wasSetUp  bool
	noNetwork bool // the technician said so
}

// Run sets a terminal up.
func (f *setupCmd) Run(c *call) error {
	ctx, a := c.ctx, c.app
	s := &setup{app: a, flags: f}
	var err error
	if s.laptop, err = a.laptop(); err != nil {
		return err
	}
	if f.Language != "" && !slices.Contains(sheet.Languages, f.Language) {
		return (failure{Code: "tool.language", Sentence: "The terminal does not speak " + f.Language + ".", Next: "Use one of these: --language " + strings.Join(sheet.Languages, ", ") + ".", is: errUsage}).because(nil)
	}
	if err := f.handOverFlags.check(); err != nil {
		return err
	}
	if err := f.networkFlags.check(); err != nil {
		return err
	}
	if f.VoucherFile == "-" && f.WiFiPasswordFile == "-" {
		return twoInputs.because(nil)
	}
	if f.VoucherFile != "" {
		text, err := readVoucher(f.VoucherFile, a)
		if err != nil {
			return err
		}
		if s.voucher, err = parseVoucher(text); err != nil {
			return err
		}
	}
	signed, err := s.authorisation(ctx)
	if err != nil {
		return err
	}
	s.cable = &cable{app: a, flags: &f.portFlags, who: session.Technician{Key: s.laptop.Key(), Mandate: signed, Now: a.now}}
	defer s.close()
	for _, step := range []func(context.Context) error{s.connect, s.identify, s.speak, s.network, s.enrol, s.check, s.handOver} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// authorisation returns the laptop's mandate, which the technician gets and pastes if it is missing.
func (s *setup) authorisation(ctx context.Context) ([]byte, error) {
	a := s.app
	signed, m, err := s.laptop.Mandate(a.now())
	if errors.Is(err, laptop.ErrMandate) {
		a.result.LaptopKey = s.laptop.Text()
		a.say.attention("%s On the clinic's page for technicians (/technician), authorise it by this key:", unauthorised(err))
		a.say.line("\n" + s.laptop.Text() + "\n")
		q := question{title: "Paste the authorisation that the clinic gave", detail: "It begins with vindu-mandate-1.; the name of the file with it will do too.", flag: "one by vindu-provision mandate FILE"}
		_, askErr := a.ask.text(ctx, q, "", func(text string) error {
			_, err := s.laptop.KeepMandate(pasted(text, protocol.MandateText(nil), protocol.MaxMandate), a.now())
			switch {
			case errors.Is(err, protocol.ErrMalformed), errors.Is(err, protocol.ErrTooLarge):
				return fmt.Errorf("%w %s", badMandate.because(err), badMandate.Next)
			case errors.Is(err, laptop.ErrMandate):
				return fmt.Errorf("%s Get one for the key above.", unauthorised(err)) //nolint:staticcheck // a person reads it
			}
			return err
		})
		if errors.Is(askErr, errUsage) {
			return nil, err // why, and what to do, is known better than by a missing flag
		}
		if askErr != nil {
			return nil, askErr
		}
		a.result.LaptopKey = ""
		signed, m, err = s.laptop.Mandate(a.now())
	}
	if err != nil {
		return nil, err
	}
	s.mandate = m
	a.result.Technician, a.result.MandateUntil = &m.Person, &m.To
	return signed, nil
}

func (s *setup) connect(ctx context.Context) error {
	s.app.say.step("Find the terminal")
	if err := s.find(ctx); err != nil {
		return err
	}
	s.wasSetUp = s.greeting.State == session.SetUp
	return nil
}

// identify makes sure that the cable leads to the terminal in front of the technician, and has its button pressed if it is set up.
func (s *setup) identify(ctx context.Context) error {
	s.app.say.step("Compare the code")
	if err := s.compare(ctx, true); err != nil {
		return err
	}
	if s.wasSetUp {
		s.app.say.note("this terminal is set up already")
		if err := s.authorise(ctx); err != nil {
			return err
		}
	}
	return s.inform(ctx)
}

// inform asks the terminal about itself.
func (s *setup) inform(ctx context.Context) error {
	return s.do(ctx, func(c *session.Client) (err error) {
		if s.info, err = c.Info(ctx); err == nil {
			s.button, s.app.result.Info = s.info.Button, s.info
		}
		return err
	})
}

// speak sets the language.
func (s *setup) speak(ctx context.Context) error {
	s.app.say.step("Language")
	tag := s.flags.Language
	if tag == "" && len(s.info.Languages) > 0 {
		var options []option
		for _, l := range s.info.Languages {
			options = append(options, option{languageName(l), l})
		}
		var err error
		tag, err = s.app.ask.choose(ctx, question{title: "What shall the terminal speak?", flag: "--language TAG"}, s.info.Language, options...)
		if errors.Is(err, errUsage) {
			tag = s.info.Language // it speaks one: nobody has to be asked
		} else if err != nil {
			return err
		}
	}
	if tag != "" && tag != s.info.Language {
		if err := s.do(ctx, func(c *session.Client) error { return c.SetLanguage(ctx, tag) }); err != nil {
			return err
		}
		s.info.Language = tag
	}
	s.app.say.ok("%s", languageName(s.info.Language))
	return nil
}

// languageName is what those who speak it call it.
func languageName(tag string) string {
	if name, ok := map[string]string{"nb": "Norsk bokmål", "nn": "Nynorsk", "en": "English"}[tag]; ok {
		return name
	}
	return tag
}

// sheetLanguage is that of the page for the home.
func (s *setup) sheetLanguage() string {
	if s.flags.SheetLanguage != "" {
		return s.flags.SheetLanguage
	}
	return sheet.Language(s.info.Language)
}

func readVoucher(name string, a *app) (string, error) {
	in := a.in
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return "", unusable(err)
		}
		defer f.Close()
		in = f
	}
	return readText(in, protocol.MaxVoucher)
}

// pasted is what a person pasted: a text that begins so, or the name of a file with one, whatever the file is called.
func pasted(text, begins string, limit int64) string {
	if strings.HasPrefix(text, begins) {
		return text
	}
	f, err := os.Open(text)
	if err != nil {
		return text
	}
	defer f.Close()
	if content, err := readText(f, limit); err == nil {
		return content
	}
	return text
}

// parseVoucher reads a voucher's text.
func parseVoucher(text string) (*protocol.Voucher, error) {
	v, err := protocol.ParseVoucher(text)
	if err != nil {
		return nil, badVoucher.because(err)
	}
	return v, nil
}

// wait lets some time pass.
func (a *app) wait(ctx context.Context) error {
	t := time.NewTimer(a.poll)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
