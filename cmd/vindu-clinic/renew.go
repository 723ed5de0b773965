package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"vindu/clinic/audit"
	"vindu/clinic/authority"
	"vindu/protocol"
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
		made, err := clinic.renew(ctx, *by, audit.RootRenewed, func() (*x509.Certificate, error) { return authority.RenewRoot(folder, *rootKey, *newRootKey) })
		if made != nil {
			fmt.Fprintf(c.stderr, "%s is the new root, until %s. Terminals follow it by themselves when they fetch their settings; vouchers that were printed before stay good.\nRestart the server before you issue vouchers: those carry the new root, which a running server cannot show yet.\nTake its key offline, and keep the one before until every terminal was seen.\n",
				made.Subject.CommonName, made.NotAfter.Format(time.DateOnly))
		}
		if err != nil {
			return err
		}
		signer = *newRootKey
	}
	made, err := clinic.renew(ctx, *by, audit.IssuingRenewed, func() (*x509.Certificate, error) { return authority.RenewIssuing(folder, signer) })
	if err != nil {
		if *root {
			return fmt.Errorf("%w; the new root is in force, but no issuing CA below it yet: run vindu-clinic renew-ca without -root", err)
		}
		return err
	}
	fmt.Fprintf(c.stderr, "%s is the new issuing CA, until %s. A running server uses it from its next start on: restart it when no call runs.\n",
		made.Subject.CommonName, made.NotAfter.Format(time.DateOnly))
	return nil
}

// renew writes to the audit log what is about to be renewed, renews it, and writes what became of it: nothing changes of which the log says nothing.
func (c *clinic) renew(ctx context.Context, by, what string, renew func() (*x509.Certificate, error)) (*x509.Certificate, error) {
	entry := audit.Entry{Who: by, What: audit.RenewalBegun, Subject: c.config.Organisation, Detail: map[string]string{"of": what}}
	if err := c.audit.Append(ctx, entry); err != nil {
		return nil, err
	}
	made, err := renew()
	if err != nil {
		entry.What, entry.Detail["why"] = audit.RenewalFailed, protocol.Printable(err.Error())
		return nil, errors.Join(err, c.audit.Append(context.WithoutCancel(ctx), entry))
	}
	return made, c.audit.Append(context.WithoutCancel(ctx), audit.Entry{Who: by, What: what, Subject: made.Subject.CommonName,
		Detail: map[string]string{"until": made.NotAfter.Format(time.DateOnly)}})
}
