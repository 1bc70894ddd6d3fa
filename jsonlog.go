package stepwell

import (
	"context"
	"io"
	"log/slog"
	"strings"

	"github.com/spf13/cobra"

	"github.com/stepwell-flows/stepwell/flow"
)

// jsonLog writes what steps log as lines of JSON. Of the run and the task that the worker adds it makes what machines search for:
// flow, run, step and task. It is safe for concurrent use.
type jsonLog struct {
	// bare has all attributes but those of the task, ready has these too.
	bare, ready slog.Handler
	of          taskAttrs
	grouped     bool // what is added now is in a group
}

type taskAttrs struct {
	run, task string // "Flow/run", "step[1]"
	attempt   int64
}

func newJSONLog(w io.Writer) slog.Handler {
	h := slog.NewJSONHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug}) // what a step logs, its author wants to see
	return &jsonLog{bare: h, ready: h}
}

// take takes over what names the task, and returns the rest.
func (t *taskAttrs) take(attrs []slog.Attr) (rest []slog.Attr) {
	for _, a := range attrs {
		switch {
		case a.Key == "run" && t.run == "":
			t.run = a.Value.String()
		case a.Key == "task" && (t.task == "" || isItem(a.Value.String())): // a batch names itself, then its items
			t.task = a.Value.String()
		case a.Key == "attempt" && t.attempt == 0 && a.Value.Kind() == slog.KindInt64:
			t.attempt = a.Value.Int64()
		default:
			rest = append(rest, a)
		}
	}
	return rest
}

func (t taskAttrs) attrs() []slog.Attr {
	var out []slog.Attr
	if flowName, run, ok := strings.Cut(t.run, "/"); ok {
		out = append(out, slog.String("flow", flowName), slog.String("run", run))
	}
	if t.task != "" {
		step := t.task
		if name, _, err := flow.ParseTaskName(t.task); err == nil {
			step = name
		}
		out = append(out, slog.String("step", step), slog.String("task", t.task))
	}
	if t.attempt != 0 {
		out = append(out, slog.Int64("attempt", t.attempt))
	}
	return out
}

// Enabled implements slog.Handler.
func (h *jsonLog) Enabled(ctx context.Context, l slog.Level) bool { return h.bare.Enabled(ctx, l) }

// Handle implements slog.Handler.
func (h *jsonLog) Handle(ctx context.Context, r slog.Record) error {
	if h.grouped {
		return h.ready.Handle(ctx, r)
	}
	var attrs []slog.Attr
	own := false
	r.Attrs(func(a slog.Attr) bool {
		attrs = append(attrs, a)
		own = own || a.Key == "task" && isItem(a.Value.String())
		return true
	})
	if !own {
		return h.ready.Handle(ctx, r)
	}
	of := h.of
	rest := of.take(attrs)
	line := slog.NewRecord(r.Time, r.Level, r.Message, r.PC)
	line.AddAttrs(rest...)
	return h.bare.WithAttrs(of.attrs()).Handle(ctx, line)
}

// WithAttrs implements slog.Handler.
func (h *jsonLog) WithAttrs(attrs []slog.Attr) slog.Handler {
	next := *h
	if h.grouped {
		next.ready = h.ready.WithAttrs(attrs)
		return &next
	}
	rest := next.of.take(attrs)
	if len(rest) > 0 {
		next.bare = h.bare.WithAttrs(rest)
	}
	next.ready = next.bare.WithAttrs(next.of.attrs())
	return &next
}

// WithGroup implements slog.Handler.
func (h *jsonLog) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	next := *h
	next.ready, next.grouped = h.ready.WithGroup(name), true
	return &next
}

// logFormat is the flag --log-format.
type logFormat string

const (
	logText logFormat = "text"
	logJSON logFormat = "json"
)

// String implements pflag.Value.
func (f *logFormat) String() string { return string(*f) }

// Set implements pflag.Value.
func (f *logFormat) Set(text string) error {
	if *f = logFormat(text); *f != logText && *f != logJSON {
		return inputf("%q is no format (use %s or %s)", text, logText, logJSON)
	}
	return nil
}

// Type implements pflag.Value.
func (*logFormat) Type() string { return "format" }

// withLogFormat adds the flag to a verb that runs steps.
func (c *command) withLogFormat(cmd *cobra.Command) {
	cmd.Flags().Var(&c.set.logFormat, "log-format", "what steps and Temporal's libraries log on standard error: text or json, a line each")
}
