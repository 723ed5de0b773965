package peer

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"github.com/pion/rtp"
	"github.com/pion/rtp/codecs"

	"vindu/media/codec"
	"vindu/media/codec/codectest"
)

// unit makes a NAL unit of a type, long and without start codes in it; its slice begins with macroblock 0.
func unit(kind byte, size int) []byte {
	u := bytes.Repeat([]byte{0x91, 0x7b, 0x55}, size/3+1)[:size]
	u[0], u[1] = 0x60|kind, 0x91
	return u
}

func annexB(units ...[]byte) (out []byte) {
	for _, u := range units {
		out = append(append(out, 0, 0, 0, 1), u...)
	}
	return out
}

func newH264Wired() (*videoSender, *wire) {
	v, w := newWired(true)
	v.use(codec.H264)
	return v, w
}

// What leaves as packets is what pion's depacketiser, and our own assembler, make whole again.
func TestH264Packets(t *testing.T) {
	for _, tt := range []struct {
		name    string
		units   [][]byte
		packets int
		key     bool
	}{
		{"one slice", [][]byte{unit(1, 40)}, 1, false},
		{"as large as a packet", [][]byte{unit(1, maxPayload)}, 1, false},
		{"a byte larger", [][]byte{unit(1, maxPayload+1)}, 2, false},
		{"a large one", [][]byte{unit(1, 9000)}, 8, false},
		{"small keyframe", [][]byte{unit(7, 12), unit(8, 5), unit(5, 300)}, 1, true},
		{"keyframe", [][]byte{unit(7, 12), unit(8, 5), unit(5, 5000)}, 6, true},
		{"parameters and a packet's worth", [][]byte{unit(7, 12), unit(8, 5), unit(5, maxPayload)}, 2, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v, w := newH264Wired()
			frame := annexB(tt.units...)
			if ok, err := v.write(append([]byte{0, 0, 0, 1, 9, 0x10}, frame...), 3000, time.Unix(1, 0)); !ok || err != nil {
				t.Fatal(ok, err)
			}
			if len(w.packets) != tt.packets {
				t.Errorf("%d packets, want %d", len(w.packets), tt.packets)
			}
			var theirs []byte
			var pion codecs.H264Packet
			a := assembler{kind: codec.H264, flowing: true}
			for i, p := range w.packets {
				if len(p.Payload) > maxPayload || p.Marker != (i == len(w.packets)-1) {
					t.Errorf("packet %d of %d bytes, marker %v", i, len(p.Payload), p.Marker)
				}
				b, err := pion.Unmarshal(p.Payload)
				if err != nil {
					t.Fatal(err)
				}
				theirs = append(theirs, b...)
				a.push(p.SequenceNumber, p.Timestamp, p.Marker, p.Payload, time.Unix(1, 0))
			}
			if !bytes.Equal(theirs, frame) {
				t.Error("pion makes something else of it")
			}
			f, ok := a.pull(time.Unix(1, 0))
			if !ok || !bytes.Equal(f.Data, frame) || f.Keyframe != tt.key || f.Codec != codec.H264 {
				t.Errorf("we make something else of it: %d bytes of %d, keyframe %v", len(f.Data), len(frame), f.Keyframe)
			}
		})
	}
}

// What pion's packetiser makes of frames, we take.
func TestH264FromPion(t *testing.T) {
	p := rtp.NewPacketizer(1200, 102, 1, &codecs.H264Payloader{}, rtp.NewFixedSequencer(65530), 90000)
	a := assembler{kind: codec.H264}
	key, delta := annexB(unit(7, 12), unit(8, 5), unit(5, 5000)), annexB(unit(1, 2500))
	var got [][]byte
	for _, frame := range [][]byte{delta, key, delta, delta} {
		for _, q := range p.Packetize(frame, 3000) {
			a.push(q.SequenceNumber, q.Timestamp, q.Marker, q.Payload, time.Unix(1, 0))
		}
		for {
			f, ok := a.pull(time.Unix(1, 0))
			if !ok {
				break
			}
			got = append(got, bytes.Clone(f.Data))
		}
	}
	if !slices.EqualFunc(got, [][]byte{key, delta, delta}, bytes.Equal) {
		t.Errorf("%d frames", len(got))
	}
}

// play pushes the packets of frames in an order of the test's own and returns one letter for each frame that comes out.
func play(a *assembler, frames map[byte][]byte, order string, lost func(frame byte, packet int) bool) (out string) {
	now := time.Unix(1000, 0)
	v, w := newH264Wired()
	for i := range len(order) {
		w.packets = nil
		now = now.Add(33 * time.Millisecond)
		v.tokens = 1e6
		if ok, err := v.write(frames[order[i]], uint32(i)*3000, now); !ok || err != nil {
			panic("not written")
		}
		for n, p := range w.packets {
			if !lost(order[i], n) {
				a.push(p.SequenceNumber, p.Timestamp, p.Marker, p.Payload, now)
			}
		}
		for _, at := range []time.Time{now, now.Add(maxWait)} {
			for {
				f, ok := a.pull(at)
				if !ok {
					break
				}
				for name, frame := range frames {
					if bytes.Equal(frame, f.Data) {
						out += string(name)
					}
				}
			}
		}
	}
	return out
}

// A frame of which something is lost is never given out, nor what refers to it: the next keyframe is.
func TestH264Losses(t *testing.T) {
	frames := map[byte][]byte{
		'K': annexB(unit(7, 12), unit(8, 5), unit(5, 3000)), 'd': annexB(unit(1, 400)), 'D': annexB(unit(1, 2000)),
		'A': annexB(unit(7, 12), unit(8, 5), unit(5, 100)),
	}
	for _, tt := range []struct {
		name        string
		order, want string
		frame       byte
		packet      int
	}{
		{"nothing lost", "KdDdK", "KdDdK", 0, 0},
		{"begins with a delta", "dKd", "Kd", 0, 0},
		{"head of a delta", "KdDdKd", "KdKd", 'D', 0},
		{"tail of a delta", "KdDdKd", "KdKd", 'D', 1},
		{"parameters of a keyframe", "KdKdA", "A", 'K', 0},
		{"tail of a keyframe", "KdAd", "Ad", 'K', 2},
		{"a whole frame", "KDdDA", "KDA", 'd', 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := assembler{kind: codec.H264}
			if got := play(&a, frames, tt.order, func(f byte, n int) bool { return f == tt.frame && n == tt.packet }); got != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}

// The far end may go from one negotiated codec to the other: the assembler waits for a keyframe of it.
func TestAssemblerTurns(t *testing.T) {
	now := time.Unix(1, 0)
	var a assembler
	a.push(10, 1, true, cut(1, true, 1)[0], now)
	if f, ok := a.pull(now); !ok || f.Codec != codec.VP8 {
		t.Fatal(f, ok)
	}
	a.turn(codec.H264)
	a.push(11, 2, true, unit(1, 30), now)
	if _, ok := a.pull(now); ok {
		t.Error("a slice was given out before a keyframe")
	}
	a.push(12, 3, false, unit(7, 12), now)
	a.push(13, 3, false, unit(8, 5), now)
	a.push(14, 3, true, unit(5, 30), now)
	if f, ok := a.pull(now); !ok || f.Codec != codec.H264 || !f.Keyframe {
		t.Error("no keyframe", f, ok)
	}
}

func TestH264SendingDoesNotAllocate(t *testing.T) {
	v, w := newWired(false)
	v.use(codec.H264)
	v.setRate(1_000_000)
	frame := annexB(unit(7, 12), unit(8, 5), unit(5, 5000))
	now := time.Unix(1, 0)
	if n := testing.AllocsPerRun(100, func() {
		now = now.Add(33 * time.Millisecond)
		if ok, err := v.write(frame, 1, now); !ok || err != nil {
			t.Fatal(ok, err)
		}
		if _, err := v.drain(now.Add(30 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations per frame", n)
	}
	_ = w
}

// Real pictures through packets: encoder, packets, assembler, decoder.
func TestH264Pictures(t *testing.T) {
	e, err := codec.NewH264Encoder(codec.H264Config{Width: 320, Height: 240})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	d, err := codec.NewH264Decoder()
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	p := codectest.NewPainter(320, 240)
	a := assembler{kind: codec.H264}
	for i := range 20 {
		now := time.Unix(int64(i), 0)
		f, err := e.Encode(p.Paint(i), int64(i+1)*3000)
		if err != nil {
			t.Fatal(err)
		}
		v, w := newH264Wired()
		v.track.header.SequenceNumber = a.highest + 1
		if ok, err := v.write(f.Data, uint32(i), now); !ok || err != nil {
			t.Fatal(ok, err)
		}
		for _, q := range w.packets {
			a.push(q.SequenceNumber, q.Timestamp, q.Marker, q.Payload, now)
		}
		got, ok := a.pull(now)
		if !ok {
			t.Fatalf("frame %d did not come out", i)
		}
		if img, err := d.Decode(got.Data); err != nil || img == nil {
			t.Fatalf("frame %d: %v", i, err)
		}
	}
}

// FuzzH264Assembler feeds packets that a far end could have made up.
func FuzzH264Assembler(f *testing.F) {
	f.Add([]byte{0x67, 1, 2}, []byte{0x7c, 0x85, 0x90}, []byte{0x7c, 0x45, 1})
	f.Add([]byte{24, 0, 2, 0x67, 1, 0, 1, 0x68}, []byte{0x65, 0x88}, []byte{0x41, 0x9a})
	f.Add([]byte{28}, []byte{24, 0xff}, []byte{24, 0, 0})
	f.Fuzz(func(t *testing.T, one, two, three []byte) {
		a := assembler{kind: codec.H264}
		now := time.Unix(1, 0)
		for i, p := range [][]byte{one, two, three} {
			a.push(uint16(i), uint32(i/2), i == 2, p, now)
			for {
				fr, ok := a.pull(now)
				if !ok {
					break
				}
				if len(fr.Data) == 0 {
					t.Fatal("an empty frame was given out")
				}
			}
		}
		a.pull(now.Add(time.Hour))
	})
}
