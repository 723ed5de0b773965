#include "openh264.h"

#include <stdlib.h>
#include <string.h>

int vindu_h264_encoder_new(vindu_h264_encoder **out, int w, int h, int bitrate, float fps, int threads) {
  vindu_h264_encoder *e = calloc(1, sizeof(*e));
  if (e == NULL) return cmMallocMemeError;
  int rc = WelsCreateSVCEncoder(&e->enc);
  if (rc != 0 || e->enc == NULL) {
    free(e);
    return rc != 0 ? rc : cmInitParaError;
  }
  int level = WELS_LOG_QUIET;
  (*e->enc)->SetOption(e->enc, ENCODER_OPTION_TRACE_LEVEL, &level);
  SEncParamExt *c = &e->cfg;
  if ((rc = (*e->enc)->GetDefaultParams(e->enc, c)) != 0) {
    vindu_h264_encoder_free(e);
    return rc;
  }
  c->iUsageType = CAMERA_VIDEO_REAL_TIME;
  c->iPicWidth = w;
  c->iPicHeight = h;
  c->iTargetBitrate = bitrate;
  c->iMaxBitrate = UNSPECIFIED_BIT_RATE;
  c->fMaxFrameRate = fps;
  c->iRCMode = RC_BITRATE_MODE;
  c->bEnableFrameSkip = true;
  c->iMinQp = 12; /* the library's own floor, under which nothing is seen */
  c->iMaxQp = 51; /* coarse rather than missing; the default ends at 42 */
  c->iTemporalLayerNum = 1;
  c->iSpatialLayerNum = 1;
  c->uiIntraPeriod = 0; /* keyframes on request only */
  c->bEnableSceneChangeDetect = false;
  c->iNumRefFrame = 1;
  c->eSpsPpsIdStrategy = CONSTANT_ID;
  c->iComplexityMode = LOW_COMPLEXITY;
  c->iEntropyCodingModeFlag = 0; /* CAVLC: constrained baseline */
  c->iMultipleThreadIdc = (unsigned short)threads;
  c->bEnableDenoise = false;
  c->bEnableAdaptiveQuant = false;
  c->bEnableBackgroundDetection = true;
  c->bEnableLongTermReference = false;
  SSpatialLayerConfig *l = &c->sSpatialLayers[0];
  l->iVideoWidth = w;
  l->iVideoHeight = h;
  l->fFrameRate = fps;
  l->iSpatialBitrate = bitrate;
  l->iMaxSpatialBitrate = UNSPECIFIED_BIT_RATE;
  l->uiProfileIdc = PRO_BASELINE;
  // What the pictures' numbers mean (ITU-T H.264 E.2.1): BT.601, of limited range, as the whole of package yuv has it. Left to guess, Chromium takes BT.709 since version 156.
  l->bVideoSignalTypePresent = true;
  l->uiVideoFormat = VF_UNDEF;
  l->bFullRange = false;
  l->bColorDescriptionPresent = true;
  l->uiColorPrimaries = CP_SMPTE170M;
  l->uiTransferCharacteristics = TRC_SMPTE170M;
  l->uiColorMatrix = CM_SMPTE170M;
  l->sSliceArgument.uiSliceMode = threads > 1 ? SM_FIXEDSLCNUM_SLICE : SM_SINGLE_SLICE;
  l->sSliceArgument.uiSliceNum = (unsigned)threads;
  if ((rc = (*e->enc)->InitializeExt(e->enc, c)) != 0) {
    vindu_h264_encoder_free(e);
    return rc;
  }
  *out = e;
  return 0;
}

void vindu_h264_encoder_free(vindu_h264_encoder *e) {
  if (e == NULL) return;
  (*e->enc)->Uninitialize(e->enc);
  WelsDestroySVCEncoder(e->enc);
  free(e);
}

int vindu_h264_encoder_resize(vindu_h264_encoder *e, int w, int h, int bitrate, float fps) {
  SEncParamExt c = e->cfg;
  c.iPicWidth = c.sSpatialLayers[0].iVideoWidth = w;
  c.iPicHeight = c.sSpatialLayers[0].iVideoHeight = h;
  c.iTargetBitrate = c.sSpatialLayers[0].iSpatialBitrate = bitrate;
  c.fMaxFrameRate = c.sSpatialLayers[0].fFrameRate = fps;
  int rc = (*e->enc)->SetOption(e->enc, ENCODER_OPTION_SVC_ENCODE_PARAM_EXT, &c);
  if (rc == 0) e->cfg = c;
  return rc;
}

int vindu_h264_encoder_set_bitrate(vindu_h264_encoder *e, int bitrate) {
  SBitrateInfo b = {.iLayer = SPATIAL_LAYER_ALL, .iBitrate = bitrate};
  return (*e->enc)->SetOption(e->enc, ENCODER_OPTION_BITRATE, &b);
}

int vindu_h264_encoder_set_fps(vindu_h264_encoder *e, float fps) {
  return (*e->enc)->SetOption(e->enc, ENCODER_OPTION_FRAME_RATE, &fps);
}

int vindu_h264_encode(vindu_h264_encoder *e, const uint8_t *y, const uint8_t *u, const uint8_t *v,
                      int ystride, int cstride, int64_t ms, int keyframe) {
  e->size = 0;
  e->keyframe = 0;
  int rc;
  if (keyframe && (rc = (*e->enc)->ForceIntraFrame(e->enc, true)) != 0) return rc;
  SSourcePicture *p = &e->pic;
  p->iColorFormat = videoFormatI420;
  p->iPicWidth = e->cfg.iPicWidth;
  p->iPicHeight = e->cfg.iPicHeight;
  p->iStride[0] = ystride;
  p->iStride[1] = p->iStride[2] = cstride;
  p->pData[0] = (unsigned char *)y;
  p->pData[1] = (unsigned char *)u;
  p->pData[2] = (unsigned char *)v;
  p->uiTimeStamp = ms;
  /* The encoder copies the picture into its own before it returns. */
  rc = (*e->enc)->EncodeFrame(e->enc, p, &e->info);
  memset(p, 0, sizeof(*p));
  if (rc != cmResultSuccess) return rc;
  if (e->info.eFrameType == videoFrameTypeSkip || e->info.eFrameType == videoFrameTypeInvalid) return 0;
  e->keyframe = e->info.eFrameType == videoFrameTypeIDR;
  for (int i = 0; i < e->info.iLayerNum; i++) {
    const SLayerBSInfo *l = &e->info.sLayerInfo[i];
    for (int n = 0; n < l->iNalCount; n++) e->size += (size_t)l->pNalLengthInByte[n];
  }
  return 0;
}

void vindu_h264_encoded(const vindu_h264_encoder *e, uint8_t *out) {
  for (int i = 0; i < e->info.iLayerNum; i++) {
    const SLayerBSInfo *l = &e->info.sLayerInfo[i];
    size_t size = 0; /* a layer's NAL units lie one behind the other */
    for (int n = 0; n < l->iNalCount; n++) size += (size_t)l->pNalLengthInByte[n];
    memcpy(out, l->pBsBuf, size);
    out += size;
  }
}

int vindu_h264_decoder_new(vindu_h264_decoder **out) {
  vindu_h264_decoder *d = calloc(1, sizeof(*d));
  if (d == NULL) return cmMallocMemeError;
  long rc = WelsCreateDecoder(&d->dec);
  if (rc != 0 || d->dec == NULL) {
    free(d);
    return rc != 0 ? (int)rc : cmInitParaError;
  }
  int level = WELS_LOG_QUIET;
  (*d->dec)->SetOption(d->dec, DECODER_OPTION_TRACE_LEVEL, &level);
  SDecodingParam c = {0};
  c.uiTargetDqLayer = 0xff;
  c.eEcActiveIdc = ERROR_CON_DISABLE; /* a damaged picture is asked for again, not made up */
  c.sVideoProperty.size = sizeof(c.sVideoProperty);
  c.sVideoProperty.eVideoBsType = VIDEO_BITSTREAM_AVC;
  if ((rc = (*d->dec)->Initialize(d->dec, &c)) != 0) {
    WelsDestroyDecoder(d->dec);
    free(d);
    return (int)rc;
  }
  *out = d;
  return 0;
}

void vindu_h264_decoder_free(vindu_h264_decoder *d) {
  if (d == NULL) return;
  (*d->dec)->Uninitialize(d->dec);
  WelsDestroyDecoder(d->dec);
  free(d);
}

int vindu_h264_decode(vindu_h264_decoder *d, const uint8_t *data, int size) {
  unsigned char *planes[3] = {0};
  d->y = NULL;
  memset(&d->info, 0, sizeof(d->info));
  int state = (int)(*d->dec)->DecodeFrameNoDelay(d->dec, data, size, planes, &d->info);
  if (state != dsErrorFree || d->info.iBufferStatus != 1 || planes[0] == NULL) return state;
  const SSysMEMBuffer *b = &d->info.UsrData.sSystemBuffer;
  if (b->iFormat != videoFormatI420) return state;
  d->y = planes[0];
  d->u = planes[1];
  d->v = planes[2];
  d->ystride = b->iStride[0];
  d->cstride = b->iStride[1];
  d->width = b->iWidth;
  d->height = b->iHeight;
  return state;
}
