package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"vindu/scripts/stack"
)

func TestMain(m *testing.M) {
	if os.Getenv(workerVariable) != "" {
		exit(work(context.Background(), os.Stdin, os.Stdout))
	}
	goleak.VerifyTestMain(m)
}

var seed = flag.Uint64("seed", 0, "of all chance; 0: any")

// says passes what is told on to the test's log.
type says struct{ t *testing.T }

func (s says) Write(p []byte) (int, error) {
	s.t.Log(string(p))
	return len(p), nil
}

// TestCrowd is the hour in half a minute: twenty terminals, a fault each two seconds in one of them, HTTPS after six seconds without the broker.
func TestCrowd(t *testing.T) {
	z := size{
		Terminals: 20, Workers: 2, For: 20 * time.Second, Every: 4 * time.Second, Longest: 10 * time.Second, ReportAfter: 4 * time.Second, Flips: 400,
		Seed: *seed, Dir: t.TempDir(), Says: says{t},
	}
	if z.Seed == 0 {
		z.Seed = uint64(time.Now().UnixNano())
	}
	z.Bin = filepath.Join(z.Dir, "bin")
	if err := stack.BuildClinic(t.Context(), "../..", z.Bin); err != nil {
		t.Fatal(err)
	}
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	r, err := live(t.Context(), z, []string{program})
	fmt.Fprint(z.Says, r.summary(z, err))
	if err != nil {
		t.Fatal(err)
	}
	if r.clinicKills == 0 || r.workerKills == 0 || len(r.faults) < 6 {
		t.Errorf("clinic killed %d times, terminals %d times, faults: %s", r.clinicKills, r.workerKills, counts(r.faults))
	}
}
