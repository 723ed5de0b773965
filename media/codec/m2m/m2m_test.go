package m2m

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"vindu/media/camera/v4l2"
	"vindu/media/codec"
	"vindu/media/codec/codectest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Whatever interface, format and habits a driver has, the encoder in front of it keeps the contract of all encoders.
func TestContract(t *testing.T) {
	for name, c := range map[string]*chip{
		"single-planar, I420":                         {},
		"multi-planar, NV12, sides of 16, head alone": {planar: true, nv12: true, align: 16, headAlone: true},
		"multi-planar, I420, head once":               {planar: true, headOnce: true, align: 32, lacks: map[uint32]bool{cidRepeatSeq: true, cidHeaderMode: true}},
	} {
		t.Run(name, func(t *testing.T) {
			codectest.Run(t, codectest.Subject{
				New: func(t testing.TB, cfg codectest.Config) codec.VideoEncoder {
					fresh := &chip{planar: c.planar, nv12: c.nv12, align: c.align, headAlone: c.headAlone, headOnce: c.headOnce, lacks: c.lacks}
					e, err := New(fresh, Config{VideoConfig: codec.VideoConfig{Width: cfg.Width, Height: cfg.Height, FPS: cfg.FPS, Bitrate: cfg.Bitrate}, Path: "/dev/video9"})
					if err != nil {
						t.Fatal(err)
					}
					t.Cleanup(func() {
						e.Close()
						if fresh.open != 0 || fresh.mapped != 0 {
							t.Errorf("%d devices are open, %d buffers mapped", fresh.open, fresh.mapped)
						}
					})
					return e
				},
				Decoder: func(t testing.TB) codec.VideoDecoder {
					d, err := codec.NewH264Decoder()
					if err != nil {
						t.Fatal(err)
					}
					return d
				},
				Brief: c.planar,
			})
		})
	}
}

func start(t *testing.T, c *chip) (*Encoder, error) {
	t.Helper()
	e, err := New(c, Config{VideoConfig: codec.VideoConfig{Width: 64, Height: 48}, Path: "/dev/video9"})
	if err == nil {
		t.Cleanup(func() { e.Close() })
	}
	return e, err
}

// A driver that has not what is needed is refused at once, and nothing of it stays open.
func TestRefusesDrivers(t *testing.T) {
	for name, c := range map[string]*chip{
		"does not open":         {fail: map[uint32]error{0: unix.EBUSY}},
		"a camera":              {lacks: map[uint32]bool{v4l2.QueryCap: true}},
		"no bitrate":            {lacks: map[uint32]bool{cidBitrate: true}},
		"pictures in pieces":    {planar: true, pieces: 2},
		"format refused":        {fail: map[uint32]error{v4l2.SetFmt: unix.EINVAL}},
		"does not crop":         {align: 32, fail: map[uint32]error{setSelection: unix.EINVAL}},
		"no buffers":            {fail: map[uint32]error{v4l2.ReqBufs: unix.ENOMEM}},
		"buffers not described": {fail: map[uint32]error{v4l2.QueryBuf: unix.EINVAL}},
		"does not start":        {fail: map[uint32]error{v4l2.StreamOn: unix.EIO}},
	} {
		t.Run(name, func(t *testing.T) {
			if e, err := start(t, c); err == nil {
				e.Close()
				t.Fatal("taken")
			}
			if c.open != 0 || c.mapped != 0 {
				t.Errorf("%d devices are open, %d buffers mapped", c.open, c.mapped)
			}
		})
	}
}

// A driver that breaks its promises later ends in an error, for good, so that another coder takes over.
func TestBreaks(t *testing.T) {
	p := codectest.NewPainter(64, 48)
	for _, tt := range []struct {
		name string
		chip *chip
		hurt func(*chip)
	}{
		{"another profile", &chip{profile: 100}, func(*chip) {}},
		{"keyframe without parameters", &chip{headNever: true}, func(*chip) {}},
		{"unplugged", &chip{}, func(c *chip) { c.fail = map[uint32]error{v4l2.QBuf: unix.ENODEV} }},
		{"no keyframe", &chip{}, func(c *chip) { c.lacks = map[uint32]bool{cidForceKey: true} }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e, err := start(t, tt.chip)
			if err != nil {
				t.Fatal(err)
			}
			var last error
			for i := range 3 {
				if i == 1 {
					tt.hurt(tt.chip)
					e.ForceKeyframe()
				}
				_, last = e.Encode(p.Paint(i), int64(i+1)*3000)
			}
			if last == nil || errors.Is(last, codec.ErrPicture) {
				t.Errorf("error %v", last)
			}
		})
	}
}

// TestHostileDriver: one that hands out more than it was given, or less room than it has said, is found out at once and not followed for ever.
func TestHostileDriver(t *testing.T) {
	for name, c := range map[string]*chip{
		"parameter sets for ever": {headAlways: true}, "pictures back for ever": {backAlways: true}, "a second buffer that is shorter": {shortSecond: true},
	} {
		p, last := codectest.NewPainter(64, 48), error(nil)
		e, err := start(t, c)
		for i := range 3 {
			if err == nil {
				_, last = e.Encode(p.Paint(i), int64(i+1)*3000)
			}
		}
		if err = errors.Join(err, last); !errors.Is(err, ErrUnfit) || errors.Is(err, ErrStuck) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Parameter sets of one size are never put before pictures of another.
func TestForgetsParameters(t *testing.T) {
	e, err := start(t, &chip{headOnce: true, headFirst: true})
	if err != nil {
		t.Fatal(err)
	}
	for i, side := range []int{64, 32} {
		p := codectest.NewPainter(side, side)
		if _, err = e.Encode(p.Paint(0), int64(i+1)*3000); (err != nil) != (side == 32) {
			t.Errorf("%d: %v", side, err)
		}
	}
}

func TestSlowIsNotStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, err := start(t, &chip{silentFrom: 2})
		if err != nil {
			t.Fatal(err)
		}
		p := codectest.NewPainter(64, 48)
		if _, err := e.Encode(p.Paint(0), 3000); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if _, err := e.Encode(p.Paint(1), 6000); err == nil || errors.Is(err, ErrStuck) {
			t.Errorf("error %v", err)
		}
		if took := time.Since(began); took > stuckAfter {
			t.Errorf("noticed after %s", took)
		}
		e.Close()
	})
}

// A driver's call that never returns is given up within a second, nothing waits for it, and with two of them no third encoder is made; what
// it held is let go when it returns.
func TestHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		var chips []*chip
		for range mostHanging {
			c := &chip{}
			chips = append(chips, c)
			e, err := start(t, c)
			if err != nil {
				t.Fatal(err)
			}
			p := codectest.NewPainter(64, 48)
			if _, err := e.Encode(p.Paint(0), 3000); err != nil {
				t.Fatal(err)
			}
			c.mu.Lock()
			c.hang = release
			c.mu.Unlock()
			began := time.Now()
			for i := 1; i < 4; i++ {
				if _, err := e.Encode(p.Paint(i), int64(i+1)*3000); !errors.Is(err, ErrStuck) {
					t.Errorf("error %v", err)
				}
			}
			if err := e.Close(); err != nil {
				t.Error(err)
			}
			if took := time.Since(began); took != stuckAfter {
				t.Errorf("given up after %s", took)
			}
		}
		if _, err := start(t, &chip{}); !errors.Is(err, ErrStuck) {
			t.Errorf("with %d that hang: %v", mostHanging, err)
		}
		close(release)
		synctest.Wait()
		for _, c := range chips {
			if c.open != 0 || c.mapped != 0 {
				t.Errorf("%d devices are open, %d buffers mapped", c.open, c.mapped)
			}
		}
		e, err := start(t, &chip{})
		if err != nil {
			t.Fatal(err)
		}
		e.Close()
	})
}

func TestCoders(t *testing.T) {
	c := &chip{}
	coders := Coders(c, []string{"/dev/video9"})
	if len(coders) != 1 || coders[0].Name != "v4l2 chip" || coders[0].Kind != codec.H264 || c.open != 0 {
		t.Fatalf("%v, %d open", coders, c.open)
	}
	e, err := coders[0].NewEncoder(codec.VideoConfig{Width: 64, Height: 48})
	if err != nil {
		t.Fatal(err)
	}
	e.Close()
	if got := Coders(&chip{lacks: map[uint32]bool{v4l2.QueryCap: true}}, []string{"/dev/video0"}); len(got) != 0 {
		t.Error("a camera was taken for a coder")
	}
}

// No device of a controller with a sensor is touched: it is a camera's.
func TestEncoders(t *testing.T) {
	encoder, sensor, other := entity{Function: functionEncoder}, entity{Function: functionSensor}, entity{Function: 0x4008}
	video, sub := interfaceNode{Type: interfaceVideo, Major: 81, Minor: 7}, interfaceNode{Type: 0x203, Major: 81, Minor: 8}
	for _, tt := range []struct {
		entities []entity
		want     []number
	}{
		{[]entity{other, encoder}, []number{{81, 7}}}, {[]entity{other}, nil}, {[]entity{encoder, sensor}, nil}, {nil, nil},
	} {
		if got := encoders(tt.entities, []interfaceNode{sub, video}); !slices.Equal(got, tt.want) {
			t.Errorf("%v, want %v", got, tt.want)
		}
	}
	Find() // on this machine, whatever it has
}
