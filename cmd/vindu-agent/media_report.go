package main

import (
	"math"
	"time"

	"vindu/device/call"
	"vindu/media/session"
	"vindu/protocol"
)

// Report implements call.Session.
func (s *mediaSession) Report() call.Report {
	st := s.inner.Stats()
	c := st.Connection
	rtt := c.RTT
	if st.Call.Seconds > 0 {
		rtt = st.Call.RTT
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	r := call.Report{
		Crypto:    protocol.Crypto{Suite: c.Suite, SRTP: c.SRTPProfile, Local: c.Fingerprint, Remote: c.FarFingerprint},
		LocalPath: c.LocalKind, RemotePath: c.RemoteKind, Camera: s.cameraKind, Sound: s.soundKind,
		Quality: protocol.Quality{
			RTT: ms(rtt), Jitter: ms(c.AudioIn.Jitter), PacketsLost: c.VideoIn.Lost + c.AudioIn.Lost,
			PacketsReceived: c.VideoIn.Packets + c.AudioIn.Packets, FramesSent: st.Near.Encoded, FramesDecoded: st.Far.Frames,
			Freezes: st.Far.Freezes, Concealed: st.Sound.Concealed * 10, BytesSent: c.VideoOut.Bytes + c.AudioOut.Bytes,
			BytesReceived: c.VideoIn.Bytes + c.AudioIn.Bytes,
			Frozen:        ms(st.Far.Frozen), Grade: graded(st.Call.Grade), Worst: graded(st.Call.Worst), ERLE: within(st.Call.ERLE, protocol.MostERLE),
			CPU: within(1000*st.Call.CPU, protocol.MostCPU), Heat: within(st.Call.Heat, protocol.MostHeat),
		},
	}
	for _, t := range []call.Stage{
		{Name: "ice", At: st.Times.Path}, {Name: "dtls", At: st.Times.Connected}, {Name: "camera", At: st.Times.CameraOpen},
		{Name: "sound", At: st.Times.SoundOpen}, {Name: "sending", At: st.Times.Sending}, {Name: "heard", At: st.Times.FarSound},
	} {
		if !t.At.IsZero() {
			r.Stages = append(r.Stages, t)
		}
	}
	if st.Times.Path.IsZero() {
		for _, p := range s.inner.Tried() {
			pair := protocol.Pair{Local: protocol.PathEnd(p.Local), Remote: protocol.PathEnd(p.Remote), State: p.State, Asked: p.Asked, Answered: p.Answered, Heard: p.Heard}
			if pair.Valid() && len(r.Pairs) < protocol.MaxPairs {
				r.Pairs = append(r.Pairs, pair)
			}
		}
	}
	if st.Near.Encoded > 0 {
		r.Quality.CodecOut = st.Near.Codec.String()
	}
	if st.Far.Frames > 0 {
		r.Quality.CodecIn = st.Far.Codec.String()
	}
	r.Series = s.quality.Series()
	return r
}

// graded is a mean opinion score in hundredths, 0 if there is none.
func graded(mos float64) uint64 {
	if mos == 0 {
		return 0
	}
	return min(max(within(100*mos, protocol.MostGrade), protocol.LeastGrade), protocol.MostGrade)
}

// within rounds v to what a record can hold.
func within(v float64, most uint64) uint64 {
	if !(v > 0) { // nor what is no number
		return 0
	}
	return uint64(min(math.Round(v), float64(most)))
}

// sample adds the second since before to the series of the quality, once there is a connection, and returns the numbers now.
func (s *mediaSession) sample(before session.Stats) session.Stats {
	st := s.inner.Stats()
	drawn := s.veiled.Load()
	skip := drawn || s.wasVeiled // a second in part behind a curtain says as little of the line as a whole one
	if s.wasVeiled = drawn; skip || before.Times.Connected.IsZero() {
		return st
	}
	now, was := st.Connection, before.Connection
	since := func(now, was uint64) uint64 { return now - min(now, was) }
	lost := since(now.VideoIn.Lost+now.AudioIn.Lost, was.VideoIn.Lost+was.AudioIn.Lost)
	due := lost + since(now.VideoIn.Packets+now.AudioIn.Packets, was.VideoIn.Packets+was.AudioIn.Packets)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.quality.Add(protocol.Sample{
		RTT: ms(now.RTT), Loss: 1000 * lost / max(due, 1), Jitter: ms(now.AudioIn.Jitter),
		Out:    since(now.VideoOut.Bytes+now.AudioOut.Bytes, was.VideoOut.Bytes+was.AudioOut.Bytes) / 125,
		In:     since(now.VideoIn.Bytes+now.AudioIn.Bytes, was.VideoIn.Bytes+was.AudioIn.Bytes) / 125,
		Frames: since(st.Far.Frames, before.Far.Frames),
		Frozen: within(1000*st.Second.FrozenFor, 1000), Concealed: within(1000*st.Second.Concealed, 1000), Grade: graded(st.Second.Grade),
		ERLE: within(st.Second.ERLE, protocol.MostERLE), CPU: within(1000*st.Second.CPU, protocol.MostCPU), Heat: within(st.Second.Heat, protocol.MostHeat),
	})
	return st
}

func ms(d time.Duration) uint64 { return uint64(max(d, 0).Milliseconds()) }

func oneDecimal(v float64) float64 { return math.Round(v*10) / 10 }
