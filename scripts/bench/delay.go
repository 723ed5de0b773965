package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/chromedp/chromedp"

	"vindu/media/camera"
	"vindu/media/peer"
	"vindu/media/session"
	"vindu/media/sound"
	"vindu/media/yuv"
)

//go:embed delay.html
var delayPage string

// marked is a camera whose pictures have the system's time in their upper edge, in milliseconds: 24 bars, white for a 1, the highest bit first.
type marked struct{ camera.Source }

func (m marked) Read() (image.Image, func(), error) {
	img, release, err := m.Source.Read()
	if err != nil {
		return nil, nil, err
	}
	p := img.(*image.YCbCr) // of the test picture, which is its reader's until it is released
	now, wide := time.Now().UnixMilli(), float64(p.Rect.Dx())*0.96/24
	for bit := range 24 {
		luma := uint8(16)
		if now>>(23-bit)&1 == 1 {
			luma = 235
		}
		bar := image.Rect(int(wide*float64(bit))&^1, 0, int(wide*float64(bit+1))&^1, p.Rect.Dy()/16&^1)
		if err := yuv.Fill(p, bar, luma, 128, 128); err != nil {
			release()
			return nil, nil, err
		}
	}
	return img, release, nil
}

// clicking is a microphone in a quiet room in which something clicks each second.
type clicking struct {
	sound.Device
	frames int
	noise  uint32

	mu    sync.Mutex
	times []float64 // of the clicks, in milliseconds of the system's clock
}

func (c *clicking) Read(frame []int16) error {
	if err := c.Device.Read(frame); err != nil {
		return err
	}
	for i := range frame {
		c.noise = c.noise*1664525 + 1013904223
		frame[i] = int16(c.noise>>16) / 110 // −41 dBFS, so that nothing is left out as silence
	}
	if c.frames++; c.frames%100 == 0 {
		for i := range 240 { // 5 ms of 2 kHz
			frame[i] = 20_000
			if i/12%2 == 1 {
				frame[i] = -20_000
			}
		}
		c.mu.Lock()
		c.times = append(c.times, float64(time.Now().UnixMicro())/1000-10) // what was captured lasted until now
		c.mu.Unlock()
	}
	return nil
}

// delays are the times from camera and microphone to the browser's screen and loudspeaker, with the session that the terminal has, on loopback.
func delays(ctx context.Context) []row {
	z := sizes[0]
	sight := row{Name: "camera to far screen, loopback, " + z.String() + ", median", Unit: "ms", Goal: "≤ 100"}
	ear := row{Name: "mouth to far ear, loopback, median", Unit: "ms", Goal: "≤ 120"}
	seen, heard, err := clocked(ctx, z, 25*time.Second)
	if err == nil && (len(seen) < 200 || len(heard) < 10) {
		err = fmt.Errorf("%d pictures and %d clicks came", len(seen), len(heard))
	}
	if err != nil {
		return []row{sight.failed(err), ear.failed(err)}
	}
	sight.Value, ear.Value = median(seen), median(heard)
	sight.Holds, ear.Holds = sight.Value <= 100, ear.Value <= 120
	return []row{sight, ear}
}

// clocked makes the call and returns the delays in milliseconds.
func clocked(ctx context.Context, z size, d time.Duration) (seen, heard []float64, err error) {
	ctx, cancel := context.WithTimeout(ctx, d+time.Minute)
	defer cancel()
	mouth := &clicking{Device: sound.TestSound(nil), noise: 1}
	f := session.NewFactory(session.Config{
		Width: z.width, Height: z.height, FPS: float64(z.fps), MaxBitrate: z.bitrate,
		IncludeLoopback: true, Interfaces: func(name string) bool { return name == "lo" },
	}, session.Devices{
		OpenCamera: func(context.Context) (session.Camera, error) {
			return marked{camera.TestPicture(camera.Config{Width: z.width, Height: z.height, FPS: z.fps})}, nil
		},
		OpenSound: func(context.Context) (session.Sound, error) { return mouth, nil },
	}, nil)
	answered := make(chan *session.Session, 1)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, delayPage) })
	mux.HandleFunc("POST /offer", func(w http.ResponseWriter, r *http.Request) {
		answer, s, err := answerWhole(ctx, f, r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		answered <- s
		_ = json.NewEncoder(w).Encode(answer)
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	go func() { _ = srv.Serve(l) }()
	defer srv.Close()
	tab, done := newBrowser(ctx)
	defer done()
	if err := chromedp.Do(tab, chromedp.Navigate("http://"+l.Addr().String()+"/")); err != nil {
		return nil, nil, err
	}
	if _, err := chromedp.Run(tab, chromedp.Evaluate[float64](fmt.Sprintf("call(%d, %d, %d)", z.width, z.height, z.fps), chromedp.EvalAwaitPromise)); err != nil {
		return nil, nil, fmt.Errorf("call for the delays: %w", err)
	}
	s := <-answered
	defer s.Close(context.Background())
	if err := s.Open(ctx); err != nil {
		return nil, nil, err
	}
	time.Sleep(settle)
	if err := chromedp.Do(tab, chromedp.Evaluate[chromedp.Void]("seen.length = 0, heard.length = 0, undefined")); err != nil {
		return nil, nil, err
	}
	time.Sleep(d)
	if seen, err = chromedp.Run(tab, chromedp.Evaluate[[]float64]("seen")); err != nil {
		return nil, nil, err
	}
	onsets, err := chromedp.Run(tab, chromedp.Evaluate[[]float64]("heard"))
	mouth.mu.Lock()
	defer mouth.mu.Unlock()
	for _, at := range onsets {
		for i := len(mouth.times) - 1; i >= 0; i-- {
			if late := at - mouth.times[i]; late > 0 {
				if late < 900 {
					heard = append(heard, late)
				}
				break
			}
		}
	}
	return seen, heard, err
}

type wholeAnswer struct {
	SDP        string   `json:"sdp"`
	Candidates []string `json:"candidates"`
}

// answerWhole answers an offer that has all its candidates, with all of the own. The session runs until it is closed.
func answerWhole(ctx context.Context, f *session.Factory, offer io.Reader) (a wholeAnswer, s *session.Session, err error) {
	b, err := io.ReadAll(offer)
	if err != nil {
		return a, nil, err
	}
	if s, err = f.Prepare(ctx, session.Offer{SDP: peer.SDP(b)}); err != nil {
		return a, nil, err
	}
	go func() { _ = s.Run(ctx) }()
	a.SDP = string(s.AnswerSDP())
	limit := time.After(5 * time.Second)
	for {
		select {
		case e := <-s.Events():
			switch e.Kind {
			case session.LocalCandidate:
				a.Candidates = append(a.Candidates, e.Candidate.Candidate)
			case session.EndOfCandidates:
				return a, s, nil
			}
		case <-limit:
			s.Close(context.Background())
			return a, nil, errors.New("the terminal's candidates are not all there after 5 s")
		}
	}
}
