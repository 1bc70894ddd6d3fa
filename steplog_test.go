package stepwell

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/slogtest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell/records"
)

// TestLineHandlerContract runs the standard library's rules for handlers.
func TestLineHandlerContract(t *testing.T) {
	t.Parallel()
	var entries []logEntry
	h := &lineHandler{emit: func(e logEntry) { entries = append(entries, e) }}
	require.NoError(t, slogtest.TestHandler(h, func() []map[string]any {
		var out []map[string]any
		for _, e := range entries {
			m := map[string]any{slog.LevelKey: e.level, slog.MessageKey: e.message}
			if !e.time.IsZero() {
				m[slog.TimeKey] = e.time
			}
			for _, a := range e.attrs {
				key, value, _ := strings.Cut(a, "=")
				at := m
				parts := strings.Split(key, ".")
				for _, group := range parts[:len(parts)-1] {
					if at[group] == nil {
						at[group] = map[string]any{}
					}
					at = at[group].(map[string]any)
				}
				at[parts[len(parts)-1]] = value
			}
			out = append(out, m)
		}
		return out
	}))
}

type explosive struct{}

func (*explosive) Error() string { panic("boom") }

func TestLine(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	h := newLineHandler(&out, style{}, false)
	log := func(l *slog.Logger, attrs ...any) string {
		t.Helper()
		out.Reset()
		l.Warn("trying\nagain \x1b[31mnow", attrs...)
		_, line, ok := strings.Cut(out.String(), " ") // the time of day
		require.True(t, ok)
		return line
	}
	plain := slog.New(h)
	task := slog.New(h.WithAttrs([]slog.Attr{slog.String("run", "F/r1"), slog.String("task", "fit[3]"), slog.Int("attempt", 1)}))
	second := slog.New(h.WithAttrs([]slog.Attr{slog.String("task", "fit"), slog.Int("attempt", 2)}))
	for _, test := range []struct {
		name, got, want string
	}{
		{"no task", log(plain), "WARN  trying again now\n"},
		{"task", log(task), "WARN  fit[3]: trying again now\n"},
		{"second attempt", log(second), "WARN  fit (attempt 2): trying again now\n"},
		{"values", log(task, "n", 3, "d", 1500*time.Millisecond, "err", errors.New("a b"), "empty", ""), `WARN  fit[3]: trying again now n=3 d=1.5s err="a b" empty=""` + "\n"},
		{"hostile", log(task, "k\x1b[2J", "\x1b]0;t\x07v"), "WARN  fit[3]: trying again now k=v\n"},
		{"the author's own keys of the same names", log(task, "attempt", 7, "run", "x"), "WARN  fit[3]: trying again now attempt=7 run=x\n"},
		{"item of a batch", log(task.With("task", "fit[7]")), "WARN  fit[7]: trying again now\n"},
		{"the author's own", log(task.With("task", "import")), "WARN  fit[3]: trying again now task=import\n"},
		{"group", log(task.WithGroup("g").With("a", 1), slog.Group("h", "b", 2)), "WARN  fit[3]: trying again now g.a=1 g.h.b=2\n"},
		{"panics", log(task, "err", (*explosive)(nil)), "trying again now err="},
	} {
		require.Contains(t, test.got, test.want, test.name)
	}

	h = newLineHandler(&out, style{}, true)
	require.Contains(t, log(slog.New(h.WithAttrs([]slog.Attr{slog.String("run", "F/r1"), slog.String("task", "fit"), slog.Int("attempt", 1)}))), "F/r1/fit: trying")
}

// TestLineHandlerBranches derives two loggers from one: neither may see the other's attributes.
func TestLineHandlerBranches(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	base := slog.New(newLineHandler(&out, style{}, false)).With("a", 1, "b", 2, "c", 3)
	one, two := base.With("one", 1), base.With("two", 2)
	one.Info("x")
	two.Info("x")
	require.Contains(t, out.String(), "x a=1 b=2 c=3 one=1\n")
	require.Contains(t, out.String(), "x a=1 b=2 c=3 two=2\n")
}

func TestLineHandlerConcurrently(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	l := slog.New(newLineHandler(&out, style{}, false)).With("task", "fit")
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for i := range 50 {
				l.Info("line", "i", i)
			}
		})
	}
	all.Wait()
	lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
	require.Len(t, lines, 400)
	for _, line := range lines {
		require.Regexp(t, `^\d\d:\d\d:\d\d\.\d{3} INFO  fit: line i=\d+$`, line)
	}
}

// TestSameLine shows a kept line as it was shown when it was logged.
func TestSameLine(t *testing.T) {
	t.Parallel()
	var kept, shown bytes.Buffer
	l := slog.New(slog.NewMultiHandler(slog.NewJSONHandler(&kept, nil), newLineHandler(&shown, style{}, false)))
	l.Info("rows read", "n", 12, "from", "a b", "ok", true)
	got := entryOf("", 1, false, records.ReadLogLine(bytes.TrimSpace(kept.Bytes()))).line(style{})
	require.Equal(t, shown.String(), got+"\n")
}

func TestLibraryHandler(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	var ending atomic.Bool
	text := slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelWarn})
	quiet := slog.New(&libraryHandler{Handler: text, ending: &ending})
	loud := slog.New(&libraryHandler{Handler: text, ending: &ending, routine: true})
	said := func(l *slog.Logger, message string) bool {
		out.Reset()
		r := slog.NewRecord(time.Now(), slog.LevelError, message, 0)
		require.NoError(t, l.With("worker_id", 1).WithGroup("g").Handler().Handle(t.Context(), r))
		l.Info("never at level warn")
		require.NotContains(t, out.String(), "never")
		return out.Len() > 0
	}
	require.False(t, said(quiet, "Activity error."), "the run's progress tells of failed attempts")
	require.True(t, said(quiet, "Workflow panic"))
	require.True(t, said(loud, "Activity error."))
	ending.Store(true)
	require.False(t, said(quiet, "Failed to poll for task."))
	require.True(t, said(loud, "Failed to poll for task."))
	require.False(t, quiet.Enabled(t.Context(), slog.LevelInfo))
}
