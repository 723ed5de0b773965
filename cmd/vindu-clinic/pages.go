package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"time"
)

// certificateCheck is how often the files of the pages' certificate are looked at.
const certificateCheck = time.Minute

// files is the pages' certificate, read again when its files change, so that a renewed one needs no restart.
type files struct {
	certificate, key string
	log              *slog.Logger

	mu      sync.Mutex
	current *tls.Certificate
	written [2]time.Time
}

func newFiles(certificate, key string, log *slog.Logger) (*files, error) {
	if err := private(key, 0o007); err != nil { // a group may manage certificates
		return nil, fmt.Errorf("web.key: %w", err)
	}
	f := &files{certificate: certificate, key: key, log: log}
	if err := f.read(); err != nil {
		return nil, fmt.Errorf("web.certificate, web.key: %w; name the PEM files of a certificate, with its chain, and of its key", err)
	}
	return f, nil
}

// private refuses a file with a secret to which others have access; not is which bits of its mode that are. That there is no such file is no error.
func private(path string, not fs.FileMode) error {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if mode := info.Mode().Perm(); mode&not != 0 {
		return fmt.Errorf("others have access to %s (mode %#o); chmod %#o it", path, mode, mode&^not)
	}
	return nil
}

// read reads the files if they are others than before.
func (f *files) read() error {
	var written [2]time.Time
	for i, path := range []string{f.certificate, f.key} {
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		written[i] = info.ModTime()
	}
	if f.current != nil && written == f.written {
		return nil
	}
	c, err := tls.LoadX509KeyPair(f.certificate, f.key)
	if err != nil {
		return err
	}
	if time.Now().After(c.Leaf.NotAfter) {
		return fmt.Errorf("%s: expired on %s", f.certificate, c.Leaf.NotAfter.Format(time.DateOnly))
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.current, f.written = &c, written
	return nil
}

// run keeps the certificate fresh until ctx ends. One that cannot be used leaves the former in place.
func (f *files) run(ctx context.Context) error {
	tick := time.NewTicker(certificateCheck)
	defer tick.Stop()
	failed := ""
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		switch err := f.read(); {
		case err == nil:
			failed = ""
		case err.Error() != failed:
			failed = err.Error()
			f.log.Error("new certificate of the pages cannot be used; the former stays", "error", err)
		}
	}
}

func (f *files) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.current == nil {
		return nil, errors.New("no certificate")
	}
	return f.current, nil
}

func (f *files) config() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS13, GetCertificate: f.get, NextProtos: []string{"h2", "http/1.1"}}
}
