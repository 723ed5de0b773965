package stack

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"vindu/clinic/config"
	"vindu/device/agent"
)

func loopback(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }

// Policy is what the terminal does about callers: it answers staff.
const Policy = "[rules.staff]\nmode = \"ring\"\n"

// prepareClinic makes the clinic, or finds the one of the last start and tells it today's ports.
func (s *Stack) prepareClinic(ctx context.Context) error {
	pages := fmt.Sprintf("localhost:%d", s.ports.Pages)
	if _, err := os.Stat(s.clinicConfig()); errors.Is(err, fs.ErrNotExist) {
		if _, err := s.output(ctx, nil, "vindu-clinic", "init", "-dir", s.clinicDir(), "-organisation", Organisation,
			"-address", loopback(s.ports.Front), "-plain", pages, "-relay", loopback(s.ports.Relay), "-log", "json"); err != nil {
			return err
		}
	}
	c, err := config.Load(s.clinicConfig())
	if err != nil {
		return err
	}
	c.State = "."
	c.Terminals.Address, c.Front.Listen = loopback(s.ports.Front), loopback(s.ports.Front)
	c.Web.Plain, c.Relay.Listen = pages, loopback(s.ports.Relay)
	c.Rehearsals = config.Rehearsals{} // what is measured at night is not disturbed; who wants one asks for it
	if s.StreamRelay {
		c.Relay.Listen = ""
	}
	c.Metrics = config.Metrics{}
	if s.Measured {
		if s.token, err = s.makeToken(); err != nil {
			return err
		}
		c.Metrics = config.Metrics{Listen: loopback(s.ports.Metrics), Token: tokenFile}
	}
	text, err := c.Render()
	if err != nil {
		return err
	}
	return replace(s.clinicConfig(), text)
}

// Files in the clinic's folder.
const (
	tokenFile    = "metrics.token"
	databaseFile = "clinic.db"
)

// makeToken makes what metrics are told for.
func (s *Stack) makeToken() (string, error) {
	token := rand.Text() + rand.Text()
	return token, replace(filepath.Join(s.clinicDir(), tokenFile), []byte(token))
}

// replace writes a file so that a reader sees the old or the new one.
func replace(path string, text []byte) error {
	temporary := path + ".new"
	if err := os.WriteFile(temporary, text, 0o600); err != nil {
		return err
	}
	return os.Rename(temporary, path)
}

// writeAgentConfig writes the terminal's configuration anew: it is derived from the options.
func (s *Stack) writeAgentConfig() error {
	settings := map[string]string{
		"language":             quote(s.Language),
		"state":                quote(filepath.Join(s.agentDir(), "state")),
		"log.format":           quote("json"),
		"identity.tpm":         quote("none"), // this machine's TPM belongs to this machine
		"devices.test_picture": "true",
		"devices.test_sound":   "true",
		"devices.display":      quote("memory"),
		"call.ring":            quote(s.Ring.String()),
		"call.least":           quote("0s"), // a trial rings for as long as it is told
		"call.notice":          quote(s.Notice.String()),
		"network.loopback":     "true",
	}
	if s.Preview {
		settings["preview.listen"] = quote(fmt.Sprintf("localhost:%d", s.ports.Preview))
	}
	if s.voice != "" {
		settings["voice.socket"] = quote(s.voice)
	}
	for k, v := range s.Agent {
		settings[k] = v
	}
	keys := make([]string, 0, len(settings))
	for k := range settings {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	var text bytes.Buffer
	fmt.Fprintln(&text, "# Written by the demo at each start.")
	for _, k := range keys {
		fmt.Fprintf(&text, "%s = %s\n", k, settings[k])
	}
	if _, err := agent.ParseConfig(text.Bytes()); err != nil {
		return fmt.Errorf("the terminal's configuration: %w", err)
	}
	if err := os.MkdirAll(s.agentDir(), 0o700); err != nil {
		return err
	}
	return replace(s.agentConfig(), text.Bytes())
}

func quote(v string) string { return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(v) + `"` }

// enrol sets the terminal up with a voucher, unless an earlier start did.
func (s *Stack) enrol(ctx context.Context) error {
	if _, err := os.Stat(filepath.Join(s.agentDir(), "state", "identity", "clinic.pem")); err == nil {
		return nil
	}
	// The terminal's own configuration says how long it rings: no less than the clinic's policy, which so says nothing.
	policy := filepath.Join(s.Dir, "policy.toml")
	if err := replace(policy, []byte(Policy)); err != nil {
		return err
	}
	if _, err := s.output(ctx, nil, "vindu-clinic", "policy", "set", "-dir", s.clinicDir(), policy); err != nil {
		return err
	}
	voucher, err := s.output(ctx, nil, "vindu-clinic", "voucher", "-dir", s.clinicDir(), "-home", Home)
	if err != nil {
		return err
	}
	_, err = s.output(ctx, bytes.NewReader(voucher), "vindu-agent", "enrol", "-config", s.agentConfig(), "-voucher-file", "-")
	return err
}
