package simulator

import (
	"io"
	"sync/atomic"
)

// Cable is a line that can be pulled out and put back: nothing comes through meanwhile, and neither end is told.
type Cable struct {
	Line   io.ReadWriteCloser
	pulled atomic.Bool
}

// Pull pulls the cable out, or puts it back.
func (c *Cable) Pull(out bool) { c.pulled.Store(out) }

// Pulled tells whether it is out.
func (c *Cable) Pulled() bool { return c.pulled.Load() }

// Read implements io.Reader.
func (c *Cable) Read(b []byte) (int, error) {
	for {
		n, err := c.Line.Read(b)
		if err != nil || !c.Pulled() {
			return n, err
		}
	}
}

// Write implements io.Writer.
func (c *Cable) Write(b []byte) (int, error) {
	if c.Pulled() {
		return len(b), nil
	}
	return c.Line.Write(b)
}

// Close implements io.Closer.
func (c *Cable) Close() error { return c.Line.Close() }
