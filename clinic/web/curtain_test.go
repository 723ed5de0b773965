package web

import (
	"crypto/ecdsa"
	"fmt"
	"testing"
	"time"

	"vindu/clinic/calls"
	"vindu/clinic/web/webtest"
	"vindu/protocol"
)

// curtain has the page hear what a terminal says of curtains.
func (f *terminal) curtain(number uint32, drawn, closed bool, key *ecdsa.PrivateKey) {
	f.t.Helper()
	c := &protocol.Curtain{
		Version: protocol.Version, Call: f.call.ID, Terminal: f.call.Terminal, Invitation: protocol.HashOf(f.call.Invitation), By: protocol.SideTerminal, Drawn: drawn, Number: number, At: protocol.At(time.Now()),
	}
	if closed {
		c.CameraClosed, c.MicrophoneClosed = c.At, c.At
	}
	signed, err := protocol.Sign(c, key)
	f.check(err)
	f.call.Send(calls.Update{Kind: calls.KindCurtain, State: calls.Talking, Curtain: signed})
}

// drawn is what the page says of its curtain, verified as a terminal does.
func (f *terminal) drawn(number uint32) bool {
	f.t.Helper()
	key, err := protocol.ParseKey(f.call.Proven.Key)
	f.check(err)
	c := new(protocol.Curtain)
	f.check(protocol.Verify(receive(f.t, f.c.calls.Curtains), key, c))
	if c.Call != f.call.ID || c.Terminal != f.call.Terminal || c.Invitation != protocol.HashOf(f.call.Invitation) || c.By != protocol.SideCaller || c.Number != number {
		f.t.Errorf("the page says %+v, want number %d", c, number)
	}
	return c.Drawn
}

// quiet waits until no picture and no sound come from the page any more.
func (f *terminal) quiet() {
	f.t.Helper()
	for end := time.Now().Add(patience); ; {
		was := f.pictures.Load() + f.sounds.Load()
		<-time.After(500 * time.Millisecond)
		if f.pictures.Load()+f.sounds.Load() == was {
			return
		}
		if time.Now().After(end) {
			f.t.Fatal("the page still sends")
		}
	}
}

func (f *terminal) sends() {
	f.t.Helper()
	pictures, sounds := f.pictures.Load(), f.sounds.Load()
	for end := time.Now().Add(patience); f.pictures.Load() < pictures+5 || f.sounds.Load() < sounds+5; <-time.After(20 * time.Millisecond) {
		if time.Now().After(end) {
			f.t.Fatal("the page does not send")
		}
	}
}

const (
	covered = `document.getElementById("far").srcObject === null && document.getElementById("self").srcObject.getTracks().every((t) => !t.enabled) && document.getElementById("placeholder").checkVisibility()`
	seen    = `document.getElementById("far").srcObject !== null && document.getElementById("far").videoWidth === 640 && !document.getElementById("placeholder").checkVisibility()`
	press   = `document.getElementById("curtain").click(), `
	label   = `document.getElementById("curtain").textContent === %q && !document.getElementById("curtain").hasAttribute("aria-pressed")`
)

func (b *tab) behind(text string) {
	b.t.Helper()
	b.until(fmt.Sprintf(`document.getElementById("placeholder").textContent.includes(%q)`, text))
	if !eval[bool](b, covered) {
		b.t.Errorf("%s: and the page shows or sends something", text)
	}
}

// TestCurtain: a press takes away what is seen, heard and sent before anybody has answered; that the home is closed is said only where its terminal has proven it, newly and
// about this call; and neither end opens the other's.
func TestCurtain(t *testing.T) {
	c := newClinic(t)
	b := c.open()
	if !eval[bool](b, `document.getElementById("curtain").disabled`) {
		t.Error("there is a curtain to draw before a call")
	}
	b.button("Ring")
	f := newTerminal(t, c, c.placed())
	f.ring()
	f.answer()
	b.says("In call with")
	b.until(seen)
	f.sends()

	if !eval[bool](b, press+covered) {
		t.Error("a press does not cover at once")
	}
	if !eval[bool](b, fmt.Sprintf(label, "Open the curtain")) {
		t.Error("the button does not say that it opens the curtain")
	}
	if !f.drawn(1) {
		t.Error("the page says that it is open")
	}
	b.behind("The home has not said yet that its camera and microphone are closed.")
	f.quiet()
	b.says("In call with Home 17, Storgata — your curtain is drawn")
	b.look("curtain-closing")
	f.curtain(2, false, true, c.key)
	b.behind("Camera and microphone in the home are closed since")
	b.look("curtain-mine")

	// What proves nothing says nothing.
	f.curtain(9, false, false, webtest.NewKey())
	f.curtain(1, false, false, c.key)
	f.curtain(2, false, false, c.key)
	f.curtain(3, true, true, c.key)
	b.behind("You and the home have drawn the curtain.")
	eval[*struct{}](b, press+`null`)
	if f.drawn(2) {
		t.Error("the page says that it is drawn")
	}
	if !eval[bool](b, fmt.Sprintf(label, "Draw the curtain")) {
		t.Error("the button does not say that it draws the curtain again")
	}
	b.behind("The home has drawn the curtain.")
	b.says("In call with Home 17, Storgata — curtain drawn by the home")
	b.look("curtain-theirs")
	for range 2 { // whatever the page does, it opens its own alone
		eval[*struct{}](b, press+`null`)
		b.until(covered)
	}
	f.quiet()
	f.curtain(4, false, true, c.key)
	b.behind("The curtain opens.")
	b.look("curtain-opens")
	f.quiet()
	f.curtain(5, false, false, c.key)
	b.until(seen)
	f.sends()
	b.says("In call with Home 17, Storgata — verified")
	if eval[bool](b, `document.getElementById("weak").checkVisibility()`) {
		t.Error("a curtain is said to be a weak line")
	}

	eval[*struct{}](b, press+`null`)
	f.curtain(6, false, true, c.key)
	b.behind("closed since")
	b.button("Hang up")
	half := receive(t, c.calls.Reported)
	if s := half.Series; s != nil {
		for i := range s.In {
			if s.In[i] == 0 || s.Frames[i] == 0 {
				t.Errorf("a second behind a curtain is in the record: %+v", s)
			}
		}
	}
	if half.Quality.Freezes > 0 {
		t.Errorf("a curtain is %d freezes", half.Quality.Freezes)
	}
}
