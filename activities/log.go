package activities

import (
	"bytes"
	"context"
	"log/slog"
	"sync"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/stepwell-flows/stepwell/records"
)

// maxLog is how much of one attempt's log is kept, in bytes. The rest is dropped behind a marker.
const maxLog = 1 << 20

// flushEvery is how often a growing log is written while its attempt runs, so that it can be
// followed, and survives its worker.
const flushEvery = 3 * time.Second

// attemptLog keeps the lines of one attempt. It is safe for concurrent use.
type attemptLog struct {
	logger *slog.Logger
	// outputs keeps what a process prints, which has a limit of its own.
	outputs  slog.Handler
	redactor *redactor
	write    func([]byte) error

	mu     sync.Mutex
	buf    bytes.Buffer
	lines  int // bytes of what was logged, without outputs
	full   bool
	dirty  bool
	closed bool
	timer  *time.Timer

	writing sync.Mutex // held while the log is written, so that an older content does not come last
}

func newAttemptLog(ctx context.Context, t *attempt) *attemptLog {
	l := &attemptLog{redactor: &redactor{above: t.Activities.redactor}}
	number := t.number
	if t.catch {
		number = t.in.Failure.Attempt
	}
	key := records.LogKey(t.in.Flow, t.in.Run, t.in.Step, t.in.Index, number, t.catch)
	l.write = func(b []byte) error {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		return t.store.PutDoc(ctx, key, b)
	}
	var h slog.Handler = slog.NewJSONHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug})
	l.outputs = slog.NewJSONHandler(outputWriter{l}, nil)
	if t.options.Log != nil {
		echo := t.options.Log.WithAttrs([]slog.Attr{
			slog.String("run", t.in.Flow+"/"+t.in.Run), slog.String("task", t.info().Task), slog.Int("attempt", number)})
		h, l.outputs = slog.NewMultiHandler(h, echo), slog.NewMultiHandler(l.outputs, echo)
	}
	span := trace.SpanContextFromContext(ctx)
	l.outputs = newQuiet(l.outputs, l.redactor, span)
	l.logger = slog.New(newQuiet(h, l.redactor, span))
	return l
}

// Write takes one line from the handler.
func (l *attemptLog) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closed, l.full:
		return len(line), nil // a function that was left behind, or one that talks too much
	case l.lines+len(line) > maxLog:
		l.full = true
		slog.New(slog.NewJSONHandler(&l.buf, nil)).Warn("the log is cut here", "limit_bytes", maxLog)
	default:
		l.buf.Write(line)
		l.lines += len(line)
	}
	l.grown()
	return len(line), nil
}

// grown sees to it that what was added is written.
func (l *attemptLog) grown() {
	l.dirty = true
	if l.timer == nil {
		l.timer = time.AfterFunc(flushEvery, l.flush)
	}
}

// outputWriter takes lines whose limit was seen to.
type outputWriter struct{ log *attemptLog }

func (w outputWriter) Write(line []byte) (int, error) {
	w.log.mu.Lock()
	defer w.log.mu.Unlock()
	if !w.log.closed {
		w.log.buf.Write(line)
		w.log.grown()
	}
	return len(line), nil
}

// flush writes what there is. A log that cannot be written is not worth failing a task for; the next
// flush writes it whole.
func (l *attemptLog) flush() {
	l.writing.Lock()
	defer l.writing.Unlock()
	l.mu.Lock()
	if l.timer != nil {
		l.timer.Stop()
		l.timer = nil
	}
	if !l.dirty {
		l.mu.Unlock()
		return
	}
	l.dirty = false
	content := bytes.Clone(l.buf.Bytes())
	l.mu.Unlock()
	if err := l.write(content); err != nil {
		l.mu.Lock()
		l.dirty = true
		l.mu.Unlock()
	}
}

// close writes the rest and drops later lines. It may be called twice.
func (l *attemptLog) close() {
	l.flush()
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
}

// size is how long the log is, in bytes.
func (l *attemptLog) size() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return int64(l.buf.Len())
}

// tail returns the last n lines.
func (l *attemptLog) tail(n int) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	lines := bytes.Split(bytes.TrimSpace(l.buf.Bytes()), []byte("\n"))
	if len(lines) == 1 && len(lines[0]) == 0 {
		return nil
	}
	var out []string
	for _, line := range lines[max(0, len(lines)-n):] {
		out = append(out, records.ReadLogLine(line).String())
	}
	return out
}
