package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"

	"vindu/clinic/web/webtest"
	"vindu/scripts/stack"
)

// terminal is a whole vindu on this machine: clinic, agent, and a browser at the clinician's page.
type terminal struct {
	*stack.Stack
	cancel context.CancelFunc
	ended  chan error
	size   size
}

// startTerminal starts a clinic and an agent that rings for so long and sends at most z.
func startTerminal(ctx context.Context, dir string, z size, ring time.Duration, flags ...string) (*terminal, error) {
	bin := filepath.Join(filepath.Dir(dir), "bin")
	if err := stack.Build(ctx, ".", bin, false); err != nil {
		return nil, err
	}
	s, err := stack.New(stack.Options{Dir: dir, Bin: bin, Language: "en", Says: io.Discard, Ring: ring, Flags: flags, Agent: map[string]string{
		"picture.width": strconv.Itoa(z.width), "picture.height": strconv.Itoa(z.height), "picture.fps": strconv.Itoa(z.fps),
		"picture.bitrate":     strconv.Itoa(z.bitrate),
		"devices.memory_size": fmt.Sprintf(`"%dx%d"`, screenWidth, screenHeight),
		"devices.camera":      `"auto"`,
	}})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	t := &terminal{Stack: s, cancel: cancel, ended: make(chan error, 1), size: z}
	ready := make(chan struct{})
	go func() {
		t.ended <- s.Run(ctx, func(context.Context) error { close(ready); return nil })
	}()
	select {
	case <-ready:
		return t, nil
	case err := <-t.ended:
		cancel()
		return nil, fmt.Errorf("start clinic and terminal: %w", err)
	}
}

func (t *terminal) stop() error {
	t.cancel()
	if err := <-t.ended; err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// alone measures the agent while nobody calls, and how fast a call shows a picture.
func (t *terminal) alone(ctx context.Context) ([]row, error) {
	var starts []float64
	for range 5 {
		before := t.AgentPID()
		if before <= 0 { // to kill 0 is to kill this program's whole group
			return nil, errors.New("the agent does not run")
		}
		if err := syscall.Kill(before, syscall.SIGKILL); err != nil {
			return nil, err
		}
		for deadline := time.Now().Add(time.Minute); t.AgentPID() == before || t.AgentPID() == 0 || t.AgentReadyAfter() == 0; time.Sleep(20 * time.Millisecond) {
			if time.Now().After(deadline) {
				return nil, errors.New("the agent did not come back")
			}
		}
		starts = append(starts, float64(t.AgentReadyAfter().Microseconds())/1000)
	}
	time.Sleep(3 * time.Second)
	idle, err := watch(t.AgentPID(), 20*time.Second)
	if err != nil {
		return nil, err
	}
	resident, _, err := rss(t.AgentPID())
	if err != nil {
		return nil, err
	}
	firsts, err := t.firstFrames(ctx, 11)
	if err != nil {
		return nil, err
	}
	ready, first := median(starts), median(firsts)
	return []row{
		{Name: "click to first decoded picture, ring 0 s, caller seen first", Value: first, Unit: "ms", Goal: "≤ 250 ms", Holds: first <= 250},
		{Name: "start of the agent to ready", Value: ready, Unit: "ms", Goal: "≤ 500 ms", Holds: ready <= 500},
		{Name: "RSS, idle", Value: mb(resident), Unit: "MB", Goal: "≤ 25 MB", Holds: mb(resident) <= 25},
		{Name: "CPU, idle", Value: idle.CPU, Unit: "CPU-s/s"},
	}, nil
}

// watchedPage is put into the clinician's page before its own scripts: it fixes what the browser's camera gives, and notes when a call's
// first picture was shown.
const watchedPage = `(() => {
	const peers = window.benchPeers = [];
	const Native = window.RTCPeerConnection;
	window.RTCPeerConnection = class extends Native { constructor(...given) { super(...given); peers.push(this); } };
	const devices = navigator.mediaDevices, ask = devices.getUserMedia.bind(devices);
	devices.getUserMedia = wanted => ask(wanted.video ? {...wanted, video: {width: {exact: %d}, height: {exact: %d}, frameRate: {ideal: %d}}} : wanted);
	window.benchCall = async () => {
		const far = document.querySelector("#far");
		far.srcObject = null;
		const button = document.querySelector("button.ring");
		while (button.disabled) await new Promise(done => setTimeout(done, 20));
		const first = new Promise(done => far.requestVideoFrameCallback(now => done(now)));
		const began = performance.now();
		button.click();
		return await first - began;
	};
	window.benchAnswered = async () => {
		const far = document.querySelector("#far");
		far.srcObject = null;
		const button = document.querySelector("button.ring");
		while (button.disabled) await new Promise(done => setTimeout(done, 20));
		const first = new Promise(done => far.requestVideoFrameCallback(() => done(Date.now())));
		button.click();
		return await first;
	};
	window.benchLimit = async bitrate => {
		for (const sender of peers.at(-1).getSenders()) if (sender.track && sender.track.kind === "video") {
			const p = sender.getParameters(); p.encodings[0].maxBitrate = bitrate; p.degradationPreference = "maintain-resolution"; await sender.setParameters(p);
		}
	};
	window.benchEnd = async () => {
		document.querySelector("#hang-up").click();
		while (document.querySelector("#call").dataset.phase !== "ended") await new Promise(done => setTimeout(done, 50));
	};
	window.benchFrames = async () => {
		const result = {};
		const stats = await peers.findLast(p => p.connectionState === "connected").getStats();
		stats.forEach(s => {
			if (s.type === "inbound-rtp" && s.kind === "video") Object.assign(result, {codec: stats.get(s.codecId).mimeType, decoded: s.framesDecoded, bytesIn: s.bytesReceived, width: s.frameWidth});
			if (s.type === "outbound-rtp" && s.kind === "video") Object.assign(result, {sent: s.framesEncoded, bytesOut: s.bytesSent, sentWidth: s.frameWidth});
		});
		return {...result, at: performance.now()};
	};
})()`

// page opens the clinician's page.
func (t *terminal) page(ctx context.Context) (context.Context, func(), error) {
	invitation, err := t.Invitation(ctx, "-remove-passkeys")
	if err != nil {
		return nil, nil, err
	}
	tab, done := newBrowser(ctx)
	source := fmt.Sprintf(watchedPage, t.size.width, t.size.height, t.size.fps)
	if _, err := chromedp.Call(tab, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: source}); err != nil {
		done()
		return nil, nil, err
	}
	if _, err := webtest.MakePasskey(tab, invitation, "This computer"); err != nil {
		done()
		return nil, nil, fmt.Errorf("open the clinician's page: %w", err)
	}
	return tab, done, nil
}

var (
	begin = chromedp.Evaluate[float64]("benchCall()", chromedp.EvalAwaitPromise)
	end   = chromedp.Evaluate[chromedp.Void]("benchEnd()", chromedp.EvalAwaitPromise)
)

// firstFrames returns the milliseconds from click to picture of n calls.
func (t *terminal) firstFrames(ctx context.Context, n int) ([]float64, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	tab, done, err := t.page(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	time.Sleep(2 * time.Second) // the page makes its offer ready
	var all []float64
	for range n {
		ms, err := chromedp.Run(tab, begin)
		if err != nil {
			return nil, fmt.Errorf("call the terminal: %w", err)
		}
		all = append(all, ms)
		time.Sleep(time.Second)
		if err := chromedp.Do(tab, end); err != nil {
			return nil, fmt.Errorf("hang up: %w", err)
		}
		time.Sleep(time.Second)
	}
	return all, nil
}

// call has one call for d and measures the agent.
func (t *terminal) call(ctx context.Context, d time.Duration) (m measured, err error) {
	ctx, cancel := context.WithTimeout(ctx, d+settle+time.Minute)
	defer cancel()
	tab, done, err := t.page(ctx)
	if err != nil {
		return m, err
	}
	defer done()
	time.Sleep(2 * time.Second)
	first, err := chromedp.Run(tab, begin)
	if err != nil {
		return m, fmt.Errorf("call the terminal: %w", err)
	}
	m.First = time.Duration(first * float64(time.Millisecond))
	limit := chromedp.Evaluate[chromedp.Void](fmt.Sprintf("benchLimit(%d)", t.size.bitrate), chromedp.EvalAwaitPromise)
	if err := chromedp.Do(tab, limit); err != nil {
		return m, err
	}
	time.Sleep(settle)
	frames := chromedp.Evaluate[frameCount]("benchFrames()", chromedp.EvalAwaitPromise)
	a, err := chromedp.Run(tab, frames)
	if err != nil {
		return m, err
	}
	if m.usage, err = watch(t.AgentPID(), d); err != nil {
		return m, err
	}
	b, err := chromedp.Run(tab, frames)
	if err != nil {
		return m, err
	}
	a.until(b, &m)
	return m, chromedp.Do(tab, end)
}
