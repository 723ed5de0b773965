package health

import (
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// wear knows how much was written in the last day, by a reading an hour.
type wear struct {
	readings []reading // the oldest first
}

type reading struct {
	at      time.Time
	sectors uint64
}

const (
	wearDay    = 24 * time.Hour
	sectorSize = 512 // of the kernel's count, whatever the disk's is (Documentation/block/stat.rst)
)

// look reads the kernel's count of a disk and returns how many KiB were written in the last day, at least 1; 0 if it is not known.
func (w *wear) look(files fs.FS, disk string) uint64 {
	if disk == "" {
		return 0
	}
	fields := strings.Fields(text(files, disk))
	if len(fields) < 7 {
		return 0
	}
	sectors, err := strconv.ParseUint(fields[6], 10, 64)
	if err != nil {
		return 0
	}
	now := time.Now()
	if n := len(w.readings); n > 0 && sectors < w.readings[n-1].sectors { // another disk, or one that was taken out and put back
		w.readings = nil
	}
	if n := len(w.readings); n == 0 || now.Sub(w.readings[n-1].at) >= time.Hour {
		w.readings = append(w.readings, reading{now, sectors})
	}
	for len(w.readings) > 1 && now.Sub(w.readings[1].at) >= wearDay {
		w.readings = w.readings[1:]
	}
	return min(max((sectors-w.readings[0].sectors)*sectorSize>>10, 1), 1<<32)
}

// DiskCounts names the file, from the system's root, in which the kernel counts what is written to the disk that a folder is on; "" if that is no disk.
func DiskCounts(folder string) string {
	info, err := os.Stat(folder)
	if err != nil {
		return ""
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return ""
	}
	name := fmt.Sprintf("sys/dev/block/%d:%d/stat", unix.Major(stat.Dev), unix.Minor(stat.Dev))
	if _, err := os.Stat("/" + name); err != nil {
		return ""
	}
	return name
}
