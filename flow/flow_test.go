package flow_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/policies"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden compares a text with a file of testdata.
func golden(t *testing.T, file, got string) {
	t.Helper()
	file = "testdata/" + file
	if *update {
		require.NoError(t, os.WriteFile(file, []byte(got), 0o644))
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, string(want), got, "%s (go test ./flow -update writes it anew)", file)
}

type state struct {
	N     int
	Error *policies.Failure
}

func ok(context.Context, *state) error { return nil }

func render(io.Writer, *flow.CardData) error { return nil }

func one(name string, options ...flow.Option) *flow.Flow {
	return flow.New("F", flow.Step(name, ok, options...))
}

func TestNames(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"a", "A", "a1", "api_call", "api-call", "FailureHandlingFlow", strings.Repeat("a", 64)} {
		require.NoError(t, one(name).Check(), name)
		require.NoError(t, flow.New(name, flow.Step("a", ok)).Check(), name)
	}
	require.NoError(t, flow.New(strings.Repeat("a", 128), flow.Step("a", ok)).Check())
	for _, name := range []string{
		"", " ", "a b", " a", "a ", "a/b", "/a", `a\b`, ".", "..", "a.b", "../a", "_a", "-a", "1a", "é", "aé", "步", "a\n", "a\x00", "a[0]", "a,b", "a:b", "a%b",
		strings.Repeat("a", 129),
	} {
		require.EqualError(t, one(name).Check(), fmt.Sprintf(
			`flow "F": step name %q is not allowed (use a letter, then up to 63 letters, digits, _ or -)`, name))
		require.EqualError(t, flow.New(name, flow.Step("a", ok)).Check(), fmt.Sprintf(
			`flow name %q is not allowed (use a letter, then up to 127 letters, digits, _ or -)`, name))
		if name != "1a" { // fine for a card
			require.ErrorContains(t, one("a", flow.CardSpec{Name: name, Render: render}).Check(), fmt.Sprintf("card name %q is not allowed", name))
		}
	}
	require.Error(t, one(strings.Repeat("a", 65)).Check())
}

type wrongState struct {
	private  int `param:"private"` //nolint:unused // part of what is wrong
	Fn       func()
	Chan     chan int
	Any      any
	Same     string          `param:"same"`
	Other    string          `param:"same"`
	Tagless  string          `default:"x" help:"y"`
	Alpha    int             `param:"alpha" default:"ten"`
	Tags     string          `param:"tag"`
	RunID    string          `param:"run_id"`
	Upper    string          `param:"Upper"`
	Both     string          `param:"both" default:"x" required:"true"`
	Maybe    string          `param:"maybe" required:"perhaps"`
	Pointer  *int            `param:"pointer"`
	DashA    string          `param:"a-b"`
	DashB    string          `param:"a_b"`
	Struct   struct{ A int } `param:"struct" default:"{\"B\":1}"`
	LeftOut  func()          `flow:"-"`
	Weekday  time.Weekday    `param:"weekday" default:"Monday"`
	Duration time.Duration   `param:"duration" default:"5"`
}

type otherState struct{ N int }

// Everything that can be wrong with a flow is told at once, in the order in which it is written.
func TestCheckTellsEverything(t *testing.T) {
	t.Parallel()
	step := func(context.Context, *wrongState) error { return nil }
	none := policies.Catch[wrongState](nil)
	f := flow.New("Wrong flow",
		flow.Step("load", step),
		flow.Step("a/b", step),
		flow.Node[wrongState]{},
		flow.Step("..", step),
		flow.Step[wrongState]("no_function", nil),
		flow.Step("load", step),
		flow.Seq(
			flow.Step("LOAD", step),
			flow.Seq(flow.Node[wrongState]{}, flow.Step("with space", step)),
		),
		flow.Step("two", step, policies.Retry{}, policies.Retry{MaximumAttempts: 2}, policies.Timeout{Attempt: time.Second}, policies.Timeout{Attempt: time.Second}, none, none),
		flow.Step("policy", step,
			policies.Retry{MaximumAttempts: -1, InitialInterval: 3, BackoffCoefficient: 0.5},
			policies.Timeout{Attempt: time.Hour, Total: time.Minute}),
		flow.Step("catch_other", step, policies.Catch(func(context.Context, *otherState, *policies.Failure) error { return nil })),
		flow.Step("catch_zero", step, policies.CatchPolicy{}),
		flow.Step("options", step, nil, &policies.Retry{}),
		flow.Step("cards", step, flow.CardSpec{Name: "a b"}, flow.CardSpec{Name: "x", Render: render}, flow.CardSpec{Name: "X", Render: render}, flow.CardSpec{Name: "y"}),
	)
	golden(t, "wrong.golden", f.Check().Error()+"\n")

	require.NotPanics(t, func() {
		f.Plan()
		f.Steps()
		f.Params()
	}, "what is wrong can still be looked at")
	require.Nil(t, f.Schema())
}

func TestCheckEmptyFlows(t *testing.T) {
	t.Parallel()
	require.EqualError(t, flow.New[state]("F").Check(), `flow "F": it has no steps (add flow.Step)`)
	require.EqualError(t, flow.New("F", flow.Seq[state]()).Check(), `flow "F": it has no steps (add flow.Step)`)
	require.EqualError(t, flow.New("F", flow.Node[state]{}).Check(), strings.Join([]string{
		`flow "F": it has an empty node (make nodes with flow.Step or one of the shapes)`, `flow "F": it has no steps (add flow.Step)`}, "\n"))
	for _, err := range []error{
		flow.New[int]("F").Check(), flow.New[*state]("F").Check(), flow.New[map[string]int]("F").Check(),
	} {
		require.ErrorContains(t, err, "is not a struct (its exported fields are the artifacts)")
		require.ErrorContains(t, err, "it has no steps", "what is wrong with the graph is told as well")
	}
}

// One node in two places is one name in two places.
func TestCheckNodeUsedTwice(t *testing.T) {
	t.Parallel()
	a := flow.Step("a", ok)
	require.EqualError(t, flow.New("F", a, flow.Seq(a)).Check(), `flow "F": two steps are named "a" (rename one)`)
	require.NoError(t, flow.New("F", a).Check())
	require.NoError(t, flow.New("G", a, flow.Step("b", ok)).Check(), "in two flows it is fine")
}

func TestSteps(t *testing.T) {
	t.Parallel()
	boom := errors.New("boom")
	f := flow.New("F",
		flow.Step("a", func(_ context.Context, s *state) error { s.N++; return nil }),
		flow.Seq(
			flow.Step("b", func(context.Context, *state) error { return boom },
				policies.Timeout{Attempt: time.Minute},
				policies.Retry{MaximumAttempts: 3, RetryIf: func(err error) bool { return errors.Is(err, boom) }},
				flow.CardSpec{Name: "default", Render: render},
				policies.Catch(func(_ context.Context, s *state, f *policies.Failure) error { s.Error = f; return nil })),
			flow.Seq(flow.Step("c", ok)),
		),
	)
	require.NoError(t, f.Check())
	require.Equal(t, "F", f.Name())
	require.NotNil(t, f.Schema())
	var names []string
	for _, s := range f.Steps() {
		names = append(names, s.Name)
	}
	require.Equal(t, []string{"a", "b", "c"}, names)

	a, b := f.Steps()[0], f.Steps()[1]
	s := f.NewState().(*state)
	require.Equal(t, &state{}, s)
	require.NoError(t, a.Run(t.Context(), s))
	require.Equal(t, 1, s.N, "Run calls the author's function on the state it is given")
	require.NotSame(t, s, f.NewState())
	require.Equal(t, policies.NewSpec(nil, nil, nil), a.Spec)
	require.Nil(t, a.Catch)
	require.Nil(t, a.RetryIf)
	require.Empty(t, a.Cards)

	require.Same(t, boom, b.Run(t.Context(), s))
	require.Equal(t, 3, b.Spec.MaximumAttempts)
	require.True(t, b.Spec.HasRetryIf)
	require.True(t, b.Spec.Catch)
	require.Equal(t, time.Minute, b.Spec.Timeout.Attempt)
	require.True(t, b.RetryIf(boom))
	require.False(t, b.RetryIf(io.EOF))
	require.Equal(t, "default", b.Cards[0].Name)
	failure := &policies.Failure{Message: "boom"}
	require.NoError(t, b.Catch.Call(t.Context(), s, failure))
	require.Same(t, failure, s.Error)
}

func TestCardContent(t *testing.T) {
	t.Parallel()
	var none *flow.CardContent
	none.Append(nil)
	require.Nil(t, none.Components())

	var c flow.CardContent
	done := make(chan struct{})
	for range 10 {
		go func() {
			for range 100 {
				c.Append(nil, nil)
				_ = c.Components()
			}
			done <- struct{}{}
		}()
	}
	for range 10 {
		<-done
	}
	require.Len(t, c.Components(), 2000)
	c.Components()[0] = nil // a copy: nothing can happen to the content
}
