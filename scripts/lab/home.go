package lab

import (
	"context"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"vindu/device/panel/simulator"
	"vindu/scripts/lab/control"
)

const (
	// PanelPort is where a guest with Options.Hands has its panel.
	PanelPort = "/dev/ttyS0"
	// VoiceSocket is where a guest speaks that was given a voice.
	VoiceSocket = "/run/vindu-voice"
)

// Panel is a panel at the guest's serial line, with hands on it, and a cable that can be pulled.
type Panel struct {
	*simulator.Simulator
	Cable *simulator.Cable
	steps *steps
}

// steps counts how often a panel has looked at its buttons, which on a host without time is not as often as a microcontroller does.
type steps struct {
	simulator.Logic
	n atomic.Int64
}

// Step implements simulator.Logic.
func (s *steps) Step(now uint32, in simulator.Inputs, received []byte) (simulator.Outputs, []byte) {
	defer s.n.Add(1)
	return s.Logic.Step(now, in, received)
}

// Panel plugs a panel in, until the test ends. What it switches is in the timeline.
func (g *Guest) Panel(t testing.TB) *Panel {
	t.Helper()
	line, err := new(net.Dialer).DialContext(t.Context(), "unix", filepath.Join(g.run, "panel"))
	if err != nil {
		t.Fatalf("the guest's line to a panel: %v", err)
	}
	logic := &steps{Logic: new(simulator.Panel)}
	p := &Panel{simulator.New(logic, func(o simulator.Outputs) { g.Log("the panel: %s", o) }), &simulator.Cable{Line: line}, logic}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx, p.Cable) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return p
}

// Push presses a button, for long enough to be one.
func (p *Panel) Push(button func(in *simulator.Inputs, down bool)) {
	for _, down := range []bool{true, false} {
		p.Change(func(in *simulator.Inputs) { button(in, down) })
		began := p.steps.n.Load()
		for waits := 0; p.steps.n.Load() < began+looks && waits < 60; waits++ {
			<-time.After(150 * time.Millisecond)
		}
	}
}

// looks is how often a panel has to have looked to know of a press, with some to spare.
const looks = 10

// No and Answer are buttons, for Push.
func No(in *simulator.Inputs, down bool)     { in.No = down }
func Answer(in *simulator.Inputs, down bool) { in.Answer = down }

// pcaudio is in the place of Debian's libpcaudio, which wants half a desktop: the synthesiser writes to its standard output, and plays nothing itself.
const pcaudio = `
void *create_audio_device_object(const char *d, const char *a, const char *s) { return 0; }
int audio_object_open(void *o, int f, unsigned r, unsigned char c) { return -1; }
void audio_object_close(void *o) {}
void audio_object_destroy(void *o) {}
int audio_object_write(void *o, const void *d, unsigned long n) { return -1; }
int audio_object_drain(void *o) { return -1; }
int audio_object_flush(void *o) { return -1; }
const char *audio_object_strerror(void *o, int e) { return ""; }
`

// addVoice puts Debian's espeak-ng into the archive, as far as it speaks English.
func addVoice(ctx context.Context, a *archive, sysroot string) error {
	root, err := repository()
	if err != nil {
		return err
	}
	cache, err := cacheDirectory()
	if err != nil {
		return err
	}
	debs, err := output(ctx, root, "scripts/debs", "arm64", filepath.Join(cache, "lab-voice"), "espeak-ng", "libespeak-ng1", "espeak-ng-data", "libsonic0")
	if err != nil {
		return err
	}
	debs = strings.TrimSpace(debs)
	folder, err := os.MkdirTemp("", "vindu-build-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	const name = "libpcaudio.so.0"
	compile := exec.CommandContext(ctx, "aarch64-linux-gnu-gcc", "-shared", "-fPIC", "-nostdlib", "-Wl,-soname,"+name, "-o", filepath.Join(folder, name), "-x", "c", "-")
	compile.Stdin = strings.NewReader(pcaudio)
	if out, err := compile.CombinedOutput(); err != nil {
		return fmt.Errorf("compile %s: %w\n%s", name, err, out)
	}
	library, err := os.ReadFile(filepath.Join(folder, name))
	if err != nil {
		return err
	}
	a.file("lib/aarch64-linux-gnu/"+name, 0o755, library)
	program, err := os.ReadFile(filepath.Join(debs, "usr/bin/espeak-ng"))
	if err != nil {
		return fmt.Errorf("read the guest's synthesiser: %w", err)
	}
	if err := addProgram(a, debs+string(filepath.ListSeparator)+sysroot, "bin/espeak-ng", program); err != nil {
		return err
	}
	data := os.DirFS(debs)
	for _, pattern := range []string{"phon*", "intonations", "en_dict", "lang/gmw/en*"} {
		files, err := fs.Glob(data, "usr/lib/aarch64-linux-gnu/espeak-ng-data/"+pattern)
		if err != nil || len(files) == 0 {
			return fmt.Errorf("the synthesiser's %s: %d files, %w", pattern, len(files), err)
		}
		for _, file := range files {
			b, err := fs.ReadFile(data, file)
			if err != nil {
				return err
			}
			a.file(file, 0o644, b)
		}
	}
	return nil
}

// GiveVoice has the guest speak at VoiceSocket, and tells how long one sentence takes it.
func (g *Guest) GiveVoice(ctx context.Context) (time.Duration, error) {
	if _, err := g.Start(ctx, control.Command{Args: []string{"labguest", "voice", VoiceSocket}, Log: "/tmp/voice.log"}); err != nil {
		return 0, err
	}
	began := time.Now()
	_, err := g.Exec(ctx, control.Command{Args: []string{"sh", "-c", "espeak-ng -m -b 1 --stdin --stdout >/tmp/sentence.wav"}, Stdin: []byte(
		`<speak xml:lang="en">You are talking with Kari Solheim, nurse.</speak>`)})
	return time.Since(began), err
}

// Record begins to record what the terminal plays into its room; the function that it returns ends that, and returns what was recorded.
func (g *Guest) Record(ctx context.Context) (stop func() ([]int16, error), err error) {
	const file = "/tmp/room-records.wav"
	pid, err := g.Start(ctx, control.Command{Args: []string{"arecord", "-q", "-D", roomMicrophone, "-f", "S16_LE", "-c", "1", "-r", fmt.Sprint(SampleRate), file}, Log: "/tmp/arecord.log"})
	if err != nil {
		return nil, err
	}
	return func() ([]int16, error) {
		if _, err := g.Signal(ctx, control.Signal{PID: pid, Signal: 15, Wait: 10 * time.Second}); err != nil {
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
	}, nil
}
