package main

import (
	"log/slog"
	"os"
	"runtime/pprof"
	"sync"
)

// profiler writes where the processor's time went from the answer to the end of each call into a file, the last call's over the one before. It has
// names of functions in it and nothing of the call.
type profiler struct {
	file string // empty: nothing is written
	log  *slog.Logger

	mu  sync.Mutex
	out *os.File
}

func (p *profiler) start() {
	if p == nil || p.file == "" {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.out != nil {
		return
	}
	out, err := os.OpenFile(p.file, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err == nil {
		if err = pprof.StartCPUProfile(out); err == nil {
			p.out = out
			return
		}
		_ = out.Close()
	}
	p.log.Warn("no profile of the call", "error", err)
}

func (p *profiler) stop() {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.out == nil {
		return
	}
	pprof.StopCPUProfile()
	if err := p.out.Close(); err != nil {
		p.log.Warn("no profile of the call", "error", err)
	}
	p.out = nil
}
