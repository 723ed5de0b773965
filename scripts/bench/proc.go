package main

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// cpuTime returns the processor time that a process has used, user and system.
func cpuTime(pid int) (time.Duration, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The name, in brackets, may hold anything; fields 14 and 15 of proc(5) are the 12th and 13th after it.
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(fields) < 13 {
		return 0, fmt.Errorf("/proc/%d/stat has %d fields", pid, len(fields))
	}
	user, err := strconv.ParseInt(fields[11], 10, 64)
	if err != nil {
		return 0, err
	}
	system, err := strconv.ParseInt(fields[12], 10, 64)
	if err != nil {
		return 0, err
	}
	const perSecond = 100 // USER_HZ is 100 on every Linux architecture that Go runs on
	return time.Duration(user+system) * time.Second / perSecond, nil
}

// rss returns a process's resident set now and at its peak, in bytes.
func rss(pid int) (now, peak int64, err error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, 0, err
	}
	for _, line := range strings.Split(string(b), "\n") {
		key, rest, _ := strings.Cut(line, ":")
		if key != "VmRSS" && key != "VmHWM" {
			continue
		}
		kb, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
		if err != nil {
			return 0, 0, err
		}
		if key == "VmRSS" {
			now = kb << 10
		} else {
			peak = kb << 10
		}
	}
	return now, peak, nil
}

// usage watches a process for a while.
type usage struct {
	CPU  float64 // processor seconds per second
	Peak int64   // bytes
}

func watch(pid int, d time.Duration) (usage, error) {
	before, err := cpuTime(pid)
	if err != nil {
		return usage{}, err
	}
	began := time.Now()
	time.Sleep(d)
	after, err := cpuTime(pid)
	if err != nil {
		return usage{}, err
	}
	elapsed := time.Since(began)
	_, peak, err := rss(pid)
	return usage{CPU: (after - before).Seconds() / elapsed.Seconds(), Peak: peak}, err
}
