package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"vindu/protocol"
	"vindu/provisioning/session"
)

// networkFlags say how the terminal gets into the network. None: as it is now.
type networkFlags struct {
	WiFi             string   `name:"wifi" help:"Name of the Wi-Fi." placeholder:"NAME" xor:"network"`
	WiFiPasswordFile string   `name:"wifi-password-file" help:"File with its password; - is standard input." placeholder:"FILE"`
	WiFiSecurity     string   `name:"wifi-security" help:"How it is secured: wpa3, wpa2 or open. Without it, as the terminal hears it." enum:",wpa3,wpa2,open" default:"" placeholder:"KIND"`
	WiFiHidden       bool     `name:"wifi-hidden" help:"It does not tell its name."`
	Country          string   `help:"Country of the radio's rules." placeholder:"NO" default:"NO"`
	Ethernet         bool     `help:"By cable." xor:"network"`
	Address          string   `help:"Fixed address with its prefix, such as 192.0.2.7/24. Without it, the network gives one." placeholder:"ADDRESS"`
	Gateway          string   `help:"Gateway of a fixed address." placeholder:"ADDRESS"`
	DNS              []string `name:"dns" help:"Name servers of a fixed address." placeholder:"ADDRESS"`
	NoNetwork        bool     `help:"The terminal has no network yet: its certificate comes through this laptop, and checks of the network will fail." xor:"network"`
}

// check looks at a fixed address before anything is done.
func (f *networkFlags) check() error {
	n := session.Network{Kind: session.Ethernet, Address: f.Address, Gateway: f.Gateway, DNS: f.DNS}
	if err := n.Validate(); err != nil {
		return badAddress.of(reason(err)).because(err)
	}
	return nil
}

// reason is what a refused network says of itself, without where it was refused.
func reason(err error) string {
	_, text, _ := strings.Cut(err.Error(), "network: ")
	return text
}

// addressTime is for a network to come up: association, DHCP.
const addressTime = 45 * time.Second

// network connects the terminal.
func (s *setup) network(ctx context.Context) error {
	s.app.say.step("Network")
	for {
		wanted, err := s.wish(ctx)
		if s.noNetwork || err != nil && !refusedNetwork(err) {
			return err
		}
		if err == nil && wanted != nil {
			if err = s.do(ctx, func(c *session.Client) error { return c.SetNetwork(ctx, wanted) }); err == nil {
				err = s.up(ctx, wanted.Kind)
			}
		}
		if err == nil {
			return nil
		}
		if ctx.Err() != nil || lost(err) {
			return err
		}
		s.app.say.failure(explain(err), s.app.flags.Verbose)
		q := question{title: "Try again?", flag: "another network, or --no-network"}
		what, askErr := s.app.ask.choose(ctx, q, "again", option{"Set the network again", "again"}, option{"Go on without a network", "without"}, option{"Stop here", "stop"})
		switch {
		case errors.Is(askErr, errUsage):
			return err
		case askErr != nil:
			return askErr
		case what == "without":
			s.noNetwork = true
			return nil
		case what == "stop":
			return stopped.because(err)
		}
		s.flags.networkFlags = networkFlags{Country: s.flags.Country} // what they said did not work
	}
}

// refusedNetwork tells whether the terminal cannot do what was wished for, such as hear a Wi-Fi: another network may do.
func refusedNetwork(err error) bool {
	stage, _, _ := strings.Cut(string(protocol.CodeOf(err)), ".")
	return stage == "ip"
}

// wish returns what to set; nil if all stays as it is.
func (s *setup) wish(ctx context.Context) (*session.Network, error) {
	f := &s.flags.networkFlags
	state, err := s.state(ctx)
	if err != nil {
		return nil, err
	}
	now := connected(state, "")
	switch {
	case f.NoNetwork:
		s.noNetwork = true
		s.app.say.note("none for now")
		return nil, nil
	case f.WiFi != "":
		password, err := s.password()
		if err != nil {
			return nil, err
		}
		security := f.WiFiSecurity
		if f.WiFiPasswordFile == "" && security != session.Unsecured {
			if security, password, err = s.askSecurity(ctx, f.WiFi, security); err != nil {
				return nil, err
			}
		}
		return s.wifi(ctx, f.WiFi, security, password)
	case f.Ethernet || f.Address != "":
		return &session.Network{Kind: session.Ethernet, Address: f.Address, Gateway: f.Gateway, DNS: f.DNS}, nil
	}
	const keep, wifi, cable, fixed, none = "keep", "wifi", "cable", "fixed", "none"
	options := []option{{"Wi-Fi", wifi}, {"Network cable", cable}, {"Network cable, with a fixed address", fixed}, {"None here: through this laptop", none}}
	preset := wifi
	if now != nil {
		options = append([]option{{"As it is: " + describe(now), keep}}, options...)
		preset = keep
	}
	choice, err := s.app.ask.choose(ctx, question{title: "How is the terminal connected?", flag: "--wifi, --ethernet or --no-network"}, preset, options...)
	if errors.Is(err, errUsage) && now != nil {
		choice, err = keep, nil // it is connected: nobody has to be asked
	}
	if err != nil {
		return nil, err
	}
	switch choice {
	case wifi:
		return s.askWiFi(ctx)
	case cable:
		return &session.Network{Kind: session.Ethernet}, nil
	case fixed:
		return s.askFixed(ctx)
	case none:
		s.noNetwork = true
	default:
		s.app.say.ok("%s", describe(now))
	}
	return nil, nil
}

// state asks how the terminal is connected.
func (s *setup) state(ctx context.Context) (state *session.NetworkState, err error) {
	err = s.do(ctx, func(c *session.Client) (err error) {
		state, err = c.Network(ctx)
		return err
	})
	s.app.result.Network = state
	return state, err
}

// connected returns an interface of that kind, "" for any, that has an address.
func connected(state *session.NetworkState, kind string) *session.Interface {
	for i, n := range state.Interfaces {
		if n.Up && len(n.Addresses) > 0 && n.Code == "" && (kind == "" || n.Kind == kind) {
			return &state.Interfaces[i]
		}
	}
	return nil
}

func describe(n *session.Interface) string {
	text := "cable"
	if n.Kind == session.WiFi {
		text = "Wi-Fi " + n.SSID
		if n.Signal != 0 {
			text += fmt.Sprintf(" (%s)", strength(n.Signal))
		}
	}
	return text + ", " + strings.Join(n.Addresses, ", ")
}

// strength puts a Wi-Fi's signal in words.
func strength(dBm int) string {
	switch {
	case dBm >= -60:
		return fmt.Sprintf("strong, %d dBm", dBm)
	case dBm >= -72:
		return fmt.Sprintf("good, %d dBm", dBm)
	}
	return fmt.Sprintf("weak, %d dBm", dBm)
}

// up waits until the terminal has an address.
func (s *setup) up(ctx context.Context, kind string) error {
	s.app.say.note("waiting for an address …")
	limited, done := context.WithTimeout(ctx, addressTime)
	defer done()
	code := protocol.IPNone
	for {
		state, err := s.state(ctx)
		if err != nil {
			return err
		}
		if n := connected(state, kind); n != nil {
			s.app.say.ok("%s", describe(n))
			return nil
		}
		for _, n := range state.Interfaces {
			if n.Kind == kind && n.Code != "" {
				code = n.Code
			}
		}
		if err := s.app.wait(limited); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return protocol.WithCode(code, fmt.Errorf("no address after %v", addressTime))
		}
	}
}

func (s *setup) askWiFi(ctx context.Context) (*session.Network, error) {
	var heard []session.AccessPoint
	s.app.say.note("listening for Wi-Fi …")
	err := s.do(ctx, func(c *session.Client) (err error) {
		heard, err = c.ScanNetworks(ctx)
		return err
	})
	if err != nil {
		return nil, err
	}
	const other = "\x00" // no name of a Wi-Fi that can be typed
	var options []option
	for _, a := range heard {
		if a.SSID != "" && a.Security != "" {
			options = append(options, option{fmt.Sprintf("%s  (%s)", a.SSID, strength(a.Signal)), a.SSID})
		}
	}
	options = append(options, option{"Another: type its name", other})
	name, err := s.app.ask.choose(ctx, question{title: "Which Wi-Fi?", flag: "--wifi NAME"}, options[0].value, options...)
	if err != nil {
		return nil, err
	}
	if name == other {
		if name, err = s.app.ask.text(ctx, question{title: "Name of the Wi-Fi", flag: "--wifi NAME"}, "", notEmpty); err != nil {
			return nil, err
		}
		s.flags.WiFiHidden = heardAs(heard, name) == ""
	}
	security, password, err := s.askSecurity(ctx, name, heardAs(heard, name))
	if err != nil {
		return nil, err
	}
	return s.wifi(ctx, name, security, password)
}

// heardAs is how a Wi-Fi is secured; empty if it is not heard.
func heardAs(heard []session.AccessPoint, name string) string {
	for _, a := range heard {
		if a.SSID == name && a.Security != "" {
			return a.Security
		}
	}
	return ""
}

// askSecurity asks for the password of a Wi-Fi if it has one, and how it is secured if the terminal does not hear that. Both stay as they are if
// nobody is there to answer.
func (s *setup) askSecurity(ctx context.Context, name, security string) (string, protocol.Secret, error) {
	if security == "" {
		err := s.do(ctx, func(c *session.Client) error {
			heard, err := c.ScanNetworks(ctx)
			security = heardAs(heard, name)
			return err
		})
		if err != nil {
			return "", "", err
		}
	}
	if security == "" {
		q := question{title: "The terminal does not hear " + name + ". How is it secured?", flag: "--wifi-security KIND"}
		answer, err := s.app.ask.choose(ctx, q, session.WPA2, option{"With a password (WPA2)", session.WPA2}, option{"With a password (WPA3 only)", session.WPA3},
			option{"Not at all: it is open", session.Unsecured})
		if errors.Is(err, errUsage) {
			return "", "", nil // it may be open
		}
		if err != nil {
			return "", "", err
		}
		security = answer
	}
	if security == session.Unsecured {
		return security, "", nil
	}
	q := question{title: "Password of " + name, detail: "It goes to the terminal and nowhere else.", flag: "--wifi-password-file FILE"}
	text, err := s.app.ask.secret(ctx, q, func(p string) error {
		n := session.Network{Kind: session.WiFi, SSID: name, Security: security, Password: protocol.Secret(p)}
		if n.Validate() == nil {
			return nil
		}
		if security == session.WPA3 {
			return errors.New("The password of a Wi-Fi with WPA3 has 1 to 128 characters.") //nolint:staticcheck // a person reads it
		}
		return errors.New("A Wi-Fi password has 8 to 63 characters, of letters, digits and signs without accents.") //nolint:staticcheck // a person reads it
	})
	if errors.Is(err, errUsage) {
		return security, "", nil
	}
	return security, protocol.Secret(text), err
}

// wifi returns what to set for a Wi-Fi. Unless said otherwise it is secured as the terminal hears it, by WPA2 if it does not.
func (s *setup) wifi(ctx context.Context, name, security string, password protocol.Secret) (*session.Network, error) {
	if security == "" {
		security = session.WPA2
		if password == "" {
			security = session.Unsecured
		}
		err := s.do(ctx, func(c *session.Client) error {
			heard, err := c.ScanNetworks(ctx)
			if as := heardAs(heard, name); as != "" {
				security = as
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	if (security == session.Unsecured) != (password == "") {
		return nil, (failure{Code: "tool.wifi_password", Sentence: "This Wi-Fi is secured and has a password, or is open and has none.",
			Next: "Give --wifi-password-file with its password, or --wifi-security open.", is: errUsage}).because(nil)
	}
	f := &s.flags.networkFlags
	return &session.Network{Kind: session.WiFi, SSID: name, Security: security, Password: password, Hidden: f.WiFiHidden, Country: f.Country,
		Address: f.Address, Gateway: f.Gateway, DNS: f.DNS}, nil
}

func (s *setup) askFixed(ctx context.Context) (*session.Network, error) {
	n := &session.Network{Kind: session.Ethernet}
	for _, ask := range []struct {
		title, flag string
		set         func(n *session.Network, answer string)
	}{
		{"Address with its prefix, such as 192.0.2.7/24", "--address ADDRESS", func(n *session.Network, a string) { n.Address = a }},
		{"Gateway, such as 192.0.2.1", "--gateway ADDRESS", func(n *session.Network, a string) { n.Gateway = a }},
		{"Name servers, with spaces between", "--dns ADDRESS", func(n *session.Network, a string) { n.DNS = strings.Fields(a) }},
	} {
		answer, err := s.app.ask.text(ctx, question{title: ask.title, flag: ask.flag}, "", func(text string) error {
			if err := notEmpty(text); err != nil {
				return err
			}
			with := *n
			ask.set(&with, strings.TrimSpace(text))
			if err := with.Validate(); err != nil {
				return errors.New(capital(reason(err)) + ".") //nolint:staticcheck // a person reads it
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		ask.set(n, answer)
	}
	return n, nil
}

// capital begins a sentence.
func capital(text string) string {
	if text == "" {
		return text
	}
	return strings.ToUpper(text[:1]) + text[1:]
}

func notEmpty(text string) error {
	if strings.TrimSpace(text) == "" {
		return errors.New("Type something.") //nolint:staticcheck // a person reads it
	}
	return nil
}

// password reads the Wi-Fi's password where the flag says.
func (s *setup) password() (protocol.Secret, error) {
	in := s.app.in
	switch name := s.flags.WiFiPasswordFile; name {
	case "":
		return "", nil
	case "-":
	default:
		f, err := os.Open(name)
		if err != nil {
			return "", unusable(err)
		}
		defer f.Close()
		in = f
	}
	text, err := readText(in, 256)
	return protocol.Secret(strings.TrimRight(text, "\r\n")), err
}

// readText reads all of a short text.
func readText(in io.Reader, limit int64) (string, error) {
	b, err := io.ReadAll(io.LimitReader(in, limit+1))
	if err != nil {
		return "", unusable(err)
	}
	return string(b), nil
}
