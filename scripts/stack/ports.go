package stack

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// choosePorts returns the ports of the last start where they are still free, and otherwise the first free ones from 8440. The front
// door's port stays: the terminal was set up with it.
func choosePorts(path string) (ports, error) {
	var p ports
	b, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return p, err
	default:
		if err := json.Unmarshal(b, &p); err != nil {
			return p, fmt.Errorf("%s: %w (remove it to choose ports anew)", path, err)
		}
	}
	if p.Front != 0 && !free(p.Front) {
		return p, fmt.Errorf("port %d on loopback is taken, and the terminal knows the clinic by it: stop the program that listens there, or remove %s to start anew", p.Front, filepath.Dir(path))
	}
	next := 8440
	for _, port := range []*int{&p.Front, &p.Pages, &p.Relay, &p.Preview, &p.Metrics} {
		if *port != 0 && free(*port) {
			continue
		}
		for ; next < 8940; next++ {
			if next != p.Front && next != p.Pages && next != p.Relay && next != p.Preview && next != p.Metrics && free(next) {
				break
			}
		}
		if next == 8940 {
			return p, errors.New("no free port between 8440 and 8940 on loopback: stop a program that listens there")
		}
		*port = next
		next++
	}
	if b, err = json.Marshal(p); err != nil {
		return p, err
	}
	return p, os.WriteFile(path, b, 0o600)
}

// lock keeps two demos out of one folder.
func lock(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the demo's folder: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("another demo runs in this folder (%s is locked): stop it, or set DEMO_DIR to another folder", path)
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return func() { f.Close() }, nil
}
