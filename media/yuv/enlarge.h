#ifndef VINDU_YUV_ENLARGE_H
#define VINDU_YUV_ENLARGE_H

#include <stdint.h>

/* Converts I420 of sw x sh to BGRX and enlarges it to w x h, row by row, so that what lies between stays in the processor's cache. work is
 * 8 * (sw + w) bytes. 0, or the library's error. */
int vindu_enlarge(const uint8_t *y, int ys, const uint8_t *u, int us, const uint8_t *v, int vs, int sw, int sh,
                  uint8_t *dst, int ds, int w, int h, uint8_t *work);

#endif
