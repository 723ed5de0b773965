// Package jittertest has a line that delays, loses and reorders packets of speech in simulated time. The same seed gives the same line. Tests and
// the benchmarks use it.
package jittertest

import (
	"fmt"
	"slices"
	"time"

	"vindu/media/codec"
	"vindu/media/jitter"
	"vindu/media/sound"
)

const (
	packetTime = 20 * time.Millisecond
	frameTime  = 10 * time.Millisecond
)

// Line is the way from the far end. The zero Line is perfect.
type Line struct {
	Loss float64 // of all packets, each for itself
	// Each packet takes Delay, and up to Spread less or more, all equally likely: more than half a packet's time reorders.
	Delay, Spread time.Duration
	// Fast is by how much the far end's clock is fast: 0.0002 is 200 ppm.
	Fast float64
	Seed uint32
}

// Result is how a line was heard.
type Result struct {
	Gaps     []time.Duration // by length
	Mean     time.Duration   // of what waited
	Most     time.Duration
	Shortest time.Duration
	Stats    jitter.Stats
}

// Gap returns the gap than which a part of them (0.99) is not longer.
func (r Result) Gap(part float64) time.Duration {
	if len(r.Gaps) == 0 {
		return 0
	}
	return r.Gaps[int(float64(len(r.Gaps)-1)*part)]
}

// Code codes speech for a line that loses so much: a packet holds 20 ms, and a copy of the one before.
func Code(voice func(frame []int16), packets int, loss float64, dtx bool) ([][]byte, error) {
	e, err := codec.NewOpusEncoder(codec.OpusConfig{DTX: dtx})
	if err != nil {
		return nil, err
	}
	defer e.Close()
	e.SetLoss(int(loss * 100))
	var coded [][]byte
	var pcm [2 * sound.FrameSamples]int16
	for range packets {
		voice(pcm[:])
		p, err := e.Encode(pcm[:])
		if err != nil {
			return nil, fmt.Errorf("code speech: %w", err)
		}
		coded = append(coded, slices.Clone(p))
	}
	return coded, nil
}

// Play sends packets, over and over, through the line for so long, and hands what b makes of it to hear, which may be nil. Packets of two bytes and
// fewer are not sent, but for the first of a row (DTX).
func (l Line) Play(b *jitter.Buffer, coded [][]byte, long time.Duration, hear func(frame []int16)) Result {
	random := l.Seed*2654435761 + 1
	next := func() float64 { // 0…1
		random ^= random << 13
		random ^= random >> 17
		random ^= random << 5
		return float64(random) / (1 << 32)
	}
	type packet struct {
		at  time.Duration
		ts  uint32
		seq uint16
		i   int
	}
	var way []packet // by arrival
	start := time.Unix(1000, 0)
	b.Start(start)
	r := Result{Shortest: time.Hour}
	var frame [sound.FrameSamples]int16
	var sum time.Duration
	sent, seq, before := 0, uint16(65000), 0
	const settled = time.Second
	for now := time.Duration(0); now < long; now += frameTime {
		for {
			leaves := time.Duration(float64(sent) * float64(packetTime) / (1 + l.Fast))
			if leaves > now {
				break
			}
			i := sent % len(coded)
			if size := len(coded[i]); size > 2 || before > 2 {
				at := leaves + l.Delay + time.Duration((2*next()-1)*float64(l.Spread))
				if next() >= l.Loss {
					k, _ := slices.BinarySearchFunc(way, at, func(p packet, at time.Duration) int { return int(p.at - at) })
					way = slices.Insert(way, k, packet{at, uint32(sent) * 960, seq, i})
				}
				seq++
			}
			before = len(coded[i])
			sent++
		}
		for len(way) > 0 && way[0].at <= now {
			p := way[0]
			way = way[1:]
			b.Push(jitter.Packet{Data: coded[p.i], Seq: p.seq, Timestamp: p.ts}, start.Add(p.at))
		}
		old := b.Stats()
		b.Pull(frame[:], start.Add(now))
		s := b.Stats()
		if hear != nil {
			hear(frame[:])
		}
		if now < settled {
			continue
		}
		if s.Gaps > old.Gaps {
			r.Gaps = append(r.Gaps, s.Gap-old.Gap)
		}
		sum += s.Delay
		r.Most, r.Shortest = max(r.Most, s.Delay), min(r.Shortest, s.Delay)
	}
	slices.Sort(r.Gaps)
	r.Mean = sum / max((long-settled)/frameTime, 1)
	r.Stats = b.Stats()
	return r
}
