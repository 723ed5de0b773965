package main

import (
	"bufio"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/chromedp/chromedp"
)

//go:embed page.html
var callerPage string

//go:embed gstreamer/peer.c
var peerSource string

// buildPeer compiles the GStreamer peer into dir.
func buildPeer(ctx context.Context, dir string) (string, error) {
	flags, err := exec.CommandContext(ctx, "pkg-config", "--cflags", "--libs", "gstreamer-1.0", "gstreamer-sdp-1.0", "gstreamer-webrtc-1.0").Output()
	if err != nil {
		return "", fmt.Errorf("find GStreamer: %w", err)
	}
	source, binary := filepath.Join(dir, "peer.c"), filepath.Join(dir, "gstreamer-peer")
	if err := os.WriteFile(source, []byte(peerSource), 0o600); err != nil {
		return "", err
	}
	args := append([]string{"-O2", "-o", binary, source}, strings.Fields(string(flags))...)
	if out, err := exec.CommandContext(ctx, "gcc", args...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("compile the GStreamer peer: %w\n%s", err, out)
	}
	return binary, nil
}

// measured is what a call showed, seen from outside the terminal.
type measured struct {
	usage
	First    time.Duration // offer to first decoded frame in the browser
	FPSIn    float64       // decoded by the browser
	FPSOut   float64       // encoded by the browser
	RateIn   float64       // bit/s received by the browser
	RateOut  float64
	Width    int // received by the browser
	WidthOut int
	Codec    string // of the picture that the browser received
}

type frameCount struct {
	Decoded   int     `json:"decoded"`
	Sent      int     `json:"sent"`
	BytesIn   int     `json:"bytesIn"`
	BytesOut  int     `json:"bytesOut"`
	Width     int     `json:"width"`
	SentWidth int     `json:"sentWidth"`
	Codec     string  `json:"codec"`
	At        float64 `json:"at"` // ms
}

func (a frameCount) until(b frameCount, m *measured) {
	s := (b.At - a.At) / 1000
	m.FPSIn, m.FPSOut = float64(b.Decoded-a.Decoded)/s, float64(b.Sent-a.Sent)/s
	m.RateIn, m.RateOut = float64(b.BytesIn-a.BytesIn)*8/s, float64(b.BytesOut-a.BytesOut)*8/s
	m.Width, m.WidthOut, m.Codec = b.Width, b.SentWidth, strings.TrimPrefix(b.Codec, "video/")
}

// callGStreamer has the GStreamer peer in a call of size z with the browser for d.
func callGStreamer(ctx context.Context, binary string, z size, d time.Duration) (m measured, err error) {
	ctx, cancel := context.WithTimeout(ctx, d+time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, strconv.Itoa(z.width), strconv.Itoa(z.height), strconv.Itoa(z.fps), strconv.Itoa(z.bitrate), strconv.Itoa(screenWidth), strconv.Itoa(screenHeight))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return m, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return m, err
	}
	if err := cmd.Start(); err != nil {
		return m, fmt.Errorf("start the GStreamer peer: %w", err)
	}
	defer func() {
		in.Close()
		if werr := cmd.Wait(); err == nil && werr != nil {
			err = fmt.Errorf("GStreamer peer: %w", werr)
		}
	}()

	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return m, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, callerPage) })
	mux.HandleFunc("POST /offer", func(w http.ResponseWriter, r *http.Request) {
		offer, err := io.ReadAll(r.Body)
		if err == nil {
			_, err = in.Write(append(offer, 0))
		}
		var answer string
		if err == nil {
			answer, err = bufio.NewReader(out).ReadString(0)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		io.WriteString(w, strings.TrimSuffix(answer, "\x00"))
	})
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	defer func() {
		srv.Close()
		if serr := <-served; err == nil && !errors.Is(serr, http.ErrServerClosed) {
			err = serr
		}
	}()

	tab, done := newBrowser(ctx)
	defer done()
	if err := chromedp.Do(tab, chromedp.Navigate("http://"+l.Addr().String()+"/")); err != nil {
		return m, fmt.Errorf("open the caller's page: %w", err)
	}
	first, err := chromedp.Run(tab, chromedp.Evaluate[float64](fmt.Sprintf("call(%d, %d, %d, %d)", z.width, z.height, z.fps, z.bitrate), chromedp.EvalAwaitPromise))
	if err != nil {
		return m, fmt.Errorf("call GStreamer: %w", err)
	}
	m.First = time.Duration(first * float64(time.Millisecond))
	time.Sleep(settle)
	frames := chromedp.Evaluate[frameCount]("frames()", chromedp.EvalAwaitPromise)
	a, err := chromedp.Run(tab, frames)
	if err != nil {
		return m, err
	}
	if m.usage, err = watch(cmd.Process.Pid, d); err != nil {
		return m, err
	}
	b, err := chromedp.Run(tab, frames)
	if err != nil {
		return m, err
	}
	a.until(b, &m)
	return m, nil
}
