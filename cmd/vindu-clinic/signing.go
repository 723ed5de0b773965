package main

import (
	"bufio"
	"context"
	"crypto"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"vindu/clinic/audit"
	"vindu/clinic/authority"
	"vindu/clinic/grants"
	"vindu/protocol"
)

// rollOver replaces the authorisation key, in two steps.
func rollOver(ctx context.Context, c *call) (err error) {
	dir := c.dir()
	public := c.flags.String("public", "", "the file with the new key's public half, if the key is not to be on this server (vindu-clinic authorise -new makes one)")
	finish := c.flags.Bool("finish", false, "the second step: the old key leaves")
	by := c.by()
	if err := c.parse("dir"); err != nil {
		return err
	}
	if *finish && *public != "" {
		return fmt.Errorf("%w: %s: -public is for the first step", errUsage, c.flags.Name())
	}
	clinic, err := c.openDir(ctx, *dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, clinic.close()) }()
	var pem []byte
	if *public != "" {
		if pem, err = os.ReadFile(*public); err != nil {
			return fmt.Errorf("read the new key: %w", err)
		}
	}
	what, step := audit.KeyAdded, func() (protocol.KeyHash, error) { return clinic.authority.AddAuthority(pem) }
	if *finish {
		what, step = audit.KeyDropped, clinic.authority.DropAuthority
	}
	if err := clinic.audit.Append(ctx, audit.Entry{Who: *by, What: audit.RenewalBegun, Subject: clinic.config.Organisation, Detail: map[string]string{"of": what}}); err != nil {
		return err
	}
	key, err := step()
	waits := errors.Is(err, authority.ErrKeyElsewhere) && key != (protocol.KeyHash{})
	if err != nil && !waits {
		return errors.Join(err, clinic.audit.Append(context.WithoutCancel(ctx), audit.Entry{Who: *by, What: audit.RenewalFailed, Subject: clinic.config.Organisation,
			Detail: map[string]string{"of": what, "why": protocol.Printable(err.Error())}}))
	}
	detail := map[string]string{"key": key.Name()}
	if waits {
		detail["waits"] = "to be signed"
	}
	if err := clinic.audit.Append(context.WithoutCancel(ctx), audit.Entry{Who: *by, What: what, Subject: clinic.config.Organisation, Detail: detail}); err != nil {
		return err
	}
	switch {
	case waits && *finish:
		fmt.Fprintf(c.stderr, "The change waits to be signed, because the authorisation key is elsewhere: vindu-clinic waiting, authorise, accept. Until then nothing has changed. Then destroy the key that leaves, %s, and give technicians' mandates and vouchers anew: those that were given out before are worth nothing.\n", key.Code())
	case waits:
		fmt.Fprintln(c.stderr, "The change waits to be signed, because the authorisation key is elsewhere: vindu-clinic waiting, authorise, accept. Until then nothing has changed.")
	case *finish:
		fmt.Fprintf(c.stderr, "The key %s has left; destroy it. Terminals follow when they fetch their settings, those that were away for long too. Authorisations and policies are made anew by themselves; mandates of technicians and vouchers that were given out before are worth nothing: give new ones.\n", key.Code())
	default:
		fmt.Fprintf(c.stderr, "Terminals are told to believe the key %s, too. The one before signs on until it leaves: vindu-clinic roll-over -finish, when the terminals were there to hear of it; those that were not follow later.\n", key.Code())
	}
	return nil
}

// waiting writes what waits to be signed.
func waiting(ctx context.Context, c *call) (err error) {
	dir := c.dir()
	by := c.by()
	if err := c.parse("dir"); err != nil {
		return err
	}
	clinic, err := c.openDir(ctx, *dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, clinic.close()) }()
	f, err := clinic.grants.Waiting(ctx, clinic.config.Organisation)
	if err != nil {
		return err
	}
	if err := clinic.audit.Append(ctx, audit.Entry{Who: *by, What: audit.WaitingWritten, Subject: "authorisation key", Detail: map[string]string{"items": strconv.Itoa(len(f.Items))}}); err != nil {
		return err
	}
	if err := f.Write(c.stdout); err != nil {
		return fmt.Errorf("write what waits: %w", err)
	}
	if len(f.Items) == 0 {
		fmt.Fprintln(c.stderr, "Nothing waits to be signed.")
		return nil
	}
	fmt.Fprintf(c.stderr, "%d wait to be signed. Bring the file to the machine that has the key: vindu-clinic authorise -key KEY FILE > SIGNED\n", len(f.Items))
	return nil
}

// authorise signs what waits. It needs the file and the key, and neither a clinic nor a network.
func authorise(_ context.Context, c *call) (err error) {
	keyFile := c.flags.String("key", "", "the file of the authorisation key")
	token := c.flags.String("token", "", "the `COMMAND` that has a token sign, instead of -key: it reads a SHA-256 digest and writes the ECDSA signature by the key that -public names")
	public := c.flags.String("public", "", "with -token: the file of its public key (PEM)")
	fresh := c.flags.String("new", "", "make a new key in this file instead, and print its public half, for vindu-clinic roll-over -public; with -key, passkeys that were signed by that one are not new to it")
	yes := c.flags.Bool("yes", false, "sign without asking, unless there are new passkeys")
	var accepted []string
	c.flags.Func("accept-new", "the `CODE` of a new passkey that is known to be its person's; once for each", func(code string) error {
		accepted = append(accepted, strings.ToUpper(strings.TrimSpace(code)))
		return nil
	})
	if c.has("new") {
		if err := c.parse("new"); err != nil {
			return err
		}
		memory := new(grants.Memory)
		if *keyFile != "" {
			if memory, err = grants.ReadMemory(grants.MemoryPath(*keyFile)); err != nil {
				return err
			}
		}
		public, err := authority.NewAuthorisationKey(*fresh)
		if err == nil && *keyFile != "" {
			err = memory.Write(grants.MemoryPath(*fresh))
		}
		if err != nil {
			return err
		}
		if _, err := c.stdout.Write(public); err != nil {
			return fmt.Errorf("write public key: %w", err)
		}
		fmt.Fprintf(c.stderr, "The key is in %s, and nowhere else: keep a copy in a safe place.\n", *fresh)
		return nil
	}
	needs := []string{"key"}
	if c.has("token") {
		needs = []string{"token", "public"}
	}
	in, err := c.file(needs...)
	if err != nil {
		return err
	}
	defer in.Close()
	f, err := grants.ParseFile(in)
	if err != nil {
		return err
	}
	key, beside, err := c.signer(*keyFile, *token, *public)
	if err != nil {
		return err
	}
	items, err := f.For(key.Public())
	if err != nil {
		return err
	}
	memory, err := grants.ReadMemory(grants.MemoryPath(beside))
	if err != nil {
		return err
	}
	fmt.Fprintf(c.stderr, "From %q, written %s:\n", f.Clinic, f.Made.Time().Local().Format(time.DateTime))
	var seen []grants.Passkey
	var unknown []string // new passkeys that nobody has accepted
	for n, i := range items {
		fmt.Fprintf(c.stderr, "%4d  %s\n", n+1, i.Words())
		for _, p := range memory.New(i) {
			fmt.Fprintf(c.stderr, "      NEW PASSKEY %s of %q\n", p.Code, p.Party.Name)
			if slices.Contains(seen, p) {
				continue
			}
			seen = append(seen, p)
			if at := slices.Index(accepted, p.Code); at >= 0 { // for one person
				accepted = slices.Delete(accepted, at, at+1)
			} else {
				unknown = append(unknown, p.Code)
			}
		}
	}
	if rest := len(f.Items) - len(items); rest > 0 {
		fmt.Fprintf(c.stderr, "%d more are for another key, and stay unsigned.\n", rest)
	}
	answers := bufio.NewReader(c.stdin)
	ask := func(want, format string, args ...any) error {
		fmt.Fprintf(c.stderr, format, args...)
		answer, err := answers.ReadString('\n')
		if strings.TrimSpace(answer) == want {
			return nil
		}
		if err != nil {
			return fmt.Errorf("nothing was signed: no answer: %w", err)
		}
		return fmt.Errorf("nothing was signed: the answer was not %s", want)
	}
	if len(unknown) > 0 && *yes {
		return fmt.Errorf("nothing was signed: passkeys are new to this key: %s. Ask each person, not by the clinic's pages, whether it is the own, and add -accept-new CODE for it", strings.Join(unknown, ", "))
	}
	if len(unknown) > 0 {
		err := ask("new", "New passkeys, not signed here for that person the last time: %d. Whoever has the clinic's server can put one of their own among them: ask these persons, not by its pages, whether they have made a passkey since.\nIs each of them its person's? Write new: ", len(unknown))
		if err != nil {
			return err
		}
	}
	if !*yes {
		if err := ask("yes", "Sign these %d? Write yes: ", len(items)); err != nil {
			return err
		}
	}
	for _, i := range items {
		if err := i.Sign(key); err != nil {
			return err
		}
	}
	memory.Keep(items) // before anything leaves: what was signed and not remembered would be new again, and be waved through
	if err := memory.Write(grants.MemoryPath(beside)); err != nil {
		return fmt.Errorf("nothing was signed: %w", err)
	}
	if err := f.Write(c.stdout); err != nil {
		return fmt.Errorf("write what was signed: %w", err)
	}
	fmt.Fprintf(c.stderr, "%d signed. Bring them back: vindu-clinic accept -dir D SIGNED\n", len(items))
	return nil
}

// signer is the authorisation key, in a file or on a token, and the file beside which its memory is.
func (c *call) signer(keyFile, token, public string) (key crypto.Signer, beside string, err error) {
	switch {
	case keyFile != "" && token != "":
		return nil, "", fmt.Errorf("%w: %s: -key or -token, not both", errUsage, c.flags.Name())
	case token != "":
		key, err = authority.NewToken(public, token, c.stderr)
		return key, public, err
	}
	key, err = authority.ReadKey(keyFile)
	return key, keyFile, err
}

// accept takes back what was signed.
func accept(ctx context.Context, c *call) (err error) {
	dir := c.dir()
	by := c.by()
	in, err := c.file("dir")
	if err != nil {
		return err
	}
	defer in.Close()
	f, err := grants.ParseFile(in)
	if err != nil {
		return err
	}
	clinic, err := c.openDir(ctx, *dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, clinic.close()) }()
	a, err := clinic.grants.Accept(ctx, *by, f)
	switch {
	case errors.Is(err, grants.ErrStale) && a.Unsigned > 0:
		return fmt.Errorf("%w: %d of it were not signed: sign it first (vindu-clinic authorise)", err, a.Unsigned)
	case errors.Is(err, grants.ErrStale):
		return fmt.Errorf("%w: it was taken before, or is older than what waits now: write a new file (vindu-clinic waiting)", err)
	case err != nil:
		return err
	}
	fmt.Fprintf(c.stderr, "%d are in force; a running server uses them within seconds.\n", a.Taken)
	if a.Stale > 0 {
		fmt.Fprintf(c.stderr, "%d did not wait any more: others follow them (vindu-clinic waiting).\n", a.Stale)
	}
	if a.Unsigned > 0 {
		fmt.Fprintf(c.stderr, "%d were not signed, and wait on.\n", a.Unsigned)
	}
	return nil
}
