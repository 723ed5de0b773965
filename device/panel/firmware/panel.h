/* The panel of a terminal: buttons, shutter, lamps, and the power of the camera.
 *
 * panel.c is the whole logic, and portable C99: no heap, nothing of a C library but string.h, no interrupts of its own. A board gives it the ten functions
 * below, calls panel_begin once and panel_step for ever, at least every 5 ms. docs/panel.md says what goes over the line.
 *
 * What a board has to see to, because no logic can:
 *  - Camera and light hang on one switched supply, so that neither is on without the other.
 *  - That supply is off while the microcontroller is in reset, and when its pin is not driven.
 *  - A watchdog in hardware resets the microcontroller when panel_board_alive is not called for 250 ms.
 *  - The shutter's sensor reads "closed" when it is unplugged or its supply fails.
 */
#ifndef VINDU_PANEL_H
#define VINDU_PANEL_H

#include <stdbool.h>
#include <stdint.h>

#define PANEL_FIRMWARE 1

/* Milliseconds; they may begin anywhere and wrap around. */
uint32_t panel_board_millis(void);
/* The next byte that was received, or -1. It does not block. */
int panel_board_read(void);
/* Sends all of a frame without blocking and returns true, or nothing of it and returns false. */
bool panel_board_write(const uint8_t *frame, uint8_t size);
/* The buttons, as they are now, bouncing. */
bool panel_board_no(void);
bool panel_board_answer(void);
/* True only if the sensor proves that the shutter is open. */
bool panel_board_open(void);
/* The knob in percent, and in *light how bright the room is, from 0. */
uint8_t panel_board_knob(uint8_t *light);
/* Switches the supply of the camera and its light. Called in every step. */
void panel_board_camera(bool on);
/* Switches the call lamp. Called in every step. */
void panel_board_lamp(bool on);
/* Feeds the watchdog. Called at the end of every step. */
void panel_board_alive(void);

void panel_begin(void);
void panel_step(void);

#endif
