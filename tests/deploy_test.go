package tests

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/records"
	"github.com/stepwell-flows/stepwell/workflows"
)

// parcel is the state of a flow that changes while it runs.
type parcel struct {
	Verdict, Went string
	All           []string
}

func parcelFlow(fan flow.Fan, newer bool) *flow.Flow {
	to := func(name string) flow.Node[parcel] {
		return flow.Step(name, func(_ context.Context, s *parcel) error { s.Went = name; return nil })
	}
	cases := flow.Switch("verdict", func(s *parcel) string { return s.Verdict }, flow.Case("ship", to("ship")), flow.Case("scrap", to("scrap")))
	if newer {
		cases = flow.Switch("verdict", func(s *parcel) string { return s.Verdict },
			flow.Case("recall", to("recall")), flow.Case("ship", to("ship")), flow.Case("scrap", to("scrap")))
	}
	return flow.New("ParcelFlow",
		flow.Foreach("parcels", func(*parcel) []string { return []string{"ship", "scrap", "recall", "odd"} },
			func(s *parcel, v string) { s.Verdict = v },
			flow.Step("judge", func(context.Context, *parcel) error { return nil }),
			cases.Else(to("other")),
		).With(fan).Join("all", func(_ context.Context, s *parcel, in flow.Inputs[parcel]) error {
			for _, one := range in.All() {
				s.All = append(s.All, one.Verdict+" went to "+one.Went)
			}
			return nil
		}),
	)
}

// A run goes on with the plan that it began with when its workers have a newer version of the flow, with a case before the others.
func TestARunKeepsItsCasesOverADeployment(t *testing.T) {
	t.Parallel()
	for name, fan := range map[string]flow.Fan{"item": {}, "batch": {Batch: 2}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, t.TempDir(), parcelFlow(fan, true))
			old := parcelFlow(fan, false)
			run := r.runWithin(old, name, workflows.Limits{})
			require.Equal(t, records.StatusCompleted, run.Status, "%+v", run.Failure)
			require.Equal(t, []string{"ship went to ship", "scrap went to scrap", "recall went to other", "odd went to other"}, lastState[parcel](t, run, old).All)
		})
	}
}

// A run that was reset remembers it when it continues as new: at its end it takes the place of how it ended before.
func TestAResetRunContinuesAsNew(t *testing.T) {
	t.Parallel()
	const turns, inner = 12, 150
	ready := filepath.Join(t.TempDir(), "ready")
	f := flow.New("ResetLongFlow",
		flow.Step("ready", func(context.Context, *crowd) error {
			if _, err := os.Stat(ready); err != nil {
				return flow.Fail("not ready")
			}
			return nil
		}),
		flow.Loop("turns", func(s *crowd) bool { return s.Turn < turns },
			flow.Step("turn", func(_ context.Context, s *crowd) error { s.Turn++; return nil }),
			flow.Foreach("inner", numbers(inner), func(s *crowd, i int) { s.Inner, s.Trail = i, nil },
				flow.Step("item", func(_ context.Context, s *crowd) error {
					s.Trail = append(s.Trail, fmt.Sprintf("%d.%d.%d", s.Outer, s.Turn, s.Inner))
					return nil
				}),
			).Join("gather", gather),
		),
	)
	r := newRig(t, t.TempDir(), f)
	run, err := r.client.Start(t.Context(), f, stepwell.StartOptions{})
	require.NoError(t, err)
	require.Equal(t, records.StatusFailed, r.wait(run).Status)
	require.NoError(t, os.WriteFile(ready, nil, 0o600))
	r.reset(run, false)
	eventually(t, "the run that was reset has ended", func() bool {
		run, err = r.client.Runs().Run(t.Context(), f.Name(), run.Run.Run)
		require.NoError(t, err)
		return run.Status == records.StatusCompleted
	})
	require.Equal(t, trails(1, turns, inner), lastState[crowd](t, run, f).Trail)
	require.GreaterOrEqual(t, len(r.executions(run)), 3, "the one that failed, and two at least of the one that was reset")
}
