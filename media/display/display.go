// Package display composes scenes and moving pictures and shows them on a screen.
//
// A Device is a screen: DRM/KMS (OpenDRM) or memory (NewMemory). A Display puts onto it, from
// the bottom up: the scene (what the panel or the program has drawn, opaque), the
// far picture (the other party) and the self picture (what the camera sees, as in a mirror).
// Moving pictures are scaled into their rectangle with their aspect ratio kept; what is left of the
// far rectangle is black, what is left of the self rectangle shows what lies below. As long as there
// is no picture, the scene is seen in its place.
//
// Far, Self and SetScene copy what they are given and return at once; Run paints. Between two
// paintings only the newest picture counts: a slow screen loses pictures and never holds anyone up.
// Nothing is allocated for a frame. All methods of Display are safe for concurrent use.
//
// When a rectangle becomes empty its picture is forgotten, so that the face of one
// call cannot be seen in the next.
package display

import (
	"errors"
	"image"
)

var (
	// ErrNotFound: there is no such screen, or none is connected.
	ErrNotFound = errors.New("no screen found")
	// ErrBusy: another program has the screen (DRM master).
	ErrBusy = errors.New("screen is in use by another program")
	// ErrUnsupported: the device cannot show plain pictures, or refused the mode.
	ErrUnsupported = errors.New("screen is not supported")
	// ErrGone: the screen's device was removed.
	ErrGone = errors.New("screen was disconnected")
	// ErrClosed: the Device or Display was closed.
	ErrClosed = errors.New("screen is closed")
)

// Device is a screen of fixed size. Only one goroutine may call its methods, but for Close.
type Device interface {
	// Size returns width and height in pixels.
	Size() (w, h int)
	// Frame returns the memory to paint the next picture in: BGRX (see package yuv), stride bytes
	// for each row. age says how old its content is: 0 is undefined, 1 is what was
	// presented last, 2 what was presented before that, and so on. Each Frame is followed by a Present.
	Frame() (pix []byte, stride, age int)
	// Present shows that memory. dirty is what differs from the picture presented last.
	// It may wait for the screen, at most a second. Errors wrap ErrGone or ErrClosed.
	Present(dirty []image.Rectangle) error
	// Close gives the screen back, and the memory of Frame. It may be called more than once, from any goroutine, but
	// not between Frame and Present.
	Close() error
}
