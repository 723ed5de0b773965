package web

import (
	"testing"

	"github.com/chromedp/chromedp"

	"vindu/protocol"
)

// What stands still is not the home any more: words take the place of the picture until it comes again.
func TestPictureStops(t *testing.T) {
	c := newClinic(t)
	b := c.open()
	b.button("Ring")
	f := newTerminal(t, c, c.placed())
	f.ring()
	f.answer()
	b.says("In call with")
	b.do(chromedp.EmulateViewport(1440, 900))
	covered := `document.getElementById("placeholder").checkVisibility()`
	b.until(`document.getElementById("far").videoWidth === 640 && !` + covered)
	s := online(c.home.Terminal)
	s.Health.Conditions = []protocol.Condition{{Code: protocol.CaptureCameraGone}}
	s.Health.InCall = true
	c.fleet.Set(s)
	f.still.Store(true)
	b.until(covered + ` && document.getElementById("placeholder").textContent === "No picture from the home just now. It returns here by itself."`)
	b.until(`document.getElementById("call-notes").innerText.includes("camera was unplugged; sound goes on")`)
	// Nothing of the last picture is seen round the words.
	if shown := eval[string](b, `(() => { const r = document.getElementById("far").getBoundingClientRect();
		return [[0.02, 0.02], [0.5, 0.1], [0.02, 0.98], [0.98, 0.02]].map(([x, y]) => document.elementFromPoint(r.left + x * r.width, r.top + y * r.height)?.id).join(" ") })()`); shown != "placeholder placeholder placeholder placeholder" {
		t.Errorf("over the picture there is %s", shown)
	}
	if background := eval[string](b, `getComputedStyle(document.getElementById("placeholder")).backgroundColor`); background != "rgb(16, 25, 29)" {
		t.Errorf("the picture shines through %s", background)
	}
	b.says("In call with")
	b.look("picture-gone")
	f.still.Store(false)
	b.until(`!` + covered)
	b.look("picture-back")
}

// A home without a camera shows words from the beginning, and no black field.
func TestNoPicture(t *testing.T) {
	c := newClinic(t)
	b := c.open()
	b.button("Ring")
	f := newTerminal(t, c, c.placed())
	f.still.Store(true)
	f.ring()
	f.answer()
	b.says("In call with")
	b.until(`document.getElementById("placeholder").checkVisibility() && document.getElementById("placeholder").textContent === "Waiting for the first picture"`)
	b.until(`document.getElementById("placeholder").textContent === "No picture comes from the home. Sound may come all the same."`)
}
