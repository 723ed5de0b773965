package session

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"time"

	"vindu/protocol"
	"vindu/provisioning/frame"
)

const (
	// SilentTime is how long a laptop waits for any sign of life.
	SilentTime = 10 * time.Second

	pollTime   = 500 * time.Millisecond // of jobs and of the button
	resendTime = time.Second            // before a short message is sent again
	slowest    = 115200 / 10 / 2        // bytes per second that a line carries, each way
)

// answered is what a frame was to who waits for one.
type answered uint8

const (
	unrelated answered = iota
	alive              // a sign of life
	final
)

func silent(what string) error {
	return protocol.WithCode(protocol.LinkCable, fmt.Errorf("%s: %w", what, ErrSilent))
}

func (c *Client) closed(what string) error {
	return protocol.WithCode(protocol.LinkCable, fmt.Errorf("%s: %w", what, ErrClosed))
}

// takeTurn waits until nobody else uses the line; done gives it back.
func (c *Client) takeTurn(ctx context.Context) (done func(), err error) {
	select {
	case <-c.turn:
		return func() { c.turn <- struct{}{} }, nil
	case <-c.gone:
		return nil, c.closed("use the serial port")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// exchange sends, and sends again, until take says that a frame is the answer.
func (c *Client) exchange(ctx context.Context, what string, resend time.Duration, send func() error, take func(frame.Frame) (answered, error)) error {
	for { // what came before was not asked for by this
		select {
		case <-c.line.in:
			continue
		default:
		}
		break
	}
	silence := time.NewTimer(SilentTime + 4*resend)
	defer silence.Stop()
	limit := time.NewTimer(AnswerTime + SilentTime + 4*resend)
	defer limit.Stop()
	for {
		if err := send(); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		again := time.NewTimer(resend + rand.N(resend/4))
		for waiting := true; waiting; {
			select {
			case <-ctx.Done():
				again.Stop()
				return fmt.Errorf("%s: %w", what, ctx.Err())
			case <-c.gone:
				again.Stop()
				return c.closed(what)
			case <-silence.C:
				again.Stop()
				return silent(what)
			case <-limit.C:
				again.Stop()
				return silent(what)
			case <-again.C:
				waiting = false
			case f := <-c.line.in:
				switch is, err := take(f); is {
				case final:
					again.Stop()
					return err
				case alive:
					silence.Reset(SilentTime + 4*resend)
				case unrelated:
				}
			}
		}
	}
}

// call makes one request of an open session.
func (c *Client) call(ctx context.Context, op string, body, into any) error {
	done, err := c.takeTurn(ctx)
	if err != nil {
		return err
	}
	defer done()
	if c.session == nil {
		return protocol.WithCode(protocol.LinkCable, fmt.Errorf("ask the terminal for %s: %w", op, ErrLost))
	}
	c.number++
	return c.ask(ctx, request{Number: c.number, Op: op}, body, into)
}

// ask sends r until its reply comes, and reads that into into.
func (c *Client) ask(ctx context.Context, r request, body, into any) error {
	what := "ask the terminal for " + r.Op
	var err error
	if body != nil {
		if r.Body, err = encode(body); err != nil {
			return err
		}
	}
	b, err := encode(r)
	if err != nil {
		return err
	}
	resend := resendTime + time.Duration(len(b))*time.Second/slowest
	var got reply
	err = c.exchange(ctx, what, resend, func() error { return c.line.send(kindSealed, c.session.seal(b)) },
		func(f frame.Frame) (answered, error) {
			tag := c.session.tag()
			if f.Kind == kindLost && string(f.Payload) == string(tag[:]) {
				c.session = nil
				return final, protocol.WithCode(protocol.LinkCable, fmt.Errorf("%s: %w", what, ErrLost))
			}
			if f.Kind != kindSealed {
				return unrelated, nil
			}
			m, err := c.session.open(f.Payload)
			if err != nil {
				return unrelated, nil
			}
			got = reply{}
			if err := decode(m, &got); err != nil {
				return final, fmt.Errorf("%s: %w", what, err)
			}
			switch {
			case got.Number != r.Number:
				return unrelated, nil
			case got.Wait:
				return alive, nil
			}
			return final, nil
		})
	if err != nil {
		return err
	}
	if got.Code != "" {
		return fmt.Errorf("%s: %w", what, told(got.Code, got.Cause))
	}
	if into == nil {
		return nil
	}
	if err := decode(got.Body, into); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	clean(reflect.ValueOf(into))
	return nil
}

var errNoReason = errors.New("the terminal gives no reason")

// told is a failure that the terminal told of. A code that this program does not know is kept.
func told(code protocol.Code, cause string) error {
	err := errNoReason
	if cause = protocol.Printable(cause); cause != "" {
		err = fmt.Errorf("the terminal says: %s", cause)
	}
	return protocol.WithCode(protocol.Code(protocol.Printable(string(code))), err)
}

// pause waits a moment between two questions.
func pause(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(pollTime + rand.N(pollTime/4)):
		return nil
	}
}
