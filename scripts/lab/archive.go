package lab

import (
	"bufio"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// archive collects files for an initramfs and writes them in the kernel's "newc" cpio format
// (Documentation/driver-api/early-userspace/buffer-format.rst). The kernel unpacks several archives, one behind the
// other, so a boot's own files follow the cached system uncopied.
type archive struct {
	files map[string]archived // by path without the leading slash
}

type archived struct {
	mode   fs.FileMode
	data   []byte
	target string // of a symbolic link
}

func newArchive() *archive { return &archive{map[string]archived{}} }

func clean(name string) string { return strings.TrimPrefix(path.Clean("/"+name), "/") }

func (a *archive) file(name string, mode fs.FileMode, data []byte) {
	a.files[clean(name)] = archived{mode: mode.Perm(), data: data}
}

func (a *archive) link(name, target string) {
	a.files[clean(name)] = archived{mode: fs.ModeSymlink | 0o777, target: target}
}

func (a *archive) directory(name string) {
	a.files[clean(name)] = archived{mode: fs.ModeDir | 0o755}
}

func (a *archive) has(name string) bool {
	_, ok := a.files[clean(name)]
	return ok
}

// write writes the archive, parents before their children.
func (a *archive) write(w io.Writer) error {
	for name := range a.files {
		for parent := path.Dir(name); parent != "."; parent = path.Dir(parent) {
			if !a.has(parent) {
				a.directory(parent)
			}
		}
	}
	names := make([]string, 0, len(a.files))
	for name := range a.files {
		names = append(names, name)
	}
	slices.Sort(names)
	out := &countingWriter{w: bufio.NewWriterSize(w, 1<<20)}
	for i, name := range names {
		file := a.files[name]
		mode, data := uint32(file.mode.Perm())|0o100000, file.data
		switch file.mode.Type() {
		case fs.ModeDir:
			mode = uint32(file.mode.Perm()) | 0o040000
		case fs.ModeSymlink:
			mode, data = 0o120777, []byte(file.target)
		}
		out.entry(i+1, name, mode, data)
	}
	out.entry(0, "TRAILER!!!", 0, nil)
	out.pad(512) // so that another archive may follow
	if out.err != nil {
		return fmt.Errorf("write initramfs: %w", out.err)
	}
	if err := out.w.Flush(); err != nil {
		return fmt.Errorf("write initramfs: %w", err)
	}
	return nil
}

// countingWriter pads to offsets and keeps the first error.
type countingWriter struct {
	w   *bufio.Writer
	at  int
	err error
}

func (c *countingWriter) Write(b []byte) (int, error) {
	if c.err != nil {
		return 0, c.err
	}
	n, err := c.w.Write(b)
	c.at += n
	c.err = err
	return n, err
}

func (c *countingWriter) pad(to int) {
	if odd := c.at % to; odd != 0 {
		c.Write(make([]byte, to-odd))
	}
}

func (c *countingWriter) entry(inode int, name string, mode uint32, data []byte) {
	links := 1
	// magic ino mode uid gid nlink mtime filesize devmajor devminor rdevmajor rdevminor namesize check
	fmt.Fprintf(c, "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X",
		inode, mode, 0, 0, links, 0, len(data), 0, 0, 0, 0, len(name)+1, 0)
	c.Write(append([]byte(name), 0))
	c.pad(4)
	c.Write(data)
	c.pad(4)
}
