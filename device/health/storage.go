package health

import (
	"context"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"time"

	"vindu/protocol"
)

const (
	slowDisk = 2 * time.Second
	leastMiB = 64
	roomy    = 1 << 30 // free bytes that are enough, whatever share of a large disk they are
	wornOut  = 0x0a    // 90 to 100 % of the life is used
	tellLoss = 24 * time.Hour
)

// Space returns the probe "space". free tells how many bytes of how many are free where the state is kept.
func Space(files fs.FS, free func() (free, total uint64, err error)) Probe {
	var low bool
	return Probe{Name: "space", Every: 5 * time.Minute, Run: func(context.Context) ([]Finding, error) {
		var found []Finding
		for _, name := range all(files, "sys/block/mmcblk*/device/life_time") {
			for _, field := range strings.Fields(text(files, name)) {
				if n, err := strconv.ParseInt(field, 0, 16); err == nil && n >= wornOut {
					found = []Finding{{Code: protocol.StorageWorn}}
				}
			}
		}
		bytes, total, err := free()
		if err != nil || total == 0 {
			return found, fmt.Errorf("free space: %w", err)
		}
		percent, least, leastShare := float64(bytes)/float64(total)*100, uint64(leastMiB), 10.0
		if low {
			least, leastShare = leastMiB*3/2, 15
		}
		if low = percent < leastShare && bytes < roomy || bytes < least<<20; low {
			found = append(found, Finding{protocol.StorageLow, fmt.Sprintf("%d MiB free", bytes>>20)})
		}
		return found, nil
	}}
}

// Drive is what the state is kept on, as the probe "disk" looks at it.
type Drive struct {
	Write    func(b []byte) error // a small file, through to the disk
	Read     func() error         // a block of the state, past the system's cache
	ReadOnly func() (bool, error) // the file system lets nobody write
	Waiting  func() bool          // something could not be written, and waits, or hardly anything can be: it is written to at each look
}

// writeEvery spares the flash.
const writeEvery = time.Hour

// Disk returns the probe "disk". It reads each minute, which wears nothing, and writes once an hour; each time while something is wrong, or there is hardly any room.
func Disk(d Drive) Probe {
	var written time.Time
	return Probe{Name: "disk", Every: time.Minute, Timeout: 30 * time.Second, Run: func(ctx context.Context) ([]Finding, error) {
		locked, err := d.ReadOnly()
		if err != nil {
			return nil, err
		}
		if err := d.Read(); err != nil {
			return []Finding{{Code: protocol.StorageFailing}}, nil
		}
		if locked {
			return []Finding{{Code: protocol.StorageReadOnly}}, nil
		}
		if !d.Waiting() && !written.IsZero() && time.Since(written) < writeEvery {
			return nil, nil
		}
		written = time.Time{} // what is found is looked at again in a minute
		var took time.Duration
		for range 2 { // one may stand behind somebody else's
			began := time.Now()
			if err := d.Write([]byte("probe\n")); err != nil {
				return []Finding{{Code: protocol.StorageCode(err)}}, nil
			}
			if took = time.Since(began); took <= slowDisk || ctx.Err() != nil {
				written = time.Now()
				return nil, nil
			}
		}
		return []Finding{{protocol.StorageSlow, fmt.Sprintf("%.1f s", took.Seconds())}}, nil
	}}
}

// Outbox returns the probe "outbox". dropped counts what the outbox had to drop, ever.
func Outbox(dropped func() uint64) Probe {
	var known bool
	var before uint64
	var at time.Time
	return Probe{Name: "outbox", Every: 5 * time.Minute, Run: func(context.Context) ([]Finding, error) {
		n := dropped()
		if known && n > before {
			at = time.Now()
		}
		known, before = true, n
		if at.IsZero() || time.Since(at) >= tellLoss {
			return nil, nil
		}
		return []Finding{{protocol.StorageDropped, fmt.Sprintf("%d dropped", n)}}, nil
	}}
}

// Time returns the probe "time". age is how long ago the clinic's time was learnt; known whether it ever was.
func Time(age func() (age time.Duration, known bool)) Probe {
	return Probe{Name: "time", Every: 10 * time.Minute, Run: func(context.Context) ([]Finding, error) {
		if a, known := age(); known && a > 24*time.Hour {
			return []Finding{{protocol.TimeStale, fmt.Sprintf("%.0f h", a.Hours())}}, nil
		}
		return nil, nil
	}}
}
