//go:build lab

package cec

import (
	"errors"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Physical returns the address that the cable gives this end.
func (s *System) Physical() (physical uint16, err error) {
	err = s.control("read its physical address", opPhysical, dirRead, unsafe.Pointer(&physical), unsafe.Sizeof(physical))
	return physical, err
}

// BeSet makes a television of this end.
func (s *System) BeSet() error {
	if _, err := s.claim(0, 0, 0x80); err != nil { // CEC_OP_PRIM_DEVTYPE_TV, CEC_LOG_ADDR_TYPE_TV, CEC_OP_ALL_DEVTYPE_TV
		return err
	}
	mode := uint32(1 | 1<<4) // CEC_MODE_INITIATOR | CEC_MODE_FOLLOWER
	return s.control("listen", 9, dirWrite, unsafe.Pointer(&mode), unsafe.Sizeof(mode))
}

// Receive returns what came, nil if nothing did for a while.
func (s *System) Receive() ([]byte, error) {
	m := message{timeout: 200}
	err := s.control("receive", 6, dirRead|dirWrite, unsafe.Pointer(&m), unsafe.Sizeof(m))
	if errors.Is(err, unix.ETIMEDOUT) {
		return nil, nil
	}
	if err != nil || m.tx != 0 || m.length < 2 {
		return nil, err
	}
	return m.bytes[:m.length], nil
}
