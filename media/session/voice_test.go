package session

import (
	"math"
	"testing"

	"vindu/media/codec"
	"vindu/media/sound"
)

// While nobody speaks next to nothing is sent; but speech, soft speech and a steady tone are.
func TestPauses(t *testing.T) {
	speech := func() func([]int16) {
		v := sound.NewVoice()
		return v.Fill
	}
	for _, tt := range []struct {
		name        string
		fill        func([]int16)
		least, most int // packets of 500 that are sent
	}{
		{"silence", func(f []int16) { clear(f) }, 20, 60},
		{"a quiet room", func() func([]int16) {
			seed := uint32(1)
			return func(f []int16) {
				for i := range f {
					seed = seed*1664525 + 1013904223
					f[i] = int16(int32(seed) >> 26)
				}
			}
		}(), 20, 200},
		{"speech", speech(), 350, 500},
		{"soft speech", func() func([]int16) {
			voice := speech()
			return func(f []int16) {
				voice(f)
				for i := range f {
					f[i] /= 4
				}
			}
		}(), 300, 500},
		{"a tone", func() func([]int16) {
			n := 0
			return func(f []int16) {
				for i := range f {
					f[i] = int16(3000 * math.Sin(2*math.Pi*1000*float64(n)/sound.Rate))
					n++
				}
			}
		}(), 500, 500},
	} {
		t.Run(tt.name, func(t *testing.T) {
			enc, err := codec.NewOpusEncoder(codec.OpusConfig{})
			if err != nil {
				t.Fatal(err)
			}
			defer enc.Close()
			var pcm [opusFrame]int16
			var p pauses
			sent, bytes := 0, 0
			for range 500 {
				tt.fill(pcm[:])
				enc.SetDTX(inaudible(pcm[:]))
				packet, err := enc.Encode(pcm[:])
				if err != nil {
					t.Fatal(err)
				}
				if p.sends(packet) {
					sent++
					bytes += len(packet)
				}
			}
			t.Logf("%d of 500 packets, %d bytes", sent, bytes)
			if sent < tt.least || sent > tt.most {
				t.Errorf("%d of 500 packets are sent, want %d to %d", sent, tt.least, tt.most)
			}
		})
	}
}
