package cli

import "golang.org/x/sys/unix"

// getTerminal asks a terminal for its settings; what is none does not know the question.
const getTerminal = unix.TCGETS
