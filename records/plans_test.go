package records_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/artifacts/mem"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/records"
)

// TestPlansAreToldApart reads runs of more plans than are kept, twice.
func TestPlansAreToldApart(t *testing.T) {
	t.Parallel()
	type state struct{ X int }
	s := artifacts.New(mem.New(), artifacts.Options{})
	want := map[string]flow.Plan{}
	for i := range 40 {
		step := flow.Step(fmt.Sprint("step", i/2), func(context.Context, *state) error { return nil })
		r := records.Run{Flow: "F", Run: fmt.Sprint("r", i), Plan: flow.New("F", step).Plan(), Tags: []string{"x"}}
		require.NoError(t, records.CreateRun(t.Context(), s, r))
		want[r.Run] = r.Plan
	}
	var plans records.Plans
	for range 2 {
		for id, plan := range want {
			r, err := plans.LoadRun(t.Context(), s, "F", id)
			require.NoError(t, err)
			require.Equal(t, plan.Steps(), r.Plan.Steps())
			alone, err := records.LoadRun(t.Context(), s, "F", id)
			require.NoError(t, err)
			require.Equal(t, alone, r)
		}
	}

	for text, say := range map[string]string{
		`{"version":1,"flow":"F","run":"r","plan":[1]}`: "cannot unmarshal",
		`{"version":1,"flow":"G","run":"r"}`:            "it is the document of run G/r",
	} {
		require.NoError(t, s.PutDoc(t.Context(), records.RunKey("F", "r"), []byte(text)))
		_, err := plans.LoadRun(t.Context(), s, "F", "r")
		require.ErrorIs(t, err, artifacts.ErrCorrupt)
		require.ErrorContains(t, err, say)
	}
	require.NoError(t, s.PutDoc(t.Context(), records.RunKey("F", "r"), []byte(`{"version":9,"plan":[1],"tags":{}}`)))
	_, err := plans.LoadRun(t.Context(), s, "F", "r")
	require.ErrorIs(t, err, records.ErrNewer)
}
