package policies

import (
	"encoding/json"
	"errors"
	"runtime/debug"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// nastyText draws texts of all lengths, of bytes that are no text, of runes of many bytes and of what
// JSON escapes.
func nastyText() *rapid.Generator[string] {
	return rapid.OneOf(
		rapid.String(),
		rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) }),
		rapid.Custom(func(t *rapid.T) string {
			unit := rapid.SampledFrom([]string{"a", "<", "\x01", "\x7f", "\xff", "é", "\u2028", "世", "𝄞", "e\u0301", "\n", "\""}).Draw(t, "unit")
			return strings.Repeat(unit, rapid.SampledFrom([]int{0, 1, 100, 511, 512, 1024, 2047, 2048, 2049, 3072, 5000, 20_000}).Draw(t, "times"))
		}),
	)
}

// nastyFailure draws failures that nobody should make, but that must not stop a worker.
func nastyFailure() *rapid.Generator[Failure] {
	return rapid.Custom(func(t *rapid.T) Failure {
		return Failure{
			Class:        rapid.OneOf(rapid.SampledFrom(classes), rapid.Just(Class("")), rapid.Map(nastyText(), func(s string) Class { return Class(s) })).Draw(t, "Class"),
			Message:      nastyText().Draw(t, "Message"),
			Type:         nastyText().Draw(t, "Type"),
			Stack:        nastyText().Draw(t, "Stack"),
			Flow:         nastyText().Draw(t, "Flow"),
			Run:          nastyText().Draw(t, "Run"),
			Step:         nastyText().Draw(t, "Step"),
			Task:         nastyText().Draw(t, "Task"),
			Worker:       nastyText().Draw(t, "Worker"),
			Attempt:      rapid.Int().Draw(t, "Attempt"),
			CodeFailures: rapid.Int().Draw(t, "CodeFailures"),
			LostAttempts: rapid.Int().Draw(t, "LostAttempts"),
			RetryAfter:   time.Duration(rapid.Int64().Draw(t, "RetryAfter")),
			Time:         time.Unix(rapid.Int64().Draw(t, "Time"), 0),
		}
	})
}

func TestCut(t *testing.T) {
	t.Parallel()
	note := "… (cut)" // 9 bytes
	for _, test := range []struct {
		s     string
		limit int
		want  string
	}{
		{"", 0, ""},
		{"abc", 3, "abc"},
		{"abc", 2, ""},
		{"", -1, ""},
		{strings.Repeat("a", 10), 10, strings.Repeat("a", 10)},
		{strings.Repeat("a", 11), 10, "a" + note},
		{strings.Repeat("é", 10), 11, "é" + note},
		{strings.Repeat("é", 10), 12, "é" + note},
		{strings.Repeat("é", 10), 13, "éé" + note},
		{strings.Repeat("𝄞", 10), 12, note},
		{strings.Repeat("\x80", 20), 12, note},
	} {
		require.Equal(t, test.want, cut(test.s, test.limit), "cut(%q, %d)", test.s, test.limit)
	}
}

func FuzzMessage(f *testing.F) {
	for _, s := range []string{"", "boom", "\xff\xfe", strings.Repeat("é", 3000), strings.Repeat("\xff", 3000), "a\x00b"} {
		f.Add([]byte(s), 100)
	}
	f.Fuzz(func(t *testing.T, b []byte, limit int) {
		m := message(string(b))
		require.LessOrEqual(t, len(m), maxMessage)
		require.True(t, utf8.ValidString(m), "%q", m)
		require.Equal(t, m, message(m), "a message that fits is not changed again")
		if len(b) <= maxMessage && utf8.Valid(b) {
			require.Equal(t, string(b), m)
		}

		valid := strings.ToValidUTF8(string(b), "?")
		c := cut(valid, limit)
		require.LessOrEqual(t, len(c), max(limit, 0))
		require.True(t, utf8.ValidString(c), "%q", c)
		require.True(t, strings.HasPrefix(valid, strings.TrimSuffix(c, "… (cut)")), "%q of %q", c, valid)
		_ = cut(string(b), limit)
		_ = trimStack(string(b))
	})
}

// Whatever a failure holds, it fits, and what is important is what is left.
func TestFit(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		f := nastyFailure().Draw(t, "failure")
		f.Class, f.Time = Unknown, time.Time{} // Error sees to them
		f.Message = message(f.Message)
		whole := f
		f.fit()
		if size := f.size(); size > maxFailure {
			t.Fatalf("%d bytes are left", size)
		}
		if whole.size() <= maxFailure && f != whole {
			t.Fatalf("what fits was changed: %+v", f)
		}
		if len(whole.Message) <= 512 && f.Message != whole.Message {
			t.Fatalf("a short message was cut to %q", f.Message)
		}
	})
}

func TestFitKeepsTheMessage(t *testing.T) {
	t.Parallel()
	f := Failure{Class: Bug, Message: strings.Repeat("m", 1500), Stack: strings.Repeat("s\n", 5000), Flow: "F", Run: "r", Step: "s", Task: "s[1]", Worker: "w"}
	f.fit()
	require.Len(t, f.Message, 1500, "the stack is cut first")
	require.Greater(t, len(f.Stack), 500, "but there is room for some of it")
	require.Greater(t, f.size(), maxFailure-20, "all the room is used")
	require.Equal(t, "s[1]", f.Task)
}

func TestPanicFailure(t *testing.T) {
	t.Parallel()
	caught := func(call func()) (f *Failure) {
		defer func() { f = PanicFailure(recover(), debug.Stack()) }()
		call()
		return nil
	}
	f := caught(func() { panicDeep(3) })
	require.Equal(t, Bug, f.Class)
	require.Equal(t, "PanicError", f.Type)
	require.Equal(t, "panic: deep", f.Message)
	require.Regexp(t, `^goroutine \d+ \[running\]:\n.*policies\.panicDeep\(`, f.Stack, "the first frame is the one that panicked")
	require.Contains(t, f.Stack, "failure_test.go:")
	require.NotContains(t, f.Stack, "debug.Stack")

	require.Equal(t, "panic: boom", caught(func() { panic(errors.New("boom")) }).Message)
	require.Equal(t, "panic: 42", caught(func() { panic(42) }).Message)
	require.Contains(t, caught(func() { var m map[string]int; m["a"] = 1 }).Message, "panic: assignment to entry in nil map") //nolint:govet,staticcheck // it panics on purpose
	require.Contains(t, caught(func() { panic(nil) }).Message, "panic: panic called with nil argument")                       //nolint:govet // it panics on purpose
	require.Equal(t, "panic: a value of type *policies.stringer that cannot be printed", caught(func() { panic(&stringer{}) }).Message)
	require.Equal(t, "panic: a\uFFFDb", caught(func() { panic("a\xffb") }).Message)

	f = caught(func() { panicDeep(2000) })
	require.LessOrEqual(t, f.size(), maxFailure)
	require.True(t, strings.HasSuffix(f.Stack, "… (cut)"))

	require.Empty(t, PanicFailure("x", nil).Stack)
	require.Equal(t, "some other form", PanicFailure("x", []byte("some other form")).Stack)
	require.Equal(t, "goroutine 1 [running]:\nf()\n", PanicFailure("x", []byte("goroutine 1 [running]:\nf()\n")).Stack, "no frame panicked")
	require.Equal(t, "goroutine 1 [running]:\na\npanic(x", PanicFailure("x", []byte("goroutine 1 [running]:\na\npanic(x")).Stack, "cut short")
}

//go:noinline
func panicDeep(n int) {
	if n == 0 {
		panic("deep")
	}
	panicDeep(n - 1)
}

// stringer panics when it is printed, and again when fmt prints why.
type stringer struct{}

func (*stringer) Error() string { panic(&stringer{}) }

func TestFailureJSON(t *testing.T) {
	t.Parallel()
	whole := Failure{
		Class: RateLimited, Message: "slow down", Type: "HTTPError", Stack: "goroutine 1", Flow: "F", Run: "r", Step: "s", Task: "s[1]",
		Attempt: 3, CodeFailures: 2, LostAttempts: 1, RetryAfter: 90 * time.Second, Time: time.Date(2026, 1, 31, 12, 0, 0, 5, time.UTC), Worker: "w",
	}
	for _, test := range []struct {
		json    string
		failure Failure
	}{
		{`{"class":"Bug"}`, Failure{Class: Bug}},
		{`{"class":"RateLimited","message":"slow down","type":"HTTPError","stack":"goroutine 1","flow":"F","run":"r","step":"s","task":"s[1]",` +
			`"attempt":3,"code_failures":2,"lost_attempts":1,"time":"2026-01-31T12:00:00.000000005Z","worker":"w","retry_after":"1m30s"}`, whole},
	} {
		b, err := json.Marshal(test.failure)
		require.NoError(t, err)
		require.Equal(t, test.json, string(b), "the form of records that exist must not change")
		b, err = json.Marshal(&test.failure)
		require.NoError(t, err)
		require.Equal(t, test.json, string(b), "a pointer is written the same way")
		var back Failure
		require.NoError(t, json.Unmarshal(b, &back))
		require.Equal(t, test.failure, back)
	}

	var f Failure
	require.NoError(t, json.Unmarshal([]byte(`{"class":"Novel","message":"m","invented_later":{"a":1}}`), &f), "unknown fields and classes of a newer Stepwell are read")
	require.Equal(t, Failure{Class: "Novel", Message: "m"}, f)
	require.ErrorContains(t, json.Unmarshal([]byte(`{"retry_after":"soon"}`), &f), `"soon" is not a duration`)
	require.Equal(t, "m", f.Message, "a failure that cannot be read changes nothing")
}

func TestFailureJSONRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		f := nastyFailure().Draw(t, "failure")
		f.Time = time.Unix(rapid.Int64Range(0, 1<<35).Draw(t, "seconds"), rapid.Int64Range(0, 999_999_999).Draw(t, "nanoseconds")).UTC()
		for _, s := range []*string{&f.Message, &f.Type, &f.Stack, &f.Flow, &f.Run, &f.Step, &f.Task, &f.Worker, (*string)(&f.Class)} {
			*s = strings.ToValidUTF8(*s, "?")
		}
		b, err := json.Marshal(f)
		if err != nil {
			t.Fatal(err)
		}
		var back Failure
		if err := json.Unmarshal(b, &back); err != nil {
			t.Fatalf("%s: %v", b, err)
		}
		if back != f {
			t.Fatalf("%+v came back as %+v", f, back)
		}
	})
}

func FuzzFailureJSON(f *testing.F) {
	f.Add([]byte(`{"class":"Bug","message":"m","retry_after":"30s","time":"2026-01-31T12:00:00Z","attempt":1}`))
	f.Add([]byte(`{"class":"\ud800","retry_after":"9999999h"}`))
	f.Add([]byte(`null`))
	f.Add([]byte(`{"time":"0000-01-01T00:00:00+23:59"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var failure Failure
		if json.Unmarshal(b, &failure) != nil {
			return
		}
		again, err := json.Marshal(failure)
		require.NoError(t, err, "what was read can be written")
		var back Failure
		require.NoError(t, json.Unmarshal(again, &back), "%s", again)
		require.True(t, failure.Time.Equal(back.Time))
		failure.Time, back.Time = time.Time{}, time.Time{}
		require.Equal(t, failure, back)
	})
}

func TestShort(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		0: "0s", 7: "7ns", 1500 * time.Nanosecond: "1.5µs", 1234567: "1ms", 2 * time.Second: "2s", 2718 * time.Millisecond: "2.7s",
		59960 * time.Millisecond: "1m", 90 * time.Second: "1m30s", 10 * time.Minute: "10m", time.Hour: "1h", 30*time.Hour + 4*time.Second: "30h0m4s", time.Hour + 5*time.Minute: "1h5m",
		longest: "2562047h47m16.854775807s",
	} {
		require.Equal(t, want, short(d), "short(%d)", int64(d))
	}
}

func TestJitterText(t *testing.T) {
	t.Parallel()
	for j, want := range map[Jitter]string{FullJitter: "full", EqualJitter: "equal", NoJitter: "none"} {
		b, err := j.MarshalText()
		require.NoError(t, err)
		require.Equal(t, want, string(b))
		var back Jitter
		require.NoError(t, back.UnmarshalText(b))
		require.Equal(t, j, back)
	}
	require.Equal(t, "Jitter(3)", Jitter(3).String())
	var j Jitter
	require.Error(t, j.UnmarshalText([]byte("Full")))
}
