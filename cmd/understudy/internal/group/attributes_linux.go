package group

import "syscall"

// attributes put a child into a process group of its own, so that Ctrl-C reaches
// it through this process only, and end it with this process.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
