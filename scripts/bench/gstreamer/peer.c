/* The peer that vindu is measured beside: GStreamer's webrtcbin doing the terminal's work in a call.
 *
 *   peer WIDTH HEIGHT FPS BITRATE SCREENWIDTH SCREENHEIGHT <offer >answer
 *
 * It reads an SDP offer from standard input up to a NUL byte, writes its answer with all candidates and a NUL byte to
 * standard output, then sends a test picture (VP8) and test sound (Opus), decodes what it receives, and scales the
 * picture to a screen's pixels as the terminal does. It runs until standard input closes. */
#define GST_USE_UNSTABLE_API
#include <glib-unix.h>
#include <gst/gst.h>
#include <gst/sdp/sdp.h>
#include <gst/webrtc/webrtc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static GMainLoop *loop;
static GstElement *pipeline, *webrtc;
static int screen_width, screen_height;

static void die(const char *what) {
	fprintf(stderr, "gstreamer peer: %s\n", what);
	exit(1);
}

static void on_gathering(GstElement *w, GParamSpec *spec, gpointer data) {
	(void)spec, (void)data;
	GstWebRTCICEGatheringState state;
	g_object_get(w, "ice-gathering-state", &state, NULL);
	if (state != GST_WEBRTC_ICE_GATHERING_STATE_COMPLETE)
		return;
	GstWebRTCSessionDescription *d = NULL;
	g_object_get(w, "local-description", &d, NULL);
	if (!d)
		die("no local description");
	gchar *text = gst_sdp_message_as_text(d->sdp);
	fwrite(text, 1, strlen(text) + 1, stdout);
	fflush(stdout);
	g_free(text);
	gst_webrtc_session_description_free(d);
}

static void on_answer(GstPromise *p, gpointer data) {
	(void)data;
	GstWebRTCSessionDescription *answer = NULL;
	gst_structure_get(gst_promise_get_reply(p), "answer", GST_TYPE_WEBRTC_SESSION_DESCRIPTION, &answer, NULL);
	gst_promise_unref(p);
	if (!answer)
		die("no answer");
	g_signal_emit_by_name(webrtc, "set-local-description", answer, NULL);
	gst_webrtc_session_description_free(answer);
}

static void on_offer_set(GstPromise *p, gpointer data) {
	(void)data;
	gst_promise_unref(p);
	g_signal_emit_by_name(webrtc, "create-answer", NULL, gst_promise_new_with_change_func(on_answer, NULL, NULL));
}

static void on_pad(GstElement *w, GstPad *pad, gpointer data) {
	(void)w, (void)data;
	if (GST_PAD_DIRECTION(pad) != GST_PAD_SRC)
		return;
	GstCaps *caps = gst_pad_get_current_caps(pad);
	const gchar *media = gst_structure_get_string(gst_caps_get_structure(caps, 0), "media");
	gchar *description = g_strcmp0(media, "video") == 0
		? g_strdup_printf("queue ! rtpvp8depay ! vp8dec ! videoconvertscale add-borders=true ! video/x-raw,format=BGRx,width=%d,height=%d ! fakesink sync=false", screen_width, screen_height)
		: g_strdup("queue ! rtpopusdepay ! opusdec ! audioconvert ! audioresample ! audio/x-raw,rate=48000,channels=1 ! fakesink sync=false");
	GError *err = NULL;
	GstElement *bin = gst_parse_bin_from_description(description, TRUE, &err);
	g_free(description);
	gst_caps_unref(caps);
	if (!bin)
		die(err->message);
	gst_bin_add(GST_BIN(pipeline), bin);
	gst_element_sync_state_with_parent(bin);
	GstPad *sink = gst_element_get_static_pad(bin, "sink");
	if (gst_pad_link(pad, sink) != GST_PAD_LINK_OK)
		die("cannot link what is received");
	gst_object_unref(sink);
}

static gboolean on_stdin(gint fd, GIOCondition cond, gpointer data) {
	(void)cond, (void)data;
	char c;
	if (read(fd, &c, 1) <= 0)
		g_main_loop_quit(loop);
	return TRUE;
}

int main(int argc, char **argv) {
	gst_init(&argc, &argv);
	if (argc != 7)
		die("peer WIDTH HEIGHT FPS BITRATE SCREENWIDTH SCREENHEIGHT");
	screen_width = atoi(argv[5]), screen_height = atoi(argv[6]);
	static char offer[65536];
	size_t n = 0;
	while (n < sizeof offer - 1 && read(0, offer + n, 1) == 1 && offer[n])
		n++;
	gchar *description = g_strdup_printf(
		"webrtcbin name=w bundle-policy=max-bundle latency=60 "
		"audiotestsrc is-live=true wave=ticks ! audio/x-raw,rate=48000,channels=1 ! opusenc bitrate=32000 inband-fec=true ! rtpopuspay pt=111 ! "
		"application/x-rtp,media=audio,encoding-name=OPUS,payload=111 ! w. "
		"videotestsrc is-live=true ! video/x-raw,format=I420,width=%s,height=%s,framerate=%s/1 ! queue max-size-buffers=1 leaky=downstream ! "
		"vp8enc deadline=1 cpu-used=-10 threads=1 end-usage=cbr target-bitrate=%s keyframe-max-dist=9000 error-resilient=default lag-in-frames=0 static-threshold=1 ! "
		"rtpvp8pay pt=96 picture-id-mode=15-bit ! application/x-rtp,media=video,encoding-name=VP8,payload=96 ! w.",
		argv[1], argv[2], argv[3], argv[4]);
	GError *err = NULL;
	pipeline = gst_parse_launch(description, &err);
	if (!pipeline)
		die(err->message);
	webrtc = gst_bin_get_by_name(GST_BIN(pipeline), "w");
	g_signal_connect(webrtc, "pad-added", G_CALLBACK(on_pad), NULL);
	g_signal_connect(webrtc, "notify::ice-gathering-state", G_CALLBACK(on_gathering), NULL);
	gst_element_set_state(pipeline, GST_STATE_PLAYING);

	GstSDPMessage *sdp;
	if (gst_sdp_message_new_from_text(offer, &sdp) != GST_SDP_OK)
		die("the offer is not an SDP message");
	GstWebRTCSessionDescription *remote = gst_webrtc_session_description_new(GST_WEBRTC_SDP_TYPE_OFFER, sdp);
	g_signal_emit_by_name(webrtc, "set-remote-description", remote, gst_promise_new_with_change_func(on_offer_set, NULL, NULL));
	loop = g_main_loop_new(NULL, FALSE);
	g_unix_fd_add(0, G_IO_IN | G_IO_HUP, on_stdin, NULL);
	g_main_loop_run(loop);
	gst_element_set_state(pipeline, GST_STATE_NULL);
	return 0;
}
