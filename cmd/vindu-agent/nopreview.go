//go:build !preview

package main

import (
	"context"
	"errors"
	"log/slog"

	"vindu/device/agent"
	"vindu/device/screen"
	"vindu/media/display"
)

// preview is not in this program: a terminal in a home listens on nothing.
type preview struct{}

func openPreview(listen, _ string, _ *display.Memory, _ *devices, _ *tap, _ *slog.Logger) (*preview, error) {
	if listen != "" {
		return nil, errors.New("preview.listen: this program has no preview: build it with \"go build -tags preview\", or take the key out of the configuration")
	}
	return nil, nil
}

func (*preview) address() string           { return "" }
func (*preview) run(context.Context) error { return nil }
func (*preview) show(screen.Scene)         {}
func (*preview) use(*agent.Agent)          {}
func (*preview) button() string            { return "" }

func (*preview) awaitPress(context.Context) error {
	return errors.New("there is no page with a button")
}
