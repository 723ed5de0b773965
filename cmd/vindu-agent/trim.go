package main

/*
#include <malloc.h>

// The codecs' memory is freed after a call, but glibc keeps it in its arenas.
static void trim(void) {
#ifdef __GLIBC__
	malloc_trim(0);
#endif
}
*/
import "C"

import "runtime/debug"

// giveBack returns what is not used to the system.
func giveBack() {
	debug.FreeOSMemory()
	C.trim()
}
