package tpm

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"

	"vindu/device/identity/tpm/tpmtest"
	"vindu/device/state/statetest"
	"vindu/protocol"
)

// between is somebody on the wire between the terminal and its TPM.
type between struct {
	path string

	mu      sync.Mutex
	command func(b []byte)      // may change what goes to the TPM; nil: nothing
	answer  func(b []byte) bool // may change what comes back; false: nothing comes
}

func (w *between) set(command func(b []byte), answer func(b []byte) bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.command, w.answer = command, answer
}

// tap puts w on the wire to the TPM at path.
func tap(t *testing.T, path string, w *between) {
	t.Helper()
	dir, err := os.MkdirTemp("", "tap")
	if err != nil {
		t.Fatal(err)
	}
	w.path = filepath.Join(dir, "socket")
	l, err := net.Listen("unix", w.path)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			w.serve(conn, path)
		}
	}()
	t.Cleanup(func() {
		l.Close()
		<-done
		os.RemoveAll(dir)
	})
}

func (w *between) serve(conn net.Conn, path string) {
	defer conn.Close()
	b := make([]byte, maxResponse)
	n, err := conn.Read(b)
	if err != nil {
		return
	}
	w.mu.Lock()
	command, answer := w.command, w.answer
	w.mu.Unlock()
	if command != nil {
		command(b[:n])
	}
	chip, err := net.Dial("unix", path)
	if err != nil {
		return
	}
	defer chip.Close()
	if _, err := chip.Write(b[:n]); err != nil {
		return
	}
	if n, err = chip.Read(b); err != nil {
		return
	}
	if answer != nil && !answer(b[:n]) {
		_, _ = io.Copy(io.Discard, conn) // until the other end gives up
		return
	}
	_, _ = conn.Write(b[:n])
}

func isCommand(b []byte, code tpm2.TPMCC) bool {
	return len(b) >= headerSize && binary.BigEndian.Uint32(b[6:]) == uint32(code)
}

// TestProbe: who sits on the wires cannot learn what it takes to sign, and cannot have something else signed.
func TestProbe(t *testing.T) {
	chip := tpmtest.Start(t)
	var seen bytes.Buffer
	w := new(between)
	w.set(func(b []byte) { seen.Write(b) }, func(b []byte) bool { seen.Write(b); return true })
	tap(t, chip.Path, w)
	dir := on(t, statetest.New())
	k := open(t, at(w.path), dir)
	if err := sign(k); err != nil {
		t.Fatal(err)
	}
	r, err := load(dir, 0)
	if err != nil {
		t.Fatal(err)
	}
	r.Auth = unsealed(t, r)
	if bytes.Contains(seen.Bytes(), r.Auth) || bytes.Contains(seen.Bytes(), r.Auth[:16]) {
		t.Error("the bytes that it takes to sign went over the wire")
	}
	digest := sha256.Sum256([]byte("a window"))
	evil := sha256.Sum256([]byte("a door"))
	changed := false
	w.set(func(b []byte) {
		if i := bytes.Index(b, digest[:]); isCommand(b, tpm2.TPMCCSign) && i > 0 {
			copy(b[i:], evil[:])
			changed = true
		}
	}, nil)
	if err := sign(k); err == nil || !changed {
		t.Errorf("signed: %v, changed %v", err, changed)
	}
	w.set(nil, nil)
	if err := sign(k); err != nil || k.Condition() != "" {
		t.Errorf("afterwards: %v, condition %q", err, k.Condition())
	}
}

func TestSilent(t *testing.T) {
	chip := tpmtest.Start(t)
	w := new(between)
	tap(t, chip.Path, w)
	k := open(t, at(w.path), on(t, statetest.New())).(*key)
	for name, answer := range map[string]func(b []byte) bool{
		"no answer": func([]byte) bool { return false },
		"too long":  func(b []byte) bool { binary.BigEndian.PutUint32(b[2:], maxResponse+1); return true },
		"too short": func(b []byte) bool { binary.BigEndian.PutUint32(b[2:], headerSize-1); return true },
		"failure mode": func(b []byte) bool {
			binary.BigEndian.PutUint32(b[6:], uint32(tpm2.TPMRCFailure))
			return true
		},
	} {
		t.Run(name, func(t *testing.T) {
			w.set(nil, answer)
			k.chip.quick = 200 * time.Millisecond
			if err := sign(k); !errors.Is(err, ErrGone) || protocol.CodeOf(err) != protocol.IdentityTPMGone {
				t.Errorf("got %v", err)
			}
			if code := k.Condition(); code != protocol.IdentityTPMGone {
				t.Errorf("condition %q", code)
			}
			w.set(nil, nil)
			k.chip.quick = quick
			chip.Restart() // without a resource manager what was begun stays begun
			if err := sign(k); err != nil {
				t.Errorf("afterwards: %v", err)
			}
		})
	}
}

// TestBusy: a TPM that is at something else is asked again.
func TestBusy(t *testing.T) {
	chip := tpmtest.Start(t)
	w := new(between)
	tap(t, chip.Path, w)
	k := open(t, at(w.path), on(t, statetest.New())).(*key)
	refused := 0
	w.set(func(b []byte) {
		if refused < 3 {
			binary.BigEndian.PutUint32(b[6:], 0) // so that it is not begun
		}
	}, func(b []byte) bool {
		if refused < 3 {
			binary.BigEndian.PutUint32(b[6:], uint32(tpm2.TPMRCRetry))
			refused++
		}
		return true
	})
	if err := sign(k); err != nil || refused != 3 {
		t.Errorf("refused %d times: %v", refused, err)
	}
}
