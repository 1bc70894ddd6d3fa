package stepwell

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/records"
)

// logEntry is a line of a step's log for people.
type logEntry struct {
	time    time.Time
	level   string
	run     string // "" when only one run is shown
	task    string
	attempt int
	catch   bool
	message string
	attrs   []string // "key=value"
}

// line is the entry on one line: time, level, task, attempt if it is not the first, message, attributes.
func (e logEntry) line(s style) string {
	var b strings.Builder
	b.WriteString(s.faint(clock(e.time)) + " ")
	level := fmt.Sprintf("%-5s", clean(e.level))
	switch {
	case strings.HasPrefix(e.level, "ERR"):
		level = s.bad(level)
	case strings.HasPrefix(e.level, "WARN"):
		level = s.warn(level)
	default:
		level = s.faint(level)
	}
	b.WriteString(level + " ")
	if name := e.name(); name != "" {
		b.WriteString(s.bold(name) + ": ")
	}
	b.WriteString(clean(e.message))
	for _, a := range e.attrs {
		key, value, _ := strings.Cut(clean(a), "=")
		b.WriteString(" " + s.faint(key+"=") + value)
	}
	return b.String()
}

func (e logEntry) name() string {
	name := clean(e.task)
	if e.run != "" && name != "" {
		name = clean(e.run) + "/" + name
	}
	switch {
	case e.catch:
		name += " (catch)"
	case e.attempt > 1:
		name += fmt.Sprintf(" (attempt %d)", e.attempt)
	}
	return name
}

// routine says that the entry is the worker's own about a failed attempt. The progress of a run tells that, and what follows.
func (e logEntry) routine() bool {
	return e.message == "attempt failed" && e.level == "ERROR" && len(e.attrs) == 3 && strings.HasPrefix(e.attrs[0], "class=") ||
		e.message == "the task has to wait" && e.level == "WARN" && len(e.attrs) == 3 && strings.HasPrefix(e.attrs[0], "wait=")
}

// entryOf makes an entry of a line that was kept in the store.
func entryOf(task string, attempt int, catch bool, l records.LogLine) logEntry {
	e := logEntry{time: l.Time, level: l.Level, task: task, attempt: attempt, catch: catch, message: l.Message}
	for _, a := range l.Attrs {
		// A text that was quoted for its spaces is quoted again, without what a terminal must not get.
		if key, value, ok := strings.Cut(a, "="); ok && strings.HasPrefix(value, `"`) {
			if text, err := strconv.Unquote(value); err == nil {
				a = key + "=" + quoteValue(text)
			}
		}
		e.attrs = append(e.attrs, a)
	}
	return e
}

// itsTask takes over the name of the task from a line of a batch, whose items log together.
func (e *logEntry) itsTask() {
	if len(e.attrs) == 0 {
		return
	}
	if task, ok := strings.CutPrefix(e.attrs[0], "task="); ok && isItem(task) {
		e.task, e.attrs = task, slices.Clone(e.attrs[1:])
	}
}

// isItem reports whether a text is the name of a task in a foreach.
func isItem(text string) bool {
	_, x, err := flow.ParseTaskName(text)
	return err == nil && x != nil
}

// quoteValue makes a value one word.
func quoteValue(text string) string {
	text = clean(text)
	if text == "" || strings.ContainsAny(text, " \"=") {
		return strconv.Quote(text)
	}
	return text
}

// lineHandler is the slog.Handler for what steps log. The attributes run, task and attempt that the worker adds
// become the beginning of the line. It is safe for concurrent use.
type lineHandler struct {
	emit func(logEntry)
	// base is what WithAttrs has collected; group is what WithGroup puts before keys, with its dot.
	base  logEntry
	group string
}

// newLineHandler writes each entry to w, as one line in one write. With runs, it says which run an entry is of.
func newLineHandler(w io.Writer, s style, runs bool) *lineHandler {
	var mu sync.Mutex
	return &lineHandler{emit: func(e logEntry) {
		if !runs {
			e.run = ""
		}
		line := e.line(s) + "\n"
		mu.Lock()
		defer mu.Unlock()
		_, _ = io.WriteString(w, line)
	}}
}

// Enabled implements slog.Handler. What a step logs, its author wants to see.
func (h *lineHandler) Enabled(context.Context, slog.Level) bool { return true }

// Handle implements slog.Handler.
func (h *lineHandler) Handle(_ context.Context, r slog.Record) error {
	e := h.base
	e.time, e.level, e.message = r.Time, r.Level.String(), r.Message
	e.attrs = slices.Clip(e.attrs)
	r.Attrs(func(a slog.Attr) bool {
		if !ofTrace(a) {
			e.attrs = appendAttr(e.attrs, h.group, a)
		}
		return true
	})
	if isItem(e.task) {
		e.itsTask()
	}
	h.emit(e)
	return nil
}

// WithAttrs implements slog.Handler.
func (h *lineHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	next := *h
	next.base.attrs = slices.Clip(h.base.attrs)
	for _, a := range attrs {
		switch {
		case ofTrace(a):
		case h.group != "":
			next.base.attrs = appendAttr(next.base.attrs, h.group, a)
		case a.Key == "run" && next.base.run == "":
			next.base.run = a.Value.String()
		case a.Key == "task" && (next.base.task == "" || isItem(a.Value.String())): // a batch names itself, then its items
			next.base.task = a.Value.String()
		case a.Key == "attempt" && next.base.attempt == 0 && a.Value.Kind() == slog.KindInt64:
			next.base.attempt = int(a.Value.Int64())
		default:
			next.base.attrs = appendAttr(next.base.attrs, "", a)
		}
	}
	return &next
}

// ofTrace reports whether an attribute is for machines that put lines and spans together.
func ofTrace(a slog.Attr) bool { return a.Key == "trace_id" || a.Key == "span_id" }

// WithGroup implements slog.Handler.
func (h *lineHandler) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	next := *h
	next.group += name + "."
	return &next
}

// appendAttr flattens groups and writes each attribute as key=value, as slog's rules want it: empty attributes and
// empty groups are left out, and a group without a name is as if its members stood alone.
func appendAttr(out []string, group string, a slog.Attr) []string {
	v := a.Value.Resolve()
	switch {
	case a.Equal(slog.Attr{}):
		return out
	case v.Kind() == slog.KindGroup:
		if a.Key != "" {
			group += a.Key + "."
		}
		for _, member := range v.Group() {
			out = appendAttr(out, group, member)
		}
		return out
	}
	return append(out, group+a.Key+"="+quoteValue(valueText(v)))
}

func valueText(v slog.Value) (text string) {
	defer func() {
		if recover() != nil { // a String or Error method of the author's, on a nil pointer for example
			text = fmt.Sprintf("!(%T cannot be printed)", v.Any())
		}
	}()
	if v.Kind() == slog.KindTime {
		return v.Time().Format(time.RFC3339Nano)
	}
	return v.String()
}

// libraryHandler is what the SDK and the embedded server log through: it leaves out what says nothing new.
type libraryHandler struct {
	slog.Handler
	// routine lets the SDK's report of each failed attempt pass, which the progress of the run shows already.
	routine bool
	// ending is set when the program ends: that connections break then is no news.
	ending *atomic.Bool
}

// Handle implements slog.Handler.
func (h *libraryHandler) Handle(ctx context.Context, r slog.Record) error {
	if !h.routine && (h.ending.Load() || r.Message == "Activity error.") {
		return nil
	}
	return h.Handler.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (h *libraryHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &libraryHandler{h.Handler.WithAttrs(attrs), h.routine, h.ending}
}

// WithGroup implements slog.Handler.
func (h *libraryHandler) WithGroup(name string) slog.Handler {
	return &libraryHandler{h.Handler.WithGroup(name), h.routine, h.ending}
}
