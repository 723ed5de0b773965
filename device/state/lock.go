package state

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	lockTries = 10
	lockPause = 10 * time.Millisecond
)

// flock takes a lock on f, or none, and does not wait for it.
func flock(f *os.File, how int) error {
	for {
		if err := syscall.Flock(int(f.Fd()), how|syscall.LOCK_NB); !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}

// Running reports whether an agent holds the folder path now.
func Running(path string) (bool, error) {
	f, err := os.Open(filepath.Join(path, "lock"))
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("see whether an agent runs: %w", err)
	}
	defer f.Close() // which lets the lock go
	switch err := flock(f, syscall.LOCK_SH); {
	case errors.Is(err, syscall.EWOULDBLOCK):
		return true, nil
	case err != nil:
		return false, fmt.Errorf("see whether an agent runs: lock %s: %w", f.Name(), err)
	}
	return false, nil
}

// takeLock holds path until the file is closed or the process ends, however it ends.
func takeLock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, coded("lock", path, err)
	}
	for range lockTries { // who only looks (Running) holds it for an instant
		if err = flock(f, syscall.LOCK_EX); !errors.Is(err, syscall.EWOULDBLOCK) {
			break
		}
		time.Sleep(lockPause)
	}
	if err != nil {
		holder := holderOf(f)
		_ = f.Close() // nothing was written to it
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock %s: held by %s: stop that agent first: %w", path, holder, ErrLocked)
		}
		return nil, coded("lock", path, err)
	}
	// The process id is for people only. On a full disk it is missing, and the agent still starts.
	if err := f.Truncate(0); err == nil {
		_, _ = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	return f, nil
}

func holderOf(f *os.File) string {
	b, err := io.ReadAll(io.NewSectionReader(f, 0, 32))
	if pid := strings.TrimSpace(string(b)); err == nil && pid != "" {
		return "process " + pid
	}
	return "another process"
}
