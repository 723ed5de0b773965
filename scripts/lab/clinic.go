package lab

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The people and places of the lab.
const (
	Organisation = "Fjordbyen kommune"
	Home         = "Home 17, Storgata"
	Person       = "Kari Solheim"
	Role         = "nurse"
)

// Clinic is vindu-clinic, running in a lab's network: terminals reach it at HostAddr, browsers by loopback.
type Clinic struct {
	Pages string // the pages' address

	program, dir string
	network      *Net
}

// StartClinic makes and starts a clinic, with its log among the guest's artefacts. The test's end stops it, and so does
// a failure to start the test.
func StartClinic(t testing.TB, g *Guest) *Clinic {
	t.Helper()
	return startClinic(t, g, "8443")
}

// startClinic starts one at a port of its own: the appliance's firewall lets its agent to 443 only.
func startClinic(t testing.TB, g *Guest, port string) *Clinic {
	t.Helper()
	dir := t.TempDir()
	c := &Clinic{program: filepath.Join(dir, "vindu-clinic"), dir: filepath.Join(dir, "clinic"), network: g.Net}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	root, err := repository()
	if err != nil {
		t.Fatal(err)
	}
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-o", c.program, "./cmd/vindu-clinic")
	build.Dir, build.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the clinic: %v\n%s", err, out)
	}
	_, err = c.run(ctx, "init", "-organisation", Organisation, "-address", HostAddr+":"+port, "-listen", HostAddr+":"+port,
		"-plain", "localhost:8080", "-relay", HostAddr+":3478", "-local", "-log", "json")
	if err != nil {
		t.Fatal(err)
	}
	// What is tried at night is not disturbed by rehearsals.
	file := filepath.Join(c.dir, "clinic.toml")
	text, err := os.ReadFile(file)
	if err == nil {
		text = bytes.Replace(text, []byte("from = \"02:00\"\nto = \"04:00\""), []byte("from = \"\"\nto = \"\""), 1)
		err = os.WriteFile(file, text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	// The terminal's own configuration says how long it rings: no less than the clinic's policy, which so says nothing.
	policy := filepath.Join(dir, "policy.toml")
	if err := os.WriteFile(policy, []byte("[rules.staff]\nmode = \"ring\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := output(ctx, "/", c.program, "policy", "set", "-dir", c.dir, policy); err != nil {
		t.Fatal(err)
	}
	if err := c.serve(ctx, t, g); err != nil {
		t.Fatal(err)
	}
	g.Log("clinic ready at %s", c.Pages)
	return c
}

// serve starts the server and waits for the line by which it says that it is ready.
func (c *Clinic) serve(ctx context.Context, t testing.TB, g *Guest) error {
	log, err := os.Create(filepath.Join(g.Artefacts, "clinic.log"))
	if err != nil {
		return err
	}
	server := c.network.Command(context.Background(), c.program, "serve", "-config", filepath.Join(c.dir, "clinic.toml"))
	output, err := server.StderrPipe()
	if err != nil {
		return err
	}
	server.Stdout = log
	if err := server.Start(); err != nil {
		return fmt.Errorf("start the clinic: %w", err)
	}
	ready := make(chan string, 1)
	ended := make(chan struct{})
	go func() { // until the server ends
		defer close(ended)
		defer log.Close()
		for lines := bufio.NewScanner(output); lines.Scan(); {
			fmt.Fprintf(log, "%s\n", lines.Bytes())
			var line struct{ Msg, Pages string }
			if json.Unmarshal(lines.Bytes(), &line) == nil && line.Msg == "ready" {
				select {
				case ready <- line.Pages:
				default: // said before
				}
			}
		}
		server.Wait() // how it ended is in its log
	}()
	t.Cleanup(func() {
		server.Process.Signal(syscall.SIGTERM) // it may have ended
		select {
		case <-ended:
		case <-time.After(10 * time.Second):
			t.Error("the clinic did not stop within 10 s of SIGTERM")
			server.Process.Kill()
			<-ended
		}
	})
	select {
	case c.Pages = <-ready:
		return nil
	case <-ended:
		text, _ := os.ReadFile(log.Name()) // nothing to show if it cannot be read
		return fmt.Errorf("the clinic ended: %s\n%s", server.ProcessState, text)
	case <-ctx.Done():
		return fmt.Errorf("the clinic is not ready: %w", context.Cause(ctx))
	}
}

// run runs one of the clinic's commands to its end and returns what it printed.
func (c *Clinic) run(ctx context.Context, command string, arguments ...string) (string, error) {
	return output(ctx, "/", c.program, append([]string{command, "-dir", c.dir}, arguments...)...)
}

// Voucher lets one terminal into Home, once.
func (c *Clinic) Voucher(ctx context.Context) (string, error) {
	return c.run(ctx, "voucher", "-home", Home)
}

// Invitation lets Person call Home, and is the address at which Person makes a passkey and is signed in, once. There has to be a terminal in Home, or a voucher for one.
func (c *Clinic) Invitation(ctx context.Context) (string, error) {
	invitation, err := c.run(ctx, "person", "-person", Person, "-role", Role, "-duty", "clinician", "-invite")
	if err != nil {
		return "", err
	}
	if _, err := output(ctx, "/", c.program, "grant", "give", "-dir", c.dir, "-person", Person, "-role", Role, "-homes", Home, "-reason", "the lab's call"); err != nil {
		return "", err
	}
	return strings.TrimSpace(invitation), nil
}

// LinkFor is a page's address by which somebody signs in, once. The duty decides which pages it leads to.
func (c *Clinic) LinkFor(ctx context.Context, person, role, duty string) (string, error) {
	link, err := c.run(ctx, "sign-in-link", "-person", person, "-role", role, "-duty", duty)
	return strings.TrimSpace(link), err
}
