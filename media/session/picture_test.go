package session

import (
	"image"
	"math"
	"testing"
	"time"

	"vindu/media/peer"
)

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

// Where there is no room for a picture none is sent, and it comes back by itself; each time that was too early it waits longer.
func TestGovernorPausesThePicture(t *testing.T) {
	now := time.Unix(1000, 0)
	g := newGovernor(image.Pt(640, 480), 30, 500_000, 1_400_000, 32_000)
	// until runs it until the picture is paused, or is not, and returns how long that took.
	until := func(target int, paused bool) time.Duration {
		began := now
		for now.Sub(began) < 2*time.Minute {
			q := g.update(target, soundBitrate(32_000, target), 0.1, now)
			now = now.Add(rateEvery)
			if q.paused == paused {
				break
			}
		}
		return now.Sub(began)
	}
	if d := until(80_000, true); d < pauseAfter || d > pauseAfter+time.Second {
		t.Errorf("paused after %v", d)
	}
	// In between is neither.
	for range 100 {
		if q := g.update(100_000, soundBitrate(32_000, 100_000), 0.1, now); !q.paused {
			t.Fatal("the picture is back on a line that is too weak")
		}
		now = now.Add(rateEvery)
	}
	want := resumeFirst
	for i := range 6 {
		if d := until(160_000, false); d < want || d > want+time.Second {
			t.Errorf("back after %v the time number %d, want %v", d, i+1, want)
		}
		q := g.update(160_000, 32_000, 0.1, now)
		if q.size != image.Pt(320, 240) || q.fps > 8 {
			t.Errorf("it comes back as %+v", q)
		}
		if d := until(80_000, true); d > 3*pauseAfter {
			t.Errorf("paused again after %v", d)
		}
		want = min(2*want, resumeLast)
	}
	// A picture that lasted makes it patient no longer.
	until(160_000, false)
	for range int(resumeGood/rateEvery) + 1 {
		g.update(200_000, 32_000, 0.1, now)
		now = now.Add(rateEvery)
	}
	until(80_000, true)
	if d := until(160_000, false); d > resumeFirst+time.Second {
		t.Errorf("back after %v", d)
	}
	// A moment is no reason.
	for i := range 100 {
		target := 300_000
		if i%10 < 5 {
			target = 80_000
		}
		if g.update(target, soundBitrate(32_000, target), 0.1, now).paused {
			t.Fatal("paused for a moment")
		}
		now = now.Add(rateEvery)
	}
}

// A picture whose encoder drops pictures becomes smaller, and is tried larger again: after a minute, then after two.
func TestGovernorSimplifiesWhatIsTooRich(t *testing.T) {
	now := time.Unix(1000, 0)
	g := newGovernor(image.Pt(640, 480), 30, 500_000, 1_400_000, 32_000)
	full := image.Pt(640, 480)
	// until runs it until the picture has the size, and returns how long that took. The full picture loses a share of its pictures.
	until := func(size image.Point, target int, share float64) time.Duration {
		began := now
		for now.Sub(began) < 15*time.Minute {
			q := g.update(target, 32_000, 0.1, now)
			if q.size == size {
				break
			}
			for i := range 6 {
				g.coded(q.size == full && float64(i) < 6*share)
			}
			now = now.Add(rateEvery)
		}
		return now.Sub(began)
	}
	small := image.Pt(480, 360)
	if d := until(small, 500_000, 0); d < 15*time.Minute {
		t.Fatalf("smaller after %v for nothing", d)
	}
	if d := until(small, 500_000, 0.2); d < dropsFall || d > 2*dropsFall {
		t.Errorf("a fifth is dropped: smaller after %v", d)
	}
	if d := until(full, 500_000, 0); d < dropsFirst-time.Second || d > dropsFirst+time.Second {
		t.Errorf("tried again after %v, want %v", d, dropsFirst)
	}
	if d := until(small, 500_000, 0.5); d > dropsFall {
		t.Errorf("half is dropped: smaller after %v", d)
	}
	if d := until(full, 500_000, 0); d < 2*dropsFirst-time.Second || d > 2*dropsFirst+time.Second {
		t.Errorf("tried again after %v, want %v", d, 2*dropsFirst)
	}
	until(small, 500_000, 0.5)
	if d := until(full, 1_500_000, 0); d > 10*time.Second {
		t.Errorf("with three times as much to send tried again after %v", d)
	}
}

// What sound does not send the picture may, as far as the line has room for both; what is lost is sent again.
func TestUsable(t *testing.T) {
	for _, tt := range []struct {
		name        string
		target      int
		sends, lost float64
		want        int
	}{
		{"sound sends what it may", 500_000, 57_600, 0, 500_000},
		{"more", 500_000, 80_000, 0, 500_000},
		{"a little less", 500_000, 47_600, 0, 510_000},
		{"nothing", 500_000, 0, 0, 530_000},
		{"nothing, on a weak line", 100_000, 0, 0, 106_000},
		{"a tenth is lost", 500_000, 57_600, 0.1, 450_000},
		{"most is lost", 500_000, 57_600, 0.9, 375_000},
	} {
		if got := usable(tt.target, 32_000, tt.sends, tt.lost); got != tt.want {
			t.Errorf("%s: %d, want %d", tt.name, got, tt.want)
		}
	}
}

// A share is what leaves with the packets' heads: pictures of a size that needs packets of every length.
func TestShareCountsHeads(t *testing.T) {
	for target := 150_000; target <= 1_500_000; target += 50_000 {
		g := newGovernor(image.Pt(640, 480), 30, target, 1_400_000, 32_000)
		video := g.share(target, 32_000)
		fps := g.quality().fps
		all := 32_000.0 + soundRate*packetHead
		const pictures = 1000
		for i := range pictures {
			bits := video / fps * (0.5 + float64(i)/pictures)
			packets := math.Ceil(bits / packetBits)
			all += (bits + packets*pictureHead) * fps / pictures
		}
		if all > 1.02*float64(target) || all < 0.96*float64(target) {
			t.Errorf("%.0f bit/s leave of %d", all, target)
		}
	}
}

// A rate that is a little off is not worth telling the encoder.
func TestGovernorKeepsItsRate(t *testing.T) {
	now := time.Unix(1000, 0)
	g := newGovernor(image.Pt(640, 480), 30, 500_000, 1_400_000, 32_000)
	changes, last := 0, 0
	for i := range 500 {
		q := g.update(500_000+6_000*(i%3-1), 32_000, 0.1, now)
		now = now.Add(rateEvery)
		if i > 50 && q.bitrate != last {
			changes++
		}
		last = q.bitrate
	}
	if changes > 2 || last < 390_000 {
		t.Errorf("%d changes, and %d bit/s in the end", changes, last)
	}
}

// Sound has its share of whatever there is.
func TestSoundHasItsShare(t *testing.T) {
	for target, want := range map[int]int{1_500_000: 32_000, 96_000: 32_000, 80_000: 26_666, 60_000: 20_000, 10_000: 12_000} {
		if got := soundBitrate(32_000, target); got != want {
			t.Errorf("%d of %d, want %d", got, target, want)
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
	a, _, _ := v.take()
	if a[1] != 9 {
		t.Errorf("took %v", a)
	}
	b, _, _ := v.take()
	if b[1] != 2 {
		t.Errorf("took %v", b)
	}
	for range farQueue {
		v.put(delta)
	}
	if v.put(delta) || v.put(delta) {
		t.Error("went on after frames were dropped")
	}
	if _, _, ok := v.take(); ok {
		t.Error("old frames are decoded though a keyframe is needed")
	}
	if !v.put(key) {
		t.Error("the keyframe was refused")
	}
}
