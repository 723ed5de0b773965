package session_test

import (
	"context"
	"fmt"
	"image"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"vindu/media/peer/peertest"
	"vindu/media/session"
)

// film is a camera whose pictures were painted beforehand, so that painting is not measured.
type film struct {
	pics []*image.YCbCr
	tick *time.Ticker
	n    int
	done chan struct{}
	once sync.Once
}

func newFilm(w, h, fps int) *film {
	f := &film{tick: time.NewTicker(time.Second / time.Duration(fps)), done: make(chan struct{})}
	// A texture that slides back and forth with a little noise, which costs the encoder what a person moving costs.
	const n = 16
	seed := uint32(1)
	for i := range n {
		shift := max(i-n/2, n/2-i)
		img := peertest.Picture(w, h, green)
		for y := range h {
			for x := range w {
				seed = seed*1664525 + 1013904223
				img.Y[y*img.YStride+x] = byte(60 + ((x+2*shift)/8*13+(y+shift)/8*7)%120 + int(seed>>30))
			}
		}
		f.pics = append(f.pics, img)
	}
	return f
}

func (f *film) Read() (image.Image, func(), error) {
	select {
	case <-f.done:
		return nil, nil, os.ErrClosed
	case <-f.tick.C:
	}
	f.n++
	return f.pics[f.n%len(f.pics)], func() {}, nil
}

func (f *film) Close() error {
	f.once.Do(func() { close(f.done); f.tick.Stop() })
	return nil
}

type blind struct{}

func (blind) Far(*image.YCbCr)  {}
func (blind) Self(*image.YCbCr) {}

func cpu() time.Duration {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		panic(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// memory returns a value of /proc/self/status in MB.
func memory(key string) float64 {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for _, line := range strings.Split(string(text), "\n") {
		if v, ok := strings.CutPrefix(line, key+":"); ok {
			kb, _ := strconv.ParseFloat(strings.Fields(v)[0], 64)
			return kb / 1024
		}
	}
	return 0
}

// BenchmarkChromiumCall measures a two-way call with a real browser: processor time of this process in seconds per second,
// peak memory, and times of the set-up. Drawing on the screen and reading a real camera are not in it.
func BenchmarkChromiumCall(b *testing.B) {
	for _, v := range []struct{ w, h, fps int }{{320, 240, 15}, {640, 480, 30}, {1280, 720, 30}} {
		b.Run(fmt.Sprintf("%dx%d@%d", v.w, v.h, v.fps), func(b *testing.B) {
			for b.Loop() {
				pics := newFilm(v.w, v.h, v.fps)
				f := session.NewFactory(session.Config{
					IncludeLoopback: true, Width: v.w, Height: v.h, FPS: float64(v.fps),
					StartBitrate: 1_000_000, MaxBitrate: 1_000_000, MaxVideoIn: 1_000_000,
				}, session.Devices{
					OpenCamera: func(context.Context) (session.Camera, error) { return pics, nil },
					OpenSound:  func(context.Context) (session.Sound, error) { return newCard(), nil },
					Screen:     blind{},
				}, nil)
				br := newBrowser(b, f)
				s, _ := br.call(v.w, v.h, v.fps)
				if err := s.Open(context.Background()); err != nil {
					b.Fatal(err)
				}
				time.Sleep(5 * time.Second) // allowed: a benchmark of a call that runs; until the estimate has settled
				before, sb := cpu(), s.Stats()
				began := time.Now()
				time.Sleep(15 * time.Second) // allowed: what is measured
				took, sa := time.Since(began).Seconds(), s.Stats()
				used := (cpu() - before).Seconds()
				m := br.measure()
				t := sa.Times
				b.ReportMetric(used/took, "cpu-s/s")
				b.ReportMetric(memory("VmHWM"), "MB-peak")
				b.ReportMetric(float64(sa.Near.Encoded-sb.Near.Encoded)/took, "fps-out")
				b.ReportMetric(float64(sa.Far.Frames-sb.Far.Frames)/took, "fps-in")
				b.ReportMetric(float64(sa.Near.Bytes-sb.Near.Bytes)*8/1000/took, "kbit/s-out")
				b.ReportMetric(float64(sa.Connection.VideoIn.Bytes-sb.Connection.VideoIn.Bytes)*8/1000/took, "kbit/s-in")
				b.ReportMetric(float64(t.Sending.Sub(t.Offer).Milliseconds()), "ms-offer-to-sent")
				b.ReportMetric(float64(t.FarVideo.Sub(t.Offer).Milliseconds()), "ms-offer-to-shown")
				b.ReportMetric(float64((sa.Near.Encoding-sb.Near.Encoding).Microseconds())/1000/max(float64(sa.Near.Encoded-sb.Near.Encoded), 1), "ms/encode")
				b.ReportMetric(float64((sa.Far.Decoding-sb.Far.Decoding).Microseconds())/1000/max(float64(sa.Far.Frames-sb.Far.Frames), 1), "ms/decode")
				b.ReportMetric(m.FirstFrame-m.Prepared, "ms-camera-to-first-frame")
				b.ReportMetric(m.FirstFrame, "ms-click-to-first-frame")
				b.Logf("browser: %+v", m)
				s.Close(context.Background())
			}
		})
	}
}
