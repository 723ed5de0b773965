package oidc

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// keyBytes is the length of the key under which identities are hashed: as long as the hash (RFC 2104 §3).
const keyBytes = 32

// readKey reads a key that nobody else can read. The error wraps fs.ErrNotExist if there is none.
func readKey(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return nil, fmt.Errorf("others have access to %s (mode %#o); chmod 600 it", path, mode)
	}
	key, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if len(key) != keyBytes {
		return nil, fmt.Errorf("%s is damaged: %d bytes, not %d; restore it from a backup", path, len(key), keyBytes)
	}
	return key, nil
}

// makeKey makes a key. The file is there whole, or not at all; if another was faster, it is that one's.
func makeKey(path string) (key []byte, err error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".identity-*") // 0600
	if err != nil {
		return nil, fmt.Errorf("make %s: %w", path, err)
	}
	defer func() { err = errors.Join(err, os.Remove(f.Name())) }()
	key = make([]byte, keyBytes)
	rand.Read(key)
	_, err = f.Write(key)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return nil, fmt.Errorf("make %s: %w", path, err)
	}
	switch err := os.Link(f.Name(), path); {
	case errors.Is(err, fs.ErrExist):
		return readKey(path)
	case err != nil:
		return nil, fmt.Errorf("make %s: %w", path, err)
	}
	folder, err := os.Open(filepath.Dir(path))
	if err != nil {
		return nil, fmt.Errorf("make %s: %w", path, err)
	}
	if err := errors.Join(folder.Sync(), folder.Close()); err != nil {
		return nil, fmt.Errorf("make %s: %w", path, err)
	}
	return key, nil
}
