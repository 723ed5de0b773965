package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"vindu/clinic/config"
	"vindu/clinic/register"
	"vindu/device/link"
	"vindu/device/outbox"
	"vindu/device/state"
	"vindu/protocol"
	"vindu/provisioning"
)

// child is set in the environment of a process of its own that is this program.
const child = "VINDU_CLINIC_TEST_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(child) != "" {
		main()
	}
	goleak.VerifyTestMain(m)
}

// do runs a command to its end.
func do(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(t.Context(), args, &out, &errs)
	return code, out.String(), errs.String()
}

func must(t *testing.T, args ...string) string {
	t.Helper()
	code, stdout, stderr := do(t, args...)
	if code != 0 {
		t.Fatalf("%v: exit %d: %s", args, code, stderr)
	}
	return stdout
}

// newClinic makes one that listens on ports of the system's choice.
func newClinic(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "clinic")
	must(t, "init", "-dir", dir, "-organisation", "Fjordbyen kommune", "-address", "127.0.0.1:443", "-listen", "127.0.0.1:0",
		"-plain", "localhost:0", "-relay", "127.0.0.1:0", "-log", "json")
	return dir
}

// serving is a server that runs until the test ends.
type serving struct {
	dir   string
	ready map[string]any
	stop  func() int
	log   func() string // once it has stopped
}

func start(t *testing.T, dir string) *serving {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	read, write := io.Pipe()
	code := make(chan int, 1)
	go func() {
		code <- run(ctx, []string{"serve", "-config", filepath.Join(dir, config.FileName)}, io.Discard, write)
		write.Close()
	}()
	ready := make(chan map[string]any, 1)
	var logged bytes.Buffer
	var wg sync.WaitGroup
	wg.Go(func() {
		lines := bufio.NewScanner(read)
		for lines.Scan() {
			logged.Write(append(lines.Bytes(), '\n'))
			var fields map[string]any
			if json.Unmarshal(lines.Bytes(), &fields) == nil && fields["msg"] == "ready" {
				ready <- fields
			}
		}
		close(ready)
	})
	s := &serving{dir: dir, log: logged.String, stop: sync.OnceValue(func() int {
		cancel()
		wg.Wait()
		return <-code
	})}
	t.Cleanup(func() {
		s.stop()
		if t.Failed() {
			t.Logf("the server's log:\n%s", logged.String())
		}
	})
	if s.ready = <-ready; s.ready == nil {
		t.Fatal("the server did not start")
	}
	return s
}

func (s *serving) front() string { return s.ready["front"].(string) }

// TestTerminal is a terminal's life: let in by a voucher, certified anew, connected, revoked. What runs at the terminal's end is what
// runs in terminals.
func TestTerminal(t *testing.T) {
	s := start(t, newClinic(t))
	client, grant := letIn(t, s.dir, s.front())
	key := client.Signer
	if grant.Settings.Home != "Home 17, Storgata" || grant.Settings.Organisation != "Fjordbyen kommune" || len(grant.Settings.Authorities) != 1 {
		t.Errorf("settings = %+v", grant.Settings)
	}
	renewed, err := client.Renew(t.Context(), grant)
	if err != nil {
		t.Fatal(err)
	}

	folder, err := state.Open(filepath.Join(t.TempDir(), "terminal"))
	if err != nil {
		t.Fatal(err)
	}
	box, err := outbox.Open(folder, 1<<20, time.Now, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer box.Close()
	roots := x509.NewCertPool()
	roots.AddCert(grant.Root)
	own := tls.Certificate{PrivateKey: key, Leaf: renewed[0]}
	for _, c := range renewed {
		own.Certificate = append(own.Certificate, c.Raw)
	}
	hash, err := protocol.HashKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	states := make(chan link.State, 16)
	l := link.New(link.Config{
		Address: s.front(), Terminal: hash, Software: "test", Now: time.Now, Outbox: box, Service: func() [][]byte { return nil },
		TLS: func() *tls.Config {
			return &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: roots, ServerName: grant.ServerName, Certificates: []tls.Certificate{own}, NextProtos: []string{protocol.ALPNMQTT}}
		},
	}, link.Handlers{State: func(s link.State) { states <- s }}, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	for st := range states {
		if st.Up {
			break
		}
		t.Logf("not up: %v", st.Err)
	}
	must(t, "revoke", "-dir", s.dir, "-home", "Home 17, Storgata", "-reason", "stolen")
	if st := <-states; st.Up {
		t.Error("a revoked terminal came up again")
	}
	if _, err := client.Renew(t.Context(), grant); protocol.CodeOf(err) != protocol.LinkRefused {
		t.Errorf("a revoked terminal renewed: %v", err)
	}
	l.Reconnect()
	if st := <-states; st.Up || st.Cause != protocol.LinkRefused {
		t.Errorf("a revoked terminal connected: up %v, cause %s, %v", st.Up, st.Cause, st.Err)
	}
	if code := s.stop(); code != 0 {
		t.Errorf("exit %d", code)
	}
}

// letIn lets a new terminal in.
func letIn(t *testing.T, dir, front string) (*provisioning.Client, *provisioning.Grant) {
	t.Helper()
	v, err := protocol.ParseVoucher(must(t, "voucher", "-dir", dir, "-home", "Home 17, Storgata"))
	if err != nil {
		t.Fatal(err)
	}
	v.Address = front
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	client := &provisioning.Client{Signer: key, Now: time.Now}
	grant, err := client.Enrol(t.Context(), v)
	if err != nil {
		t.Fatal(err)
	}
	return client, grant
}

// TestKilled: a server that is killed the instant it has let a terminal in still knows it, and neither it nor its keys need the root's key.
func TestKilled(t *testing.T) {
	dir := newClinic(t)
	if err := os.Remove(filepath.Join(dir, folderAuthority, "root.key")); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "serve", "-config", filepath.Join(dir, config.FileName))
	cmd.Env = append(os.Environ(), child+"=1")
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	front := ""
	for lines := bufio.NewScanner(stderr); front == "" && lines.Scan(); {
		var fields struct{ Msg, Front string }
		if err := json.Unmarshal(lines.Bytes(), &fields); err != nil {
			t.Errorf("log: %s", lines.Text())
		}
		front = fields.Front
	}
	client, grant := letIn(t, dir, front)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	cmd.Wait() // it was killed

	s := start(t, dir)
	grant.Address = s.front()
	if _, err := client.Renew(t.Context(), grant); err != nil {
		t.Error(err)
	}
	c, err := open(t.Context(), filepath.Join(dir, config.FileName), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	if _, err := c.audit.Verify(t.Context(), nil); err != nil {
		t.Error(err)
	}
	if code := s.stop(); code != 0 {
		t.Errorf("exit %d", code)
	}
}

func TestCannotServe(t *testing.T) {
	replace := func(dir, old, new string) error {
		path := filepath.Join(dir, config.FileName)
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if !bytes.Contains(b, []byte(old)) {
			return errors.New("nothing to replace")
		}
		return os.WriteFile(path, bytes.Replace(b, []byte(old), []byte(new), 1), 0o600)
	}
	for name, tc := range map[string]struct {
		prepare func(t *testing.T, dir string) error
		want    []string // in the error
	}{
		"no configuration": {func(_ *testing.T, dir string) error { return os.Remove(filepath.Join(dir, config.FileName)) },
			[]string{config.FileName, "vindu-clinic init"}},
		"unknown key": {func(_ *testing.T, dir string) error { return replace(dir, "[front]", "[front]\ncolour = 1") },
			[]string{config.FileName, "line 23", `"front.colour"`}},
		"port taken": {func(t *testing.T, dir string) error {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				return err
			}
			t.Cleanup(func() { l.Close() })
			return replace(dir, `listen = "127.0.0.1:0"`, `listen = "`+l.Addr().String()+`"`)
		}, []string{"front.listen", "taken by another program", "choose another port"}},
		"not our address": {func(_ *testing.T, dir string) error {
			return replace(dir, `listen = "127.0.0.1:0"`, `listen = "192.0.2.1:0"`)
		}, []string{"front.listen", "not an address of this machine"}},
		"keys gone": {func(_ *testing.T, dir string) error {
			return os.Remove(filepath.Join(dir, folderAuthority, "issuing.key"))
		}, []string{"issuing.key", "backup"}},
		"keys open to others": {func(_ *testing.T, dir string) error {
			return os.Chmod(filepath.Join(dir, folderAuthority, "issuing.key"), 0o644)
		}, []string{"issuing.key", "chmod 600"}},
		"database damaged": {func(_ *testing.T, dir string) error {
			return os.WriteFile(filepath.Join(dir, fileDatabase), bytes.Repeat([]byte("damage"), 4096), 0o600)
		}, []string{fileDatabase, "database damaged", "backup"}},
		"state folder gone": {func(_ *testing.T, dir string) error { return replace(dir, `state = "`, `state = "/nowhere`) },
			[]string{"/nowhere", "check that it belongs"}},
		"served by another": {func(t *testing.T, dir string) error {
			start(t, dir)
			return nil
		}, []string{"another vindu-clinic serves", "stop that one"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := newClinic(t)
			if err := tc.prepare(t, dir); err != nil {
				t.Fatal(err)
			}
			code, _, stderr := do(t, "serve", "-config", filepath.Join(dir, config.FileName))
			if code != 1 {
				t.Errorf("exit %d", code)
			}
			for _, want := range tc.want {
				if !strings.Contains(stderr, want) {
					t.Errorf("said %q, without %q", stderr, want)
				}
			}
		})
	}
}

func TestInit(t *testing.T) {
	dir := newClinic(t)
	args := []string{"init", "-dir", dir, "-organisation", "Another", "-address", "127.0.0.1:443"}
	if code, _, stderr := do(t, args...); code != 1 || !strings.Contains(stderr, "there is one in "+dir) {
		t.Errorf("a second time: exit %d, %s", code, stderr)
	}
	// Cut off before the end, it can be done again, with the same keys.
	path := filepath.Join(dir, config.FileName)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(filepath.Join(dir, folderAuthority, "root.pem"))
	if err != nil {
		t.Fatal(err)
	}
	must(t, args...)
	if after, err := os.ReadFile(filepath.Join(dir, folderAuthority, "root.pem")); err != nil || !bytes.Equal(before, after) {
		t.Errorf("other keys: %v", err)
	}
	c, err := config.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if c.Front.Listen != "127.0.0.1:443" || c.Web.Plain != "localhost:8080" || c.Relay.Listen != "127.0.0.1:3478" || !c.Relay.Local || c.State != dir {
		t.Errorf("on loopback: %+v", c)
	}
	public := filepath.Join(t.TempDir(), "public")
	must(t, "init", "-dir", public, "-organisation", "Another", "-address", "clinic.example:443")
	if c, err = config.Load(filepath.Join(public, config.FileName)); err != nil || c.Front.Listen != ":443" || c.Relay.Listen != ":3478" || c.Relay.Local {
		t.Errorf("on the network: %+v, %v", c, err)
	}
	for _, p := range []string{public, filepath.Join(public, config.FileName), filepath.Join(public, fileDatabase)} {
		if info, err := os.Stat(p); err != nil || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: mode %v, %v", p, info.Mode(), err)
		}
	}
}

func TestUsage(t *testing.T) {
	dir := newClinic(t)
	for name, tc := range map[string]struct {
		args []string
		code int
		want string
	}{
		"nothing":             {nil, 2, "Commands"},
		"help":                {[]string{"help"}, 2, "voucher"},
		"unknown command":     {[]string{"fly"}, 2, `no command "fly"`},
		"help of a command":   {[]string{"init", "-h"}, 2, "-organisation"},
		"unknown flag":        {[]string{"voucher", "-colour", "red"}, 2, "colour"},
		"missing flag":        {[]string{"voucher", "-dir", dir}, 2, "-home is missing"},
		"unquoted value":      {[]string{"voucher", "-dir", dir, "-home", "Home", "17"}, 2, `"17" belongs to no flag`},
		"bad address":         {[]string{"init", "-dir", dir + "2", "-organisation", "x", "-address", "localhost"}, 2, "host:port"},
		"bad organisation":    {[]string{"init", "-dir", dir + "2", "-organisation", "a\nb", "-address", "localhost:1"}, 1, "organisation"},
		"no such clinic":      {[]string{"voucher", "-dir", dir + "2", "-home", "x"}, 1, "init"},
		"bad home":            {[]string{"voucher", "-dir", dir, "-home", " x"}, 1, "space"},
		"voucher for a month": {[]string{"voucher", "-dir", dir, "-home", "x", "-life", "720h"}, 1, "168h"},
		"link without a port": {[]string{"sign-in-link", "-dir", dir, "-person", "Anne", "-role", "nurse", "-duty", "clinician"}, 1, "web.plain"},
		"duty unknown":        {[]string{"person", "-dir", dir, "-person", "Anne", "-role", "nurse", "-duty", "auditor"}, 2, "auditor"},
		"duty missing":        {[]string{"person", "-dir", dir, "-person", "Anne", "-role", "nurse"}, 2, "-duty is missing"},
		"revoke nothing":      {[]string{"revoke", "-dir", dir, "-home", "nowhere", "-reason", "x"}, 1, "not in the register"},
		"revoke no terminal":  {[]string{"revoke", "-dir", dir, "-home", "x", "-reason", "x"}, 1, ""},
		"not a laptop's key":  {[]string{"mandate", "-dir", dir, "-person", "Kari Nes", "-laptop", "key"}, 1, "vindu-laptop-1."},
		"mandate for a year":  {[]string{"mandate", "-dir", dir, "-person", "Kari Nes", "-laptop", laptopKey(t), "-life", "8760h"}, 1, "743h"},
		"end no terminal":     {[]string{"decommission", "-dir", dir, "-home", "x", "-reason", "x"}, 1, ""},
		"key of no root":      {[]string{"renew-ca", "-dir", dir, "-new-root-key", "x"}, 2, "-root"},
		"audit of what":       {[]string{"audit", "fly", "-dir", dir}, 2, "list, head or verify"},
		"audit without a dir": {[]string{"audit", "list"}, 2, "-dir is missing"},
		"no heads":            {[]string{"audit", "verify", "-dir", dir, filepath.Join(dir, "clinic.toml")}, 1, "holds no head"},
		"no such head":        {[]string{"audit", "verify", "-dir", dir, "nowhere"}, 1, "nowhere"},
		"nothing to withdraw": {[]string{"decommission", "-dir", dir, "-home", "x", "-withdraw"}, 1, ""},
		"no mandate to take":  {[]string{"mandate", "-dir", dir, "-laptop", laptopKey(t), "-withdraw"}, 1, "no such valid authorisation"},
		"file missing":        {[]string{"accept", "-dir", dir}, 2, "vindu-clinic accept: the file is missing: vindu-clinic accept -dir D SIGNED"},
		"no day":              {[]string{"grant", "give", "-dir", dir, "-person", "Anne", "-role", "nurse", "-reason", "x", "-homes", "x", "-until", "soon"}, 2, `give: -until: "soon"`},
		"version":             {[]string{"version"}, 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			code, stdout, stderr := do(t, tc.args...)
			if code != tc.code || !strings.Contains(stderr, tc.want) {
				t.Errorf("exit %d, said %q; want %d, %q", code, stderr, tc.code, tc.want)
			}
			if (code == 0) == (stdout == "") {
				t.Errorf("exit %d, printed %q", code, stdout)
			}
		})
	}
}

// Everybody who is new here asks a command with -h how it is written: files too, which are no flags.
func TestEachCommandExplainsItself(t *testing.T) {
	verbs := map[string]bool{"grant": true, "policy": true, "audit": true, "version": true}
	for _, c := range commands {
		if _, ok := synopses[c.name]; !ok && !verbs[c.name] {
			t.Errorf("it is not said how %s is written", c.name)
		}
	}
	for name, want := range synopses {
		t.Run(name, func(t *testing.T) {
			code, stdout, stderr := do(t, append(strings.Fields(name), "-h")...)
			if code != 2 || stdout != "" || strings.Count(stderr, "vindu-clinic "+name+" "+want+"\n") != 1 {
				t.Errorf("exit %d, printed %q, said %q", code, stdout, stderr)
			}
		})
	}
}

func laptopKey(t *testing.T) string {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	text, err := protocol.LaptopText(k.Public())
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestMandate(t *testing.T) {
	dir := newClinic(t)
	code, stdout, stderr := do(t, "mandate", "-dir", dir, "-person", "Kari Nes", "-laptop", laptopKey(t), "-life", "24h", "-by", "Ola")
	if code != 0 || strings.Count(stdout, "\n") != 1 || !strings.Contains(stderr, "Kari Nes may work at terminals") {
		t.Fatalf("exit %d, %q, %q", code, stdout, stderr)
	}
	_, m, err := protocol.ParseMandate(stdout)
	if err != nil || m.Person != (protocol.Party{Name: "Kari Nes", Role: "technician", Organisation: "Fjordbyen kommune"}) {
		t.Fatalf("%+v, %v", m, err)
	}
	if left := time.Until(m.To.Time()); left <= 23*time.Hour || left > 24*time.Hour {
		t.Errorf("good for %v", left)
	}
	laptop, err := protocol.LaptopText(laptopOf(t, m))
	if err != nil {
		t.Fatal(err)
	}
	s := start(t, dir)
	if code, _, stderr := do(t, "mandate", "-dir", dir, "-laptop", laptop, "-withdraw", "-by", "Ola"); code != 0 || !strings.Contains(stderr, "Withdrawn: 1") {
		t.Fatalf("withdraw: exit %d, %s", code, stderr)
	}
	if i := enrolled(t, dir, s.front(), "Home 17"); !slices.Equal(i.Grant().Settings.Withdrawn, []protocol.Nonce{m.ID}) {
		t.Errorf("terminals are told of %v", i.Grant().Settings.Withdrawn)
	}
}

func laptopOf(t *testing.T, m *protocol.Mandate) crypto.PublicKey {
	t.Helper()
	key, err := x509.ParsePKIXPublicKey(m.Key)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestVoucher(t *testing.T) {
	dir := newClinic(t)
	code, stdout, stderr := do(t, "voucher", "-dir", dir, "-home", "Home 17, Storgata", "-life", "10m", "-by", "Kari")
	if code != 0 || strings.Count(stdout, "\n") != 1 || !strings.Contains(stderr, "Home 17, Storgata") {
		t.Fatalf("exit %d, %q, %q", code, stdout, stderr)
	}
	v, err := protocol.ParseVoucher(stdout)
	if err != nil {
		t.Fatal(err)
	}
	if v.Address != "127.0.0.1:443" || v.ServerName != "terminals.vindu.invalid" {
		t.Errorf("voucher for %s, %s", v.Address, v.ServerName)
	}
	if left := time.Until(v.Expires.Time()); left <= 9*time.Minute || left > 10*time.Minute {
		t.Errorf("good for %v", left)
	}
}

func TestSignInLink(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "clinic")
	must(t, "init", "-dir", dir, "-organisation", "Fjordbyen kommune", "-address", "127.0.0.1:443", "-plain", "localhost:8089")
	link := must(t, "sign-in-link", "-dir", dir, "-person", "Anne Berg", "-role", "nurse", "-duty", "clinician")
	if !strings.HasPrefix(link, "http://localhost:8089/enter/") || strings.Count(link, "\n") != 1 {
		t.Errorf("link = %q", link)
	}
	c := openBeside(t, dir)
	person, err := c.register.EnsurePerson(t.Context(), "test", protocol.Party{Name: "Anne Berg", Role: "nurse", Organisation: "Fjordbyen kommune"}, register.Clinician)
	if err != nil {
		t.Fatal(err)
	}
	c.givePasskey(t, person.ID)
	refused(t, "has a passkey", "sign-in-link", "-dir", dir, "-person", "Anne Berg", "-role", "nurse", "-duty", "clinician")
}

func TestBaseURL(t *testing.T) {
	c := config.Default()
	c.Web = config.Web{Names: []string{"clinic.example", "other"}, Certificate: "c", Key: "k", Plain: "localhost:8080"}
	for listen, want := range map[string]string{":443": "https://clinic.example", ":8443": "https://clinic.example:8443"} {
		c.Front.Listen = listen
		if got, err := baseURL(c); err != nil || got != want {
			t.Errorf("%s: %q, %v; want %q", listen, got, err, want)
		}
	}
}

func TestStages(t *testing.T) {
	broken := errors.New("broken")
	for name, tc := range map[string]struct {
		second  func(ctx context.Context) error
		ready   bool // whether second becomes ready
		stop    bool // whether it is stopped from outside
		err     string
		history string
	}{
		"in order":              {func(ctx context.Context) error { <-ctx.Done(); return nil }, true, true, "", "1+ 2+ 3+ ready 3- 2- 1-"},
		"broken at start":       {func(context.Context) error { return broken }, false, false, "second: broken", "1+ 2+ 2- 1-"},
		"broken later":          {func(context.Context) error { <-time.After(time.Hour); return broken }, true, false, "second: broken", "1+ 2+ 3+ ready 2- 3- 1-"},
		"ends by itself":        {func(context.Context) error { <-time.After(time.Hour); return nil }, true, false, "second ended by itself", "1+ 2+ 3+ ready 2- 3- 1-"},
		"broken at stop":        {func(ctx context.Context) error { <-ctx.Done(); return broken }, true, true, "second: broken", "1+ 2+ 3+ ready 3- 2- 1-"},
		"cancelled is no error": {func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }, true, true, "", "1+ 2+ 3+ ready 3- 2- 1-"},
		"never ready":           {func(ctx context.Context) error { <-ctx.Done(); return nil }, false, true, "", "1+ 2+ 2- 1-"},
		"does not stop":         {func(ctx context.Context) error { <-time.After(24 * time.Hour); return nil }, true, true, "second does not stop", "1+ 2+ 3+ ready 3- 1- 2-"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var mu sync.Mutex
				var history []string
				note := func(s string) {
					mu.Lock()
					defer mu.Unlock()
					history = append(history, s)
				}
				wrap := func(name string, run func(context.Context) error) func(context.Context) error {
					return func(ctx context.Context) error {
						note(name + "+")
						defer note(name + "-")
						return run(ctx)
					}
				}
				wait := func(ctx context.Context) error { <-ctx.Done(); return nil }
				first, second, third := make(chan struct{}), make(chan struct{}), make(chan struct{})
				stages := []stage{
					{"first", wrap("1", func(ctx context.Context) error { close(first); return wait(ctx) }), first},
					{"second", wrap("2", func(ctx context.Context) error {
						if tc.ready {
							close(second)
						}
						return tc.second(ctx)
					}), second},
					{"third", wrap("3", func(ctx context.Context) error { close(third); return wait(ctx) }), third},
				}
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				if tc.stop {
					time.AfterFunc(time.Minute, cancel)
				}
				err := runStages(ctx, slog.New(slog.DiscardHandler), stages, func() { note("ready") })
				if tc.err == "" && err != nil || tc.err != "" && (err == nil || err.Error() != tc.err) {
					t.Errorf("error = %v, want %q", err, tc.err)
				}
				<-time.After(48 * time.Hour) // the one that does not stop
				mu.Lock()
				defer mu.Unlock()
				if got := strings.Join(history, " "); got != tc.history {
					t.Errorf("history %s, want %s", got, tc.history)
				}
			})
		})
	}
}
