#include "vpx.h"

#include <stdlib.h>
#include <string.h>

int vindu_vp8_encoder_new(vindu_vp8_encoder **out, unsigned w, unsigned h, unsigned kbps,
                          int cpu_used, int error_resilient, int static_threshold, int drop_threshold) {
  vindu_vp8_encoder *e = calloc(1, sizeof(*e));
  if (e == NULL) return VPX_CODEC_MEM_ERROR;
  vpx_codec_err_t err = vpx_codec_enc_config_default(vpx_codec_vp8_cx(), &e->cfg, 0);
  if (err != VPX_CODEC_OK) {
    free(e);
    return err;
  }
  vpx_codec_enc_cfg_t *c = &e->cfg;
  c->g_w = w;
  c->g_h = h;
  c->g_timebase.num = 1;
  c->g_timebase.den = 90000;
  c->g_threads = 1;
  c->g_pass = VPX_RC_ONE_PASS;
  c->g_lag_in_frames = 0;
  c->g_error_resilient = error_resilient ? VPX_ERROR_RESILIENT_DEFAULT : 0;
  c->rc_end_usage = VPX_CBR;
  c->rc_target_bitrate = kbps;
  c->rc_resize_allowed = 0;
  c->rc_dropframe_thresh = drop_threshold;
  c->rc_min_quantizer = 2;
  c->rc_max_quantizer = 63; /* coarse rather than missing: at 56, as libwebrtc has it, a fifth of the pictures of a noisy 720p were dropped */
  c->rc_undershoot_pct = 100;
  c->rc_overshoot_pct = 15;
  c->rc_buf_initial_sz = 500;
  c->rc_buf_optimal_sz = 600;
  c->rc_buf_sz = 1000;
  c->kf_mode = VPX_KF_DISABLED; /* keyframes on request only */

  err = vpx_codec_enc_init(&e->ctx, vpx_codec_vp8_cx(), c, 0);
  if (err != VPX_CODEC_OK) {
    free(e);
    return err;
  }
  if ((err = vpx_codec_control(&e->ctx, VP8E_SET_CPUUSED, cpu_used)) != VPX_CODEC_OK ||
      (err = vpx_codec_control(&e->ctx, VP8E_SET_STATIC_THRESHOLD, (unsigned)static_threshold)) != VPX_CODEC_OK ||
      (err = vpx_codec_control(&e->ctx, VP8E_SET_NOISE_SENSITIVITY, 0u)) != VPX_CODEC_OK ||
      (err = vpx_codec_control(&e->ctx, VP8E_SET_TOKEN_PARTITIONS, VP8_ONE_TOKENPARTITION)) != VPX_CODEC_OK) {
    vindu_vp8_encoder_free(e);
    return err;
  }
  *out = e;
  return VPX_CODEC_OK;
}

void vindu_vp8_encoder_free(vindu_vp8_encoder *e) {
  if (e == NULL) return;
  vpx_codec_destroy(&e->ctx);
  free(e);
}

int vindu_vp8_encoder_set(vindu_vp8_encoder *e, unsigned w, unsigned h, unsigned kbps) {
  vpx_codec_enc_cfg_t cfg = e->cfg;
  cfg.g_w = w;
  cfg.g_h = h;
  cfg.rc_target_bitrate = kbps;
  vpx_codec_err_t err = vpx_codec_enc_config_set(&e->ctx, &cfg);
  if (err == VPX_CODEC_OK) e->cfg = cfg;
  return err;
}

int vindu_vp8_encoder_set_max_intra(vindu_vp8_encoder *e, unsigned percent) {
  return vpx_codec_control(&e->ctx, VP8E_SET_MAX_INTRA_BITRATE_PCT, percent);
}

int vindu_vp8_encode(vindu_vp8_encoder *e, const uint8_t *y, const uint8_t *u, const uint8_t *v,
                     int ystride, int cstride, int64_t pts, unsigned long duration, int keyframe) {
  vpx_image_t *img = vpx_img_wrap(&e->img, VPX_IMG_FMT_I420, e->cfg.g_w, e->cfg.g_h, 1, (unsigned char *)y);
  if (img == NULL) return VPX_CODEC_INVALID_PARAM;
  img->planes[VPX_PLANE_U] = (unsigned char *)u;
  img->planes[VPX_PLANE_V] = (unsigned char *)v;
  img->stride[VPX_PLANE_Y] = ystride;
  img->stride[VPX_PLANE_U] = img->stride[VPX_PLANE_V] = cstride;

  e->data = NULL;
  e->size = 0;
  e->keyframe = 0;
  /* The encoder copies the picture into its own look-ahead buffer before it returns. */
  vpx_codec_err_t err = vpx_codec_encode(&e->ctx, img, pts, duration, keyframe ? VPX_EFLAG_FORCE_KF : 0, VPX_DL_REALTIME);
  memset(&e->img, 0, sizeof(e->img));
  if (err != VPX_CODEC_OK) return err;

  vpx_codec_iter_t iter = NULL;
  const vpx_codec_cx_pkt_t *pkt;
  while ((pkt = vpx_codec_get_cx_data(&e->ctx, &iter)) != NULL) {
    if (pkt->kind != VPX_CODEC_CX_FRAME_PKT) continue;
    e->data = pkt->data.frame.buf;
    e->size = pkt->data.frame.sz;
    e->keyframe = (pkt->data.frame.flags & VPX_FRAME_IS_KEY) != 0;
    break;
  }
  return VPX_CODEC_OK;
}

int vindu_vp8_decoder_new(vindu_vp8_decoder **out) {
  vindu_vp8_decoder *d = calloc(1, sizeof(*d));
  if (d == NULL) return VPX_CODEC_MEM_ERROR;
  vpx_codec_dec_cfg_t cfg = {.threads = 1};
  vpx_codec_err_t err = vpx_codec_dec_init(&d->ctx, vpx_codec_vp8_dx(), &cfg, 0);
  if (err != VPX_CODEC_OK) {
    free(d);
    return err;
  }
  *out = d;
  return VPX_CODEC_OK;
}

void vindu_vp8_decoder_free(vindu_vp8_decoder *d) {
  if (d == NULL) return;
  vpx_codec_destroy(&d->ctx);
  free(d);
}

int vindu_vp8_decode(vindu_vp8_decoder *d, const uint8_t *data, unsigned size) {
  d->y = NULL;
  vpx_codec_err_t err = vpx_codec_decode(&d->ctx, data, size, NULL, 0);
  if (err != VPX_CODEC_OK) return err;
  vpx_codec_iter_t iter = NULL;
  const vpx_image_t *img = vpx_codec_get_frame(&d->ctx, &iter);
  if (img == NULL || img->fmt != VPX_IMG_FMT_I420) return VPX_CODEC_OK;
  d->y = img->planes[VPX_PLANE_Y];
  d->u = img->planes[VPX_PLANE_U];
  d->v = img->planes[VPX_PLANE_V];
  d->ystride = img->stride[VPX_PLANE_Y];
  d->cstride = img->stride[VPX_PLANE_U];
  d->width = img->d_w;
  d->height = img->d_h;
  return VPX_CODEC_OK;
}
