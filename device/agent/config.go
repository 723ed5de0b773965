package agent

import (
	"bytes"
	_ "embed" // the example
	"errors"
	"fmt"
	"image"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"

	"vindu/device/button"
	"vindu/device/panel"
	"vindu/device/policy"
	"vindu/device/screen"
	"vindu/protocol"
)

// Example is the configuration file with every key, its default and what it means.
//
//go:embed example.toml
var Example string

const maxConfig = 64 << 10

// Config is what the configuration file says. The example beside this file explains each key.
type Config struct {
	State    string   `toml:"state"`
	Language string   `toml:"language"`
	Log      Log      `toml:"log"`
	Identity Identity `toml:"identity"`
	Devices  Devices  `toml:"devices"`
	Button   Button   `toml:"button"`
	Sound    Sound    `toml:"sound"`
	Voice    Voice    `toml:"voice"`
	Call     Call     `toml:"call"`
	Quiet    Quiet    `toml:"quiet"`
	Picture  Picture  `toml:"picture"`
	Network  Network  `toml:"network"`
	Serial   Serial   `toml:"serial"`
	Panel    Panel    `toml:"panel"`
	CEC      CEC      `toml:"cec"`
	Time     Time     `toml:"time"`
	Preview  Preview  `toml:"preview"`
}

// Log is what the agent says about itself.
type Log struct {
	Level  string `toml:"level"`
	Format string `toml:"format"`
}

// Identity is where the terminal's key is kept.
type Identity struct {
	TPM string `toml:"tpm"`
}

// Devices are the terminal's eyes, ears, mouth and face.
type Devices struct {
	Camera      string `toml:"camera"`
	Microphone  string `toml:"microphone"`
	Speaker     string `toml:"speaker"`
	Display     string `toml:"display"`
	MemorySize  string `toml:"memory_size"`
	Button      string `toml:"button"`
	TestPicture bool   `toml:"test_picture"`
	TestSound   bool   `toml:"test_sound"`
}

// Button is what keys do besides saying no.
type Button struct {
	Answer  string `toml:"answer"`
	Curtain string `toml:"curtain"`
}

// Sound is what is done to it.
type Sound struct {
	Echo string `toml:"echo"`
}

// Voice is who says aloud what the screen shows.
type Voice struct {
	Socket string `toml:"socket"`
	Speed  int    `toml:"speed"`
}

// Call is how calls are answered.
type Call struct {
	Ring     Duration `toml:"ring"`
	Least    Duration `toml:"least"`
	SeeFirst Duration `toml:"see_first"`
	Longest  Duration `toml:"longest"`
	Notice   Duration `toml:"notice"`
}

// Quiet are the quiet hours.
type Quiet struct {
	From string `toml:"from"`
	To   string `toml:"to"`
}

// Picture bounds what is sent, and says whether people see it themselves.
type Picture struct {
	Width   int    `toml:"width"`
	Height  int    `toml:"height"`
	FPS     int    `toml:"fps"`
	Bitrate int    `toml:"bitrate"`
	Codec   string `toml:"codec"`
	Own     bool   `toml:"own"`
}

// Network is how the far end is reached.
type Network struct {
	Loopback   bool   `toml:"loopback"`
	WiFi       string `toml:"wifi"`
	WPAFile    string `toml:"wpa_file"`
	WPAControl string `toml:"wpa_control"`
}

// Serial is where a technician's laptop is.
type Serial struct {
	Port string `toml:"port"`
}

// Panel is where lamp, shutter, knob and buttons are.
type Panel struct {
	Port    string `toml:"port"`
	Lost    string `toml:"lost"`    // "voice" or "end"
	Covered string `toml:"covered"` // "voice" or "refuse"
}

// Refuses tells whether nobody is let in while the shutter is closed.
func (p Panel) Refuses() bool { return p.Covered == "refuse" }

// EndsCall tells whether a call ends that has lost the panel, or is answered without it.
func (p Panel) EndsCall() bool { return p.Lost == "end" }

// CEC is how the television is woken that is the terminal's screen.
type CEC struct {
	Device  string `toml:"device"`
	Standby bool   `toml:"standby"`
}

// Time is how the clock is refined.
type Time struct {
	NTP []string `toml:"ntp"`
}

// Preview is the page of builds with that tag.
type Preview struct {
	Listen string `toml:"listen"`
}

// Duration is a time.Duration that files write as "10s".
type Duration time.Duration

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	if err != nil {
		return fmt.Errorf("%q is no duration such as \"10s\"", b)
	}
	*d = Duration(v)
	return nil
}

// Default returns what holds where the file is silent.
func Default() Config {
	return Config{
		State:    "/var/lib/vindu",
		Language: "nb",
		Log:      Log{Level: "info", Format: "json"},
		Identity: Identity{TPM: "auto"},
		Devices:  Devices{Camera: "auto", Microphone: "auto", Speaker: "auto", Display: "auto", MemorySize: "1280x720", Button: "auto"},
		Sound:    Sound{Echo: "on"},
		Voice:    Voice{Speed: 90},
		Call:     Call{Least: Duration(protocol.LeastRing * time.Second), SeeFirst: Duration(2 * time.Second), Longest: Duration(2 * time.Hour), Notice: Duration(40 * time.Second)},
		Panel:    Panel{Lost: "voice", Covered: "voice"},
		Time:     Time{NTP: []string{}},
		Picture:  Picture{Width: 640, Height: 480, FPS: 30, Bitrate: 1_500_000, Codec: "auto", Own: true},
		Network:  Network{WiFi: "auto", WPAFile: "/etc/wpa_supplicant.conf", WPAControl: "/run/wpa_supplicant"},
	}
}

// ErrConfig is wrapped by every error about what a configuration says.
var ErrConfig = errors.New("configuration")

// LoadConfig reads and checks a file. A relative state folder is relative to the file.
func LoadConfig(path string) (Config, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return Config{}, fmt.Errorf("read configuration: %w", err)
	}
	info, err := os.Stat(path)
	if err != nil {
		return Config{}, fmt.Errorf("read configuration: %w; \"vindu-agent config\" prints one to begin with", err)
	}
	if info.Size() > maxConfig {
		return Config{}, fmt.Errorf("%w %s: %d bytes, at most %d", ErrConfig, path, info.Size(), maxConfig)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return Config{}, fmt.Errorf("read configuration: %w", err)
	}
	c, err := ParseConfig(b)
	if err != nil {
		return Config{}, fmt.Errorf("%w %s: %w", ErrConfig, path, err)
	}
	if !filepath.IsAbs(c.State) {
		c.State = filepath.Join(filepath.Dir(path), c.State)
	}
	return c, nil
}

// ParseConfig reads and checks the text of a file. An error names the line and the key.
func ParseConfig(b []byte) (Config, error) {
	c := Default()
	err := toml.NewDecoder(bytes.NewReader(b)).DisallowUnknownFields().Decode(&c)
	if unknown, ok := errors.AsType[*toml.StrictMissingError](err); ok && len(unknown.Errors) > 0 {
		line, _ := unknown.Errors[0].Position()
		return Config{}, fmt.Errorf("line %d: unknown key %q: take it out, or see \"vindu-agent config\" for those there are",
			line, strings.Join(unknown.Errors[0].Key(), "."))
	}
	if malformed, ok := errors.AsType[*toml.DecodeError](err); ok {
		line, column := malformed.Position()
		if key := strings.Join(malformed.Key(), "."); key != "" {
			return Config{}, fmt.Errorf("line %d: %s: %w", line, key, err)
		}
		return Config{}, fmt.Errorf("line %d, column %d: %w", line, column, err)
	}
	if err != nil {
		return Config{}, err
	}
	var problems []error
	c.check(func(key, format string, args ...any) {
		problem := fmt.Errorf("%s: "+format, append([]any{key}, args...)...)
		if n := lineOf(b, key); n > 0 {
			problem = fmt.Errorf("line %d: %w", n, problem)
		}
		problems = append(problems, problem)
	})
	return c, errors.Join(problems...)
}

// check tells bad about every key whose value cannot be right.
func (c *Config) check(bad func(key, format string, args ...any)) {
	if c.State == "" {
		bad("state", "has to name a folder")
	}
	if languages := screen.Languages(); !slices.Contains(languages, c.Language) {
		bad("language", "%q is not there: choose one of %s", c.Language, strings.Join(languages, ", "))
	}
	if new(slog.LevelVar).UnmarshalText([]byte(c.Log.Level)) != nil {
		bad("log.level", "%q has to be debug, info, warn or error", c.Log.Level)
	}
	if c.Log.Format != "json" && c.Log.Format != "text" {
		bad("log.format", "%q has to be json or text", c.Log.Format)
	}
	for key, v := range map[string]string{"devices.camera": c.Devices.Camera, "devices.display": c.Devices.Display} {
		named := v == "auto" || (key == "devices.camera" && v == "none") || (key == "devices.display" && v == "memory")
		if !named && !filepath.IsAbs(v) {
			bad(key, "%q has to be auto, a path such as /dev/…, or %s", v, map[string]string{"devices.camera": "none", "devices.display": "memory"}[key])
		}
	}
	if v := c.Devices.Button; v != "auto" && v != "none" && !filepath.IsAbs(v) {
		bad("devices.button", "%q has to be auto, a path such as /dev/input/event0, or none", v)
	}
	if v := c.Button.Answer; v != "" {
		if _, ok := button.Key(v); !ok {
			bad("button.answer", "%q has to be empty or one of %s", v, strings.Join(button.Keys(), ", "))
		}
	}
	if v := c.Button.Curtain; v != "" {
		if _, ok := button.Key(v); !ok {
			bad("button.curtain", "%q has to be empty or one of %s", v, strings.Join(button.Keys(), ", "))
		} else if v == c.Button.Answer {
			bad("button.curtain", "%q takes calls", v)
		}
	}
	if v := c.Sound.Echo; v != "on" && v != "off" {
		bad("sound.echo", "%q has to be on or off", v)
	}
	if v := c.Picture.Codec; v != "auto" && v != "h264" && v != "vp8" {
		bad("picture.codec", "%q has to be auto, h264 or vp8", v)
	}
	if v := c.Voice.Socket; v != "" && !filepath.IsAbs(v) {
		bad("voice.socket", "%q has to be a whole path, or empty", v)
	}
	if v := c.Serial.Port; v != "" && !filepath.IsAbs(v) {
		bad("serial.port", "%q has to be a path such as /dev/ttyS0, or empty", v)
	}
	if v := c.Panel.Port; v != "" {
		if err := panel.CheckPort(v); err != nil {
			bad("panel.port", "%w, or empty", err)
		} else if v == c.Serial.Port {
			bad("panel.port", "%q is where technicians' laptops are", v)
		}
	}
	if v := c.Panel.Lost; v != "voice" && v != "end" {
		bad("panel.lost", "%q has to be voice or end", v)
	}
	if v := c.Panel.Covered; v != "voice" && v != "refuse" {
		bad("panel.covered", "%q has to be voice or refuse", v)
	}
	if v := c.CEC.Device; v != "" && !filepath.IsAbs(v) {
		bad("cec.device", "%q has to be a path such as /dev/cec0, or empty", v)
	}
	if c.Network.WiFi == "" || strings.ContainsRune(c.Network.WiFi, '/') {
		bad("network.wifi", "%q has to be auto, an interface such as wlan0, or none", c.Network.WiFi)
	}
	for key, v := range map[string]string{"network.wpa_file": c.Network.WPAFile, "network.wpa_control": c.Network.WPAControl} {
		if !filepath.IsAbs(v) || strings.ContainsAny(v, "\r\n") {
			bad(key, "%q has to be a whole path", v)
		}
	}
	if v := c.Identity.TPM; v != "auto" && v != "none" && !filepath.IsAbs(v) {
		bad("identity.tpm", "%q has to be auto, a path such as /dev/tpmrm0, or none", v)
	}
	for key, v := range map[string]string{"devices.microphone": c.Devices.Microphone, "devices.speaker": c.Devices.Speaker} {
		if v == "" {
			bad(key, "has to be auto, none or an ALSA name such as hw:CARD=Device")
		}
	}
	if len(c.Time.NTP) > 8 || slices.Contains(c.Time.NTP, "") {
		bad("time.ntp", "has to name at most 8 servers")
	}
	if _, err := c.Devices.Size(); err != nil {
		bad("devices.memory_size", "%w", err)
	}
	for _, d := range []struct {
		key      string
		v        Duration
		min, max time.Duration
	}{
		{"call.ring", c.Call.Ring, 0, 2 * time.Minute},
		{"call.least", c.Call.Least, 0, protocol.LeastRing * time.Second},
		{"call.see_first", c.Call.SeeFirst, 0, 30 * time.Second},
		{"call.notice", c.Call.Notice, 0, 90 * time.Second},
		{"call.longest", c.Call.Longest, time.Minute, 24 * time.Hour},
	} {
		if v := time.Duration(d.v); v < d.min || v > d.max {
			bad(d.key, "%s has to be between %s and %s", v, d.min, d.max)
		}
	}
	if _, err := policy.ParseHours(c.Quiet.From, c.Quiet.To); err != nil {
		bad("quiet.from", "%w; set from and to, or neither", err)
	}
	for _, n := range []struct {
		key         string
		v, min, max int
	}{
		{"picture.width", c.Picture.Width, 160, 1920}, {"picture.height", c.Picture.Height, 120, 1080},
		{"voice.speed", c.Voice.Speed, 50, 150},
		{"picture.fps", c.Picture.FPS, 5, 60}, {"picture.bitrate", c.Picture.Bitrate, 100_000, 20_000_000},
	} {
		if n.v < n.min || n.v > n.max {
			bad(n.key, "%d has to be between %d and %d", n.v, n.min, n.max)
		}
	}
}

// Size returns MemorySize in pixels.
func (d *Devices) Size() (image.Point, error) {
	var p image.Point
	if n, err := fmt.Sscanf(d.MemorySize, "%dx%d", &p.X, &p.Y); err != nil || n != 2 || fmt.Sprintf("%dx%d", p.X, p.Y) != d.MemorySize {
		return p, fmt.Errorf("%q has to be a size such as 1280x720", d.MemorySize)
	}
	if p.X < 320 || p.Y < 240 || p.X > 3840 || p.Y > 3840 {
		return p, fmt.Errorf("%q has to be between 320x240 and 3840x3840", d.MemorySize)
	}
	return p, nil
}

// lineOf returns the line on which a key such as "call.ring" is set, 0 if it is not.
func lineOf(b []byte, key string) int {
	table := ""
	for i, line := range strings.Split(string(b), "\n") {
		line = strings.TrimSpace(line)
		if name, ok := strings.CutPrefix(line, "["); ok {
			table, _, _ = strings.Cut(name, "]")
			table = strings.TrimSpace(table) + "."
			continue
		}
		name, _, ok := strings.Cut(line, "=")
		if ok && table+strings.TrimSpace(name) == key {
			return i + 1
		}
	}
	return 0
}
