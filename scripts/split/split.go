// Package split says on which stage of a call a terminal's processor time went, from a profile that "vindu-agent run -profile" wrote.
//
// A sample belongs to the first stage of which a function is anywhere on its stack, so that what the garbage collector or a codec in C does for a stage
// counts as that stage's. What C does in threads of its own is in no profile of Go's.
package split

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"time"
)

// stages in the order in which they are looked for, each with parts of the names of its functions.
var stages = []struct {
	name  string
	parts []string
}{
	{"paint", []string{"media/display"}},
	{"encode", []string{"codec.(*VP8Encoder)", "codec.(*H264Encoder)"}},
	{"decode", []string{"codec.(*VP8Decoder)", "codec.(*H264Decoder)"}},
	{"sound", []string{"media/sound", "media/echo", "media/jitter", "codec.(*Opus"}},
	{"capture and convert", []string{"media/camera", "session.(*encoder).fit", "session.(*Session).readCamera"}},
	{"crypto and network", []string{"github.com/pion", "media/peer", "crypto/", "internal/poll", "net.("}},
}

const rest = "rest"

// Share is a stage's share of all samples.
type Share struct {
	Stage string
	Of    float64 // 0…1
	Time  time.Duration
}

// Stages reads a profile. It needs the go command.
func Stages(ctx context.Context, file string) ([]Share, error) {
	cmd := exec.CommandContext(ctx, "go", "tool", "pprof", "-traces", "-symbolize=none", file)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("read profile: %w", err)
	}
	shares, err := read(out)
	_, _ = io.Copy(io.Discard, out)
	if werr := cmd.Wait(); werr != nil {
		return nil, fmt.Errorf("read profile: %w", werr)
	}
	return shares, err
}

// read takes what pprof -traces prints: stacks between lines of dashes, each with its time before its innermost function.
func read(r io.Reader) ([]Share, error) {
	spent := map[string]time.Duration{}
	var all, now time.Duration
	var stack []string
	end := func() {
		if now > 0 {
			spent[stageOf(stack)] += now
			all += now
		}
		now, stack = 0, stack[:0]
	}
	for lines := bufio.NewScanner(r); lines.Scan(); {
		line := lines.Text()
		if strings.HasPrefix(line, "-----------+") {
			end()
			continue
		}
		fields := strings.Fields(line)
		if len(fields) == 0 || !strings.HasPrefix(line, " ") {
			continue // the head
		}
		if d, err := time.ParseDuration(fields[0]); err == nil && len(fields) > 1 {
			now, fields = d, fields[1:]
		}
		stack = append(stack, strings.Join(fields, " "))
	}
	end()
	if all == 0 {
		return nil, fmt.Errorf("the profile has no samples")
	}
	var shares []Share
	for _, s := range append(slices.Clone(stages), struct {
		name  string
		parts []string
	}{name: rest}) {
		shares = append(shares, Share{s.name, float64(spent[s.name]) / float64(all), spent[s.name]})
	}
	return shares, nil
}

func stageOf(stack []string) string {
	for _, s := range stages {
		for _, f := range stack {
			if slices.ContainsFunc(s.parts, func(p string) bool { return strings.Contains(f, p) }) {
				return s.name
			}
		}
	}
	return rest
}

// String is all of it in words.
func String(shares []Share) string {
	var parts []string
	for _, s := range shares {
		parts = append(parts, fmt.Sprintf("%s %.0f %%", s.Stage, 100*s.Of))
	}
	return strings.Join(parts, ", ")
}
