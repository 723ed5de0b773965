package lab

import (
	"strings"
	"testing"
	"time"

	"vindu/scripts/lab/control"
)

// The camera leaves its driver, as when its cable is pulled, and comes back to it.
const (
	pullOut = "echo vivid.0 > /sys/bus/platform/drivers/vivid/unbind"
	plugIn  = "echo vivid.0 > /sys/bus/platform/drivers/vivid/bind"
)

// TestCameraPulledOut unplugs the camera in a call. Sound goes on, the clinician is told, and the picture
// returns when the camera does, without a new call.
func TestCameraPulledOut(t *testing.T) {
	program, err := Build(t.Context(), "./cmd/vindu-agent", false)
	if err != nil {
		t.Fatal(err)
	}
	guest := Boot(t, Options{
		Programs: map[string][]byte{"/usr/bin/vindu-agent": program},
		Files:    map[string][]byte{"/etc/vindu/agent.toml": []byte(strings.Replace(agentConfig, `ring = "4s"`, `ring = "0s"`, 1))},
	})
	clinic := StartClinic(t, guest)
	startAgent(t, guest, clinic)
	quiet, err := guest.Speak(t.Context(), Beeps(TerminalTone, 300))
	if err != nil {
		t.Fatal(err)
	}
	browser := NewBrowser(t, guest.Net)
	signIn(t, clinic, browser)
	press(t, browser, "Ring")
	if err := browser.WaitForFarEnd(30 * time.Second); err != nil {
		t.Fatal(err)
	}
	guest.Log("the page shows the terminal's picture")

	if _, err := guest.Exec(t.Context(), control.Command{Args: []string{"sh", "-c", pullOut}}); err != nil {
		t.Fatal(err)
	}
	guest.Log("camera pulled out")
	if err := browser.WaitFor(20*time.Second, `document.querySelector("#call-notes").innerText.includes("camera was unplugged; sound goes on.")`); err != nil {
		t.Error(err)
	}
	guest.Log("the page says so")
	screenshot(t, guest, browser, "page-pulled-out.png")
	screendump(t, guest, "screen-pulled-out.png")
	noCamera(t, guest)
	end, err := browser.Watch()
	if err != nil {
		t.Fatal(err)
	}
	<-time.After(8 * time.Second)
	without, err := end()
	if err != nil {
		t.Fatal(err)
	}
	if n := len(without.Frames); n > 3 {
		t.Errorf("the page showed %d new pictures of a camera that was not there", n)
	}
	if heard := Listen(without.Sound, SampleRate, TerminalTone); !heard.Beeped() {
		t.Errorf("without a camera the sound did not go on: %s", heard)
	}

	if _, err := guest.Exec(t.Context(), control.Command{Args: []string{"sh", "-c", plugIn}}); err != nil {
		t.Fatal(err)
	}
	guest.Log("camera plugged in")
	err = guest.Until(t.Context(), 30*time.Second, func() error {
		return browser.WaitFor(3*time.Second, `!document.querySelector("#call-notes").innerText.includes("unplugged")`)
	})
	if err != nil {
		t.Error(err)
	}
	if end, err = browser.Watch(); err != nil {
		t.Fatal(err)
	}
	<-time.After(5 * time.Second)
	back, err := end()
	if err != nil {
		t.Fatal(err)
	}
	if n := len(back.Frames); n < 20 {
		t.Errorf("with the camera back the page showed %d pictures in 5 s", n)
	}
	guest.Log("the picture is back: %d in 5 s", len(back.Frames))
	press(t, browser, "Hang up")
	if err := browser.WaitFor(15*time.Second, status("The call has ended")); err != nil {
		t.Error(err)
	}
	awaitReceipt(t, guest, browser)
	noCapture(t, guest, "after the call")
	if err := quiet(); err != nil {
		t.Error(err)
	}
}

// noCamera: a camera that went away is not held on to.
func noCamera(t *testing.T, guest *Guest) {
	t.Helper()
	holders, err := guest.Holders(t.Context(), "/dev/video*")
	if err != nil {
		t.Fatal(err)
	}
	for _, holder := range holders {
		t.Errorf("%s holds on to %s, which was pulled out", holder.Command, holder.Path)
	}
}
