package lab

import (
	"encoding/json"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"vindu/scripts/lab/control"
)

var cuts = flag.Int("cuts", 60, "power cuts of TestPowerCut; make soak takes 1000")

// TestPowerCut cuts the power of a disk on which the terminal's packages work, at many moments, below the file system: dm-log-writes keeps
// each write and each flush, and what was not flushed may be there or not. Whatever is left is opened without damage, nothing that
// was acknowledged is lost, and the terminal's key is the one it was. Without barriers the same check finds losses, or it would prove nothing.
func TestPowerCut(t *testing.T) {
	t.Parallel() // nothing is measured
	program, err := Build(t.Context(), "./scripts/lab/powercut", false)
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	data, log := filepath.Join(folder, "data"), filepath.Join(folder, "log")
	for name, size := range map[string]int64{data: 32 << 20, log: 512 << 20} {
		if err := os.WriteFile(name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(name, size); err != nil {
			t.Fatal(err)
		}
	}
	// As the image makes it, smaller. Lazy work would go on behind what is logged.
	mkfs := exec.CommandContext(t.Context(), "/sbin/mkfs.ext4", "-q", "-b", "4096", "-E", "lazy_itable_init=0,lazy_journal_init=0", data)
	if out, err := mkfs.CombinedOutput(); err != nil {
		t.Fatalf("make a file system: %v\n%s", err, out)
	}
	const path = "/usr/bin/powercut"
	guest := Boot(t, Options{Programs: map[string][]byte{path: program}, Disks: []string{data, log}})
	if _, err := guest.Exec(t.Context(), control.Command{Args: []string{"sh", "-c",
		"modprobe virtio_blk && modprobe crc32c_generic && modprobe ext4 && modprobe dm-log-writes && modprobe brd rd_nr=1 rd_size=32768"}}); err != nil {
		t.Fatal(err)
	}
	replay := func(t *testing.T, n int, flags ...string) (s struct {
		Cuts, Ready, Writes, Flushes, Damaged, Lost, Anew int
		MedianOpen, LongestOpen                           time.Duration
		Broken                                            []string
	}) {
		t.Helper()
		command := control.Command{Args: append(append([]string{path, "record"}, flags...), "/dev/vda", "/dev/vdb"), Timeout: 5 * time.Minute}
		if _, err := guest.Exec(t.Context(), command); err != nil {
			t.Fatal(err)
		}
		result, err := guest.Exec(t.Context(), control.Command{
			Args:    []string{path, "replay", "-cuts", strconv.Itoa(n), "/dev/vda", "/dev/vdb", "/dev/ram0"},
			Timeout: time.Minute + time.Duration(n)*5*time.Second,
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(result.Output, &s); err != nil {
			t.Fatalf("%v in\n%s", err, result.Output)
		}
		guest.Log("%d cuts %v (%d after the first promise) among %d writes and %d flushes: %d damaged, %d lost, %d keys made anew; open again in %v, at most %v",
			s.Cuts, flags, s.Ready, s.Writes, s.Flushes, s.Damaged, s.Lost, s.Anew, s.MedianOpen, s.LongestOpen)
		return s
	}
	s := replay(t, *cuts)
	if s.Damaged+s.Lost+s.Anew > 0 {
		t.Errorf("of %d cuts %d damaged the state, %d lost what was promised, %d made a new key:\n%q", s.Cuts, s.Damaged, s.Lost, s.Anew, s.Broken)
	}
	if s.Cuts != *cuts || s.Ready < s.Cuts/2 || s.Flushes < 100 {
		t.Errorf("too little was tried: %+v", s)
	}
	if s := replay(t, 20, "-nobarrier"); s.Damaged+s.Lost+s.Anew == 0 {
		t.Errorf("without barriers nothing was broken by %d cuts: the check finds nothing", s.Cuts)
	}
}
