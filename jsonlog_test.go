package stepwell

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
	"testing/slogtest"

	"github.com/stretchr/testify/require"
)

// TestJSONLogContract runs the standard library's rules for handlers.
func TestJSONLogContract(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	require.NoError(t, slogtest.TestHandler(newJSONLog(&out), func() (all []map[string]any) {
		for line := range strings.Lines(out.String()) {
			var m map[string]any
			require.NoError(t, json.Unmarshal([]byte(line), &m))
			all = append(all, m)
		}
		return all
	}))
}

func TestJSONLog(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	l := slog.New(newJSONLog(&out)).With("run", "TrainFlow/2026", "task", "fit[3]", "attempt", 2)
	line := func(log func()) string {
		t.Helper()
		out.Reset()
		log()
		_, rest, ok := strings.Cut(out.String(), `,"msg":`)
		require.True(t, ok, out.String())
		return strings.TrimSpace(rest)
	}
	const of = `"flow":"TrainFlow","run":"2026","step":"fit","task":"fit[3]","attempt":2`
	require.Equal(t, `"hi",`+of+`,"n":1}`, line(func() { l.Debug("hi", "n", 1) }))
	require.Equal(t, `"hi","mine":true,`+of+`}`, line(func() { l.With("mine", true).Info("hi") }))
	require.Equal(t, `"hi",`+of+`,"g":{"task":"a","n":1}}`, line(func() { l.WithGroup("g").Info("hi", "task", "a", "n", 1) }))
	require.Equal(t, `"hi",`+of+`,"g":{"m":2,"n":1}}`, line(func() { l.WithGroup("g").With("m", 2).Info("hi", "n", 1) }))
	require.Equal(t, `"hi",`+of+`,"task":"mine"}`, line(func() { l.Info("hi", "task", "mine") }), "what a step calls task is its own")
	item := `"flow":"TrainFlow","run":"2026","step":"fit","task":"fit[9]","attempt":2`
	require.Equal(t, `"hi",`+item+`}`, line(func() { l.With("task", "fit[9]").Info("hi") }), "a batch names itself, then its items")
	require.Equal(t, `"hi",`+item+`,"n":1}`, line(func() { l.Info("hi", "task", "fit[9]", "n", 1) }))
}
