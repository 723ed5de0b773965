package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"vindu/protocol"
	"vindu/provisioning/laptop"
	"vindu/provisioning/session"
	"vindu/provisioning/session/sessiontest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var update = flag.Bool("update", false, "write the golden output")

var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// bench is a terminal, a cable, a laptop and the files that a technician has.
type bench struct {
	*sessiontest.Terminal
	world   *world
	out     bytes.Buffer // standard output
	err     bytes.Buffer // standard error
	port    string
	dir     string // of the files
	folder  string // of the laptop
	voucher *protocol.Voucher
}

func fixedKey(t *testing.T, b byte) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), bytes.Repeat([]byte{b}, 32))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// newBench has a terminal from the factory at the cable, whose button is pressed when its screen asks, and an authorised laptop.
func newBench(t *testing.T) *bench {
	t.Helper()
	clinic := fixedKey(t, 2)
	b := &bench{Terminal: sessiontest.NewTerminal(clinic), dir: t.TempDir()}
	b.Key = fixedKey(t, 1)
	b.Clock = func() time.Time { return noon }
	b.Press = func(context.Context) error { return nil }
	b.Checks = []protocol.Check{
		{Name: "camera.brightness", State: protocol.CheckPassed, Figure: "118"},
		{Name: "panel", State: protocol.CheckSkipped, Code: protocol.PanelMissing},
		{Name: "clinic.latency", State: protocol.CheckPassed, Figure: "31 ms"},
	}
	b.folder = filepath.Join(b.dir, "vindu")
	l, err := laptop.Open(b.folder)
	if err != nil {
		t.Fatal(err)
	}
	signed := sessiontest.Mandate(clinic, l.Key(), noon.Add(-time.Hour), noon.Add(8*time.Hour))
	b.file(t, "mandate", protocol.MandateText(signed))
	if _, err := l.KeepMandate(protocol.MandateText(signed), noon); err != nil {
		t.Fatal(err)
	}
	b.voucher = &protocol.Voucher{Version: protocol.Version, ID: protocol.Nonce{7}, Secret: make([]byte, 32), Address: "clinic.example:443",
		ServerName: "terminals.clinic.example", Root: []byte{1}, Expires: protocol.At(noon.Add(time.Hour))}
	text, err := b.voucher.Text()
	if err != nil {
		t.Fatal(err)
	}
	b.file(t, "voucher", string(text))
	b.file(t, "password", "correct horse\n")
	var terminalEnd *os.File
	terminalEnd, b.port = pty(t)
	b.world = &world{
		in: strings.NewReader(""), out: &b.out, err: &b.err, open: openSerial, now: func() time.Time { return noon }, zone: time.UTC, poll: time.Millisecond,
		ports: func() ([]port, error) { return []port{{Path: b.port, USB: true, What: "Vindu terminal"}}, nil },
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = session.NewServer(b.Terminal, slog.New(slog.DiscardHandler)).Run(ctx, func(context.Context) (io.ReadWriteCloser, error) { return terminalEnd, nil })
	}()
	t.Cleanup(func() {
		stop()
		<-ended
	})
	return b
}

func (b *bench) file(t *testing.T, name, content string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(b.dir, name), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (b *bench) path(name string) string { return filepath.Join(b.dir, name) }

// run runs the program.
func (b *bench) run(t *testing.T, args ...string) int {
	t.Helper()
	b.out.Reset()
	b.err.Reset()
	return run(t.Context(), append([]string{"--folder", b.folder}, args...), b.world)
}

// all are flags that leave nothing to ask.
func (b *bench) all(more ...string) []string {
	return append([]string{"setup", "--json", "--port", b.port, "--code", protocol.HashSPKI(sessiontest.Public(b.Key)).Code(), "--language", "en",
		"--wifi", "Storgata 17", "--wifi-password-file", b.path("password"), "--voucher-file", b.path("voucher")}, more...)
}

// result reads what --json printed.
func (b *bench) result(t *testing.T) result {
	t.Helper()
	var r result
	d := json.NewDecoder(bytes.NewReader(b.out.Bytes()))
	if err := d.Decode(&r); err != nil {
		t.Fatalf("standard output is not JSON: %v\n%s\n%s", err, &b.out, &b.err)
	}
	if _, err := d.Token(); err != io.EOF {
		t.Errorf("more than one object: %s", &b.out)
	}
	return r
}

// golden compares, with what differs from run to run made the same.
func (b *bench) golden(t *testing.T, name string, got []byte) {
	t.Helper()
	text := strings.NewReplacer(b.dir, "DIR", b.port, "PORT").Replace(string(got))
	text = regexp.MustCompile(`[0-9a-f]{32}`).ReplaceAllString(text, "RANDOM")
	text = regexp.MustCompile(`vindu-laptop-1\.[\w-]+`).ReplaceAllString(text, "vindu-laptop-1.KEY")
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if text != string(want) {
		t.Errorf("%s differs; look at it and run with -update. Got:\n%s", file, text)
	}
}

func TestSetUp(t *testing.T) {
	b := newBench(t)
	if status := b.run(t, b.all("--sheet", b.path("sheet.html"), "--telephone", "33 00 00 00")...); status != exitDone {
		t.Fatalf("exit status %d\n%s", status, &b.err)
	}
	b.golden(t, "setup.json", b.out.Bytes())
	b.golden(t, "setup.txt", b.err.Bytes())
	page, err := os.ReadFile(b.path("sheet.html"))
	if err != nil {
		t.Fatal(err)
	}
	b.golden(t, "sheet.html", page)
	r := b.result(t)
	b.Lock()
	defer b.Unlock()
	if b.State != session.SetUp || b.Language != "en" || !slices.Contains(b.Spent, b.voucher.ID) || len(b.HandedOver) != 1 {
		t.Errorf("terminal: %s, %s, %d hand-overs", b.State, b.Language, len(b.HandedOver))
	}
	if n := b.Networks[0]; n.SSID != "Storgata 17" || n.Security != session.WPA2 || n.Password != "correct horse" {
		t.Errorf("network: %+v", n)
	}
	event, record := new(protocol.HandOverEvent), new(protocol.HandOver)
	kept, err := os.ReadFile(r.HandOver.Record)
	if err != nil {
		t.Fatal(err)
	}
	if err := protocol.Decode(kept, event); err != nil {
		t.Fatal(err)
	}
	if err := protocol.Verify(event.Terminal, &fixedKey(t, 1).PublicKey, record); err != nil || !slices.Equal(record.Checks, b.Checks) {
		t.Errorf("record: %+v, %v", record, err)
	}
	for name, secret := range map[string]string{"password": "correct horse", "voucher": string(mustText(t, b.voucher))} {
		err := filepath.WalkDir(b.folder, func(file string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			content, err := os.ReadFile(file)
			if bytes.Contains(content, []byte(secret)) {
				t.Errorf("%s keeps the %s", file, name)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
		if strings.Contains(b.err.String(), secret) || strings.Contains(b.out.String(), secret) {
			t.Errorf("the %s was printed", name)
		}
	}
}

func mustText(t *testing.T, v *protocol.Voucher) protocol.Secret {
	t.Helper()
	text, err := v.Text()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestAgain: what was done is not done again, and what is asked for anew is.
func TestAgain(t *testing.T) {
	b := newBench(t)
	if status := b.run(t, b.all()...); status != exitDone {
		t.Fatalf("exit status %d\n%s", status, &b.err)
	}
	if status := b.run(t, b.all()...); status != exitDone {
		t.Fatalf("again: exit status %d\n%s", status, &b.err)
	}
	if r := b.result(t); r.EnrolledBy != "before" || r.HandOver == nil {
		t.Errorf("again: %s", &b.out)
	}
	b.Lock()
	enrolled := 0
	for _, what := range b.Log {
		if what == "Enrol" {
			enrolled++
		}
	}
	b.Unlock()
	if enrolled != 1 {
		t.Errorf("enrolled %d times", enrolled)
	}
	b.voucher.ID = protocol.Nonce{8}
	b.file(t, "voucher", string(mustText(t, b.voucher)))
	if status := b.run(t, b.all()...); status != exitDone {
		t.Fatalf("moved: exit status %d\n%s", status, &b.err)
	}
	if r := b.result(t); r.EnrolledBy != viaTerminal {
		t.Errorf("moved: %s", &b.out)
	}
}

// TestFails: each failure has its code, a sentence, what to do, and the exit status.
func TestFails(t *testing.T) {
	for name, c := range map[string]struct {
		spoil  func(b *bench)
		args   func(b *bench) []string
		status int
		code   string
	}{
		"no flag for the code":       {nil, func(b *bench) []string { return []string{"--json", "--port", b.port} }, exitUsage, "tool.needs_flag"},
		"another code":               {nil, func(b *bench) []string { return b.all("--code", "AAAA-BBBB-CCCC-DDDD") }, exitFailed, "tool.code_differs"},
		"no such port":               {nil, func(b *bench) []string { return b.all("--port", "/dev/pts/none") }, exitFailed, "tool.port_missing"},
		"not a port":                 {nil, func(b *bench) []string { return b.all("--port", b.path("voucher")) }, exitFailed, "tool.port_unusable"},
		"no port at all":             {func(b *bench) { b.world.ports = func() ([]port, error) { return nil, nil } }, func(*bench) []string { return []string{"--json"} }, exitFailed, "tool.no_port"},
		"no voucher":                 {nil, func(b *bench) []string { return b.all("--voucher-file", b.path("none")) }, exitFailed, "tool.file"},
		"not a voucher":              {nil, func(b *bench) []string { return b.all("--voucher-file", b.path("password")) }, exitFailed, "tool.voucher_text"},
		"language unknown":           {nil, func(b *bench) []string { return b.all("--language", "fr") }, exitUsage, "tool.language"},
		"secured Wi-Fi, no password": {nil, func(b *bench) []string { return b.all("--wifi-password-file", "") }, exitUsage, "tool.wifi_password"},
		"voucher used":               {refuse("Enrol", protocol.IdentityVoucherUsed), (*bench).all0, exitFailed, string(protocol.IdentityVoucherUsed)},
		"possible clone":             {refuse("Enrol", protocol.IdentityClone), (*bench).all0, exitFailed, string(protocol.IdentityClone)},
		"wrong clinic":               {refuse("Enrol", protocol.IdentityPin), (*bench).all0, exitFailed, string(protocol.IdentityPin)},
		"hand-over not confirmed":    {refuse("ConfirmHandOver", protocol.SignalMalformed), (*bench).all0, exitFailed, string(protocol.SignalMalformed)},
		"taken out of use":           {func(b *bench) { b.State = session.Returned }, (*bench).all0, exitFailed, string(protocol.IdentityReturned)},
		"not authorised":             {func(b *bench) { os.Remove(filepath.Join(b.folder, "mandate.txt")) }, (*bench).all0, exitFailed, string(protocol.AuthTechnician)},
		"authorisation over":         {func(b *bench) { b.world.now = func() time.Time { return noon.Add(9 * time.Hour) } }, (*bench).all0, exitFailed, string(protocol.AuthTechnician)},
		"set up by another clinic":   {func(b *bench) { b.State, b.Clinic = session.SetUp, sessiontest.Key() }, (*bench).all0, exitFailed, string(protocol.AuthTechnician)},
		"check failed": {func(b *bench) {
			b.Checks[2] = protocol.Check{Name: "clinic.latency", State: protocol.CheckFailed, Figure: "812 ms", Code: protocol.QualityDelay}
		}, (*bench).all0, exitChecks, "tool.checks_failed"},
		"check of a terminal from the factory": {nil, func(b *bench) []string { return []string{"check", "--json"} }, exitFailed, "tool.not_set_up"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			if c.spoil != nil {
				b.Lock()
				c.spoil(b)
				b.Unlock()
			}
			status := b.run(t, c.args(b)...)
			r := b.result(t)
			if status != c.status || r.OK || r.Failure == nil || r.Failure.Code != c.code {
				t.Fatalf("exit status %d, %+v; want %d, %s\n%s", status, r.Failure, c.status, c.code, &b.err)
			}
			if r.Failure.Sentence == "" || r.Failure.Next == "" || strings.Count(r.Failure.Sentence, ".") != 1 {
				t.Errorf("not one sentence and what to do: %+v", r.Failure)
			}
			if !strings.Contains(b.err.String(), r.Failure.Sentence) || !strings.Contains(b.err.String(), r.Failure.Next) {
				t.Errorf("people are not told: %s", &b.err)
			}
			b.Lock()
			defer b.Unlock()
			if len(b.HandedOver) != 0 {
				t.Error("handed over")
			}
		})
	}
}

func (b *bench) all0() []string { return b.all() }

func refuse(method string, code protocol.Code) func(*bench) {
	return func(b *bench) {
		b.Refuse = map[string]error{method: protocol.WithCode(code, io.ErrUnexpectedEOF)}
	}
}

// TestAcceptFailures hands over what is not in order, and says so in the record, on the page and in the exit status.
func TestAcceptFailures(t *testing.T) {
	b := newBench(t)
	b.Lock()
	b.Checks[0] = protocol.Check{Name: "camera.brightness", State: protocol.CheckFailed, Figure: "3", Code: protocol.CaptureDark}
	b.Unlock()
	if status := b.run(t, b.all("--accept-failures")...); status != exitChecks {
		t.Fatalf("exit status %d\n%s", status, &b.err)
	}
	r := b.result(t)
	b.Lock()
	defer b.Unlock()
	if r.HandOver == nil || r.Checks[0].Next == "" || len(b.HandedOver) != 1 || b.HandedOver[0].Checks[0].State != protocol.CheckFailed {
		t.Errorf("%s", &b.out)
	}
	b.golden(t, "failed.txt", b.err.Bytes())
}

// TestCovered: a terminal whose screen shows something else cannot ask for its button for a moment.
func TestCovered(t *testing.T) {
	b := newBench(t)
	b.Lock()
	refusals := 2
	b.Press = func(context.Context) error {
		b.Lock()
		defer b.Unlock()
		if refusals--; refusals >= 0 {
			return protocol.WithCode(protocol.AnswerBusy, errors.New("a call is on the screen"))
		}
		return nil
	}
	b.Unlock()
	if status := b.run(t, b.all()...); status != exitDone || strings.Count(b.err.String(), "Press the button") != 1 {
		t.Errorf("exit status %d\n%s", status, &b.err)
	}
}

// TestPulled pulls the cable at one write after the other. The program goes on by itself, and all is done once.
func TestPulled(t *testing.T) {
	for at := 1; at <= 31; at += 3 {
		t.Run("", func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			writes := new(int)
			b.world.open = func(path string) (io.ReadWriteCloser, error) {
				p, err := openSerial(path)
				if err != nil {
					return nil, err
				}
				return &loose{ReadWriteCloser: p, writes: writes, at: at}, nil
			}
			args := b.all()
			args = slices.Delete(args, slices.Index(args, "--port"), slices.Index(args, "--port")+2) // it may be at another port afterwards
			if status := b.run(t, args...); status != exitDone && at > 2 {
				t.Fatalf("pulled at write %d: exit status %d\n%s", at, status, &b.err)
			} else if status != exitDone { // before there was a session
				if status = b.run(t, args...); status != exitDone {
					t.Fatalf("pulled at write %d, and run again: exit status %d\n%s", at, status, &b.err)
				}
			}
			b.Lock()
			defer b.Unlock()
			if *writes < at {
				t.Logf("only %d writes", *writes)
			}
			if len(b.Spent) != 1 || len(b.HandedOver) != 1 {
				t.Errorf("%d vouchers spent, %d hand-overs\n%s", len(b.Spent), len(b.HandedOver), &b.err)
			}
		})
	}
}
