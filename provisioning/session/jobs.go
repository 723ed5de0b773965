package session

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"vindu/protocol"
)

// Why a check did not go on.
var (
	errCheckStopped = protocol.WithCode(protocol.CheckStopped, errors.New("the technician stopped the check"))
	errCheckLeft    = protocol.WithCode(protocol.CheckStopped, errors.New("the session in which the check began is over"))
	errCheckAlone   = protocol.WithCode(protocol.CheckStopped, fmt.Errorf("nobody asked after the check for %v", AskedTime))
)

// jobs runs what takes long, one at a time, and remembers how it went, for the terminal that did it.
type jobs struct {
	begin chan func(context.Context)
	self  func() protocol.KeyHash // the terminal's identity; it gets another one when it is taken out of use and set up anew

	mu      sync.Mutex
	running bool
	of      protocol.KeyHash // whose the states below are
	enrol   EnrolStatus
	voucher protocol.Nonce // of the enrolment
	check   CheckStatus
	guest   *guest                  // whose check it is
	stop    context.CancelCauseFunc // of the check that runs; nil if none does, or if it was stopped
	over    chan struct{}           // is closed when the check has ended
	asked   *time.Timer             // stops a check that nobody asks after
}

func newJobs(self func() protocol.KeyHash) *jobs {
	return &jobs{
		begin: make(chan func(context.Context), 1), self: self, enrol: EnrolStatus{State: JobNone}, check: CheckStatus{State: JobNone},
	}
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

// current forgets what a terminal did that this one was before: its figures are nobody's business any more. j.mu is held.
func (j *jobs) current() {
	self := j.self()
	if self == j.of || j.running {
		return
	}
	j.of, j.enrol, j.check = self, EnrolStatus{State: JobNone}, CheckStatus{State: JobNone, Run: j.check.Run}
}

// alone does f while no job runs, and none begins.
func (j *jobs) alone(f func() error) error {
	j.mu.Lock()
	if j.running {
		j.mu.Unlock()
		return errBusy()
	}
	j.running = true
	j.mu.Unlock()
	err := f()
	j.mu.Lock()
	defer j.mu.Unlock()
	j.running = false
	if err == nil { // it may be of another home: what was found was found in the former one
		j.check = CheckStatus{State: JobNone, Run: j.check.Run}
	}
	return err
}

// startEnrol begins an enrolment by a voucher. One by the same that runs already is left to run.
func (j *jobs) startEnrol(voucher protocol.Nonce, enrol func(context.Context) error) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	switch {
	case j.running && j.enrol.State == JobRunning && j.voucher == voucher:
		return nil
	case j.running:
		return errBusy()
	}
	j.current()
	j.running, j.voucher, j.enrol = true, voucher, EnrolStatus{State: JobRunning}
	j.begin <- func(ctx context.Context) { // there is room: nothing runs
		err := enrol(ctx)
		j.mu.Lock()
		defer j.mu.Unlock()
		j.running, j.enrol = false, EnrolStatus{State: JobDone}
		if err != nil {
			j.enrol = EnrolStatus{JobFailed, protocol.CodeOf(err), protocol.Printable(err.Error())}
			return
		}
		j.check = CheckStatus{State: JobNone, Run: j.check.Run} // it was of the home of before
	}
	return nil
}

// startCheck begins a check for g and returns its status. One of g's that runs already is left to run; one that was stopped is waited for.
func (j *jobs) startCheck(ctx context.Context, g *guest, check func(context.Context, func(CheckProgress)) ([]protocol.Check, error)) (CheckStatus, error) {
	for {
		s, wait, err := j.tryCheck(g, check)
		if wait == nil {
			return s, err
		}
		select {
		case <-ctx.Done():
			return CheckStatus{}, errBusy()
		case <-wait:
		}
	}
}

func (j *jobs) tryCheck(g *guest, check func(context.Context, func(CheckProgress)) ([]protocol.Check, error)) (s CheckStatus, wait <-chan struct{}, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	switch {
	case j.running && j.check.State == JobRunning && j.stop == nil:
		return CheckStatus{}, j.over, nil
	case j.running && j.check.State == JobRunning && j.guest == g:
		return j.check, nil, nil
	case j.running:
		return CheckStatus{}, nil, errBusy()
	}
	j.current()
	run, over := j.check.Run+1, make(chan struct{})
	wanted, stop := context.WithCancelCause(context.Background())
	j.running, j.check, j.guest, j.stop, j.over = true, CheckStatus{Run: run, State: JobRunning}, g, stop, over
	j.asked = time.AfterFunc(AskedTime, func() { j.stopCheck(g, errCheckAlone) })
	j.begin <- func(ctx context.Context) {
		ctx, cancel := context.WithCancelCause(ctx)
		unhook := context.AfterFunc(wanted, func() { cancel(context.Cause(wanted)) })
		done, err := check(ctx, func(p CheckProgress) {
			j.mu.Lock()
			defer j.mu.Unlock()
			if j.check.Run == run && j.check.State == JobRunning {
				j.check.Current, j.check.Total, j.check.Done = p.Current, uint(max(p.Total, 0)), slices.Clone(p.Done)
			}
		})
		unhook()
		cancel(nil)
		stop(nil)
		j.mu.Lock()
		defer j.mu.Unlock()
		j.asked.Stop()
		j.running, j.stop, j.check.State, j.check.Current, j.check.Done = false, nil, JobDone, "", done
		if err != nil {
			j.check.State, j.check.Code, j.check.Cause = JobFailed, protocol.CodeOf(err), protocol.Printable(err.Error())
		}
		close(over)
	}
	return j.check, nil, nil
}

// stopCheck stops the check that g began; nil: whoever did.
func (j *jobs) stopCheck(g *guest, cause error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.stop == nil || g != nil && g != j.guest {
		return
	}
	j.stop(cause)
	j.stop = nil
}

func (j *jobs) enrolStatus() EnrolStatus {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.current()
	return j.enrol
}

// checkStatus is asked by g.
func (j *jobs) checkStatus(g *guest) CheckStatus {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.current()
	if j.stop != nil && g == j.guest {
		j.asked.Reset(AskedTime)
	}
	s := j.check
	s.Done = slices.Clone(s.Done)
	return s
}
