package stepwell

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell/guard"
	"github.com/stepwell-flows/stepwell/policies"
)

// breakerFixture is an open breaker, one that is probed, one that is closed, and one of which nothing is known. Times to come are
// far enough away to read the same for a while.
func breakerFixture() []Dependency {
	all := policies.Dependency{
		Name: "model", Breaker: policies.Breaker{Failures: 5}, Budget: policies.Budget{Percent: 20}, Throttle: policies.Throttle{Percent: 50},
	}.WithDefaults()
	workers := []guard.BoardWorker{{Name: "7@host#a1b2c3", Seq: 12, Seen: at("12:00:00.000")}, {Name: "8@host#d4e5f6", Seq: 3, Seen: at("12:00:01.000")}}
	probed := all
	probed.Name, probed.Throttle = "images", policies.Throttle{}
	budget := policies.Dependency{Name: "store", Budget: policies.Budget{Percent: 10, Minimum: -1}}.WithDefaults()
	return []Dependency{
		{WorkflowID: "stepwell/dependency/model", View: guard.View{
			Key: "dependency/model", State: guard.Opened, Opened: at("12:00:00.000"), Until: time.Now().Add(3*time.Hour + 10*time.Second), Why: guard.Counts{Calls: 6, Failures: 5},
			Breaker: guard.Counts{Held: 40}, Throttle: guard.Counts{Refused: 2}, Budget: guard.Counts{Firsts: 60, Retries: 10}, Left: 2, Settings: all, Workers: workers,
		}},
		{WorkflowID: "stepwell/dependency/images", View: guard.View{
			Key: "dependency/images", State: guard.HalfOpen, Opened: at("12:00:00.000"), Until: at("12:00:05.000"), Probe: "8@host#d4e5f6", Why: guard.Counts{Calls: 5, Failures: 5},
			Settings: probed, Workers: workers,
		}},
		{WorkflowID: "stepwell/dependency/store", View: guard.View{
			Key: "dependency/store", State: guard.Closed, Budget: guard.Counts{Firsts: 9}, Settings: budget, Workers: workers[:1],
		}},
		{WorkflowID: "stepwell/dependency/gone", View: guard.View{Key: "dependency/gone"}, Err: errors.New(`dependency "gone": no worker answered within 20s (start one)`)},
	}
}

// breakersOf calls what prints.
func breakersOf(t *testing.T, json bool, show func(*command) error) result {
	t.Helper()
	var out, err bytes.Buffer
	c := newCommand(App{}, IO{Out: &out, Err: &err, Env: func(string) (string, bool) { return "", false }})
	c.set.json = json
	require.NoError(t, show(c))
	return result{out: out.String(), err: err.String()}
}

func TestBreakers(t *testing.T) {
	t.Parallel()
	list := breakersOf(t, false, func(c *command) error { return c.printBreakers(breakerFixture()) })
	golden(t, "breakers", list.out)
	require.Equal(t, "warning: dependency \"gone\": no worker answered within 20s (start one)\n", list.err)
	none := breakersOf(t, false, func(c *command) error { return c.printBreakers(nil) })
	require.Empty(t, none.out)
	require.Contains(t, none.err, "no dependency was called within the last ten minutes")
	require.Equal(t, "[]\n", breakersOf(t, true, func(c *command) error { return c.printBreakers(nil) }).out)

	fixed := breakerFixture()
	fixed[0].Until = at("12:00:05.000")
	golden(t, "breakers-json", breakersOf(t, true, func(c *command) error { return c.printBreakers(fixed) }).out)
	for i, name := range []string{"breakers-open", "breakers-half-open", "breakers-budget"} {
		golden(t, name, breakersOf(t, false, func(c *command) error { return c.showBreaker(breakerFixture()[i]) }).out)
	}
}

func TestBreakersUsage(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"a", "b"}, {"a", "--all"}, {"reset"}, {"reset", "a", "b"}, {"a", "--unknown"}} {
		require.Equal(t, ExitInput, call(t.Context(), App{}, nil, append([]string{"breakers"}, args...)...).code, "%q", args)
	}
	got := call(t.Context(), App{}, nil, "breakers")
	require.Equal(t, ExitInput, got.code)
	require.Contains(t, got.err, "no Temporal server is configured")
	got = call(t.Context(), App{}, map[string]string{"TEMPORAL_ADDRESS": "127.0.0.1:1"}, "breakers")
	require.Equal(t, ExitUnavailable, got.code)
}
