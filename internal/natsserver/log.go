package natsserver

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
)

// A logSink passes the server's log lines on and keeps the first fatal one,
// which is the only place where the server says why it did not start. What the
// server notes about itself, page by page at each start, is for debugging: Ready
// says what an operator needs.
type logSink struct {
	log   *slog.Logger
	fatal atomic.Pointer[string]
}

func (l *logSink) Noticef(format string, v ...any) { l.print(slog.LevelDebug, format, v) }
func (l *logSink) Warnf(format string, v ...any)   { l.print(slog.LevelWarn, format, v) }
func (l *logSink) Errorf(format string, v ...any)  { l.print(slog.LevelError, format, v) }
func (l *logSink) Debugf(format string, v ...any)  { l.print(slog.LevelDebug, format, v) }
func (l *logSink) Tracef(format string, v ...any)  { l.print(slog.LevelDebug, format, v) }

// Fatalf does not end the process: Start returns the line as its error.
func (l *logSink) Fatalf(format string, v ...any) {
	line := fmt.Sprintf(format, v...)
	l.fatal.CompareAndSwap(nil, &line)
	l.print(slog.LevelError, format, v)
}

func (l *logSink) print(level slog.Level, format string, v []any) {
	if l.log != nil {
		l.log.Log(context.Background(), level, fmt.Sprintf(format, v...))
	}
}
