package session

import (
	"image"
	"math"
	"time"
)

// quality is what the near picture is sent as.
type quality struct {
	bitrate int // video, bit/s
	size    image.Point
	fps     float64
	paused  bool // no picture is sent: sound needs what there is
}

// step is one rung of the ladder: part of the full size, share of the full frame rate, and the least bitrate, for 640×480,
// at which it looks better than the rung below.
type step struct {
	num, den int
	fps      float64
	least    float64
}

var ladder = [...]step{
	{1, 1, 1, 240_000},
	{3, 4, 1, 150_000},
	{1, 2, 1, 90_000},
	{1, 2, 0.5, 50_000},
	{1, 2, 0.25, 0},
}

const (
	// packetHead is what a packet takes on the line besides its payload: IPv4 and UDP, RTP's header with one extension, SRTP's tag. packetBits is what a
	// packet of the picture holds at most, and pictureHead what it takes besides.
	packetHead  = (28 + 12 + 8 + 16) * 8
	packetBits  = 1146 * 8
	pictureHead = packetHead + 4*8
	soundRate   = 50 // packets a second
	spareShare  = 0.06
	startShare  = 0.8 // of the first estimate, that nothing is known of, is what the picture begins with: its keyframe is much at once

	climbRoom  = 1.25 // a rung is climbed when there is this much more than it needs
	climbAfter = 4 * time.Second
	fallAfter  = 400 * time.Millisecond
	growth     = 0.20 // of the encoder's target, each second
	slack      = 0.04 // changes smaller than this are not worth telling the encoder

	// Less than pauseBelow for pauseAfter, and the picture is left out; it comes back when there has been resumeAbove for some time, which
	// doubles each time that was too early.
	pauseBelow  = 30_000
	resumeAbove = 45_000
	pauseAfter  = 2 * time.Second
	resumeFirst = 4 * time.Second
	resumeLast  = 60 * time.Second
	resumeGood  = 20 * time.Second // a picture that lasts this long did not come back too early

	// The processor: coding may take this share of the time between two pictures. Beyond it the picture becomes smaller, however wide
	// the line is; when it takes little for long, larger again.
	loadHigh, loadLow = 0.8, 0.35
	loadFall          = 2 * time.Second
	loadClimb         = 15 * time.Second

	// A picture that is too rich for its bitrate has the encoder drop pictures. More than dropsHigh of them for dropsFall, or dropsMuch, and it becomes
	// smaller; it is tried larger after dropsFirst, each time that was in vain twice as late, or when there is more to send, by dropsRoom,
	// than it would have taken.
	dropsHigh  = 0.12
	dropsMuch  = 0.3
	dropsOver  = 30 // pictures, about, over which drops are counted
	dropsFall  = 2500 * time.Millisecond
	dropsFirst = time.Minute
	dropsLast  = 10 * time.Minute
	dropsRoom  = 1.3
)

// governor turns the bandwidth estimate, and the time that coding takes, into bitrate, size and frame rate of the picture. It
// falls at once and climbs slowly, so that swings do not show.
type governor struct {
	full image.Point
	fps  float64
	max  int

	rung   int
	rate   float64
	rising bool // the rate is on its way up
	last   time.Time
	since  time.Time // since when the rung is wrong
	wrong  int       // −1 too low for it, +1 enough for the one above

	floor     int // the largest picture that the processor can code
	loadSince time.Time
	loadWrong int

	drops        float64   // share of the pictures that the encoder dropped lately
	dropsSince   time.Time // since when they are too many; zero if they are not
	rich         int       // the largest picture that the encoder can code without
	richSince    time.Time
	richRate     float64
	richPatience time.Duration

	paused   bool
	turning  time.Time     // since when the line is too weak for a picture, or good enough for one again; zero if it is as it was
	resumed  time.Time     // when the picture came back last
	patience time.Duration // how long the line has to be good before it does
}

func newGovernor(full image.Point, fps float64, start, limit, audio int) *governor {
	g := &governor{full: full, fps: fps, max: limit, patience: resumeFirst, richPatience: dropsFirst}
	g.rate = startShare * g.share(start, audio)
	for g.rung < len(ladder)-1 && g.rate < g.least(g.rung) {
		g.rung++
	}
	return g
}

// share is what the picture gets of target, bit/s: what sound leaves, without the packets' heads. A picture's packets are half a packet more, on
// average, than its bytes fill.
func (g *governor) share(target, audio int) float64 {
	fps := g.quality().fps
	rest := float64(target-audio-soundRate*packetHead) - fps/2*pictureHead
	return max(rest/(1+float64(pictureHead)/packetBits), 20_000)
}

// usable is what of target picture and sound may use: lost packets of the picture are sent again; and what sound has but does not send while nobody
// speaks is the picture's, as far as there is room on the line for both until the picture gives it back.
func usable(target, audio int, sends, lost float64) int {
	spare := float64(audio+soundRate*packetHead) - sends
	return int(float64(target)*(1-min(lost, 0.25)) + min(max(spare, 0), spareShare*float64(target)))
}

// least is what rung i needs at the full size: detail grows more slowly than area.
func (g *governor) least(i int) float64 {
	return ladder[i].least * math.Pow(float64(g.full.X*g.full.Y)/(640*480), 0.75)
}

// update takes the estimate of all that can be sent, what sound takes, and the share of the time that coding takes.
func (g *governor) update(target, audio int, load float64, now time.Time) quality {
	want := min(g.share(target, audio), float64(g.max))
	if g.last.IsZero() {
		g.last = now
	}
	dt := now.Sub(g.last).Seconds()
	g.last = now
	switch {
	case want < g.rate*(1-slack):
		g.rate = want
	case want > g.rate*(1+slack/2):
		g.rising = true
	}
	if g.rising && want > g.rate {
		g.rate = min(want, g.rate*(1+growth*min(dt, 1))+1)
		g.rising = g.rate < want
	}
	g.pause(want, now)
	g.climb(now)
	if !g.paused {
		g.ease(load, now)
		g.simplify(now)
	}
	return g.quality()
}

// pause leaves the picture out, and brings it back.
func (g *governor) pause(want float64, now time.Time) {
	turns, after := want < pauseBelow, pauseAfter
	if g.paused {
		turns, after = want >= resumeAbove, g.patience
	}
	switch {
	case !turns:
		g.turning = time.Time{}
		return
	case g.turning.IsZero():
		g.turning = now
	}
	if now.Sub(g.turning) < after {
		return
	}
	g.paused, g.turning = !g.paused, time.Time{}
	switch {
	case !g.paused:
		g.resumed = now
		g.rung, g.wrong = len(ladder)-1, 0
	case !g.resumed.IsZero() && now.Sub(g.resumed) < resumeGood:
		g.patience = min(2*g.patience, resumeLast)
	default:
		g.patience = resumeFirst
	}
}

// coded counts a picture that the encoder has coded, or dropped.
func (g *governor) coded(dropped bool) {
	if dropped {
		g.drops += (1 - g.drops) / dropsOver
	} else {
		g.drops -= g.drops / dropsOver
	}
}

// simplify follows the pictures that the encoder drops.
func (g *governor) simplify(now time.Time) {
	at := max(g.rung, g.floor, g.rich)
	switch {
	case g.drops <= dropsHigh:
		g.dropsSince = time.Time{}
	case g.dropsSince.IsZero():
		g.dropsSince = now
	case (g.drops >= dropsMuch || now.Sub(g.dropsSince) >= dropsFall) && at < len(ladder)-1:
		if !g.richSince.IsZero() && now.Sub(g.richSince) < dropsFall*4 {
			g.richPatience = min(2*g.richPatience, dropsLast)
		}
		g.rich, g.richSince, g.richRate = at+1, now, g.rate/(1-g.drops)
		g.drops, g.dropsSince = 0, time.Time{}
	}
	if g.rich > 0 && (now.Sub(g.richSince) >= g.richPatience || g.rate > dropsRoom*g.richRate) {
		g.rich, g.richSince, g.richRate = g.rich-1, now, g.rate
		g.drops, g.dropsSince = 0, time.Time{}
	}
}

// ease follows the processor's load.
func (g *governor) ease(load float64, now time.Time) {
	wrong := 0
	switch {
	case load > loadHigh:
		wrong = -1
	case load < loadLow && g.floor > 0:
		wrong = 1
	}
	if wrong != g.loadWrong {
		g.loadWrong, g.loadSince = wrong, now
	}
	at := max(g.rung, g.floor, g.rich)
	switch {
	case wrong < 0 && now.Sub(g.loadSince) >= loadFall && at < len(ladder)-1:
		g.floor, g.loadWrong = at+1, 0
	case wrong > 0 && now.Sub(g.loadSince) >= loadClimb:
		g.floor, g.loadWrong = g.floor-1, 0
	}
}

func (g *governor) climb(now time.Time) {
	wrong := 0
	switch {
	case g.rate < g.least(g.rung):
		wrong = -1
	case g.rung > 0 && g.rate > climbRoom*g.least(g.rung-1):
		wrong = 1
	}
	if wrong != g.wrong {
		g.wrong, g.since = wrong, now
	}
	switch {
	case wrong < 0 && now.Sub(g.since) >= fallAfter && g.rung < len(ladder)-1:
		g.rung++
		g.wrong = 0
	case wrong > 0 && now.Sub(g.since) >= climbAfter:
		g.rung--
		g.wrong = 0
	}
}

func (g *governor) quality() quality {
	s := ladder[max(g.rung, g.floor, g.rich)]
	return quality{
		bitrate: int(g.rate),
		size:    image.Pt(max(g.full.X*s.num/s.den&^1, 16), max(g.full.Y*s.num/s.den&^1, 16)),
		fps:     max(g.fps*s.fps, min(g.fps, 5)),
		paused:  g.paused,
	}
}
