package main

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// memory is what a process holds, in bytes, as Linux's proc(5) tells it.
type memory struct {
	resident  int64 // VmRSS: everything, with what others share (the program) and what the kernel can drop (file pages)
	anonymous int64 // RssAnon: what nobody else has
}

// memory reads the child's.
func (p *process) memory() (memory, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return memory{}, fmt.Errorf("memory is measured on Linux only: %w", err)
	}
	defer f.Close()
	var m memory
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) != 3 || fields[2] != "kB" {
			continue
		}
		kilobytes, err := strconv.ParseInt(fields[1], 10, 64)
		if err != nil {
			return memory{}, err
		}
		switch fields[0] {
		case "VmRSS:":
			m.resident = kilobytes << 10
		case "RssAnon:":
			m.anonymous = kilobytes << 10
		}
	}
	return m, lines.Err()
}
