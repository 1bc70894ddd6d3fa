package predict_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell/activities/predict"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/policies"
)

func TestParseKey(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]string{
		`"8e03978e-40d5-43dd-bc93-6894a57f9324"`: "8e03978e-40d5-43dd-bc93-6894a57f9324",
		`bare`:                                   "bare",
		` "a b" `:                                "a b",
		`"a\"b\\c"`:                              `a"b\c`,
		`"a,b;c"`:                                "a,b;c",
	} {
		got, err := predict.ParseKey(http.Header{predict.KeyHeader: {value}})
		require.NoError(t, err, value)
		require.Equal(t, want, got)
	}
	for _, value := range []string{
		"", `""`, `"`, `"a`, `a"`, `"a"b`, `"a\b"`, `"a\`, `"a";p=1`, "a,b", "a b", "ä", "\"a\x00\"", strings.Repeat("x", 256),
	} {
		_, err := predict.ParseKey(http.Header{predict.KeyHeader: {value}})
		require.Error(t, err, "%q", value)
	}
	_, err := predict.ParseKey(http.Header{predict.KeyHeader: {"a", "a"}})
	require.Error(t, err)
	_, err = predict.ParseKey(http.Header{})
	require.ErrorContains(t, err, "missing")
}

func FuzzParseKey(f *testing.F) {
	for _, seed := range []string{``, `"`, `"a"`, `a`, `"\"\\"`, `"a`, ` "x" `, "\"\x7f\"", `"a","b"`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		key, err := predict.ParseKey(http.Header{predict.KeyHeader: {value}})
		if err != nil {
			require.Empty(t, key)
			return
		}
		require.NotEmpty(t, key)
		require.LessOrEqual(t, len(key), 255)
		again, err := predict.ParseKey(http.Header{predict.KeyHeader: {predict.FormatKey(key)}})
		require.NoError(t, err)
		require.Equal(t, key, again)
	})
}

func TestKey(t *testing.T) {
	t.Parallel()
	in := func(i flow.Info) string {
		ctx := flow.NewContext(t.Context(), flow.Runtime{Info: i})
		k, err := predict.Key(ctx, "op")
		require.NoError(t, err)
		return k
	}
	first := in(flow.Info{Flow: "F", Run: "r1", Step: "s", Index: flow.Index{3}, Attempt: 1})
	require.Equal(t, first, in(flow.Info{Flow: "F", Run: "r1", Step: "s", Index: flow.Index{3}, Attempt: 2}), "attempts")
	require.Equal(t, first, in(flow.Info{Flow: "F", Run: "r2", Root: "r1", Step: "s", Index: flow.Index{3}}), "resumes")
	require.NotEqual(t, first, in(flow.Info{Flow: "F", Run: "r1", Step: "s", Index: flow.Index{4}}))
	require.True(t, strings.HasSuffix(first, ".op"))

	ctx := flow.NewContext(t.Context(), flow.Runtime{Info: flow.Info{Flow: "F", Run: "r", Step: "s"}})
	seen := map[string]bool{}
	for _, operation := range []string{"", "a", "ä", "ö", "ö\x00", strings.Repeat("x", 222), strings.Repeat("x", 223), strings.Repeat("x", 300)} {
		k, err := predict.Key(ctx, operation)
		require.NoError(t, err)
		require.False(t, seen[k], operation)
		seen[k] = true
		_, err = predict.ParseKey(http.Header{predict.KeyHeader: {predict.FormatKey(k)}})
		require.NoError(t, err, "%q becomes %q", operation, k)
	}

	k, err := predict.Key(t.Context(), "alone")
	require.NoError(t, err)
	require.Equal(t, "alone", k)
	_, err = predict.Key(t.Context(), "")
	require.Equal(t, policies.Permanent, policies.Classify(err).Class)
}
