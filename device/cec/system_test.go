package cec

import (
	"testing"
	"unsafe"
)

// TestStructures: sizes and places are those of linux/cec.h, on 32 bits too.
func TestStructures(t *testing.T) {
	for name, sizes := range map[string][2]uintptr{
		"cec_caps":                 {unsafe.Sizeof(caps{}), 76},
		"cec_log_addrs":            {unsafe.Sizeof(logAddrs{}), 92},
		"cec_msg":                  {unsafe.Sizeof(message{}), 56},
		"cec_log_addrs.osd_name":   {unsafe.Offsetof(logAddrs{}.name), 16},
		"cec_log_addrs.features":   {unsafe.Offsetof(logAddrs{}.features), 43},
		"cec_msg.msg":              {unsafe.Offsetof(message{}.bytes), 32},
		"cec_msg.reply":            {unsafe.Offsetof(message{}.reply), 48},
		"cec_msg.tx_status":        {unsafe.Offsetof(message{}.tx), 50},
		"cec_log_addrs.log_addr_m": {unsafe.Offsetof(logAddrs{}.mask), 4},
	} {
		if sizes[0] != sizes[1] {
			t.Errorf("%s: %d, want %d", name, sizes[0], sizes[1])
		}
	}
}
