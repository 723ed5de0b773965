// Package lab boots a terminal that is not there: an arm64 guest under QEMU with Debian's kernel and its virtual
// devices, on which the agent that ships runs unchanged.
//
//	/dev/video0        V4L2 "vivid", a webcam that shows moving colour bars
//	hw:Loopback        ALSA "snd-aloop": a test speaks into one side and listens at the other
//	plughw:CARD=Intel  a real sound card's driver (Intel HDA), playback only; what it plays is in speaker.wav
//	/dev/dri/card0     virtio-gpu, 800×480; a test sees it by [Guest.Screendump]
//	/dev/tpmrm0        a TPM 2.0, swtpm on the host; with Options.SetUp, as the next two
//	/dev/ttyS0         a serial port, whose other end is a terminal device of the host ([Guest.Serial])
//	/dev/input/event0  a keyboard, pressed by [Guest.Press]; also with Options.Hands
//	/dev/ttyS0         with Options.Hands a serial port, too: a panel's simulator is at its other end ([Guest.Panel])
//	eth0               a tap in a network namespace of the test's own, where clinic and browser run too
//
// [Boot] prepares everything from nothing (packages, initramfs; kept in the user's cache directory), starts the guest
// and returns when its devices are there. A test works in it through [Guest], by calls over a serial port. When the
// test ends everything that it started is ended, by process id; console, screen and timeline are kept under
// artefacts/lab/<test>. Root is needed, for the namespace; nothing outside it is touched.
//
// One test boots the whole appliance instead: U-Boot, the image's disk and systemd (appliance.go), with Debian 13's packages in the place of Buildroot's.
//
// There is no KVM here: the guest is translated, and some ten times slower than the host.
package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/png"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"vindu/device/identity/tpm/tpmtest"
	"vindu/scripts/lab/control"
)

// Options say what a guest is given.
type Options struct {
	Programs map[string][]byte // dynamic arm64 programs, by the path they get; their libraries come with them
	Files    map[string][]byte // other files, by path
	Cmdline  string            // added to the kernel's command line
	Memory   int               // MiB; 0 is 1024
	SetUp    bool              // with what a terminal is set up by: a TPM, a serial port, a button
	Hands    bool              // with what people at home have: a line to a panel ([Guest.Panel]), a keyboard; not together with SetUp
	Voice    bool              // with a speech synthesiser, for [Guest.GiveVoice]
	Disks    []string          // images, which it may write to: /dev/vda, /dev/vdb…

	appliance []byte // the agent of a terminal that begins from a disk of its own, by its own boot loader, instead of from the initramfs
}

// Guest is a running terminal. Its methods may be used concurrently.
type Guest struct {
	*control.Client
	Net       *Net
	Artefacts string       // directory for what a test wants to keep
	TPM       *tpmtest.TPM // nil without Options.SetUp; the guest's reset is not its own

	t       testing.TB
	qmp     *qmp
	run     string // directory of sockets
	process *exec.Cmd
	ended   chan struct{} // closed when QEMU has ended

	appliance *appliance // nil without Options.appliance
	options   Options

	mu    sync.Mutex
	began time.Time
	lines []string
}

// Boot starts a guest and returns when its devices are there. It ends the test on failure.
func Boot(t testing.TB, options Options) *Guest {
	t.Helper()
	g := &Guest{t: t, began: time.Now(), ended: make(chan struct{})}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute) // packages may have to be downloaded
	defer cancel()
	g.options = options
	if err := g.boot(ctx, options); err != nil {
		t.Fatalf("boot the guest: %v\n%s", err, g.consoleTail())
	}
	return g
}

func (g *Guest) boot(ctx context.Context, options Options) error {
	if err := g.makeArtefacts(); err != nil {
		return err
	}
	// What this machine may refuse comes before what takes minutes.
	if err := possible(os.Geteuid(), "/dev/net/tun"); err != nil {
		return err
	}
	g.Net = NewNet(g.t)
	var s system
	var err error
	if options.appliance == nil {
		if s, err = prepared(); err != nil {
			return err
		}
		g.Log("system prepared")
	}
	left, err := orphans(os.TempDir())
	if err != nil {
		return err
	}
	for _, name := range left {
		if err := os.RemoveAll(filepath.Join(os.TempDir(), name)); err != nil {
			return err
		}
	}
	if g.run, err = os.MkdirTemp("", fmt.Sprintf("%s%d-", prefix, os.Getpid())); err != nil {
		return err
	}
	g.t.Cleanup(func() { os.RemoveAll(g.run) })
	initrd := filepath.Join(g.run, "initrd")
	if options.appliance != nil {
		if g.appliance, err = makeAppliance(ctx, g.t.TempDir(), options, g.Log); err != nil {
			return err
		}
	} else if err := g.writeInitrd(ctx, s, initrd, options); err != nil {
		return err
	}
	g.Log("what it boots from is written")
	if err := g.start(s, initrd, options); err != nil {
		return err
	}
	g.t.Cleanup(g.stop)
	if err := g.connect(ctx); err != nil {
		return err
	}
	g.Log("guest answers")
	if err := g.SetTime(ctx, time.Now()); err != nil {
		return err
	}
	if console := g.Console(); strings.Contains(console, "lab: missing") {
		return errors.New("a device is missing")
	}
	return nil
}

// makeArtefacts makes an empty directory for this test.
func (g *Guest) makeArtefacts() error {
	root, err := repository()
	if err != nil {
		return err
	}
	g.Artefacts = filepath.Join(root, "artefacts", "lab", filepath.FromSlash(strings.ReplaceAll(g.t.Name(), " ", "_")))
	if err := os.RemoveAll(g.Artefacts); err != nil {
		return err
	}
	if err := os.MkdirAll(g.Artefacts, 0o755); err != nil {
		return err
	}
	g.t.Cleanup(func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		text := strings.Join(g.lines, "\n") + "\n"
		if err := os.WriteFile(filepath.Join(g.Artefacts, "timeline.txt"), []byte(text), 0o644); err != nil {
			g.t.Errorf("keep the timeline: %v", err)
		}
		if g.t.Failed() {
			g.t.Logf("kept in %s; the timeline:\n%s", g.Artefacts, text)
		}
	})
	return nil
}

// writeInitrd writes the cached system and behind it what this boot adds.
func (g *Guest) writeInitrd(ctx context.Context, s system, name string, options Options) error {
	a := newArchive()
	labguest, err := Build(ctx, "./scripts/lab/labguest", false)
	if err != nil {
		return err
	}
	if err := addProgram(a, s.sysroot, "bin/labguest", labguest); err != nil {
		return err
	}
	for path, program := range options.Programs {
		if err := addProgram(a, s.sysroot, path, program); err != nil {
			return err
		}
	}
	if options.Voice {
		if err := addVoice(ctx, a, s.sysroot); err != nil {
			return err
		}
	}
	for path, data := range options.Files {
		a.file(path, 0o600, data)
	}
	var added bytes.Buffer
	if err := a.write(&added); err != nil {
		return err
	}
	base, err := os.ReadFile(s.base)
	if err != nil {
		return fmt.Errorf("read the base initramfs: %w", err)
	}
	return os.WriteFile(name, append(base, added.Bytes()...), 0o600)
}

func (g *Guest) start(s system, initrd string, options Options) error {
	memory := options.Memory
	if memory == 0 {
		memory = 1024
	}
	// With KASLR Linux isolates its page table although a Cortex-A72 does not need it, and under TCG each system call then empties the
	// emulated TLB: a fifth of the guest's time (a call 1.45 instead of 1.2 of the host's cores).
	commandLine := "console=ttyAMA0 panic=-1 quiet nokaslr kpti=off mitigations=off LAB_ADDRESS=" + GuestAddr + " " + options.Cmdline
	if options.SetUp {
		commandLine += " LAB_SETUP=1"
	}
	in := func(name string) string { return filepath.Join(g.run, name) }
	keep := func(name string) string { return filepath.Join(g.Artefacts, name) }
	arguments := []string{
		"-M", "virt", "-cpu", "cortex-a72", "-accel", "tcg,thread=multi", "-smp", "2", "-m", strconv.Itoa(memory),
		"-nodefaults", "-display", "none",
		"-chardev", "file,id=console,append=on,path=" + keep("console.log"), "-serial", "chardev:console",
		"-qmp", "unix:" + in("qmp") + ",server=on,wait=off",
		"-device", "virtio-rng-pci",
		"-device", "virtio-gpu-pci,xres=800,yres=480",
		"-netdev", "tap,id=net,ifname=" + tap + ",script=no,downscript=no", "-device", "virtio-net-pci,netdev=net,romfile=",
		"-audiodev", "wav,id=sound,path=" + keep("speaker.wav"), "-device", "intel-hda", "-device", "hda-output,audiodev=sound,mixer=off",
		"-device", "virtio-serial-pci",
		"-chardev", "socket,id=lab,path=" + in("lab") + ",server=on,wait=off", "-device", "virtserialport,chardev=lab,name=lab",
	}
	if g.appliance != nil {
		arguments = append(arguments, g.appliance.arguments()...)
	} else {
		arguments = append(arguments, "-kernel", s.kernel, "-initrd", initrd, "-append", commandLine)
	}
	if options.SetUp {
		arguments = append(arguments, g.setUpDevices()...)
	}
	if options.Hands {
		arguments = append(arguments, "-chardev", "socket,id=panel,path="+in("panel")+",server=on,wait=off", "-device", "pci-serial,chardev=panel", "-device", "virtio-keyboard-pci")
	}
	for n, disk := range options.Disks {
		arguments = append(arguments,
			"-drive", fmt.Sprintf("if=none,id=disk%d,format=raw,file=%s", n, disk), "-device", fmt.Sprintf("virtio-blk-pci,drive=disk%d", n))
	}
	g.process = g.Net.Command(context.Background(), "qemu-system-aarch64", arguments...)
	log, err := os.Create(keep("qemu.log"))
	if err != nil {
		return err
	}
	defer log.Close()
	g.process.Stdout, g.process.Stderr = log, log
	if err := g.process.Start(); err != nil {
		return fmt.Errorf("start QEMU: %w", err)
	}
	go func() {
		defer close(g.ended)
		g.process.Wait() // stop reads how it ended
	}()
	g.Log("QEMU started, process %d", g.process.Process.Pid)
	return nil
}

// connect waits for QEMU's sockets, and then for the guest's first answer.
func (g *Guest) connect(ctx context.Context) error {
	err := g.until(ctx, func(ctx context.Context) (err error) {
		g.qmp, err = dialQMP(ctx, filepath.Join(g.run, "qmp"))
		return err
	})
	if err != nil {
		return err
	}
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "unix", filepath.Join(g.run, "lab"))
	if err != nil {
		return err
	}
	g.Client = control.NewClient(conn)
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	answered := make(chan error, 1)
	go func() { answered <- g.Ping(ctx) }()
	select {
	case err := <-answered:
		return err
	case <-g.ended:
		return g.endedEarly()
	}
}

// Until tries something again until it works, or returns its last error after the time given.
func (g *Guest) Until(ctx context.Context, limit time.Duration, try func() error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return g.until(ctx, func(context.Context) error { return try() })
}

// until tries something again until it works, QEMU ends or ctx does.
func (g *Guest) until(ctx context.Context, try func(context.Context) error) error {
	for {
		err := try(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", context.Cause(ctx), err)
		case <-g.ended:
			return g.endedEarly()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (g *Guest) endedEarly() error {
	log, _ := os.ReadFile(filepath.Join(g.Artefacts, "qemu.log")) // nothing to show if it cannot be read
	return fmt.Errorf("QEMU ended: %s\n%s", g.process.ProcessState, log)
}

// stop ends the guest, after a last picture of its screen.
func (g *Guest) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	select {
	case <-g.ended:
		g.t.Error(g.endedEarly())
	default:
		if g.qmp != nil {
			if picture, err := g.Screendump(ctx); err == nil {
				g.Keep("screen-last.png", picture)
			}
			g.qmp.do(ctx, "quit", nil, nil) // it ends without an answer
		}
		select {
		case <-g.ended:
		case <-time.After(5 * time.Second):
			g.process.Process.Kill()
			<-g.ended
		}
	}
	if g.Client != nil {
		g.Client.Close()
	}
	if g.qmp != nil {
		g.qmp.close()
	}
	g.Log("guest stopped")
}

// Log adds a line to the timeline.
func (g *Guest) Log(format string, arguments ...any) {
	line := fmt.Sprintf("%8.3fs  %s", time.Since(g.began).Seconds(), fmt.Sprintf(format, arguments...))
	g.mu.Lock()
	defer g.mu.Unlock()
	g.lines = append(g.lines, line)
}

// Keep writes a picture into the artefacts.
func (g *Guest) Keep(name string, picture image.Image) {
	var data bytes.Buffer
	err := png.Encode(&data, picture)
	if err == nil {
		err = os.WriteFile(filepath.Join(g.Artefacts, name), data.Bytes(), 0o644)
	}
	if err != nil {
		g.t.Errorf("keep %s: %v", name, err)
	}
}

// Console is what the guest's kernel and init printed so far.
func (g *Guest) Console() string {
	text, err := os.ReadFile(filepath.Join(g.Artefacts, "console.log"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		g.t.Errorf("read the console: %v", err)
	}
	return strings.ReplaceAll(string(text), "\r", "")
}

func (g *Guest) consoleTail() string {
	lines := strings.Split(g.Console(), "\n")
	return "the console's end:\n" + strings.Join(lines[max(0, len(lines)-40):], "\n")
}

// Screendump is what the guest's display shows.
func (g *Guest) Screendump(ctx context.Context) (image.Image, error) {
	name := filepath.Join(g.run, "screen.png")
	if err := g.qmp.do(ctx, "screendump", map[string]any{"filename": name, "format": "png"}, nil); err != nil {
		return nil, err
	}
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	picture, err := png.Decode(file)
	if err != nil {
		return nil, fmt.Errorf("decode the screen: %w", err)
	}
	return picture, nil
}

// Reset presses the reset button and returns when the guest answers again. Its memory, and so its files, are lost.
func (g *Guest) Reset(ctx context.Context) error {
	g.Log("reset")
	if err := g.Client.Close(); err != nil {
		return err
	}
	if err := g.qmp.do(ctx, "system_reset", nil, nil); err != nil {
		return err
	}
	if err := g.qmp.close(); err != nil {
		return err
	}
	if err := g.connect(ctx); err != nil {
		return err
	}
	g.Log("guest answers")
	return g.SetTime(ctx, time.Now())
}

// CPUTime is how much processor time QEMU has used.
func (g *Guest) CPUTime() (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", g.process.Process.Pid))
	if err != nil {
		return 0, err
	}
	_, after, _ := bytes.Cut(text, []byte(") ")) // fields from the third on: proc(5)
	fields := strings.Fields(string(after))
	var ticks int
	for _, field := range fields[11:13] { // utime, stime
		n, err := strconv.Atoi(field)
		if err != nil {
			return 0, err
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond, nil
}
