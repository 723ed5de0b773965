package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"vindu/protocol"
	"vindu/provisioning/session"
	"vindu/provisioning/session/sessiontest"
)

// answers has a person at the laptop answer, in plain lines.
func (b *bench) answers(lines ...string) {
	b.world.interactive, b.world.in = true, strings.NewReader(strings.Join(lines, "\n")+"\n")
}

// TestCodeIsAlwaysAsked: what says that it is set up may be anything: nothing secret goes to it before a person has compared the code, or a flag has.
func TestCodeIsAlwaysAsked(t *testing.T) {
	for name, c := range map[string]struct {
		answers []string
		code    string
	}{
		"nobody to ask":             {nil, "tool.needs_flag"},
		"the screen shows no code":  {[]string{"1"}, "tool.code_differs"},
		"the screen shows the code": {[]string{"2"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.Lock()
			b.State = session.SetUp
			asked := make(chan struct{})
			once := sync.OnceFunc(func() { close(asked) })
			b.Press = func(context.Context) error { once(); return nil }
			b.Unlock()
			if c.answers != nil {
				b.answers(c.answers...)
			}
			args := b.all()
			args = slices.Delete(args, slices.Index(args, "--code"), slices.Index(args, "--code")+2)
			status := b.run(t, args...)
			r := b.result(t)
			b.Lock()
			defer b.Unlock()
			if (status == exitDone) != (c.code == "") || r.Failure != nil && r.Failure.Code != c.code {
				t.Fatalf("exit status %d, %+v\n%s", status, r.Failure, &b.err)
			}
			if secrets := len(b.Networks) > 0 || len(b.Spent) > 0; secrets != (c.code == "") {
				t.Errorf("secrets went out: %v", secrets)
			}
			if c.answers != nil {
				<-asked // the screen had to ask for its button to show the code
			}
			if c.code == "" && !b.Seen {
				t.Error("nobody is said to have seen the screen")
			}
		})
	}
}

// TestSeen: that the screen can be read counts if a person compared its code, and not if a script gave one.
func TestSeen(t *testing.T) {
	b := newBench(t)
	if status := b.run(t, b.all()...); status != exitDone {
		t.Fatalf("exit status %d\n%s", status, &b.err)
	}
	b.Lock()
	if b.Seen {
		t.Error("a script has seen the screen")
	}
	b.Unlock()
	b.answers("2")
	if status := b.run(t, "check", "--port", b.port); status != exitDone {
		t.Fatalf("exit status %d\n%s", status, &b.err)
	}
	b.Lock()
	defer b.Unlock()
	if !b.Seen || !strings.Contains(b.err.String(), "Does it show this code?") {
		t.Errorf("nobody was asked:\n%s", &b.err)
	}
}

// TestInterrupted: Ctrl-C in the middle of a check closes camera and microphone.
func TestInterrupted(t *testing.T) {
	b := newBench(t)
	ctx, interrupt := context.WithCancel(t.Context())
	stopped := make(chan error, 1)
	b.Lock()
	b.CheckTime = time.Hour
	b.Checking = func(ctx context.Context) {
		interrupt()
		<-ctx.Done()
		stopped <- context.Cause(ctx)
	}
	b.Unlock()
	status := run(ctx, append([]string{"--folder", b.folder}, b.all()...), b.world)
	if r := b.result(t); status != exitFailed || r.Failure.Code != "tool.stopped" || !strings.Contains(b.err.String(), "camera and microphone are closed") {
		t.Errorf("exit status %d, %+v\n%s", status, r.Failure, &b.err)
	}
	if err := <-stopped; protocol.CodeOf(err) != protocol.CheckStopped {
		t.Errorf("the check ended by %v", err)
	}
}

// TestNothingFailsAfterTheHandOver: what can be known to be wrong is said before anything is done, and what goes wrong later takes nothing back.
func TestNothingFailsAfterTheHandOver(t *testing.T) {
	for name, c := range map[string]struct {
		args   func(b *bench) []string
		status int
		code   string
	}{
		"no page in that language": {func(b *bench) []string { return b.all("--sheet-language", "sv") }, exitUsage, "tool.language"},
		"no place for the page":    {func(b *bench) []string { return b.all("--sheet", b.path("none/sheet.html")) }, exitFailed, "tool.file"},
		"two inputs": {func(b *bench) []string {
			return b.all("--voucher-file", "-", "--wifi-password-file", "-")
		}, exitUsage, "tool.two_inputs"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			if status := b.run(t, c.args(b)...); status != c.status || b.result(t).Failure.Code != c.code {
				t.Errorf("exit status %d, want %d\n%s", status, c.status, &b.err)
			}
			b.Lock()
			defer b.Unlock()
			if len(b.Log) > 0 || b.State != session.Factory {
				t.Errorf("it did %v before", b.Log)
			}
		})
	}
	b := newBench(t)
	sheet := b.path("sheet.html")
	b.Lock()
	b.Checking = func(context.Context) {
		if err := os.Mkdir(sheet, 0o700); err != nil && !os.IsExist(err) { // the disk changes its mind
			t.Error(err)
		}
	}
	b.Unlock()
	if status := b.run(t, b.all("--sheet", sheet)...); status != exitFailed {
		t.Errorf("exit status %d\n%s", status, &b.err)
	}
	r := b.result(t)
	if r.HandOver == nil || r.HandOver.Record == "" || r.HandOver.Sheet == sheet || r.Failure.Code != "tool.file" {
		t.Fatalf("handed over: %+v, %+v", r.HandOver, r.Failure)
	}
	if _, err := os.Stat(r.HandOver.Sheet); err != nil {
		t.Error(err)
	}
}

// TestHiddenOpenWiFi: what the terminal does not hear a person describes.
func TestHiddenOpenWiFi(t *testing.T) {
	for name, c := range map[string]struct {
		args    []string
		answers []string
		want    session.Network
	}{
		"open":               {nil, []string{"1", "2", "Loft", "3"}, session.Network{SSID: "Loft", Security: session.Unsecured, Hidden: true}},
		"WPA3":               {nil, []string{"1", "2", "Loft", "2", "kort"}, session.Network{SSID: "Loft", Security: session.WPA3, Password: "kort", Hidden: true}},
		"heard":              {nil, []string{"1", "1", "kort", "correct horse"}, session.Network{SSID: "Storgata 17", Security: session.WPA2, Password: "correct horse"}},
		"named by a flag":    {[]string{"--wifi", "Loft", "--wifi-hidden"}, []string{"3"}, session.Network{SSID: "Loft", Security: session.Unsecured, Hidden: true}},
		"and open by a flag": {[]string{"--wifi", "Loft", "--wifi-security", "open"}, nil, session.Network{SSID: "Loft", Security: session.Unsecured}},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.answers(c.answers...)
			args := append([]string{"setup", "--port", b.port, "--code", protocol.HashSPKI(sessiontest.Public(b.Key)).Code(), "--language", "en", "--voucher-file", b.path("voucher")}, c.args...)
			if status := b.run(t, args...); status != exitDone {
				t.Fatalf("exit status %d\n%s", status, &b.err)
			}
			c.want.Kind, c.want.Country = session.WiFi, "NO"
			b.Lock()
			defer b.Unlock()
			if got := b.Networks[0]; got.SSID != c.want.SSID || got.Security != c.want.Security || got.Password != c.want.Password || got.Hidden != c.want.Hidden || got.Country != c.want.Country {
				t.Errorf("set %+v, want %+v", got, c.want)
			}
		})
	}
}

// TestPastedOrFile: a voucher and an authorisation are pasted or named by a file, whatever that is called; a voucher stays out of what is shown.
func TestPastedOrFile(t *testing.T) {
	b := newBench(t)
	if err := os.Remove(filepath.Join(b.folder, "mandate.txt")); err != nil {
		t.Fatal(err)
	}
	for from, to := range map[string]string{"voucher": "vindu-17.txt", "mandate": "vindu-mandate.txt"} {
		content, err := os.ReadFile(b.path(from))
		if err != nil {
			t.Fatal(err)
		}
		b.file(t, to, string(content))
	}
	t.Chdir(b.dir)
	args := func() []string {
		return []string{"setup", "--port", b.port, "--code", protocol.HashSPKI(sessiontest.Public(b.Key)).Code(), "--language", "en", "--wifi", "Storgata 17",
			"--wifi-password-file", b.path("password")}
	}
	b.answers("vindu-mandate.txt", "vindu-17.txt")
	if status := b.run(t, args()...); status != exitDone {
		t.Errorf("exit status %d\n%s", status, &b.err)
	}
	b.Lock()
	if !slices.Contains(b.Spent, b.voucher.ID) {
		t.Error("no voucher from the file")
	}
	b.Unlock()
	b = newBench(t)
	text := string(mustText(t, b.voucher))
	b.answers(text)
	if status := b.run(t, args()...); status != exitDone {
		t.Errorf("exit status %d\n%s", status, &b.err)
	}
	if strings.Contains(b.err.String(), text[:40]) || !strings.Contains(b.err.String(), "(not shown)") {
		t.Errorf("the voucher is shown:\n%s", &b.err)
	}
}

// TestUsageAsJSON: with --json also a wrong command line is answered by one object.
func TestUsageAsJSON(t *testing.T) {
	b := newBench(t)
	for _, args := range [][]string{{"--json", "--colour"}, {"dance", "--json"}, {"--wifi", "a", "--ethernet", "--json"}} {
		if status := b.run(t, args...); status != exitUsage {
			t.Errorf("%v: exit status %d", args, status)
		}
		if r := b.result(t); r.OK || r.Failure == nil || r.Failure.Code != "tool.usage" || r.Failure.Next == "" {
			t.Errorf("%v: %s", args, &b.out)
		}
	}
}

// TestBusyScreen: that the screen cannot ask is another failure than that nobody pressed.
func TestBusyScreen(t *testing.T) {
	f := explain(protocol.WithCode(protocol.AnswerBusy, os.ErrInvalid))
	if f.Code != string(protocol.AnswerBusy) || !strings.Contains(f.Sentence, "screen") || bytes.Contains([]byte(f.Sentence), []byte("in another call")) {
		t.Errorf("%+v", f)
	}
}
