package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"

	"vindu/protocol"
	"vindu/provisioning"
	"vindu/provisioning/session"
)

// Ways to the clinic.
const (
	viaAuto     = "auto"
	viaTerminal = "terminal"
	viaLaptop   = "laptop"
)

// enrol makes the terminal one of the clinic's, for the voucher's home.
func (s *setup) enrol(ctx context.Context) error {
	s.app.say.step("Clinic and home")
	if err := s.needVoucher(ctx); err != nil {
		return err
	}
	switch v := s.voucher; {
	case v == nil:
		s.app.result.EnrolledBy = "before"
	case s.info.State == session.SetUp && s.laptop.Spent(s.terminal, v.ID):
		s.app.result.EnrolledBy = "before" // and was cut off after that
	default:
		s.app.say.note("clinic at %s, pin %s", v.Address, protocol.HashSPKI(rootKey(v)).Code())
		if err := s.spend(ctx); err != nil {
			return err
		}
		if err := s.inform(ctx); err != nil {
			return err
		}
	}
	s.app.say.ok("%s, for %s", s.info.Organisation, s.info.Home)
	return nil
}

// rootKey is what the pin that people compare is of; a voucher whose root cannot be read fails later, with its code.
func rootKey(v *protocol.Voucher) []byte {
	if root, err := x509.ParseCertificate(v.Root); err == nil {
		return root.RawSubjectPublicKeyInfo
	}
	return v.Root
}

// needVoucher asks for a voucher where one is needed.
func (s *setup) needVoucher(ctx context.Context) error {
	if s.voucher != nil {
		return nil
	}
	if s.info.State == session.SetUp {
		q := question{title: fmt.Sprintf("The terminal belongs to %s, for %s.", s.info.Organisation, s.info.Home), flag: "--voucher-file FILE to move it"}
		what, err := s.app.ask.choose(ctx, q, "stay", option{"Go on with that", "stay"}, option{"Move it to another home: needs a voucher for that", "move"})
		if errors.Is(err, errUsage) || err == nil && what == "stay" {
			return nil
		}
		if err != nil {
			return err
		}
	}
	// As a secret: who can scroll back could spend it.
	q := question{title: "Paste the voucher from the clinic's page", detail: "It begins with vindu-voucher-1.; the name of a file with it will do too.", flag: "--voucher-file FILE"}
	_, err := s.app.ask.secret(ctx, q, func(text string) error {
		text = pasted(strings.TrimSpace(text), "vindu-voucher-1.", protocol.MaxVoucher)
		v, err := parseVoucher(text)
		switch {
		case err != nil && strings.HasPrefix(text, protocol.MandateText(nil)):
			return errors.New("This is the laptop's authorisation. The voucher is another text: the page gives it for the home.") //nolint:staticcheck // a person reads it
		case err != nil && !strings.HasPrefix(text, "vindu-voucher-1.") && text != "":
			return errors.New("This is neither a voucher nor the name of a file with one. " + badVoucher.Next) //nolint:staticcheck // as above
		case err != nil:
			return fmt.Errorf("%w %s", err, badVoucher.Next)
		}
		s.voucher = v
		return nil
	})
	return err
}

// spend spends the voucher over one network or the other.
func (s *setup) spend(ctx context.Context) error {
	via := s.flags.Via
	if s.info.State == session.SetUp {
		// A move needs the terminal's own certificate beside the voucher, and so its own network: the clinic takes anything else for a copy.
		via = viaTerminal
	} else if s.noNetwork && via == viaAuto {
		via = viaLaptop
	}
	if via != viaLaptop {
		s.app.say.note("asking the clinic for a certificate …")
		err := s.do(ctx, func(c *session.Client) error { return c.Enrol(ctx, s.voucher) })
		if err == nil {
			s.app.result.EnrolledBy = viaTerminal
			return s.laptop.Spend(s.terminal, s.voucher.ID)
		}
		if via == viaTerminal || ctx.Err() != nil || !unreached(err) {
			return err
		}
		s.app.say.note("the terminal does not reach the clinic; trying through this laptop")
	}
	if err := s.throughLaptop(ctx); err != nil {
		return err
	}
	s.app.result.EnrolledBy = viaLaptop
	return nil
}

// unreached tells whether the terminal did not get as far as the clinic.
func unreached(err error) bool {
	code := protocol.CodeOf(err)
	stage, _, _ := strings.Cut(string(code), ".")
	return code == protocol.LinkUnreachable || code == protocol.TimeUnknown || stage == "ip"
}

// throughLaptop carries the certification request out and the certificate in. The key stays where it is.
func (s *setup) throughLaptop(ctx context.Context) error {
	var request *x509.CertificateRequest
	err := s.do(ctx, func(c *session.Client) (err error) {
		request, err = c.CSR(ctx)
		return err
	})
	if err != nil {
		return err
	}
	s.app.say.note("asking the clinic through this laptop …")
	grant, err := (&provisioning.Client{Now: s.app.now}).EnrolFor(ctx, s.voucher, request)
	if protocol.CodeOf(err) == protocol.LinkUnreachable {
		return laptopOffline.because(err)
	}
	if err != nil {
		return err
	}
	settings, err := protocol.Encode(grant.Settings)
	if err != nil {
		return err
	}
	carried := &session.Grant{Address: grant.Address, ServerName: grant.ServerName, Root: grant.Root.Raw, Settings: settings}
	for _, certificate := range grant.Chain {
		carried.Chain = append(carried.Chain, certificate.Raw)
	}
	// Before it is installed: if the cable is pulled just then, the next run knows by which voucher the terminal was set up.
	if err := s.laptop.Spend(s.terminal, s.voucher.ID); err != nil {
		return err
	}
	return s.do(ctx, func(c *session.Client) error { return c.Install(ctx, carried) })
}
