package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"vindu/clinic/audit"
	"vindu/clinic/broker"
	"vindu/protocol"
)

// What the register or the audit log cannot take at once is not forgotten.
func TestInsist(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		log, full := slog.New(slog.DiscardHandler), 3
		var raised []string
		a := newAlarms(func(_ context.Context, code protocol.Code, k protocol.KeyHash, why string) error {
			if full--; full >= 0 {
				return errors.New("disk full")
			}
			raised = append(raised, fmt.Sprint(code, k[0], why))
			return nil
		}, log)
		broken := 2
		var written []audit.Entry
		r := newRefusals(func(_ context.Context, e audit.Entry) error {
			if broken--; broken >= 0 {
				return errors.New("disk full")
			}
			written = append(written, e)
			return nil
		}, log)
		done := make(chan error, 2)
		go func() { done <- a.run(ctx) }()
		go func() { done <- r.run(ctx) }()
		a.twice(protocol.KeyHash{1}, "x")
		a.twice(protocol.KeyHash{2}, "y")
		refusal := broker.Refusal{Key: protocol.KeyHash{3}, Serial: "ab12", Err: errors.New("terminal is\nrevoked")}
		for range 3 { // written once
			r.add(refusal)
		}
		<-time.After(10 * time.Minute)
		synctest.Wait()
		if want := []string{"identity.two_connections1x", "identity.two_connections2y"}; !reflect.DeepEqual(raised, want) {
			t.Errorf("raised %q", raised)
		}
		if len(written) != 1 || written[0].What != audit.ConnectionRefused || !reflect.DeepEqual(written[0].Detail, map[string]string{"serial": "ab12", "why": "terminal isrevoked"}) {
			t.Errorf("written %+v", written)
		}
		full = 1000
		a.twice(protocol.KeyHash{1}, "z")
		<-time.After(time.Minute)
		cancel()
		for range 2 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	})
}
