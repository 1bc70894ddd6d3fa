package records_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell/policies"
	"github.com/stepwell-flows/stepwell/records"
)

// The order in which failures were heard of goes with the cursor, wherever in it they are.
func TestRank(t *testing.T) {
	t.Parallel()
	part := func(task string) *records.Cursor {
		return &records.Cursor{Outcome: records.Failed, Failure: &policies.Failure{Task: task}}
	}
	batch := &records.Cursor{Batch: &records.Batch{Tally: records.Tally{Failure: &policies.Failure{Task: "d[3]"}}}}
	c := &records.Cursor{Inside: &records.Cursor{Parts: []*records.Cursor{
		part("b[0]"), {}, {Inside: &records.Cursor{Parts: []*records.Cursor{part("c[2,0]"), batch}}}, part("b[3]"), part("unheard"),
	}}}
	require.Empty(t, c.Ranked(), "from a workflow that did not tell")
	c.Rank([]string{"elsewhere", "d[3]", "b[3]", "c[2,0]", "b[0]"})
	b, err := json.Marshal(c)
	require.NoError(t, err)
	var next records.Cursor
	require.NoError(t, json.Unmarshal(b, &next))
	want := []string{"d[3]", "b[3]", "c[2,0]", "b[0]"}
	require.Equal(t, want, next.Ranked())
	next.Rank(append(want, "unheard"))
	require.Equal(t, append(want, "unheard"), next.Ranked())
}
