#ifndef VINDU_OPENH264_H
#define VINDU_OPENH264_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <wels/codec_api.h>

/* The state of one encoder. Lives in C memory, so that no Go pointer is ever kept by the library. */
typedef struct {
  ISVCEncoder *enc;
  SEncParamExt cfg;
  SSourcePicture pic;
  SFrameBSInfo info; /* of the last coded frame; the bytes are the library's */
  size_t size;       /* of all its NAL units */
  int keyframe;
} vindu_h264_encoder;

typedef struct {
  ISVCDecoder *dec;
  SBufferInfo info;
  const uint8_t *y, *u, *v;
  int ystride, cstride;
  int width, height;
} vindu_h264_decoder;

int vindu_h264_encoder_new(vindu_h264_encoder **out, int w, int h, int bitrate, float fps, int threads);
void vindu_h264_encoder_free(vindu_h264_encoder *e);
int vindu_h264_encoder_resize(vindu_h264_encoder *e, int w, int h, int bitrate, float fps);
int vindu_h264_encoder_set_bitrate(vindu_h264_encoder *e, int bitrate);
int vindu_h264_encoder_set_fps(vindu_h264_encoder *e, float fps);
/* Codes one picture; size is 0 afterwards if the rate control dropped it. */
int vindu_h264_encode(vindu_h264_encoder *e, const uint8_t *y, const uint8_t *u, const uint8_t *v,
                      int ystride, int cstride, int64_t ms, int keyframe);
/* Copies the coded frame, in Annex B's byte stream, to out, which has room for size bytes. */
void vindu_h264_encoded(const vindu_h264_encoder *e, uint8_t *out);

int vindu_h264_decoder_new(vindu_h264_decoder **out);
void vindu_h264_decoder_free(vindu_h264_decoder *d);
/* Decodes one access unit; y is NULL afterwards if there is no picture to show. Returns a DECODING_STATE. */
int vindu_h264_decode(vindu_h264_decoder *d, const uint8_t *data, int size);

#endif
