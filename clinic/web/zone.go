package web

import (
	"sync/atomic"
	"time"
)

var clock atomic.Pointer[time.Location]

// SetZone has all pages of the program say times in a zone: the clinic's. It is the server's own otherwise, which on a server that keeps UTC puts calls of the evening's end on
// the wrong day.
func SetZone(l *time.Location) { clock.Store(l) }

// local is a time by the clinic's clock.
func local(t time.Time) time.Time { return t.In(zone()) }

func zone() *time.Location {
	if l := clock.Load(); l != nil {
		return l
	}
	return time.Local
}
