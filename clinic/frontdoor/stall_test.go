package frontdoor

import (
	"net"
	"testing"
	"testing/synctest"
	"time"
)

// A terminal that does not read any more must not hold its place at the door for ever.
func TestStalledReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker, ours := net.Pipe()
		theirs, terminal := net.Pipe()
		defer terminal.Close()
		began, done := time.Now(), make(chan struct{})
		go func() {
			pump(theirs, ours)
			close(done)
		}()
		if _, err := broker.Write([]byte("news")); err != nil {
			t.Fatal(err)
		}
		<-done
		if took := time.Since(began); took != stallTimeout {
			t.Errorf("given up after %v, want %v", took, stallTimeout)
		}
		if _, err := broker.Write([]byte("more")); err == nil {
			t.Error("the broker's end is still open")
		}
	})
}
