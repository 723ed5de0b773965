//go:build cgo

// Package firmware is the panel's reference firmware: panel.c and panel.h are for a microcontroller, and this package runs the same panel.c on the machine that
// tests it, under the contract that the simulator is held to, too (package paneltest).
//
// A board needs panel.h's ten functions and nothing else; the header says what its wires have to see to.
package firmware

/*
#include <stdlib.h>
#include "host.h"
*/
import "C"

import (
	"sync"
	"unsafe"

	"vindu/device/panel/simulator"
)

// busy is held while there is a Panel: the firmware is one for each microcontroller.
var busy sync.Mutex

// Panel is panel.c on a board that is a program. There is one at a time; it is not safe for concurrent use.
type Panel struct{ once sync.Once }

var _ simulator.Logic = (*Panel)(nil)

// New starts the firmware, and waits until nobody else uses it. Release gives it back.
func New() *Panel {
	busy.Lock()
	C.host = C.struct_host{}
	C.panel_begin()
	return new(Panel)
}

// Release gives the firmware back.
func (p *Panel) Release() { p.once.Do(busy.Unlock) }

// Step implements simulator.Logic.
func (p *Panel) Step(now uint32, in simulator.Inputs, received []byte) (simulator.Outputs, []byte) {
	h := &C.host
	h.millis, h.no, h.answer, h.open = C.uint32_t(now), C.bool(in.No), C.bool(in.Answer), C.bool(in.Open)
	h.knob, h.light, h.out_room = C.uint8_t(in.Volume), C.uint8_t(in.Light), C.uint32_t(len(h.out))
	if in.Full {
		h.out_room = 0
	}
	copied := C.CBytes(received)
	defer C.free(copied)
	C.host_step((*C.uint8_t)(copied), C.uint32_t(len(received)))
	return simulator.Outputs{Camera: bool(h.camera), Lamp: bool(h.lamp)}, C.GoBytes(unsafe.Pointer(&h.out[0]), C.int(h.out_size))
}
