// Package statetest has a simulated disk whose power can be cut before any step, for tests of what the terminal keeps.
//
// A Disk forgets like a real one may: what was written to a file is certain only after its Sync, and a name made,
// changed or removed only after the SyncDir of its folder. After a cut, After gives the disk as it may be found, in each of
// several ways that real file systems are known for.
package statetest

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"sync"

	"vindu/device/state"
)

// ErrPower is what every operation returns from the cut on.
var ErrPower = errors.New("the power is cut")

// Loss says what a power cut did to what was not synced.
type Loss string

const (
	Everything Loss = "everything" // names and content are as they were last synced
	Nothing    Loss = "nothing"    // all had reached the disk by itself
	Content    Loss = "content"    // names had reached the disk, content had not: files are empty that were never synced
)

// Losses are all of them.
var Losses = []Loss{Everything, Nothing, Content}

// Disk is a simulated disk, made by New.
type Disk struct {
	mu      sync.Mutex
	names   map[string]*inode // as running programs see them
	durable map[string]*inode // as they were last synced
	steps   int
	cut     int // the step before which the power is cut; negative: never
	fail    map[string]error
}

type inode struct {
	dir     bool
	content []byte
	synced  []byte
}

// New returns an empty disk.
func New() *Disk {
	return &Disk{names: map[string]*inode{}, durable: map[string]*inode{}, cut: -1, fail: map[string]error{}}
}

// CutBefore cuts the power before step n, counted from 0. Each change and each sync is a step.
func (d *Disk) CutBefore(n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.cut = n
}

// Steps returns how many steps were taken.
func (d *Disk) Steps() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.steps
}

// Fail makes every operation of a kind ("create", "write", "sync", "rename", "syncdir", "mkdir", "remove", "scrub", "read") fail with err; nil
// makes it work again.
func (d *Disk) Fail(kind string, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fail[kind] = err
}

// After returns the disk as it is found when the power is back.
func (d *Disk) After(loss Loss) *Disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	found := New()
	source := d.names
	if loss == Everything {
		source = d.durable
	}
	for name, node := range source {
		content := node.content
		if loss != Nothing {
			content = node.synced
		}
		copied := &inode{dir: node.dir, content: bytes.Clone(content), synced: bytes.Clone(content)}
		found.names[name], found.durable[name] = copied, copied
	}
	// What lies in a folder that is lost is lost.
	maps.DeleteFunc(found.names, func(name string, _ *inode) bool {
		for parent := path.Dir(name); parent != "/" && parent != "."; parent = path.Dir(parent) {
			if found.durable[parent] == nil {
				return true
			}
		}
		return false
	})
	found.durable = maps.Clone(found.names)
	return found
}

// Corrupt replaces a file's content.
func (d *Disk) Corrupt(name string, content []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.names[name] = &inode{content: content, synced: content}
	d.durable[name] = d.names[name]
}

// step is taken by every operation that changes something. d.mu is held.
func (d *Disk) step(kind, name string) error {
	if d.cut >= 0 && d.steps >= d.cut {
		return fmt.Errorf("%s %s: %w", kind, name, ErrPower)
	}
	if err := d.fail[kind]; err != nil {
		return &fs.PathError{Op: kind, Path: name, Err: err}
	}
	d.steps++
	return nil
}

// Mkdir is of state.Disk.
func (d *Disk) Mkdir(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if node := d.names[name]; node != nil && node.dir {
		return nil
	}
	if err := d.step("mkdir", name); err != nil {
		return err
	}
	d.names[name] = &inode{dir: true}
	return nil
}

// Create is of state.Disk.
func (d *Disk) Create(name string) (state.File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if parent := d.names[path.Dir(name)]; parent == nil || !parent.dir {
		return nil, &fs.PathError{Op: "create", Path: name, Err: fs.ErrNotExist}
	}
	if err := d.step("create", name); err != nil {
		return nil, err
	}
	node := new(inode)
	d.names[name] = node
	return &file{d, node, name}, nil
}

// Read is of state.Disk.
func (d *Disk) Read(name string, limit int64) ([]byte, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.cut >= 0 && d.steps >= d.cut {
		return nil, ErrPower
	}
	if err := d.fail["read"]; err != nil {
		return nil, &fs.PathError{Op: "read", Path: name, Err: err}
	}
	node := d.names[name]
	if node == nil || node.dir {
		return nil, &fs.PathError{Op: "read", Path: name, Err: fs.ErrNotExist}
	}
	if int64(len(node.content)) > limit {
		return nil, state.ErrTooLarge
	}
	return bytes.Clone(node.content), nil
}

// Rename is of state.Disk.
func (d *Disk) Rename(from, to string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.names[from] == nil {
		return &fs.PathError{Op: "rename", Path: from, Err: fs.ErrNotExist}
	}
	if err := d.step("rename", to); err != nil {
		return err
	}
	d.names[to] = d.names[from]
	delete(d.names, from)
	return nil
}

// Remove is of state.Disk.
func (d *Disk) Remove(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.names[name] == nil {
		return &fs.PathError{Op: "remove", Path: name, Err: fs.ErrNotExist}
	}
	if err := d.step("remove", name); err != nil {
		return err
	}
	delete(d.names, name)
	return nil
}

// Scrub is of state.Disk.
func (d *Disk) Scrub(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	node := d.names[name]
	if node == nil || node.dir {
		return &fs.PathError{Op: "scrub", Path: name, Err: fs.ErrNotExist}
	}
	if err := d.step("scrub", name); err != nil {
		return err
	}
	_, _ = rand.Read(node.content) // never fails
	node.synced = bytes.Clone(node.content)
	return nil
}

// SyncDir is of state.Disk.
func (d *Disk) SyncDir(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.step("syncdir", name); err != nil {
		return err
	}
	maps.DeleteFunc(d.durable, func(n string, _ *inode) bool { return path.Dir(n) == name && d.names[n] == nil })
	for n, node := range d.names {
		if path.Dir(n) == name {
			d.durable[n] = node
		}
	}
	return nil
}

// file is an open file. A power cut in the middle of a write leaves half of it.
type file struct {
	disk *Disk
	node *inode
	name string
}

func (f *file) Write(p []byte) (int, error) {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if err := f.disk.step("write", f.name); err != nil {
		f.node.content = append(f.node.content, p[:len(p)/2]...)
		return len(p) / 2, err
	}
	f.node.content = append(f.node.content, p...)
	return len(p), nil
}

func (f *file) Sync() error {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if err := f.disk.step("sync", f.name); err != nil {
		return err
	}
	f.node.synced = bytes.Clone(f.node.content)
	return nil
}

func (f *file) Close() error { return nil }
