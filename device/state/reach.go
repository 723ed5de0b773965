package state

import (
	"errors"
	"fmt"
	"syscall"
)

// ReadOnly tells whether the file system that the folder is on lets nobody write. A simulated disk does.
func (d *Dir) ReadOnly() (bool, error) {
	if d.lock == nil {
		return false, nil
	}
	var s syscall.Statfs_t
	if err := syscall.Statfs(d.path, &s); err != nil {
		return false, coded("look at", d.path, err)
	}
	return s.Flags&stReadOnly != 0, nil
}

// stReadOnly is ST_RDONLY of statfs(2).
const stReadOnly = 1

// block is what disks are read by past the cache: a multiple of all that they ask for.
const block = 4096

// Reach reads a block of the folder's lock, which is always there, from the disk itself, past the system's cache (O_DIRECT). Where that cannot be done it does nothing.
func (d *Dir) Reach() error {
	if d.lock == nil {
		return nil
	}
	path := d.at("lock")
	fd, err := syscall.Open(path, syscall.O_RDONLY|syscall.O_DIRECT|syscall.O_CLOEXEC, 0)
	if errors.Is(err, syscall.EINVAL) {
		return nil
	} else if err != nil {
		return coded("open", path, err)
	}
	defer syscall.Close(fd) // it was read only
	aligned, err := syscall.Mmap(-1, 0, block, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE|syscall.MAP_ANON)
	if err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	defer syscall.Munmap(aligned) // it was just made
	if _, err := syscall.Pread(fd, aligned, 0); err != nil && !errors.Is(err, syscall.EINVAL) {
		return coded("read", path, err)
	}
	return nil
}
