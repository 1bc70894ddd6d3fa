package policies_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell/policies"
)

func TestLimitValidate(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("k", 128)
	for _, test := range []struct {
		name  string
		limit policies.Limit
		want  []string
	}{
		{"sound", policies.Limit{Key: "gpu-box", Max: 4}, nil},
		{"one character", policies.Limit{Key: "7", Max: 1}, nil},
		{"every character", policies.Limit{Key: "Api.v2_eu-west.1", Max: 1}, nil},
		{"longest", policies.Limit{Key: long, Max: 1}, nil},
		{"empty", policies.Limit{}, []string{"limit sets nothing (set Key and Max, or leave it out)"}},
		{"no key", policies.Limit{Max: 1}, []string{`limit: Key "" is not allowed (use a letter or digit, then up to 127 letters, digits, '.', '_' or '-')`}},
		{"no max", policies.Limit{Key: "k"}, []string{"limit: Max is 0 (use 1 to 2000)"}},
		{"both", policies.Limit{Key: "a/b", Max: -1}, []string{
			`limit: Key "a/b" is not allowed (use a letter or digit, then up to 127 letters, digits, '.', '_' or '-')`,
			"limit: Max is -1 (use 1 to 2000)"}},
		{"too long", policies.Limit{Key: long + "k", Max: 1}, []string{
			`limit: Key "` + long + `k" is not allowed (use a letter or digit, then up to 127 letters, digits, '.', '_' or '-')`}},
		{"most", policies.Limit{Key: "k", Max: 2000}, nil},
		{"too many", policies.Limit{Key: "k", Max: 2001}, []string{"limit: Max is 2001 (use 1 to 2000)"}},
		{"dot first", policies.Limit{Key: ".k", Max: 1}, []string{`limit: Key ".k" is not allowed (use a letter or digit, then up to 127 letters, digits, '.', '_' or '-')`}},
		{"line break", policies.Limit{Key: "k\n", Max: 1}, []string{`limit: Key "k\n" is not allowed (use a letter or digit, then up to 127 letters, digits, '.', '_' or '-')`}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			err := policies.NewSpec(nil, nil, nil).Limited(test.limit).Validate()
			if test.want == nil {
				require.NoError(t, err)
				return
			}
			require.EqualError(t, err, strings.Join(test.want, "\n"))
		})
	}
}

// A plan carries the limit, and a plan from before there were any has none.
func TestLimitJSON(t *testing.T) {
	t.Parallel()
	spec := policies.NewSpec(nil, nil, nil).Limited(policies.Limit{Key: "gpu-box", Max: 4})
	b, err := json.Marshal(spec)
	require.NoError(t, err)
	require.Contains(t, string(b), `"limit":{"key":"gpu-box","max":4}`)
	var back policies.Spec
	require.NoError(t, json.Unmarshal(b, &back))
	require.Equal(t, spec, back)
	require.Equal(t, "at most 4 of gpu-box at once", back.Limit.String())

	b, err = json.Marshal(policies.NewSpec(nil, nil, nil))
	require.NoError(t, err)
	require.NotContains(t, string(b), "limit")
}
