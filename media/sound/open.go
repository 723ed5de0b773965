package sound

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"golang.org/x/sys/unix"

	"vindu/media/sound/alsa"
)

// List returns the machine's sound cards, from /proc/asound. It opens nothing.
func List() (capture, playback []Card) { return ListOn(alsa.System{}) }

// ListOn is List on another Host.
func ListOn(h alsa.Host) (capture, playback []Card) {
	for _, c := range h.Cards() {
		card := Card{Device: c.Path(), Name: c.Name}
		if c.USB != "" {
			card.USB = usbPrefix + c.USB
		}
		if c.Capture {
			capture = append(capture, card)
		}
		if c.Playback {
			playback = append(playback, card)
		}
	}
	return capture, playback
}

// Open opens capture and playback. With "auto", a direction that no card has is left out, and
// Info says so; both directions come from one card where there is one that has both. A card that is
// named and cannot be opened is an error, as is a machine with neither direction. Errors wrap
// ErrNotFound, ErrBusy, ErrUnsupported, fs.ErrPermission or ctx's error.
func Open(ctx context.Context, cfg Config) (Device, error) { return OpenOn(ctx, alsa.System{}, cfg) }

// OpenPlayback opens playback alone, as for a ringing tone. It never touches a microphone.
func OpenPlayback(ctx context.Context, cfg Config) (Player, error) {
	return OpenPlaybackOn(ctx, alsa.System{}, cfg)
}

// OpenPlaybackOn is OpenPlayback on another Host.
func OpenPlaybackOn(ctx context.Context, h alsa.Host, cfg Config) (Player, error) {
	cfg.Capture = "none"
	return OpenOn(ctx, h, cfg)
}

// OpenOn is Open on another Host.
func OpenOn(ctx context.Context, h alsa.Host, cfg Config) (Device, error) {
	type result struct {
		d   *device
		err error
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("open sound: %w", err)
	}
	done := make(chan result)
	left := make(chan struct{})
	go func() {
		d, err := open(h, cfg)
		select {
		case done <- result{d, err}:
		case <-left:
			if d != nil {
				d.Close()
			}
		}
	}()
	select {
	case r := <-done:
		if r.err != nil {
			return nil, r.err
		}
		return r.d, nil
	case <-ctx.Done():
		close(left)
		return nil, fmt.Errorf("open sound: %w", ctx.Err())
	}
}

func open(h alsa.Host, cfg Config) (*device, error) {
	cards := h.Cards()
	d := &device{}
	in, out, err := openBoth(h, cards, cfg)
	if err != nil {
		return nil, err
	}
	if in == nil && out == nil {
		return nil, fmt.Errorf("open sound: no card on this machine has what is asked for: %w", ErrNotFound)
	}
	if in != nil {
		d.in = newSide(in.pcm, false)
		d.info.Capture, d.info.CaptureName = in.device, in.name
	}
	if out != nil {
		d.out = newSide(out.pcm, true)
		d.info.Playback, d.info.PlaybackName = out.device, out.name
	}
	if err := d.ready(); err != nil {
		d.Close()
		return nil, fmt.Errorf("open sound: %w", classify(err))
	}
	return d, nil
}

// opened is a direction that was opened.
type opened struct {
	pcm          alsa.PCM
	device, name string
}

func openBoth(h alsa.Host, cards []alsa.Card, cfg Config) (in, out *opened, err error) {
	auto := func(s string) bool { return s == "" || s == "auto" }
	if auto(cfg.Capture) && auto(cfg.Playback) {
		// One card for both has one clock for both.
		for _, c := range cards {
			if !c.Capture || !c.Playback {
				continue
			}
			if in, err = openOne(h, cards, c.Path(), alsa.Capture); err != nil {
				continue
			}
			if out, err = openOne(h, cards, c.Path(), alsa.Playback); err == nil {
				return in, out, nil
			}
			in.pcm.Close()
		}
	}
	if in, err = openSide(h, cards, cfg.Capture, alsa.Capture); err != nil {
		return nil, nil, err
	}
	if out, err = openSide(h, cards, cfg.Playback, alsa.Playback); err != nil {
		if in != nil {
			in.pcm.Close()
		}
		return nil, nil, err
	}
	return in, out, nil
}

// openSide opens what the configuration names; nil if that is nothing.
func openSide(h alsa.Host, cards []alsa.Card, name string, d alsa.Direction) (*opened, error) {
	switch name {
	case "none":
		return nil, nil
	case "", "auto":
		var first error
		for _, c := range cards {
			if d == alsa.Capture && !c.Capture || d == alsa.Playback && !c.Playback {
				continue
			}
			o, err := openOne(h, cards, c.Path(), d)
			if err == nil {
				return o, nil
			}
			if first == nil {
				first = err
			}
		}
		return nil, first
	}
	return openOne(h, cards, name, d)
}

func openOne(h alsa.Host, cards []alsa.Card, name string, d alsa.Direction) (*opened, error) {
	what := "playback"
	if d == alsa.Capture {
		what = "capture"
	}
	asked := name
	if port, ok := strings.CutPrefix(name, usbPrefix); ok {
		for _, c := range cards {
			if c.USB == port && (d == alsa.Capture && c.Capture || d == alsa.Playback && c.Playback) {
				name = c.Path()
				break
			}
		}
		if name == asked {
			return nil, fmt.Errorf("open %s for %s: no such card is on that port: %w", name, what, ErrNotFound)
		}
	}
	p, err := h.Open(name, d)
	if err != nil {
		switch {
		case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENXIO):
			err = fmt.Errorf("%w (%w)", ErrNotFound, err)
		case errors.Is(err, fs.ErrPermission):
			err = fmt.Errorf("add the user to the group audio: %w", err)
		default:
			err = classify(err)
		}
		return nil, fmt.Errorf("open %s for %s: %w", asked, what, err)
	}
	o := &opened{p, name, name}
	for _, c := range cards {
		if c.Path() == name {
			o.name = c.Name
		}
	}
	return o, nil
}

// classify puts the sentinel that an errno stands for into its error.
func classify(err error) error {
	for errno, sentinel := range map[unix.Errno]error{
		unix.EBUSY: ErrBusy, unix.ENODEV: ErrGone, unix.ENXIO: ErrGone, unix.EINVAL: ErrUnsupported,
	} {
		if errors.Is(err, errno) && !errors.Is(err, sentinel) {
			return fmt.Errorf("%w (%w)", sentinel, err)
		}
	}
	return err
}
