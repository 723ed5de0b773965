#include "host.h"

#include <string.h>

struct host host;

uint32_t panel_board_millis(void) { return host.millis; }

int panel_board_read(void)
{
	if (host.in_size == 0)
		return -1;
	host.in_size--;
	return *host.in++;
}

bool panel_board_write(const uint8_t *frame, uint8_t size)
{
	if (host.out_size + size > host.out_room)
		return false;
	memcpy(host.out + host.out_size, frame, size);
	host.out_size += size;
	return true;
}

bool panel_board_no(void) { return host.no; }
bool panel_board_answer(void) { return host.answer; }
bool panel_board_open(void) { return host.open; }

uint8_t panel_board_knob(uint8_t *light)
{
	*light = host.light;
	return host.knob;
}

void panel_board_camera(bool on) { host.camera = on; }
void panel_board_lamp(bool on) { host.lamp = on; }
void panel_board_alive(void) { host.alive++; }

void host_step(const uint8_t *in, uint32_t size)
{
	host.in = in;
	host.in_size = size;
	host.out_size = 0;
	do
		panel_step();
	while (host.in_size > 0); /* a board's step leaves what is too much to the next */
}
