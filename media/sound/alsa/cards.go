package alsa

import (
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Card is one device of a sound card.
type Card struct {
	ID       string // the card's identity, stable as long as its driver is: "Loopback"
	USB      string // the port that it hangs on, counted from the bus: "1-1.2". Empty: not on USB
	Device   int
	Name     string // for people
	Playback bool
	Capture  bool
}

// Path returns the name to open the device by.
func (c Card) Path() string { return fmt.Sprintf("hw:CARD=%s,DEV=%d", c.ID, c.Device) }

// SameCard says whether two names of hardware are of one card.
func SameCard(a, b string) bool {
	card := func(name string) string {
		name = strings.TrimPrefix(name, "plug")
		name, hardware := strings.CutPrefix(name, "hw:")
		if !hardware {
			return ""
		}
		name, _, _ = strings.Cut(name, ",")
		return strings.TrimPrefix(name, "CARD=")
	}
	return card(a) != "" && card(a) == card(b)
}

// System is the Host of this machine.
type System struct {
	// Proc is the tree below /proc/asound, Sys the one below /sys; nil means those of this machine.
	Proc, Sys fs.FS
}

// Cards implements Host.
func (s System) Cards() []Card {
	tree := s.Proc
	if tree == nil {
		tree = os.DirFS("/proc/asound")
	}
	list, err := fs.ReadFile(tree, "pcm")
	if err != nil {
		return nil // no sound drivers at all
	}
	var found []Card
	// 00-01: ALC269 Analog : ALC269 Analog : playback 1 : capture 1
	for line := range strings.Lines(string(list)) {
		fields := strings.Split(strings.TrimSpace(line), ":")
		numbers := strings.SplitN(fields[0], "-", 2)
		if len(fields) < 3 || len(numbers) != 2 {
			continue
		}
		card, err1 := strconv.Atoi(numbers[0])
		device, err2 := strconv.Atoi(numbers[1])
		if err1 != nil || err2 != nil {
			continue
		}
		id, err := fs.ReadFile(tree, fmt.Sprintf("card%d/id", card))
		name := strings.TrimSpace(string(id))
		if err != nil || !plain(name) {
			name = strconv.Itoa(card)
		}
		c := Card{ID: name, USB: s.port(card), Device: device, Name: name + ": " + strings.TrimSpace(fields[2])}
		for _, f := range fields[3:] {
			c.Playback = c.Playback || strings.HasPrefix(strings.TrimSpace(f), "playback")
			c.Capture = c.Capture || strings.HasPrefix(strings.TrimSpace(f), "capture")
		}
		found = append(found, c)
	}
	return found
}

// port returns the USB port of a card, from where in the tree of devices it is: …/usb1/1-1/1-1.2/1-1.2:1.0/sound/card1.
func (s System) port(card int) string {
	tree := s.Sys
	if tree == nil {
		tree = os.DirFS("/sys")
	}
	at, err := fs.ReadLink(tree, fmt.Sprintf("class/sound/card%d", card))
	if err != nil {
		return ""
	}
	above, _, found := strings.Cut(at, "/sound/")
	if !found {
		return ""
	}
	if match := usbInterface.FindStringSubmatch(above); match != nil {
		return match[1]
	}
	return ""
}

// usbInterface is how the kernel names an interface of a USB device: bus-port.port:configuration.interface.
var usbInterface = regexp.MustCompile(`/([0-9]+-[0-9]+(?:\.[0-9]+)*):[0-9]+\.[0-9]+$`)

// resolve turns a device name into what alsa-lib opens: a name, and for hardware a
// configuration that defines it.
func resolve(device string) (name, conf string, err error) {
	if device == "null" {
		return "vindu", "pcm.vindu { type null }\n", nil
	}
	rest, ok := strings.CutPrefix(device, "plughw:")
	if !ok {
		if rest, ok = strings.CutPrefix(device, "hw:"); !ok {
			return device, "", nil
		}
	}
	card, dev, sub := "0", "0", "-1"
	for i, part := range strings.Split(rest, ",") {
		key, value, named := strings.Cut(part, "=")
		switch {
		case !named && i == 0, named && key == "CARD":
			card = part
			if named {
				card = value
			}
		case !named && i == 1, named && key == "DEV":
			dev = part
			if named {
				dev = value
			}
		case !named && i == 2, named && key == "SUBDEV":
			sub = part
			if named {
				sub = value
			}
		default:
			return "", "", fmt.Errorf("sound device %q: part %q is not understood: %w", device, part, unix.EINVAL)
		}
	}
	_, devErr := strconv.ParseUint(dev, 10, 8)
	_, subErr := strconv.ParseInt(sub, 10, 8)
	if !plain(card) || devErr != nil || subErr != nil {
		return "", "", fmt.Errorf("sound device %q: want hw:CARD=name,DEV=number: %w", device, unix.EINVAL)
	}
	return "vindu", fmt.Sprintf("pcm.vindu { type plug slave.pcm { type hw card \"%s\" device %s subdevice %s } }\n",
		card, dev, sub), nil
}

// plain reports whether s can be a card's identity: the kernel allows letters, digits, - and _.
func plain(s string) bool {
	for _, r := range s {
		if (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') && r != '_' && r != '-' {
			return false
		}
	}
	return s != ""
}
