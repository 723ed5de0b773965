package wire

import (
	"bytes"
	"encoding/hex"
	"math/rand/v2"
	"testing"
)

var messages = []struct {
	name string
	m    Message
	hex  string // of docs/panel.md; empty: not there
}{
	{"hello", Hello{0x01020304}, "000b5101010203042f54d4d900"},
	{"hello with zeros", Hello{0x01000000}, ""},
	{"lease for nothing", Lease{Session: 7}, ""},
	{"lease for the camera", Lease{Session: 0xdeadbeef, Sequence: 9, Camera: true, Lamp: LampCall}, "000e5102deadbeef090102f4daef0200"},
	{"status of a panel that was just started", Status{}, ""},
	{"status of docs/panel.md", Status{Session: 0x01020304, Sequence: 7, Camera: true, Open: true, No: 2, Volume: 60, Light: 90, Left: 150, Firmware: 1}, "000a518101020304070302093c5a96013c6ac0ba00"},
	{"status", Status{Session: 0xffffffff, Sequence: 255, Camera: true, Open: true, Denied: true, NoHeld: true, Held: true, No: 255, Answer: 255, Volume: 100, Light: 255, Left: 150, Firmware: 255}, ""},
}

func decode(b []byte) (found []Message, dropped uint64) {
	var d Decoder
	for _, c := range b {
		if m := d.Feed(c); m != nil {
			found = append(found, m)
		}
	}
	return found, d.Dropped()
}

func TestThereAndBack(t *testing.T) {
	for _, test := range messages {
		t.Run(test.name, func(t *testing.T) {
			b := test.m.Append(nil)
			if bytes.IndexByte(b[1:len(b)-1], 0) >= 0 || b[0] != 0 || b[len(b)-1] != 0 || len(b) > maxCoded+2 {
				t.Fatalf("no frame: %x", b)
			}
			if found, dropped := decode(b); len(found) != 1 || found[0] != test.m || dropped != 0 {
				t.Errorf("%x is %v, with %d dropped", b, found, dropped)
			}
			if test.hex != "" && hex.EncodeToString(b) != test.hex {
				t.Errorf("%x, but the page says %s", b, test.hex)
			}
			for at := range b { // each bit that is turned in between loses the frame, and only this one
				for bit := range 8 {
					damaged := bytes.Clone(b)
					damaged[at] ^= 1 << bit
					found, _ := decode(append(damaged, b...))
					for _, m := range found {
						if m != test.m {
							t.Fatalf("bit %d of byte %d: %v", bit, at, m)
						}
					}
					if len(found) == 0 {
						t.Fatalf("bit %d of byte %d lost the next frame, too", bit, at)
					}
				}
			}
		})
	}
}

func TestRefused(t *testing.T) {
	for name, b := range map[string][]byte{
		"another version":            frameOf(nil, 0x01, kindHello, make([]byte, helloSize)),
		"another kind":               frame(nil, 0x03, make([]byte, helloSize)),
		"a hello that is too long":   frame(nil, kindHello, make([]byte, helloSize+1)),
		"a lease that is too short":  frame(nil, kindLease, make([]byte, leaseSize-1)),
		"no such wish":               frame(nil, kindLease, []byte{0, 0, 0, 1, 1, 2, 0}),
		"no such lamp":               frame(nil, kindLease, []byte{0, 0, 0, 1, 1, 1, 3}),
		"a flag that is none":        frame(nil, kindStatus, []byte{0, 0, 0, 1, 1, 0x20, 0, 0, 0, 0, 0, 0}),
		"above full volume":          frame(nil, kindStatus, []byte{0, 0, 0, 1, 1, 0, 0, 0, 101, 0, 0, 0}),
		"nothing":                    frame(nil, 0, nil),
		"too long":                   append(bytes.Repeat([]byte{1}, 4000), 0),
		"a length that is not there": {0, 9, 1, 0},
	} {
		t.Run(name, func(t *testing.T) {
			good := Hello{1}
			found, dropped := decode(good.Append(b))
			if len(found) != 1 || found[0] != good || dropped != 1 {
				t.Errorf("%v, %d dropped", found, dropped)
			}
		})
	}
}

// TestNoise is ten minutes of a line on which nothing but noise comes, at full speed.
func TestNoise(t *testing.T) {
	noise := rand.New(rand.NewPCG(1, 2))
	var d Decoder
	for range Baud / 10 * 600 {
		b := byte(noise.Uint32())
		if b < 32 { // more beginnings and ends than chance has
			b = 0
		}
		if m := d.Feed(b); m != nil {
			t.Fatalf("noise is %v", m)
		}
	}
	if d.Dropped() == 0 {
		t.Error("nothing was looked at")
	}
}

func TestNewer(t *testing.T) {
	for _, test := range []struct {
		a, b uint8
		want bool
	}{{1, 0, true}, {0, 255, true}, {127, 0, true}, {128, 0, false}, {0, 0, false}, {0, 1, false}, {255, 0, false}} {
		if Newer(test.a, test.b) != test.want {
			t.Errorf("%d after %d", test.a, test.b)
		}
	}
}

// FuzzDecode: whatever comes, nothing breaks; what is accepted is what its sender would have sent.
func FuzzDecode(f *testing.F) {
	for _, m := range messages {
		f.Add(m.m.Append(nil))
	}
	f.Add([]byte("\x00login: root\r\n\x00\xff\x00\x01\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		found, _ := decode(b)
		for _, m := range found {
			again, _ := decode(m.Append(nil))
			if len(again) != 1 || again[0] != m {
				t.Errorf("%v is %v", m, again)
			}
		}
	})
}
