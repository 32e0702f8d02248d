//go:build unix

package sinks

import (
	"os"
	"os/exec"
	"syscall"
)

// ownGroup gives the child a process group, so that what it starts can be ended
// with it.
func ownGroup(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }

// killGroup ends the child and its group. The child is not reaped before its
// output has ended, so as long as anybody waits for it the number is its own.
func killGroup(p *os.Process) {
	if p.Signal(syscall.Signal(0)) == nil { // not reaped yet
		_ = syscall.Kill(-p.Pid, syscall.SIGKILL) // it may have ended by itself
	}
}
