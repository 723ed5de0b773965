// Package cost finds out what coding pictures costs on this board, and orders coders by it.
//
// What is measured is the processor's time, not the time that passes, for pictures of 640×480 that move: what the coder takes to code one, and
// what the decoder of the same kind takes to decode it, since a call does both. Of several rounds the cheapest counts: whatever else runs only
// adds. The picture is made here; no camera is involved.
//
// A Book keeps what was measured in a file, and measures anew only when the libraries, the coders or the processor are others.
package cost

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"vindu/media/codec"
)

const (
	width, height = 640, 480
	bitrate       = 1_000_000
	rounds        = 3
	perRound      = 10               // pictures
	enough        = 2 * time.Second  // of processor time for one coder; then no further round is begun
	tie           = 0.95             // what is later in the list has to be cheaper by this to come first
	fileLimit     = 16 << 10         // bytes
	scheme        = "1 640x480 1000" // what is measured; part of the key
)

// Cost is what one picture takes of the processor's time.
type Cost struct {
	Coder  string        `json:"coder"`
	Encode time.Duration `json:"encode_ns"`
	Decode time.Duration `json:"decode_ns"`
}

// Measure finds out what c costs. It takes about a second on a small board, less on others.
func Measure(ctx context.Context, c codec.Coder) (Cost, error) {
	out := Cost{Coder: c.Name}
	fail := func(err error) (Cost, error) { return Cost{}, fmt.Errorf("measure %s: %w", c.Name, err) }
	e, err := c.NewEncoder(codec.VideoConfig{Width: width, Height: height, FPS: 30, Bitrate: bitrate})
	if err != nil {
		return fail(err)
	}
	defer e.Close()
	d, err := codec.NewDecoder(c.Kind)
	if err != nil {
		return fail(err)
	}
	defer d.Close()
	pictures := scene()
	var frames [perRound][]byte
	spent, pts, shown := time.Duration(0), int64(0), 0
	for round := range rounds + 1 { // the first warms up
		began, err := processor()
		if err != nil {
			return fail(err)
		}
		for i := range frames {
			if err := ctx.Err(); err != nil {
				return fail(err)
			}
			pts += 3000
			f, err := e.Encode(pictures[(round*perRound+i)%len(pictures)], pts)
			if err != nil {
				return fail(err)
			}
			frames[i] = append(frames[i][:0], f.Data...)
		}
		middle, err := processor()
		if err != nil {
			return fail(err)
		}
		for _, f := range frames {
			if len(f) == 0 {
				continue // dropped by the rate control
			}
			img, err := d.Decode(f)
			if err != nil {
				return fail(err)
			}
			if img != nil {
				shown++
			}
		}
		end, err := processor()
		if err != nil {
			return fail(err)
		}
		encode, decode := (middle-began)/perRound, (end-middle)/perRound
		if round == 0 {
			continue
		}
		if round == 1 || encode < out.Encode {
			out.Encode = encode
		}
		if round == 1 || decode < out.Decode {
			out.Decode = decode
		}
		if spent += end - began; spent > enough {
			break
		}
	}
	if shown < perRound {
		return fail(errors.New("hardly any picture came out"))
	}
	return out, nil
}

// processor is the time that this process has had of the processors. A coder may work in threads of its own.
func processor() (time.Duration, error) {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &t); err != nil {
		return 0, fmt.Errorf("read the processor's time: %w", err)
	}
	return time.Duration(t.Nano()), nil
}

// scene is a few pictures in which things move.
func scene() []*image.YCbCr {
	out := make([]*image.YCbCr, 6)
	for n := range out {
		img := image.NewYCbCr(image.Rect(0, 0, width, height), image.YCbCrSubsampleRatio420)
		for y := range height {
			row := img.Y[y*img.YStride:][:width]
			for x := range row {
				u, v := x+5*n, y+2*n
				row[x] = byte(64 + (u/3^v/5)&63 + (u*v>>7)&31 + (u*31+v*17)&7)
			}
		}
		for i := range img.Cb {
			img.Cb[i], img.Cr[i] = byte(110+(i+n)/16%32), byte(120+(i/(width/2)+n)/8%32)
		}
		out[n] = img
	}
	return out
}

// Order sorts coders so that what costs least comes first: kinds by the cheapest coder of each with its decoder, and the coders of a kind by
// themselves. What was not measured comes last, and where costs are about the same the order stays.
func Order(coders []codec.Coder, costs []Cost) []codec.Coder {
	of := map[string]Cost{}
	for _, c := range costs {
		of[c.Coder] = c
	}
	whole := func(c codec.Coder) (time.Duration, bool) {
		cost, ok := of[c.Name]
		return cost.Encode + cost.Decode, ok
	}
	out := slices.Clone(coders)
	insert(out, func(a, b codec.Coder) bool { // within a kind, and of each kind the best first
		x, okX := whole(a)
		y, okY := whole(b)
		return okX && (!okY || float64(x) < float64(y)*tie)
	})
	// Kinds stay together, in the order of their best.
	var kinds []codec.Kind
	for _, c := range out {
		if !slices.Contains(kinds, c.Kind) {
			kinds = append(kinds, c.Kind)
		}
	}
	slices.SortStableFunc(out, func(a, b codec.Coder) int { return slices.Index(kinds, a.Kind) - slices.Index(kinds, b.Kind) })
	return out
}

// insert sorts by a relation that a tie makes no order: each goes before those that it beats.
func insert(coders []codec.Coder, better func(a, b codec.Coder) bool) {
	for i := range coders {
		for j := i; j > 0 && better(coders[j], coders[j-1]); j-- {
			coders[j], coders[j-1] = coders[j-1], coders[j]
		}
	}
}

// Book keeps costs in a file.
type Book struct {
	path, key string
}

type page struct {
	Key   string `json:"key"`
	Costs []Cost `json:"costs"`
}

// Open makes a Book on a file, which need not be there, for these coders on this board.
func Open(path string, coders []codec.Coder) *Book {
	h := sha256.New()
	fmt.Fprintln(h, scheme, processorName())
	for _, l := range codec.Libraries() {
		fmt.Fprintln(h, l)
	}
	for _, c := range coders {
		fmt.Fprintln(h, c.Kind, c.Name)
	}
	return &Book{path: path, key: hex.EncodeToString(h.Sum(nil))}
}

// Known returns what was measured before, and false if that has to be done (again).
func (b *Book) Known() ([]Cost, bool) {
	info, err := os.Stat(b.path)
	if err != nil || info.Size() > fileLimit {
		return nil, false
	}
	data, err := os.ReadFile(b.path)
	if err != nil {
		return nil, false
	}
	var p page
	if json.Unmarshal(data, &p) != nil || p.Key != b.key {
		return nil, false
	}
	return p.Costs, true
}

// Keep notes what was measured.
func (b *Book) Keep(costs []Cost) error {
	data, err := json.Marshal(page{b.key, costs})
	if err != nil {
		return fmt.Errorf("keep what coding costs: %w", err)
	}
	f, err := os.CreateTemp(filepath.Dir(b.path), ".coders-*") // 0600
	if err != nil {
		return fmt.Errorf("keep what coding costs: %w", err)
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), b.path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return fmt.Errorf("keep what coding costs: %w", err)
	}
	return nil
}

// processorName is what the kernel calls the processor, as far as it may be read.
func processorName() string {
	data, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return ""
	}
	seen := map[string]bool{}
	var out []string
	for line := range strings.Lines(string(data)) {
		name, _, _ := strings.Cut(line, ":")
		switch strings.TrimSpace(name) {
		case "model name", "CPU implementer", "CPU part", "CPU variant", "Hardware", "Model", "Features", "flags":
			if line = strings.TrimSpace(line); !seen[line] {
				seen[line] = true
				out = append(out, line)
			}
		}
	}
	return strings.Join(out, "\n")
}
