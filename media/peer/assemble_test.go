package peer

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A far end that died must be known within 10 s (consent, RFC 7675).
func TestSilenceIsShort(t *testing.T) {
	if silentAfter+lostAfter+2*keepAlive > 10*time.Second {
		t.Errorf("a far end that fell silent is missed after %s", silentAfter+lostAfter+2*keepAlive)
	}
}

// cut makes the packets of a frame. The body's first byte says whether it is a keyframe.
func cut(pid int, key bool, packets int) (out [][]byte) {
	for i := range packets {
		head := []byte{0x80, 0x80, 0x80 | byte(pid>>8&0x7f), byte(pid)}
		if i == 0 {
			head[0] |= 0x10
		}
		body := []byte{1, byte(pid), byte(i)}
		if key {
			body[0] = 0
		}
		out = append(out, append(head, body...))
	}
	return out
}

// feed plays packets into an assembler. Each is written as picture ID and number, "k" for a keyframe's, "p" for padding;
// what comes out is one word for each frame.
type feed struct {
	a   assembler
	now time.Time
	out []string
	req []uint16
}

func newFeed() *feed { return &feed{now: time.Unix(1000, 0)} }

func (f *feed) pull() {
	for {
		fr, ok := f.a.pull(f.now)
		if !ok {
			break
		}
		w := fmt.Sprintf("%d", fr.Data[1])
		if fr.Keyframe {
			w = "k" + w
		}
		f.out = append(f.out, fmt.Sprintf("%s/%d", w, len(fr.Data)/3))
	}
	f.req = append(f.req, f.a.nacks(f.now)...)
}

func (f *feed) push(seq uint16, pid int, key bool, part, parts int) {
	p := cut(pid, key, parts)[part]
	f.a.push(seq, uint32(pid)*3000, part == parts-1, p, f.now)
	f.pull()
}

func (f *feed) padding(seq uint16) {
	f.a.push(seq, 0, false, nil, f.now)
	f.pull()
}

func (f *feed) later(d time.Duration) {
	f.now = f.now.Add(d)
	f.pull()
}

func (f *feed) want(t *testing.T, frames ...string) {
	t.Helper()
	if !slices.Equal(f.out, frames) {
		t.Errorf("frames %v, want %v", f.out, frames)
	}
}

func TestAssembler(t *testing.T) {
	for _, tt := range []struct {
		name   string
		play   func(f *feed)
		frames []string
	}{
		{"in order", func(f *feed) {
			f.push(10, 1, true, 0, 2)
			f.push(11, 1, true, 1, 2)
			f.push(12, 2, false, 0, 1)
		}, []string{"k1/2", "2/1"}},
		{"starts with a delta", func(f *feed) {
			f.push(10, 1, false, 0, 1)
			f.push(11, 2, true, 0, 1)
			f.push(12, 3, false, 0, 1)
		}, []string{"k2/1", "3/1"}},
		{"swapped", func(f *feed) {
			f.push(10, 1, true, 0, 3)
			f.push(12, 1, true, 2, 3)
			f.push(11, 1, true, 1, 3)
			f.push(14, 3, false, 0, 1)
			f.push(13, 2, false, 0, 1)
		}, []string{"k1/3", "2/1", "3/1"}},
		{"twice", func(f *feed) {
			f.push(10, 1, true, 0, 1)
			f.push(10, 1, true, 0, 1)
			f.push(11, 2, false, 0, 1)
			f.push(10, 1, true, 0, 1)
		}, []string{"k1/1", "2/1"}},
		{"sequence wraps", func(f *feed) {
			f.push(65534, 1, true, 0, 2)
			f.push(65535, 1, true, 1, 2)
			f.push(1, 2, false, 1, 2)
			f.push(0, 2, false, 0, 2)
		}, []string{"k1/2", "2/2"}},
		{"picture ID wraps over lost padding", func(f *feed) {
			f.a.push(9, 1, true, cut(32767, true, 1)[0], f.now)
			f.pull()
			f.push(11, 0, false, 0, 1) // 10 held padding and was lost
		}, []string{"k255/1", "0/1"}},
		{"padding between", func(f *feed) {
			f.push(10, 1, true, 0, 1)
			f.padding(11)
			f.padding(12)
			f.push(13, 2, false, 0, 1)
		}, []string{"k1/1", "2/1"}},
		{"lost padding is passed over at once", func(f *feed) {
			f.push(10, 1, true, 0, 1)
			f.push(13, 2, false, 0, 1)
		}, []string{"k1/1", "2/1"}},
		{"lost frame is waited for", func(f *feed) {
			f.push(10, 1, true, 0, 1)
			f.push(12, 3, false, 0, 1)
		}, []string{"k1/1"}},
		{"lost frame comes late", func(f *feed) {
			f.push(10, 1, true, 0, 1)
			f.push(12, 3, false, 0, 1)
			f.later(100 * time.Millisecond)
			f.push(11, 2, false, 0, 1)
		}, []string{"k1/1", "2/1", "3/1"}},
		{"lost frame never comes, then a keyframe", func(f *feed) {
			f.push(10, 1, true, 0, 1)
			f.push(12, 3, false, 0, 1)
			f.later(maxWait)
			f.push(13, 4, false, 0, 1)
			f.push(14, 5, true, 0, 1)
			f.push(15, 6, false, 0, 1)
		}, []string{"k1/1", "k5/1", "6/1"}},
		{"keyframe overtakes the hole", func(f *feed) {
			f.push(10, 1, false, 0, 1)
			f.push(12, 3, false, 0, 1)
			f.push(14, 5, true, 0, 1)
		}, []string{"k5/1"}},
		{"frame without its head", func(f *feed) {
			f.push(10, 1, true, 1, 3)
			f.push(11, 1, true, 2, 3)
			f.push(12, 2, true, 0, 1)
		}, []string{"k2/1"}},
		{"no marker", func(f *feed) {
			f.a.push(10, 100, false, cut(1, true, 1)[0], f.now)
			f.pull()
			f.push(11, 2, false, 0, 1)
		}, []string{"k1/1", "2/1"}},
		{"jump far ahead", func(f *feed) {
			f.push(10, 1, true, 0, 1)
			f.push(5000, 2, false, 0, 1)
			f.push(5001, 3, true, 0, 1)
		}, []string{"k1/1", "k3/1"}},
		{"rubbish", func(f *feed) {
			f.push(10, 1, true, 0, 1)
			f.a.push(11, 5, true, []byte{0x90, 0x80}, f.now)
			f.pull()
			f.push(12, 2, false, 0, 1)
		}, []string{"k1/1", "2/1"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFeed()
			tt.play(f)
			f.want(t, tt.frames...)
		})
	}
}

func TestAssemblerAsks(t *testing.T) {
	f := newFeed()
	f.a.rtt = 40 * time.Millisecond
	f.push(10, 1, true, 0, 1)
	f.push(13, 4, false, 0, 1)
	if !slices.Equal(f.req, []uint16{11, 12}) {
		t.Fatalf("asked for %v at once, want 11 and 12", f.req)
	}
	f.later(30 * time.Millisecond)
	if len(f.req) != 2 {
		t.Errorf("asked again within a round trip: %v", f.req)
	}
	f.push(11, 2, false, 0, 1)
	f.later(30 * time.Millisecond)
	if !slices.Equal(f.req, []uint16{11, 12, 12}) {
		t.Errorf("asked for %v", f.req)
	}
	if !f.a.waiting() {
		t.Error("nothing is waited for")
	}
	f.later(maxWait)
	if f.a.waiting() || f.a.flowing || f.a.lost != 1 || f.a.recovered != 1 {
		t.Errorf("after the wait: waiting %v, flowing %v, lost %d, recovered %d", f.a.waiting(), f.a.flowing, f.a.lost, f.a.recovered)
	}
}

func TestAssemblerDoesNotAllocate(t *testing.T) {
	var a assembler
	now := time.Unix(1000, 0)
	payload := make([]byte, 1000)
	seq, pid := uint16(0), 0
	step := func() {
		pid = (pid + 1) & 0x7fff
		for i := range 5 {
			copy(payload, []byte{0x80, 0x80, 0x80 | byte(pid>>8), byte(pid), 1})
			if i == 0 {
				payload[0] |= 0x10
				if seq == 0 {
					payload[4] = 0
				}
			}
			a.push(seq, uint32(pid), i == 4, payload, now)
			seq++
			a.nacks(now)
			for {
				if _, ok := a.pull(now); !ok {
					break
				}
			}
		}
	}
	for range 300 {
		step()
	}
	if n := testing.AllocsPerRun(100, step); n != 0 {
		t.Errorf("%v allocations per frame", n)
	}
}

func FuzzDescriptor(f *testing.F) {
	for _, p := range cut(300, true, 2) {
		f.Add(p)
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		d, err := parseDescriptor(p)
		if err == nil && (d.size < 1 || d.size > len(p)) {
			t.Fatalf("descriptor of %d bytes in %d", d.size, len(p))
		}
	})
}

// Whatever comes, frames hold what was sent, and the assembler comes to rest.
func FuzzAssembler(f *testing.F) {
	f.Add([]byte{0, 0x10, 0, 0, 1, 0x80, 1, 2, 0x10, 1, 9, 0x10, 0})
	f.Add([]byte{255, 0x90, 0, 0, 0x91, 0})
	f.Fuzz(func(t *testing.T, script []byte) {
		var a assembler
		now := time.Unix(1000, 0)
		seq := uint16(65500)
		for len(script) >= 3 {
			step, head, body := script[0], script[1], script[2]
			script = script[3:]
			if step&0x80 != 0 {
				now = now.Add(time.Duration(step&0x7f) * 10 * time.Millisecond)
			}
			seq += uint16(step&0x1f) - 4
			a.push(seq, uint32(seq/4), head&1 != 0, []byte{head, 0x80, body, body}, now)
			for i := 0; ; i++ {
				if i > slots {
					t.Fatal("frames without end")
				}
				fr, ok := a.pull(now)
				if !ok {
					break
				}
				if len(fr.Data) > maxFrame {
					t.Fatalf("frame of %d bytes", len(fr.Data))
				}
			}
			if n := a.nacks(now); len(n) > nackBatch {
				t.Fatalf("asked for %d packets", len(n))
			}
		}
		now = now.Add(time.Minute)
		for i := 0; ; i++ {
			if _, ok := a.pull(now); !ok {
				break
			}
			if i > slots {
				t.Fatal("frames without end")
			}
		}
		if a.waiting() {
			t.Fatal("still waiting after a minute")
		}
	})
}
