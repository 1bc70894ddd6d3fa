package flowtest_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/flowtest"
	"github.com/stepwell-flows/stepwell/records"
)

// A foreach whose items have another step now is not finished, although its join is: the items run that step.
func TestResumeWithANewStepInAJoinedForeach(t *testing.T) {
	t.Parallel()
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var c calls
			var up atomic.Bool
			build := func(body ...flow.Node[texts]) *flow.Flow {
				return flow.New("Body",
					flow.Foreach("items", func(*texts) []int { return make([]int, 5) }, func(*texts, int) {}, body...).With(way.fan).
						Join("join", func(_ context.Context, s *texts, in flow.Inputs[texts]) error {
							s.Total = nil
							for _, one := range in.All() {
								s.Total = append(s.Total, one.Text)
							}
							return nil
						}),
					flow.Step("end", func(context.Context, *texts) error {
						if !up.Load() {
							return errors.New("down")
						}
						return nil
					}),
				)
			}
			add := func(text string) func(context.Context, *texts) error {
				return func(ctx context.Context, s *texts) error {
					c.add(ctx)
					s.Text += text
					return nil
				}
			}
			o := flowtest.Options{Limits: &way.limits}
			origin := flowtest.Run(t, build(flow.Step("a", add("a"))), o)
			require.Equal(t, records.StatusFailed, origin.Status)
			c.take()
			up.Store(true)
			resumed := flowtest.Resume(t, build(flow.Step("a", add("a")), flow.Step("b", add("b"))), origin, o)
			require.Equal(t, []string{"ab", "ab", "ab", "ab", "ab"}, total(t, resumed))
		})
	}
}
