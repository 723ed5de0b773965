package control

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Service is the guest's end. net/rpc calls its methods, each in a goroutine of its own.
type Service struct {
	mu      sync.Mutex
	started map[int]*process
}

// process is a command that Start began. The goroutine that Start leaves behind waits for it and then closes ended.
type process struct {
	command *exec.Cmd
	ended   chan struct{}
}

// NewService is ready to be registered.
func NewService() *Service { return &Service{started: map[int]*process{}} }

// Ping answers.
func (*Service) Ping(_ int, _ *int) error { return nil }

func build(ctx context.Context, c Command) (*exec.Cmd, error) {
	if len(c.Args) == 0 {
		return nil, errors.New("no command given")
	}
	command := exec.CommandContext(ctx, c.Args[0], c.Args[1:]...)
	command.Dir = "/"
	if c.Dir != "" {
		command.Dir = c.Dir
	}
	command.Env = append(os.Environ(), c.Env...)
	command.Stdin = bytes.NewReader(c.Stdin)
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	command.Cancel = func() error { return syscall.Kill(-command.Process.Pid, syscall.SIGKILL) }
	command.WaitDelay = 2 * time.Second
	return command, nil
}

func describe(state *os.ProcessState) Result {
	if state == nil {
		return Result{Code: -1, State: "never began"}
	}
	result := Result{Code: state.ExitCode(), State: state.String(), User: state.UserTime(), System: state.SystemTime()}
	if usage, ok := state.SysUsage().(*syscall.Rusage); ok {
		result.MaxRSS = usage.Maxrss << 10
	}
	return result
}

// Exec runs a command to its end.
func (*Service) Exec(c Command, result *Result) error {
	timeout := c.Timeout
	if timeout == 0 {
		timeout = time.Minute
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	command, err := build(ctx, c)
	if err != nil {
		return err
	}
	var output bytes.Buffer
	command.Stdout, command.Stderr = &output, &output
	err = command.Run()
	*result = describe(command.ProcessState)
	result.Output = output.Bytes()
	if ctx.Err() != nil {
		result.State = fmt.Sprintf("killed after %s", timeout)
	}
	if command.ProcessState == nil {
		return err
	}
	return nil
}

// Start begins a command.
func (s *Service) Start(c Command, pid *int) error {
	command, err := build(context.Background(), c)
	if err != nil {
		return err
	}
	if c.Log != "" {
		log, err := os.OpenFile(c.Log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
		if err != nil {
			return err
		}
		defer log.Close()
		command.Stdout, command.Stderr = log, log
	}
	if err := command.Start(); err != nil {
		return err
	}
	p := &process{command, make(chan struct{})}
	go func() {
		defer close(p.ended)
		command.Wait() // how it ended is read from its ProcessState
	}()
	*pid = command.Process.Pid
	s.mu.Lock()
	defer s.mu.Unlock()
	s.started[*pid] = p
	return nil
}

// Signal sends a signal, and waits for the end if asked to.
func (s *Service) Signal(signal Signal, result *Result) error {
	s.mu.Lock()
	p := s.started[signal.PID]
	s.mu.Unlock()
	if p == nil {
		return fmt.Errorf("process %d was not started here", signal.PID)
	}
	err := p.command.Process.Signal(syscall.Signal(signal.Signal))
	if err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	if signal.Wait == 0 {
		return nil
	}
	select {
	case <-p.ended:
		*result = describe(p.command.ProcessState)
		return nil
	case <-time.After(signal.Wait):
		return fmt.Errorf("process %d still runs %s after signal %d", signal.PID, signal.Wait, signal.Signal)
	}
}

// ReadFile returns a file; its Path is empty if there is none.
func (*Service) ReadFile(name string, file *File) error {
	data, err := os.ReadFile(name)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	*file = File{Path: name, Data: data}
	return err
}

// WriteFile makes a file and its directories.
func (*Service) WriteFile(file File, _ *int) error {
	if err := os.MkdirAll(filepath.Dir(file.Path), 0o755); err != nil {
		return err
	}
	mode := file.Mode
	if mode == 0 {
		mode = 0o644
	}
	if err := os.WriteFile(file.Path, file.Data, mode); err != nil {
		return err
	}
	return os.Chmod(file.Path, mode)
}

// Holders looks through every process's open files.
func (*Service) Holders(patterns []string, holders *[]Holder) error {
	for _, pattern := range patterns {
		if _, err := path.Match(pattern, ""); err != nil {
			return fmt.Errorf("pattern %q: %w", pattern, err)
		}
	}
	links, err := filepath.Glob("/proc/[0-9]*/fd/*")
	if err != nil {
		return err
	}
	for _, link := range links {
		target, err := os.Readlink(link)
		if err != nil {
			continue // the process ended, or closed the file, while we looked
		}
		if !slices.ContainsFunc(patterns, func(pattern string) bool { ok, _ := path.Match(pattern, target); return ok }) {
			continue
		}
		directory := filepath.Dir(filepath.Dir(link))
		pid, err := strconv.Atoi(filepath.Base(directory))
		if err != nil {
			continue
		}
		name, _ := os.ReadFile(filepath.Join(directory, "comm")) // an ended process has no name: say what is known
		*holders = append(*holders, Holder{PID: pid, Command: strings.TrimSpace(string(name)), Path: target})
	}
	return nil
}

// SetTime sets the clock.
func (*Service) SetTime(now time.Time, _ *int) error {
	value := unix.NsecToTimeval(now.UnixNano())
	return unix.Settimeofday(&value)
}

// SetCamera sets a control by VIDIOC_S_CTRL.
func (*Service) SetCamera(control CameraControl, _ *int) error {
	device, err := os.OpenFile(control.Device, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer device.Close()
	const setControl = 0xc008561c // _IOWR('V', 28, struct v4l2_control)
	value := struct {
		id    uint32
		value int32
	}{control.ID, control.Value}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, device.Fd(), setControl, uintptr(unsafe.Pointer(&value))); errno != 0 {
		return fmt.Errorf("set control %#x of %s to %d: %w", control.ID, control.Device, control.Value, errno)
	}
	return nil
}
