package alsa

// #include <alsa/asoundlib.h>
import "C"

// Library names the sound library that this process runs, with its version.
func Library() string { return "alsa-lib " + C.GoString(C.snd_asoundlib_version()) }
