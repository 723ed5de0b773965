// Package state is the terminal's folder on disk and the promise that a power cut at any instant leaves every file
// in it either as it was or as it was to become.
//
//	<state>/            0700
//	  lock              held by the running agent (flock); contains its process id
//	  identity/         package identity: key, certificates, settings
//	  returning         package agent: the terminal is taken out of use, or given up
//	  language          package agent: what the screen speaks
//	  calls, checks     packages call and acceptance: what they have to tell of after a power cut
//	  clock             package clock: the last time that the clinic proved
//	  outbox.db         package outbox (bbolt)
//	  outbox.db.damaged-<time>  a database that could not be read, set aside
//
// Files are 0600 and replaced whole: written beside the old one, synced, renamed over it, and the folder synced. A
// name may have one slash. Databases are checked before they are used; a damaged one is set aside and made anew.
//
// Errors carry storage.full or storage.unreadable (protocol.CodeOf) and say which file.
package state

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"vindu/protocol"
)

// ErrLocked is wrapped by Open when another process holds the folder.
var ErrLocked = errors.New("state folder is in use")

// ErrTooLarge is wrapped by Read when a file exceeds what the caller accepts.
var ErrTooLarge = errors.New("file too large")

const tempSuffix = ".new"

// Dir is an open state folder. Its methods may be called from any goroutine, but no two at once for the same name.
type Dir struct {
	disk Disk
	path string
	lock *os.File // nil on a simulated disk
}

// Open makes the folder if it is missing, closes it to other users, and takes its lock. The error wraps ErrLocked if another agent holds it.
func Open(path string) (*Dir, error) {
	d, err := OpenOn(system{}, path)
	if err != nil {
		return nil, err
	}
	if d.lock, err = takeLock(d.at("lock")); err != nil {
		return nil, err
	}
	return d, nil
}

// OpenOn is Open on any Disk and without a lock: simulated disks show what a power cut leaves.
func OpenOn(disk Disk, path string) (*Dir, error) {
	if path == "" {
		return nil, coded("open", path, errors.New("no state folder is configured"))
	}
	if err := disk.Mkdir(path); err != nil {
		return nil, coded("make", path, err)
	}
	// So that a new folder does not vanish with all that is synced in it. Its parent may be closed to us; then it is somebody
	// else's, and older.
	_ = disk.SyncDir(filepath.Dir(path))
	return &Dir{disk: disk, path: path}, nil
}

// Close releases the lock.
func (d *Dir) Close() error {
	if d.lock == nil {
		return nil
	}
	return d.lock.Close()
}

// Path returns the folder's path.
func (d *Dir) Path() string { return d.path }

func (d *Dir) at(name string) string { return filepath.Join(d.path, filepath.FromSlash(name)) }

func checkName(name string) error {
	if !fs.ValidPath(name) || name == "." || strings.Count(name, "/") > 1 || strings.HasSuffix(name, tempSuffix) {
		return fmt.Errorf("state: invalid file name %q", name)
	}
	return nil
}

// Read returns the content of a file, at most limit bytes. The error wraps fs.ErrNotExist if there is none, and
// ErrTooLarge if it is longer.
func (d *Dir) Read(name string, limit int64) ([]byte, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	b, err := d.disk.Read(d.at(name), limit)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return b, coded("read", d.at(name), err)
}

// Write replaces a file by data. When it returns nil the new content survives a power cut; when it returns an error
// the old content does, unless only the last sync failed, when it is either.
func (d *Dir) Write(name string, data []byte) (err error) {
	if err := checkName(name); err != nil {
		return err
	}
	target := d.at(name)
	temp, folder := target+tempSuffix, filepath.Dir(target)
	if folder != d.path {
		if err := d.disk.Mkdir(folder); err != nil {
			return coded("make", folder, err)
		}
		if err := d.disk.SyncDir(d.path); err != nil {
			return coded("sync", d.path, err)
		}
	}
	if err := d.fill(temp, data); err != nil {
		_ = d.disk.Remove(temp) // what is left of it is overwritten next time
		return coded("write", target, err)
	}
	if err := d.disk.Rename(temp, target); err != nil {
		_ = d.disk.Remove(temp)
		return coded("replace", target, err)
	}
	return coded("sync", folder, d.disk.SyncDir(folder))
}

func (d *Dir) fill(path string, data []byte) (err error) {
	f, err := d.disk.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := f.Write(data); err != nil {
		return err
	}
	return f.Sync()
}

// Remove deletes a file; it is no error if there is none.
func (d *Dir) Remove(name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	if err := d.disk.Remove(d.at(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return coded("remove", d.at(name), err)
	}
	return coded("sync", filepath.Dir(d.at(name)), d.disk.SyncDir(filepath.Dir(d.at(name))))
}

// Has tells whether there is a file, or something in its place that cannot be read.
func (d *Dir) Has(name string) bool {
	_, err := d.Read(name, 0)
	return !errors.Is(err, fs.ErrNotExist)
}

// Wipe overwrites a file, and what a cut Write may have left beside it, by random bytes and deletes both; it is no error if there
// are none. Flash memory and journals may still keep older copies.
func (d *Dir) Wipe(name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	for _, path := range [...]string{d.at(name) + tempSuffix, d.at(name)} {
		err := d.disk.Scrub(path)
		if err == nil {
			err = d.disk.Remove(path)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return coded("wipe", path, err)
		}
	}
	folder := filepath.Dir(d.at(name))
	if err := d.disk.SyncDir(folder); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return coded("sync", folder, err)
	}
	return nil
}

// coded says what failed on which file and which condition that is.
func coded(op, path string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return protocol.WithCode(protocol.StorageFull, fmt.Errorf("%s %s: the storage is full: free space on it: %w", op, path, err))
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return protocol.WithCode(protocol.StorageUnreadable,
			fmt.Errorf("%s %s: check that the state folder belongs to the agent's user (%d) and can be written: %w", op, path, os.Getuid(), err))
	}
	return protocol.WithCode(protocol.StorageUnreadable, fmt.Errorf("%s %s: %w", op, path, err))
}

// Disk is what Dir needs of a file system. Names are absolute. No change has to survive a power cut before the Sync
// of the file, for its content, or the SyncDir of its folder, for its name.
type Disk interface {
	Mkdir(path string) error // with parents; makes it 0700; no error if it exists
	Create(path string) (File, error)
	Read(path string, limit int64) ([]byte, error) // must return an error wrapping ErrTooLarge if the file is longer
	Rename(from, to string) error
	Remove(path string) error
	Scrub(path string) error // overwrites the content in place by as many random bytes, and syncs it
	SyncDir(path string) error
}

// File is a file that is being written.
type File interface {
	io.Writer
	Sync() error
	Close() error
}

// system is the operating system's disk.
type system struct{}

func (system) Mkdir(path string) error {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return err
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if info.Mode().Perm() == 0o700 {
		return nil
	}
	return os.Chmod(path, 0o700)
}

func (system) Create(path string) (File, error) {
	return os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
}

func (system) Read(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(b)) > limit {
		return nil, fmt.Errorf("more than %d bytes: %w", limit, ErrTooLarge)
	}
	return b, err
}

func (system) Rename(from, to string) error { return os.Rename(from, to) }

func (system) Remove(path string) error { return os.Remove(path) }

func (system) Scrub(path string) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if _, err := io.CopyN(f, rand.Reader, info.Size()); err != nil {
		return err
	}
	return f.Sync()
}

func (system) SyncDir(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
