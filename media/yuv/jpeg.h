#ifndef VINDU_YUV_JPEG_H
#define VINDU_YUV_JPEG_H
#include <stddef.h>
#include <stdint.h>

enum { VJ_OK = 0, VJ_CORRUPT = 1, VJ_FORMAT = 2, VJ_SHAPE = 3, VJ_MEMORY = 4 };

typedef struct vj vj;

vj *vj_new(void);
void vj_free(vj *d);
/* Size of the picture in data, from its header alone. */
int vj_size(vj *d, const uint8_t *data, size_t len, int max_side, int *w, int *h);
/* Decodes data, scaled to w x h, limited range, into the three planes. */
int vj_decode(vj *d, const uint8_t *data, size_t len, int max_side,
              uint8_t *y, int ys, uint8_t *u, int us, uint8_t *v, int vs, int w, int h);
/* Last libjpeg error or warning code (jerror.h), for messages. */
int vj_code(const vj *d);
/* 8-bit full range to limited range, in place. */
void vj_limit(uint8_t *y, int ys, uint8_t *u, int us, uint8_t *v, int vs, int w, int h);
#endif
