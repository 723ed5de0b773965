package web

import (
	"testing"

	"vindu/protocol"
)

// TestPresent: in a call the page reminds its caller to say who is with her and to ask the home, puts it on the record, and asks anew in the next.
func TestPresent(t *testing.T) {
	c := newClinic(t)
	b := c.open()
	hidden := `document.getElementById("present").checkVisibility() === false`
	if !eval[bool](b, hidden) {
		t.Error("it is asked before a call")
	}
	b.button("Ring")
	f := newTerminal(t, c, c.placed())
	f.ring()
	f.answer()
	b.says("In call with")
	b.until(`document.getElementById("present").checkVisibility()`)
	b.until(`document.getElementById("far").videoWidth === 640 && document.getElementById("line").textContent !== ""`)
	b.look("present")
	eval[*struct{}](b, `(() => {
		const n = document.getElementById("with-students"); n.value = "2"; n.dispatchEvent(new Event("input"));
		document.getElementById("home-present").value = "helper";
		document.querySelector("#present button").click();
	})(), null`)
	b.until(`document.getElementById("present-said").textContent === "Noted."`)
	r, err := c.calls.Record(t.Context(), c.person, f.call.ID)
	f.check(err)
	if r.Present.With == nil || r.Present.With.Students != 2 || r.Present.Home != "helper" {
		t.Errorf("on record is %+v", r.Present)
	}
	eval[*struct{}](b, `document.getElementById("with-nobody").click(), null`)
	if eval[string](b, `document.getElementById("with-students").value`) != "0" {
		t.Error("nobody, and two students")
	}
	f.check(f.call.End(protocol.EndPatientHungUp, c.key))
	b.says("The call has ended")
	b.until(hidden)
	navigate(b, c.server.URL+"/calls/"+f.call.ID.String())
	b.until(`document.body.textContent.includes("students: 2") && document.body.textContent.includes("a helper, as the caller was told")`)
}

// TestLine: what is said of a line follows the sound's grade and the picture's pace over some seconds, and nothing is said of what a curtain keeps away.
func TestLine(t *testing.T) {
	got := eval[string](modules(t), `(() => {
		const r = new vindu.record.Recorder();
		const said = [];
		const lately = (n, grade, frames, frozen) => { for (let i = 0; i < n; i++) r.lately({grade, frames, frozen}); said.push(r.line() || "-"); };
		lately(4, 440, 25, 0); lately(1, 440, 25, 0);
		lately(5, 380, 25, 0); lately(5, 350, 25, 0);
		lately(5, 440, 4, 0); lately(5, 440, 25, 0.3); lately(5, 0, 25, 0);
		r.cover(true); said.push(r.line() || "-");
		return said.join(" ");
	})()`)
	if got != "- good fair poor poor poor good -" {
		t.Errorf("said %q", got)
	}
}
