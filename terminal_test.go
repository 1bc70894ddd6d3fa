package stepwell

import (
	"bytes"
	"errors"
	"strings"
	"sync"
	"syscall"
	"testing"
	"unicode/utf8"

	"charm.land/lipgloss/v2"
	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell/flow"
)

func TestClean(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ in, line, text string }{
		{"plain", "plain", "plain"},
		{"wärmer 🌡 日本", "wärmer 🌡 日本", "wärmer 🌡 日本"},
		{"\x1b[1;31mred\x1b[0m", "red", "red"},
		{"\u009b31mred", "red", "red"},
		{"\x1b]0;title\x07after", "after", "after"},
		{"\x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\", "link", "link"},
		{"\u009d0;title\u009cafter", "after", "after"},
		{"\x1bPq#0\x1b\\after", "after", "after"},
		{"\x1b(Bafter", "after", "after"},
		{"\x1b]unterminated is text", "unterminated is text", "unterminated is text"},
		{"end\x1b", "end", "end"},
		{"end\x1b[", "end", "end"},
		{"a\x00b\x08c\x7fd", "abcd", "abcd"},
		{"two\r\nlines\tand\rmore", "two lines and more", "two\nlines\tand more"},
		{"\u202egpj.exe\u2066x\u200f", "gpj.exex", "gpj.exex"},
		{"bad \xff\xfe byte", "bad \ufffd\ufffd byte", "bad \ufffd\ufffd byte"},
		{"\u2028x", " x", " x"},
	} {
		require.Equal(t, test.line, clean(test.in), "clean(%q)", test.in)
		require.Equal(t, test.text, cleanText(test.in), "cleanText(%q)", test.in)
	}
}

func FuzzClean(f *testing.F) {
	f.Add("\x1b[31mred\x1b[0m\x1b]0;title\x07 \u009b2J")
	f.Add("\x1b\x1b[\x1b]")
	f.Fuzz(func(t *testing.T, s string) {
		got := clean(s)
		require.True(t, utf8.ValidString(got))
		require.False(t, strings.ContainsFunc(got, hidden), "%q", got)
		require.NotContains(t, got, "\n")
		require.Equal(t, got, clean(got))
		b, err := marshalJSON(s, "")
		require.NoError(t, err)
		require.False(t, bytes.ContainsFunc(bytes.TrimSuffix(b, []byte("\n")), hidden), "%q", b)
	})
}

func TestTable(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	tab := newTable(&out)
	tab.indent = "  "
	s := style{colour: true}
	tab.row("A", "B", "C")
	tab.row(s.bad("日本"), "x", "")
	tab.row("a row of one cell that is long")
	tab.row("abcde", "", "z")
	tab.flush()
	require.Equal(t, "  A      B  C\n  "+s.bad("日本")+"   x\n  a row of one cell that is long\n  abcde     z\n", out.String())
	out.Reset()
	tab.flush()
	require.Empty(t, out.String())
}

func TestClip(t *testing.T) {
	t.Parallel()
	s := style{colour: true}
	for width := 1; width < 30; width++ {
		got := clip("plain "+s.bad("red and 日本")+" tail", width)
		require.LessOrEqual(t, lipgloss.Width(got), width)
	}
	require.Equal(t, "same", clip("same", 4))
	require.Equal(t, "sa…", clip("same", 3))
	require.Equal(t, "same", clip("same", 0))
}

// TestBlock follows what the screen shows when lines are written above a block that is redrawn.
func TestBlock(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	term := newTerminal(&out, &out, func(string) (string, bool) { return "", false })
	for _, s := range []*stream{&term.out, &term.err} {
		s.screen, s.size = true, func() (int, int) { return 40, 10 }
	}
	show := func() string { return screen(t, out.String()) }
	_, _ = term.out.Write([]byte("header\n"))
	term.out.draw([]string{"● one", "○ two"})
	require.Equal(t, "header\n● one\n○ two\n", show())
	_, _ = term.err.Write([]byte("a line of the log\n"))
	require.Equal(t, "header\na line of the log\n● one\n○ two\n", show())
	term.out.draw([]string{"✓ one, which is longer", "● two"})
	require.Equal(t, "header\na line of the log\n✓ one, which is longer\n● two\n", show())
	term.out.draw([]string{"✓"})
	require.Equal(t, "header\na line of the log\n✓\n", show())
	term.leave()
	_, _ = term.out.Write([]byte("done\n"))
	require.Equal(t, "header\na line of the log\n✓\ndone\n", show())
}

// screen is what a terminal shows after the few sequences that a block uses.
func screen(t *testing.T, written string) string {
	t.Helper()
	lines := [][]rune{nil}
	y, x := 0, 0
	for len(written) > 0 {
		if rest, ok := strings.CutPrefix(written, "\x1b["); ok {
			n := 0
			for rest[0] >= '0' && rest[0] <= '9' {
				n, rest = n*10+int(rest[0]-'0'), rest[1:]
			}
			switch rest[0] {
			case 'A':
				require.LessOrEqual(t, n, y, "the cursor leaves the top of the screen")
				y -= n
			case 'K':
				lines[y] = lines[y][:min(x, len(lines[y]))]
			case 'J':
				lines[y] = lines[y][:min(x, len(lines[y]))]
				lines = lines[:y+1]
			default:
				t.Fatalf("unknown sequence ESC [ %q", rest[0])
			}
			written = rest[1:]
			continue
		}
		r, n := utf8.DecodeRuneInString(written)
		written = written[n:]
		switch r {
		case '\r':
			x = 0
		case '\n':
			x, y = 0, y+1
			if y == len(lines) {
				lines = append(lines, nil)
			}
		default:
			for len(lines[y]) <= x {
				lines[y] = append(lines[y], ' ')
			}
			lines[y][x] = r
			x++
		}
	}
	var text []string
	for _, l := range lines {
		text = append(text, string(l))
	}
	return strings.Join(text, "\n")
}

func TestConcurrentWrites(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	term := newTerminal(&out, &out, func(string) (string, bool) { return "", false })
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 100 {
				_, _ = term.err.Write([]byte("a whole line\n"))
			}
		})
	}
	all.Wait()
	require.Equal(t, strings.Repeat("a whole line\n", 800), out.String())
}

// brokenWriter fails after some bytes, as a pipe does whose reader is gone.
type brokenWriter struct {
	room int
	err  error
}

func (w *brokenWriter) Write(p []byte) (int, error) {
	if len(p) > w.room {
		return 0, w.err
	}
	w.room -= len(p)
	return len(p), nil
}

func TestOutputThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	app := App{Flows: []*flow.Flow{s.flow}}
	env := func(name string) (string, bool) {
		if name == "STEPWELL_STORE" {
			return s.dir, true
		}
		return "", false
	}
	for _, verb := range []string{
		"list TrainFlow", "list --json", "show TrainFlow/latest", "why TrainFlow/latest", "logs TrainFlow/" + completedRun,
		"dump TrainFlow/" + completedRun + "/report", "card TrainFlow/" + resumedRun + "/report", "check", "graph TrainFlow", "--help",
	} {
		var stderr bytes.Buffer
		code := app.Run(t.Context(), strings.Fields(verb), IO{Out: &brokenWriter{err: syscall.EPIPE}, Err: &stderr, Env: env})
		require.Equal(t, ExitOK, code, "%s: a reader that has seen enough is no failure: %s", verb, stderr.String())
		require.Empty(t, stderr.String())

		code = app.Run(t.Context(), strings.Fields(verb), IO{Out: &brokenWriter{err: errors.New("disk full")}, Err: &stderr, Env: env})
		require.Equal(t, ExitFailed, code, verb)
		require.Contains(t, stderr.String(), "write the output: disk full")
	}
}
