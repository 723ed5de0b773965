// Package control is how the lab's test works inside the guest: a handful of calls over one virtio-serial port, so
// that they keep working when a test takes the guest's network away.
//
// The wire is net/rpc with its gob codec: the guest serves [Service] by [Serve], the test calls it by [Client].
// Both ends are built from the same tree, so there is no version to agree on. One end runs commands as root for the
// other: it belongs in a throw-away guest and nowhere else.
package control

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/rpc"
	"os"
	"time"
)

// ServiceName is the name under which [Service] is registered.
const ServiceName = "Guest"

// Command is a program to run in the guest.
type Command struct {
	Args    []string // the program, by path or to be found on the PATH, and its arguments
	Env     []string // added to the guest's environment
	Dir     string   // "" is /
	Stdin   []byte
	Log     string        // Start only: the file that collects both outputs
	Timeout time.Duration // Exec only: killed then; 0 is a minute
}

// Result is what came of a command.
type Result struct {
	Output []byte // both outputs, as they came
	Code   int    // exit status; -1 if it was killed
	State  string // "exit status 1", "signal: killed"
	User   time.Duration
	System time.Duration
	MaxRSS int64 // bytes
}

// File is a file's content.
type File struct {
	Path string
	Mode os.FileMode
	Data []byte
}

// Holder is a process that has a file open.
type Holder struct {
	PID     int
	Command string
	Path    string
}

// Signal is sent to a process that Start began; Wait then waits for its end.
type Signal struct {
	PID    int
	Signal int
	Wait   time.Duration // 0 does not wait
}

// CameraControl sets a V4L2 control, by its number (linux/v4l2-controls.h), on a device.
type CameraControl struct {
	Device string
	ID     uint32
	Value  int32
}

// Client calls a guest. Its methods may be used concurrently.
type Client struct {
	rpc *rpc.Client
}

// NewClient speaks over a connection, which Close closes.
func NewClient(conn io.ReadWriteCloser) *Client { return &Client{rpc.NewClient(conn)} }

// Close hangs up. Calls that wait fail.
func (c *Client) Close() error { return c.rpc.Close() }

// call waits for the answer or the end of ctx, whichever comes first.
func call[Reply any](ctx context.Context, c *Client, method string, args any) (Reply, error) {
	var reply Reply
	done := c.rpc.Go(ServiceName+"."+method, args, &reply, make(chan *rpc.Call, 1)).Done
	select {
	case answered := <-done:
		if answered.Error != nil {
			return reply, fmt.Errorf("guest: %s: %w", method, answered.Error)
		}
		return reply, nil
	case <-ctx.Done():
		var none Reply // the late answer may still be written into reply
		return none, fmt.Errorf("guest: %s: no answer: %w", method, context.Cause(ctx))
	}
}

// Ping returns when the guest answers.
func (c *Client) Ping(ctx context.Context) error {
	_, err := call[int](ctx, c, "Ping", 0)
	return err
}

// Exec runs a command to its end. A command that ran and failed is an error that shows its output.
func (c *Client) Exec(ctx context.Context, command Command) (Result, error) {
	result, err := call[Result](ctx, c, "Exec", command)
	if err == nil && result.Code != 0 {
		err = fmt.Errorf("guest: %q: %s\n%s", command.Args, result.State, result.Output)
	}
	return result, err
}

// Start begins a command and returns its process id.
func (c *Client) Start(ctx context.Context, command Command) (int, error) {
	return call[int](ctx, c, "Start", command)
}

// Signal sends a signal to a process begun by Start. With a Wait it returns how the process ended.
func (c *Client) Signal(ctx context.Context, signal Signal) (Result, error) {
	return call[Result](ctx, c, "Signal", signal)
}

// ReadFile returns a file of the guest. A file that is not there is [os.ErrNotExist].
func (c *Client) ReadFile(ctx context.Context, path string) ([]byte, error) {
	file, err := call[File](ctx, c, "ReadFile", path)
	if err == nil && file.Path == "" {
		err = fmt.Errorf("guest: read %s: %w", path, os.ErrNotExist)
	}
	return file.Data, err
}

// WriteFile makes a file, and its directories, in the guest.
func (c *Client) WriteFile(ctx context.Context, file File) error {
	_, err := call[int](ctx, c, "WriteFile", file)
	return err
}

// Holders lists the processes that have one of the files open. A pattern is a path or a [path.Match] pattern.
func (c *Client) Holders(ctx context.Context, patterns ...string) ([]Holder, error) {
	return call[[]Holder](ctx, c, "Holders", patterns)
}

// SetTime sets the guest's clock.
func (c *Client) SetTime(ctx context.Context, now time.Time) error {
	_, err := call[int](ctx, c, "SetTime", now)
	return err
}

// SetCamera sets a control of a camera without starting it.
func (c *Client) SetCamera(ctx context.Context, control CameraControl) error {
	_, err := call[int](ctx, c, "SetCamera", control)
	return err
}

// Serve answers calls on a connection until it ends.
func Serve(conn io.ReadWriteCloser) error {
	server := rpc.NewServer()
	if err := server.RegisterName(ServiceName, NewService()); err != nil {
		return fmt.Errorf("register the guest's service: %w", err)
	}
	server.ServeConn(conn)
	return errors.New("the connection ended")
}
