package main

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"vindu/device/agent"
	"vindu/device/clock"
	"vindu/device/identity"
	"vindu/device/identity/tpm"
	"vindu/device/state"
	"vindu/protocol"
	"vindu/provisioning"
)

// keysOf says where the terminal's key is kept.
func keysOf(cfg agent.Config, log *slog.Logger) identity.Keys {
	return tpm.Keys{Device: cfg.Identity.TPM, Files: identity.FileKeys{Log: log}, Log: log}
}

// enrol exchanges a voucher for a certificate. What was cut off is simply run again. With newKey it first gives up the key
// that there is, or that is lost.
func enrol(ctx context.Context, cfg agent.Config, voucherFile string, newKey bool, in io.Reader, out io.Writer, log *slog.Logger) (err error) {
	voucher, err := readVoucher(voucherFile, in)
	if err != nil {
		return err
	}
	dir, err := state.Open(cfg.State)
	if err != nil {
		return fmt.Errorf("enrol: %w", err)
	}
	defer func() { err = errors.Join(err, dir.Close()) }()
	if newKey { // the network stays: it is needed at once
		err = agent.GiveUp(dir, keysOf(cfg, log), nil)
	} else {
		err = agent.FinishReturn(dir, keysOf(cfg, log), networkOf(cfg.Network).Forget)
	}
	if err != nil {
		return fmt.Errorf("enrol: %w", err)
	}
	now := clock.New(dir, clock.Built(), log)
	keys, err := keysOf(cfg, log).Open(dir)
	if err != nil {
		return fmt.Errorf("enrol: %w", err)
	}
	id, err := identity.Open(dir, keys, now.Now)
	if id == nil {
		return fmt.Errorf("enrol: %w", err)
	}
	if err != nil {
		log.Warn("what an earlier enrolment left cannot be used and is replaced", "error", err)
	}
	client := &provisioning.Client{Signer: id.Signer(), Now: now.Now}
	grant, err := client.Enrol(ctx, voucher)
	if err != nil {
		return fmt.Errorf("enrol: %w", err)
	}
	if err := agent.Keep(dir, id, (*identity.Grant)(grant)); err != nil {
		return fmt.Errorf("enrol: keep the certificate: %w; run the same command again", err)
	}
	fmt.Fprintf(out, "set up: terminal %s of %s for %s\n", id.Key().Code(), grant.Settings.Organisation, grant.Settings.Home)
	return nil
}

func readVoucher(file string, in io.Reader) (*protocol.Voucher, error) {
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, fmt.Errorf("read voucher: %w", err)
		}
		defer f.Close()
		in = f
	}
	text, err := io.ReadAll(io.LimitReader(in, protocol.MaxVoucher+1))
	if err != nil {
		return nil, fmt.Errorf("read voucher: %w", err)
	}
	v, err := protocol.ParseVoucher(string(text))
	if err != nil {
		return nil, fmt.Errorf("read voucher from %s: %w; copy all of the text that the clinic gave out", file, err)
	}
	return v, nil
}

// clinic renews certificates by package provisioning.
type clinic struct{ *provisioning.Client }

// Renew implements identity.Clinic.
func (c clinic) Renew(ctx context.Context, g *identity.Grant) ([]*x509.Certificate, error) {
	return c.Client.Renew(ctx, (*provisioning.Grant)(g))
}

// Replace implements identity.Clinic.
func (c clinic) Replace(ctx context.Context, g *identity.Grant, next crypto.Signer) ([]*x509.Certificate, error) {
	return c.Client.Replace(ctx, (*provisioning.Grant)(g), next)
}

// Time implements identity.Clinic.
func (c clinic) Time(ctx context.Context, g *identity.Grant) (time.Time, time.Duration, error) {
	return c.Client.Time(ctx, (*provisioning.Grant)(g))
}

// Settings implements identity.Clinic.
func (c clinic) Settings(ctx context.Context, g *identity.Grant) (*protocol.Settings, time.Duration, error) {
	return c.Client.Settings(ctx, (*provisioning.Grant)(g))
}

// Report tells the clinic what cannot be told over MQTT.
func (c clinic) Report(ctx context.Context, g *identity.Grant, r *protocol.Report) ([][]byte, error) {
	return c.Client.Report(ctx, (*provisioning.Grant)(g), r)
}
