package frame

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/iotest"
)

func encode(t testing.TB, frames ...Frame) []byte {
	t.Helper()
	var line []byte
	for _, f := range frames {
		var err error
		if line, err = Append(line, f); err != nil {
			t.Fatal(err)
		}
	}
	return line
}

func readAll(t testing.TB, in io.Reader) ([]Frame, *Reader) {
	t.Helper()
	r := NewReader(in)
	var frames []Frame
	for {
		f, err := r.Next()
		if err == io.EOF {
			return frames, r
		}
		if err != nil {
			t.Fatal(err)
		}
		frames = append(frames, f)
	}
}

func same(a, b []Frame) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i].Kind != b[i].Kind || !bytes.Equal(a[i].Payload, b[i].Payload) {
			return false
		}
	}
	return true
}

// TestWire keeps the bytes on the line as docs/serial.md shows them.
func TestWire(t *testing.T) {
	got := hex.EncodeToString(encode(t, Frame{1, nil}, Frame{7, []byte{0, 0x11, 0}}))
	if want := "00070101" + "10a86ca6" + "00" + "00030107" + "0211" + "05" + "4804c8a5" + "00"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestRoundTrip(t *testing.T) {
	random := make([]byte, MaxPayload)
	for i := range random {
		random[i] = byte(rand.Uint32())
	}
	frames := []Frame{
		{1, nil}, {0, []byte{0}}, {255, bytes.Repeat([]byte{0}, 300)}, {2, bytes.Repeat([]byte{0xff}, MaxPayload)}, {3, random},
	}
	for n := 240; n < 260; n++ { // around the longest run
		frames = append(frames, Frame{4, bytes.Repeat([]byte{9}, n)}, Frame{5, append(bytes.Repeat([]byte{9}, n), 0)})
	}
	line := encode(t, frames...)
	for name, in := range map[string]io.Reader{
		"at once": bytes.NewReader(line), "dribbled": iotest.OneByteReader(bytes.NewReader(line)), "with the end": iotest.DataErrReader(bytes.NewReader(line)),
	} {
		got, r := readAll(t, in)
		if !same(got, frames) || r.Damaged() != 0 {
			t.Errorf("%s: %d of %d frames, %d damaged", name, len(got), len(frames), r.Damaged())
		}
	}
}

func TestTooLarge(t *testing.T) {
	if _, err := Append(nil, Frame{1, make([]byte, MaxPayload+1)}); !errors.Is(err, ErrTooLarge) {
		t.Errorf("got %v", err)
	}
}

// After whatever noise, the next frame is found.
func TestNoise(t *testing.T) {
	good := Frame{3, []byte("good")}
	whole := encode(t, good)
	cut := func(n int) []byte { return whole[:n] }
	flip := bytes.Clone(whole)
	flip[5] ^= 1
	lost := append(bytes.Clone(whole[:5]), whole[6:]...)
	other := stuff([]byte{0}, []byte{2, 3, 'g', 0, 0, 0, 0})
	for name, noise := range map[string][]byte{
		"none": nil, "console": []byte("login: \r\n"), "cut early": cut(2), "cut late": cut(len(whole) - 1), "bit turned": flip, "byte lost": lost,
		"endless": bytes.Repeat([]byte("x"), 3*maxCoded), "zeros": make([]byte, 1000), "ones": bytes.Repeat([]byte{0xff}, 500), "other version": append(other, 0),
		"short frame": {0, 2, 1, 0},
	} {
		t.Run(name, func(t *testing.T) {
			frames, _ := readAll(t, bytes.NewReader(append(bytes.Clone(noise), whole...)))
			if len(frames) == 0 || !same(frames[len(frames)-1:], []Frame{good}) {
				t.Errorf("got %v", frames)
			}
		})
	}
	if _, r := readAll(t, bytes.NewReader(append(flip, whole...))); r.Damaged() != 1 {
		t.Errorf("counted %d", r.Damaged())
	}
	if r := NewReader(strings.NewReader(strings.Repeat("x", 10*maxCoded))); true {
		if _, err := r.Next(); err != io.EOF || cap(r.coded) > 2*maxCoded {
			t.Errorf("kept %d bytes of noise; %v", cap(r.coded), err)
		}
	}
}

type idle struct{}

func (idle) Read([]byte) (int, error) { return 0, nil }

func TestIdleReaderIsGivenUp(t *testing.T) {
	if _, err := NewReader(idle{}).Next(); !errors.Is(err, io.ErrNoProgress) {
		t.Errorf("got %v", err)
	}
}

// FuzzReader: whatever the line brings, frames that are found are ones that Append can have made, and a sound one after it is found.
func FuzzReader(f *testing.F) {
	f.Add(encode(f, Frame{1, []byte("a")}, Frame{2, bytes.Repeat([]byte{0}, 600)}))
	f.Add([]byte("login: "))
	f.Fuzz(func(t *testing.T, line []byte) {
		last := Frame{9, []byte("last\x00one")}
		frames, _ := readAll(t, bytes.NewReader(append(bytes.Clone(line), encode(t, last)...)))
		if len(frames) == 0 || !same(frames[len(frames)-1:], []Frame{last}) {
			t.Fatalf("the sound frame is lost: %v", frames)
		}
		again, _ := readAll(t, bytes.NewReader(encode(t, frames...)))
		if !same(again, frames) {
			t.Errorf("%v becomes %v", frames, again)
		}
	})
}

// FuzzRoundTrip: every payload comes out as it went in.
func FuzzRoundTrip(f *testing.F) {
	f.Add(byte(1), []byte{})
	f.Add(byte(0), bytes.Repeat([]byte{1}, 254))
	f.Fuzz(func(t *testing.T, kind byte, payload []byte) {
		if len(payload) > MaxPayload {
			payload = payload[:MaxPayload]
		}
		want := []Frame{{kind, payload}, {kind + 1, nil}}
		line := encode(t, want...)
		if n := bytes.Count(line, []byte{0}); n != 4 {
			t.Errorf("%d zeros on the line", n)
		}
		if got, _ := readAll(t, bytes.NewReader(line)); !same(got, want) {
			t.Errorf("got %v", got)
		}
	})
}
