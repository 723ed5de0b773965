package cec

import (
	"errors"
	"fmt"
	"math/bits"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Of linux/cec.h.
const (
	opCaps, opPhysical, opClaim, opTransmit = 0, 1, 4, 5

	capLogAddrs, capTransmit = 1 << 1, 1 << 2

	txOK, rxOK = 1, 1

	invalidPhysical = 0xffff
	version14       = 5          // CEC_OP_CEC_VERSION_1_4
	noVendor        = 0xffffffff // CEC_VENDOR_ID_NONE
	answerMS        = 1000       // CEC 9.2: an answer comes within a second

	isPlayback, playbackType, allPlayback = 4, 3, 0x10 // CEC_OP_PRIM_DEVTYPE_PLAYBACK, CEC_LOG_ADDR_TYPE_PLAYBACK, CEC_OP_ALL_DEVTYPE_PLAYBACK

)

type caps struct {
	driver, name                   [32]byte
	available, capabilities, level uint32
}

type logAddrs struct {
	addresses      [4]byte
	mask           uint16
	version, count byte
	vendor, flags  uint32
	name           [15]byte
	primary, types [4]byte
	all            [4]byte
	features       [4][12]byte
	_              byte
}

type message struct {
	sent, received                                 uint64
	length, timeout, sequence, flags               uint32
	bytes                                          [16]byte
	reply                                          byte
	rx, tx                                         byte
	arbitrationLost, notTaken, lowDrive, txErrored byte
	_                                              byte
}

// System is an adapter of the kernel's.
type System struct {
	path string
	fd   int
	here bool // it has a place on the bus
	own  byte // logical address there
}

// OpenSystem opens a device such as /dev/cec0. It says nothing on the bus.
func OpenSystem(path string) (*System, error) {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	s := &System{path: path, fd: fd}
	var c caps
	if err := s.control("read what it can", opCaps, dirRead|dirWrite, unsafe.Pointer(&c), unsafe.Sizeof(c)); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	if c.capabilities&capTransmit == 0 || c.capabilities&capLogAddrs == 0 {
		return nil, errors.Join(fmt.Errorf("%s cannot be told what to say (capabilities %#x): choose another", path, c.capabilities), s.Close())
	}
	return s, nil
}

const dirWrite, dirRead = 1, 2

// control is ioctl(2) with a request of this group.
func (s *System) control(what string, number, direction uintptr, argument unsafe.Pointer, size uintptr) error {
	request := direction<<30 | size<<16 | 'a'<<8 | number
	for {
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(s.fd), request, uintptr(argument))
		switch errno {
		case 0:
			return nil
		case unix.EINTR:
			continue
		case unix.ENONET:
			return fmt.Errorf("%s: %s: %w", s.path, what, ErrNoAddress)
		}
		return fmt.Errorf("%s: %s: %w", s.path, what, errno)
	}
}

// Claim implements Adapter.
func (s *System) Claim() (uint16, error) { return s.claim(isPlayback, playbackType, allPlayback) }

func (s *System) claim(primary, kind, all byte) (uint16, error) {
	var physical uint16
	if err := s.control("read its physical address", opPhysical, dirRead, unsafe.Pointer(&physical), unsafe.Sizeof(physical)); err != nil {
		return 0, err
	}
	if physical == invalidPhysical {
		return 0, fmt.Errorf("%s: %w", s.path, ErrNoAddress)
	}
	var none logAddrs // what another program left
	if err := s.control("leave the bus", opClaim, dirRead|dirWrite, unsafe.Pointer(&none), unsafe.Sizeof(none)); err != nil {
		return 0, err
	}
	place := logAddrs{version: version14, count: 1, vendor: noVendor, primary: [4]byte{primary}, types: [4]byte{kind}, all: [4]byte{all}}
	copy(place.name[:], "Video call")
	if err := s.control("take a place on the bus", opClaim, dirRead|dirWrite, unsafe.Pointer(&place), unsafe.Sizeof(place)); err != nil {
		return 0, err
	}
	if place.mask == 0 {
		return 0, fmt.Errorf("%s: %w", s.path, ErrNoAddress)
	}
	s.own, s.here = byte(bits.TrailingZeros16(place.mask)), true
	return physical, nil
}

// Send implements Adapter.
func (s *System) Send(to Address, op Opcode, operands ...byte) error {
	_, err := s.transmit(to, op, 0, operands)
	return err
}

// Ask implements Adapter.
func (s *System) Ask(op, answer Opcode) ([]byte, error) { return s.transmit(Set, op, answer, nil) }

func (s *System) transmit(to Address, op, answer Opcode, operands []byte) ([]byte, error) {
	if !s.here {
		return nil, fmt.Errorf("%s: %w", s.path, ErrNoAddress)
	}
	m := message{length: uint32(2 + len(operands))}
	if int(m.length) > len(m.bytes) {
		return nil, fmt.Errorf("a message of %d bytes, at most %d", m.length, len(m.bytes))
	}
	m.bytes[0], m.bytes[1] = s.own<<4|byte(to), byte(op)
	copy(m.bytes[2:], operands)
	if answer != 0 {
		m.reply, m.timeout = byte(answer), answerMS
	}
	if err := s.control("send", opTransmit, dirRead|dirWrite, unsafe.Pointer(&m), unsafe.Sizeof(m)); err != nil {
		return nil, err
	}
	if m.tx&txOK == 0 || answer != 0 && (m.rx&rxOK == 0 || m.length < 2 || Opcode(m.bytes[1]) != answer) {
		return nil, fmt.Errorf("%s: message %#02x (sent %#x, answered %#x): %w", s.path, byte(op), m.tx, m.rx, ErrNoAnswer)
	}
	if answer == 0 {
		return nil, nil
	}
	return append([]byte(nil), m.bytes[2:min(int(m.length), len(m.bytes))]...), nil
}

// Close implements Adapter. The place on the bus is given up.
func (s *System) Close() error {
	if s.fd < 0 {
		return nil
	}
	var none logAddrs
	var err error
	if s.here {
		err = s.control("leave the bus", opClaim, dirRead|dirWrite, unsafe.Pointer(&none), unsafe.Sizeof(none))
	}
	fd := s.fd
	s.fd = -1
	return errors.Join(err, unix.Close(fd))
}
