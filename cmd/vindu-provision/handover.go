package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"vindu/protocol"
	"vindu/provisioning/session"
	"vindu/provisioning/sheet"
)

// handOverFlags are about the page for the home.
type handOverFlags struct {
	SheetFlags `embed:"" set:"sheet_language=the terminal's"`
	SheetFile  string `name:"sheet" help:"Write the page for the home there too." placeholder:"FILE" type:"path"`
}

// SheetFlags say how the page looks.
type SheetFlags struct {
	SheetLanguage string `help:"Language of the page for the home: nb, nn or en (${sheet_language})." placeholder:"TAG"`
	Telephone     string `help:"Telephone number on the page for the home. Without it there is a line to write one on." placeholder:"NUMBER"`
}

// check looks at what would fail after everything else is done.
func (f *handOverFlags) check() error {
	if f.SheetLanguage != "" && !slices.Contains(sheet.Languages, f.SheetLanguage) {
		return noPage(f.SheetLanguage)
	}
	if f.SheetFile == "" {
		return nil
	}
	_, missing := os.Lstat(f.SheetFile)
	file, err := os.OpenFile(f.SheetFile, os.O_WRONLY|os.O_CREATE, 0o644)
	if err != nil {
		return unusable(err)
	}
	if err = file.Close(); err == nil && missing != nil {
		err = os.Remove(f.SheetFile)
	}
	if err != nil {
		return unusable(err)
	}
	return nil
}

// handOver makes the record that both ends sign, and the sheet.
func (s *setup) handOver(ctx context.Context) error {
	a := s.app
	a.say.step("Hand over")
	if err := s.inform(ctx); err != nil {
		return err
	}
	at := protocol.At(a.now())
	if s.info.TimeKnown { // a laptop's clock may be wrong
		at = s.info.Time
	}
	checks := make([]protocol.Check, 0, len(a.result.Checks))
	for _, c := range a.result.Checks {
		checks = append(checks, c.Check)
	}
	record := &protocol.HandOver{
		Version: protocol.Version, ID: protocol.NewNonce(), Terminal: s.terminal, Organisation: s.info.Organisation, Home: s.info.Home,
		Technician: s.mandate.Person, Software: s.info.Software, KeyGrade: s.info.KeyGrade, Checks: checks, At: at,
	}
	page, err := a.page(record, s.sheetLanguage(), s.flags.Telephone) // before it is signed: what is signed is handed over
	if err != nil {
		return err
	}
	var event *protocol.HandOverEvent
	err = s.do(ctx, func(c *session.Client) (err error) {
		event, err = c.HandOver(ctx, record)
		return err
	})
	if err != nil {
		return err
	}
	encoded, err := protocol.Encode(event)
	if err != nil {
		return err
	}
	a.result.HandOver = &handedOver{ID: hex.EncodeToString(record.ID[:]), At: record.At}
	kept, err := s.laptop.Keep(record, encoded, page)
	if err != nil {
		return err
	}
	a.result.HandOver.Record, a.result.HandOver.Sheet = kept.Record, kept.Sheet
	if s.flags.SheetFile != "" {
		if err := os.WriteFile(s.flags.SheetFile, page, 0o644); err != nil {
			return unusable(err)
		}
		kept.Sheet, a.result.HandOver.Sheet = s.flags.SheetFile, s.flags.SheetFile
	}
	a.say.ok("handed over: signed by the terminal and by %s", s.mandate.Person.Name)
	a.say.attention("Open this page in a browser, print it, and leave it in the home:")
	a.say.line("      " + kept.Sheet)
	if failing(checks) {
		return checksFailed.because(nil)
	}
	return nil
}

// page makes the sheet.
func (a *app) page(record *protocol.HandOver, language, telephone string) ([]byte, error) {
	if !slices.Contains(sheet.Languages, language) {
		return nil, noPage(language)
	}
	var page bytes.Buffer
	err := sheet.Write(&page, language, sheet.Sheet{Record: record, Telephone: telephone, Zone: a.zone})
	return page.Bytes(), err
}

func noPage(language string) error {
	return (failure{Code: "tool.language", Sentence: "There is no page in the language " + language + ".",
		Next: "Use --sheet-language " + strings.Join(sheet.Languages, ", ") + ".", is: errUsage}).because(nil)
}

// sheetCmd prints the page again, from the record.
type sheetCmd struct {
	SheetFlags `set:"sheet_language=nb"`
	Record     string `arg:"" help:"Record of the hand-over, as setup named it: hand-over-….cbor."`
}

// Run writes the page to standard output.
func (f *sheetCmd) Run(c *call) error {
	a := c.app
	l, err := a.laptop()
	if err != nil {
		return err
	}
	b, err := os.ReadFile(f.Record)
	if err != nil {
		return unusable(err)
	}
	event, record := new(protocol.HandOverEvent), new(protocol.HandOver)
	key, ok := l.Key().Public().(*ecdsa.PublicKey)
	if !ok {
		return errors.New("the laptop's key is not ECDSA")
	}
	if err := protocol.Decode(b, event); err != nil {
		return badRecord.of(f.Record).because(err)
	}
	if err := protocol.Verify(event.Technician, key, record); err != nil {
		return badRecord.of(f.Record).because(fmt.Errorf("this laptop did not sign the record: %w", err))
	}
	language := f.SheetLanguage
	if language == "" {
		language = sheet.Languages[0]
	}
	page, err := a.page(record, language, f.Telephone)
	if err != nil {
		return err
	}
	a.result.HandOver = &handedOver{ID: hex.EncodeToString(record.ID[:]), At: record.At, Record: f.Record, Page: string(page)}
	a.print("%s", page)
	return nil
}
