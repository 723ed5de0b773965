package main

import (
	"context"
	"errors"
	"image"
	"log/slog"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"vindu/device/agent"
	"vindu/media/codec"
)

func names(coders []codec.Coder) (out []string) {
	for _, c := range coders {
		out = append(out, c.Name)
	}
	return out
}

// dear is an encoder that burns the processor's time besides.
type dear struct{ codec.VideoEncoder }

func (d dear) Encode(img *image.YCbCr, pts int64) (codec.Frame, error) {
	sum := 0
	for i := range 4_000_000 {
		sum += i
	}
	if sum == 0 {
		return codec.Frame{}, errors.New("never")
	}
	return d.VideoEncoder.Encode(img, pts)
}

func slowed(c codec.Coder) codec.Coder {
	made := c.NewEncoder
	c.NewEncoder = func(v codec.VideoConfig) (codec.VideoEncoder, error) {
		e, err := made(v)
		return dear{e}, err
	}
	return c
}

// TestCoders: what costs this board least comes first, it is measured once, and never in a call.
func TestCoders(t *testing.T) {
	for _, tt := range []struct {
		name string
		all  []codec.Coder
		want []string
	}{
		{"VP8 is dear", []codec.Coder{slowed(codec.Libvpx()), codec.OpenH264()}, []string{"openh264", "libvpx"}},
		{"H.264 is dear", []codec.Coder{codec.Libvpx(), slowed(codec.OpenH264())}, []string{"libvpx", "openh264"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cfg := agent.Default()
				cfg.State = t.TempDir()
				c := newCoders(cfg, tt.all, slog.New(slog.DiscardHandler))
				ctx, stop := context.WithCancel(t.Context())
				done := make(chan error, 1)
				c.begin()
				go func() { done <- c.run(ctx) }()
				<-time.After(time.Minute)
				if _, ok := c.book.Known(); ok {
					t.Error("measured in a call")
				}
				c.end()
				<-time.After(time.Minute)
				synctest.Wait()
				if got := names(c.now()); !slices.Equal(got, tt.want) {
					t.Errorf("order %v, want %v", got, tt.want)
				}
				stop()
				if err := <-done; err != nil {
					t.Error(err)
				}
				// The next start knows at once.
				again := newCoders(cfg, tt.all, slog.New(slog.DiscardHandler))
				if got := names(again.now()); !slices.Equal(got, tt.want) || again.book != nil {
					t.Errorf("after the next start %v, to be measured: %v", got, again.book != nil)
				}
			})
		})
	}
}

// A call that comes while costs are measured ends that.
func TestCodersGiveWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := agent.Default()
		cfg.State = t.TempDir()
		var c *coders
		var made atomic.Int32
		interrupted := codec.Coder{Name: "interrupted", Kind: codec.VP8, NewEncoder: func(v codec.VideoConfig) (codec.VideoEncoder, error) {
			if made.Add(1) == 1 {
				c.begin()
			}
			return codec.Libvpx().NewEncoder(v)
		}}
		c = newCoders(cfg, []codec.Coder{interrupted}, slog.New(slog.DiscardHandler))
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- c.run(ctx) }()
		<-time.After(time.Minute)
		synctest.Wait()
		if _, ok := c.book.Known(); ok || made.Load() != 1 {
			t.Errorf("measured through a call: %v, %d times", ok, made.Load())
		}
		c.end()
		<-time.After(time.Minute)
		synctest.Wait()
		if _, ok := c.book.Known(); !ok || made.Load() != 2 {
			t.Errorf("measured after the call: %v, %d times", ok, made.Load())
		}
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestCodersByConfiguration(t *testing.T) {
	for setting, want := range map[string][]string{"vp8": {"libvpx"}, "h264": {"openh264", "libvpx"}, "auto": {"libvpx", "openh264"}} {
		cfg := agent.Default()
		cfg.State, cfg.Picture.Codec = t.TempDir(), setting
		c := newCoders(cfg, []codec.Coder{codec.Libvpx(), codec.OpenH264()}, slog.New(slog.DiscardHandler))
		if got := names(c.now()); !slices.Equal(got, want) || (c.book != nil) != (setting == "auto") {
			t.Errorf("%s: %v, measures: %v", setting, got, c.book != nil)
		}
	}
}
