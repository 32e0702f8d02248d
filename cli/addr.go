package cli

import (
	"fmt"
	"net"
	"strconv"
)

// splitAddr parses HOST:PORT.
func splitAddr(s string) (host string, port int, err error) {
	host, p, err := net.SplitHostPort(s)
	if err != nil {
		return "", 0, err
	}
	port, err = strconv.Atoi(p)
	if err != nil || port < 1 || port > 65535 {
		return "", 0, fmt.Errorf("port %q: want a number from 1 to 65535", p)
	}
	return host, port, nil
}
