// Package simulator is a panel without a microcontroller: the same logic as the reference firmware (package firmware) in Go, held to the same contract (package
// paneltest), and a line to it. Tests, the demo and cmd/vindu-panel use it; no terminal does.
package simulator

import (
	"vindu/device/panel/wire"
)

// Inputs are a panel's sensors and buttons, now.
type Inputs struct {
	No, Answer    bool
	Open          bool // the shutter
	Volume, Light uint8
	Full          bool // the line takes nothing, now
}

// Outputs are what a panel switches.
type Outputs struct {
	Camera bool // power of the camera, and with it its light
	Lamp   bool // the call lamp
}

// Logic is what runs in a panel.
type Logic interface {
	// Step is one turn: now in milliseconds, which may wrap around; what was received since the last one. It returns what is switched, and what is sent. It has
	// to be called at least every 5 ms on a board; a simulator may take 20.
	Step(now uint32, in Inputs, received []byte) (Outputs, []byte)
}

// Firmware is the version that Panel says.
const Firmware = 1

const (
	pressMS  = 20
	openMS   = 200
	blinkMS  = 500
	leaseMS  = uint32(wire.LeaseTime / 1e6)
	statusMS = uint32(wire.StatusTime / 1e6)
)

// Panel is the Logic of a panel. The zero value is one that was just started.
type Panel struct {
	in wire.Decoder

	session  uint32
	counted  bool
	sequence uint8
	leased   bool
	leasedAt uint32
	wanted   bool
	lamp     wire.Lamp
	denied   bool

	no, answer, shutter input
	presses, answers    uint8

	said   wire.Status // the last one
	saidAt uint32
	saying bool // it counts
}

// input settles.
type input struct {
	now, settled bool
	since        uint32
}

// settle returns true if the input has settled on true just now.
func (i *input) settle(value bool, now, on, off uint32) bool {
	if value != i.now {
		i.now, i.since = value, now
	}
	limit := off
	if i.now {
		limit = on
	}
	if i.settled == i.now || now-i.since < limit {
		return false
	}
	i.settled = i.now
	return i.settled
}

// Step implements Logic.
func (p *Panel) Step(now uint32, in Inputs, received []byte) (Outputs, []byte) {
	for _, b := range received {
		switch m := p.in.Feed(b).(type) {
		case wire.Hello:
			p.hello(m)
		case wire.Lease:
			p.lease(m, now)
		}
	}
	if p.leased && now-p.leasedAt >= leaseMS {
		p.giveUp()
	}
	if p.no.settle(in.No, now, pressMS, pressMS) {
		p.presses++
	}
	if p.answer.settle(in.Answer, now, pressMS, pressMS) {
		p.answers++
	}
	p.shutter.settle(in.Open, now, openMS, 0)
	if p.no.settled && (p.wanted || p.lamp != wire.LampOff) {
		p.denied = true
	}
	out := Outputs{
		Camera: p.leased && p.wanted && !p.denied && p.shutter.settled,
		Lamp:   p.lamp == wire.LampCall || p.lamp == wire.LampRinging && now%(2*blinkMS) < blinkMS,
	}
	return out, p.say(now, in, out)
}

func (p *Panel) giveUp() { p.leased, p.wanted, p.lamp = false, false, wire.LampOff }

func (p *Panel) hello(m wire.Hello) {
	if m.Session == 0 {
		return
	}
	p.saying = false // so that it is answered at once
	if m.Session == p.session {
		return
	}
	p.session, p.counted = m.Session, false
	p.giveUp() // whoever had the lease is gone. What a person denied stays denied until that call is over.
}

func (p *Panel) lease(m wire.Lease, now uint32) {
	if p.session == 0 || m.Session != p.session || p.counted && !wire.Newer(m.Sequence, p.sequence) {
		return
	}
	p.counted, p.sequence = true, m.Sequence
	p.leased, p.leasedAt, p.wanted, p.lamp = true, now, m.Camera, m.Lamp
	if !p.wanted && p.lamp == wire.LampOff {
		p.denied = false // the call is over
	}
}

func (p *Panel) say(now uint32, in Inputs, out Outputs) []byte {
	s := wire.Status{
		Session: p.session, Sequence: p.said.Sequence, Camera: out.Camera, Open: p.shutter.settled, Denied: p.denied, NoHeld: p.no.settled, Held: p.answer.settled,
		No: p.presses, Answer: p.answers, Volume: p.said.Volume, Light: p.said.Light, Left: p.said.Left, Firmware: p.said.Firmware,
	}
	last := p.said
	last.Session = s.Session // a new one is said at once as it is
	if p.saying && s == last && now-p.saidAt < statusMS {
		return nil
	}
	if in.Full {
		return nil // it is tried again in the next step
	}
	s.Sequence++
	s.Volume, s.Light, s.Left, s.Firmware = min(in.Volume, 100), in.Light, 0, Firmware
	if p.leased {
		s.Left = uint8((leaseMS - (now - p.leasedAt)) / 10)
	}
	p.said, p.saidAt, p.saying = s, now, true
	return s.Append(nil)
}
