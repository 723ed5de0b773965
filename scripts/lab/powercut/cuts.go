package main

import (
	"fmt"
	"math/rand/v2"
	"slices"
)

// sectorSize is what a disk writes whole or not at all.
const sectorSize = 512

// medium is a disk whose power is cut again and again, at later and later moments of one log.
type medium struct {
	entries []entry
	durable []byte // what no cut takes any more
	done    int    // entries[:done] are in durable, or were at no time
	rng     *rand.Rand
}

// moments are n places in the log, from the first write to the end, ascending: a cut at p comes after entries[:p].
func moments(entries, n int, rng *rand.Rand) []int {
	all := make([]int, n)
	for i := range all {
		all[i] = 1 + rng.IntN(entries)
	}
	slices.Sort(all)
	return all
}

// cut returns the disk after a cut behind entries[:p]; p never becomes less.
func (m *medium) cut(p int) ([]byte, error) {
	// A flush is a promise about what was complete when it began, which is what stands before it in the log.
	flushed := m.done
	for i := m.done; i < p; i++ {
		if m.entries[i].flags&flagFlush != 0 {
			flushed = i
		}
	}
	for ; m.done < flushed; m.done++ {
		if err := write(m.durable, m.entries[m.done], 1, nil); err != nil {
			return nil, err
		}
	}
	image := slices.Clone(m.durable)
	// Of the rest nothing, all, any writes, or any sectors of any writes are there.
	share := [...]float64{0, 1, 0.5, 0.5}
	way := m.rng.IntN(len(share))
	for _, e := range m.entries[m.done:p] {
		rng := m.rng
		if way < 3 {
			rng = nil
		}
		part := share[way]
		switch {
		case e.flags&flagFUA != 0: // is complete only once it is on the medium
			part, rng = 1, nil
		case way == 2 && m.rng.Float64() < part:
			part = 1
		case way == 2:
			part = 0
		}
		if err := write(image, e, part, rng); err != nil {
			return nil, err
		}
	}
	return image, nil
}

// write puts an entry on a disk: all of it, nothing, or with rng each sector by that chance.
func write(disk []byte, e entry, part float64, rng *rand.Rand) error {
	if e.flags&(flagMark|flagDiscard) != 0 || len(e.data) == 0 || part == 0 {
		return nil // what is discarded may keep its content
	}
	if e.offset+int64(len(e.data)) > int64(len(disk)) {
		return fmt.Errorf("a write of %d bytes at %d, but the disk has %d: %w", len(e.data), e.offset, len(disk), errLog)
	}
	to := disk[e.offset:]
	if rng == nil {
		copy(to, e.data)
		return nil
	}
	for at := 0; at < len(e.data); at += sectorSize {
		if rng.Float64() < part {
			copy(to[at:], e.data[at:min(at+sectorSize, len(e.data))])
		}
	}
	return nil
}
