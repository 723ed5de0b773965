package v4l2

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/fstest"
	"time"
	"unsafe"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The numbers are those that a C compiler makes of linux/videodev2.h.
func TestIoctlNumbers(t *testing.T) {
	is64 := unsafe.Sizeof(uintptr(0)) == 8
	for name, c := range map[string]struct{ got, on64, onARM uint32 }{
		"QUERYCAP":            {QueryCap, 0x80685600, 0x80685600},
		"ENUM_FMT":            {EnumFmt, 0xc0405602, 0xc0405602},
		"S_FMT":               {SetFmt, 0xc0d05605, 0xc0cc5605},
		"REQBUFS":             {ReqBufs, 0xc0145608, 0xc0145608},
		"QUERYBUF":            {QueryBuf, 0xc0585609, 0xc0505609},
		"QBUF":                {QBuf, 0xc058560f, 0xc050560f},
		"DQBUF":               {DQBuf, 0xc0585611, 0xc0505611},
		"STREAMON":            {StreamOn, 0x40045612, 0x40045612},
		"STREAMOFF":           {StreamOff, 0x40045613, 0x40045613},
		"S_PARM":              {SetParm, 0xc0cc5616, 0xc0cc5616},
		"ENUM_FRAMESIZES":     {EnumFrameSizes, 0xc02c564a, 0xc02c564a},
		"ENUM_FRAMEINTERVALS": {EnumIntervals, 0xc034564b, 0xc034564b},
	} {
		want := c.on64
		if !is64 {
			want = c.onARM
		}
		if c.got != want {
			t.Errorf("VIDIOC_%s is %#x, want %#x", name, c.got, want)
		}
	}
}

func TestNodes(t *testing.T) {
	file := func(s string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(s)} }
	for name, c := range map[string]struct {
		tree fstest.MapFS
		want []Node
	}{
		"none": {fstest.MapFS{}, []Node{}},
		"in order of number": {fstest.MapFS{
			"video10/name": file("Ten\n"), "video10/index": file("0\n"),
			"video2/name": file("Two: Integrated\n"), "video2/index": file("0\n"),
			"video3/name": file("Two: Metadata\n"), "video3/index": file("1\n"),
		}, []Node{{"/dev/video2", "Two: Integrated", 0}, {"/dev/video3", "Two: Metadata", 1}, {"/dev/video10", "Ten", 0}}},
		"what is no video device": {fstest.MapFS{
			"v4l-subdev0/name": file("x"), "vbi0/name": file("x"), "radio0/name": file("x"), "videox/name": file("x"),
		}, []Node{}},
		"attributes missing": {fstest.MapFS{"video0/dev": file("81:0")}, []Node{{"/dev/video0", "", 0}}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := (System{Sysfs: c.tree}).Nodes(); !slices.Equal(got, c.want) {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

// fifo stands for a device: it can be opened, waited for and asked, and it is no camera.
func fifo(t *testing.T) (path string, h Handle) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "video0")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	h, err := System{}.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return path, h
}

func descriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

func TestHandle(t *testing.T) {
	before := descriptors(t)
	path, h := fifo(t)

	var caps Capability
	if err := h.Ioctl(QueryCap, unsafe.Pointer(&caps)); err != unix.ENOTTY {
		t.Errorf("QUERYCAP on what is no camera: %v, want ENOTTY", err)
	}
	if err := h.Wait(5 * time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("nothing to read: %v, want ErrDeadlineExceeded", err)
	}
	if err := os.WriteFile(path, []byte("x"), 0); err != nil {
		t.Fatal(err)
	}
	if err := h.Wait(time.Minute); err != nil {
		t.Errorf("something to read: %v", err)
	}
	h.Cancel()
	h.Cancel()
	if err := h.Wait(time.Minute); !errors.Is(err, ErrCancelled) {
		t.Errorf("after Cancel: %v, want ErrCancelled", err)
	}
	if err := errors.Join(h.Close(), h.Close()); err != nil {
		t.Errorf("Close twice: %v", err)
	}
	if err := h.Ioctl(QueryCap, unsafe.Pointer(&caps)); err != unix.EBADF {
		t.Errorf("after Close: %v, want EBADF", err)
	}
	if after := descriptors(t); after != before {
		t.Errorf("%d file descriptors are open, %d were before", after, before)
	}
}

func TestCloseWakesWait(t *testing.T) {
	before := descriptors(t)
	_, h := fifo(t)
	woken := make(chan error)
	go func() { woken <- h.Wait(time.Minute) }()
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-woken; !errors.Is(err, ErrCancelled) {
		t.Errorf("Wait returned %v, want ErrCancelled", err)
	}
	if after := descriptors(t); after != before {
		t.Errorf("%d file descriptors are open, %d were before", after, before)
	}
}

func TestOpenSaysWhatIsMissing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "video0")
	_, err := System{}.Open(path)
	var where *fs.PathError
	if !errors.Is(err, fs.ErrNotExist) || !errors.As(err, &where) || where.Path != path {
		t.Errorf("error %v", err)
	}
}
