// Package paneltest is the contract of what runs in a panel: one test for the reference firmware in C and for the simulator.
package paneltest

import (
	"testing"

	"vindu/device/panel/simulator"
	"vindu/device/panel/wire"
)

const (
	stepMS  = 5
	session = 0x1234abcd

	beforeHello = "never before a hello"
)

// bench is a panel with hands on it.
type bench struct {
	t      *testing.T
	logic  simulator.Logic
	now    uint32
	in     simulator.Inputs
	out    simulator.Outputs
	heard  wire.Decoder
	status wire.Status // the last one
	said   []wire.Status
	number uint8
}

// start has a panel with an open shutter. Its clock wraps around within the test.
func start(t *testing.T, logic simulator.Logic) *bench {
	b := &bench{t: t, logic: logic, now: 0xffffff00, in: simulator.Inputs{Open: true, Volume: 60, Light: 90}}
	b.run(300)
	return b
}

// step is one turn with these bytes received.
func (b *bench) step(received []byte) {
	b.t.Helper()
	b.now += stepMS
	out, sent := b.logic.Step(b.now, b.in, received)
	b.out = out
	for _, c := range sent {
		if m := b.heard.Feed(c); m != nil {
			s, ok := m.(wire.Status)
			if !ok {
				b.t.Fatalf("the panel says %#v", m)
			}
			b.status = s
			b.said = append(b.said, s)
		}
	}
	if b.heard.Dropped() > 0 {
		b.t.Fatalf("the panel says what nobody understands: %x", sent)
	}
}

func (b *bench) run(ms int) {
	b.t.Helper()
	for range ms / stepMS {
		b.step(nil)
	}
}

func (b *bench) send(m wire.Message) {
	b.t.Helper()
	b.step(m.Append(nil))
}

func (b *bench) lease(camera bool, lamp wire.Lamp) {
	b.t.Helper()
	b.number++
	b.send(wire.Lease{Session: session, Sequence: b.number, Camera: camera, Lamp: lamp})
}

// expect tells what the camera is and what the panel says that it is.
func (b *bench) expect(camera bool, what string) {
	b.t.Helper()
	if b.out.Camera != camera || b.status.Camera != camera {
		b.t.Fatalf("%s: the camera has power: %v, and the panel says %v; want %v", what, b.out.Camera, b.status.Camera, camera)
	}
}

// Contract is what every panel keeps.
func Contract(t *testing.T, fresh func(*testing.T) simulator.Logic) {
	for _, c := range []struct {
		name string
		test func(*bench)
	}{
		{"dark without a lease", func(b *bench) {
			b.run(5000)
			b.expect(false, "nobody asked")
		}},
		{"on with a lease, at once", func(b *bench) {
			b.lease(true, wire.LampCall)
			b.expect(true, "asked")
			if !b.out.Lamp {
				b.t.Error("the call lamp is off")
			}
		}},
		{"off when the lease lapses", func(b *bench) {
			b.lease(true, wire.LampCall)
			b.run(1495)
			b.expect(true, "before it lapsed")
			b.run(stepMS)
			b.expect(false, "after it lapsed")
			if b.out.Lamp {
				b.t.Error("the call lamp is on")
			}
		}},
		{"on while it is renewed", func(b *bench) {
			for range 40 {
				b.lease(true, wire.LampCall)
				b.run(500)
				b.expect(true, "renewed")
			}
		}},
		{"off when it is given back", func(b *bench) {
			b.lease(true, wire.LampCall)
			b.lease(false, wire.LampOff)
			b.expect(false, "given back")
		}},
		{"never by a lease of another session", func(b *bench) {
			for _, other := range []uint32{0, 1, session + 1} {
				b.number++
				b.send(wire.Lease{Session: other, Sequence: b.number, Camera: true})
				b.expect(false, "another session's")
			}
		}},
		{beforeHello, func(b *bench) {
			b.send(wire.Lease{Camera: true, Sequence: 1})
			b.expect(false, "no session")
			b.send(wire.Hello{})
			b.send(wire.Lease{Camera: true, Sequence: 2})
			b.expect(false, "session 0")
		}},
		{"never by what was said before", func(b *bench) {
			b.lease(true, wire.LampCall)
			b.lease(false, wire.LampOff)
			b.send(wire.Lease{Session: session, Sequence: 1, Camera: true})
			b.expect(false, "said again")
		}},
		{"what is said again does not renew", func(b *bench) {
			b.lease(true, wire.LampCall)
			for range 10 {
				b.run(200)
				b.send(wire.Lease{Session: session, Sequence: b.number, Camera: true})
			}
			b.expect(false, "said again")
		}},
		{"off with another hello", func(b *bench) {
			b.lease(true, wire.LampCall)
			b.send(wire.Hello{Session: session + 1})
			b.expect(false, "another terminal")
			b.number++
			b.send(wire.Lease{Session: session, Sequence: b.number, Camera: true})
			b.expect(false, "the one before")
		}},
		{"the same hello changes nothing", func(b *bench) {
			b.lease(true, wire.LampCall)
			b.send(wire.Hello{Session: session})
			b.expect(true, "hello again")
		}},
		{"the shutter cuts at once", func(b *bench) {
			b.lease(true, wire.LampCall)
			b.in.Open = false
			b.run(stepMS)
			b.expect(false, "shutter closed")
			if b.status.Open {
				b.t.Error("the panel says that the shutter is open")
			}
			b.in.Open = true
			b.run(150)
			b.lease(true, wire.LampCall)
			b.expect(false, "shutter not open for long")
			b.run(200)
			b.expect(true, "shutter open, and it is still wanted")
		}},
		{"a shutter that flutters is closed", func(b *bench) {
			for i := range 400 {
				b.in.Open = i%20 != 0
				if i%50 == 0 {
					b.lease(true, wire.LampCall)
				}
				b.step(nil)
				b.expect(false, "fluttering")
			}
		}},
		{"no cuts within 25 ms, until that call is over", func(b *bench) {
			b.lease(true, wire.LampCall)
			b.in.No = true
			b.run(25)
			b.expect(false, "no")
			if !b.status.Denied || !b.status.NoHeld || b.status.No != 1 {
				b.t.Errorf("the panel says %+v", b.status)
			}
			b.in.No = false
			for range 8 {
				b.lease(true, wire.LampCall)
				b.run(500)
				b.expect(false, "denied, and wanted on")
				b.lease(false, wire.LampCall)
				b.lease(true, wire.LampCall)
				b.expect(false, "denied, and asked again in the same call")
			}
			b.run(2000) // not by a lapse either
			b.lease(true, wire.LampCall)
			b.expect(false, "denied before a lapse")
			b.send(wire.Hello{Session: session + 1})
			b.send(wire.Lease{Session: session + 1, Sequence: 1, Camera: true})
			b.expect(false, "denied before another hello")
			b.send(wire.Lease{Session: session + 1, Sequence: 2})
			b.send(wire.Lease{Session: session + 1, Sequence: 3, Camera: true})
			b.expect(true, "another call")
		}},
		{"no while it rings denies that call", func(b *bench) {
			b.lease(false, wire.LampRinging)
			b.in.No = true
			b.run(100)
			b.in.No = false
			b.run(100)
			b.lease(true, wire.LampCall)
			b.expect(false, "denied while it rang")
			b.lease(false, wire.LampOff)
			b.lease(true, wire.LampCall)
			b.expect(true, "the next call")
		}},
		{"no while nothing happens denies nothing", func(b *bench) {
			b.in.No = true
			b.run(100)
			b.in.No = false
			b.run(100)
			b.lease(true, wire.LampCall)
			b.expect(true, "a call later")
		}},
		{"a no button that is held lets nothing begin", func(b *bench) {
			b.in.No = true
			b.run(100)
			b.lease(true, wire.LampCall)
			b.expect(false, "held")
		}},
		{"bouncing is one press", func(b *bench) {
			for i := range 40 {
				b.in.No, b.in.Answer = i%2 == 0, i%3 == 0
				b.step(nil)
			}
			if b.status.No != 0 || b.status.Answer != 0 {
				b.t.Fatalf("bounces count: %+v", b.status)
			}
			b.in.No, b.in.Answer = true, true
			b.run(1000)
			b.in.No, b.in.Answer = false, false
			b.run(100)
			if b.status.No != 1 || b.status.Answer != 1 {
				b.t.Errorf("%d and %d presses", b.status.No, b.status.Answer)
			}
		}},
		{"it says all the time what it is", func(b *bench) {
			b.said = nil
			b.run(1000)
			if n := len(b.said); n < 9 || n > 11 {
				b.t.Errorf("%d times in a second", n)
			}
			for i, s := range b.said[1:] {
				if s.Sequence != b.said[i].Sequence+1 {
					b.t.Error("a number is missing")
				}
			}
			if s := b.status; s.Session != session || s.Volume != 60 || s.Light != 90 || !s.Open || s.Firmware == 0 {
				b.t.Errorf("%+v", s)
			}
			b.in.Volume = 250
			b.run(200)
			if b.status.Volume != 100 {
				b.t.Errorf("volume %d", b.status.Volume)
			}
		}},
		{"what did not fit into the line is said later", func(b *bench) {
			b.in.Full, b.in.No = true, true
			b.run(100)
			b.in.No = false
			b.run(100)
			b.in.Full, b.said = false, nil
			b.run(stepMS)
			if b.status.No != 1 || len(b.said) != 1 {
				b.t.Errorf("%+v", b.said)
			}
		}},
		{"it says how long the lease lasts", func(b *bench) {
			b.lease(true, wire.LampCall)
			b.run(1000)
			if left := b.status.Left; left < 40 || left > 60 {
				b.t.Errorf("%d hundredths", left)
			}
		}},
		{"the lamp breathes while it rings, and the camera is off", func(b *bench) {
			seen := map[bool]bool{}
			for range 5 {
				b.lease(false, wire.LampRinging)
				for range 80 {
					b.step(nil)
					seen[b.out.Lamp] = true
					b.expect(false, "ringing")
				}
			}
			if len(seen) != 2 {
				b.t.Errorf("the lamp was %v", seen)
			}
		}},
		{"a damaged frame is nothing", func(b *bench) {
			for _, lamp := range []wire.Lamp{wire.LampOff, wire.LampCall} { // each bit of it but the zeros around it, which only end it sooner
				frame := wire.Lease{Session: session, Sequence: 1, Camera: true, Lamp: lamp}.Append(nil)
				for bit := 8; bit < 8*(len(frame)-1); bit++ {
					damaged := append([]byte(nil), frame...)
					damaged[bit/8] ^= 1 << (bit % 8)
					b.step(append(damaged, 0))
					b.expect(false, "damaged")
					if b.out.Lamp {
						b.t.Fatal("the call lamp is on")
					}
				}
			}
			b.lease(true, wire.LampCall)
			b.expect(true, "whole")
		}},
		{"noise in between is nothing, and keeps nothing away", func(b *bench) {
			frame := wire.Lease{Session: session, Sequence: 1, Camera: true}.Append([]byte("\x00login: \xff\x00\x01\x01\x00garbage"))
			b.step(append(frame, 0x00, 0x51, 0x00))
			b.expect(true, "among noise")
			for range 100 {
				b.step([]byte("a line that never ends and has no zero in it, as long as it is wanted to be"))
			}
			b.run(1500)
			b.expect(false, "noise is no lease")
			b.step([]byte{0})
			b.number = 1
			b.lease(true, wire.LampCall)
			b.expect(true, "after noise")
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := start(t, fresh(t))
			if c.name != beforeHello {
				b.send(wire.Hello{Session: session})
			}
			c.test(b)
		})
	}
}

// Same plays a script on two panels. Each of its bytes is a turn: a press, a turn of time, a message or noise.
func Same(t *testing.T, one, other simulator.Logic, script []byte) {
	in := simulator.Inputs{Open: true, Volume: 50}
	now, number := uint32(0xfffffe00), uint8(0)
	for i, b := range script {
		var received []byte
		switch b & 7 {
		case 0:
			in.No = b&8 != 0
			in.Answer = b&16 != 0
			in.Open = b&32 != 0
			in.Full = b&64 != 0
		case 1:
			received = wire.Hello{Session: uint32(b >> 3)}.Append(nil)
		case 2, 3:
			number += b >> 6
			received = wire.Lease{Session: uint32(b >> 3 & 3), Sequence: number, Camera: b&1 != 0, Lamp: wire.Lamp(b >> 5 & 1)}.Append(nil)
		case 4:
			now += uint32(b) * 8
		case 5:
			received = script[i:min(i+int(b>>3), len(script))]
		case 6:
			received = append(wire.Lease{Session: 1, Sequence: b, Camera: true}.Append(nil)[:b>>4], b, 0)
		}
		now += stepMS
		outA, saidA := one.Step(now, in, received)
		outB, saidB := other.Step(now, in, received)
		if outA != outB || string(saidA) != string(saidB) {
			t.Fatalf("turn %d: %+v %x\nagainst %+v %x", i, outA, saidA, outB, saidB)
		}
	}
}

// Seeds are scripts to begin with.
func Seeds(f *testing.F) {
	f.Add([]byte("\x20\x09\xfc\x4b\x04\x20\x28\x04\x20\x4b\x4b\x42\x4b\xfc\xfc\x4b"))
	f.Add([]byte("\x20\xfc\x09\x4b\x09\x11\x4b\x53\x00\x04\x20\xfc\x53\x5e\xae\x0d\x00\x51\x00"))
}
