#ifndef VINDU_VPX_H
#define VINDU_VPX_H

#include <stddef.h>
#include <stdint.h>
#include <vpx/vp8cx.h>
#include <vpx/vp8dx.h>
#include <vpx/vpx_decoder.h>
#include <vpx/vpx_encoder.h>

/* The state of one encoder. Lives in C memory, so that no Go pointer is ever kept by the library. */
typedef struct {
  vpx_codec_ctx_t ctx;
  vpx_codec_enc_cfg_t cfg;
  vpx_image_t img;
  const uint8_t *data; /* the last coded frame, owned by the library */
  size_t size;
  int keyframe;
} vindu_vp8_encoder;

typedef struct {
  vpx_codec_ctx_t ctx;
  const uint8_t *y, *u, *v;
  int ystride, cstride;
  int width, height;
} vindu_vp8_decoder;

int vindu_vp8_encoder_new(vindu_vp8_encoder **out, unsigned w, unsigned h, unsigned kbps,
                          int cpu_used, int error_resilient, int static_threshold, int drop_threshold);
void vindu_vp8_encoder_free(vindu_vp8_encoder *e);
/* Applies size and bitrate; cheap if only the bitrate differs. */
int vindu_vp8_encoder_set(vindu_vp8_encoder *e, unsigned w, unsigned h, unsigned kbps);
int vindu_vp8_encoder_set_max_intra(vindu_vp8_encoder *e, unsigned percent);
int vindu_vp8_encode(vindu_vp8_encoder *e, const uint8_t *y, const uint8_t *u, const uint8_t *v,
                     int ystride, int cstride, int64_t pts, unsigned long duration, int keyframe);

int vindu_vp8_decoder_new(vindu_vp8_decoder **out);
void vindu_vp8_decoder_free(vindu_vp8_decoder *d);
/* Decodes one frame; y is NULL afterwards if there is no picture to show. */
int vindu_vp8_decode(vindu_vp8_decoder *d, const uint8_t *data, unsigned size);

#endif
