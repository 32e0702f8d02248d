//go:build !linux && !darwin

package filejournal

import (
	"errors"
	"time"
)

// OS is not supported on this system: every call fails.
func OS() FS { return noFS{} }

type noFS struct{}

func (noFS) Open(string, int) (File, error)            { return nil, errors.ErrUnsupported }
func (noFS) Rename(string, string) error               { return errors.ErrUnsupported }
func (noFS) Remove(string) error                       { return errors.ErrUnsupported }
func (noFS) List(string) ([]string, error)             { return nil, errors.ErrUnsupported }
func (noFS) Mkdir(string) error                        { return errors.ErrUnsupported }
func (noFS) SyncDir(string) error                      { return errors.ErrUnsupported }
func (noFS) Volatile(string) bool                      { return false }
func (noFS) Boot() []byte                              { return nil }
func (noFS) Wait(_ *uint32, _ uint32, d time.Duration) { time.Sleep(d) }
func (noFS) Wake(*uint32)                              {}
