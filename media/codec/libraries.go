package codec

// #include <opus.h>
// #include <vpx/vpx_codec.h>
// #include <wels/codec_api.h>
import "C"

import "fmt"

// Libraries names the codec libraries that this process runs, with the versions that they give themselves.
func Libraries() []string {
	h264 := C.WelsGetCodecVersion()
	return []string{
		"libvpx " + C.GoString(C.vpx_codec_version_str()),
		fmt.Sprintf("openh264 %d.%d.%d", h264.uMajor, h264.uMinor, h264.uRevision),
		C.GoString(C.opus_get_version_string()),
	}
}
