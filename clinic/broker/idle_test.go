package broker_test

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"vindu/clinic/broker/brokertest"
	"vindu/protocol"
)

// crowd is set, to the broker's address, in the environment of the second process of BenchmarkIdleTerminals: that plays the
// terminals, so that the first one's memory is the broker's. It gets the authority's key and certificate on its input.
const crowd = "VINDU_BROKER_TEST_CROWD"

const crowdSize = 200

// BenchmarkIdleTerminals measures what an idle terminal costs the broker: connected by mutual TLS, subscribed, its presence retained.
func BenchmarkIdleTerminals(b *testing.B) {
	for b.Loop() {
		br := brokertest.Start(b, quiet)
		br.AdmitAll()
		before := memory()
		cmd := exec.Command(os.Args[0], "-test.run=^TestCrowd$")
		cmd.Env = append(os.Environ(), crowd+"="+br.Addr().String())
		in, err := cmd.StdinPipe()
		if err != nil {
			b.Fatal(err)
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			b.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			b.Fatal(err)
		}
		key, certificate := br.Authority.Export(b)
		fmt.Fprintf(in, "%x %x\n", key, certificate)
		line, err := bufio.NewReader(out).ReadString('\n')
		if err != nil || strings.TrimSpace(line) != "connected" {
			b.Fatalf("the terminals said %q, %v", line, err)
		}
		b.ReportMetric(float64(memory()-before)/crowdSize/1024, "KiB/terminal")
		if err := in.Close(); err != nil {
			b.Fatal(err)
		}
		go io.Copy(io.Discard, out)
		if err := cmd.Wait(); err != nil {
			b.Fatal(err)
		}
		br.Stop()
	}
}

// memory returns the bytes of heap and stacks in use.
func memory() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapInuse + m.StackInuse)
}

// TestCrowd is what the second process runs; in the first it has nothing to do.
func TestCrowd(t *testing.T) {
	address := os.Getenv(crowd)
	if address == "" {
		return
	}
	var key, certificate []byte
	if _, err := fmt.Scanf("%x %x\n", &key, &certificate); err != nil {
		t.Fatal(err)
	}
	a := brokertest.ImportAuthority(t, key, certificate)
	for range crowdSize {
		id := a.Identity(t)
		c := brokertest.MustConnect(t, brokertest.Options(address, a, id))
		if !subscribe(t, c, protocol.InFilter(id.Hash), nil) {
			t.Fatal("subscription refused")
		}
		brokertest.Wait(t, c.Publish(protocol.OutTopic(id.Hash, protocol.OutPresence), 0, true, make([]byte, 60)))
	}
	fmt.Println("connected")
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil { // until the first process has measured
		t.Error(err)
	}
}
