package display_test

import (
	"context"
	"errors"
	"image"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"golang.org/x/sys/unix"

	"vindu/media/display"
	"vindu/media/display/displaytest"
	"vindu/media/display/drm"
)

func TestContract(t *testing.T) {
	for name, c := range map[string]*displaytest.Card{
		"copying":               displaytest.Screen("virtio_gpu", displaytest.Mode(640, 480, 60)),
		"scanning out":          displaytest.Screen("vc4", displaytest.Mode(640, 480, 60)),
		"neither flip nor tell": {FlipError: unix.EINVAL, DirtyError: unix.ENOSYS},
		"no flip":               {FlipError: unix.ENOSYS},
	} {
		t.Run(name, func(t *testing.T) {
			if c.Name == "" {
				plain := displaytest.Screen("plain", displaytest.Mode(640, 480, 60))
				plain.FlipError, plain.DirtyError = c.FlipError, c.DirtyError
				c = plain
			}
			k := displaytest.New()
			k.Plug("/dev/dri/card0", c)
			displaytest.Contract(t, k, display.Config{}, k.Opened, func(x, y int) (r, g, b uint8) {
				pix, m := c.Glass()
				p := pix[y*(int(m.Width)*4+64)+x*4:]
				return p[2], p[1], p[0]
			})
			if _, buffers := c.Driven(); buffers != 0 {
				t.Errorf("%d buffers are left", buffers)
			}
		})
	}
}

func TestModeAndConnector(t *testing.T) {
	hd, full, four := displaytest.Mode(1280, 720, 60), displaytest.Mode(1920, 1080, 50), displaytest.Mode(3840, 2160, 30)
	faster := displaytest.Mode(1920, 1080, 60)
	second := func() *displaytest.Card {
		c := displaytest.Screen("vc4", hd)
		c.Connectors[0].Connected = false
		c.Connectors = append(c.Connectors, drm.Connector{ID: 42, Type: 11, TypeID: 1, Connected: true, Encoder: 52, Encoders: []uint32{51, 52}, Modes: []drm.Mode{full}})
		c.Encoders[52] = drm.Encoder{Crtc: 31, Possible: 1}
		return c
	}
	dark := displaytest.Screen("vc4", hd)
	dark.Connectors[0].Connected = false
	undriven := displaytest.Screen("vc4", hd)
	undriven.Encoders[51] = drm.Encoder{}
	refused := displaytest.Screen("vc4", hd)
	refused.CrtcError = unix.EINVAL
	for name, c := range map[string]struct {
		card      *displaytest.Card
		cfg       display.Config
		w, h      int
		connector uint32
		err       error
		says      string
	}{
		"preferred":           {displaytest.Screen("vc4", hd, full), display.Config{}, 1280, 720, 41, nil, ""},
		"asked for":           {displaytest.Screen("vc4", hd, full, faster), display.Config{Width: 1920, Height: 1080}, 1920, 1080, 41, nil, ""},
		"too large to paint":  {displaytest.Screen("vc4", four, hd, full, faster), display.Config{}, 1920, 1080, 41, nil, ""},
		"nothing smaller":     {displaytest.Screen("vc4", four), display.Config{}, 3840, 2160, 41, nil, ""},
		"the connected one":   {second(), display.Config{}, 1920, 1080, 42, nil, ""},
		"by name":             {second(), display.Config{Connector: "HDMI-A-1"}, 1920, 1080, 42, nil, ""},
		"name not connected":  {second(), display.Config{Connector: "Virtual-1"}, 0, 0, 0, display.ErrNotFound, "[Virtual-1 HDMI-A-1]"},
		"no screen":           {dark, display.Config{}, 0, 0, 0, display.ErrNotFound, "Virtual-1"},
		"no such mode":        {displaytest.Screen("vc4", hd), display.Config{Width: 800, Height: 600}, 0, 0, 0, display.ErrUnsupported, "1280×720 at 60 Hz"},
		"mode refused":        {refused, display.Config{}, 0, 0, 0, display.ErrUnsupported, "set mode 1280×720 at 60 Hz on Virtual-1"},
		"nothing drives it":   {undriven, display.Config{}, 0, 0, 0, display.ErrUnsupported, "Virtual-1"},
		"for rendering alone": {&displaytest.Card{Name: "v3d", NoDumb: true}, display.Config{}, 0, 0, 0, display.ErrUnsupported, "v3d"},
		"no such card":        {displaytest.Screen("vc4", hd), display.Config{Device: "/dev/dri/card9"}, 0, 0, 0, display.ErrNotFound, "/dev/dri/card9"},
		"forbidden":           {&displaytest.Card{OpenError: unix.EACCES}, display.Config{}, 0, 0, 0, fs.ErrPermission, "group video"},
	} {
		t.Run(name, func(t *testing.T) {
			k := displaytest.New()
			k.Plug("/dev/dri/card0", c.card)
			d, err := display.OpenDRMOn(t.Context(), k, c.cfg)
			if err != nil || c.err != nil {
				if !errors.Is(err, c.err) || !strings.Contains(err.Error(), c.says) {
					t.Errorf("error %v, want %v with %q", err, c.err, c.says)
				}
			} else {
				if w, h := d.Size(); w != c.w || h != c.h {
					t.Errorf("%d×%d, want %d×%d", w, h, c.w, c.h)
				}
				if on, _ := c.card.Driven(); on != c.connector {
					t.Errorf("connector %d, want %d", on, c.connector)
				}
				if err := d.Close(); err != nil {
					t.Error(err)
				}
			}
			if _, buffers := c.card.Driven(); k.Opened() != 0 || buffers != 0 {
				t.Errorf("%d cards open, %d buffers left", k.Opened(), buffers)
			}
		})
	}
}

func TestAutoPassesOverCardsWithoutScreen(t *testing.T) {
	k := displaytest.New()
	k.Plug("/dev/dri/card0", &displaytest.Card{Name: "v3d", NoDumb: true})
	k.Plug("/dev/dri/card1", displaytest.Screen("vc4", displaytest.Mode(1280, 720, 60)))
	d, err := display.OpenDRMOn(t.Context(), k, display.Config{Device: "auto"})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	if _, err := display.OpenDRMOn(t.Context(), displaytest.New(), display.Config{}); !errors.Is(err, display.ErrNotFound) {
		t.Errorf("no card: %v, want ErrNotFound", err)
	}
}

func TestScreenFails(t *testing.T) {
	for name, c := range map[string]struct {
		driver string
		do     func(*displaytest.Card)
	}{
		"copying, unplugged":      {"udl", (*displaytest.Card).Unplug},
		"scanning out, unplugged": {"vc4", (*displaytest.Card).Unplug},
		"no refresh any more":     {"vc4", func(c *displaytest.Card) { c.Stuck = true }},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := displaytest.New()
				card := k.Plug("/dev/dri/card0", displaytest.Screen(c.driver, displaytest.Mode(64, 48, 60)))
				dev, err := display.OpenDRMOn(t.Context(), k, display.Config{})
				if err != nil {
					t.Fatal(err)
				}
				d := display.New(dev)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				ended := make(chan error)
				go func() { ended <- d.Run(ctx) }()
				scene := image.NewRGBA(image.Rect(0, 0, 64, 48))
				synctest.Wait()
				c.do(card)
				for range 3 { // the failure shows at the latest with the second picture
					if err := d.SetScene(scene, image.Rectangle{}, image.Rectangle{}); err != nil {
						t.Fatal(err)
					}
					synctest.Wait()
				}
				if err := <-ended; !errors.Is(err, display.ErrGone) {
					t.Errorf("Run ended with %v, want ErrGone", err)
				}
				if err := d.Close(); err != nil {
					t.Error(err)
				}
				if n := k.Opened(); n != 0 {
					t.Errorf("%d cards open after Close", n)
				}
			})
		})
	}
}

// The same on this machine's kernel: what is no card is refused and not kept open.
func TestRealKernelRefusesWhatIsNoCard(t *testing.T) {
	path := filepath.Join(t.TempDir(), "card0")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := display.OpenDRM(t.Context(), display.Config{Device: path}); !errors.Is(err, display.ErrUnsupported) {
		t.Errorf("error %v, want ErrUnsupported", err)
	}
	if n := displaytest.Held(path); n != 0 {
		t.Errorf("open %d times", n)
	}
}

// Small changes must reach both buffers of a card that flips.
func TestFlippingKeepsUpWithMemory(t *testing.T) {
	const w, h = 96, 64
	k := displaytest.New()
	card := k.Plug("/dev/dri/card0", displaytest.Screen("vc4", displaytest.Mode(w, h, 60)))
	dev, err := display.OpenDRMOn(t.Context(), k, display.Config{})
	if err != nil {
		t.Fatal(err)
	}
	memory := display.NewMemory(w, h)
	both := []*display.Display{display.New(dev), display.New(memory)}
	defer both[0].Close()
	scene := image.NewRGBA(image.Rect(0, 0, w, h))
	for step := range 24 {
		r := image.Rect(step%8*12, step/8*20, step%8*12+12, step/8*20+20)
		for y := r.Min.Y; y < r.Max.Y; y++ {
			for x := r.Min.X; x < r.Max.X; x++ {
				scene.Pix[scene.PixOffset(x, y)] = uint8(10 * step)
			}
		}
		for _, d := range both {
			if err := errors.Join(d.SetScene(scene, image.Rectangle{}, image.Rectangle{}, r), d.Paint()); err != nil {
				t.Fatal(err)
			}
		}
		dev.Frame() // waits until the flip is done
		glass, _ := card.Glass()
		want := memory.Snapshot()
		for y := range h {
			for x := range w {
				if got := glass[y*(w*4+64)+x*4+2]; got != want.RGBAAt(x, y).R {
					t.Fatalf("step %d: red at (%d,%d) is %d, want %d", step, x, y, got, want.RGBAAt(x, y).R)
				}
			}
		}
	}
}
