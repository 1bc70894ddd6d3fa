package policies_test

import (
	"context"
	"encoding/json"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/stepwell-flows/stepwell/policies"
)

func TestNewSpecDefaults(t *testing.T) {
	t.Parallel()
	defaults := policies.Spec{
		MaximumAttempts: 1, InitialInterval: time.Second, BackoffCoefficient: 2, MaximumInterval: 100 * time.Second, MaximumRetryAfter: time.Hour, Lost: 5,
	}
	with := func(change func(*policies.Spec)) policies.Spec {
		s := defaults
		change(&s)
		return s
	}
	type state struct{}
	catch := policies.Catch(func(context.Context, *state, *policies.Failure) error { return nil })
	for _, test := range []struct {
		name    string
		retry   *policies.Retry
		timeout *policies.Timeout
		catch   *policies.CatchPolicy
		want    policies.Spec
	}{
		{name: "nothing", want: defaults},
		{name: "zero retry", retry: &policies.Retry{}, want: defaults},
		{name: "everything", retry: &policies.Retry{
			MaximumAttempts: 3, InitialInterval: time.Minute, BackoffCoefficient: 1.5, MaximumInterval: time.Hour,
			Jitter: policies.NoJitter, MaximumRetryAfter: 2 * time.Hour, NonRetryable: []string{"Bug"}, RetryIf: func(error) bool { return true }, Lost: 7,
		}, timeout: &policies.Timeout{Attempt: 1, Total: 2, Queue: 3, Heartbeat: 4}, catch: &catch, want: policies.Spec{
			MaximumAttempts: 3, InitialInterval: time.Minute, BackoffCoefficient: 1.5, MaximumInterval: time.Hour,
			Jitter: policies.NoJitter, MaximumRetryAfter: 2 * time.Hour, NonRetryable: []string{"Bug"}, HasRetryIf: true, Lost: 7,
			Timeout: policies.Timeout{Attempt: 1, Total: 2, Queue: 3, Heartbeat: 4}, Catch: true,
		}},
		{name: "maximum interval follows the first", retry: &policies.Retry{MaximumAttempts: 2, InitialInterval: 3 * time.Second}, want: with(func(s *policies.Spec) {
			s.MaximumAttempts, s.InitialInterval, s.MaximumInterval = 2, 3*time.Second, 300*time.Second
		})},
		{name: "maximum interval does not overflow", retry: &policies.Retry{MaximumAttempts: 2, InitialInterval: math.MaxInt64 / 2}, want: with(func(s *policies.Spec) {
			s.MaximumAttempts, s.InitialInterval, s.MaximumInterval = 2, math.MaxInt64/2, math.MaxInt64
		})},
		{name: "no lost attempts", retry: &policies.Retry{Lost: -1}, want: with(func(s *policies.Spec) { s.Lost = 0 })},
		{name: "empty list", retry: &policies.Retry{NonRetryable: []string{}}, want: defaults},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got := policies.NewSpec(test.retry, test.timeout, test.catch)
			require.Equal(t, test.want, got)
			require.NoError(t, policies.NewSpec(test.retry, nil, test.catch).Validate())
		})
	}
}

// A spec keeps nothing of the policies it was made from.
func TestNewSpecCopies(t *testing.T) {
	t.Parallel()
	r := policies.Retry{MaximumAttempts: 2, NonRetryable: []string{"Bug"}}
	spec := policies.NewSpec(&r, nil, nil)
	r.NonRetryable[0], r.MaximumAttempts = "Timeout", 9
	require.Equal(t, []string{"Bug"}, spec.NonRetryable)
	require.Equal(t, 2, spec.MaximumAttempts)
	require.Zero(t, r.InitialInterval, "defaults are not written into the author's value")
}

func TestValidate(t *testing.T) {
	t.Parallel()
	type state struct{}
	none := policies.Catch[state](nil)
	s := time.Second
	for _, test := range []struct {
		name    string
		retry   policies.Retry
		timeout *policies.Timeout
		catch   *policies.CatchPolicy
		want    []string
	}{
		{name: "sound", retry: policies.Retry{MaximumAttempts: 3, InitialInterval: s, NonRetryable: []string{"Bug", "timeout", "KeyError", "Err[github.com/x/y.Z]"}},
			timeout: &policies.Timeout{Attempt: s, Total: 10 * s, Queue: 10 * s, Heartbeat: 10 * s}},
		{name: "attempts", retry: policies.Retry{MaximumAttempts: -1}, want: []string{"retry: MaximumAttempts is -1 (use 1 or more, the first try included)"}},
		{name: "idle fields", retry: policies.Retry{InitialInterval: s, BackoffCoefficient: 2, MaximumInterval: s, Jitter: policies.NoJitter, MaximumRetryAfter: s, NonRetryable: []string{"Bug"}, RetryIf: func(error) bool { return true }},
			want: []string{"retry sets InitialInterval, BackoffCoefficient, MaximumInterval, Jitter, MaximumRetryAfter, NonRetryable, RetryIf but not MaximumAttempts, so there is one attempt only (set MaximumAttempts, the first try included)"}},
		{name: "lost alone is not idle", retry: policies.Retry{Lost: 3}},
		{name: "negative wait", retry: policies.Retry{MaximumAttempts: 2, InitialInterval: -s}, want: []string{"retry: InitialInterval is -1s (durations cannot be negative)"}},
		{name: "wait without a unit", retry: policies.Retry{MaximumAttempts: 2, InitialInterval: 2}, want: []string{"retry: InitialInterval is 2ns (a number needs a unit, such as 2*time.Second)"}},
		{name: "longest wait without a unit", retry: policies.Retry{MaximumAttempts: 2, MaximumInterval: 60}, want: []string{
			"retry: MaximumInterval is 60ns (a number needs a unit, such as 60*time.Second)",
			"retry: MaximumInterval 60ns is shorter than InitialInterval 1s (make it longer or leave it out)"}},
		{name: "negative longest wait", retry: policies.Retry{MaximumAttempts: 2, MaximumInterval: -s}, want: []string{"retry: MaximumInterval is -1s (durations cannot be negative)"}},
		{name: "shrinking waits", retry: policies.Retry{MaximumAttempts: 2, BackoffCoefficient: 0.5}, want: []string{"retry: BackoffCoefficient is 0.5 (use 1 for equal waits, 2 for doubling ones)"}},
		{name: "negative coefficient", retry: policies.Retry{MaximumAttempts: 2, BackoffCoefficient: -1}, want: []string{"retry: BackoffCoefficient is -1 (use 1 for equal waits, 2 for doubling ones)"}},
		{name: "no number", retry: policies.Retry{MaximumAttempts: 2, BackoffCoefficient: math.NaN()}, want: []string{"retry: BackoffCoefficient is NaN (use 1 for equal waits, 2 for doubling ones)"}},
		{name: "infinite", retry: policies.Retry{MaximumAttempts: 2, BackoffCoefficient: math.Inf(1)}, want: []string{"retry: BackoffCoefficient is +Inf (use 1 for equal waits, 2 for doubling ones)"}},
		{name: "jitter", retry: policies.Retry{MaximumAttempts: 2, Jitter: 9}, want: []string{"retry: Jitter(9) is not a jitter (use FullJitter, EqualJitter or NoJitter)"}},
		{name: "longest wait that is asked for", retry: policies.Retry{MaximumAttempts: 2, MaximumRetryAfter: -s}, want: []string{"retry: MaximumRetryAfter is -1s (durations cannot be negative)"}},
		{name: "names", retry: policies.Retry{MaximumAttempts: 2, NonRetryable: []string{"", " Bug", "*KeyError", "json.SyntaxError", "lost"}}, want: []string{
			`retry: NonRetryable has the name "" (use a class or the Go type of an error)`,
			`retry: NonRetryable has the name " Bug" (use a class or the Go type of an error)`,
			`retry: NonRetryable has the name "*KeyError" (leave out the *: types are named without pointers)`,
			`retry: NonRetryable has the name "json.SyntaxError" (write "SyntaxError": types are named without their package)`,
			`retry: NonRetryable names the class Lost, which has its own budget (set Lost to -1)`}},
		{name: "empty timeout", timeout: &policies.Timeout{}, want: []string{"timeout sets no duration (set Attempt, Total, Queue or Heartbeat, or leave it out)"}},
		{name: "negative timeouts", timeout: &policies.Timeout{Attempt: -s, Total: -s, Queue: -s, Heartbeat: -s}, want: []string{
			"timeout: Attempt is -1s (durations cannot be negative)", "timeout: Total is -1s (durations cannot be negative)",
			"timeout: Queue is -1s (durations cannot be negative)", "timeout: Heartbeat is -1s (durations cannot be negative)"}},
		{name: "timeouts without a unit", timeout: &policies.Timeout{Attempt: 1, Total: 2, Queue: 2, Heartbeat: 2}, want: []string{
			"timeout: Attempt is 1ns (a number needs a unit, such as 1*time.Second)", "timeout: Total is 2ns (a number needs a unit, such as 2*time.Second)",
			"timeout: Queue is 2ns (a number needs a unit, such as 2*time.Second)", "timeout: Heartbeat is 2ns (a number needs a unit, such as 2*time.Second)"}},
		{name: "timeouts longer than the total", timeout: &policies.Timeout{Attempt: 2 * s, Total: s, Queue: 3 * s, Heartbeat: 4 * s}, want: []string{
			"timeout: Attempt 2s is longer than Total 1s, which covers all attempts (make Total longer)",
			"timeout: Queue 3s is longer than Total 1s, which covers the wait for a worker (make Total longer)",
			"timeout: Heartbeat 4s is longer than Total 1s, so a lost worker would be noticed too late (make it shorter)"}},
		{name: "no time for a second attempt", retry: policies.Retry{MaximumAttempts: 2, InitialInterval: 5 * s}, timeout: &policies.Timeout{Total: 5 * s}, want: []string{
			"timeout: Total 5s leaves no time for a second attempt after InitialInterval 5s (make Total longer)"}},
		{name: "catch without a function", catch: &none, want: []string{"catch has no function (give policies.Catch one)"}},
		{name: "zero catch", catch: &policies.CatchPolicy{}, want: []string{"catch has no function (give policies.Catch one)"}},
		{name: "several at once, in order", retry: policies.Retry{InitialInterval: -s, BackoffCoefficient: 0.1, Jitter: 5}, timeout: &policies.Timeout{Queue: -1}, catch: &none, want: []string{
			"retry sets InitialInterval, BackoffCoefficient, Jitter but not MaximumAttempts, so there is one attempt only (set MaximumAttempts, the first try included)",
			"retry: InitialInterval is -1s (durations cannot be negative)",
			"retry: BackoffCoefficient is 0.1 (use 1 for equal waits, 2 for doubling ones)",
			"retry: Jitter(5) is not a jitter (use FullJitter, EqualJitter or NoJitter)",
			"timeout: Queue is -1ns (durations cannot be negative)",
			"catch has no function (give policies.Catch one)"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			err := policies.NewSpec(&test.retry, test.timeout, test.catch).Validate()
			if test.want == nil {
				require.NoError(t, err)
				return
			}
			require.EqualError(t, err, strings.Join(test.want, "\n"))
		})
	}
}

// anySpec draws policies as a plan may carry them.
func anySpec() *rapid.Generator[policies.Spec] {
	return rapid.Custom(func(t *rapid.T) policies.Spec {
		return policies.Spec{
			MaximumAttempts:    rapid.Int().Draw(t, "MaximumAttempts"),
			InitialInterval:    anyDuration().Draw(t, "InitialInterval"),
			BackoffCoefficient: rapid.Float64().Draw(t, "BackoffCoefficient"),
			MaximumInterval:    anyDuration().Draw(t, "MaximumInterval"),
			Jitter:             rapid.SampledFrom([]policies.Jitter{policies.FullJitter, policies.EqualJitter, policies.NoJitter}).Draw(t, "Jitter"),
			MaximumRetryAfter:  anyDuration().Filter(func(d time.Duration) bool { return d != 0 }).Draw(t, "MaximumRetryAfter"),
			NonRetryable:       slices.Clip(rapid.SliceOfN(rapid.String(), 1, 3).Draw(t, "NonRetryable")),
			Lost:               rapid.Int().Draw(t, "Lost"),
			HasRetryIf:         rapid.Bool().Draw(t, "HasRetryIf"),
			Catch:              rapid.Bool().Draw(t, "Catch"),
			Limit:              policies.Limit{Key: rapid.String().Draw(t, "Key"), Max: rapid.Int().Draw(t, "Max")},
			Timeout: policies.Timeout{
				Attempt: anyDuration().Draw(t, "Attempt"), Total: anyDuration().Draw(t, "Total"),
				Queue: anyDuration().Draw(t, "Queue"), Heartbeat: anyDuration().Draw(t, "Heartbeat"),
			},
		}
	})
}

func TestSpecJSONRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		spec := anySpec().Draw(t, "spec")
		b, err := json.Marshal(spec)
		require.NoError(t, err)
		var back policies.Spec
		require.NoError(t, json.Unmarshal(b, &back), "%s", b)
		require.Equal(t, spec, back, "%s", b)
	})
}

// The form of policies in plans that exist must not change.
func TestSpecJSON(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, json string
		spec       policies.Spec
	}{
		{"defaults", `{"maximum_attempts":1,"backoff_coefficient":2,"jitter":"full","lost":5,"initial_interval":"1s","maximum_interval":"1m40s"}`,
			policies.NewSpec(nil, nil, nil)},
		{"everything", `{"maximum_attempts":3,"backoff_coefficient":1.5,"jitter":"equal","non_retryable":["Bug"],"lost":0,"has_retry_if":true,` +
			`"timeout":{"attempt":"1s","total":"2m0s","queue":"3h0m0s","heartbeat":"4ms"},"catch":true,"initial_interval":"2s","maximum_interval":"1m0s","maximum_retry_after":"5m0s"}`,
			policies.Spec{MaximumAttempts: 3, InitialInterval: 2 * time.Second, BackoffCoefficient: 1.5, MaximumInterval: time.Minute, Jitter: policies.EqualJitter, MaximumRetryAfter: 5 * time.Minute,
				NonRetryable: []string{"Bug"}, HasRetryIf: true, Catch: true,
				Timeout: policies.Timeout{Attempt: time.Second, Total: 2 * time.Minute, Queue: 3 * time.Hour, Heartbeat: 4 * time.Millisecond}}},
	} {
		b, err := json.Marshal(test.spec)
		require.NoError(t, err)
		require.Equal(t, test.json, string(b), test.name)
		var back policies.Spec
		require.NoError(t, json.Unmarshal([]byte(test.json), &back))
		require.Equal(t, test.spec, back, test.name)
	}
}

func TestSpecJSONMistakes(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`{"initial_interval":"soon"}`:    `"soon" is not a duration (write it like "1m30s")`,
		`{"initial_interval":5}`:         "cannot unmarshal number",
		`{"timeout":{"attempt":"1"}}`:    `"1" is not a duration (write it like "1m30s")`,
		`{"jitter":"some"}`:              `"some" is not a jitter (use "full", "equal" or "none")`,
		`{"maximum_attempts":"many"}`:    "cannot unmarshal string",
		`{"maximum_interval":["1s"]}`:    "cannot unmarshal array",
		`{"initial_interval":"1s"`:       "unexpected end",
		`{"timeout":{"heartbeat":true}}`: "cannot unmarshal bool",
	} {
		var spec policies.Spec
		require.ErrorContains(t, json.Unmarshal([]byte(text), &spec), want, text)
		require.Zero(t, spec, "nothing is set by %s", text)
	}
	_, err := json.Marshal(policies.Spec{Jitter: 9})
	require.ErrorContains(t, err, "Jitter(9) is not a jitter")
}

func TestCatch(t *testing.T) {
	t.Parallel()
	type state struct{ N int }
	type other struct{}
	failure := &policies.Failure{Message: "boom"}
	sentinel := &policyError{"catch failed too"}

	c := policies.Catch(func(ctx context.Context, s *state, f *policies.Failure) error {
		require.Equal(t, t.Context(), ctx)
		require.Same(t, failure, f)
		if s.N++; s.N > 1 {
			return sentinel
		}
		return nil
	})
	require.Equal(t, "policies_test.state", c.StateType().String())
	s := &state{}
	require.NoError(t, c.Call(t.Context(), s, failure))
	require.Equal(t, 1, s.N)
	require.Same(t, sentinel, c.Call(t.Context(), s, failure))

	require.EqualError(t, c.Call(t.Context(), &other{}, failure),
		"catch got a *policies_test.other, not a *policies_test.state (give the step the flow's own state type)")
	require.ErrorContains(t, c.Call(t.Context(), state{}, failure), "catch got a policies_test.state, not a *")
	require.ErrorContains(t, c.Call(t.Context(), nil, failure), "catch got a <nil>")
	require.EqualError(t, policies.Catch[state](nil).Call(t.Context(), s, failure), "catch has no function (give policies.Catch one)")
	require.EqualError(t, policies.CatchPolicy{}.Call(t.Context(), s, failure), "catch has no function (give policies.Catch one)")
	require.Nil(t, policies.CatchPolicy{}.StateType())
	require.PanicsWithValue(t, "oh", func() {
		_ = policies.Catch(func(context.Context, *state, *policies.Failure) error { panic("oh") }).Call(t.Context(), s, failure)
	})
}
