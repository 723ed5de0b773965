package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"syscall"
)

// explainListen says what to do about an address that cannot be listened on.
func explainListen(key, address string, err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("%s = %q: the port is taken by another program: stop that one (ss -lntup names it) or choose another port in the configuration: %w", key, address, err)
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("%s = %q: this user may not listen on a port below 1024: give the program CAP_NET_BIND_SERVICE or choose another port: %w", key, address, err)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("%s = %q: that is not an address of this machine: %w", key, address, err)
	}
	return fmt.Errorf("%s = %q: %w", key, address, err)
}

func listen(ctx context.Context, key, address string) (net.Listener, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, explainListen(key, address, err)
	}
	return l, nil
}

// listenLoopback listens on a loopback address; for "localhost" on that of IPv4 and, where there is one, on that of IPv6, so that no
// other program can answer in our name to a browser that tries the other first.
func listenLoopback(ctx context.Context, key, address string) ([]net.Listener, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, explainListen(key, address, err)
	}
	if host != "localhost" {
		l, err := listen(ctx, key, address)
		return []net.Listener{l}, err
	}
	four, err := listen(ctx, key, net.JoinHostPort("127.0.0.1", port))
	if err != nil {
		return nil, err
	}
	_, port, err = net.SplitHostPort(four.Addr().String())
	if err != nil {
		return nil, errors.Join(err, four.Close())
	}
	six, err := new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort("::1", port))
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, errors.Join(explainListen(key, address, err), four.Close())
	}
	if err != nil {
		return []net.Listener{four}, nil // no IPv6 here
	}
	return []net.Listener{four, six}, nil
}

// lock keeps a second server out of the same state folder. It is held until the file is closed, with the process at the latest.
func lock(state string) (*os.File, error) {
	path := filepath.Join(state, fileLock)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the state folder: %w; check that it belongs to the server's user", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("another vindu-clinic serves %s: stop that one (fuser %s names it)", state, path)
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return f, nil
}

// announce tells commands beside the server with which root it was started.
func announce(lock *os.File, pin string) error {
	_, err := lock.WriteAt([]byte(pin), 0)
	if err = errors.Join(err, lock.Truncate(int64(len(pin)))); err != nil {
		return fmt.Errorf("write the lock of the state folder: %w", err)
	}
	return nil
}

// outdated reports whether a server runs that was started with another root than the one with this pin.
func outdated(state, pin string) bool {
	f, err := os.Open(filepath.Join(state, fileLock))
	if err != nil {
		return false
	}
	defer f.Close()
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB); !errors.Is(err, syscall.EWOULDBLOCK) {
		return false
	}
	b, err := io.ReadAll(io.LimitReader(f, 1<<10))
	return err == nil && len(b) > 0 && string(b) != pin
}
