package lab

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// standIn is a page that calls itself, with the camera and microphone that a browser of the lab has.
const standIn = `<!doctype html><meta charset="utf-8"><title>stand-in</title><video autoplay playsinline></video><script>
(async () => {
	const near = await navigator.mediaDevices.getUserMedia({ video: true, audio: true });
	const a = new RTCPeerConnection(), b = new RTCPeerConnection();
	const gathered = (p) => new Promise((done) => {
		p.onicegatheringstatechange = () => p.iceGatheringState === "complete" && done();
	});
	const far = new MediaStream();
	b.ontrack = (e) => { far.addTrack(e.track); document.querySelector("video").srcObject = far; };
	for (const track of near.getTracks()) a.addTrack(track, near);
	const all = [gathered(a), gathered(b)];
	await a.setLocalDescription();
	await all[0];
	await b.setRemoteDescription(a.localDescription);
	await b.setLocalDescription();
	await all[1];
	await a.setRemoteDescription(b.localDescription);
})();
</script>`

// TestBrowserShowsAndPlays proves what the call's test looks with: Chromium's camera and microphone are ours, they
// pass through its encoders, and the probe sees and hears them in a page that knows nothing of it.
func TestBrowserShowsAndPlays(t *testing.T) {
	network := NewNet(t)
	listener, err := network.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, standIn) })}
	go server.Serve(listener) // until the test closes it
	defer server.Close()
	b := NewBrowser(t, network, "allow-loopback-in-peer-connection")
	_, port, err := net.SplitHostPort(listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Do(30*time.Second, chromedp.Navigate("http://127.0.0.1:"+port)); err != nil {
		t.Fatal(err)
	}
	if err := b.WaitForFarEnd(30 * time.Second); err != nil {
		t.Fatal(err)
	}
	end, err := b.Watch()
	if err != nil {
		t.Fatal(err)
	}
	<-time.After(6 * time.Second) // what is watched
	watched, err := end()
	if err != nil {
		t.Fatal(err)
	}
	if len(watched.Frames) < 6 {
		t.Errorf("%d frames in %s", len(watched.Frames), watched.For)
	}
	for _, frame := range watched.Frames {
		left, right := frame.Row[frame.Width/8], frame.Row[frame.Width*7/8]
		if distance(left, callerLeft) > Tolerance || distance(right, callerRight) > Tolerance {
			t.Fatalf("after %s the picture has %v and %v, want %v and %v", frame.At, left, right, callerLeft, callerRight)
		}
	}
	if heard := Listen(watched.Sound, SampleRate, CallerTone); !heard.Beeped() {
		t.Errorf("of the microphone's tone: %v", heard)
		keep(t, "heard.wav", EncodeWAV(watched.Sound))
	}
	if heard := Listen(watched.Sound, SampleRate, TerminalTone); heard.Beeped() {
		t.Errorf("a tone that nobody plays was heard: %v", heard)
	}
	stats, err := b.Stats()
	if err != nil || stats["in.video.framesDecoded"] == "" {
		t.Errorf("statistics are %v, %v", stats, err)
	}
}

// keep writes an artefact of a test that has no guest.
func keep(t *testing.T, name string, data []byte) {
	t.Helper()
	root, err := repository()
	if err != nil {
		t.Fatal(err)
	}
	directory := filepath.Join(root, "artefacts", "lab", t.Name())
	if err := os.MkdirAll(directory, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(directory, name), data, 0o644); err != nil {
		t.Fatal(err)
	}
	t.Logf("kept %s", filepath.Join(directory, name))
}
