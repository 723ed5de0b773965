package main

import (
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A profile is written for each call, the last one's over the one before, and only where a file was named. It cannot be had with -confine.
func TestProfileOfACall(t *testing.T) {
	(*profiler)(nil).start()
	(*profiler)(nil).stop()
	p := &profiler{log: slog.New(slog.DiscardHandler)}
	p.start()
	p.stop()
	p.file = filepath.Join(t.TempDir(), "call.pprof")
	for range 2 {
		p.start()
		p.start()
		p.stop()
		p.stop()
		info, err := os.Stat(p.file)
		if err != nil || info.Size() == 0 || info.Mode().Perm() != 0o600 {
			t.Fatalf("%v, %v", info, err)
		}
	}
	p.file = t.TempDir() // a folder
	p.start()
	p.stop()
	config := filepath.Join(t.TempDir(), "agent.toml")
	if err := os.WriteFile(config, []byte("state = \""+t.TempDir()+"\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	err := command(t.Context(), []string{"run", "-config", config, "-confine", "-profile", p.file}, nil, io.Discard, io.Discard)
	if err == nil || !strings.Contains(err.Error(), "-confine") {
		t.Errorf("%v", err)
	}
}
