package echo

import (
	"errors"
	"fmt"
	"sync"

	"vindu/media/sound"
)

// Device is a sound.Device that captures what a Canceller has cleaned.
type Device struct {
	sound.Duplex
	far [FrameSamples]int16 // of the goroutine that reads

	mu sync.Mutex // guards c against being closed while it works
	c  Canceller
}

// Over puts c over d. Closing the Device closes both.
func Over(d sound.Duplex, c Canceller) *Device { return &Device{Duplex: d, c: c} }

// Read implements sound.Device.
func (d *Device) Read(near []int16) error {
	if err := d.ReadBoth(near, d.far[:]); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.c.Process(near, d.far[:]); errors.Is(err, ErrClosed) {
		return fmt.Errorf("%w: %w", sound.ErrClosed, err)
	} else if err != nil {
		return err
	}
	return nil
}

// Echo returns what the Canceller measured. Any goroutine.
func (d *Device) Echo() Stats { return d.c.Stats() }

// Close implements sound.Device.
func (d *Device) Close() error {
	err := d.Duplex.Close()
	d.mu.Lock()
	defer d.mu.Unlock()
	return errors.Join(err, d.c.Close())
}
