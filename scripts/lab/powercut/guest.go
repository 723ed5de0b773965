package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// mapped is the name and the node of the device with the log; it is the only one of its kind here.
const mapped, mappedNode = "powercut", "/dev/dm-0"

// record lets the terminal's packages work on a file system on data, and has all writes logged.
func record(data, log string, nobarrier bool) error {
	before, err := beginning(data)
	if err != nil {
		return err
	}
	if err := put(data, before); err != nil {
		return err
	}
	if err := addDevice(fmt.Sprintf("%s %s", data, log), uint64(len(before))/sectorSize); err != nil {
		return err
	}
	options := "commit=600" // no commit in the background, beside the packages' own: see deliver
	if nobarrier {
		options += ",nobarrier"
	}
	place, err := os.MkdirTemp("", "powercut-")
	if err != nil {
		return err
	}
	if err := unix.Mount(mappedNode, place, "ext4", 0, options); err != nil {
		return fmt.Errorf("mount %s: %w", mappedNode, err)
	}
	err = work(filepath.Join(place, "state"), func(mark string) error { return message("mark " + mark) })
	return errors.Join(err, unix.Unmount(place, 0), command(dmRemove, nil))
}

// beginning returns what the data device held before all work, kept in a file.
func beginning(data string) ([]byte, error) {
	before, err := os.ReadFile(copyOf)
	if !errors.Is(err, os.ErrNotExist) {
		return before, err
	}
	if before, err = os.ReadFile(data); err != nil {
		return nil, err
	}
	return before, os.WriteFile(copyOf, before, 0o600)
}

// put fills a device.
func put(device string, data []byte) error {
	f, err := os.OpenFile(device, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Sync(), f.Close())
}

// summary is what came of all cuts.
type summary struct {
	Cuts, Ready, Writes, Flushes int // Ready: cuts after the first promise
	Damaged, Lost, Anew          int
	MedianOpen, LongestOpen      time.Duration // mount, open and check
	Broken                       []string      // the first few, in words
}

func replay(data, log, target string, cuts int, seed uint64) (*summary, error) {
	before, err := beginning(data)
	if err != nil {
		return nil, err
	}
	entries, err := readDevice(log)
	if err != nil {
		return nil, err
	}
	place, err := os.MkdirTemp("", "powercut-")
	if err != nil {
		return nil, err
	}
	rng := rand.New(rand.NewPCG(seed, seed))
	m := &medium{entries: entries, durable: before, rng: rng}
	s := &summary{Cuts: cuts}
	for _, e := range entries {
		if e.flags&flagMark == 0 {
			s.Writes++
		}
		if e.flags&flagFlush != 0 {
			s.Flushes++
		}
	}
	var p promises
	var took []time.Duration
	marked := 0
	for _, at := range moments(len(entries), cuts, rng) {
		image, err := m.cut(at)
		if err != nil {
			return nil, err
		}
		for ; marked < at; marked++ {
			if entries[marked].flags&flagMark == 0 {
				continue
			}
			if err := p.keep(string(entries[marked].data)); err != nil {
				return nil, err
			}
		}
		if err := put(target, image); err != nil {
			return nil, err
		}
		if p.ready {
			s.Ready++
		}
		began := time.Now()
		err = mountAndCheck(target, place, p)
		took = append(took, time.Since(began))
		switch {
		case err == nil:
			continue
		case errors.Is(err, errLost):
			s.Lost++
		case errors.Is(err, errAnew):
			s.Anew++
		default:
			s.Damaged++
		}
		if len(s.Broken) < 10 {
			s.Broken = append(s.Broken, fmt.Sprintf("cut behind entry %d of %d: %v", at, len(entries), err))
		}
	}
	slices.Sort(took)
	s.MedianOpen, s.LongestOpen = took[len(took)/2], took[len(took)-1]
	return s, nil
}

func readDevice(log string) ([]entry, error) {
	f, err := os.Open(log)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	// The mapper wrote past the page cache, which may hold the log of before.
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), unix.BLKFLSBUF, 0); errno != 0 {
		return nil, fmt.Errorf("forget what was read of %s: %w", log, errno)
	}
	return readLog(f)
}

func mountAndCheck(device, place string, p promises) error {
	if err := unix.Mount(device, place, "ext4", 0, ""); err != nil {
		return fmt.Errorf("mount after the cut: %w: %w", err, errDamaged)
	}
	err := check(filepath.Join(place, "state"), p)
	return errors.Join(err, unix.Unmount(place, 0))
}

// The device mapper's calls (linux/dm-ioctl.h).
const (
	dmCreate, dmRemove, dmSuspend, dmLoad, dmMessage = 3, 4, 6, 9, 14

	dmHead, dmSize = 312, 4096
)

// addDevice makes the mapped device of so many sectors.
func addDevice(arguments string, sectors uint64) error {
	table := make([]byte, 40, 40+len(arguments)+1) // struct dm_target_spec
	binary.LittleEndian.PutUint64(table[8:], sectors)
	copy(table[24:], "log-writes")
	table = append(append(table, arguments...), 0)
	for _, step := range []struct {
		call uintptr
		body []byte
	}{{dmCreate, nil}, {dmLoad, table}, {dmSuspend, nil}} { // which resumes, without a flag
		if err := command(step.call, step.body); err != nil {
			return err
		}
	}
	return nil
}

// message tells the target something.
func message(text string) error {
	return command(dmMessage, append(append(make([]byte, 8), text...), 0)) // for sector 0
}

func command(call uintptr, body []byte) error {
	control, err := os.Open("/dev/mapper/control")
	if err != nil {
		return err
	}
	defer control.Close()
	b := make([]byte, dmSize) // struct dm_ioctl, and what belongs to it
	binary.LittleEndian.PutUint32(b, 4)
	binary.LittleEndian.PutUint32(b[12:], dmSize)
	binary.LittleEndian.PutUint32(b[16:], dmHead)
	if call == dmLoad {
		binary.LittleEndian.PutUint32(b[20:], 1)
	}
	copy(b[48:], mapped)
	if copy(b[dmHead:], body) < len(body) {
		return io.ErrShortBuffer
	}
	const readWrite, group = 3 << 30, 0xfd << 8
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, control.Fd(), readWrite|dmHead<<16|group|call, uintptr(unsafe.Pointer(&b[0]))); errno != 0 {
		return fmt.Errorf("device mapper, call %d: %w", call, errno)
	}
	return nil
}
