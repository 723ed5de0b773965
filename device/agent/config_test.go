package agent

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestExampleIsTheDefault(t *testing.T) {
	c, err := ParseConfig([]byte(Example))
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(c, Default()) {
		t.Errorf("the example says\n%+v, the default is\n%+v", c, Default())
	}
	// Every key has to be in the example: taking any line out must not make a difference, and changing it must be possible.
	empty, err := ParseConfig(nil)
	if err != nil || !reflect.DeepEqual(empty, Default()) {
		t.Errorf("an empty file: %v, %+v", err, empty)
	}
}

func TestConfigErrors(t *testing.T) {
	for _, test := range []struct {
		name, file string
		says       []string
	}{
		{"unknown key", "state = \"x\"\n\n[call]\nrign = \"5s\"\n", []string{"line 4", "call.rign", "unknown key"}},
		{"unknown table", "[cal]\nring = \"5s\"\n", []string{"line 1", "cal"}},
		{"key twice", "state = \"x\"\nstate = \"y\"\n", []string{"line 2"}},
		{"not TOML", "state = \"x\"\nlanguage nb\n", []string{"line 2"}},
		{"wrong type", "\n[devices]\ntest_picture = \"yes\"\n", []string{"line 3", "test_picture"}},
		{"number too large", "[picture]\nwidth = 99999999999999999999\n", []string{"line 2"}},
		{"no duration", "[call]\n\nring = \"soon\"\n", []string{"line 3", "soon", "10s"}},
		{"ring too long", "[call]\nring = \"5m\"\n", []string{"line 2", "call.ring", "2m0s"}},
		{"negative ring", "[call]\nring = \"-1s\"\n", []string{"line 2", "call.ring"}},
		{"call too short", "[call]\nlongest = \"1s\"\n", []string{"line 2", "call.longest"}},
		{"unknown language", "language = \"xx\"\n", []string{"line 1", "language", "nb"}},
		{"log level", "[log]\nlevel = \"loud\"\n", []string{"line 2", "log.level", "debug"}},
		{"log format", "[log]\nformat = \"xml\"\n", []string{"line 2", "log.format", "json"}},
		{"camera", "[devices]\ncamera = \"video0\"\n", []string{"line 2", "devices.camera", "/dev/"}},
		{"display none", "[devices]\ndisplay = \"none\"\n", []string{"line 2", "devices.display", "memory"}},
		{"button", "[devices]\nbutton = \"space\"\n", []string{"line 2", "devices.button", "/dev/"}},
		{"panel covered", "[panel]\ncovered = \"end\"\n", []string{"line 2", "panel.covered", "refuse"}},
		{"panel lost", "[panel]\nlost = \"silence\"\n", []string{"line 2", "panel.lost", "voice"}},
		{"CEC", "[cec]\ndevice = \"cec0\"\n", []string{"line 2", "cec.device", "/dev/"}},
		{"serial port", "[serial]\nport = \"COM1\"\n", []string{"line 2", "serial.port", "/dev/"}},
		{"Wi-Fi", "[network]\nwifi = \"\"\n", []string{"line 2", "network.wifi", "wlan0"}},
		{"wpa_supplicant", "[network]\nwpa_file = \"wpa.conf\"\n", []string{"line 2", "network.wpa_file"}},
		{"TPM", "[identity]\ntpm = \"tpm0\"\n", []string{"line 2", "identity.tpm", "/dev/"}},
		{"echo", "[sound]\necho = \"yes\"\n", []string{"line 2", "sound.echo", "off"}},
		{"empty speaker", "[devices]\nspeaker = \"\"\n", []string{"line 2", "devices.speaker"}},
		{"memory size", "[devices]\nmemory_size = \"1280*720\"\n", []string{"line 2", "devices.memory_size", "1280x720"}},
		{"memory too small", "[devices]\nmemory_size = \"1x1\"\n", []string{"line 2", "devices.memory_size"}},
		{"half of quiet", "[quiet]\nfrom = \"22:00\"\n", []string{"line 2", "quiet.from"}},
		{"codec", "[picture]\ncodec = \"av1\"\n", []string{"line 2", "picture.codec", "h264"}},
		{"picture", "[picture]\nfps = 500\n", []string{"line 2", "picture.fps", "60"}},
		{"two problems", "language = \"xx\"\n[call]\nring = \"5m\"\n", []string{"line 1", "line 3"}},
		{"no state", "state = \"\"\n", []string{"line 1", "state"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := ParseConfig([]byte(test.file))
			if err == nil {
				t.Fatal("accepted")
			}
			for _, s := range test.says {
				if !strings.Contains(err.Error(), s) {
					t.Errorf("%q does not say %q", err, s)
				}
			}
		})
	}
}

func TestLoadConfig(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "agent.toml")
	if _, err := LoadConfig(path); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("no file: %v", err)
	}
	if err := os.WriteFile(path, []byte("state = \"here\"\n[call]\nring = \"0s\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := LoadConfig(path)
	if err != nil {
		t.Fatal(err)
	}
	if c.State != filepath.Join(dir, "here") || time.Duration(c.Call.Ring) != 0 {
		t.Errorf("read %+v", c)
	}
	if err := os.WriteFile(path, []byte("stat = \"here\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadConfig(path); err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "line 1") {
		t.Errorf("an error does not name the file and the line: %v", err)
	}
	if err := os.WriteFile(path, make([]byte, maxConfig+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadConfig(path); err == nil {
		t.Error("a file without end was read")
	}
}

func FuzzParseConfig(f *testing.F) {
	f.Add([]byte(Example))
	f.Add([]byte("[call]\nring = \"5m\"\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := ParseConfig(b)
		if err == nil {
			c.check(func(key, _ string, _ ...any) { t.Errorf("accepted a bad %s", key) })
		}
	})
}
