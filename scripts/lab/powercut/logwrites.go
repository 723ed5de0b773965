package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// The log of dm-log-writes (Linux, drivers/md/dm-log-writes.c): a sector with the superblock, and then each entry in a
// sector of its own with its data behind it. All numbers are little-endian.
const (
	logMagic   = 0x6a736677736872
	logVersion = 1

	flagFlush   = 1 << 0
	flagFUA     = 1 << 1
	flagDiscard = 1 << 2
	flagMark    = 1 << 3
)

// maxEntry bounds an entry's data: the kernel splits writes long before.
const maxEntry = 64 << 20

// entry is a write, in the order in which the device would have it on its medium: those before a flush are whole when the flush is.
type entry struct {
	offset int64  // bytes from the device's beginning
	data   []byte // of a mark its text; of a discard nil
	length int64  // of a discard
	flags  uint64
}

var errLog = errors.New("not a log of dm-log-writes")

// readLog reads all entries that the superblock counts.
func readLog(r io.Reader) ([]entry, error) {
	head := make([]byte, 28)
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, fmt.Errorf("superblock: %w: %w", err, errLog)
	}
	count, sector := binary.LittleEndian.Uint64(head[16:]), int64(binary.LittleEndian.Uint32(head[24:]))
	if binary.LittleEndian.Uint64(head) != logMagic || binary.LittleEndian.Uint64(head[8:]) != logVersion || sector != 512 && sector != 4096 {
		return nil, fmt.Errorf("superblock: %w", errLog)
	}
	if _, err := io.CopyN(io.Discard, r, sector-int64(len(head))); err != nil {
		return nil, fmt.Errorf("superblock: %w: %w", err, errLog)
	}
	var entries []entry
	block := make([]byte, sector)
	for n := range count {
		if _, err := io.ReadFull(r, block); err != nil {
			return nil, fmt.Errorf("entry %d of %d: %w: %w", n, count, err, errLog)
		}
		at, sectors := binary.LittleEndian.Uint64(block), binary.LittleEndian.Uint64(block[8:])
		flags, length := binary.LittleEndian.Uint64(block[16:]), binary.LittleEndian.Uint64(block[24:])
		if at > 1<<40 || sectors > maxEntry/uint64(sector) || length > uint64(sector)-32 {
			return nil, fmt.Errorf("entry %d of %d: %w", n, count, errLog)
		}
		e := entry{offset: int64(at) * sector, flags: flags}
		switch {
		case flags&flagMark != 0:
			e.data = append(e.data, block[32:32+length]...)
		case flags&flagDiscard != 0:
			e.length = int64(sectors) * sector
		}
		if sectors > 0 && flags&flagDiscard == 0 {
			data, err := io.ReadAll(io.LimitReader(r, int64(sectors)*sector))
			if err == nil && int64(len(data)) < int64(sectors)*sector {
				err = io.ErrUnexpectedEOF
			}
			if err != nil {
				return nil, fmt.Errorf("data of entry %d of %d: %w: %w", n, count, err, errLog)
			}
			if flags&flagMark == 0 {
				e.data = data
			}
		}
		entries = append(entries, e)
	}
	return entries, nil
}
