package session

import (
	"image"
	"math"
	"testing"
	"time"

	"vindu/media/codec"
	"vindu/media/peer"
)

// speech codes a tone that changes from packet to packet.
func speech(t testing.TB, packets int) [][]byte {
	t.Helper()
	e, err := codec.NewOpusEncoder(codec.OpusConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	e.SetLoss(20)
	var out [][]byte
	pcm := make([]int16, 960)
	for i := range packets {
		for k := range pcm {
			pcm[k] = int16(6000 * math.Sin(2*math.Pi*440*float64(i*960+k)/codec.SampleRate))
		}
		p, err := e.Encode(pcm)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, append([]byte(nil), p...))
	}
	return out
}

// line plays packets into a jitter buffer in simulated time: each is sent every 20 ms and comes delay later, and a frame is
// taken every 10 ms. delay of a lost packet is negative.
func line(t testing.TB, packets int, delay func(i int) time.Duration) (SoundStats, int) {
	t.Helper()
	dec, err := codec.NewOpusDecoder()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dec.Close() })
	j := newJitter(dec)
	start := time.Unix(1000, 0)
	j.start(start)
	coded := speech(t, packets)
	type arrival struct {
		at time.Duration
		i  int
	}
	var queue []arrival
	for i := range coded {
		if d := delay(i); d >= 0 {
			queue = append(queue, arrival{time.Duration(i)*20*time.Millisecond + d, i})
		}
	}
	var pcm [frameSamples]int16
	quiet := 0
	for now := time.Duration(0); now < time.Duration(packets)*20*time.Millisecond; now += 10 * time.Millisecond {
		rest := queue[:0]
		for _, a := range queue {
			if a.at > now {
				rest = append(rest, a)
				continue
			}
			j.push(peer.AudioPacket{Data: coded[a.i], Seq: uint16(65500 + a.i), Timestamp: uint32(int64(1<<32-96000) + int64(a.i)*960)}, start.Add(a.at))
		}
		queue = rest
		j.pull(pcm[:])
		energy := 0
		for _, v := range pcm {
			energy += int(v) * int(v)
		}
		if energy < 1000*frameSamples {
			quiet++
		}
	}
	return j.snapshot(), quiet
}

func TestJitter(t *testing.T) {
	const n = 500 // 10 s
	ms := func(d int) time.Duration { return time.Duration(d) * time.Millisecond }
	seed := uint32(3)
	random := func(below int) int {
		seed = seed*1664525 + 1013904223
		return int(seed>>16) % below
	}
	for _, tt := range []struct {
		name      string
		delay     func(i int) time.Duration
		concealed uint64 // at most, frames of 10 ms
		recovered uint64 // at least
		quiet     int    // at most, of 1000 frames
		level     time.Duration
	}{
		{"smooth", func(int) time.Duration { return ms(30) }, 0, 0, 8, ms(45)},
		{"jitter of 60 ms", func(int) time.Duration { return ms(20 + random(60)) }, 12, 0, 25, ms(140)},
		{"swapped pairs", func(i int) time.Duration { return ms(20 + 45*(i&1)) }, 6, 0, 12, ms(110)},
		{"one of ten lost", func(i int) time.Duration {
			if i%10 == 7 {
				return -1
			}
			return ms(20)
		}, 40, 60, 12, ms(60)},
		{"half a second of nothing", func(i int) time.Duration {
			if i > 200 && i < 225 {
				return -1
			}
			return ms(20)
		}, 60, 0, 70, ms(60)},
		{"a burst after 300 ms", func(i int) time.Duration {
			if i >= 200 && i < 215 {
				return ms(20 + 20*(215-i))
			}
			return ms(20)
		}, 40, 0, 60, ms(120)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, quiet := line(t, n, tt.delay)
			t.Logf("%+v, quiet %d", s, quiet)
			if s.Concealed > tt.concealed {
				t.Errorf("%d frames made up, want at most %d", s.Concealed, tt.concealed)
			}
			if s.Recovered < tt.recovered {
				t.Errorf("%d frames recovered, want at least %d", s.Recovered, tt.recovered)
			}
			if quiet > tt.quiet {
				t.Errorf("%d of 1000 frames are quiet, want at most %d", quiet, tt.quiet)
			}
			if s.Delay > tt.level {
				t.Errorf("%s waits at the end, want at most %s", s.Delay, tt.level)
			}
		})
	}
}

func TestJitterIsClosedBeforeStart(t *testing.T) {
	dec, err := codec.NewOpusDecoder()
	if err != nil {
		t.Fatal(err)
	}
	defer dec.Close()
	j := newJitter(dec)
	for i, p := range speech(t, 10) {
		j.push(peer.AudioPacket{Data: p, Seq: uint16(i), Timestamp: uint32(i * 960)}, time.Unix(1000, 0))
	}
	var pcm [frameSamples]int16
	j.pull(pcm[:])
	if s := j.snapshot(); j.level() != 0 || s.Played != 0 || s.Silent != 1 {
		t.Errorf("sound from before the answer: %+v", s)
	}
}

func TestJitterDoesNotAllocate(t *testing.T) {
	dec, err := codec.NewOpusDecoder()
	if err != nil {
		t.Fatal(err)
	}
	defer dec.Close()
	j := newJitter(dec)
	now := time.Unix(1000, 0)
	j.start(now)
	coded := speech(t, 20)
	var pcm [frameSamples]int16
	i := 0
	if n := testing.AllocsPerRun(200, func() {
		if i%11 != 5 {
			j.push(peer.AudioPacket{Data: coded[i%20], Seq: uint16(i), Timestamp: uint32(i * 960)}, now)
		}
		i++
		now = now.Add(20 * time.Millisecond)
		j.pull(pcm[:])
		j.pull(pcm[:])
	}); n != 0 {
		t.Errorf("%v allocations per packet", n)
	}
}

// Packets are the far end's: any order, any content.
func FuzzJitter(f *testing.F) {
	f.Add([]byte{1, 2, 3, 200, 7, 1}, uint8(3))
	coded := speech(f, 2)
	f.Fuzz(func(t *testing.T, script []byte, spoil uint8) {
		dec, err := codec.NewOpusDecoder()
		if err != nil {
			t.Fatal(err)
		}
		defer dec.Close()
		j := newJitter(dec)
		now := time.Unix(1000, 0)
		j.start(now)
		var pcm [frameSamples]int16
		seq := uint16(0)
		for i, b := range script {
			seq += uint16(int8(b))
			p := append([]byte(nil), coded[i%2]...)
			p[0] ^= b & spoil
			j.push(peer.AudioPacket{Data: p[:len(p)-int(b)%len(p)], Seq: seq, Timestamp: uint32(seq) * uint32(b)}, now)
			if b&1 != 0 {
				now = now.Add(time.Duration(b) * time.Millisecond)
				j.pull(pcm[:])
			}
			if l := j.level(); l < 0 || l > jitterSlots*codec.MaxOpusSamples+len(j.pcm) {
				t.Fatalf("%d samples wait", l)
			}
		}
		for range 20 {
			j.pull(pcm[:])
		}
	})
}

func TestGovernor(t *testing.T) {
	full := image.Pt(640, 480)
	now := time.Unix(1000, 0)
	run := func(g *governor, target int, d time.Duration) (q quality) {
		for end := now.Add(d); now.Before(end); now = now.Add(rateEvery) {
			q = g.update(target, 32_000, 0.1, now)
		}
		return q
	}
	g := newGovernor(full, 30, 500_000, 1_400_000, 32_000)
	if q := run(g, 500_000, time.Second); q.size != full || q.fps != 30 || q.bitrate < 380_000 || q.bitrate > 420_000 {
		t.Errorf("at the start %+v", q)
	}
	if q := run(g, 3_000_000, 20*time.Second); q.bitrate != 1_400_000 {
		t.Errorf("on a wide line %+v, want its limit", q)
	}
	// It falls at once.
	if q := run(g, 300_000, rateEvery); q.bitrate > 230_000 {
		t.Errorf("right after a fall %+v", q)
	}
	// Then it becomes smaller, then slower, with sound untouched.
	last := image.Pt(10_000, 10_000)
	for _, target := range []int{280_000, 220_000, 160_000, 110_000, 80_000} {
		q := run(g, target, 3*time.Second)
		if q.size.X > last.X || q.bitrate+32_000 > target {
			t.Errorf("at %d bit/s %+v", target, q)
		}
		last = q.size
	}
	if q := run(g, 80_000, time.Second); q.size != image.Pt(320, 240) || q.fps != 7.5 {
		t.Errorf("at the bottom %+v", q)
	}
	// And it does not swing: a line between two rungs stays on one.
	changes := 0
	g = newGovernor(full, 30, 330_000, 1_400_000, 32_000)
	before := run(g, 330_000, time.Second).size
	for i := range 100 {
		q := run(g, 310_000+30_000*(i%3-1), 500*time.Millisecond)
		if q.size != before {
			changes++
			before = q.size
		}
	}
	if changes > 2 {
		t.Errorf("size changed %d times in 50 s", changes)
	}
	// In the end it is back.
	if q := run(g, 2_000_000, 40*time.Second); q.size != full || q.fps != 30 {
		t.Errorf("on a wide line again %+v", q)
	}
	// Other sizes keep their shape and even sides.
	for _, size := range []image.Point{{1280, 720}, {322, 182}, {176, 144}} {
		g := newGovernor(size, 15, 60_000, 1_400_000, 32_000)
		q := run(g, 60_000, 10*time.Second)
		if q.size.X%2 != 0 || q.size.Y%2 != 0 || q.size.X > size.X || q.fps < 5 {
			t.Errorf("%v becomes %+v", size, q)
		}
	}
}

// A processor that is too slow for the picture gets a smaller one, though the line is wide.
func TestGovernorEasesTheProcessor(t *testing.T) {
	now := time.Unix(1000, 0)
	g := newGovernor(image.Pt(640, 480), 30, 1_000_000, 1_400_000, 32_000)
	changes, last := 0, image.Pt(640, 480)
	var q quality
	for range 5 * 60 {
		// Coding the full picture takes 1.2 times the time there is, others in proportion.
		load := 1.2 * float64(last.X*last.Y) / (640 * 480)
		q = g.update(2_000_000, 32_000, load, now)
		now = now.Add(rateEvery)
		if q.size != last {
			changes++
			last = q.size
		}
	}
	if q.size != image.Pt(480, 360) || changes != 1 {
		t.Errorf("%+v after %d changes, want 480×360 after one", q, changes)
	}
	for range 5 * 20 {
		q = g.update(2_000_000, 32_000, 0.2, now)
		now = now.Add(rateEvery)
	}
	if q.size != image.Pt(640, 480) {
		t.Errorf("%+v with an idle processor", q)
	}
}

func TestSlotKeepsTheNewest(t *testing.T) {
	s := newSlot()
	var released []int
	for i := range 3 {
		s.put(picture{release: func() { released = append(released, i) }, at: time.Unix(int64(i), 0)})
	}
	p, ok := s.take()
	if !ok || p.at != time.Unix(2, 0) {
		t.Fatalf("took %v", p.at)
	}
	p.release()
	s.empty()
	if len(released) != 3 || released[0] != 0 || s.dropped.Load() != 2 {
		t.Errorf("released %v, dropped %d", released, s.dropped.Load())
	}
	if _, ok := s.take(); ok {
		t.Error("a picture was taken twice")
	}
}

func TestFarVideoQueue(t *testing.T) {
	v := newFarVideo()
	delta, key := peer.VideoFrame{Data: []byte{1, 2}}, peer.VideoFrame{Data: []byte{0, 9}, Keyframe: true}
	if v.put(delta) {
		t.Error("began without a keyframe")
	}
	if !v.put(key) || !v.put(delta) {
		t.Error("a frame was refused")
	}
	a, _ := v.take()
	if a[1] != 9 {
		t.Errorf("took %v", a)
	}
	b, _ := v.take()
	if b[1] != 2 {
		t.Errorf("took %v", b)
	}
	for range farQueue {
		v.put(delta)
	}
	if v.put(delta) || v.put(delta) {
		t.Error("went on after frames were dropped")
	}
	if _, ok := v.take(); ok {
		t.Error("old frames are decoded though a keyframe is needed")
	}
	if !v.put(key) {
		t.Error("the keyframe was refused")
	}
}
