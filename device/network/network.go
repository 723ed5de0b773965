// Package network is how a terminal gets onto a network: what a technician can set, and how it stands.
//
// Addresses come by DHCP, which the system does. A cable needs nothing else. Wi-Fi is wpa_supplicant's: SetWiFi writes its
// configuration, one network, replaced whole and readable by its owner alone, and has it read anew over its control socket
// (wpa_supplicant/wpa_ctrl.h); the same socket says how it goes and what it hears.
//
//	WPA2  the pre-shared key that is derived from the password (IEEE 802.11 annex J.4), not the password
//	WPA3  the password, since SAE needs it
//
// Names and passwords are written in hexadecimal: nothing in them can become another line. No function returns a
// password or a key. What hardware did with it is judged by the socket's answers; errors have codes of the stage "ip".
package network

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"vindu/protocol"
)

// Kinds of an interface.
const (
	Ethernet = "ethernet"
	WiFi     = "wifi"
)

// How a Wi-Fi is secured.
const (
	Unsecured = "open"
	WPA2      = "wpa2"
	WPA3      = "wpa3"
)

// WiFiSettings are what a terminal needs to enter a Wi-Fi. The zero value of Country leaves the radio's rules to the system.
type WiFiSettings struct {
	SSID     string
	Security string
	Password protocol.Secret
	Hidden   bool
	Country  string
}

// Interface is how one way out stands.
type Interface struct {
	Name      string
	Kind      string
	Up        bool // there is a carrier
	Addresses []string
	SSID      string // what is set, of a Wi-Fi
	Security  string
	Signal    int           // dBm; 0 if it is not known
	Code      protocol.Code // what is wrong, or ""
}

// AccessPoint is a Wi-Fi that is heard.
type AccessPoint struct {
	SSID     string
	Security string // "" if it is none of ours
	Signal   int    // dBm
}

// Config says where things are.
type Config struct {
	WiFi    string // interface, "auto" for the first that there is, or "none"
	File    string // wpa_supplicant's configuration
	Control string // folder of its control sockets
}

// Network is the terminal's. Its methods may be called from any goroutine, SetWiFi by one at a time.
type Network struct {
	cfg   Config
	class string // of interfaces: /sys/class/net
}

// New returns the network of this machine.
func New(cfg Config) *Network { return &Network{cfg, "/sys/class/net"} }

// SetWiFi stores s in place of what was set and has it used. A configuration that somebody else wrote is kept beside it. It does not wait for the network to come up: State tells.
func (n *Network) SetWiFi(ctx context.Context, s *WiFiSettings) error {
	name := n.wifi()
	if name == "" {
		return protocol.WithCode(protocol.IPNoWiFi, errors.New("set the Wi-Fi: there is none"))
	}
	b, err := s.encode(n.cfg.Control)
	if err != nil {
		return fmt.Errorf("set the Wi-Fi: %w", err)
	}
	old, err := os.ReadFile(n.cfg.File)
	if err == nil && !bytes.HasPrefix(old, []byte(ours)) { // somebody else's: it is kept as it was
		err = os.Rename(n.cfg.File, n.cfg.File+foreignSuffix)
		old = nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) || !bytes.Equal(old, b) {
		if err := write(n.cfg.File, b); err != nil {
			return protocol.WithCode(protocol.StorageUnreadable, fmt.Errorf("set the Wi-Fi: %w", err))
		}
	}
	if err := n.command(ctx, name, "RECONFIGURE"); err != nil {
		return fmt.Errorf("set the Wi-Fi: %w", err)
	}
	return nil
}

// Forget destroys the name and password of the Wi-Fi that was set here, and what a power cut has left of one. It may be called again. A configuration that somebody else
// wrote is left alone.
func (n *Network) Forget() error {
	if err := wipe(n.cfg.File + newSuffix); err != nil {
		return fmt.Errorf("forget the Wi-Fi: %w", err)
	}
	b, err := os.ReadFile(n.cfg.File)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) { // what was set here can be read
		return nil
	}
	if err != nil {
		return fmt.Errorf("forget the Wi-Fi: %w", err)
	}
	if !bytes.HasPrefix(b, []byte(ours)) {
		return nil
	}
	if err := write(n.cfg.File, fmt.Appendf(nil, "%sctrl_interface=%s\n", ours, n.cfg.Control)); err != nil {
		return fmt.Errorf("forget the Wi-Fi: %w", err)
	}
	if name := n.wifi(); name != "" {
		ctx, cancel := context.WithTimeout(context.Background(), answerTime)
		defer cancel()
		_ = n.command(ctx, name, "RECONFIGURE") // it need not run
	}
	return nil
}

const (
	newSuffix     = ".vindu-new"    // of a configuration that is being written
	foreignSuffix = ".before-vindu" // of one that somebody else wrote
)

// write replaces a file whole, for its owner alone, survives a power cut, and then overwrites what the file held before. What a cut leaves has a name by which the
// next write, or Forget, finds it.
func write(path string, content []byte) error {
	temp := path + newSuffix
	if err := wipe(temp); err != nil {
		return err
	}
	f, err := os.OpenFile(temp, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(err, wipe(temp))
	}
	old, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return errors.Join(err, wipe(temp))
	}
	if err == nil {
		defer old.Close()
	}
	if err := os.Rename(temp, path); err != nil {
		return errors.Join(err, wipe(temp))
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return err
	}
	if old != nil {
		return overwrite(old)
	}
	return nil
}

// wipe overwrites a file and deletes it; it is no error if there is none. What a flash disk makes of that is its own business.
func wipe(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(overwrite(f), f.Close(), os.Remove(path))
}

func overwrite(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	_, err = f.WriteAt(make([]byte, info.Size()), 0)
	return errors.Join(err, f.Sync())
}

// State tells how each interface stands; those of the machine itself and of programs are left out.
func (n *Network) State(ctx context.Context) ([]Interface, error) {
	names, err := n.names()
	if err != nil {
		return nil, fmt.Errorf("look at the network: %w", err)
	}
	var result []Interface
	for _, name := range names {
		i := Interface{Name: name, Kind: Ethernet, Up: n.carrier(name), Addresses: addresses(name)}
		if n.isWiFi(name) {
			i.Kind = WiFi
			if name == n.wifi() {
				n.look(ctx, &i)
			}
		}
		if i.Code == "" && len(i.Addresses) == 0 && i.Up {
			i.Code = protocol.IPNone
		}
		result = append(result, i)
	}
	return result, nil
}

// Access returns the address of the access point that is used, "" if there is none. It is for comparing: it says where somebody lives, and must not leave the
// terminal.
func (n *Network) Access(ctx context.Context) string {
	name := n.wifi()
	if name == "" {
		return ""
	}
	status, err := n.ask(ctx, name, "STATUS")
	if err != nil || value(status, "wpa_state") != "COMPLETED" {
		return ""
	}
	return value(status, "bssid")
}

// look asks how the Wi-Fi stands.
func (n *Network) look(ctx context.Context, i *Interface) {
	i.SSID, i.Security = n.stored()
	status, err := n.ask(ctx, i.Name, "STATUS")
	if err != nil {
		i.Code = protocol.IPNoWiFi
		return
	}
	if i.SSID == "" {
		return
	}
	if value(status, "wpa_state") == "COMPLETED" {
		if poll, err := n.ask(ctx, i.Name, "SIGNAL_POLL"); err == nil {
			if dBm, err := strconv.Atoi(value(poll, "RSSI")); err == nil && dBm > -200 && dBm < 0 {
				i.Signal = dBm
			}
		}
		return
	}
	list, err := n.ask(ctx, i.Name, "LIST_NETWORKS")
	if err == nil && strings.Contains(list, "[TEMP-DISABLED]") { // after attempts that the other end refused
		i.Code = protocol.IPWiFiRefused
		return
	}
	found, err := n.ask(ctx, i.Name, "SCAN_RESULTS")
	heard := parseScan(found)
	if err == nil && len(heard) > 0 && !slices.ContainsFunc(heard, func(a AccessPoint) bool { return a.SSID == i.SSID }) {
		i.Code = protocol.IPWiFiUnheard
	}
}

// Scan listens for Wi-Fi; the strongest comes first, each name once.
func (n *Network) Scan(ctx context.Context) ([]AccessPoint, error) {
	name := n.wifi()
	if name == "" {
		return nil, protocol.WithCode(protocol.IPNoWiFi, errors.New("listen for Wi-Fi: there is none"))
	}
	if err := n.command(ctx, name, "SCAN"); err != nil && !errors.Is(err, errBusy) {
		return nil, fmt.Errorf("listen for Wi-Fi: %w", err)
	}
	select { // a scan takes so long
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(scanTime):
	}
	found, err := n.ask(ctx, name, "SCAN_RESULTS")
	if err != nil {
		return nil, fmt.Errorf("listen for Wi-Fi: %w", err)
	}
	return parseScan(found), nil
}

// wifi returns the name of the Wi-Fi interface, "" if there is none.
func (n *Network) wifi() string {
	switch n.cfg.WiFi {
	case "none":
		return ""
	case "auto":
	default:
		return n.cfg.WiFi
	}
	names, _ := n.names()
	for _, name := range names {
		if n.isWiFi(name) {
			return name
		}
	}
	return ""
}

// names returns the interfaces that are devices, and ours to use.
func (n *Network) names() ([]string, error) {
	entries, err := os.ReadDir(n.class)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		_, err := os.Stat(filepath.Join(n.class, e.Name(), "device"))
		if err == nil || e.Name() == n.cfg.WiFi {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

func (n *Network) isWiFi(name string) bool {
	_, err := os.Stat(filepath.Join(n.class, name, "phy80211"))
	return err == nil || name == n.cfg.WiFi
}

func (n *Network) carrier(name string) bool {
	b, err := os.ReadFile(filepath.Join(n.class, name, "carrier")) // fails while the interface is down
	return err == nil && strings.TrimSpace(string(b)) == "1"
}

// addresses are those by which others can be reached.
func addresses(name string) []string {
	i, err := net.InterfaceByName(name)
	if err != nil {
		return []string{}
	}
	all, err := i.Addrs()
	if err != nil {
		return []string{}
	}
	result := []string{}
	for _, a := range all {
		if ip, ok := a.(*net.IPNet); ok && ip.IP.IsGlobalUnicast() {
			result = append(result, a.String())
		}
	}
	return result
}

// stored returns what is set, without what is secret.
func (n *Network) stored() (ssid, security string) {
	b, err := os.ReadFile(n.cfg.File)
	if err != nil {
		return "", ""
	}
	return decode(b)
}
