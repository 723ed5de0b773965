package lab

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// SampleRate is that of every sound in the lab, in samples per second.
const SampleRate = 48000

// Beeps is a tone that is on for the first half of each second, 16-bit mono. A tone without pauses would be taken for
// noise and suppressed by a browser.
func Beeps(frequency float64, seconds int) []int16 {
	samples := make([]int16, seconds*SampleRate)
	const amplitude, ramp = 0.3 * math.MaxInt16, SampleRate / 100
	for i := range samples {
		within := i % SampleRate
		if within >= SampleRate/2 {
			continue
		}
		gain := min(1, float64(within)/ramp, float64(SampleRate/2-within)/ramp)
		samples[i] = int16(amplitude * gain * math.Sin(2*math.Pi*frequency*float64(i)/SampleRate))
	}
	return samples
}

// EncodeWAV writes 16-bit mono samples as a WAV file.
func EncodeWAV(samples []int16) []byte {
	var out bytes.Buffer
	size := uint32(2 * len(samples))
	out.WriteString("RIFF")
	for _, field := range []any{
		size + 36, [8]byte([]byte("WAVEfmt ")), uint32(16), uint16(1), uint16(1), uint32(SampleRate), uint32(2 * SampleRate),
		uint16(2), uint16(16), [4]byte([]byte("data")), size, samples,
	} {
		binary.Write(&out, binary.LittleEndian, field) // a bytes.Buffer takes all
	}
	return out.Bytes()
}

// DecodeWAV reads a 16-bit WAV file, of which it returns the first channel. The sizes in the header of a file whose
// writer was stopped may be wrong: what is there is taken.
func DecodeWAV(file []byte) (samples []int16, rate int, err error) {
	if len(file) < 12 || string(file[:4]) != "RIFF" || string(file[8:12]) != "WAVE" {
		return nil, 0, errors.New("not a WAV file")
	}
	channels := 0
	for rest := file[12:]; len(rest) >= 8; {
		name, size := string(rest[:4]), int(binary.LittleEndian.Uint32(rest[4:8]))
		body := rest[8:]
		if size > len(body) || name == "data" && size == 0 {
			size = len(body)
		}
		body = body[:size]
		switch name {
		case "fmt ":
			if size < 16 || binary.LittleEndian.Uint16(body[14:]) != 16 {
				return nil, 0, errors.New("not 16-bit sound")
			}
			channels, rate = int(binary.LittleEndian.Uint16(body[2:])), int(binary.LittleEndian.Uint32(body[4:]))
		case "data":
			if channels == 0 {
				return nil, 0, errors.New("a WAV file without a format")
			}
			for i := 0; i+2*channels <= len(body); i += 2 * channels {
				samples = append(samples, int16(binary.LittleEndian.Uint16(body[i:])))
			}
			return samples, rate, nil
		}
		rest = rest[min(len(rest), 8+size+size%2):]
	}
	return nil, 0, errors.New("a WAV file without sound")
}

// Heard is what a recording holds of a tone.
type Heard struct {
	Windows int // of 50 ms
	Tone    int // windows in which at least half of the power is the tone's and it is not faint
	Quiet   int // windows that are at least 20 dB below the loudest
}

func (h Heard) String() string {
	return fmt.Sprintf("%d windows, %d with the tone, %d quiet", h.Windows, h.Tone, h.Quiet)
}

// Beeped says whether this is what Beeps sounds like: the tone for a good part of the time, and pauses.
func (h Heard) Beeped() bool {
	return h.Tone >= h.Windows/5 && h.Quiet >= h.Windows/5 && h.Windows >= 20
}

// Listen looks for a tone in a recording, 50 ms at a time, by Goertzel's algorithm.
func Listen(samples []int16, rate int, frequency float64) Heard {
	size := rate / 20
	var heard Heard
	var powers []float64
	for at := 0; size > 0 && at+size <= len(samples); at += size {
		window := make([]float64, size)
		for i, sample := range samples[at : at+size] {
			window[i] = float64(sample) / math.MaxInt16
		}
		share, power := goertzel(window, rate, frequency)
		powers = append(powers, power)
		heard.Windows++
		if share >= 0.5 && power >= 1e-5 { // -50 dB below full scale
			heard.Tone++
		}
	}
	loudest := 0.0
	for _, power := range powers {
		loudest = max(loudest, power)
	}
	for _, power := range powers {
		if power <= loudest/100 {
			heard.Quiet++
		}
	}
	return heard
}

// goertzel returns the tone's share of the power, from 0 to 1, and the power: the mean square.
func goertzel(window []float64, rate int, frequency float64) (share, power float64) {
	coefficient := 2 * math.Cos(2*math.Pi*frequency/float64(rate))
	var s1, s2, squares float64
	for _, sample := range window {
		s1, s2 = sample+coefficient*s1-s2, s1
		squares += sample * sample
	}
	n := float64(len(window))
	if squares == 0 {
		return 0, 0
	}
	magnitude := s1*s1 + s2*s2 - coefficient*s1*s2
	return min(1, 2*magnitude/(n*squares)), squares / n
}
