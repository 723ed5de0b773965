package confine

import "golang.org/x/sys/unix"

// Where a long has 32 bits, times of 64 have calls of their own.
func init() { forbidden = append(forbidden, unix.SYS_CLOCK_SETTIME64, unix.SYS_CLOCK_ADJTIME64) }
