package drm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The structures of drm.h and drm_mode.h. Pointers are carried in 64 bits on every machine.
type (
	version struct {
		major, minor, patch int32
		nameLen             uintptr
		name                *byte
		dateLen             uintptr
		date                *byte
		descLen             uintptr
		desc                *byte
	}
	getCap  struct{ capability, value uint64 }
	cardRes struct {
		fbs, crtcs, connectors, encoders                uint64
		countFbs, countCrtcs, countConnectors, countEnc uint32
		minWidth, maxWidth, minHeight, maxHeight        uint32
	}
	getConnector struct {
		encoders, modes, props, values        uint64
		countModes, countProps, countEncoders uint32
		encoder, id, kind, kindID, connection uint32
		mmWidth, mmHeight, subpixel, _        uint32
	}
	getEncoder struct{ id, kind, crtc, possibleCrtcs, possibleClones uint32 }
	setCrtc    struct {
		connectors              uint64
		countConnectors, id, fb uint32
		x, y, gamma, modeValid  uint32
		mode                    Mode
	}
	addFB    struct{ id, width, height, pitch, bpp, depth, handle uint32 }
	pageFlip struct {
		crtc, fb, flags, reserved uint32
		userData                  uint64
	}
	dirtyFB struct {
		fb, flags, color, countClips uint32
		clips                        uint64
	}
	createDumb struct {
		height, width, bpp, flags, handle, pitch uint32
		size                                     uint64
	}
	mapDumb struct {
		handle, _ uint32
		offset    uint64
	}
)

const (
	dirWrite = 1 << 30
	dirRead  = 2 << 30
	both     = dirRead | dirWrite
)

// Ioctl numbers.
const (
	ioVersion      = uint32(both | unsafe.Sizeof(version{})<<16 | 'd'<<8 | 0x00)
	ioGetCap       = uint32(both | unsafe.Sizeof(getCap{})<<16 | 'd'<<8 | 0x0c)
	ioSetMaster    = uint32('d'<<8 | 0x1e)
	ioDropMaster   = uint32('d'<<8 | 0x1f)
	ioResources    = uint32(both | unsafe.Sizeof(cardRes{})<<16 | 'd'<<8 | 0xa0)
	ioSetCrtc      = uint32(both | unsafe.Sizeof(setCrtc{})<<16 | 'd'<<8 | 0xa2)
	ioGetEncoder   = uint32(both | unsafe.Sizeof(getEncoder{})<<16 | 'd'<<8 | 0xa6)
	ioGetConnector = uint32(both | unsafe.Sizeof(getConnector{})<<16 | 'd'<<8 | 0xa7)
	ioAddFB        = uint32(both | unsafe.Sizeof(addFB{})<<16 | 'd'<<8 | 0xae)
	ioRmFB         = uint32(both | 4<<16 | 'd'<<8 | 0xaf)
	ioPageFlip     = uint32(both | unsafe.Sizeof(pageFlip{})<<16 | 'd'<<8 | 0xb0)
	ioDirtyFB      = uint32(both | unsafe.Sizeof(dirtyFB{})<<16 | 'd'<<8 | 0xb1)
	ioCreateDumb   = uint32(both | unsafe.Sizeof(createDumb{})<<16 | 'd'<<8 | 0xb2)
	ioMapDumb      = uint32(both | unsafe.Sizeof(mapDumb{})<<16 | 'd'<<8 | 0xb3)
	ioDestroyDumb  = uint32(both | 4<<16 | 'd'<<8 | 0xb4)

	capDumb       = 1
	connected     = 1
	flipEvent     = 1 // flag of pageFlip
	flipComplete  = 2 // type of an event
	eventHeader   = 8
	maxClips      = 64
	maxConnectors = 64
	maxModes      = 512
)

// Sizes that are the same on every machine, checked by the compiler.
var (
	_ [68]byte  = [unsafe.Sizeof(Mode{})]byte{}
	_ [16]byte  = [unsafe.Sizeof(getCap{})]byte{}
	_ [64]byte  = [unsafe.Sizeof(cardRes{})]byte{}
	_ [80]byte  = [unsafe.Sizeof(getConnector{})]byte{}
	_ [20]byte  = [unsafe.Sizeof(getEncoder{})]byte{}
	_ [104]byte = [unsafe.Sizeof(setCrtc{})]byte{}
	_ [28]byte  = [unsafe.Sizeof(addFB{})]byte{}
	_ [24]byte  = [unsafe.Sizeof(pageFlip{})]byte{}
	_ [24]byte  = [unsafe.Sizeof(dirtyFB{})]byte{}
	_ [32]byte  = [unsafe.Sizeof(createDumb{})]byte{}
	_ [16]byte  = [unsafe.Sizeof(mapDumb{})]byte{}
)

// System is the Kernel of this machine.
type System struct{}

// Paths implements Kernel.
func (System) Paths() []string {
	found, _ := filepath.Glob("/dev/dri/card[0-9]*") // the pattern is well formed
	number := func(path string) int {
		n, _ := strconv.Atoi(strings.TrimPrefix(path, "/dev/dri/card"))
		return n
	}
	sort.Slice(found, func(i, j int) bool { return number(found[i]) < number(found[j]) })
	return found
}

// Open implements Kernel.
func (System) Open(path string) (Card, error) {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	c := &card{fd: fd}
	c.pinner.Pin(&c.clips)
	return c, nil
}

// card is a Card on a file descriptor.
type card struct {
	fd      int
	clips   [maxClips]Clip // pinned: the kernel reads it
	dirty   dirtyFB        // for ioctls of every picture: on the heap once
	flip    pageFlip
	events  [256]byte
	pinner  runtime.Pinner
	closing sync.Once
}

func (c *card) ioctl(request uint32, arg unsafe.Pointer) error {
	for {
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(c.fd), uintptr(request), uintptr(arg))
		switch errno {
		case 0:
			return nil
		case unix.EINTR, unix.EAGAIN: // as libdrm's drmIoctl
		default:
			return errno
		}
	}
}

func (c *card) Driver() (string, error) {
	var name [64]byte
	v := version{nameLen: uintptr(len(name)), name: &name[0]}
	if err := c.ioctl(ioVersion, unsafe.Pointer(&v)); err != nil {
		return "", fmt.Errorf("ask for the driver: %w", err)
	}
	return string(name[:min(v.nameLen, uintptr(len(name)))]), nil
}

func (c *card) Dumb() (bool, error) {
	g := getCap{capability: capDumb}
	if err := c.ioctl(ioGetCap, unsafe.Pointer(&g)); err != nil {
		return false, fmt.Errorf("ask for plain buffers: %w", err)
	}
	return g.value != 0, nil
}

func (c *card) SetMaster() error  { return c.ioctl(ioSetMaster, nil) }
func (c *card) DropMaster() error { return c.ioctl(ioDropMaster, nil) }

// list returns a slice for the kernel to fill, pinned, and its address as the kernel wants it.
func list[T any](p *runtime.Pinner, n uint32) ([]T, uint64) {
	if n == 0 {
		return nil, 0
	}
	s := make([]T, n)
	p.Pin(&s[0])
	return s, uint64(uintptr(unsafe.Pointer(&s[0])))
}

func (c *card) Resources() (Resources, error) {
	var count cardRes
	if err := c.ioctl(ioResources, unsafe.Pointer(&count)); err != nil {
		return Resources{}, fmt.Errorf("list resources: %w", err)
	}
	var p runtime.Pinner
	defer p.Unpin()
	r := cardRes{countCrtcs: min(count.countCrtcs, maxConnectors), countConnectors: min(count.countConnectors, maxConnectors)}
	var crtcs, connectors []uint32
	crtcs, r.crtcs = list[uint32](&p, r.countCrtcs)
	connectors, r.connectors = list[uint32](&p, r.countConnectors)
	if err := c.ioctl(ioResources, unsafe.Pointer(&r)); err != nil {
		return Resources{}, fmt.Errorf("list resources: %w", err)
	}
	return Resources{
		Crtcs:      crtcs[:min(int(r.countCrtcs), len(crtcs))],
		Connectors: connectors[:min(int(r.countConnectors), len(connectors))],
	}, nil
}

func (c *card) Connector(id uint32) (Connector, error) {
	// The first call, without room for modes, makes the kernel look at the plug.
	count := getConnector{id: id}
	if err := c.ioctl(ioGetConnector, unsafe.Pointer(&count)); err != nil {
		return Connector{}, fmt.Errorf("ask for connector %d: %w", id, err)
	}
	var p runtime.Pinner
	defer p.Unpin()
	g := getConnector{id: id, countModes: min(count.countModes, maxModes), countEncoders: min(count.countEncoders, maxConnectors)}
	var modes []Mode
	var encoders []uint32
	modes, g.modes = list[Mode](&p, g.countModes)
	encoders, g.encoders = list[uint32](&p, g.countEncoders)
	if g.countModes == 0 { // a single mode keeps the kernel from looking again
		_, g.modes = list[Mode](&p, 1)
		g.countModes = 1
	}
	if err := c.ioctl(ioGetConnector, unsafe.Pointer(&g)); err != nil {
		return Connector{}, fmt.Errorf("ask for connector %d: %w", id, err)
	}
	return Connector{
		ID: id, Type: g.kind, TypeID: g.kindID, Connected: g.connection == connected, Encoder: g.encoder,
		Encoders: encoders[:min(int(g.countEncoders), len(encoders))],
		Modes:    modes[:min(int(g.countModes), len(modes))],
	}, nil
}

func (c *card) Encoder(id uint32) (Encoder, error) {
	g := getEncoder{id: id}
	if err := c.ioctl(ioGetEncoder, unsafe.Pointer(&g)); err != nil {
		return Encoder{}, fmt.Errorf("ask for encoder %d: %w", id, err)
	}
	return Encoder{Crtc: g.crtc, Possible: g.possibleCrtcs}, nil
}

func (c *card) CreateBuffer(w, h int) (*Buffer, error) {
	create := createDumb{width: uint32(w), height: uint32(h), bpp: 32}
	if err := c.ioctl(ioCreateDumb, unsafe.Pointer(&create)); err != nil {
		return nil, fmt.Errorf("create a buffer of %d×%d: %w", w, h, err)
	}
	b := &Buffer{Stride: int(create.pitch), Handle: create.handle}
	fb := addFB{
		width: uint32(w), height: uint32(h), pitch: create.pitch, bpp: 32, depth: 24, handle: create.handle,
	}
	if err := c.ioctl(ioAddFB, unsafe.Pointer(&fb)); err != nil {
		c.DestroyBuffer(b)
		return nil, fmt.Errorf("make a framebuffer of %d×%d: %w", w, h, err)
	}
	b.ID = fb.id
	where := mapDumb{handle: create.handle}
	err := c.ioctl(ioMapDumb, unsafe.Pointer(&where))
	if err == nil {
		b.Pix, err = unix.Mmap(c.fd, int64(where.offset), int(create.size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	}
	if err != nil {
		c.DestroyBuffer(b)
		return nil, fmt.Errorf("map a buffer of %d×%d: %w", w, h, err)
	}
	return b, nil
}

func (c *card) DestroyBuffer(b *Buffer) error {
	var errs []error
	if b.Pix != nil {
		errs = append(errs, unix.Munmap(b.Pix))
		b.Pix = nil
	}
	if b.ID != 0 {
		errs = append(errs, c.ioctl(ioRmFB, unsafe.Pointer(&b.ID)))
	}
	errs = append(errs, c.ioctl(ioDestroyDumb, unsafe.Pointer(&b.Handle)))
	return errors.Join(errs...)
}

func (c *card) SetCrtc(crtc uint32, b *Buffer, connector uint32, m Mode) error {
	var p runtime.Pinner
	defer p.Unpin()
	connectors, address := list[uint32](&p, 1)
	connectors[0] = connector
	s := setCrtc{connectors: address, countConnectors: 1, id: crtc, fb: b.ID, modeValid: 1, mode: m}
	return c.ioctl(ioSetCrtc, unsafe.Pointer(&s))
}

func (c *card) Flip(crtc uint32, b *Buffer) error {
	c.flip = pageFlip{crtc: crtc, fb: b.ID, flags: flipEvent}
	return c.ioctl(ioPageFlip, unsafe.Pointer(&c.flip))
}

func (c *card) WaitFlip(timeout time.Duration) error {
	deadline := time.Now().Add(timeout)
	for {
		fds := [1]unix.PollFd{{Fd: int32(c.fd), Events: unix.POLLIN}}
		left := max(time.Until(deadline), 0)
		n, err := unix.Poll(fds[:], int((left+time.Millisecond-1)/time.Millisecond))
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return fmt.Errorf("poll: %w", err)
		case n == 0:
			return os.ErrDeadlineExceeded
		case fds[0].Revents&unix.POLLIN == 0:
			return unix.ENODEV
		}
		n, err = unix.Read(c.fd, c.events[:])
		if err == unix.EINTR || err == unix.EAGAIN {
			continue
		}
		if err != nil {
			return fmt.Errorf("read events: %w", err)
		}
		for e := c.events[:n]; len(e) >= eventHeader; {
			kind, length := binary.NativeEndian.Uint32(e), int(binary.NativeEndian.Uint32(e[4:]))
			if kind == flipComplete {
				return nil
			}
			if length < eventHeader || length > len(e) {
				break
			}
			e = e[length:]
		}
	}
}

func (c *card) Dirty(b *Buffer, clips []Clip) error {
	n := copy(c.clips[:], clips)
	c.dirty = dirtyFB{fb: b.ID, countClips: uint32(n)}
	if n > 0 {
		c.dirty.clips = uint64(uintptr(unsafe.Pointer(&c.clips[0])))
	}
	if n < len(clips) {
		c.dirty.countClips, c.dirty.clips = 0, 0 // all of it
	}
	return c.ioctl(ioDirtyFB, unsafe.Pointer(&c.dirty))
}

func (c *card) Close() error {
	var err error
	c.closing.Do(func() {
		err = unix.Close(c.fd)
		c.pinner.Unpin()
	})
	return err
}
