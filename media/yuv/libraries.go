package yuv

/*
#include <stdio.h>
#include <jpeglib.h>
#include <libyuv/version.h>
#define TEXT(x) #x
#define EXPANDED(x) TEXT(x)
#ifdef LIBJPEG_TURBO_VERSION
static const char *vindu_jpeg(void) { return EXPANDED(LIBJPEG_TURBO_VERSION); }
#else
static const char *vindu_jpeg(void) { return "of another make"; }
#endif
static const char *vindu_yuv(void) { return EXPANDED(LIBYUV_VERSION); }
*/
import "C"

// Libraries names the libraries that this package was compiled with. Unlike others they cannot be asked for their versions as they run.
func Libraries() []string {
	return []string{"libyuv " + C.GoString(C.vindu_yuv()), "libjpeg-turbo " + C.GoString(C.vindu_jpeg())}
}
