package speech

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/xml"
	"errors"
	"io"
	"math"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"vindu/media/sound"
	"vindu/media/speech/speechtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// synthesiser is the real one.
func synthesiser(t *testing.T) *Synthesiser {
	t.Helper()
	return &Synthesiser{Socket: listen(t, func(ctx context.Context, l net.Listener) { _ = speechtest.Serve(ctx, l) })}
}

func listen(t *testing.T, serve func(context.Context, net.Listener)) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "socket")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		serve(ctx, l)
	}()
	t.Cleanup(func() {
		stop()
		_ = l.Close()
		<-done
	})
	return path
}

// TestSpeak: the synthesiser that ships says the same sentence in both languages and speeds, at one loudness, without silence around it and without a click.
func TestSpeak(t *testing.T) {
	s := synthesiser(t)
	speak := func(speed int, language, text string) []int16 {
		t.Helper()
		s.Speed = speed
		samples, err := s.Speak(t.Context(), language, text)
		if err != nil {
			t.Fatal(err)
		}
		return samples
	}
	nb, en, nn := speak(0, "nb", "Anne Berg ringer."), speak(0, "en", "Anne Berg is calling."), speak(0, "nn", "Anne Berg ringer.")
	slow, fast := speak(70, "nb", "Anne Berg ringer."), speak(130, "nb", "Anne Berg ringer.")
	for name, said := range map[string][]int16{"nb": nb, "en": en, "slow": slow, "fast": fast} {
		seconds := float64(len(said)) / sound.Rate
		if seconds < 0.6 || seconds > 3 {
			t.Errorf("%s: %.2f s", name, seconds)
		}
		top, power, n := 0.0, 0.0, 0
		for _, v := range said {
			x := math.Abs(float64(v) / math.MaxInt16)
			top = max(top, x)
			if x > 0.01 {
				power, n = power+x*x, n+1
			}
		}
		if top > peak+0.01 || math.Sqrt(power/float64(n)) < 0.04 {
			t.Errorf("%s: peak %.2f, loud parts %.3f", name, top, math.Sqrt(power/float64(n)))
		}
		if said[0] != 0 || said[len(said)-1] > 30 || said[len(said)-1] < -30 {
			t.Errorf("%s begins at %d and ends at %d", name, said[0], said[len(said)-1])
		}
	}
	if !slowerBy(slow, nb, 1.1) || !slowerBy(nb, fast, 1.1) {
		t.Errorf("slow %d, as it is %d, fast %d samples", len(slow), len(nb), len(fast))
	}
	if !bytes.Equal(raw(nb), raw(nn)) {
		t.Error("nynorsk is not read by the Norwegian voice")
	}
	if bytes.Equal(raw(nb), raw(speak(0, "en", "Anne Berg ringer."))) {
		t.Error("Norwegian is read by the English voice")
	}
}

func slowerBy(a, b []int16, by float64) bool { return float64(len(a)) > by*float64(len(b)) }

func raw(samples []int16) []byte {
	var b bytes.Buffer
	_ = binary.Write(&b, binary.LittleEndian, samples)
	return b.Bytes()
}

// TestNamesAreNoMarkup: whatever a name is, the document is one with the same elements, and its text is the name. An element <audio>, which has the
// synthesiser read a file, stays letters.
func TestNamesAreNoMarkup(t *testing.T) {
	for _, text := range []string{
		`Anne Berg`, `</prosody></speak><audio src="/etc/passwd"/>`, `a & b &lt; "c" 'd'`, "tab\tnull\x00bell\a\u202eright", "<![CDATA[x]]>", "Áilu Guoŧŧol", "a\uFFFEb",
	} {
		document, err := ssml("nb", text, 90)
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		d := xml.NewDecoder(strings.NewReader(document))
		elements, said := 0, ""
		for {
			token, err := d.Token()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Errorf("%q: %v in %s", text, err, document)
				break
			}
			switch token := token.(type) {
			case xml.StartElement:
				elements++
			case xml.CharData:
				said += string(token)
			}
		}
		if elements != 2 || strings.ContainsAny(said, "\x00\a\u202e") || len(strings.TrimSpace(said)) == 0 {
			t.Errorf("%q: %d elements, %q", text, elements, said)
		}
	}
	s := synthesiser(t)
	if _, err := s.Speak(t.Context(), "nb", `Anne <audio src="/etc/passwd">Berg</audio>`); err != nil {
		t.Error(err)
	}
	for _, no := range []struct{ language, text string }{{"nb", ""}, {"nb", " … "}, {"nb", strings.Repeat("a", MaxText+1)}, {"nb", "\xff"}, {`nb"><audio`, "a"}, {"", "a"}} {
		if _, err := ssml(no.language, no.text, 0); !errors.Is(err, ErrText) {
			t.Errorf("%q in %q: %v", no.text, no.language, err)
		}
	}
}

// TestSynthesisersThatFail: each costs the sentence, in bounded time, and is told apart.
func TestSynthesisersThatFail(t *testing.T) {
	endless := header(22050, 1, 16, 0x7ffff000)
	for _, c := range []struct {
		name  string
		serve func(net.Conn)
		want  error
	}{
		{"closes at once", func(net.Conn) {}, ErrAnswer},
		{"says something else", func(c net.Conn) { _, _ = io.WriteString(c, "Usage: espeak-ng [options]\n") }, ErrAnswer},
		{"never ends", func(c net.Conn) {
			_, err := c.Write(endless)
			for block := make([]byte, 1<<16); err == nil; {
				_, err = c.Write(block)
			}
		}, ErrAnswer},
		{"silence", func(c net.Conn) { _, _ = c.Write(append(endless, make([]byte, 44100)...)) }, ErrAnswer},
		{"hangs", func(c net.Conn) {
			_, _ = io.ReadAll(c)
			_ = c.SetReadDeadline(time.Now().Add(time.Minute))
			_, _ = c.Read(make([]byte, 1))
		}, ErrUnreachable},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := listen(t, func(_ context.Context, l net.Listener) {
				if conn, err := l.Accept(); err == nil {
					_, _ = io.ReadAll(conn)
					if c.name == "hangs" {
						<-t.Context().Done()
					} else {
						c.serve(conn)
					}
					_ = conn.Close()
				}
			})
			ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
			defer cancel()
			if _, err := (&Synthesiser{Socket: path}).Speak(ctx, "nb", "Hei"); !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
	if _, err := (&Synthesiser{Socket: filepath.Join(t.TempDir(), "none")}).Speak(t.Context(), "nb", "Hei"); !errors.Is(err, ErrUnreachable) {
		t.Errorf("nobody there: %v", err)
	}
}

// header is a WAVE file's before its samples.
func header(rate uint32, channels, bits uint16, size uint32) []byte {
	b := append([]byte("RIFF"), 0x24, 0xf0, 0xff, 0x7f)
	b = append(b, "WAVEfmt \x10\x00\x00\x00\x01\x00"...)
	b = binary.LittleEndian.AppendUint16(b, channels)
	b = binary.LittleEndian.AppendUint32(b, rate)
	b = binary.LittleEndian.AppendUint32(b, rate*2)
	b = binary.LittleEndian.AppendUint16(b, channels*bits/8)
	b = binary.LittleEndian.AppendUint16(b, bits)
	b = append(b, "data"...)
	return binary.LittleEndian.AppendUint32(b, size)
}

func TestDecode(t *testing.T) {
	two := []byte{1, 0, 0xff, 0xff}
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	whole := header(22050, 1, 16, 4)
	with := func(chunk string, size uint32, content []byte) []byte { // another chunk before the format
		return join(whole[:12], []byte(chunk), binary.LittleEndian.AppendUint32(nil, size), content, whole[12:], two)
	}
	for _, c := range []struct {
		name string
		file []byte
		ok   bool
	}{
		{"as it should be", join(whole, two), true},
		{"of unknown length", join(header(22050, 1, 16, 0x7ffff000), two), true},
		{"of the greatest length", join(header(22050, 1, 16, 0xffffffff), two), true},
		{"with another chunk", with("LIST", 3, []byte("abc\x00")), true},
		{"with too large a chunk", with("LIST", 1<<20, make([]byte, 1<<20)), false},
		{"with a chunk that lies", with("LIST", 0xffffffff, []byte("abc")), false},
		{"with a second format", with("fmt ", 16, whole[20:36]), false},
		{"of two channels", join(header(22050, 2, 16, 4), two), false},
		{"of 8 bits", join(header(22050, 1, 8, 4), two), false},
		{"of a strange rate", join(header(22051, 1, 16, 4), two), false},
		{"of rate 0", join(header(0, 1, 16, 4), two), false},
		{"of a rate beyond 31 bits", join(header(0x80005622, 1, 16, 4), two), false},
		{"without samples", whole, false},
		{"with half a sample", join(whole, two[:1]), false},
		{"cut off", whole[:30], false},
		{"nothing", nil, false},
		{"samples first", join(whole[:12], []byte("data\x04\x00\x00\x00"), two), false},
	} {
		samples, rate, err := Decode(bytes.NewReader(c.file))
		if (err == nil) != c.ok || (err != nil && !errors.Is(err, ErrAnswer)) {
			t.Errorf("%s: %v", c.name, err)
		}
		if c.ok && (rate != 22050 || len(samples) != 2 || samples[0] != 1 || samples[1] != -1) {
			t.Errorf("%s: %v at %d", c.name, samples, rate)
		}
	}
}

// TestResample: a tone stays the same tone, from each rate.
func TestResample(t *testing.T) {
	for _, rate := range rates {
		in := make([]int16, rate)
		for i := range in {
			in[i] = int16(10000 * math.Sin(2*math.Pi*440*float64(i)/float64(rate)))
		}
		out := resample(in, rate)
		if len(out) < 47990 || len(out) > 48000 {
			t.Errorf("%d: %d samples of a second", rate, len(out))
		}
		for i := 1000; i < len(out)-1000; i++ {
			if want := 10000 * math.Sin(2*math.Pi*440*float64(i)/sound.Rate); math.Abs(float64(out[i])-want) > 60 {
				t.Errorf("%d: sample %d is %d, want %.0f", rate, i, out[i], want)
				break
			}
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(append(header(22050, 1, 16, 4), 1, 0, 2, 0))
	f.Add(header(48000, 1, 16, 0x7ffff000))
	f.Add([]byte("RIFF\x00\x00\x00\x00WAVELIST\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, file []byte) {
		samples, rate, err := Decode(bytes.NewReader(file))
		if err != nil {
			if !errors.Is(err, ErrAnswer) || samples != nil {
				t.Errorf("%v with %d samples", err, len(samples))
			}
			return
		}
		if 2*len(samples) > len(file) {
			t.Errorf("%d samples of %d bytes", len(samples), len(file))
		}
		said, err := finish(resample(samples, rate))
		if err == nil && len(said) > len(samples)*sound.Rate/rate {
			t.Errorf("%d samples of %d", len(said), len(samples))
		}
		for _, v := range said {
			if math.Abs(float64(v)) > peak*math.MaxInt16+1 {
				t.Fatalf("louder than it may be: %d", v)
			}
		}
	})
}
