package main

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"vindu/device/agent"
	"vindu/device/state"
	"vindu/protocol"
)

func TestCommands(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good := write("good.toml", "state = \"state\"\n")
	bad := write("bad.toml", "state = \"state\"\n[call]\nrign = \"5s\"\n")
	preview := write("preview.toml", "state = \"state\"\n[devices]\ndisplay = \"memory\"\n[preview]\nlisten = \"192.0.2.1:80\"\n")
	for _, test := range []struct {
		name  string
		args  []string
		in    string
		usage bool
		says  []string
	}{
		{"nothing", nil, "", true, []string{"command"}},
		{"unknown command", []string{"fly"}, "", true, []string{"fly"}},
		{"unknown flag", []string{"run", "-fast"}, "", true, []string{"fast"}},
		{"too many words", []string{"run", "now"}, "", true, []string{"now"}},
		{"a flag of another command", []string{"run", "-voucher-file", "x"}, "", true, []string{"voucher-file"}},
		{"no configuration", []string{"run", "-config", filepath.Join(dir, "none")}, "", false, []string{"none", "vindu-agent config"}},
		{"bad configuration", []string{"run", "-config", bad}, "", false, []string{bad, "line 3", "call.rign"}},
		{"preview elsewhere than on loopback", []string{"run", "-config", preview}, "", false, []string{"preview.listen"}},
		{"enrol without a voucher", []string{"enrol", "-config", good}, "", true, []string{"voucher-file"}},
		{"enrol with a voucher that is not there", []string{"enrol", "-config", good, "-voucher-file", filepath.Join(dir, "none")}, "", false, []string{"none"}},
		{"enrol with half a voucher", []string{"enrol", "-config", good, "-voucher-file", "-"}, "vindu-voucher-1.AAAA", false, []string{"voucher", "all of the text"}},
		{"enrol with a flood", []string{"enrol", "-config", good, "-voucher-file", "-"}, strings.Repeat("x", 1<<20), false, []string{"voucher"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			var out, errOut bytes.Buffer
			err := command(t.Context(), test.args, strings.NewReader(test.in), &out, &errOut)
			if err == nil {
				t.Fatal("no error")
			}
			if errors.Is(err, errUsage) != test.usage {
				t.Errorf("wrong usage: %v, want %v", !test.usage, test.usage)
			}
			for _, s := range test.says {
				if !strings.Contains(err.Error(), s) {
					t.Errorf("%q does not say %q", err, s)
				}
			}
			if out.Len() > 0 {
				t.Errorf("printed %q", out.String())
			}
		})
	}
	if _, err := os.Stat(filepath.Join(dir, "state")); err == nil {
		t.Error("a command that failed left a state folder")
	}
}

func TestPrints(t *testing.T) {
	for _, test := range []struct{ command, says string }{
		{"config", "[devices]"}, {"version", "vindu-agent " + version}, {"help", "usage"}, {"run -h", "usage"}, {"enrol --help", "usage"},
	} {
		var out bytes.Buffer
		if err := command(t.Context(), strings.Fields(test.command), nil, &out, nil); err != nil || !strings.Contains(out.String(), test.says) {
			t.Errorf("%s: %v, %q", test.command, err, out.String())
		}
	}
	for _, says := range []string{runtime.Version(), "libvpx v", "openh264 2.", "libopus ", "libyuv ", "libjpeg-turbo ", "alsa-lib 1.", "github.com/pion/webrtc/v4 v"} {
		if !strings.Contains("\n"+about(), "\n"+says) {
			t.Errorf("version does not say %q:\n%s", says, about())
		}
	}
	// What "config" prints is a configuration.
	if _, err := agent.ParseConfig([]byte(agent.Example)); err != nil {
		t.Error(err)
	}
}

// TestSoftware: what the clinic is told is short, and never passes changed source off as a commit.
func TestSoftware(t *testing.T) {
	const full = "0123456789abcdef0123456789abcdef01234567"
	for revision, want := range map[string]string{"": "", "0123": "", full: "+0123456789ab", full + "-dirty": "+0123456789ab-dirty"} {
		if got := named(revision); got != "vindu-agent "+version+want {
			t.Errorf("%q: %q", revision, got)
		}
	}
}

func TestEnrolWhileAnotherHoldsTheState(t *testing.T) {
	cfg := agent.Default()
	cfg.Call.Notice = 0
	cfg.State = t.TempDir()
	dir, err := state.Open(cfg.State)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	v := &protocol.Voucher{
		Version: protocol.Version, ID: protocol.NewNonce(), Secret: make([]byte, 32), Address: "127.0.0.1:1", ServerName: "x", Root: []byte{1}, Expires: 1,
	}
	text, err := v.Text()
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	err = enrol(t.Context(), cfg, "-", false, strings.NewReader(string(text)), &log, slog.New(slog.NewTextHandler(&log, nil)))
	if !errors.Is(err, state.ErrLocked) {
		t.Errorf("got %v", err)
	}
	if strings.Contains(log.String(), string(text)) {
		t.Error("the voucher is in the log")
	}
}

// TestEnrolWithANewKey: only when it is asked for, the key that there is makes way.
func TestEnrolWithANewKey(t *testing.T) {
	cfg := agent.Default()
	cfg.Call.Notice = 0
	cfg.State, cfg.Identity.TPM = t.TempDir(), "none"
	log := slog.New(slog.DiscardHandler)
	v := &protocol.Voucher{
		Version: protocol.Version, ID: protocol.NewNonce(), Secret: make([]byte, 32), Address: "127.0.0.1:1", ServerName: "x", Root: []byte{1}, Expires: 1,
	}
	text, err := v.Text()
	if err != nil {
		t.Fatal(err)
	}
	key := func() crypto.PublicKey {
		t.Helper()
		dir, err := state.Open(cfg.State)
		if err != nil {
			t.Fatal(err)
		}
		defer dir.Close()
		keys, err := keysOf(cfg, log).Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		return keys.Signer().Public()
	}
	first := key()
	for _, newKey := range []bool{false, true} {
		// The voucher is of no clinic: what happens to the key happens before that is found out.
		if err := enrol(t.Context(), cfg, "-", newKey, strings.NewReader(string(text)), io.Discard, log); err == nil {
			t.Fatal("enrolled by a voucher of no clinic")
		}
		if same := first.(*ecdsa.PublicKey).Equal(key()); same == newKey {
			t.Errorf("new key %v: the key is the same: %v", newKey, same)
		}
	}
	second := key().(*ecdsa.PublicKey)
	if err := enrol(t.Context(), cfg, "-", true, strings.NewReader("no voucher"), io.Discard, log); err == nil || !second.Equal(key()) {
		t.Errorf("without a voucher: %v, or the key made way", err)
	}
}
