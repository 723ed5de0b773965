package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"vindu/media/camera"
	"vindu/media/jitter"
	"vindu/media/peer"
	"vindu/media/peer/peertest"
	"vindu/media/session"
	"vindu/media/sound"
)

// lineRows measures the terminal's media on bad lines, in real time on this machine: a call with a far end in Go, over a relay that does to
// packets what the line would.
func lineRows(ctx context.Context) []row {
	rows := bottleneck(ctx)
	for _, l := range []struct {
		loss, goal float64
	}{{0.1, 0.99}, {0.2, 0.98}, {0.3, 0.95}} {
		rows = append(rows, setUp(ctx, l.loss, l.goal, 100))
	}
	return rows
}

// speaker is a sound card before which somebody speaks without a pause.
type speaker struct {
	sound.Device
	voice *sound.Voice
}

func (s *speaker) Read(frame []int16) error {
	if err := s.Device.Read(frame); err != nil {
		return err
	}
	s.voice.Fill(frame)
	return nil
}

// wired is a call over a line.
type wired struct {
	line    *peertest.Line
	caller  *peertest.Caller
	session *session.Session
	reached map[session.Kind]chan struct{}
	done    chan struct{}
}

// overLine makes one, as far as that both ends know of each other.
func overLine(ctx context.Context, z size, way peertest.Way, opt peertest.Options) (*wired, error) {
	back := way
	back.Seed++
	line, err := peertest.NewLine(way, back)
	if err != nil {
		return nil, err
	}
	opt.Line = line
	caller, offer, err := peertest.New(opt)
	if err != nil {
		line.Close()
		return nil, err
	}
	w := &wired{line: line, caller: caller, done: make(chan struct{}), reached: map[session.Kind]chan struct{}{}}
	for _, k := range []session.Kind{session.Connected, session.FarVideo, session.Failed} {
		w.reached[k] = make(chan struct{})
	}
	f := session.NewFactory(session.Config{
		Width: z.width, Height: z.height, FPS: float64(z.fps), MaxBitrate: z.bitrate,
		IncludeLoopback: true, Interfaces: func(name string) bool { return name == "lo" },
	}, session.Devices{
		OpenCamera: func(context.Context) (session.Camera, error) {
			return camera.TestPicture(camera.Config{Width: z.width, Height: z.height, FPS: z.fps}), nil
		},
		OpenSound: func(context.Context) (session.Sound, error) {
			return &speaker{sound.TestSound(nil), sound.NewVoice()}, nil
		},
	}, nil)
	w.session, err = f.Prepare(ctx, session.Offer{SDP: peer.SDP(peertest.Strip(offer))})
	if err == nil {
		err = caller.Answer(string(w.session.AnswerSDP()))
	}
	if err != nil {
		return nil, errors.Join(err, caller.Close())
	}
	go w.follow(ctx)
	return w, nil
}

// follow runs the session and carries candidates, until it ends.
func (w *wired) follow(ctx context.Context) {
	defer close(w.done)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = w.session.Run(ctx)
	}()
	for {
		select {
		case e := <-w.session.Events():
			if e.Kind == session.LocalCandidate {
				_ = w.caller.AddCandidate(e.Candidate.Candidate)
			}
			if c, ok := w.reached[e.Kind]; ok {
				select {
				case <-c:
				default:
					close(c)
				}
			}
		case c := <-w.caller.Candidates:
			_ = w.session.AddCandidate(c.Candidate, "", 0)
		case <-ended:
			return
		}
	}
}

func (w *wired) close() {
	w.session.Close(context.Background())
	<-w.done
	_ = w.caller.Close()
	w.line.Close()
}

// bottleneck is a call of 20 s over 500 kbit/s.
func bottleneck(ctx context.Context) []row {
	const rate, length, settled = 500_000, 20 * time.Second, 5 * time.Second
	used := row{Name: "500 kbit/s for 20 s: used after 5 s", Unit: "%", Goal: "85–95"}
	swing := row{Name: "500 kbit/s for 20 s: least and most of a second, beside the mean", Unit: "%", Goal: "≤ 10"}
	made := row{Name: "500 kbit/s for 20 s: sound made up", Unit: "%", Goal: "≤ 1"}
	frozen := row{Name: "500 kbit/s for 20 s: longest time without a new picture", Unit: "ms", Goal: "≤ 1000"}
	fail := func(err error) []row {
		return []row{used.failed(err), swing.failed(err), made.failed(err), frozen.failed(err)}
	}
	late, err := jitter.New()
	if err != nil {
		return fail(err)
	}
	defer late.Close()
	var mu sync.Mutex
	var last time.Time
	var longest time.Duration
	w, err := overLine(ctx, sizes[0], peertest.Way{Rate: rate, Queue: 64_000, Delay: 20 * time.Millisecond}, peertest.Options{
		Heard: func(data []byte, seq uint16, ts uint32) {
			late.Push(jitter.Packet{Data: data, Seq: seq, Timestamp: ts}, time.Now())
		},
		Shown: func() {
			mu.Lock()
			defer mu.Unlock()
			if now := time.Now(); !last.IsZero() {
				longest = max(longest, now.Sub(last))
				last = now
			} else {
				last = now
			}
		},
	})
	if err != nil {
		return fail(err)
	}
	defer w.close()
	if err := w.session.Open(ctx); err != nil {
		return fail(err)
	}
	if err := w.await(ctx, session.FarVideo, 10*time.Second); err != nil {
		return fail(err)
	}
	late.Start(time.Now())
	var pcm [sound.FrameSamples]int16
	tick := time.NewTicker(sound.FrameSamples * time.Second / sound.Rate)
	defer tick.Stop()
	var seconds []float64
	count := func() float64 {
		far, _ := w.line.Passed()
		return float64(far.Bytes + 28*far.Sent)
	}
	// By the clock, not by ticks, of which a busy machine leaves some out.
	began := time.Now()
	before, mark, pulled := count(), began, 0
	for now := began; now.Sub(began) < length; {
		select {
		case <-ctx.Done():
			return fail(ctx.Err())
		case now = <-tick.C:
		}
		for ; time.Duration(pulled)*sound.FrameSamples*time.Second/sound.Rate < now.Sub(began); pulled++ {
			late.Pull(pcm[:], now)
		}
		if span := now.Sub(mark); span >= time.Second {
			all := count()
			if now.Sub(began) > settled {
				seconds = append(seconds, 100*8*(all-before)/rate/span.Seconds())
			}
			before, mark = all, now
		}
	}
	if len(seconds) == 0 {
		return fail(errors.New("nothing was measured"))
	}
	mu.Lock()
	frozen.Value = float64(max(longest, time.Since(last)).Milliseconds())
	mu.Unlock()
	least, most := seconds[0], seconds[0]
	for _, s := range seconds {
		least, most = min(least, s), max(most, s)
		used.Value += s / float64(len(seconds))
	}
	swing.Value = 100 * max(most/used.Value-1, 1-least/used.Value)
	s := late.Stats()
	made.Value = 100 * float64(s.Concealed) / max(float64(s.Played), 1)
	used.Holds, swing.Holds = used.Value >= 85 && used.Value <= 95, swing.Value <= 10
	made.Holds, frozen.Holds = made.Value <= 1 && s.Played > 1500, frozen.Value <= 1000
	return []row{used, swing, made, frozen}
}

func (w *wired) await(ctx context.Context, k session.Kind, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	select {
	case <-w.reached[k]:
		return nil
	case <-w.reached[session.Failed]:
		return errors.New("the call failed")
	case <-ctx.Done():
		return fmt.Errorf("no %s within %s", k, limit)
	}
}

// setUp is the share of calls in which the caller's picture is shown within 8 s of the offer. Four are made at once.
func setUp(ctx context.Context, loss, goal float64, calls int) row {
	const limit, atOnce = 8 * time.Second, 4
	r := row{Name: fmt.Sprintf("calls set up within 8 s, 100±30 ms, reordered, %.0f %% lost", 100*loss), Unit: "%", Goal: fmt.Sprintf("≥ %.0f", 100*goal)}
	var mu sync.Mutex
	var wg sync.WaitGroup
	up, tries := 0, make(chan int)
	for range atOnce {
		wg.Go(func() {
			for n := range tries {
				w, err := overLine(ctx, size{320, 240, 15, 500_000}, peertest.Way{
					Delay: 100 * time.Millisecond, Jitter: 30 * time.Millisecond, Reorder: true, Loss: loss, Seed: uint64(2 * n),
				}, peertest.Options{})
				if err == nil {
					err = w.await(ctx, session.FarVideo, limit)
					w.close()
				}
				mu.Lock()
				if err == nil {
					up++
				} else {
					r.Why = err.Error()
				}
				mu.Unlock()
			}
		})
	}
	for n := range calls {
		tries <- n
	}
	close(tries)
	wg.Wait()
	r.Value = 100 * float64(up) / float64(calls)
	r.Holds = r.Value >= 100*goal
	return r
}
