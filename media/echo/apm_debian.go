//go:build !webrtc1

package echo

/*
#cgo pkg-config: webrtc-audio-processing
*/
import "C"
