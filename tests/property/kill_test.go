package property

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/flowtest"
	"github.com/stepwell-flows/stepwell/workflows"
)

// A worker that is killed somewhere in a random flow changes nothing about what the flow comes to.
func TestKills(t *testing.T) {
	t.Parallel()
	limits := []*workflows.Limits{nil, {Tasks: 2, Shard: 3}, {Tasks: 1, Shard: 1, Children: 2, Window: 1}}
	for seed := range 20 {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			random := rapid.Custom(drawTree).Example(seed)
			t.Log(random)
			f := flow.New(flowName, random.nodes(&probe{calls: map[string]int{}, trails: map[string]uint64{}})...)
			require.NoError(t, f.Check())
			flowtest.EveryCrash(t, f, nil, flowtest.CrashOptions{Sample: 4, Limits: limits[seed%len(limits)]})
		})
	}
}
