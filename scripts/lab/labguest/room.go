package main

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
)

// loudness is that of a quiet room: some -63 dB of full scale.
const loudness = 40

// room copies sound, 16-bit and little endian, with the noise of a room: what a loudspeaker plays is heard by the microphone beside it,
// and there is never silence.
func room(in io.Reader, out io.Writer) error {
	frames := bufio.NewReader(in)
	frame := make([]byte, 20*48*2) // 20 ms at 48 kHz
	for {
		if _, err := io.ReadFull(frames, frame); err != nil {
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				return nil
			}
			return err
		}
		for i := 0; i < len(frame); i += 2 {
			sample := int(int16(binary.LittleEndian.Uint16(frame[i:])))/2 + rand.IntN(2*loudness+1) - loudness
			binary.LittleEndian.PutUint16(frame[i:], uint16(int16(sample)))
		}
		if _, err := out.Write(frame); err != nil {
			return err
		}
	}
}
