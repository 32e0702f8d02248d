//go:build !unix

package natsserver

import "os"

// lock does nothing here: that one server runs in a directory is up to the
// operator.
func lock(string) (*os.File, error) { return nil, nil }
