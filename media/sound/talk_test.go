package sound

import (
	"math"
	"testing"
)

// hum is a frame's share of a tone that goes on.
func hum(frame []int16, n int, hz, level float64) {
	for i := range frame {
		frame[i] = int16(level * math.MaxInt16 * math.Sin(2*math.Pi*hz*float64(n*FrameSamples+i)/Rate))
	}
}

// speechLike is half a second that begins and ends softly.
func speechLike() []int16 {
	out := make([]int16, Rate/2)
	for i := range out {
		soft := min(float64(i), float64(len(out)-1-i), 480) / 480
		out[i] = int16(0.3 * math.MaxInt16 * soft * math.Sin(2*math.Pi*725*float64(i)/Rate))
	}
	return out
}

// levelOf is how much of a frequency is in some sound, as an amplitude of full scale.
func levelOf(samples []int16, hz float64) float64 {
	re, im := 0.0, 0.0
	for i, v := range samples {
		s, c := math.Sincos(2 * math.Pi * hz * float64(i) / Rate)
		re, im = re+float64(v)*c, im+float64(v)*s
	}
	return 2 * math.Hypot(re, im) / float64(len(samples)) / math.MaxInt16
}

// mixed runs a second and a half of a tone through a Talk that says something after 100 ms. at may do something before a frame.
func mixed(talk *Talk, at func(n int)) []int16 {
	var all []int16
	for n := range 150 {
		if at != nil {
			at(n)
		}
		frame := make([]int16, FrameSamples)
		hum(frame, n, 300, 0.2)
		talk.Mix(frame)
		all = append(all, frame...)
	}
	return all
}

func steepest(samples []int16) int {
	most := 0
	for i := 1; i < len(samples); i++ {
		d := int(samples[i]) - int(samples[i-1])
		most = max(most, d, -d)
	}
	return most
}

// TestTalk: what is said is heard whole above the rest, which is 12 dB softer meanwhile and comes back; nothing jumps.
func TestTalk(t *testing.T) {
	var talk Talk
	var said *Said
	all := mixed(&talk, func(n int) {
		if n == 10 {
			said = talk.Say(speechLike(), 0)
		}
	})
	<-said.Done()
	if !said.Whole() || talk.Busy() {
		t.Error("not said to its end")
	}
	before, during, after := all[:4800], all[12000:24000], all[len(all)-4800:]
	if l := levelOf(before, 300); math.Abs(l-0.2) > 0.005 {
		t.Errorf("before, the rest is at %.3f", l)
	}
	if far, speech := levelOf(during, 300), levelOf(during, 725); math.Abs(far-0.05) > 0.005 || math.Abs(speech-0.3) > 0.01 {
		t.Errorf("during, the rest is at %.3f and speech at %.3f", far, speech)
	}
	if l := levelOf(after, 300); math.Abs(l-0.2) > 0.005 {
		t.Errorf("after, the rest is at %.3f", l)
	}
	if s := steepest(all); s > 1300 { // 725 Hz at 0.3 has 930
		t.Errorf("a step of %d", s)
	}
}

// TestTalkCut: what is cut falls silent within 30 ms without a click, what waits is not said, and what comes after is.
func TestTalkCut(t *testing.T) {
	var talk Talk
	var one, two, three *Said
	var said []int16
	for n := range 100 {
		switch n {
		case 0:
			one, two, three = talk.Say(speechLike(), 0), talk.Say(speechLike(), 0), talk.Say(speechLike()[:4800], 0)
		case 20:
			talk.Cut(two)
			talk.Cut(one)
			talk.Cut(one)
		}
		frame := make([]int16, FrameSamples)
		talk.Mix(frame)
		said = append(said, frame...)
	}
	for _, s := range []*Said{one, two, three} {
		<-s.Done()
	}
	if one.Whole() || two.Whole() || !three.Whole() || talk.Busy() {
		t.Error("who was cut?")
	}
	if s := steepest(said[:24*FrameSamples]); s > 1000 {
		t.Errorf("a step of %d", s)
	}
	talk.Cut(one) // is over
	if l := levelOf(said[40*FrameSamples:], 725); l > 0.001 {
		t.Errorf("something is said after the end: %.3f", l)
	}
}

// TestTalkHold: what is interrupted because the loudspeaker changes hands is said from its beginning when there is another; what is dropped is not.
func TestTalkHold(t *testing.T) {
	for _, drained := range []int{0, 1, 5} {
		var talk Talk
		frame := make([]int16, FrameSamples)
		s := talk.Say(speechLike(), 0)
		play := func(frames int) (all []int16) {
			for range frames {
				clear(frame)
				talk.Mix(frame)
				all = append(all, frame...)
			}
			return all
		}
		play(20)
		talk.Hold()
		talk.Hold()
		if rest := play(drained); drained > 2 && levelOf(rest[2*FrameSamples:], 725) > 0 {
			t.Error("it is said while the loudspeaker is given away")
		}
		if !talk.Busy() {
			t.Error("it is forgotten")
		}
		talk.Go()
		all := play(70)
		<-s.Done()
		if l := levelOf(all[FrameSamples*10:FrameSamples*40], 725); !s.Whole() || math.Abs(l-0.3) > 0.01 {
			t.Errorf("after %d frames: said again at %.3f, to its end %v", drained, l, s.Whole())
		}
	}
	var talk Talk
	one, two := talk.Say(speechLike(), 0), talk.Say(speechLike(), 0)
	talk.Drop()
	<-one.Done()
	<-two.Done()
	if one.Whole() || talk.Busy() {
		t.Error("it is not dropped")
	}
}

// TestTalkNeverClips: speech at the loudest volume over the loudest call.
func TestTalkNeverClips(t *testing.T) {
	var talk Talk
	talk.Say(speechLike(), 100)
	var all []int16
	for n := range 60 {
		frame := make([]int16, FrameSamples)
		hum(frame, n, 300, 1)
		talk.Mix(frame)
		all = append(all, frame...)
	}
	for i := 1; i < len(all); i++ {
		if (all[i] > 20000) && (all[i-1] < -20000) {
			t.Fatal("it wraps around")
		}
	}
	if s := steepest(all); s > 5000 {
		t.Errorf("a step of %d", s)
	}
}

func TestTalkAllocatesNothing(t *testing.T) {
	var talk Talk
	samples := make([]int16, 10*Rate)
	talk.Say(samples, 80)
	frame := make([]int16, FrameSamples)
	if n := testing.AllocsPerRun(500, func() { talk.Mix(frame) }); n > 0 {
		t.Errorf("%.1f allocations for a frame", n)
	}
}
