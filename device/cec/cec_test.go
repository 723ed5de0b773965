package cec_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"vindu/device/cec"
	"vindu/device/cec/cectest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestContract(t *testing.T) { cectest.Contract(t, new(cectest.Bus)) }

// TestTelevision: it is woken when somebody is called and at no other time, and given back as it was.
func TestTelevision(t *testing.T) {
	woken := []string{"4 to 0: 04", "4 to 15: 821000"}
	for _, test := range []struct {
		name   string
		asleep bool
		sleep  bool // it is sent to sleep again
		after  []string
	}{
		{"asleep, and sleeps again", true, true, []string{"4 to 0: 36"}},
		{"asleep, and stays awake", true, false, nil},
		{"on, and is left to its programme", false, true, []string{"4 to 0: 9d1000"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				bus := new(cectest.Bus)
				bus.Sleeps(test.asleep)
				tv := cec.New(bus.Open, test.sleep, slog.New(slog.DiscardHandler))
				ctx, stop := context.WithCancel(t.Context())
				done := make(chan error, 1)
				go func() { done <- tv.Run(ctx) }()
				hears := func(step string, after time.Duration, want []string) {
					t.Helper()
					<-time.After(after)
					synctest.Wait()
					if heard := bus.Heard(); !slices.Equal(heard, want) {
						t.Errorf("%s: the television heard %q, want %q", step, heard, want)
					}
				}
				hears("at rest", time.Hour, nil)
				tv.Show(false)
				hears("at rest", time.Hour, nil)
				if bus.Opened() != 0 {
					t.Error("the bus is open at rest")
				}
				tv.Show(true)
				hears("called", time.Second, woken)
				tv.Show(true)
				hears("talking", time.Hour, nil)
				tv.Show(false)
				hears("just over", 10*time.Second, nil)
				tv.Show(true)
				hears("called again", time.Minute, nil)
				tv.Show(false)
				hears("over", 10*time.Second, nil)
				hears("given back", 11*time.Second, test.after)
				hears("at rest", time.Hour, nil)
				if bus.Opened() != 0 {
					t.Error("the bus stays open")
				}
				bus.Sleeps(test.asleep)
				tv.Show(true)
				hears("another call", time.Second, woken)
				stop()
				if err := <-done; err != nil {
					t.Error(err)
				}
				hears("the program ends in a call", 0, test.after)
			})
		})
	}
}

// TestTelevisionThatFails: nothing waits for a television that is not there, does not answer, or whose driver hangs.
func TestTelevisionThatFails(t *testing.T) {
	hang := make(chan struct{})
	for _, test := range []struct {
		name string
		open func(*cectest.Bus) (cec.Adapter, error)
		says string
	}{
		{"no device", func(*cectest.Bus) (cec.Adapter, error) { return nil, fs.ErrNotExist }, "not exist"},
		{"no television", func(b *cectest.Bus) (cec.Adapter, error) { b.Silence(); return b.Open() }, "does not answer"},
		{"no place on the bus", func(b *cectest.Bus) (cec.Adapter, error) { return nowhere{}, nil }, "no place on the bus"},
		{"a driver that hangs", func(b *cectest.Bus) (cec.Adapter, error) { b.Hang(hang); return b.Open() }, "hangs"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				hang = make(chan struct{})
				bus := new(cectest.Bus)
				var log bytes.Buffer
				tv := cec.New(func() (cec.Adapter, error) { return test.open(bus) }, true, slog.New(slog.NewTextHandler(&log, nil)))
				ctx, stop := context.WithCancel(t.Context())
				done := make(chan error, 1)
				go func() { done <- tv.Run(ctx) }()
				for range 3 {
					tv.Show(true)
					<-time.After(time.Minute)
					tv.Show(false)
					<-time.After(time.Minute)
				}
				stop()
				if err := <-done; err != nil {
					t.Error(err)
				}
				close(hang)
				synctest.Wait()
				if !strings.Contains(log.String(), test.says) || strings.Contains(log.String(), "shows the terminal") && test.says != "hangs" {
					t.Errorf("%s", log.String())
				}
			})
		})
	}
	var none *cec.Television
	none.Show(true)
}

// nowhere is an end without a cable.
type nowhere struct{ cec.Adapter }

func (nowhere) Claim() (uint16, error) { return 0, cec.ErrNoAddress }
func (nowhere) Close() error           { return nil }

// TestNoDevice: what is no adapter is refused.
func TestNoDevice(t *testing.T) {
	if _, err := cec.OpenSystem("/dev/vindu-test-no-cec"); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if _, err := cec.OpenSystem("/dev/null"); err == nil {
		t.Error("/dev/null is an adapter")
	}
}
