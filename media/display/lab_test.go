//go:build lab

package display_test

import (
	"os"
	"testing"

	"vindu/media/display"
	"vindu/media/display/displaytest"
	"vindu/media/display/drm"
)

// TestRealContract runs on the card that VINDU_LAB_DISPLAY names, such as /dev/dri/card0.
func TestRealContract(t *testing.T) {
	path := os.Getenv("VINDU_LAB_DISPLAY")
	if path == "" {
		t.Fatal("VINDU_LAB_DISPLAY does not name a card")
	}
	displaytest.Contract(t, drm.System{}, display.Config{Device: path}, func() int { return displaytest.Held(path) }, nil)
}
