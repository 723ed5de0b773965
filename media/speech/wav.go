package speech

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
)

// rates are what a file may be sampled at: few, because a filter is made for each.
var rates = []int{8000, 11025, 16000, 22050, 24000, 32000, 44100, 48000}

const (
	maxBefore = 64 << 10 // bytes before the samples
	maxFormat = 40       // of WAVE_FORMAT_EXTENSIBLE
)

// Decode reads a RIFF WAVE file of PCM, one channel, 16 bits. A program that writes to a pipe does not know how long the file becomes: the length in the header counts as
// an upper bound, and the samples end where the file does. Errors wrap ErrAnswer.
func Decode(r io.Reader) (samples []int16, rate int, err error) {
	bad := func(format string, args ...any) ([]int16, int, error) {
		return nil, 0, fmt.Errorf("%w: "+format, append([]any{ErrAnswer}, args...)...)
	}
	var head [12]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return bad("no header: %w", err)
	}
	if !bytes.Equal(head[:4], []byte("RIFF")) || !bytes.Equal(head[8:], []byte("WAVE")) {
		return bad("no RIFF WAVE header")
	}
	for before := 0; ; {
		var chunk [8]byte
		if _, err := io.ReadFull(r, chunk[:]); err != nil {
			return bad("no samples: %w", err)
		}
		name, size := string(chunk[:4]), int64(binary.LittleEndian.Uint32(chunk[4:]))
		if name == "data" {
			if rate == 0 {
				return bad("samples before their format")
			}
			samples, err := data(r, size, rate)
			if err != nil {
				return bad("%w", err)
			}
			return samples, rate, nil
		}
		size += size & 1 // chunks begin at even places
		if before += 8 + int(min(size, maxBefore)); before > maxBefore {
			return bad("more than %d bytes before the samples", maxBefore)
		}
		if name != "fmt " {
			if _, err := io.CopyN(io.Discard, r, size); err != nil {
				return bad("cut off: %w", err)
			}
			continue
		}
		if rate != 0 || size < 16 || size > maxFormat {
			return bad("a format of %d bytes", size)
		}
		var f [maxFormat]byte
		if _, err := io.ReadFull(r, f[:size]); err != nil {
			return bad("cut off: %w", err)
		}
		u16 := func(at int) int { return int(binary.LittleEndian.Uint16(f[at:])) }
		hertz := binary.LittleEndian.Uint32(f[4:])
		if u16(0) != 1 || u16(2) != 1 || u16(14) != 16 || u16(12) != 2 {
			return bad("format %d, %d channels, %d bits: has to be PCM, one channel, 16 bits", u16(0), u16(2), u16(14))
		}
		if hertz > 48000 || !slices.Contains(rates, int(hertz)) {
			return bad("%d samples in a second: has to be one of %v", hertz, rates)
		}
		rate = int(hertz)
	}
}

// data reads at most size bytes of samples, and not more than maxSeconds.
func data(r io.Reader, size int64, rate int) ([]int16, error) {
	most := int64(2 * rate * maxSeconds)
	raw, err := io.ReadAll(io.LimitReader(r, min(size, most+1)))
	if err != nil {
		return nil, fmt.Errorf("cut off: %w", err)
	}
	if int64(len(raw)) > most {
		return nil, fmt.Errorf("longer than %d s", maxSeconds)
	}
	if len(raw) < 2 {
		return nil, fmt.Errorf("no samples")
	}
	samples := make([]int16, len(raw)/2)
	for i := range samples {
		samples[i] = int16(binary.LittleEndian.Uint16(raw[2*i:]))
	}
	return samples, nil
}
