package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/pelletier/go-toml/v2"

	"vindu/clinic/grants"
)

// policy is the command by which an administrator says what homes' terminals do about callers.
func policy(ctx context.Context, c *call) error {
	return c.verb(ctx, "policy", `vindu-clinic policy says what homes' terminals do about callers. Its commands:
  show  what holds everywhere, or with -home in one home
  set   take it from a file such as show prints; with -home only what differs there
`, map[string]func(context.Context, *call) error{"show": policyShow, "set": policySet})
}

// policyHead explains the file.
const policyHead = `# What terminals do about callers: for each group of callers (see "vindu-clinic grant") a rule. Who is not named is refused.
#   mode    "ask": rings, and is answered only if somebody at the terminal says so within "after" seconds
#           "ring": rings for "after" seconds, at least 5, and is then answered by itself; without "after", for as long as the terminal's own file says: 5
#           "refuse"
#   urgent  rings in quiet hours if the call is urgent; the screen says so
# quiet: { days = ["mon"], from = "22:00", to = "07:00" }; without days, every day. longest: minutes. volume: percent, from 20; 70 plays the caller as loud as it comes, 100 is 9 dB louder, 20 is 15 dB softer.

`

func (c *clinic) homeID(ctx context.Context, label string) (string, error) {
	if label == "" {
		return "", nil
	}
	list, err := c.homesCalled(ctx, label)
	if err != nil {
		return "", err
	}
	return list[0].ID, nil
}

func policyShow(ctx context.Context, c *call) (err error) {
	dir := c.dir()
	label := c.flags.String("home", "", "the label of a home (default: what holds everywhere)")
	differs := c.flags.Bool("own", false, "with -home: only what differs there")
	if err := c.parse("dir"); err != nil {
		return err
	}
	clinic, err := c.openDir(ctx, *dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, clinic.close()) }()
	home, err := clinic.homeID(ctx, *label)
	if err != nil {
		return err
	}
	settings, own, err := clinic.grants.PolicySettings(ctx, home)
	if err != nil {
		return err
	}
	if *differs {
		settings = own
	}
	b, err := toml.Marshal(settings)
	if err == nil {
		_, err = c.stdout.Write(append([]byte(policyHead), b...))
	}
	if err != nil {
		return fmt.Errorf("write policy: %w", err)
	}
	return nil
}

func policySet(ctx context.Context, c *call) (err error) {
	dir := c.dir()
	label := c.flags.String("home", "", "the label of the home where it differs (default: everywhere)")
	by := c.by()
	f, err := c.file("dir")
	if err != nil {
		return err
	}
	defer f.Close()
	const most = 64 << 10
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && len(b) > most {
		err = fmt.Errorf("more than %d bytes", most)
	}
	if err != nil {
		return fmt.Errorf("read policy: %w", err)
	}
	settings, err := parsePolicy(b)
	if err != nil {
		return err
	}
	clinic, err := c.openDir(ctx, *dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, clinic.close()) }()
	home, err := clinic.homeID(ctx, *label)
	if err != nil {
		return err
	}
	if err := clinic.grants.SetPolicy(ctx, *by, home, settings); err != nil {
		return err
	}
	if clinic.authority.KeyHere() {
		fmt.Fprintln(c.stderr, "It is set. A running server tells the terminals within seconds; one that is away learns it when it is back.")
	} else {
		fmt.Fprintln(c.stderr, "It is set, and waits to be signed, because the authorisation key is elsewhere: vindu-clinic waiting, authorise, accept.")
	}
	return nil
}

func parsePolicy(b []byte) (settings grants.Settings, err error) {
	err = toml.NewDecoder(bytes.NewReader(b)).DisallowUnknownFields().Decode(&settings)
	var unknown *toml.StrictMissingError
	if errors.As(err, &unknown) && len(unknown.Errors) > 0 {
		row, _ := unknown.Errors[0].Position()
		return settings, fmt.Errorf("read policy: line %d: unknown key; see what vindu-clinic policy show prints", row)
	}
	var malformed *toml.DecodeError
	if errors.As(err, &malformed) {
		row, column := malformed.Position()
		return settings, fmt.Errorf("read policy: line %d, column %d: %w", row, column, err)
	}
	if err != nil {
		return settings, fmt.Errorf("read policy: %w", err)
	}
	return settings, nil
}
