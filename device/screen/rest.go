package screen

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Brightness is how much light a screen gives.
type Brightness uint8

const (
	Bright Brightness = iota + 1
	Dim               // in quiet hours of the day
	Dark              // in quiet hours of the night
)

// The clocks between which quiet hours are a night's: there is no light then.
const (
	nightFrom = 21
	nightTo   = 7
)

// Light is what lights a display up from behind.
type Light interface {
	Set(Brightness) error
}

// Rest has the screen rest while quiet says so and it has nothing to show but the time of day: it is dim by day and dark by night. Whatever else it has to
// show wakes it. light may be nil: a black picture is then all that is done. quiet is asked by Run's goroutine and must not block. Rest is called before Run.
func (s *Screen) Rest(quiet func(time.Time) bool, light Light) { s.quiet, s.light = quiet, light }

// Announce has the screen tell of the call that coming returns, while it is ready. coming is asked by Run's goroutine once a minute and must not block. Announce
// is called before Run.
func (s *Screen) Announce(coming func() Coming) { s.coming = coming }

// atRest is a scene as it is shown at now: while nothing happens, the hour has a say.
func (s *Screen) atRest(scene Scene, now time.Time) Scene {
	if scene.Kind != Ready {
		return scene
	}
	if s.quiet != nil && s.quiet(now) {
		scene.Kind = Resting
	}
	if s.coming != nil {
		scene.Coming = s.coming()
	}
	return scene
}

func brightness(s Scene, now time.Time) Brightness {
	switch {
	case s.Kind != Resting:
		return Bright
	case now.Hour() >= nightFrom || now.Hour() < nightTo:
		return Dark
	}
	return Dim
}

// shine sets the light, after what it lights up has been painted: nobody is dazzled by what was there before. A light that cannot be set is told of once: the
// picture is black all the same.
func (s *Screen) shine(to Brightness) {
	if s.light == nil || s.lit == to {
		return
	}
	s.lit = to
	if err := s.light.Set(to); err != nil && !s.unlit {
		s.unlit = true
		s.log.Warn("the screen's light cannot be set", "error", err)
	}
}

// backlights are the kernel's lights behind displays (Documentation/ABI/stable/sysfs-class-backlight).
type backlights []backlight

type backlight struct {
	folder      string
	bright, top int
}

// dimmed is the share of a light's brightness that is left when it is dim.
const dimmed = 8

// OpenBacklight looks for lights in a folder, which on a terminal is /sys/class/backlight. How bright they are now is how bright they are to be; one that is out, as
// a program that ended at night leaves it, is to be as bright as it can. Where there is none it returns nil.
func OpenBacklight(folder string) (Light, error) {
	found, err := filepath.Glob(filepath.Join(folder, "*", "max_brightness"))
	if err != nil {
		return nil, fmt.Errorf("look for the screen's light in %s: %w", folder, err)
	}
	var lights backlights
	for _, path := range found {
		l := backlight{folder: filepath.Dir(path)}
		if l.top, err = readNumber(path); err != nil {
			return nil, err
		}
		if l.bright, err = readNumber(filepath.Join(l.folder, "brightness")); err != nil {
			return nil, err
		}
		if l.bright <= l.top/dimmed {
			l.bright = l.top
		}
		lights = append(lights, l)
	}
	if len(lights) == 0 {
		return nil, nil
	}
	return lights, nil
}

// Set implements Light.
func (b backlights) Set(to Brightness) error {
	var errs []error
	for _, l := range b {
		errs = append(errs, l.set(to))
	}
	return errors.Join(errs...)
}

// set also cuts the power of a light that is to be out: 0 is the weakest that some can do, and not dark. Not all know of power.
func (l backlight) set(to Brightness) error {
	level, power := l.bright, "0" // FB_BLANK_UNBLANK
	switch to {
	case Dim:
		level = max(l.bright/dimmed, 1)
	case Dark:
		level, power = 0, "4" // FB_BLANK_POWERDOWN
	case Bright:
	}
	err := writeSysfs(filepath.Join(l.folder, "brightness"), strconv.Itoa(level))
	if off := writeSysfs(filepath.Join(l.folder, "bl_power"), power); off != nil && !errors.Is(off, os.ErrNotExist) {
		err = errors.Join(err, off)
	}
	return err
}

func writeSysfs(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("set the screen's light: %w", err)
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

func readNumber(path string) (int, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, fmt.Errorf("read the screen's light: %w", err)
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || n < 0 {
		return 0, fmt.Errorf("read the screen's light: %s says %q", path, b)
	}
	return n, nil
}
