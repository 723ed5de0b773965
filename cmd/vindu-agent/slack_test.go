package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestTimerSlack looks at every thread there is, Go's system monitor among them.
func TestTimerSlack(t *testing.T) {
	threads, err := filepath.Glob("/proc/self/task/[0-9]*")
	if err != nil || len(threads) < 2 {
		t.Fatalf("threads %v: %v", threads, err)
	}
	for _, thread := range threads {
		slack, err := os.ReadFile(filepath.Join("/proc", filepath.Base(thread), "timerslack_ns"))
		if os.IsNotExist(err) { // it ended
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.TrimSpace(string(slack)); got != "1000000" {
			t.Errorf("thread %s may be woken %s ns late, want 1000000", filepath.Base(thread), got)
		}
	}
}
