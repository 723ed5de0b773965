package web

import (
	"cmp"
	"strconv"
	"strings"
	"time"

	"vindu/clinic/fleet"
	"vindu/protocol"
)

// inventory says what a terminal consists of (R31), as it has told itself last; nothing of one that never reported.
func (w words) inventory(s fleet.State, keyFrom time.Time, certificate time.Time, now time.Time) []fact {
	h := s.Health
	if h == nil {
		return nil
	}
	var facts []fact
	add := func(key, value string) {
		if value != "" {
			facts = append(facts, fact{Name: w[key], Value: value})
		}
	}
	add("operator.software", h.Software)
	if a := h.About; a != nil {
		add("inventory.board", a.Board)
		add("inventory.kernel", a.Kernel)
		var coders []string
		for _, c := range a.Coders {
			coders = append(coders, w.say("inventory.coder", names{"name": c.Name, "encode": w.millis(c.Encode), "decode": w.millis(c.Decode)}))
		}
		add("inventory.coders", strings.Join(coders, "; "))
	}
	for _, d := range []struct {
		key string
		of  protocol.DeviceState
	}{{"record.camera", h.Camera}, {"record.microphone", h.Microphone}, {"inventory.speaker", h.Speaker}, {"inventory.screen", h.Screen}} {
		kind := cmp.Or(w["record.kind."+d.of.Kind], w["inventory.kind."+d.of.Kind], d.of.Kind)
		if d.of.Name != "" {
			kind += " · " + d.of.Name
		}
		add(d.key, kind)
	}
	add("operator.grade", w.grade(h.KeyGrade))
	if !keyFrom.IsZero() {
		add("inventory.key", w.say("inventory.key.text", names{"from": w.full(keyFrom), "days": days(now.Sub(keyFrom))}))
	}
	if !certificate.IsZero() {
		add("inventory.certificate", w.say("inventory.certificate.text", names{"to": w.full(certificate), "days": days(certificate.Sub(now))}))
	}
	add("inventory.running", w.say("inventory.running.text", names{"since": w.full(h.At.Time().Add(-time.Duration(min(h.Uptime, 1<<31)) * time.Second))}))
	if f := h.Figures; f != nil && f.Written > 0 {
		add("inventory.written", w.say("inventory.written.text", names{"mb": w.decimal(float64(f.Written)*1024/1e6, 1)}))
	}
	add("inventory.events", w.say("inventory.events.text", names{"pending": strconv.FormatUint(h.Pending, 10), "dropped": strconv.FormatUint(h.Dropped, 10), "refused": strconv.FormatUint(h.Malformed, 10)}))
	return facts
}

// millis writes µs as ms, to the tenth.
func (w words) millis(us uint64) string { return w.decimal(float64(us)/1000, 1) }

func days(d time.Duration) string { return strconv.Itoa(int(max(d, 0) / (24 * time.Hour))) }
