package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Of linux/vtpm_proxy.h.
const (
	vtpmNewDevice   = 0xC014A100
	vtpmFlagTPM2    = 1
	vtpmSetLocality = 0x20001000 // the driver's own command, which it does not want answered by the TPM
)

const (
	tpmHeader   = 10 // of commands and answers: tag, size, code
	tpmLongest  = 4096
	tpmFailure  = 0x101
	tpmNoAnswer = 10 * time.Second // until the host's end is held for gone
)

// bridge gives the guest a TPM, /dev/tpm0 and /dev/tpmrm0, that is a software TPM at the host's end of a serial port. While the
// host's end is away the TPM answers that it has failed.
func bridge(port string) error {
	host, err := os.OpenFile(port, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer host.Close()
	proxy, err := os.OpenFile("/dev/vtpmx", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer proxy.Close()
	device := struct{ flags, number, fd, major, minor uint32 }{flags: vtpmFlagTPM2}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, proxy.Fd(), vtpmNewDevice, uintptr(unsafe.Pointer(&device))); errno != 0 {
		return fmt.Errorf("make a TPM: %w", errno)
	}
	driver := os.NewFile(uintptr(device.fd), "vtpm")
	defer driver.Close()
	command := make([]byte, tpmLongest)
	for {
		n, err := driver.Read(command)
		if err != nil {
			return fmt.Errorf("read the driver's command: %w", err)
		}
		var answer []byte
		if n >= tpmHeader && binary.BigEndian.Uint32(command[6:]) == vtpmSetLocality {
			answer = tpmAnswer(0)
		} else if answer, err = exchange(host, command[:n]); err != nil {
			fmt.Fprintf(os.Stderr, "labguest: the TPM does not answer: %v\n", err)
			answer = tpmAnswer(tpmFailure)
		}
		if _, err := driver.Write(answer); errors.Is(err, unix.EIO) {
			fmt.Fprintln(os.Stderr, "labguest: the driver no longer waits for the TPM's answer") // on a host that is busy
		} else if err != nil {
			return fmt.Errorf("answer the driver: %w", err)
		}
	}
}

// tpmAnswer is an answer that consists of its header.
func tpmAnswer(code uint32) []byte {
	b := binary.BigEndian.AppendUint16(nil, 0x8001) // TPM_ST_NO_SESSIONS
	b = binary.BigEndian.AppendUint32(b, tpmHeader)
	return binary.BigEndian.AppendUint32(b, code)
}

func exchange(host *os.File, command []byte) ([]byte, error) {
	if err := host.SetDeadline(time.Now().Add(tpmNoAnswer)); err != nil {
		return nil, err
	}
	if _, err := host.Write(command); err != nil {
		return nil, err
	}
	answer := make([]byte, tpmLongest)
	if _, err := io.ReadFull(host, answer[:tpmHeader]); err != nil {
		return nil, err
	}
	size := binary.BigEndian.Uint32(answer[2:])
	if size < tpmHeader || size > tpmLongest {
		return nil, fmt.Errorf("an answer of %d bytes", size)
	}
	_, err := io.ReadFull(host, answer[tpmHeader:size])
	return answer[:size], err
}
