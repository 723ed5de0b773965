package network

import (
	"bytes"
	"context"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"vindu/protocol"
)

const (
	answerTime = 3 * time.Second
	scanTime   = 4 * time.Second
	maxAnswer  = 32 << 10
	ours       = "# Written by vindu-agent.\n" // the first line of a configuration that SetWiFi wrote
)

// keyManagement is what wpa_supplicant calls a security. PMF is required with SAE and used with WPA2 where the other end can.
var keyManagement = map[string]string{Unsecured: "NONE", WPA2: "WPA-PSK WPA-PSK-SHA256", WPA3: "SAE"}

// encode returns s as wpa_supplicant.conf(5). It is the same for the same settings.
func (s *WiFiSettings) encode(control string) ([]byte, error) {
	management, ok := keyManagement[s.Security]
	if !ok {
		return nil, fmt.Errorf("security %q is not known", s.Security)
	}
	if len(s.SSID) == 0 || len(s.SSID) > 32 || (s.Security == Unsecured) != (s.Password == "") || strings.ContainsAny(s.Country+control, "\r\n") {
		return nil, errors.New("name or password is missing or out of bounds")
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, ours+"ctrl_interface=%s\nupdate_config=0\nsae_pwe=2\n", control)
	if s.Country != "" {
		fmt.Fprintf(&b, "country=%s\n", s.Country)
	}
	fmt.Fprintf(&b, "network={\n\tssid=%x\n\tkey_mgmt=%s\n", s.SSID, management)
	if s.Hidden {
		b.WriteString("\tscan_ssid=1\n")
	}
	switch s.Security {
	case WPA2:
		key, err := pbkdf2.Key(sha1.New, string(s.Password), []byte(s.SSID), 4096, 32)
		if err != nil {
			return nil, fmt.Errorf("derive the Wi-Fi's key: %w", err)
		}
		fmt.Fprintf(&b, "\tpsk=%x\n\tieee80211w=1\n", key)
	case WPA3:
		fmt.Fprintf(&b, "\tsae_password=%x\n\tieee80211w=2\n", string(s.Password))
	}
	b.WriteString("}\n")
	return b.Bytes(), nil
}

// decode reads name and security of what encode wrote.
func decode(b []byte) (ssid, security string) {
	for line := range strings.Lines(string(b)) {
		name, text, _ := strings.Cut(strings.TrimSpace(line), "=")
		switch name {
		case "ssid":
			if raw, err := hex.DecodeString(text); err == nil {
				ssid = string(raw)
			}
		case "key_mgmt":
			for s, m := range keyManagement {
				if m == text {
					security = s
				}
			}
		}
	}
	return ssid, security
}

var errBusy = errors.New("it is busy")

// command asks for what is answered by OK.
func (n *Network) command(ctx context.Context, name, command string) error {
	answer, err := n.ask(ctx, name, command)
	if err != nil {
		return err
	}
	switch strings.TrimSpace(answer) {
	case "OK":
		return nil
	case "FAIL-BUSY":
		return fmt.Errorf("%s: %w", command, errBusy)
	}
	return protocol.WithCode(protocol.IPNoWiFi, fmt.Errorf("%s of %s: wpa_supplicant refuses", command, name))
}

// ask sends one command over the control socket of an interface and returns the answer.
func (n *Network) ask(ctx context.Context, name, command string) (string, error) {
	fail := func(err error) (string, error) {
		return "", protocol.WithCode(protocol.IPNoWiFi, fmt.Errorf("ask wpa_supplicant of %s: %w", name, err))
	}
	own := filepath.Join(os.TempDir(), "vindu-wpa-"+rand.Text()[:12])
	conn, err := net.DialUnix("unixgram", &net.UnixAddr{Name: own, Net: "unixgram"}, &net.UnixAddr{Name: filepath.Join(n.cfg.Control, name), Net: "unixgram"})
	if err != nil {
		return fail(err)
	}
	defer os.Remove(own)
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if err := conn.SetDeadline(time.Now().Add(answerTime)); err != nil {
		return fail(err)
	}
	if _, err := conn.Write([]byte(command)); err != nil {
		return fail(err)
	}
	buf := make([]byte, maxAnswer)
	size, err := conn.Read(buf)
	if err != nil {
		return fail(err)
	}
	return string(buf[:size]), nil
}

// value returns the text behind "key=" on a line of its own.
func value(answer, key string) string {
	for line := range strings.Lines(answer) {
		if text, ok := strings.CutPrefix(line, key+"="); ok {
			return strings.TrimSpace(text)
		}
	}
	return ""
}

// parseScan reads the answer to SCAN_RESULTS: bssid, frequency, level, flags and name with tabs between.
func parseScan(answer string) []AccessPoint {
	best := map[string]AccessPoint{}
	for line := range strings.Lines(answer) {
		f := strings.SplitN(strings.TrimSuffix(line, "\n"), "\t", 5)
		if len(f) != 5 {
			continue
		}
		ssid, ok := unescape(f[4])
		level, err := strconv.Atoi(f[2])
		if !ok || err != nil || level >= 0 || level < -200 || strings.Trim(ssid, "\x00") == "" || len(ssid) > 32 {
			continue
		}
		if old, ok := best[ssid]; !ok || level > old.Signal {
			best[ssid] = AccessPoint{ssid, security(f[3]), level}
		}
	}
	var result []AccessPoint
	for _, a := range best {
		result = append(result, a)
	}
	slices.SortFunc(result, func(a, b AccessPoint) int {
		if a.Signal != b.Signal {
			return b.Signal - a.Signal
		}
		return strings.Compare(a.SSID, b.SSID)
	})
	return result
}

func security(flags string) string {
	switch {
	case strings.Contains(flags, "SAE"):
		return WPA3
	case strings.Contains(flags, "PSK"):
		return WPA2
	case strings.Contains(flags, "WPA"), strings.Contains(flags, "WEP"), strings.Contains(flags, "RSN"), strings.Contains(flags, "EAP"), strings.Contains(flags, "OWE"):
		return ""
	}
	return Unsecured
}

// unescape undoes printf_encode of wpa_supplicant: \\, \", \n, \r, \t, \e and \xNN.
func unescape(s string) (string, bool) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			b.WriteByte(s[i])
			continue
		}
		if i++; i == len(s) {
			return "", false
		}
		switch s[i] {
		case '\\', '"':
			b.WriteByte(s[i])
		case 'n':
			b.WriteByte('\n')
		case 'r':
			b.WriteByte('\r')
		case 't':
			b.WriteByte('\t')
		case 'e':
			b.WriteByte(0x1b)
		case 'x':
			if i+2 >= len(s) {
				return "", false
			}
			raw, err := hex.DecodeString(s[i+1 : i+3])
			if err != nil {
				return "", false
			}
			b.Write(raw)
			i += 2
		default:
			return "", false
		}
	}
	return b.String(), true
}
