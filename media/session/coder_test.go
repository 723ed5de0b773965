package session_test

import (
	"errors"
	"image"
	"sync/atomic"
	"testing"

	"vindu/media/codec"
	"vindu/media/peer/peertest"
	"vindu/media/session"
	"vindu/media/yuv"
)

var errBurnt = errors.New("burnt through")

// mortal is an encoder that ends after some pictures.
type mortal struct {
	codec.VideoEncoder
	left   int
	closed *atomic.Int32
}

func (m *mortal) Encode(img *image.YCbCr, pts int64) (codec.Frame, error) {
	if m.left--; m.left < 0 {
		return codec.Frame{}, errBurnt
	}
	return m.VideoEncoder.Encode(img, pts)
}

func (m *mortal) Close() error {
	m.closed.Add(1)
	return m.VideoEncoder.Close()
}

// An encoder that is not there, does not begin, or stops in a call is followed by the next one, with a keyframe, and the call goes on.
func TestAnotherCoderTakesOver(t *testing.T) {
	var closed atomic.Int32
	dies := func(after int) codec.Coder {
		return codec.Coder{Name: "mortal", Kind: codec.VP8, NewEncoder: func(c codec.VideoConfig) (codec.VideoEncoder, error) {
			e, err := codec.Libvpx().NewEncoder(c)
			return &mortal{VideoEncoder: e, left: after, closed: &closed}, err
		}}
	}
	missing := codec.Coder{Name: "missing", Kind: codec.VP8, NewEncoder: func(codec.VideoConfig) (codec.VideoEncoder, error) { return nil, errBurnt }}
	for _, tt := range []struct {
		name   string
		first  codec.Coder
		closed int32
	}{{"stops", dies(8), 1}, {"does not begin", dies(0), 1}, {"is not there", missing, 0}} {
		t.Run(tt.name, func(t *testing.T) {
			closed.Store(0)
			c := newCall(t, options{cfg: session.Config{Video: []codec.Coder{tt.first, codec.Libvpx()}}, caller: peertest.Options{Silent: true}})
			if err := c.s.Open(t.Context()); err != nil {
				t.Fatal(err)
			}
			c.eventually("the other one's pictures", func() bool {
				st := c.s.Stats().Near
				shown, _ := c.caller.Frames()
				return st.Coder == "libvpx" && st.Encoded >= 20 && shown >= 20
			})
			if got := closed.Load(); got != tt.closed {
				t.Errorf("the first was closed %d times, want %d", got, tt.closed)
			}
		})
	}
}

// looking notes which pictures it is given.
type looking struct {
	codec.VideoEncoder
	seen chan *image.YCbCr
}

func (l looking) Encode(img *image.YCbCr, pts int64) (codec.Frame, error) {
	select {
	case l.seen <- img:
	default:
	}
	return l.VideoEncoder.Encode(img, pts)
}

// The encoder gets the very picture that the camera made: between them nothing is copied or converted.
func TestPictureIsNotCopied(t *testing.T) {
	for _, library := range []codec.Coder{codec.Libvpx(), codec.OpenH264()} {
		t.Run(library.Name, func(t *testing.T) {
			seen := make(chan *image.YCbCr, 100)
			coder := codec.Coder{Name: "looking", Kind: library.Kind, NewEncoder: func(c codec.VideoConfig) (codec.VideoEncoder, error) {
				e, err := library.NewEncoder(c)
				return looking{e, seen}, err
			}}
			before := yuv.Passes()
			c := newCall(t, options{cfg: session.Config{Video: []codec.Coder{coder, codec.Libvpx()}}, caller: peertest.Options{Silent: true}})
			if err := c.s.Open(t.Context()); err != nil {
				t.Fatal(err)
			}
			<-seen // made while the encoder was
			for range 10 {
				img := <-seen
				c.mu.Lock()
				own := &img.Cb[0] == &c.cameras[0].img.Cb[0] // which the test's camera leaves as they are
				c.mu.Unlock()
				if !own {
					t.Fatal("the encoder got another picture than the camera's")
				}
			}
			if got := yuv.Passes() - before; got != 0 {
				t.Errorf("pictures were gone through %d times on the way", got)
			}
		})
	}
}
