package main

/*
#include <sys/prctl.h>

// By default a thread that sleeps is woken within 50 µs of the time it asked for. Go's system monitor asks for 20 µs as long as it finds
// threads in C, which in a call is always: thousands of wake-ups a second, a fifth of the terminal's processor. It waits as long
// as the kernel may let it wait, and nothing here is worse for a millisecond: sound goes by its card's clock, and what is paced leaves in bursts of packets.
//
// A new thread has the slack of the one that made it (prctl(2), PR_SET_TIMERSLACK), and the monitor is made before main: so it is set
// before Go begins.
__attribute__((constructor)) static void slack(void) { prctl(PR_SET_TIMERSLACK, 1000000UL, 0, 0, 0); }
*/
import "C"
