package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/mod/sumdb/note"

	"vindu/clinic/audit"
)

// maxHeads bounds a file with heads: ten years of a server's log.
const maxHeads = 1 << 30

// auditLog is the command audit, which has commands of its own.
func auditLog(ctx context.Context, c *call) error {
	verbs := map[string]func(context.Context, *call) error{"list": auditList, "head": auditHead, "verify": auditVerify}
	if len(c.args) == 0 || verbs[c.args[0]] == nil {
		fmt.Fprint(c.stderr, `vindu-clinic audit reads the audit log. Its commands:
  list     the entries, newest first, one line of JSON each
  head     the signed head, which commits to all entries: keep it elsewhere
  verify   compares the log with heads that were kept: a head's file, or a server's log
`)
		return fmt.Errorf("%w: audit: say list, head or verify", errUsage)
	}
	verb := c.args[0]
	return verbs[verb](ctx, newCall("audit "+verb, c.args[1:], c.stdout, c.stderr))
}

func auditList(ctx context.Context, c *call) (err error) {
	dir := c.dir()
	limit := c.flags.Int("n", 100, "how many entries")
	before := c.flags.Int64("before", -1, "only entries with a number below this one")
	if err := c.parse("dir"); err != nil {
		return err
	}
	clinic, err := c.openDir(ctx, *dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, clinic.close()) }()
	entries, err := clinic.audit.Entries(ctx, *before, max(*limit, 0))
	if err != nil {
		return err
	}
	for _, e := range entries {
		line, err := e.Line()
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(c.stdout, "%s\n", line); err != nil {
			return fmt.Errorf("write entries: %w", err)
		}
	}
	return nil
}

func auditHead(ctx context.Context, c *call) (err error) {
	dir := c.dir()
	if err := c.parse("dir"); err != nil {
		return err
	}
	clinic, err := c.openDir(ctx, *dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, clinic.close()) }()
	key, err := audit.VerifierKey(clinic.authority.LogKey())
	if err != nil {
		return err
	}
	head, err := clinic.audit.Head(ctx)
	if err != nil {
		return err
	}
	if _, err := c.stdout.Write(head); err != nil {
		return fmt.Errorf("write head: %w", err)
	}
	fmt.Fprintf(c.stderr, "Keep it elsewhere, with the key that verifies it: %s\n", key)
	return nil
}

func auditVerify(ctx context.Context, c *call) (err error) {
	dir := c.dir()
	key := c.flags.String("key", "", "the key that verifies heads, as audit head printed it when the head was made (default: that of the clinic's folder)")
	file, err := c.parseWithFile("dir")
	if err != nil {
		return err
	}
	var heads [][]byte
	if file != "" {
		b, err := c.readAll(file)
		if err != nil {
			return fmt.Errorf("read heads: %w", err)
		}
		if heads = audit.FindHeads(b); len(heads) == 0 {
			return fmt.Errorf("%s holds no head of an audit log: name a file that audit head wrote, or the log of a server", file)
		}
	}
	clinic, err := c.openDir(ctx, *dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, clinic.close()) }()
	if *key == "" {
		if *key, err = audit.VerifierKey(clinic.authority.LogKey()); err != nil {
			return err
		}
	}
	verifier, err := note.NewVerifier(*key)
	if err != nil {
		return fmt.Errorf("%w: %s: -key: %w", errUsage, c.flags.Name(), err)
	}
	entries, err := clinic.audit.Verify(ctx, verifier, heads...)
	if err != nil {
		return err
	}
	if len(heads) == 0 {
		fmt.Fprintf(c.stderr, "The %d entries fit each other. Only a head that was kept elsewhere proves that they are those of then: name its file.\n", entries)
		return nil
	}
	fmt.Fprintf(c.stderr, "All %d heads hold: nothing that they commit to was altered or taken away. The log has %d entries.\n", len(heads), entries)
	return nil
}

// parseWithFile is parse for a command that may be given a file, before or behind its flags.
func (c *call) parseWithFile(required ...string) (file string, err error) {
	if len(c.args) > 0 && (c.args[0] == "-" || !strings.HasPrefix(c.args[0], "-")) {
		file, c.args = c.args[0], c.args[1:]
		return file, c.parse(required...)
	}
	if err := c.flags.Parse(c.args); err != nil {
		return "", c.misused(err)
	}
	if c.flags.NArg() == 1 {
		file, c.args = c.flags.Arg(0), c.args[:len(c.args)-1]
	}
	return file, c.parse(required...)
}

// readAll reads a file; "-" is standard input.
func (c *call) readAll(path string) ([]byte, error) {
	f := os.Stdin
	if path != "-" {
		var err error
		if f, err = os.Open(path); err != nil {
			return nil, err
		}
		defer f.Close()
	}
	return io.ReadAll(io.LimitReader(f, maxHeads))
}

// headLog writes heads to the server's log. It runs below all that appends entries, so that its last head is of all.
func (s *server) headLog(ctx context.Context) error { return s.audit.Run(ctx, s.log) }
