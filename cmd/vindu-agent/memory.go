package main

/*
#include <malloc.h>

// The codecs' pictures are large and live as long as a call. By default glibc keeps a heap for each thread, and after the first large
// free puts later large blocks into those heaps, where they stay after the call. One heap, and a fixed threshold above which
// a block is mapped by itself, give a call's memory back when it ends.
static void tune(void) {
#ifdef M_ARENA_MAX
	mallopt(M_ARENA_MAX, 1);
	mallopt(M_MMAP_THRESHOLD, 64 << 10);
	mallopt(M_TRIM_THRESHOLD, 128 << 10);
#endif
}

static void trim(void) {
#ifdef __GLIBC__
	malloc_trim(0);
#endif
}
*/
import "C"

import "runtime/debug"

// gcPercent lets the heap grow by less than Go's 100 % before it is collected: most of it are pictures that stay, and the media
// path does not allocate.
const gcPercent = 10

// tuneMemory has the allocators hold on to little; called once, before there are threads that allocate.
func tuneMemory() {
	C.tune()
	debug.SetGCPercent(gcPercent)
}

// giveBack returns what is not used to the system, after a call.
func giveBack() {
	debug.FreeOSMemory()
	C.trim()
}
