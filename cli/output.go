package cli

import (
	"errors"
	"fmt"
	"io"
	"sync"

	"understudy.dev/admin"
)

// output is the standard output. It remembers the first write that failed, so that no
// command need look at each of them: what a person or a script relies on and was not
// printed is an error of the command.
type output struct {
	w io.Writer

	mu     sync.Mutex
	failed error
	gone   error // instead, if whoever read it has gone
}

// Write implements io.Writer.
func (o *output) Write(p []byte) (int, error) {
	n, err := o.w.Write(p)
	if err != nil {
		o.mu.Lock()
		defer o.mu.Unlock()
		if isClosedPipe(err) {
			o.gone = err
		} else if o.failed == nil {
			o.failed = err
		}
	}
	return n, err
}

// Unwrap returns what is written to.
func (o *output) Unwrap() io.Writer { return o.w }

// judge returns the error of a command that ended with err: also that a write failed,
// but not that nobody reads any more, who has what they wanted. A command that did
// something has then another exit code than one that did not.
func (o *output) judge(did bool, err error) error {
	o.mu.Lock()
	failed, gone := o.failed, o.gone
	o.mu.Unlock()
	switch {
	case gone != nil && errors.Is(err, gone):
		return nil
	case failed == nil, err != nil && !errors.Is(err, failed):
		return err
	case did:
		return WithCode(admin.ExitUnknown, fmt.Errorf("it was done, but what came of it could not be written: %w", failed))
	case err != nil:
		return err // in the command's own words, with what can be done
	}
	return failed // which says that it is of writing, and where
}
