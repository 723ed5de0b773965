//go:build webrtc1

package echo

/*
#cgo pkg-config: webrtc-audio-processing-1
#cgo CXXFLAGS: -std=c++17 -DVINDU_APM1
*/
import "C"
