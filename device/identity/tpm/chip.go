package tpm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/google/go-tpm/tpm2"
	"golang.org/x/sys/unix"
)

const (
	quick = 10 * time.Second // for an answer; a slow TPM signs in a fifth of a second
	long  = time.Minute      // for making a key

	headerSize  = 10      // of a command or response: tag, size, code (Part 1 §18)
	maxResponse = 4 << 10 // more than any TPM's TPM_PT_MAX_RESPONSE_SIZE
)

// chip sends commands to a TPM, one at a time; it is transport.TPM. It opens the device when that is needed, and again after
// every failure. All its failures to speak with the TPM wrap ErrGone.
type chip struct {
	path  string
	at    tpm2.TPMHandle // of the key that this is about
	slow  bool           // what is sent may take long
	quick time.Duration

	fd    int  // of a device; negative: not open
	stale bool // the answer to an earlier command, which took too long, has still to come
}

func newChip(path string) *chip { return &chip{path: path, at: handle, quick: quick, fd: -1} }

// in has c be about the key in one of the two places.
func (c *chip) in(slot int) *chip {
	c.at = handle + tpm2.TPMHandle(slot)
	return c
}

func (c *chip) close() {
	if c.fd >= 0 {
		_ = unix.Close(c.fd) // nothing is lost by it
		c.fd, c.stale = -1, false
	}
}

// Send implements transport.TPM.
func (c *chip) Send(command []byte) ([]byte, error) {
	deadline := time.Now().Add(c.quick)
	if c.slow {
		deadline = time.Now().Add(long)
	}
	for wait := 10 * time.Millisecond; ; wait *= 2 {
		response, err := c.once(command, deadline)
		if err != nil || !busy(response) || time.Until(deadline) < wait {
			return response, err
		}
		time.Sleep(wait)
	}
}

// busy tells whether the TPM did not begin with the command and asks for it again (Part 2 §6.6.3).
func busy(response []byte) bool {
	switch tpm2.TPMRC(binary.BigEndian.Uint32(response[6:])) {
	case tpm2.TPMRCRetry, tpm2.TPMRCYielded, tpm2.TPMRCTesting, tpm2.TPMRCNVRate:
		return true
	}
	return false
}

func (c *chip) once(command []byte, deadline time.Time) ([]byte, error) {
	info, err := os.Stat(c.path)
	if err != nil {
		c.close()
		return nil, gone(err)
	}
	var response []byte
	switch {
	case info.Mode()&os.ModeSocket != 0:
		response, err = c.overSocket(command, deadline)
	case info.Mode()&os.ModeCharDevice != 0:
		response, err = c.overDevice(command, deadline)
	default:
		err = fmt.Errorf("%s is neither a device nor a socket", c.path)
	}
	if err == nil && (len(response) < headerSize || int64(binary.BigEndian.Uint32(response[2:])) != int64(len(response))) {
		err = fmt.Errorf("%s: an answer of %d bytes that is none", c.path, len(response))
	}
	if err != nil {
		return nil, gone(err)
	}
	return response, nil
}

// overSocket speaks with an emulator: a connection for each command, so that others get their turn.
func (c *chip) overSocket(command []byte, deadline time.Time) (response []byte, err error) {
	conn, err := net.DialTimeout("unix", c.path, time.Until(deadline))
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(deadline); err != nil {
		return nil, err
	}
	if _, err := conn.Write(command); err != nil {
		return nil, err
	}
	header := make([]byte, headerSize)
	if _, err := io.ReadFull(conn, header); err != nil {
		return nil, err
	}
	size := binary.BigEndian.Uint32(header[2:])
	if size < headerSize || size > maxResponse {
		return nil, fmt.Errorf("%s: an answer of %d bytes", c.path, size)
	}
	response = append(header, make([]byte, size-headerSize)...)
	_, err = io.ReadFull(conn, response[headerSize:])
	return response, err
}

// overDevice speaks with the kernel. Opened without blocking, it takes a command at once, works on it, and says by poll when
// the answer is there; a read before that would find nothing.
func (c *chip) overDevice(command []byte, deadline time.Time) (response []byte, err error) {
	if c.fd < 0 {
		if c.fd, err = unix.Open(c.path, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0); err != nil {
			c.fd = -1
			return nil, &os.PathError{Op: "open", Path: c.path, Err: err}
		}
	}
	if c.stale {
		// Closing would have waited for the command that hung. Now it is done, and closing gives back what it opened.
		if _, err := c.answer(deadline); err != nil {
			return nil, err
		}
		c.close()
		return c.overDevice(command, deadline)
	}
	if n, err := unix.Write(c.fd, command); err != nil || n != len(command) {
		c.close()
		return nil, &os.PathError{Op: "write", Path: c.path, Err: errors.Join(err, short(n, len(command)))}
	}
	c.stale = true
	return c.answer(deadline)
}

func short(n, of int) error {
	if n == of {
		return nil
	}
	return io.ErrShortWrite
}

// answer waits for the answer to the command that was sent.
func (c *chip) answer(deadline time.Time) ([]byte, error) {
	for {
		wait := time.Until(deadline)
		if wait <= 0 {
			return nil, &os.PathError{Op: "wait for", Path: c.path, Err: os.ErrDeadlineExceeded}
		}
		fds := []unix.PollFd{{Fd: int32(c.fd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, int(wait/time.Millisecond)+1)
		switch {
		case errors.Is(err, unix.EINTR), n == 0 && err == nil:
			continue
		case err != nil:
			c.close()
			return nil, &os.PathError{Op: "poll", Path: c.path, Err: err}
		}
		response := make([]byte, maxResponse)
		if n, err = unix.Read(c.fd, response); err != nil {
			c.close()
			return nil, &os.PathError{Op: "read", Path: c.path, Err: err}
		}
		c.stale = false
		return response[:n], nil
	}
}
