package session_test

import (
	"errors"
	"image"
	"sync/atomic"
	"testing"

	"vindu/media/codec"
	"vindu/media/peer/peertest"
	"vindu/media/session"
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
