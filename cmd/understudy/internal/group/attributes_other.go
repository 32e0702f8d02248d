//go:build !linux

package group

import "syscall"

// attributes are none where a child cannot be tied to its parent's life.
func attributes() *syscall.SysProcAttr { return nil }
