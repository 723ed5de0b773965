package rehearsal

import (
	"crypto/sha256"
	"encoding/binary"
	"time"

	"vindu/protocol"
)

// When the loudspeaker may be heard without anybody having asked: the chirp is quiet, but it is to wake nobody, whatever the quiet hours are.
const (
	soundFrom = 10 * time.Hour
	soundTo   = 20 * time.Hour
	soundLate = 2 * time.Hour // within which after soundFrom terminals begin
)

const day = 24 * time.Hour

// due says which parts are to be rehearsed at now, on the home's clocks, in a window and after what was rehearsed last. Terminals begin at times of their own, by
// their keys and the date: nothing is kept for that.
func due(key protocol.KeyHash, w *protocol.Window, last *protocol.Rehearsal, now time.Time) (calls, sound bool) {
	if w == nil {
		return false, false
	}
	if began, length, in := opened(w, now); in {
		at := began.Add(share(key, began, length*3/4)) // the rest is for those that could not then
		calls = !now.Before(at) && latest(last, "call.direct", "call.relayed").Before(began)
	}
	midnight := time.Date(now.Year(), now.Month(), now.Day(), 0, 0, 0, 0, now.Location())
	// By the clock on the wall, on which a day may have another hour.
	at := time.Date(now.Year(), now.Month(), now.Day(), int(soundFrom/time.Hour), 0, 0, 0, now.Location()).Add(share(key, midnight, soundLate))
	// Of a terminal that rehearsed its calls within a day: one that was set up a moment ago has been heard by its technician.
	sound = latest(last, "call.direct", "call.relayed").After(now.Add(-day)) && !now.Before(at) && now.Hour() < int(soundTo/time.Hour) && latest(last, "microphone", "loudspeaker").Before(midnight)
	return calls, sound
}

// opened returns when the window that now is in has begun, and how long it is; false: now is in none.
func opened(w *protocol.Window, now time.Time) (time.Time, time.Duration, bool) {
	from, to := time.Duration(w.From)*time.Minute, time.Duration(w.To)*time.Minute
	length := (to - from + day) % day
	for _, back := range []int{0, 1} {
		began := time.Date(now.Year(), now.Month(), now.Day()-back, 0, int(w.From), 0, 0, now.Location())
		if !now.Before(began) && now.Before(began.Add(length)) {
			return began, length, true
		}
	}
	return time.Time{}, 0, false
}

// share is a part of a length of time, evenly spread over keys and dates.
func share(key protocol.KeyHash, date time.Time, of time.Duration) time.Duration {
	h := sha256.New()
	h.Write(key[:])
	h.Write([]byte(date.Format(time.DateOnly)))
	return time.Duration(binary.BigEndian.Uint32(h.Sum(nil))%uint32(of/time.Second)) * time.Second
}

// latest is when the last of parts was rehearsed; zero if none was.
func latest(r *protocol.Rehearsal, names ...string) (at time.Time) {
	for _, name := range names {
		if p, ok := r.Part(name); ok && p.At.Time().After(at) {
			at = p.At.Time()
		}
	}
	return at
}
