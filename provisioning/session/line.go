package session

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"vindu/provisioning/frame"
)

// line carries frames over a port. Frames that cannot be taken at once, in either direction, are lost like those that a bad cable loses.
type line struct {
	port io.ReadWriteCloser
	in   chan frame.Frame
	out  chan []byte
}

func newLine(port io.ReadWriteCloser) *line {
	return &line{port: port, in: make(chan frame.Frame, 32), out: make(chan []byte, 8)}
}

// run carries until ctx ends or the port is gone, and closes the port. The error wraps ErrClosed unless ctx ended.
func (l *line) run(ctx context.Context) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var group sync.WaitGroup
	group.Go(func() {
		r := frame.NewReader(l.port)
		for {
			f, err := r.Next()
			if err != nil {
				stop(fmt.Errorf("%w: read: %w", ErrClosed, err))
				return
			}
			select {
			case l.in <- f:
			default:
			}
		}
	})
	group.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case b := <-l.out:
				if _, err := l.port.Write(b); err != nil {
					stop(fmt.Errorf("%w: write: %w", ErrClosed, err))
					return
				}
			}
		}
	})
	<-ctx.Done()
	err := l.port.Close()
	group.Wait()
	if cause := context.Cause(ctx); errors.Is(cause, ErrClosed) {
		return cause
	}
	if err != nil {
		return fmt.Errorf("close the port: %w", err)
	}
	return nil
}

// send puts a frame on the line, if there is room.
func (l *line) send(kind byte, payload []byte) error {
	b, err := frame.Append(nil, frame.Frame{Kind: kind, Payload: payload})
	if err != nil {
		return err
	}
	select {
	case l.out <- b:
	default:
	}
	return nil
}
