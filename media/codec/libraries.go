package codec

// #include <opus.h>
// #include <vpx/vpx_codec.h>
import "C"

// Libraries names the codec libraries that this process runs, with the versions that they give themselves.
func Libraries() []string {
	return []string{"libvpx " + C.GoString(C.vpx_codec_version_str()), C.GoString(C.opus_get_version_string())}
}
