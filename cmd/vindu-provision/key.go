package main

import (
	"errors"
	"os"

	"vindu/protocol"
)

type keyCmd struct{}

// Run prints the laptop's public key; it makes the key if there is none.
func (keyCmd) Run(c *call) error {
	l, err := c.app.laptop()
	if err != nil {
		return err
	}
	c.app.result.LaptopKey = l.Text()
	c.app.print("%s\n", l.Text())
	return nil
}

// mandateCmd stores or shows the authorisation.
type mandateCmd struct {
	File string `arg:"" optional:"" help:"File with the authorisation from the clinic's page; - is standard input. Without it, the one that is stored is shown."`
}

// Run stores or shows it.
func (f *mandateCmd) Run(c *call) error {
	a := c.app
	l, err := a.laptop()
	if err != nil {
		return err
	}
	var m *protocol.Mandate
	if f.File == "" {
		_, m, err = l.Mandate(a.now())
	} else {
		in := a.in
		if f.File != "-" {
			file, err := os.Open(f.File)
			if err != nil {
				return unusable(err)
			}
			defer file.Close()
			in = file
		}
		var text string
		if text, err = readText(in, protocol.MaxMandate); err == nil {
			m, err = l.KeepMandate(text, a.now())
		}
	}
	if errors.Is(err, protocol.ErrMalformed) || errors.Is(err, protocol.ErrTooLarge) {
		return badMandate.because(err)
	}
	if err != nil {
		return err
	}
	a.result.Technician, a.result.MandateUntil = &m.Person, &m.To
	a.print("%s, %s, until %s\n", m.Person.Name, m.Person.Organisation, m.To.Time().In(a.zone).Format("2006-01-02 15:04"))
	return nil
}
