package state_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"go.etcd.io/bbolt"

	"vindu/device/state"
	"vindu/device/state/statetest"
)

var bucket = []byte("b")

// fill writes entries in several transactions, so that the file has more than one generation of pages.
func fill(t *testing.T, db *bbolt.DB) {
	t.Helper()
	for i := range 20 {
		err := db.Update(func(tx *bbolt.Tx) error {
			b, err := tx.CreateBucketIfNotExists(bucket)
			if err != nil {
				return err
			}
			for j := range 20 {
				if err := b.Put(fmt.Appendf(nil, "%03d-%03d", j, i), make([]byte, 300)); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

func count(t *testing.T, db *bbolt.DB) (n int) {
	t.Helper()
	err := db.View(func(tx *bbolt.Tx) error {
		if b := tx.Bucket(bucket); b != nil {
			return b.ForEach(func(_, _ []byte) error { n++; return nil })
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestDamagedDatabase damages a database in every way that comes to mind: it either still is sound, or is set aside
// and a new one works. Nothing panics.
func TestDamagedDatabase(t *testing.T) {
	dir := open(t)
	path := filepath.Join(dir.Path(), "test.db")
	db, damage, err := dir.Database("test.db", 0)
	if err != nil || damage != nil {
		t.Fatal(err, damage)
	}
	fill(t, db)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	sound, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	page := os.Getpagesize()
	random := rand.New(rand.NewPCG(1, 2))
	overwrite := func(from, length int, with func() byte) func([]byte) []byte {
		return func(b []byte) []byte {
			for i := range length {
				if from+i < len(b) {
					b[from+i] = with()
				}
			}
			return b
		}
	}
	zero, ones, noise := func() byte { return 0 }, func() byte { return 0xff }, func() byte { return byte(random.Uint32()) }
	cases := []struct {
		name    string
		damaged bool // certain to be noticed
		change  func([]byte) []byte
	}{
		{"untouched", false, func(b []byte) []byte { return b }},
		{"not a database", true, func([]byte) []byte { return []byte("hello") }},
		{"zeroes", true, func(b []byte) []byte { return make([]byte, len(b)) }},
		{"both meta pages", true, overwrite(0, 2*page, noise)},
		{"one meta page", false, overwrite(0, page, noise)},
		{"cut to two pages", true, func(b []byte) []byte { return b[:2*page] }},
		{"cut to half", true, func(b []byte) []byte { return b[:len(b)/2/page*page] }},
		{"cut within a page", false, func(b []byte) []byte { return b[:len(b)-page/2] }},
	}
	for number := 2; number < len(sound)/page && number < 24; number++ {
		cases = append(cases, struct {
			name    string
			damaged bool
			change  func([]byte) []byte
		}{fmt.Sprintf("page %d of zeroes", number), false, overwrite(number*page, page, zero)}, struct {
			name    string
			damaged bool
			change  func([]byte) []byte
		}{fmt.Sprintf("page %d of ones", number), false, overwrite(number*page, page, ones)}, struct {
			name    string
			damaged bool
			change  func([]byte) []byte
		}{fmt.Sprintf("head of page %d is noise", number), false, overwrite(number*page, 64, noise)})
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if err := os.WriteFile(path, c.change(append([]byte(nil), sound...)), 0o600); err != nil {
				t.Fatal(err)
			}
			db, damage, err := dir.Database("test.db", 0)
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			if damage == nil {
				if c.damaged {
					t.Error("nothing was noticed")
				}
			} else {
				if _, err := os.Stat(damage.SetAside); err != nil || damage.Cause == nil {
					t.Errorf("set aside: %v, cause %v", err, damage.Cause)
				}
				if n := count(t, db); n != 0 {
					t.Errorf("the new database has %d entries", n)
				}
			}
			err = db.Update(func(tx *bbolt.Tx) error {
				b, err := tx.CreateBucketIfNotExists(bucket)
				if err != nil {
					return err
				}
				for i := range 100 {
					if err := b.Put(fmt.Appendf(nil, "after-%03d", i), make([]byte, 300)); err != nil {
						return err
					}
				}
				return nil
			})
			if n := count(t, db); n < 100 || err != nil {
				t.Errorf("%d entries after writing 100, %v", n, err)
			}
		})
	}
	if aside, err := filepath.Glob(path + ".damaged-*"); err != nil || len(aside) != 1 {
		t.Errorf("%d damaged files are kept, want the newest only", len(aside))
	}
}

func TestDatabaseReservesRoom(t *testing.T) {
	dir := open(t)
	db, _, err := dir.Database("test.db", 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	fill(t, db)
	if n := count(t, db); n != 400 {
		t.Errorf("%d entries", n)
	}
}

func TestDatabaseNotAFile(t *testing.T) {
	dir := open(t)
	if err := os.Mkdir(filepath.Join(dir.Path(), "test.db"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, _, err := dir.Database("test.db", 0); err == nil {
		t.Error("a folder was opened as a database")
	}
}

func TestSetAside(t *testing.T) {
	dir := open(t)
	if err := dir.Write("test.db", []byte("x")); err != nil {
		t.Fatal(err)
	}
	d, err := dir.SetAside("test.db", os.ErrInvalid)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(d.SetAside); err != nil {
		t.Error(err)
	}
	if _, err := dir.SetAside("test.db", os.ErrInvalid); err == nil {
		t.Error("set aside what is not there")
	}
}

// syncs remembers which folders were synced, and which files were in them then.
type syncs struct {
	state.Disk
	held map[string][]string
	err  error
}

func (s *syncs) SyncDir(path string) error {
	entries, err := os.ReadDir(path)
	if err != nil {
		return err
	}
	for _, e := range entries {
		s.held[path] = append(s.held[path], e.Name())
	}
	return s.err
}

// A new database does not vanish with its name in a power cut: what is written to it later is as safe as it says.
func TestNewDatabaseIsInItsFolder(t *testing.T) {
	disk := &syncs{Disk: statetest.New(), held: map[string][]string{}}
	path := t.TempDir()
	dir, err := state.OpenOn(disk, path)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second is not new
		db, _, err := dir.Database("test.db", 0)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Contains(disk.held[path], "test.db") {
			t.Errorf("the folder was synced with %v in it", disk.held[path])
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
	disk.err = syscall.EIO
	if _, _, err := dir.Database("test.db", 0); !errors.Is(err, syscall.EIO) {
		t.Errorf("a folder that cannot be synced: %v", err)
	}
}
