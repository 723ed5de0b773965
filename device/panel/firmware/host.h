/* A board that is a program: panel.c on the machine that tests it. */
#ifndef VINDU_PANEL_HOST_H
#define VINDU_PANEL_HOST_H

#include "panel.h"

struct host {
	uint32_t millis;
	bool no, answer, open;
	uint8_t knob, light;
	bool camera, lamp;
	uint32_t alive;

	const uint8_t *in;
	uint32_t in_size;
	uint8_t out[512];
	uint32_t out_size, out_room;
};

extern struct host host;

/* panel_step with these bytes received. */
void host_step(const uint8_t *in, uint32_t size);

#endif
