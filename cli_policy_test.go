package stepwell

import (
	"context"
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/policies"
)

// policyFlow has steps with sound policies, and with some that look wrong.
func policyFlow() *flow.Flow {
	step := func(name string, options ...flow.Option) flow.Node[shapesState] {
		return flow.Step(name, func(context.Context, *shapesState) error { return nil }, options...)
	}
	join := func(context.Context, *shapesState, flow.Inputs[shapesState]) error { return nil }
	return flow.New("PolicyFlow",
		step("plain"),
		step("call",
			policies.Retry{MaximumAttempts: 3, InitialInterval: 100 * time.Millisecond, Jitter: policies.EqualJitter},
			policies.Timeout{Attempt: 500 * time.Millisecond, Total: 1200 * time.Millisecond},
			policies.Dependency{Name: "model", Breaker: policies.Breaker{Failures: 5}, Budget: policies.Budget{Percent: 20}}),
		step("hang", policies.Retry{MaximumAttempts: 3}),
		flow.Foreach("items", func(s *shapesState) []string { return s.Sites }, func(s *shapesState, site string) { s.Site = site },
			step("item", policies.Retry{MaximumAttempts: 12, Jitter: policies.NoJitter}, policies.Timeout{Attempt: time.Minute}),
		).Join("collect", join, policies.Retry{MaximumAttempts: 2}),
		step("forever", policies.Retry{MaximumAttempts: math.MaxInt, BackoffCoefficient: 1}, policies.Timeout{Attempt: time.Minute}),
		step("train", flow.Isolated{Memory: 1 << 30}, policies.Escalate{Rungs: []policies.Rung{{Timeout: time.Hour}, {Timeout: 4 * time.Hour, Memory: 4 << 30}}}),
	)
}

func TestPolicyExplain(t *testing.T) {
	t.Parallel()
	app := App{Flows: []*flow.Flow{emptyFlow(), policyFlow()}}
	for name, args := range map[string]string{
		"flow": "PolicyFlow", "plain": "PolicyFlow/plain", "call": "PolicyFlow/call --failure-rate 0.3 --attempt-time 300ms --client-attempts 4 --resumes 1",
		"call-default": "PolicyFlow/call", "slow": "PolicyFlow/call --attempt-time 2s", "item": "PolicyFlow/item --failure-rate 0.5", "collect": "PolicyFlow/collect",
		"forever": "PolicyFlow/forever", "never": "PolicyFlow/forever --failure-rate 1 --client-attempts 2", "train": "PolicyFlow/train --attempt-time 2h",
		"json": "PolicyFlow/call --json", "never-json": "PolicyFlow/forever --failure-rate 1 --json",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := call(t.Context(), app, nil, append([]string{"policy", "explain"}, strings.Fields(args)...)...)
			require.Equal(t, ExitOK, got.code, got.err)
			require.Empty(t, got.err)
			golden(t, "policy-"+name, got.out)
		})
	}
	got := call(t.Context(), app, nil, "policy", "explain", "PolicyFlow", "--json")
	var docs []policyDocument
	require.NoError(t, json.Unmarshal([]byte(got.out), &docs))
	require.Len(t, docs, 7)
	for i, step := range policyFlow().Plan().Steps() {
		require.Equal(t, step, docs[i].Step)
	}
}

func TestPolicyExplainRefuses(t *testing.T) {
	t.Parallel()
	app := App{Flows: []*flow.Flow{emptyFlow(), policyFlow(), flow.New("BadFlow", flow.Step("x", nothing), flow.Step("x", nothing))}}
	for _, test := range []struct{ args, say string }{
		{"", "needs a flow or a step (FLOW or FLOW/STEP)"},
		{"Nope/call", `flow "Nope" is not known (this program has OtherFlow, PolicyFlow, BadFlow)`},
		{"PolicyFlow/cal", `flow "PolicyFlow" has no step "cal" (it has plain, call, hang, item, collect, forever, train)`},
		{"PolicyFlow/items", `flow "PolicyFlow" has no step "items"`},
		{"PolicyFlow/", `flow "PolicyFlow" has no step ""`},
		{"PolicyFlow/latest/call", `flow "PolicyFlow" has no step "latest/call"`},
		{"PolicyFlow/call --failure-rate 10", "the failure rate is 10 (use 0 to 1; 0.1 is one attempt in ten)"},
		{"PolicyFlow --failure-rate -1", "the failure rate is -1"},
		{"PolicyFlow --attempt-time -1s", "the time of an attempt is -1s"},
		{"PolicyFlow --attempt-time 5", "--attempt-time"},
		{"PolicyFlow/call --client-attempts 0", "--client-attempts is 0 (use 1 or more, the first try included)"},
		{"PolicyFlow/call --resumes -1", "there are -1 resumes"},
		{"PolicyFlow/forever --failure-rate 0.999999", "more than 100000 attempts"},
		{"BadFlow/x", `two steps are named "x"`},
	} {
		t.Run(test.args, func(t *testing.T) {
			t.Parallel()
			got := call(t.Context(), app, nil, append([]string{"policy", "explain"}, strings.Fields(test.args)...)...)
			require.Equal(t, ExitInput, got.code)
			require.Contains(t, got.err, test.say)
			require.Empty(t, got.out)
		})
	}
	got := call(t.Context(), app, nil, "policy", "explian")
	require.Equal(t, ExitInput, got.code)
	require.Contains(t, got.err, `"explian" is not a command`)
}

// TestCheckWarns tells what is probably not meant, and is content all the same.
func TestCheckWarns(t *testing.T) {
	t.Parallel()
	app := App{Flows: []*flow.Flow{emptyFlow(), policyFlow()}}
	got := call(t.Context(), app, nil, "check")
	require.Equal(t, ExitOK, got.code, got.err)
	require.Empty(t, got.err)
	golden(t, "check-warnings", got.out)
	got = call(t.Context(), app, nil, "check", "PolicyFlow", "--json")
	require.Equal(t, ExitOK, got.code)
	var docs []checkDocument
	require.NoError(t, json.Unmarshal([]byte(got.out), &docs))
	require.True(t, docs[0].OK)
	require.Equal(t, "call", docs[0].Warnings[0].Step)
	require.Equal(t, "attempts-exceed-total", docs[0].Warnings[0].Code)
	require.NotEmpty(t, docs[0].Warnings[0].Fix)
}

func TestShare(t *testing.T) {
	t.Parallel()
	for x, want := range map[float64]string{
		0: "0%", 0.0013: "0.13%", 0.001: "0.1%", 0.1: "10%", 0.125: "12.5%", 0.5: "50%", 0.9: "90%", 0.95: "95%", 0.99: "99%", 0.985: "98.5%", 0.9999: "99.99%", 1 - 1e-9: "99.999999%", 1: "100%",
	} {
		require.Equal(t, want, share(x), "%v", x)
	}
}
