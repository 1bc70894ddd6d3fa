package records_test

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell/records"
)

func TestReadLogLine(t *testing.T) {
	t.Parallel()
	noon := time.Date(2026, 1, 31, 12, 0, 0, 123_000_000, time.UTC)
	for _, test := range []struct {
		name, line string
		want       records.LogLine
	}{
		{"as slog writes it", `{"time":"2026-01-31T12:00:00.123Z","level":"INFO","msg":"fitted","loss":0.5,"name":"a"}`,
			records.LogLine{Time: noon, Level: "INFO", Message: "fitted", Attrs: []string{"loss=0.5", "name=a"}}},
		{"in any order, attributes in theirs", `{"z":1,"msg":"m","a":2}`, records.LogLine{Message: "m", Attrs: []string{"z=1", "a=2"}}},
		{"quoted where it has to be", `{"msg":"m","a":"b c","d":"e=f","g":"h\"i","j":"k\nl","m":""}`,
			records.LogLine{Message: "m", Attrs: []string{`a="b c"`, `d="e=f"`, `g="h\"i"`, `j="k\nl"`, `m=""`}}},
		{"values of all kinds", `{"msg":"m","n":null,"t":true,"g":{"a": [1]},"f":1e3}`, records.LogLine{Message: "m", Attrs: []string{"n=null", "t=true", `g={"a": [1]}`, "f=1e3"}}},
		{"a message of several lines", `{"msg":"a\nb"}`, records.LogLine{Message: "a\nb"}},
		{"a message that is no text", `{"msg":5}`, records.LogLine{Message: "5"}},
		{"a time that is none", `{"time":"noon","msg":"m"}`, records.LogLine{Message: "m"}},
		{"nothing in it", `{}`, records.LogLine{}},
		{"line break and blanks around it", " {\"msg\":\"m\"}\r\n", records.LogLine{Message: "m"}},

		{"plain text", "panic: oh", records.LogLine{Message: "panic: oh"}},
		{"empty", "", records.LogLine{}},
		{"cut in a value", `{"msg":"hel`, records.LogLine{Message: `{"msg":"hel`}},
		{"cut after a value", `{"msg":"hello"`, records.LogLine{Message: `{"msg":"hello"`}},
		{"cut after a comma", `{"msg":"hello",`, records.LogLine{Message: `{"msg":"hello",`}},
		{"two objects", `{"msg":"a"}{"msg":"b"}`, records.LogLine{Message: `{"msg":"a"}{"msg":"b"}`}},
		{"more behind it", `{"msg":"a"} x`, records.LogLine{Message: `{"msg":"a"} x`}},
		{"an array", `["msg"]`, records.LogLine{Message: `["msg"]`}},
		{"a number", `5`, records.LogLine{Message: `5`}},
		{"no value", `{"msg"}`, records.LogLine{Message: `{"msg"}`}},
		{"a wrong key", `{msg:"a"}`, records.LogLine{Message: `{msg:"a"}`}},
		{"the wrong bracket", `{"msg":"a"]`, records.LogLine{Message: `{"msg":"a"]`}},
		{"bytes that are no text", "\xff\x00", records.LogLine{Message: "\xff\x00"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, test.want, records.ReadLogLine([]byte(test.line)))
		})
	}
}

// What a step's logger writes is what is read.
func TestReadLogLineOfSlog(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	log := slog.New(slog.NewJSONHandler(&b, &slog.HandlerOptions{Level: slog.LevelDebug}))
	before := time.Now().Add(-time.Second)
	log.With("a", 1).WithGroup("g").Debug("it says \"hi\"", "error", errors.New("no: mail"), "took", 1500*time.Millisecond, "list", []string{"x"})
	log.Log(t.Context(), slog.LevelError+1, "")

	lines := strings.SplitAfter(b.String(), "\n")
	l := records.ReadLogLine([]byte(lines[0]))
	require.WithinRange(t, l.Time, before, time.Now().Add(time.Second))
	require.Equal(t, "DEBUG", l.Level)
	require.Equal(t, `it says "hi"`, l.Message)
	require.Equal(t, []string{"a=1", `g={"error":"no: mail","took":1500000000,"list":["x"]}`}, l.Attrs)
	l = records.ReadLogLine([]byte(lines[1]))
	require.Equal(t, "ERROR+1", l.Level)
	require.Empty(t, l.Message)
}

func TestLogLineString(t *testing.T) {
	t.Parallel()
	local := time.Date(2026, 1, 31, 12, 0, 0, 5_000_000, time.Local)
	for _, test := range []struct {
		line records.LogLine
		want string
	}{
		{records.LogLine{}, ""},
		{records.LogLine{Message: "m"}, "m"},
		{records.LogLine{Time: local, Level: "INFO", Message: "m", Attrs: []string{"a=1", `b="c d"`}}, `12:00:00.005 INFO  m a=1 b="c d"`},
		{records.LogLine{Time: local.UTC(), Level: "ERROR", Message: "m"}, "12:00:00.005 ERROR m"},
		{records.LogLine{Level: "ERROR+1", Message: "m"}, "ERROR+1 m"},
		{records.LogLine{Message: "a\n\tb é 世"}, "a\n\tb é 世"},
		{records.LogLine{Message: "\x1b]0;title\x07\x1b[2J\rover\u0085\x00", Attrs: []string{"a=\x1b[31m"}}, `\x1b]0;title\a\x1b[2J\rover\u0085\x00 a=\x1b[31m`},
		{records.LogLine{Message: "a\xffb"}, "a\uFFFDb"},
	} {
		require.Equal(t, test.want, test.line.String())
	}
}

func FuzzReadLogLine(f *testing.F) {
	for _, line := range []string{
		"", "{}", `{"msg":"m"}`, `{"time":"2026-01-31T12:00:00Z","level":"INFO","msg":"m","a":{"b":[1,null]}}`, `{"msg":"hel`, "\xff", "\x1b[2J", `{"a":"\ud800"}`,
		strings.Repeat("[", 100), strings.Repeat(`{"a":`, 100),
	} {
		f.Add([]byte(line))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		l := records.ReadLogLine(line)
		text := l.String()
		require.True(t, utf8.ValidString(text))
		require.False(t, strings.ContainsFunc(text, func(r rune) bool { return unicode.IsControl(r) && r != '\n' && r != '\t' }), "%q", text)
		if !bytes.HasPrefix(bytes.TrimSpace(line), []byte("{")) {
			require.Equal(t, records.LogLine{Message: string(line)}, l, "what is no object is the message")
		}
	})
}
