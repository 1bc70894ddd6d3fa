package flow_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/policies"
)

type planned struct {
	Alpha  float64 `param:"alpha" default:"0.5" help:"learning rate"`
	Bucket string  `param:"bucket" required:"true"`
	Empty  string  `param:"empty" default:""`
	Error  *policies.Failure
}

func sample() *flow.Flow {
	step := func(context.Context, *planned) error { return nil }
	return flow.New("TrainFlow",
		flow.Step("load", step),
		flow.Seq(
			flow.Step("call", step,
				policies.Retry{MaximumAttempts: 4, InitialInterval: 2 * time.Second, Jitter: policies.EqualJitter, NonRetryable: []string{"Bug"},
					RetryIf: func(err error) bool { return !errors.Is(err, context.Canceled) }, Lost: -1},
				policies.Timeout{Attempt: time.Minute, Total: time.Hour, Queue: 10 * time.Minute, Heartbeat: 5 * time.Second}),
			flow.Seq(flow.Seq(flow.Step("risky", step, policies.Catch(func(_ context.Context, s *planned, f *policies.Failure) error {
				s.Error = f
				return nil
			})))),
		),
		flow.Step("end", step, flow.CardSpec{Name: "default", Render: render}, flow.CardSpec{Name: "loss", Render: render}),
	)
}

// Plans are in the input of workflows that run: their form must not change.
func TestPlanJSON(t *testing.T) {
	t.Parallel()
	f := sample()
	require.NoError(t, f.Check())
	b, err := json.MarshalIndent(f.Plan(), "", "  ")
	require.NoError(t, err)
	golden(t, "plan.golden.json", string(b)+"\n")

	var back flow.Plan
	require.NoError(t, json.Unmarshal(b, &back))
	require.Equal(t, f.Plan(), back, "a plan is the same on the other side")

	var bare flow.Plan
	b, err = json.Marshal(one("a").Plan())
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(b, &bare))
	require.Equal(t, one("a").Plan(), bare)
}

func TestPlanSteps(t *testing.T) {
	t.Parallel()
	p := sample().Plan()
	require.Equal(t, []string{"load", "call", "risky", "end"}, p.Steps())
	require.Len(t, p.Root.Nodes, 4, "sequences within the sequence are no nodes of their own")
	for _, n := range p.Root.Nodes {
		require.Equal(t, flow.KindStep, n.Kind)
		require.Empty(t, n.Nodes)
	}

	call, ok := p.Step("call")
	require.True(t, ok)
	require.Equal(t, 4, call.Policy.MaximumAttempts)
	_, ok = p.Step("Call")
	require.False(t, ok)
	_, ok = p.Step("")
	require.False(t, ok, "the root is no step")

	// Steps within shapes of a newer version are found too.
	p.Root.Nodes = append(p.Root.Nodes, flow.PlanNode{Kind: "loop", Name: "call", Nodes: []flow.PlanNode{{Kind: flow.KindStep, Name: "inner"}}})
	require.Contains(t, p.Steps(), "inner")
	inner, ok := p.Step("inner")
	require.True(t, ok)
	require.Equal(t, flow.KindStep, inner.Kind)
}

// Whoever edits a plan, as a resume may, does not edit the flow.
func TestPlanIsACopy(t *testing.T) {
	t.Parallel()
	f := sample()
	p := f.Plan()
	p.Root.Nodes[1].Policy.MaximumAttempts = 99
	p.Root.Nodes = p.Root.Nodes[:1]
	require.Equal(t, 4, f.Plan().Root.Nodes[1].Policy.MaximumAttempts)
	require.Equal(t, 4, f.Steps()[1].Spec.MaximumAttempts)
}

func TestIndex(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		x               flow.Index
		text, key, task string
	}{
		{nil, "", "_", "fit"},
		{flow.Index{}, "", "_", "fit"},
		{flow.Index{3}, "[3]", "3", "fit[3]"},
		{flow.Index{3, 0}, "[3,0]", "3.0", "fit[3,0]"},
		{flow.Index{0, 10, 999_999}, "[0,10,999999]", "0.10.999999", "fit[0,10,999999]"},
	} {
		require.Equal(t, test.text, test.x.String())
		require.Equal(t, test.key, test.x.Key())
		require.Equal(t, test.task, flow.TaskName("fit", test.x))
		back, err := flow.ParseIndex(test.key)
		require.NoError(t, err)
		require.True(t, back.Equal(test.x))
	}
	require.False(t, flow.Index{1}.Equal(flow.Index{1, 0}))
	for _, key := range []string{"", ".", "1.", ".1", "-1", "+1", "01", "1.02", "1,2", "a", "_.1", "__", " 1", "1 ", "1..2", "٣", "9223372036854775808"} {
		_, err := flow.ParseIndex(key)
		require.ErrorContains(t, err, "is not a task index", "%q", key)
	}
}

func TestIndexRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		gen := rapid.SliceOfN(rapid.IntMin(0), 1, 6)
		x, y := flow.Index(gen.Draw(t, "x")), flow.Index(gen.Draw(t, "y"))
		back, err := flow.ParseIndex(x.Key())
		require.NoError(t, err)
		require.Equal(t, x, back)
		require.Equal(t, slices.Equal(x, y), x.Key() == y.Key(), "different tasks have different keys")
		require.Equal(t, slices.Equal(x, y), x.String() == y.String())
		b, err := json.Marshal(x)
		require.NoError(t, err)
		var fromJSON flow.Index
		require.NoError(t, json.Unmarshal(b, &fromJSON))
		require.Equal(t, x, fromJSON)
	})
}

func FuzzParseIndex(f *testing.F) {
	for _, key := range []string{"_", "0", "3.0", "", "1..2", "-1", "../x", "9999999999999999999"} {
		f.Add(key)
	}
	f.Fuzz(func(t *testing.T, key string) {
		x, err := flow.ParseIndex(key)
		if err != nil {
			return
		}
		require.Equal(t, key, x.Key(), "one key, one index")
		require.False(t, strings.ContainsAny(key, "/\\ "))
	})
}

func TestParseTaskName(t *testing.T) {
	t.Parallel()
	for _, x := range []flow.Index{nil, {3}, {3, 0}, {0, 10, 999_999}} {
		step, back, err := flow.ParseTaskName(flow.TaskName("fit-2_b", x))
		require.NoError(t, err)
		require.Equal(t, "fit-2_b", step)
		require.Equal(t, x, back)
	}
	for _, task := range []string{"[3]", "fit[", "fit[]", "fit[_]", "fit[3", "fit[3]]", "fit[3]x", "fit[3.0]", "fit[03]", "fit[-1]", "fit[3,]", "fit[3][0]", "fit[3]["} {
		step, x, err := flow.ParseTaskName(task)
		require.ErrorContains(t, err, "is not the name of a task", "%q", task)
		require.Empty(t, step)
		require.Nil(t, x)
	}
}

func FuzzParseTaskName(f *testing.F) {
	for _, task := range []string{"fit", "fit[3]", "fit[3,0]", "fit[3.0]", "[", "fit[_]"} {
		f.Add(task)
	}
	f.Fuzz(func(t *testing.T, task string) {
		step, x, err := flow.ParseTaskName(task)
		if err == nil {
			require.Equal(t, task, flow.TaskName(step, x), "one name, one task")
		}
	})
}

// A worker with another version of the flow may have decided, with other cases before the one that it chose.
func TestChosen(t *testing.T) {
	t.Parallel()
	node := func(name string) flow.PlanNode { return flow.PlanNode{Kind: flow.KindStep, Name: name} }
	nodes := []flow.PlanNode{node("ship"), node("scrap"), node("else")}
	strict := flow.PlanNode{Cases: []string{"ship", "scrap"}, Nodes: nodes[:2]}
	whole := flow.PlanNode{Cases: []string{"ship", "scrap"}, Nodes: nodes}
	empty := flow.PlanNode{Cases: []string{"ship", ""}, Nodes: nodes}
	for _, test := range []struct {
		plan flow.PlanNode
		flow.Decision
		want string
	}{
		{whole, flow.Decision{Case: 0, Value: "ship"}, "ship"},
		{whole, flow.Decision{Case: 1, Value: "scrap"}, "scrap"},
		{whole, flow.Decision{Case: 2}, "else"},
		{whole, flow.Decision{Case: 1, Value: "ship"}, "ship"},
		{whole, flow.Decision{Case: 2, Value: "scrap"}, "scrap"},
		{whole, flow.Decision{Case: 7, Value: "scrap"}, "scrap"},
		{whole, flow.Decision{Case: 0, Value: "recall"}, "else"},
		{whole, flow.Decision{Case: 3}, "else"},
		{whole, flow.Decision{Case: 1}, "else"},
		{whole, flow.Decision{Case: -1, Value: "ship"}, "ship"},
		{strict, flow.Decision{Case: 1, Value: "ship"}, "ship"},
		{strict, flow.Decision{Case: 0, Value: "recall"}, ""},
		{strict, flow.Decision{Case: 2}, ""},
		{strict, flow.Decision{}, ""},
		{empty, flow.Decision{Case: 1}, "scrap"}, // its value is ""
		{empty, flow.Decision{Case: 2}, "else"},
		{empty, flow.Decision{Case: 3}, "else"},
	} {
		got := ""
		if i := test.plan.Chosen(test.Decision); i >= 0 {
			got = test.plan.Nodes[i].Name
		}
		require.Equal(t, test.want, got, "%+v of %v", test.Decision, test.plan.Cases)
	}
}
