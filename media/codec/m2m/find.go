package m2m

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"vindu/media/camera/v4l2"
	"vindu/media/codec"
)

// Of linux/media.h.
const (
	functionSensor  = 0x00020001 // MEDIA_ENT_F_CAM_SENSOR
	functionEncoder = 0x00004007 // MEDIA_ENT_F_PROC_VIDEO_ENCODER
	interfaceVideo  = 0x00000200 // MEDIA_INTF_T_V4L_VIDEO
	mostEntities    = 1024
)

type entity struct {
	ID       uint32
	Name     [64]byte
	Function uint32
	Flags    uint32
	_        [5]uint32
}

type interfaceNode struct {
	ID, Type, Flags uint32
	_               [9]uint32
	Major, Minor    uint32
	_               [14]uint32
}

// topology is struct media_v2_topology, with room for pointers of 64 bits.
type topology struct {
	Version       uint64
	NumEntities   uint32
	_             uint32
	Entities      uint64
	NumInterfaces uint32
	_             uint32
	Interfaces    uint64
	NumPads       uint32
	_             uint32
	Pads          uint64
	NumLinks      uint32
	_             uint32
	Links         uint64
}

const getTopology = readWrite | uint32(unsafe.Sizeof(topology{}))<<16 | '|'<<8 | 4

var (
	_ [96]byte  = [unsafe.Sizeof(entity{})]byte{}
	_ [112]byte = [unsafe.Sizeof(interfaceNode{})]byte{}
	_ [72]byte  = [unsafe.Sizeof(topology{})]byte{}
)

// number is a device's.
type number struct{ major, minor uint32 }

// encoders picks the video devices of a controller that has an encoder. One with a sensor is a camera's: its devices are not touched.
func encoders(entities []entity, interfaces []interfaceNode) (out []number) {
	found := false
	for _, e := range entities {
		switch e.Function {
		case functionSensor:
			return nil
		case functionEncoder:
			found = true
		}
	}
	if !found {
		return nil
	}
	for _, i := range interfaces {
		if i.Type == interfaceVideo {
			out = append(out, number{i.Major, i.Minor})
		}
	}
	return out
}

// Find lists the paths of video devices that may be encoders. It opens media controllers only.
func Find() (out []string) {
	controllers, _ := filepath.Glob("/dev/media*") // the pattern is right
	for _, name := range controllers {
		numbers, err := ask(name)
		if err != nil {
			continue // gone, or of a driver that has no such question
		}
		for _, n := range numbers {
			data, err := os.ReadFile(fmt.Sprintf("/sys/dev/char/%d:%d/uevent", n.major, n.minor))
			if err != nil {
				continue
			}
			for line := range strings.Lines(string(data)) {
				if device, ok := strings.CutPrefix(strings.TrimSpace(line), "DEVNAME="); ok && strings.HasPrefix(device, "video") {
					if _, err := strconv.Atoi(device[len("video"):]); err == nil {
						out = append(out, "/dev/"+device)
					}
				}
			}
		}
	}
	return out
}

// ask asks a media controller for its parts.
func ask(name string) ([]number, error) {
	fd, err := unix.Open(name, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", name, err)
	}
	defer unix.Close(fd)
	var t topology
	for range 3 { // it may change between the two questions
		entities, interfaces := make([]entity, t.NumEntities), make([]interfaceNode, t.NumInterfaces)
		var pin runtime.Pinner
		if len(entities) > 0 && len(interfaces) > 0 {
			pin.Pin(&entities[0])
			pin.Pin(&interfaces[0])
			t.Entities, t.Interfaces = uint64(uintptr(unsafe.Pointer(&entities[0]))), uint64(uintptr(unsafe.Pointer(&interfaces[0])))
		}
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), uintptr(getTopology), uintptr(unsafe.Pointer(&t)))
		pin.Unpin()
		switch {
		case errno == unix.ENOSPC:
		case errno != 0:
			return nil, fmt.Errorf("ask %s: %w", name, errno)
		case t.Entities != 0 && int(t.NumEntities) <= len(entities) && int(t.NumInterfaces) <= len(interfaces):
			return encoders(entities[:t.NumEntities], interfaces[:t.NumInterfaces]), nil
		}
		if t.NumEntities == 0 || t.NumInterfaces == 0 || t.NumEntities > mostEntities || t.NumInterfaces > mostEntities {
			return nil, nil
		}
		t.Entities, t.Interfaces = 0, 0
	}
	return nil, nil
}

// Coders are the encoders in hardware among these devices: each is opened, asked, and closed.
func Coders(kernel v4l2.Kernel, paths []string) (out []codec.Coder) {
	for _, path := range paths {
		name, ok := coder(kernel, path)
		if !ok {
			continue
		}
		out = append(out, codec.Coder{Name: name, Kind: codec.H264, NewEncoder: func(c codec.VideoConfig) (codec.VideoEncoder, error) {
			e, err := New(kernel, Config{VideoConfig: c, Path: path})
			if err != nil {
				return nil, err
			}
			return e, nil
		}})
	}
	return out
}

// coder asks a device whether it is an encoder of H.264, and what drives it.
func coder(kernel v4l2.Kernel, path string) (string, bool) {
	h, err := kernel.Open(path)
	if err != nil {
		return "", false
	}
	defer h.Close()
	c, err := capabilities(h)
	if err != nil {
		return "", false
	}
	planar := c.DeviceCaps&capM2MMPlane != 0
	in := newQueue(h, true, planar)
	if !newQueue(h, false, planar).has(fmtH264) || !in.has(fmtI420) && !in.has(fmtNV12) {
		return "", false
	}
	return "v4l2 " + unix.ByteSliceToString(c.Driver[:]), true
}
