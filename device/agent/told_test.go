package agent

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"vindu/protocol"
)

// What is said of the terminal on the spot is the latest within half a minute, costs the disk one write in that time at most, and none where nothing has changed.
func TestTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var written []*protocol.Health
		var fails error
		kept := newTold(func(b []byte) error {
			h := new(protocol.Health)
			if err := protocol.Decode(b, h); err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			written = append(written, h)
			return fails
		})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- kept.run(ctx, slog.New(slog.DiscardHandler)) }()
		say := func(uptime uint64, codes ...protocol.Code) {
			none := protocol.DeviceState{Kind: "none"}
			h := &protocol.Health{Version: protocol.Version, At: 1, Uptime: uptime, Software: "s", KeyGrade: "file", Camera: none, Microphone: none, Speaker: none, Screen: none}
			for _, c := range codes {
				h.Conditions = append(h.Conditions, protocol.Condition{Code: c, Since: 1})
			}
			kept.take(h)
			synctest.Wait()
		}
		is := func(what string, n int, uptime uint64) {
			t.Helper()
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			if len(written) != n || written[n-1].Uptime != uptime {
				t.Errorf("%s: %d writes, the last at %d; want %d, at %d", what, len(written), written[len(written)-1].Uptime, n, uptime)
			}
		}
		say(1)
		is("first", 1, 1)
		say(2, protocol.HeatHot)
		say(3, protocol.HeatHot, protocol.IPDNS)
		is("at once again", 1, 1)
		time.Sleep(tellEvery) // allowed: in a bubble
		is("half a minute later", 2, 3)
		time.Sleep(tellEvery) // allowed: in a bubble
		say(4, protocol.HeatHot, protocol.IPDNS)
		is("nothing new", 2, 3)
		time.Sleep(tellAtLeast - tellEvery - time.Second) // allowed: in a bubble
		say(4, protocol.HeatHot, protocol.IPDNS)
		is("nothing new for less than an hour", 2, 3)
		time.Sleep(time.Second) // allowed: in a bubble
		say(104, protocol.HeatHot, protocol.IPDNS)
		is("numbers of an hour ago", 3, 104)
		time.Sleep(tellEvery) // allowed: in a bubble
		breaks := func(err error) {
			mu.Lock()
			defer mu.Unlock()
			fails = err
		}
		breaks(errors.New("disk"))
		say(5)
		is("a disk that fails", 4, 5)
		breaks(nil)
		say(6)
		is("and tried again", 5, 6)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
