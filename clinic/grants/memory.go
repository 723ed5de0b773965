package grants

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"vindu/protocol"
)

// formatMemory names what a Memory is written as:
//
//	{"format":"vindu-signed-1","persons":[{"person":"7","party":{…},"passkeys":["<base32>"]}]}
//
// passkeys are the names (protocol.KeyHash.Name) of their public keys.
const (
	formatMemory = "vindu-signed-1"
	maxMemory    = 64 << 20
)

// ErrMemory is wrapped when a file is none that a Memory has written.
var ErrMemory = errors.New("not what was remembered of signed passkeys, or damaged")

// Memory is what the machine that has the authorisation key remembers: which passkeys each person had when an authorisation of that person was signed there last. A server
// that is owned by somebody else can ask for one that names a passkey of its own; what is asked for looks as it did the week before, but for that.
type Memory struct {
	persons map[string]remembered
}

type remembered struct {
	Person   string         `json:"person"` // the clinic's number
	Party    protocol.Party `json:"party"`
	Passkeys []string       `json:"passkeys"`
}

// key is by whom passkeys are remembered: who is called otherwise than before, or has another number, is another person.
func (r remembered) key() string { return fmt.Sprintf("%q %q", r.Person, r.Party) }

type memoryFile struct {
	Format  string       `json:"format"`
	Persons []remembered `json:"persons"`
}

// MemoryPath is where the passkeys are remembered that were signed by the key in a file.
func MemoryPath(keyFile string) string { return keyFile + ".passkeys" }

// ReadMemory reads what Write wrote; without such a file nothing is remembered. The error wraps ErrMemory if it is another.
func ReadMemory(path string) (*Memory, error) {
	m := &Memory{persons: map[string]remembered{}}
	in, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return m, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read signed passkeys: %w", err)
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return nil, fmt.Errorf("read signed passkeys: %w", err)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return nil, fmt.Errorf("read signed passkeys: others than the owner have access to %s (mode %#o); chmod 600 it", path, mode)
	}
	var f memoryFile
	d := json.NewDecoder(io.LimitReader(in, maxMemory))
	d.DisallowUnknownFields()
	if err := d.Decode(&f); err != nil || d.More() || f.Format != formatMemory {
		return nil, fmt.Errorf("read signed passkeys: %s: %w: restore it from a backup, or remove it: all passkeys are new then", path, errors.Join(ErrMemory, err))
	}
	for _, r := range f.Persons {
		m.persons[r.key()] = r
	}
	return m, nil
}

// Write puts the memory into a file that nobody else can read, whole or not at all.
func (m *Memory) Write(path string) (err error) {
	f := memoryFile{formatMemory, []remembered{}}
	for _, key := range slices.Sorted(maps.Keys(m.persons)) {
		f.Persons = append(f.Persons, m.persons[key])
	}
	fail := func(err error) error {
		return fmt.Errorf("remember signed passkeys: %w; the folder of the key has to be one that can be written to", err)
	}
	out, err := os.CreateTemp(filepath.Dir(path), ".passkeys-*") // 0600
	if err != nil {
		return fail(err)
	}
	e := json.NewEncoder(out)
	e.SetIndent("", " ")
	err = e.Encode(f)
	if err = errors.Join(err, out.Sync(), out.Close()); err == nil {
		err = os.Rename(out.Name(), path)
	}
	if err != nil {
		return fail(errors.Join(err, os.Remove(out.Name())))
	}
	folder, err := os.Open(filepath.Dir(path))
	if err == nil {
		err = errors.Join(folder.Sync(), folder.Close())
	}
	if err != nil {
		return fail(err)
	}
	return nil
}

// Passkey is one of a person, as it is to be authorised.
type Passkey struct {
	Code   string
	Person string // the clinic's number
	Party  protocol.Party
}

// New returns the passkeys that an item would authorise and that its person did not have when an authorisation was signed last.
func (m *Memory) New(i *Item) (list []Passkey) {
	r, passkeys := i.passkeys()
	before := m.persons[r.key()].Passkeys
	for _, p := range passkeys {
		if !slices.Contains(before, p.Name()) {
			list = append(list, Passkey{p.Code(), r.Person, r.Party})
		}
	}
	return list
}

// Keep remembers the passkeys of all items, in place of those that their persons had before.
func (m *Memory) Keep(items []*Item) {
	now := map[string]remembered{}
	for _, i := range items {
		r, passkeys := i.passkeys()
		if len(passkeys) == 0 {
			continue
		}
		if same, ok := now[r.key()]; ok {
			r = same
		}
		for _, p := range passkeys {
			if !slices.Contains(r.Passkeys, p.Name()) {
				r.Passkeys = append(r.Passkeys, p.Name())
			}
		}
		now[r.key()] = r
	}
	for key, r := range now {
		m.persons[key] = r
	}
}

// passkeys returns the passkeys that an item would authorise, and whose; none if it is no authorisation.
func (i *Item) passkeys() (r remembered, keys []protocol.KeyHash) {
	m, err := i.statement()
	if a, ok := m.(*protocol.Authorisation); ok && err == nil {
		for _, c := range a.Credentials {
			keys = append(keys, protocol.HashSPKI(c.Key))
		}
		r = remembered{Person: a.Person, Party: a.Party}
	}
	return r, keys
}

// quoted is a list of names that others chose: none can look like several, or like what is said of it.
func quoted(names []string) string {
	list := make([]string, 0, len(names))
	for _, n := range names {
		list = append(list, fmt.Sprintf("%q", n))
	}
	return strings.Join(list, ", ")
}
