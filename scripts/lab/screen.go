package lab

import (
	"bytes"
	"context"
	"fmt"
	"image/color"
	"os"
	"path/filepath"
	"time"
)

// WatchCaller looks at the terminal's screen some twenty times a second, until ctx ends or total has passed, and returns
// when it looked and where the caller's light square was then; -1 if it was not there. That is content, not a counter:
// what is not on the screen does not count as painted. A look costs QEMU 5 ms.
func (g *Guest) WatchCaller(ctx context.Context, caller CallerOnScreen, total time.Duration) (at []time.Duration, square []int, err error) {
	const every = 50 * time.Millisecond
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	name := filepath.Join(g.run, "look.ppm")
	x := (caller.Where.Min.X + caller.Where.Max.X) / 2
	for began := time.Now(); ; {
		now := time.Since(began)
		if now >= total {
			return at, square, nil
		}
		if err := g.qmp.do(ctx, "screendump", map[string]any{"filename": name}, nil); err != nil {
			return nil, nil, err
		}
		data, err := os.ReadFile(name)
		if err != nil {
			return nil, nil, err
		}
		screen, err := parsePPM(data)
		if err != nil {
			return nil, nil, err
		}
		sum, count := 0, 0
		for y := caller.Where.Min.Y; y < min(caller.Where.Max.Y, screen.height); y++ {
			if distance(screen.at(x, y), callerSquare) <= 40 {
				sum += y
				count++
			}
		}
		middle := -1
		if count > 0 {
			middle = sum / count
		}
		at, square = append(at, now), append(square, middle)
		select {
		case <-ctx.Done():
			return at, square, context.Cause(ctx)
		case <-ticker.C:
		}
	}
}

// pixmap is a PPM picture (netpbm's ppm(5), "P6" with 8 bits), as QEMU writes it.
type pixmap struct {
	width, height int
	pixels        []byte
}

func parsePPM(data []byte) (pixmap, error) {
	var p pixmap
	var most int
	reader := bytes.NewReader(data)
	if _, err := fmt.Fscanf(reader, "P6\n%d %d\n%d\n", &p.width, &p.height, &most); err != nil {
		return pixmap{}, fmt.Errorf("read the screen: %w", err)
	}
	p.pixels = data[len(data)-reader.Len():]
	if most != 255 || p.width <= 0 || p.height <= 0 || len(p.pixels) < 3*p.width*p.height {
		return pixmap{}, fmt.Errorf("read the screen: %d×%d with a maximum of %d in %d bytes", p.width, p.height, most, len(data))
	}
	return p, nil
}

func (p pixmap) at(x, y int) color.RGBA {
	i := 3 * (y*p.width + x)
	return color.RGBA{p.pixels[i], p.pixels[i+1], p.pixels[i+2], 255}
}
