package flow_test

import (
	"context"
	"encoding/json"
	"math"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/policies"
)

type isolatedState struct {
	Alpha float64 `param:"alpha"`
	Model []byte  `flow:"model"`
	Name  string
}

func nothing(context.Context, *isolatedState) error { return nil }

func TestIsolatedCheck(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		i    flow.Isolated
		want string // empty: nothing
	}{
		{"nothing set", flow.Isolated{}, ""},
		{"all set", flow.Isolated{Memory: 1 << 30, CPU: 0.5, Env: []string{"A=1", "B="}, Dir: "work"}, ""},
		{"negative memory", flow.Isolated{Memory: -1}, `step "fit": isolated: Memory is -1 (use bytes, 1<<30 for a gibibyte)`},
		{"no unit", flow.Isolated{Memory: 512}, `isolated: Memory is 512 bytes (use 1<<30 for a gibibyte)`},
		{"negative processors", flow.Isolated{CPU: -2}, `isolated: CPU is -2`},
		{"no number", flow.Isolated{CPU: math.NaN()}, `isolated: CPU is NaN`},
		{"no setting", flow.Isolated{Env: []string{"A"}}, `isolated: Env: setting 1 has no name (write "NAME=value")`},
		{"no name", flow.Isolated{Env: []string{"=1"}}, `isolated: Env: setting 1 has no name`},
		{"ours", flow.Isolated{Env: []string{"STEPWELL_TASK=x"}}, `setting "STEPWELL_TASK" cannot be given`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := flow.New("F", flow.Step("fit", nothing, c.i))
			if c.want == "" {
				require.NoError(t, f.Check())
				n, ok := f.Plan().Step("fit")
				require.True(t, ok)
				require.Equal(t, &c.i, n.Isolated)
				b, err := json.Marshal(n)
				require.NoError(t, err)
				var again flow.PlanNode
				require.NoError(t, json.Unmarshal(b, &again))
				limits := c.i
				limits.Env = nil // it may hold secrets
				require.Equal(t, &limits, again.Isolated)
				require.NotContains(t, string(b), "A=1")
				return
			}
			require.ErrorContains(t, f.Check(), c.want)
		})
	}
}

func TestCommandCheck(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		command func(*isolatedState) flow.Command
		want    string // empty: nothing
	}{
		{"sound", func(*isolatedState) flow.Command {
			return flow.Command{Args: []string{"true"}, In: []string{"alpha", "model"}, Out: []string{"model"}, ExitCodes: map[int]policies.Class{3: policies.Invalid}}
		}, ""},
		{"panics without a state", func(s *isolatedState) flow.Command {
			return flow.Command{Args: []string{string(s.Model[0])}, In: []string{"no"}}
		}, ""},
		{"depends on the state", func(s *isolatedState) flow.Command {
			return flow.Command{Args: []string{s.Name}, In: []string{s.Name}}
		}, ""},
		{"field for artifact", func(*isolatedState) flow.Command {
			return flow.Command{Args: []string{"true"}, In: []string{"Model"}}
		}, `step "fit": command: In has "Model", which is no artifact of flow_test.isolatedState (use the name of an artifact, not of its field)`},
		{"parameter as output", func(*isolatedState) flow.Command {
			return flow.Command{Args: []string{"true"}, Out: []string{"alpha"}}
		}, `Out has parameter "alpha" (parameters are read-only)`},
		{"files in a directory", func(*isolatedState) flow.Command {
			return flow.Command{Args: []string{"true"}, Dir: "x", Files: fstest.MapFS{}}
		}, `it has a Dir and Files`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			err := flow.New("F", flow.Exec("fit", c.command)).Check()
			if c.want == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, c.want)
		})
	}
	require.ErrorContains(t, flow.New("F", flow.Exec[isolatedState]("fit", nil)).Check(), `step "fit" has no function`)
}

func TestExitClass(t *testing.T) {
	t.Parallel()
	c := flow.Command{ExitCodes: map[int]policies.Class{75: policies.Permanent, 9: policies.RateLimited}}
	for code, want := range map[int]policies.Class{
		1: policies.Unknown, 9: policies.RateLimited, 64: policies.Invalid, 65: policies.Invalid, 66: policies.Invalid, 67: policies.Unknown,
		69: policies.Transient, 75: policies.Permanent, 77: policies.Denied, 127: policies.Unknown,
	} {
		require.Equal(t, want, c.ExitClass(code), code)
	}
	require.Equal(t, policies.Transient, flow.Command{}.ExitClass(75))
}
