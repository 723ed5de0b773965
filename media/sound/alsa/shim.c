#include "shim.h"

#include <alsa/asoundlib.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_FDS = 8 };

struct vp {
	snd_pcm_t *pcm;
	snd_pcm_uframes_t buffer;
	snd_pcm_uframes_t limit;
	int capture;
};

/* alsa-lib writes to stderr by default; errors are returned and reported by the caller. */
static void quiet(const char *file, int line, const char *function, int err, const char *fmt, ...) {
	(void)file; (void)line; (void)function; (void)err; (void)fmt;
}

static int configure(vp *p, unsigned rate, unsigned period, unsigned buffer) {
	snd_pcm_hw_params_t *hw;
	snd_pcm_sw_params_t *sw;
	snd_pcm_uframes_t frames = buffer, part = period, least, boundary;
	int dir = 0, r;

	snd_pcm_hw_params_alloca(&hw);
	snd_pcm_sw_params_alloca(&sw);
	if ((r = snd_pcm_hw_params_any(p->pcm, hw)) < 0 ||
	    (r = snd_pcm_hw_params_set_access(p->pcm, hw, SND_PCM_ACCESS_RW_INTERLEAVED)) < 0 ||
	    (r = snd_pcm_hw_params_set_format(p->pcm, hw, SND_PCM_FORMAT_S16)) < 0 ||
	    (r = snd_pcm_hw_params_set_channels(p->pcm, hw, 1)) < 0 ||
	    (r = snd_pcm_hw_params_set_rate(p->pcm, hw, rate, 0)) < 0 ||
	    (r = snd_pcm_hw_params_set_period_size_near(p->pcm, hw, &part, &dir)) < 0 ||
	    (r = snd_pcm_hw_params_set_buffer_size_near(p->pcm, hw, &frames)) < 0 ||
	    (r = snd_pcm_hw_params(p->pcm, hw)) < 0 ||
	    (r = snd_pcm_hw_params_get_buffer_size(hw, &p->buffer)) < 0)
		return r;
	/* A card that moves sound in larger pieces must be allowed two of its own. */
	if (snd_pcm_hw_params_get_period_size(hw, &part, &dir) == 0 && p->limit < 2 * part)
		p->limit = 2 * part;
	if (p->limit > p->buffer)
		p->limit = p->buffer;
	least = p->capture ? period : p->buffer - p->limit + period;
	if (least > p->buffer)
		least = p->buffer;
	if ((r = snd_pcm_sw_params_current(p->pcm, sw)) < 0 ||
	    (r = snd_pcm_sw_params_get_boundary(sw, &boundary)) < 0 ||
	    (r = snd_pcm_sw_params_set_avail_min(p->pcm, sw, least)) < 0 ||
	    /* Never by itself: vp_start does. */
	    (r = snd_pcm_sw_params_set_start_threshold(p->pcm, sw, boundary)) < 0 ||
	    (r = snd_pcm_sw_params(p->pcm, sw)) < 0)
		return r;
	return 0;
}

int vp_open(vp **out, const char *name, const char *conf, int capture,
            unsigned rate, unsigned period, unsigned buffer, unsigned limit) {
	snd_pcm_stream_t stream = capture ? SND_PCM_STREAM_CAPTURE : SND_PCM_STREAM_PLAYBACK;
	vp *p = calloc(1, sizeof *p);
	int r;
	if (!p)
		return -ENOMEM;
	p->capture = capture;
	p->limit = limit;
	snd_lib_error_set_handler(quiet);
	if (conf) {
		snd_config_t *top = NULL;
		snd_input_t *in = NULL;
		if ((r = snd_config_top(&top)) >= 0 &&
		    (r = snd_input_buffer_open(&in, conf, (ssize_t)strlen(conf))) >= 0 &&
		    (r = snd_config_load(top, in)) >= 0)
			r = snd_pcm_open_lconf(&p->pcm, name, stream, SND_PCM_NONBLOCK, top);
		if (in)
			snd_input_close(in);
		if (top)
			snd_config_delete(top);
	} else {
		r = snd_pcm_open(&p->pcm, name, stream, SND_PCM_NONBLOCK);
	}
	if (r < 0) {
		free(p);
		return r;
	}
	r = configure(p, rate, period, buffer);
	if (r < 0) {
		vp_close(p);
		return r;
	}
	*out = p;
	return 0;
}

int vp_link(vp *a, vp *b) { return snd_pcm_link(a->pcm, b->pcm); }
int vp_unlink(vp *a) { return snd_pcm_unlink(a->pcm); }

/* An errno that says what became of the card, where alsa-lib only says that the state is wrong. */
static int explain(vp *p, int r) {
	if (r < 0 && r != -EAGAIN && snd_pcm_state(p->pcm) == SND_PCM_STATE_DISCONNECTED)
		return -ENODEV;
	return r;
}

int vp_prepare(vp *p) { return explain(p, snd_pcm_prepare(p->pcm)); }
int vp_start(vp *p) { return explain(p, snd_pcm_start(p->pcm)); }

int vp_read(vp *p, int16_t *samples, unsigned n) {
	return explain(p, (int)snd_pcm_readi(p->pcm, samples, n));
}

int vp_write(vp *p, const int16_t *samples, unsigned n) {
	snd_pcm_sframes_t avail = snd_pcm_avail_update(p->pcm);
	if (avail < 0)
		return explain(p, (int)avail);
	snd_pcm_sframes_t room = avail - (snd_pcm_sframes_t)(p->buffer - p->limit);
	if (room <= 0)
		return -EAGAIN;
	if ((snd_pcm_sframes_t)n > room)
		n = (unsigned)room;
	return explain(p, (int)snd_pcm_writei(p->pcm, samples, n));
}

int vp_delay(vp *p, long *samples) {
	snd_pcm_sframes_t n = 0;
	int r = snd_pcm_delay(p->pcm, &n);
	*samples = n;
	return explain(p, r);
}

int vp_wait(vp *p, int cancel, int milliseconds) {
	struct pollfd fds[MAX_FDS + 1];
	unsigned short events = 0;
	int n = snd_pcm_poll_descriptors_count(p->pcm);
	if (n < 0 || n > MAX_FDS)
		return -EINVAL;
	n = snd_pcm_poll_descriptors(p->pcm, fds, (unsigned)n);
	if (n < 0)
		return explain(p, n);
	fds[n].fd = cancel;
	fds[n].events = POLLIN;
	fds[n].revents = 0;
	int r = poll(fds, (nfds_t)n + 1, milliseconds);
	if (r < 0)
		return errno == EINTR ? 1 : -errno;
	if (fds[n].revents)
		return -ECANCELED;
	if (r == 0)
		return 0;
	/* Some plugins count what poll has seen here; what it was the next read or write will tell. */
	snd_pcm_poll_descriptors_revents(p->pcm, fds, (unsigned)n, &events);
	return 1;
}

void vp_close(vp *p) {
	if (!p)
		return;
	snd_pcm_drop(p->pcm);
	snd_pcm_close(p->pcm);
	free(p);
}
