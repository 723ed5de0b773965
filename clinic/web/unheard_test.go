package web

import (
	"fmt"
	"testing"
)

// TestClinicGoneBefore: who rings while the clinic is away is told that nobody was called, and is not asked for the passkey; where the clinic may have heard of the call, that it
// did not answer. Neither is said to be a call that ended.
func TestClinicGoneBefore(t *testing.T) {
	for _, x := range []struct {
		name, want string
		before     bool // the page knows that the clinic is away
	}{
		{"known", "This page did not reach the clinic. Nobody was called.", true},
		{"found by the call", "The clinic did not answer this page. If the home rings, it stops by itself.", false},
	} {
		t.Run(x.name, func(t *testing.T) {
			c := newClinic(t)
			b := c.open()
			b.forgive("ERR_", "net::", "502", "404 (Not Found)") // of a call that the clinic has not heard of it takes no record
			if x.before {
				c.down.Store(true)
				c.server.CloseClientConnections()
				b.until(`!document.getElementById("banner").hidden`)
				if word := eval[string](b, `getComputedStyle(document.querySelector(".home .chip")).textDecorationLine`); word != "line-through" {
					t.Errorf("what was heard of a home before is shown as if it were so: %q", word)
				}
				b.look("clinic-gone")
				eval[*struct{}](b, `navigator.credentials.get = () => { document.body.dataset.asked = "yes"; return Promise.reject(new Error("asked")) }, null`)
			} else {
				eval[*struct{}](b, `{ const fetched = window.fetch; window.fetch = (path, ...more) => path === "/api/calls" ? Promise.reject(new TypeError("no network")) : fetched(path, ...more) } null`)
			}
			b.button("Ring")
			b.until(fmt.Sprintf(`document.getElementById("status").textContent === %q`, x.want))
			b.until(`document.getElementById("next").textContent.startsWith("Telephone the home meanwhile.")`)
			if eval[bool](b, `document.body.dataset.asked === "yes"`) {
				t.Error("the passkey was asked for")
			}
		})
	}
}
