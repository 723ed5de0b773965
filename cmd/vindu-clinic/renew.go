package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"vindu/clinic/audit"
	"vindu/clinic/authority"
)

func renewCA(ctx context.Context, c *call) (err error) {
	dir := c.dir()
	rootKey := c.flags.String("root-key", "", "the file of the root's key (default: where init put it)")
	root := c.flags.Bool("root", false, "make a new root first, which the present one certifies")
	newRootKey := c.flags.String("new-root-key", "", "with -root: the file to write the new root's key to (default: beside the other keys)")
	by := c.by()
	if err := c.parse("dir"); err != nil {
		return err
	}
	if *newRootKey != "" && !*root {
		return fmt.Errorf("%w: %s: -new-root-key is for -root", errUsage, c.flags.Name())
	}
	clinic, err := c.openDir(ctx, *dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, clinic.close()) }()
	folder := filepath.Join(clinic.config.State, folderAuthority)
	signer := *rootKey
	if *root {
		made, err := authority.RenewRoot(folder, *rootKey, *newRootKey)
		if err != nil {
			return err
		}
		if err := clinic.audit.Append(ctx, audit.Entry{Who: *by, What: audit.RootRenewed, Subject: made.Subject.CommonName,
			Detail: map[string]string{"until": made.NotAfter.Format(time.DateOnly)}}); err != nil {
			return err
		}
		signer = *newRootKey
		fmt.Fprintf(c.stderr, "%s is the new root, until %s. Terminals follow it by themselves when they fetch their settings; what was printed before, vouchers too, stays good.\nTake its key offline, and keep the one before until every terminal was seen.\n",
			made.Subject.CommonName, made.NotAfter.Format(time.DateOnly))
	}
	made, err := authority.RenewIssuing(folder, signer)
	if err != nil {
		return err
	}
	if err := clinic.audit.Append(ctx, audit.Entry{Who: *by, What: audit.IssuingRenewed, Subject: made.Subject.CommonName,
		Detail: map[string]string{"until": made.NotAfter.Format(time.DateOnly)}}); err != nil {
		return err
	}
	fmt.Fprintf(c.stderr, "%s is the new issuing CA, until %s. A running server uses it from its next start on: restart it when no call runs.\n",
		made.Subject.CommonName, made.NotAfter.Format(time.DateOnly))
	return nil
}
