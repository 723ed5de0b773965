package session

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"vindu/protocol"
)

// jobs runs what takes long, one at a time, and remembers how it went.
type jobs struct {
	begin chan func(context.Context)

	mu      sync.Mutex
	running bool
	enrol   EnrolStatus
	check   CheckStatus
}

func newJobs() *jobs {
	return &jobs{begin: make(chan func(context.Context), 1), enrol: EnrolStatus{State: JobNone}, check: CheckStatus{State: JobNone}}
}

func (j *jobs) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case f := <-j.begin:
			limited, cancel := context.WithTimeout(ctx, JobTime)
			f(limited)
			cancel()
		}
	}
}

func errBusy() error {
	return protocol.WithCode(protocol.LinkTerminalBusy, fmt.Errorf("another job of the terminal is running"))
}

// startEnrol begins an enrolment. One that runs already is left to run.
func (j *jobs) startEnrol(enrol func(context.Context) error) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	switch {
	case j.running && j.enrol.State == JobRunning:
		return nil
	case j.running:
		return errBusy()
	}
	j.running, j.enrol = true, EnrolStatus{State: JobRunning}
	j.begin <- func(ctx context.Context) { // there is room: nothing runs
		err := enrol(ctx)
		j.mu.Lock()
		defer j.mu.Unlock()
		j.running, j.enrol = false, EnrolStatus{State: JobDone}
		if err != nil {
			j.enrol = EnrolStatus{JobFailed, protocol.CodeOf(err), protocol.Printable(err.Error())}
		}
	}
	return nil
}

// startCheck begins a check and returns its status. One that runs already is left to run.
func (j *jobs) startCheck(check func(context.Context, func(CheckProgress)) ([]protocol.Check, error)) (CheckStatus, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	switch {
	case j.running && j.check.State == JobRunning:
		return j.check, nil
	case j.running:
		return CheckStatus{}, errBusy()
	}
	run := j.check.Run + 1
	j.running, j.check = true, CheckStatus{Run: run, State: JobRunning}
	j.begin <- func(ctx context.Context) {
		done, err := check(ctx, func(p CheckProgress) {
			j.mu.Lock()
			defer j.mu.Unlock()
			if j.check.Run == run && j.check.State == JobRunning {
				j.check.Current, j.check.Total, j.check.Done = p.Current, uint(max(p.Total, 0)), slices.Clone(p.Done)
			}
		})
		j.mu.Lock()
		defer j.mu.Unlock()
		j.running, j.check.State, j.check.Current, j.check.Done = false, JobDone, "", done
		if err != nil {
			j.check.State, j.check.Code, j.check.Cause = JobFailed, protocol.CodeOf(err), protocol.Printable(err.Error())
		}
	}
	return j.check, nil
}

func (j *jobs) enrolStatus() EnrolStatus {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.enrol
}

func (j *jobs) checkStatus() CheckStatus {
	j.mu.Lock()
	defer j.mu.Unlock()
	s := j.check
	s.Done = slices.Clone(s.Done)
	return s
}
