package lab

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"vindu/scripts/lab/control"
)

// The loop's two sides (ALSA names): what is played into a device of one side is captured from the same one of the
// other. A terminal that is given TerminalMicrophone and TerminalSpeaker hears what [Guest.Speak] plays, and what it
// plays is in [Guest.Hear].
const (
	TerminalMicrophone = "hw:CARD=Loopback,DEV=1,SUBDEV=0"
	TerminalSpeaker    = "hw:CARD=Loopback,DEV=1,SUBDEV=1"
	roomSpeaker        = "hw:CARD=Loopback,DEV=0,SUBDEV=0"
	roomMicrophone     = "hw:CARD=Loopback,DEV=0,SUBDEV=1"
)

// Speak plays sound in the terminal's room, 16-bit mono at SampleRate, until the function that it returns is called or
// the sound ends.
func (g *Guest) Speak(ctx context.Context, samples []int16) (stop func() error, err error) {
	const file = "/tmp/room-speaks.wav"
	if err := g.WriteFile(ctx, control.File{Path: file, Data: EncodeWAV(samples)}); err != nil {
		return nil, err
	}
	pid, err := g.Start(ctx, control.Command{Args: []string{"aplay", "-q", "-D", roomSpeaker, file}, Log: "/tmp/aplay.log"})
	if err != nil {
		return nil, err
	}
	return func() error {
		_, err := g.Signal(ctx, control.Signal{PID: pid, Signal: int(syscall.SIGTERM), Wait: 10 * time.Second})
		return err
	}, nil
}

// Echo makes a room of it that is not quite silent, where the terminal's microphone hears its loudspeaker, as they do on a
// table. It is in place of Speak and Hear, and lasts until the guest's end.
func (g *Guest) Echo(ctx context.Context) error {
	format := fmt.Sprintf("-q -t raw -f S16_LE -c 1 -r %d --buffer-time=200000 --period-time=20000", SampleRate)
	_, err := g.Start(ctx, control.Command{Args: []string{"sh", "-c",
		fmt.Sprintf("arecord %s -D %s | labguest room | aplay %s -D %s", format, roomMicrophone, format, roomSpeaker)}, Log: "/tmp/echo.log"})
	return err
}

// Hear records what the terminal plays into its room.
func (g *Guest) Hear(ctx context.Context, duration time.Duration) ([]int16, error) {
	const file = "/tmp/room-hears.wav"
	_, err := g.Exec(ctx, control.Command{
		Args: []string{"arecord", "-q", "-D", roomMicrophone, "-f", "S16_LE", "-c", "1", "-r", strconv.Itoa(SampleRate),
			"-d", strconv.Itoa(int(duration.Seconds())), file},
		Timeout: 2*duration + 20*time.Second,
	})
	if err != nil {
		return nil, err
	}
	data, err := g.ReadFile(ctx, file)
	if err != nil {
		return nil, err
	}
	samples, rate, err := DecodeWAV(data)
	if err == nil && rate != SampleRate {
		err = fmt.Errorf("the room's recording has %d samples per second, not %d", rate, SampleRate)
	}
	return samples, err
}

// SpeakerOutput is what the guest's real sound card (plughw:CARD=Intel) has played so far, as it left the machine.
func (g *Guest) SpeakerOutput() ([]int16, int, error) {
	data, err := os.ReadFile(filepath.Join(g.Artefacts, "speaker.wav"))
	if err != nil {
		return nil, 0, err
	}
	return DecodeWAV(data)
}
