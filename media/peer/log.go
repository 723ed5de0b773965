package peer

import (
	"strings"
	"sync"

	"github.com/pion/logging"
)

// quiet is pion's logger. It passes no text on, because pion's texts hold addresses, candidates and SDP. It keeps
// the error of a failed start, the only place where pion tells why DTLS failed, and counts the rest.
type quiet struct {
	mu       sync.Mutex
	failed   error
	known    chan struct{} // closed when failed is set
	warnings int
}

func (q *quiet) NewLogger(string) logging.LeveledLogger { return q }

func (q *quiet) warn(format string, args ...any) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.warnings++
	if !strings.HasPrefix(format, "Failed to start manager") {
		return
	}
	for _, a := range args {
		if err, ok := a.(error); ok && q.failed == nil {
			q.failed = err
			close(q.known)
		}
	}
}

func (q *quiet) cause() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.failed
}

func (q *quiet) count() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.warnings
}

func (q *quiet) Trace(string)                      {}
func (q *quiet) Tracef(string, ...any)             {}
func (q *quiet) Debug(string)                      {}
func (q *quiet) Debugf(string, ...any)             {}
func (q *quiet) Info(string)                       {}
func (q *quiet) Infof(string, ...any)              {}
func (q *quiet) Warn(msg string)                   { q.warn(msg) }
func (q *quiet) Warnf(format string, args ...any)  { q.warn(format, args...) }
func (q *quiet) Error(msg string)                  { q.warn(msg) }
func (q *quiet) Errorf(format string, args ...any) { q.warn(format, args...) }
