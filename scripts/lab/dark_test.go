package lab

import (
	"fmt"
	"time"
)

// darkLimit is within what time a camera has to be closed and without power whose panel is gone, or to whom a hand at the panel said so.
const darkLimit = 2 * time.Second

// dark waits until the camera is closed and has no power, and tells when. It judges that by a limit where the host had time for it: a guest that stands still closes nothing.
// A limit of 0 judges nothing.
func (h *atHome) dark(why string, limit time.Duration, do func()) {
	h.t.Helper()
	before, err := ReadCPU()
	if err != nil {
		h.t.Fatal(err)
	}
	began := time.Now()
	do()
	var power, closed time.Duration
	h.await("a camera that is closed and without power", func() bool {
		if power == 0 && !h.panel.Outputs().Camera {
			power = time.Since(began)
		}
		if closed == 0 && !h.holds(theCamera) {
			closed = time.Since(began)
		}
		return power > 0 && closed > 0
	})
	after, err := ReadCPU()
	if err != nil {
		h.t.Fatal(err)
	}
	said := fmt.Sprintf("%s: the camera is closed after %.2f s, and has no power after %.2f s", why, closed.Seconds(), power.Seconds())
	h.guest.Log("%s", said)
	switch idle := after.IdleSince(before); {
	case limit == 0 || max(power, closed) <= limit:
		h.t.Log(said)
	case idle < LeastIdle:
		h.t.Logf("NOT JUDGED: %s, want %v, and the host had %.1f cores to spare", said, limit, idle)
	default:
		h.t.Errorf("%s; want both within %v", said, limit)
	}
}

// lit waits until the camera has power, and is open.
func (h *atHome) lit() {
	h.t.Helper()
	h.await("a camera that is open, with power", func() bool { return h.panel.Outputs().Camera && h.holds(theCamera) })
}
