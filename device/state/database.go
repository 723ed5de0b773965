package state

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"time"

	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"
)

// errDamaged is wrapped by errors about a database whose content cannot be trusted.
var errDamaged = errors.New("database is damaged")

// Damage tells that a database was damaged and made anew. It is reported as storage.rebuilt.
type Damage struct {
	SetAside string // where the damaged file is now
	Cause    error
}

// Database opens the bbolt database in file name and reserves room for it on the disk, so that writing to it cannot
// fail for want of space until it grows beyond reserve bytes. A file that is not a sound database is renamed and a new one made:
// then the returned Damage is not nil. A full disk is no damage: the database works as far as its file reaches.
func (d *Dir) Database(name string, reserve int64) (*bbolt.DB, *Damage, error) {
	if err := checkName(name); err != nil {
		return nil, nil, err
	}
	path := d.at(name)
	db, err := openDatabase(path)
	if err == nil {
		return db, nil, d.keep(db, reserve)
	}
	if !errors.Is(err, errDamaged) {
		return nil, nil, coded("open database", path, err)
	}
	damage, setAsideErr := d.setAside(path, err)
	if setAsideErr != nil {
		return nil, nil, setAsideErr
	}
	if db, err = openDatabase(path); err != nil {
		return nil, damage, coded("make database", path, err)
	}
	return db, damage, d.keep(db, reserve)
}

// keep sees to it that the database is still in its folder after a power cut, which bbolt does not, and has room to grow.
func (d *Dir) keep(db *bbolt.DB, reserve int64) error {
	folder := filepath.Dir(db.Path())
	if err := d.disk.SyncDir(folder); err != nil {
		return errors.Join(coded("sync", folder, err), db.Close())
	}
	return reserveFor(db, reserve)
}

// SetAside renames a database that proved damaged in use, which must be closed, so that Database makes a new one.
func (d *Dir) SetAside(name string, cause error) (*Damage, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	return d.setAside(d.at(name), cause)
}

func (d *Dir) setAside(path string, cause error) (*Damage, error) {
	older, err := filepath.Glob(path + ".damaged-*")
	if err != nil {
		return nil, coded("list", path, err)
	}
	aside := path + ".damaged-" + time.Now().UTC().Format("20060102T150405.000000")
	if err := os.Rename(path, aside); err != nil {
		return nil, coded("set aside", path, err)
	}
	// Keep the newest only: a disk that damages every database must not fill up with them.
	for _, o := range older {
		if err := os.Remove(o); err != nil {
			return nil, coded("remove", o, err)
		}
	}
	return &Damage{SetAside: aside, Cause: cause}, coded("sync", d.path, d.disk.SyncDir(filepath.Dir(path)))
}

// openDatabase opens path and reads all of it. bbolt trusts its file: a damaged one makes it panic, or
// fault on its memory map, anywhere. So everything is touched here once, where that is caught.
func openDatabase(path string) (db *bbolt.DB, err error) {
	var file *os.File
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			if file != nil {
				_ = file.Close() // bbolt did not come to it; this also lets its lock go
			}
			db, err = nil, fmt.Errorf("%v: %w", r, errDamaged)
		}
	}()
	db, err = bbolt.Open(path, 0o600, &bbolt.Options{
		Timeout:      time.Second, // the folder's lock is ours; only a stray tool can hold this one
		FreelistType: bbolt.FreelistMapType,
		NoStatistics: true,
		OpenFile: func(name string, flag int, perm os.FileMode) (*os.File, error) {
			f, err := os.OpenFile(name, flag, perm)
			file = f
			return f, err
		},
	})
	if err != nil {
		var pathError *fs.PathError
		var errno unix.Errno
		if errors.As(err, &pathError) || errors.As(err, &errno) || errors.Is(err, bbolt.ErrTimeout) {
			return nil, err
		}
		return nil, fmt.Errorf("%w: %w", err, errDamaged)
	}
	err = db.View(func(tx *bbolt.Tx) error {
		if err := tx.ForEach(func(_ []byte, b *bbolt.Bucket) error { return touch(b) }); err != nil {
			return err
		}
		var first error
		for err := range tx.Check() {
			if first == nil {
				first = err
			}
		}
		return first
	})
	if err != nil {
		_ = db.Close() // it is given up
		return nil, fmt.Errorf("%w: %w", err, errDamaged)
	}
	return db, nil
}

// touch reads every key and value below b.
func touch(b *bbolt.Bucket) error {
	var sum byte
	err := b.ForEach(func(k, v []byte) error {
		if v == nil {
			if nested := b.Bucket(k); nested != nil {
				return touch(nested)
			}
			return fmt.Errorf("bucket %x cannot be opened", k)
		}
		for _, x := range [2][]byte{k, v} {
			for _, y := range x {
				sum ^= y
			}
		}
		return nil
	})
	runtime.KeepAlive(sum) // so that no compiler leaves the reads out
	return err
}

// reserveFor allocates blocks for db's file up to size. On a full disk it returns no error: what is there can be used.
func reserveFor(db *bbolt.DB, size int64) error {
	if size <= 0 {
		return nil
	}
	f, err := os.OpenFile(db.Path(), os.O_RDWR, 0o600)
	if err != nil {
		return errors.Join(coded("reserve", db.Path(), err), db.Close())
	}
	defer f.Close()
	_ = unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, size) // best effort: not every file system can
	return nil
}
