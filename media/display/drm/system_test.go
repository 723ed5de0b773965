package drm

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The numbers are those that a C compiler makes of drm.h and drm_mode.h.
func TestIoctlNumbers(t *testing.T) {
	wantVersion := uint32(0xc0406400)
	if unsafe.Sizeof(uintptr(0)) == 4 {
		wantVersion = 0xc0246400
	}
	for name, c := range map[string]struct{ got, want uint32 }{
		"VERSION": {ioVersion, wantVersion}, "GET_CAP": {ioGetCap, 0xc010640c},
		"SET_MASTER": {ioSetMaster, 0x641e}, "DROP_MASTER": {ioDropMaster, 0x641f},
		"GETRESOURCES": {ioResources, 0xc04064a0}, "SETCRTC": {ioSetCrtc, 0xc06864a2},
		"GETENCODER": {ioGetEncoder, 0xc01464a6}, "GETCONNECTOR": {ioGetConnector, 0xc05064a7},
		"ADDFB": {ioAddFB, 0xc01c64ae}, "RMFB": {ioRmFB, 0xc00464af},
		"PAGE_FLIP": {ioPageFlip, 0xc01864b0}, "DIRTYFB": {ioDirtyFB, 0xc01864b1},
		"CREATE_DUMB": {ioCreateDumb, 0xc02064b2}, "MAP_DUMB": {ioMapDumb, 0xc01064b3},
		"DESTROY_DUMB": {ioDestroyDumb, 0xc00464b4},
	} {
		if c.got != c.want {
			t.Errorf("%s is %#x, want %#x", name, c.got, c.want)
		}
	}
}

func TestWhatIsNoCard(t *testing.T) {
	path := filepath.Join(t.TempDir(), "card0")
	if _, err := (System{}).Open(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing: error %v", err)
	}
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := System{}.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Driver(); !errors.Is(err, unix.ENOTTY) {
		t.Errorf("driver of a pipe: error %v, want ENOTTY", err)
	}
	if err := c.WaitFlip(5 * time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("no event: error %v, want ErrDeadlineExceeded", err)
	}
	event := make([]byte, 32) // DRM_EVENT_FLIP_COMPLETE
	event[0], event[4] = flipComplete, 32
	if err := os.WriteFile(path, event, 0); err != nil {
		t.Fatal(err)
	}
	if err := c.WaitFlip(time.Minute); err != nil {
		t.Errorf("an event: error %v", err)
	}
}

func TestConnectorName(t *testing.T) {
	for want, c := range map[string]Connector{
		"HDMI-A-1": {Type: 11, TypeID: 1}, "Virtual-2": {Type: 15, TypeID: 2}, "DSI-1": {Type: 16, TypeID: 1}, "Unknown-1": {Type: 99, TypeID: 1},
	} {
		if got := c.Name(); got != want {
			t.Errorf("%+v is %s, want %s", c, got, want)
		}
	}
}
