#ifndef VINDU_ALSA_SHIM_H
#define VINDU_ALSA_SHIM_H
#include <stddef.h>
#include <stdint.h>

typedef struct vp vp;

/* All functions return 0 or a count, or a negative errno. */

/* Opens and configures without blocking. conf, if not NULL, defines pcm.<name>, and
 * no configuration file is read. limit bounds what is queued for playback, in frames. */
int vp_open(vp **out, const char *name, const char *conf, int capture,
            unsigned rate, unsigned period, unsigned buffer, unsigned limit);
int vp_link(vp *a, vp *b);
int vp_unlink(vp *a);
int vp_prepare(vp *p);
int vp_start(vp *p);
int vp_read(vp *p, int16_t *samples, unsigned n);
int vp_write(vp *p, const int16_t *samples, unsigned n);
/* How many samples wait to be heard or read. */
int vp_delay(vp *p, long *samples);
/* 1: samples can be moved, or an error waits. 0: time is over. -ECANCELED: cancel is readable. */
int vp_wait(vp *p, int cancel, int milliseconds);
void vp_close(vp *p);
#endif
