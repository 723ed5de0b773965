// The thin shim over WebRTC's audio processing. VINDU_APM1 chooses its interface of 1.x (Buildroot's), else that of 0.3 (Debian's).
#include "apm.h"

#include <new>

#ifdef VINDU_APM1
#include <modules/audio_processing/include/audio_processing.h>
#else
#include <webrtc/common.h>
#include <webrtc/modules/audio_processing/include/audio_processing.h>
#endif

namespace {

constexpr int kRate = 48000;
constexpr int kFrame = kRate / 100;

// Speech is levelled to 6 dB below full scale, and lifted by 12 dB at most: a soft voice across a room comes close to a near one.
constexpr int kTargetBelowFullScale = 6;
constexpr int kMostGain = 12;

webrtc::AudioProcessing *create(bool noise, bool level) {
#ifdef VINDU_APM1
	webrtc::AudioProcessing *apm = webrtc::AudioProcessingBuilder().Create();
	if (!apm)
		return nullptr;
	apm->AddRef();
	webrtc::AudioProcessing::Config c;
	c.high_pass_filter.enabled = true;
	c.echo_canceller.enabled = true;
	c.noise_suppression.enabled = noise;
	c.noise_suppression.level = webrtc::AudioProcessing::Config::NoiseSuppression::kModerate;
	c.gain_controller1.enabled = level;
	c.gain_controller1.mode = webrtc::AudioProcessing::Config::GainController1::kAdaptiveDigital;
	c.gain_controller1.target_level_dbfs = kTargetBelowFullScale;
	c.gain_controller1.compression_gain_db = kMostGain;
	c.gain_controller1.enable_limiter = true;
	apm->ApplyConfig(c);
	return apm;
#else
	webrtc::Config extra;
	// The filter of 48 ms, since the echo's delay is found outside: in a generated room it takes 64 dB off at moderate
	// suppression, and 2 dB off the near end when both speak. The extended one of 128 ms takes 40 dB off, and 4.
	extra.Set<webrtc::ExtendedFilter>(new webrtc::ExtendedFilter(false));
	// Both sides come frame by frame; that the library's buffer follows reported delays would only shift them (44 dB instead of 64).
	extra.Set<webrtc::DelayAgnostic>(new webrtc::DelayAgnostic(true));
	webrtc::AudioProcessing *apm = webrtc::AudioProcessing::Create(extra);
	if (!apm)
		return nullptr;
	bool ok = apm->high_pass_filter()->Enable(true) == 0 &&
	          apm->echo_cancellation()->enable_drift_compensation(false) == 0 &&
	          apm->echo_cancellation()->set_suppression_level(webrtc::EchoCancellation::kModerateSuppression) == 0 &&
	          apm->echo_cancellation()->Enable(true) == 0 &&
	          apm->noise_suppression()->set_level(webrtc::NoiseSuppression::kModerate) == 0 &&
	          apm->noise_suppression()->Enable(noise) == 0 &&
	          apm->gain_control()->set_mode(webrtc::GainControl::kAdaptiveDigital) == 0 &&
	          apm->gain_control()->set_target_level_dbfs(kTargetBelowFullScale) == 0 &&
	          apm->gain_control()->set_compression_gain_db(kMostGain) == 0 &&
	          apm->gain_control()->enable_limiter(true) == 0 &&
	          apm->gain_control()->Enable(level) == 0;
	if (!ok) {
		delete apm;
		return nullptr;
	}
	return apm;
#endif
}

void destroy(webrtc::AudioProcessing *apm) {
#ifdef VINDU_APM1
	apm->Release();
#else
	delete apm;
#endif
}

}  // namespace

struct ve {
	webrtc::AudioProcessing *apm;
	float near[kFrame], far[kFrame], out[kFrame];
};

ve *ve_new(int noise, int level) {
	ve *e = new (std::nothrow) ve();
	if (!e)
		return nullptr;
	try {
		e->apm = create(noise != 0, level != 0);
	} catch (...) {
		e->apm = nullptr;
	}
	if (!e->apm) {
		delete e;
		return nullptr;
	}
	return e;
}

int ve_process(ve *e, const int16_t *far, int16_t *near) {
	const webrtc::StreamConfig format(kRate, 1);
	for (int i = 0; i < kFrame; i++) {
		e->far[i] = far[i] * (1.0f / 32768);
		e->near[i] = near[i] * (1.0f / 32768);
	}
	const float *in = e->far;
	float *out = e->out;
	try {
		int rc = e->apm->ProcessReverseStream(&in, format, format, &out);
		if (rc < 0)
			return rc;
		e->apm->set_stream_delay_ms(0);
		in = e->near;
		rc = e->apm->ProcessStream(&in, format, format, &out);
		if (rc < 0)
			return rc;
	} catch (...) {
		return -1;
	}
	for (int i = 0; i < kFrame; i++) {
		float v = e->out[i] * 32768;
		near[i] = v > 32767 ? 32767 : v < -32768 ? -32768 : (int16_t)(v < 0 ? v - 0.5f : v + 0.5f);
	}
	return 0;
}

void ve_free(ve *e) {
	if (!e)
		return;
	destroy(e->apm);
	delete e;
}
