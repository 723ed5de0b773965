package lab

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// LeastIdle is how many of the host's cores must have been idle for too few pictures to mean anything. On a starved host a
// guest is slow whatever runs in it. What is seen and heard is judged, always; and enough pictures are enough.
const LeastIdle = 0.2

// CPU is the host's processor time so far, from /proc/stat, in ticks summed over its cores.
type CPU struct {
	cores       int
	idle, total uint64
}

// ReadCPU reads the clock of what the host's cores have done.
func ReadCPU() (CPU, error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return CPU{}, err
	}
	return parseCPU(string(text))
}

func parseCPU(text string) (CPU, error) {
	var cpu CPU
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		switch {
		case len(fields) >= 9 && fields[0] == "cpu":
			for i, field := range fields[1:9] { // user nice system idle iowait irq softirq steal: proc(5)
				ticks, err := strconv.ParseUint(field, 10, 64)
				if err != nil {
					return CPU{}, fmt.Errorf("/proc/stat: %w", err)
				}
				cpu.total += ticks
				if i == 3 || i == 4 {
					cpu.idle += ticks
				}
			}
		case len(fields) > 0 && strings.HasPrefix(fields[0], "cpu"):
			cpu.cores++
		}
	}
	if cpu.total == 0 || cpu.cores == 0 {
		return CPU{}, fmt.Errorf("/proc/stat: no processor in %q", text)
	}
	return cpu, nil
}

// IdleSince is how many cores have been idle on average since an earlier reading.
func (c CPU) IdleSince(earlier CPU) float64 {
	total := c.total - earlier.total
	if total == 0 {
		return 0
	}
	return float64(c.idle-earlier.idle) / float64(total) * float64(c.cores)
}
