// Package steady watches programs for an hour, and says whether their memory, descriptors, threads and goroutines stay what they are.
//
// What a program has in memory goes up and down with its collector, so nothing is said from two points: Slope is that of the straight line with the least squares
// through all samples, and Floors are the least values of windows, which for a heap are what was alive after a collection.
package steady

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"strconv"
	"strings"
	"time"
)

// Process is what the kernel tells of a program (proc(5)).
type Process struct {
	RSS     float64 // bytes
	PSS     float64 // bytes; its share of what several programs have mapped
	Files   float64 // open descriptors
	Threads float64
	Written float64 // bytes that it had the kernel write to disks since it began
}

// Look asks the kernel about a program.
func Look(pid int) (Process, error) {
	var p Process
	if pid <= 0 {
		return p, errors.New("the program does not run")
	}
	at := func(name string) string { return fmt.Sprintf("/proc/%d/%s", pid, name) }
	for _, f := range []struct {
		name, key string
		to        *float64
		unit      float64
	}{
		{"status", "VmRSS", &p.RSS, 1 << 10},
		{"status", "Threads", &p.Threads, 1},
		{"smaps_rollup", "Pss", &p.PSS, 1 << 10},
		{"io", "write_bytes", &p.Written, 1},
	} {
		b, err := os.ReadFile(at(f.name))
		if err != nil {
			return p, err
		}
		if *f.to, err = field(b, f.key); err != nil {
			return p, fmt.Errorf("%s: %w", at(f.name), err)
		}
		*f.to *= f.unit
	}
	files, err := os.ReadDir(at("fd"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return p, err
	}
	p.Files = float64(len(files))
	return p, nil
}

// field finds "key: 123 kB".
func field(text []byte, key string) (float64, error) {
	for line := range bytes.Lines(text) {
		name, rest, found := strings.Cut(string(line), ":")
		if found && name == key {
			return strconv.ParseFloat(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), " kB")), 64)
		}
	}
	return 0, fmt.Errorf("there is no %s", key)
}

// Sample is a value at a time.
type Sample struct {
	At    time.Time
	Value float64
}

// Series are samples in the order of their times.
type Series []Sample

// Add adds one.
func (s *Series) Add(at time.Time, value float64) { *s = append(*s, Sample{at, value}) }

// Since are those from a time on.
func (s Series) Since(from time.Time) Series {
	for i := range s {
		if !s[i].At.Before(from) {
			return s[i:]
		}
	}
	return nil
}

// Slope is by how much the values grow in an hour: of the line with the least squares. It is 0 with fewer than two samples.
func (s Series) Slope() float64 {
	if len(s) < 2 {
		return 0
	}
	var x, y float64
	for _, p := range s {
		x += p.At.Sub(s[0].At).Hours()
		y += p.Value
	}
	x, y = x/float64(len(s)), y/float64(len(s))
	var both, square float64
	for _, p := range s {
		d := p.At.Sub(s[0].At).Hours() - x
		both += d * (p.Value - y)
		square += d * d
	}
	if square == 0 {
		return 0
	}
	return both / square
}

// Floors are the least values of each whole window.
func (s Series) Floors(window time.Duration) Series {
	var floors Series
	for begin := 0; begin < len(s); {
		end := begin
		least := s[begin]
		for end < len(s) && s[end].At.Sub(s[begin].At) < window {
			if s[end].Value < least.Value {
				least = s[end]
			}
			end++
		}
		if end < len(s) || len(floors) == 0 { // the last one may be short
			floors = append(floors, least)
		}
		begin = end
	}
	return floors
}

// Bounds are the least and the greatest value; 0 without any.
func (s Series) Bounds() (least, most float64) {
	if len(s) == 0 {
		return 0, 0
	}
	least, most = math.Inf(1), math.Inf(-1)
	for _, p := range s {
		least, most = min(least, p.Value), max(most, p.Value)
	}
	return least, most
}
