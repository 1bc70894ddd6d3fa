package devserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"go.temporal.io/server/common/log"
	"go.temporal.io/server/common/log/tag"
)

// logger hands the server's warnings and errors to a slog.Logger and drops the rest.
// It is safe for concurrent use.
type logger struct {
	out   *slog.Logger
	tags  []tag.Tag
	state *logState
}

var (
	_ log.Logger     = logger{}
	_ log.WithLogger = logger{}
)

func newLogger(out *slog.Logger) logger { return logger{out: out, state: &logState{}} }

// logState is what all loggers of one server share.
type logState struct {
	mu       sync.Mutex
	fatal    error
	building atomic.Bool // the server is under construction, in a goroutine that recovers
	quiet    atomic.Bool
}

// setFatal keeps the first message that the server called fatal.
func (s *logState) setFatal(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fatal == nil {
		s.fatal = err
	}
}

func (s *logState) getFatal() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.fatal
}

// silence drops whatever the server still says. A server that is stopped on purpose warns about each connection that
// it cuts itself, and some of its goroutines go on warning after it has stopped.
func (l logger) silence() { l.state.quiet.Store(true) }

func (l logger) With(tags ...tag.Tag) log.Logger {
	l.tags = append(slices.Clip(l.tags), tags...)
	return l
}

func (logger) Debug(string, ...tag.Tag) {}
func (logger) Info(string, ...tag.Tag)  {}

func (l logger) Warn(msg string, tags ...tag.Tag)   { l.log(slog.LevelWarn, msg, tags) }
func (l logger) Error(msg string, tags ...tag.Tag)  { l.log(slog.LevelError, msg, tags) }
func (l logger) DPanic(msg string, tags ...tag.Tag) { l.log(slog.LevelError, msg, tags) }

func (l logger) Panic(msg string, tags ...tag.Tag) {
	l.log(slog.LevelError, msg, tags)
	panic(msg)
}

// Fatal ends the calling goroutine instead of the process: the process is the author's program, not ours. While the
// server is built it panics, because there it is called inside a sync.OnceValue, which makes a crash of a Goexit.
func (l logger) Fatal(msg string, tags ...tag.Tag) {
	l.log(slog.LevelError, msg, tags)
	err := errors.New(msg)
	for _, t := range tags {
		if cause, ok := value(t).(error); ok {
			err = fmt.Errorf("%s: %w", msg, cause)
			break
		}
	}
	l.state.setFatal(err)
	if l.state.building.Load() {
		panic(err)
	}
	runtime.Goexit()
}

func (l logger) log(level slog.Level, msg string, tags []tag.Tag) {
	if benign[msg] || l.state.quiet.Load() {
		return
	}
	attrs := make([]slog.Attr, 0, len(l.tags)+len(tags))
	for _, t := range l.tags {
		attrs = append(attrs, slog.Any(t.Key(), value(t)))
	}
	for _, t := range tags {
		attrs = append(attrs, slog.Any(t.Key(), value(t)))
	}
	l.out.LogAttrs(context.Background(), level, msg, attrs...) //nolint:sloglint // the server's own message
}

// value keeps an error an error: the tag's own Value makes a string of it, or picks its stack trace.
func value(t tag.Tag) any {
	if z, ok := t.(tag.ZapTag); ok {
		if err, ok := z.Field().Interface.(error); ok {
			return err
		}
	}
	return t.Value()
}

// benign are warnings about what this server leaves out on purpose.
var benign = map[string]bool{
	"HTTP API port has not been set. Nexus HTTP endpoints will not be available. To enable Nexus, follow these " +
		"instructions: https://github.com/temporalio/temporal/blob/main/docs/architecture/nexus.md#enabling-nexus.": true,
}
