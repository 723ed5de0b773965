package screen

import (
	"context"
	"image"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"vindu/device/progress"
)

// stuckDisplay takes no scene while stuck is full.
type stuckDisplay struct{ stuck chan struct{} }

func (stuckDisplay) Size() (w, h int) { return 320, 240 }
func (d stuckDisplay) SetScene(*image.RGBA, image.Rectangle, image.Rectangle, ...image.Rectangle) error {
	d.stuck <- struct{}{}
	<-d.stuck
	return nil
}

// TestHung: a screen reports that it gets on while nothing changes, and does not while its display hangs.
func TestHung(t *testing.T) {
	lang, err := LoadLanguage("nb")
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		display, board := stuckDisplay{make(chan struct{}, 1)}, new(progress.Board)
		s, err := New(display, lang, time.Now, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		s.Watch(board.Root("screen"))
		ctx, stop := context.WithCancel(t.Context())
		var group sync.WaitGroup
		group.Go(func() {
			if err := s.Run(ctx); err != nil {
				t.Error(err)
			}
		})
		s.Show(Scene{Kind: NotSetUp, Code: "ABCD"}) // looks the same for ever
		<-time.After(time.Hour)
		if late := board.Late(); len(late) > 0 {
			t.Errorf("late with nothing to paint: %v", late)
		}
		display.stuck <- struct{}{}
		s.Show(Scene{Kind: Returned})
		<-time.After(progress.Within + progress.Every)
		if late := board.Late(); !slices.Equal(late, []string{"screen"}) {
			t.Errorf("late with a display that hangs: %v", late)
		}
		<-display.stuck
		<-time.After(time.Second)
		if late := board.Late(); len(late) > 0 {
			t.Errorf("late when it gets on: %v", late)
		}
		stop()
		group.Wait()
	})
}
