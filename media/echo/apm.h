#ifndef VINDU_ECHO_APM_H
#define VINDU_ECHO_APM_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* One canceller for 48 kHz, one channel, frames of 480 samples. */
typedef struct ve ve;

/* NULL if there is no memory. noise and level say whether noise is suppressed and the level is kept. */
ve *ve_new(int noise, int level);
/* Cleans near in place; far is what the loudspeaker played, its echo in near begins within 20 ms. 0, or the library's error,
 * which is negative; near is then as it was. */
int ve_process(ve *e, const int16_t *far, int16_t *near);
void ve_free(ve *e);

#ifdef __cplusplus
}
#endif

#endif
