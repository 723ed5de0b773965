package main

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"os"
	"slices"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The flash in which QEMU's "virt" board keeps U-Boot's environment: Intel's command set, two 16-bit chips side by side. The image's kernel has a driver for it; Debian's has
// none, so the lab has this.
const (
	flashAt     = 0x4000000
	flashSector = 256 << 10

	flashErase   = 0x00200020
	flashConfirm = 0x00d000d0
	flashProgram = 0x00400040
	flashArray   = 0x00ff00ff
	flashReady   = 0x00800080
)

// flash copies the environment's sector to a file ("read") or from one ("write").
func flash(what, file string) error {
	lock, err := os.OpenFile("/run/lab-flash.lock", os.O_CREATE|os.O_RDWR, 0o600) // who reads ends what another writes
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("lock the flash: %w", err)
	}
	memory, err := os.OpenFile("/dev/mem", os.O_RDWR|os.O_SYNC, 0)
	if err != nil {
		return err
	}
	defer memory.Close()
	mapped, err := unix.Mmap(int(memory.Fd()), flashAt, flashSector, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("map the flash: %w", err)
	}
	defer unix.Munmap(mapped)
	words := unsafe.Slice((*uint32)(unsafe.Pointer(&mapped[0])), flashSector/4)
	put := func(n int, value uint32) { atomic.StoreUint32(&words[n], value) }
	get := func(n int) uint32 { return atomic.LoadUint32(&words[n]) }
	put(0, flashArray)
	switch what {
	case "read":
		data := make([]byte, flashSector)
		to := unsafe.Slice((*uint32)(unsafe.Pointer(&data[0])), len(words))
		for n := range words {
			to[n] = get(n)
		}
		mend(data)
		return os.WriteFile(file, data, 0o600)
	case "write":
		data, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if len(data) != flashSector {
			return fmt.Errorf("%s has %d bytes, a sector has %d", file, len(data), flashSector)
		}
		from := unsafe.Slice((*uint32)(unsafe.Pointer(&data[0])), len(words))
		put(0, flashErase)
		put(0, flashConfirm)
		for get(0)&flashReady != flashReady {
		}
		for n, value := range from {
			if value == 0xffffffff {
				continue
			}
			put(n, flashProgram)
			put(n, value)
			for get(n)&flashReady != flashReady {
			}
		}
		put(0, flashArray)
		return nil
	}
	return fmt.Errorf("flash: %q is neither read nor write", what)
}

// mend puts back what Debian 12's QEMU loses of an environment that U-Boot writes: all but the first 2 KiB, which are zeros (QEMU issue 2343, "Write to buffer emulation is
// flawed"). What has another checksum then is left as it is.
func mend(data []byte) {
	mended := slices.Clone(data)
	clear(mended[2<<10:])
	if binary.LittleEndian.Uint32(mended) == crc32.ChecksumIEEE(mended[4:]) {
		copy(data, mended)
	}
}
