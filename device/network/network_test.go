package network

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"vindu/protocol"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// supplicant answers on a control socket as wpa_supplicant does.
type supplicant struct {
	mu      sync.Mutex
	answers map[string]string
	asked   []string
}

func (s *supplicant) set(command, answer string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answers[command] = answer
}

func startSupplicant(t *testing.T, folder, name string) *supplicant {
	t.Helper()
	s := &supplicant{answers: map[string]string{"RECONFIGURE": "OK\n", "SCAN": "OK\n", "STATUS": "wpa_state=SCANNING\n", "LIST_NETWORKS": "network id / ssid\n"}}
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(folder, name), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 4096)
		for {
			n, from, err := conn.ReadFromUnix(buf)
			if err != nil {
				return
			}
			s.mu.Lock()
			s.asked = append(s.asked, string(buf[:n]))
			answer, ok := s.answers[string(buf[:n])]
			s.mu.Unlock()
			if !ok {
				answer = "UNKNOWN COMMAND\n"
			}
			if answer != "" {
				_, _ = conn.WriteToUnix([]byte(answer), from)
			}
		}
	}()
	t.Cleanup(func() {
		conn.Close()
		<-done
	})
	return s
}

// machine is one with a cable and a Wi-Fi.
func machine(t *testing.T) (*Network, string) {
	t.Helper()
	folder := t.TempDir()
	for _, name := range []string{"eth0/device", "wlan0/device", "wlan0/phy80211", "lo", "tun0", "control"} {
		if err := os.MkdirAll(filepath.Join(folder, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(folder, "eth0/carrier"), []byte("1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return &Network{Config{WiFi: "auto", File: filepath.Join(folder, "wpa.conf"), Control: filepath.Join(folder, "control")}, folder}, folder
}

// The vector is that of IEEE 802.11 annex J.4.2.
func TestFile(t *testing.T) {
	for _, c := range []struct {
		name string
		s    WiFiSettings
		want string
	}{
		{"WPA2", WiFiSettings{SSID: "IEEE", Security: WPA2, Password: "password", Country: "NO"},
			"country=NO\nnetwork={\n\tssid=49454545\n\tkey_mgmt=WPA-PSK WPA-PSK-SHA256\n\tpsk=f42c6fc52df0ebef9ebb4b90b38a5f902e83fe1b135a70e23aed762e9710a12e\n\tieee80211w=1\n}\n"},
		{"WPA3, hidden", WiFiSettings{SSID: "a\"}\n", Security: WPA3, Password: "ø\"\n", Hidden: true},
			"network={\n\tssid=61227d0a\n\tkey_mgmt=SAE\n\tscan_ssid=1\n\tsae_password=c3b8220a\n\tieee80211w=2\n}\n"},
		{"open", WiFiSettings{SSID: "x", Security: Unsecured}, "network={\n\tssid=78\n\tkey_mgmt=NONE\n}\n"},
	} {
		b, err := c.s.encode("/run/x")
		if want := ours + "ctrl_interface=/run/x\nupdate_config=0\nsae_pwe=2\n" + c.want; err != nil || string(b) != want {
			t.Errorf("%s: %v\n%s\nwant\n%s", c.name, err, b, want)
		}
		if ssid, security := decode(b); ssid != c.s.SSID || security != c.s.Security {
			t.Errorf("%s: read back %q %q", c.name, ssid, security)
		}
	}
	for _, s := range []WiFiSettings{{}, {SSID: "x", Security: "wep"}, {SSID: "x", Security: WPA2}, {SSID: "x", Security: Unsecured, Country: "N\nO"}} {
		if b, err := s.encode("/run/x"); err == nil {
			t.Errorf("%+v became %s", s, b)
		}
	}
}

func TestSetWiFi(t *testing.T) {
	n, _ := machine(t)
	wpa := startSupplicant(t, n.cfg.Control, "wlan0")
	s := &WiFiSettings{SSID: "Storgata 17", Security: WPA3, Password: "very secret"}
	for range 2 { // twice is once
		if err := n.SetWiFi(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	if i, err := os.Stat(n.cfg.File); err != nil || i.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", i, err)
	}
	wpa.mu.Lock()
	if !reflect.DeepEqual(wpa.asked, []string{"RECONFIGURE", "RECONFIGURE"}) {
		t.Errorf("asked %q", wpa.asked)
	}
	wpa.mu.Unlock()
	if left, _ := filepath.Glob(n.cfg.File + ".*"); len(left) > 0 {
		t.Errorf("left %v", left)
	}
	wpa.set("RECONFIGURE", "FAIL\n")
	if err := n.SetWiFi(t.Context(), s); protocol.CodeOf(err) != protocol.IPNoWiFi || strings.Contains(err.Error(), "secret") {
		t.Errorf("refused: %v", err)
	}
}

func TestForget(t *testing.T) {
	n, _ := machine(t)
	wpa := startSupplicant(t, n.cfg.Control, "wlan0")
	if err := n.Forget(); err != nil {
		t.Errorf("nothing set: %v", err)
	}
	if err := n.SetWiFi(t.Context(), &WiFiSettings{SSID: "Storgata 17", Security: WPA3, Password: "very secret"}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := n.Forget(); err != nil {
			t.Fatal(err)
		}
	}
	if b, err := os.ReadFile(n.cfg.File); err != nil || strings.Contains(string(b), "network") {
		t.Errorf("left %q, %v", b, err)
	}
	wpa.mu.Lock()
	if len(wpa.asked) != 3 {
		t.Errorf("asked %q", wpa.asked)
	}
	wpa.mu.Unlock()
	// What a power cut left of a write is forgotten too, also where the configuration itself is somebody else's.
	foreign := []byte("network={\n}\n")
	if err := os.WriteFile(n.cfg.File+newSuffix, []byte("psk=secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(n.cfg.File, foreign, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := n.Forget(); err != nil {
		t.Errorf("another's: %v", err)
	}
	if b, err := os.ReadFile(n.cfg.File); err != nil || string(b) != string(foreign) {
		t.Errorf("another's configuration became %q, %v", b, err)
	}
	if left, _ := filepath.Glob(n.cfg.File + ".*"); len(left) > 0 {
		t.Errorf("left %v", left)
	}
	// It makes way, and is kept.
	if err := n.SetWiFi(t.Context(), &WiFiSettings{SSID: "Storgata 17", Security: WPA3, Password: "very secret"}); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(n.cfg.File + foreignSuffix); err != nil || string(b) != string(foreign) {
		t.Errorf("another's configuration was kept as %q, %v", b, err)
	}
}

func TestWithoutWiFi(t *testing.T) {
	n, _ := machine(t)
	s := &WiFiSettings{SSID: "x", Security: Unsecured}
	if err := n.SetWiFi(t.Context(), s); protocol.CodeOf(err) != protocol.IPNoWiFi {
		t.Errorf("no supplicant: %v", err)
	}
	startSupplicant(t, n.cfg.Control, "wlan0").set("RECONFIGURE", "")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := n.SetWiFi(ctx, s); protocol.CodeOf(err) != protocol.IPNoWiFi {
		t.Errorf("a supplicant that does not answer: %v", err)
	}
	n.cfg.WiFi = "none"
	if err := n.SetWiFi(t.Context(), s); protocol.CodeOf(err) != protocol.IPNoWiFi {
		t.Errorf("none: %v", err)
	}
	if _, err := n.Scan(t.Context()); protocol.CodeOf(err) != protocol.IPNoWiFi {
		t.Errorf("none: %v", err)
	}
}

func TestState(t *testing.T) {
	n, _ := machine(t)
	wpa := startSupplicant(t, n.cfg.Control, "wlan0")
	state := func() (cable, wifi Interface) {
		t.Helper()
		all, err := n.State(t.Context())
		if err != nil || len(all) != 2 {
			t.Fatalf("got %+v, %v", all, err)
		}
		return all[0], all[1]
	}
	if cable, wifi := state(); cable.Kind != Ethernet || !cable.Up || wifi.Kind != WiFi || wifi.SSID != "" || wifi.Code != "" {
		t.Errorf("nothing set: %+v %+v", cable, wifi)
	}
	if err := n.SetWiFi(t.Context(), &WiFiSettings{SSID: "Storgata 17", Security: WPA2, Password: "very secret"}); err != nil {
		t.Fatal(err)
	}
	const heard = "bssid / frequency / signal level / flags / ssid\n02:00:00:00:00:01\t2412\t-50\t[WPA2-PSK-CCMP][ESS]\tStorgata 17\n"
	for _, c := range []struct {
		name    string
		answers map[string]string
		code    protocol.Code
		signal  int
	}{
		{"searching, nothing heard yet", map[string]string{"SCAN_RESULTS": "bssid / frequency\n"}, "", 0},
		{"not heard", map[string]string{"SCAN_RESULTS": strings.ReplaceAll(heard, "Storgata 17", "Storgata 71")}, protocol.IPWiFiUnheard, 0},
		{"refused", map[string]string{"SCAN_RESULTS": heard, "LIST_NETWORKS": "network id / ssid / bssid / flags\n0\tStorgata 17\tany\t[CURRENT][TEMP-DISABLED]\n"}, protocol.IPWiFiRefused, 0},
		{"connected", map[string]string{"STATUS": "bssid=02:00:00:00:00:01\nwpa_state=COMPLETED\n", "SIGNAL_POLL": "RSSI=-61\nLINKSPEED=65\n"}, "", -61},
		{"connected, strength unknown", map[string]string{"SIGNAL_POLL": "FAIL\n"}, "", 0},
	} {
		for command, answer := range c.answers {
			wpa.set(command, answer)
		}
		if _, wifi := state(); wifi.Code != c.code || wifi.Signal != c.signal || wifi.SSID != "Storgata 17" || wifi.Security != WPA2 {
			t.Errorf("%s: %+v", c.name, wifi)
		}
	}
}

func TestScan(t *testing.T) {
	n, _ := machine(t)
	wpa := startSupplicant(t, n.cfg.Control, "wlan0")
	wpa.set("SCAN", "FAIL-BUSY\n") // one is under way
	wpa.set("SCAN_RESULTS", "bssid / frequency / signal level / flags / ssid\n"+
		"02:00:00:00:00:01\t2412\t-70\t[WPA2-PSK-CCMP][ESS]\tStorgata 17\n02:00:00:00:00:02\t5180\t-55\t[WPA2-PSK+SAE-CCMP][ESS]\tStorgata 17\n"+
		"02:00:00:00:00:03\t2412\t-40\t[ESS]\tbl\\xc3\\xa5\\\\b\\\"\n02:00:00:00:00:04\t2412\t-80\t[WPA2-EAP-CCMP][ESS]\teduroam\n02:00:00:00:00:05\t2412\t-10\t[ESS]\t\\x00\\x00\nrubbish\n")
	found, err := n.Scan(t.Context())
	want := []AccessPoint{{"blå\\b\"", Unsecured, -40}, {"Storgata 17", WPA3, -55}, {"eduroam", "", -80}}
	if err != nil || !reflect.DeepEqual(found, want) {
		t.Errorf("got %+v, %v", found, err)
	}
	wpa.set("SCAN", "FAIL\n")
	if _, err := n.Scan(t.Context()); protocol.CodeOf(err) != protocol.IPNoWiFi {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	wpa.set("SCAN", "OK\n")
	if _, err := n.Scan(ctx); err == nil || errors.Is(err, errBusy) {
		t.Errorf("got %v", err)
	}
}

// FuzzAnswers: whatever the socket answers, names are of the length that they can have and levels are levels.
func FuzzAnswers(f *testing.F) {
	f.Add("h\n02:00:00:00:00:01\t2412\t-70\t[ESS]\ta\\x41\n")
	f.Add("ssid=4142\nkey_mgmt=SAE\n")
	f.Fuzz(func(t *testing.T, answer string) {
		for _, a := range parseScan(answer) {
			if len(a.SSID) == 0 || len(a.SSID) > 32 || a.Signal >= 0 {
				t.Errorf("got %+v", a)
			}
		}
		decode([]byte(answer))
		value(answer, "RSSI")
	})
}
