package health

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strconv"
	"strings"
	"time"

	"vindu/protocol"
)

// maxFile bounds what is read of a file of the kernel's.
const maxFile = 64 << 10

// text reads a file of the kernel's; "" if there is none, or none can be read now, as with a device that went away.
func text(files fs.FS, name string) string {
	f, err := files.Open(name)
	if err != nil {
		return ""
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// count reads a number, in C's notation.
func count(files fs.FS, name string) (int64, bool) {
	n, err := strconv.ParseInt(text(files, name), 0, 64)
	return n, err == nil
}

// all returns the files that match a constant pattern.
func all(files fs.FS, pattern string) []string {
	names, err := fs.Glob(files, pattern)
	if err != nil {
		return nil
	}
	return names
}

// Store keeps a small file whole.
type Store interface {
	Load() ([]byte, error) // nil if there is none
	Save(b []byte) error
}

const (
	recent     = time.Hour        // for so long it is told how a boot came about
	shortBoot  = 6 * time.Minute  // a boot that lasted less did not come far
	shortBoots = 4                // in a row, and the one that runs
	settled    = 30 * time.Minute // after which it did
	lowPower   = 10 * time.Minute // since the sensor last told
	cardReset  = 0x20             // WDIOF_CARDRESET, linux/watchdog.h
)

// boots is what is remembered from one boot to the next. It needs no clock: a terminal may not know the time.
type boots struct {
	id      string // of the boot, by the kernel
	short   int    // boots before it, in a row, that were short
	lasted  bool   // it was not short
	stopped bool   // the program was told to stop
	crashes int    // records of crashes that were there
}

func (b boots) encode() []byte {
	return fmt.Appendf(nil, "boot=%s short=%d lasted=%t stopped=%t crashes=%d\n", b.id, b.short, b.lasted, b.stopped, b.crashes)
}

var errBoots = errors.New("what was remembered of the last boot cannot be read")

func parseBoots(raw []byte) (boots, error) {
	var b boots
	n, err := fmt.Sscanf(string(raw), "boot=%s short=%d lasted=%t stopped=%t crashes=%d\n", &b.id, &b.short, &b.lasted, &b.stopped, &b.crashes)
	if err != nil || n != 5 || b.short < 0 || b.short > 1<<20 || b.crashes < 0 || b.crashes > 1<<20 || len(b.id) > 64 || string(b.encode()) != string(raw) {
		return boots{}, errBoots
	}
	return b, nil
}

// Power tells how the terminal's power stands and why it booted. It writes to its store at a boot, when that has lasted, and when it stops: about 100 bytes each.
type Power struct {
	Files fs.FS // the system's, from its root
	Store Store

	began  bool
	now    boots
	found  []Finding // how this boot came about
	lowest time.Time // when the sensor last told that the power was low
}

// Probe returns the probe "power".
func (p *Power) Probe() Probe { return Probe{Name: "power", Every: time.Minute, Run: p.look} }

// Stopped remembers that the program was told to stop. It is called after the Prober has ended.
func (p *Power) Stopped() error {
	if !p.began {
		return nil
	}
	p.now.stopped = true
	return p.Store.Save(p.now.encode())
}

func (p *Power) look(context.Context) ([]Finding, error) {
	up, known := uptime(p.Files)
	var err error
	if !p.began {
		err = p.begin(up)
	}
	if !p.now.lasted && up >= shortBoot {
		p.now.lasted = true
		err = errors.Join(err, p.Store.Save(p.now.encode()))
	}
	var found []Finding
	for _, f := range p.found {
		limit := recent
		if f.Code == protocol.PowerBootLoop {
			limit = settled
		}
		if known && up < limit {
			found = append(found, f)
		}
	}
	for _, name := range all(p.Files, "sys/class/hwmon/*/in0_lcrit_alarm") {
		if n, ok := count(p.Files, name); ok && n != 0 {
			p.lowest = time.Now()
		}
	}
	if !p.lowest.IsZero() && time.Since(p.lowest) < lowPower {
		found = append(found, Finding{Code: protocol.PowerLow})
	}
	return found, err
}

// begin compares this boot with the one before.
func (p *Power) begin(up time.Duration) error {
	raw, err := p.Store.Load()
	if err != nil {
		return fmt.Errorf("last boot: %w", err)
	}
	before, err := parseBoots(raw)
	first := err != nil
	if len(raw) == 0 {
		err = nil
	}
	p.began = true
	p.now = boots{id: strings.Join(strings.Fields(text(p.Files, "proc/sys/kernel/random/boot_id")), ""), crashes: len(all(p.Files, "sys/fs/pstore/dmesg-*"))}
	if p.now.id == "" {
		p.now.id = "unknown"
	}
	same := !first && before.id == p.now.id
	if same {
		p.now.short, p.now.lasted = before.short, before.lasted
	} else if !first {
		if !before.lasted {
			p.now.short = before.short + 1
		}
		if !before.stopped {
			p.found = append(p.found, Finding{Code: protocol.PowerCut})
		}
	}
	if !first && p.now.crashes > before.crashes {
		p.found = []Finding{{Code: protocol.PowerCrashed}}
	}
	for _, name := range all(p.Files, "sys/class/watchdog/*/bootstatus") {
		if n, ok := count(p.Files, name); ok && n&cardReset != 0 && !same {
			p.found = []Finding{{Code: protocol.PowerWatchdog}}
		}
	}
	if p.now.short >= shortBoots {
		p.found = append(p.found, Finding{protocol.PowerBootLoop, fmt.Sprintf("%d short boots", p.now.short)})
	}
	p.now.lasted = p.now.lasted || up >= shortBoot
	return errors.Join(err, p.Store.Save(p.now.encode()))
}

// uptime is how long ago the system booted.
func uptime(files fs.FS) (time.Duration, bool) {
	field, _, _ := strings.Cut(text(files, "proc/uptime"), " ")
	s, err := strconv.ParseFloat(field, 64)
	if err != nil || s < 0 || s > 1e10 {
		return 0, false
	}
	return time.Duration(s * float64(time.Second)), true
}

const (
	hotByDefault = 85 // °C; it is too hot from hotMargin below
	hotMargin    = 5
)

// Temperature is that of the hottest zone, in °C; false if the board says nothing of it.
func Temperature(files fs.FS) (float64, bool) {
	most, known := 0.0, false
	for _, zone := range all(files, "sys/class/thermal/thermal_zone*") {
		if milli, ok := count(files, path.Join(zone, "temp")); ok && (!known || float64(milli)/1000 > most) {
			most, known = float64(milli)/1000, true
		}
	}
	return most, known
}

// Heat returns the probe "heat".
func Heat(files fs.FS) Probe {
	var hot bool
	return Probe{Name: "heat", Every: time.Minute, Run: func(context.Context) ([]Finding, error) {
		var found []Finding
		most, limit := -1000.0, 0.0
		for _, zone := range all(files, "sys/class/thermal/thermal_zone*") {
			milli, ok := count(files, path.Join(zone, "temp"))
			if !ok {
				continue
			}
			l := hottest(files, zone)
			if at := float64(milli) / 1000; at-l > most-limit || limit == 0 {
				most, limit = at, l
			}
		}
		margin := float64(hotMargin)
		if hot {
			margin *= 2 // until it is so much cooler
		}
		if hot = limit != 0 && most >= limit-margin; hot {
			found = append(found, Finding{protocol.HeatHot, fmt.Sprintf("%.0f °C", most)})
		}
		for _, device := range all(files, "sys/class/thermal/cooling_device*") {
			kind := strings.ToLower(text(files, path.Join(device, "type")))
			if !strings.Contains(kind, "cpu") && !strings.Contains(kind, "processor") {
				continue // a fan that turns is as it should be
			}
			if n, ok := count(files, path.Join(device, "cur_state")); ok && n > 0 {
				found = append(found, Finding{protocol.HeatThrottled, fmt.Sprintf("step %d", n)})
				break
			}
		}
		return found, nil
	}}
}

// hottest is what a zone must not reach, in °C.
func hottest(files fs.FS, zone string) float64 {
	limit := 0.0
	for _, name := range all(files, path.Join(zone, "trip_point_*_type")) {
		if kind := text(files, name); kind == "hot" || kind == "critical" {
			if milli, ok := count(files, strings.TrimSuffix(name, "type")+"temp"); ok && milli > 0 && (limit == 0 || float64(milli)/1000 < limit) {
				limit = float64(milli) / 1000
			}
		}
	}
	if limit == 0 {
		return hotByDefault
	}
	return limit
}

// Memory returns the probe "memory".
func Memory(files fs.FS) Probe {
	var low bool
	return Probe{Name: "memory", Every: time.Minute, Run: func(context.Context) ([]Finding, error) {
		var found []Finding
		info := text(files, "proc/meminfo")
		total, available := kilobytes(info, "MemTotal:"), kilobytes(info, "MemAvailable:")
		if total <= 0 {
			return nil, errors.New("memory: the system does not say how much there is")
		}
		least := 8.0
		if low {
			least = 12
		}
		share := 100 * float64(available) / float64(total)
		if low = share < least; low {
			found = append(found, Finding{protocol.MemoryLow, fmt.Sprintf("%.0f %% available", share)})
		}
		if waited := pressure(text(files, "proc/pressure/memory")); waited > 20 {
			found = append(found, Finding{protocol.MemoryPressure, fmt.Sprintf("%.0f %% of a minute", waited)})
		}
		return found, nil
	}}
}

// kilobytes finds a line of /proc/meminfo; -1 if there is none.
func kilobytes(info, name string) int64 {
	for line := range strings.Lines(info) {
		if fields := strings.Fields(line); len(fields) >= 2 && fields[0] == name {
			if n, err := strconv.ParseInt(fields[1], 10, 64); err == nil && n >= 0 {
				return n
			}
		}
	}
	return -1
}

// pressure finds how much of the last minute something waited, in percent (Linux, Documentation/accounting/psi.rst); 0 if the kernel does not say.
func pressure(info string) float64 {
	for line := range strings.Lines(info) {
		fields := strings.Fields(line)
		if len(fields) == 0 || fields[0] != "some" {
			continue
		}
		for _, f := range fields[1:] {
			if value, ok := strings.CutPrefix(f, "avg60="); ok {
				if x, err := strconv.ParseFloat(value, 64); err == nil && x >= 0 && x <= 100 {
					return x
				}
			}
		}
	}
	return 0
}
